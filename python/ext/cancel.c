/* SPDX-License-Identifier: MIT */
/*
 * Cancellation as Python sees it: once. The core's is sticky; here it is over when Cancelled has
 * been raised, so that a finally block can wait. A fibril that waits in one of our calls raises
 * Cancelled from it; one that waits inside a C library sees that call fail with ECANCELED, and an
 * asynchronous Cancelled follows, which no `except OSError` swallows. (A sleep just ends: there it
 * follows at once.) One that waits inside CPython itself sees nothing but Cancelled: see
 * cancel_inside.c.
 */
#include "fibril_py.h"

int fibril__py_cancel(struct pyfibril *p)
{
    if (!p->ours && !p->shields && p->tstate && fibril__py.layer && p->fibril != fibril_current()) {
        p->cancelled_async = true;
        PyThreadState_SetAsyncExc(p->tstate->thread_id, fibril__py.cancelled);
    }
    return fibril_cancel(p->fibril);
}

void fibril__py_cancel_over(struct pyfibril *p)
{
    if (!p) {
        return;
    }
    fibril_cancel_clear();
    if (p->cancelled_async) {
        p->cancelled_async = false;
        PyThreadState_SetAsyncExc(p->tstate->thread_id, NULL);
    }
}

bool fibril__py_is_cancelled(PyObject *type, PyObject *value)
{
    if (PyErr_GivenExceptionMatches(type, fibril__py.cancelled)) {
        return true;
    }
    if (!PyErr_GivenExceptionMatches(type, PyExc_OSError) || !value || value == Py_None) {
        return false;
    }
    PyObject *number = PyObject_GetAttrString(value, "errno");
    bool ours = number && PyLong_Check(number) && PyLong_AsLong(number) == ECANCELED;
    Py_XDECREF(number);
    PyErr_Clear();
    return ours;
}

void fibril__py_cancel_settle(struct pyfibril *p)
{
    if (!p->cancelled_async) {
        return;
    }
    fibril__py_cancel_over(p);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (type && fibril__py_is_cancelled(type, value)) {
        Py_DECREF(type);
        Py_XDECREF(value);
        type = Py_NewRef(fibril__py.cancelled);
        value = NULL;
    }
    PyErr_Restore(type, value, traceback);
}

/* ---- functions ---- */

PyDoc_STRVAR(begin_doc, "_shield_begin()\n--\n\nHolds cancellation of the caller back. Nests.");
PyDoc_STRVAR(end_doc, "_shield_end()\n--\n\nEnds one _shield_begin.");
PyDoc_STRVAR(cancelled_doc, "cancelled()\n--\n\n"
                            "Returns whether the calling fibril has been cancelled and Cancelled "
                            "not been raised yet.");

static PyObject *py_shield_begin(PyObject *module, PyObject *unused)
{
    struct pyfibril *p = fibril__py_self();
    if (p) {
        p->shields++;
        fibril_shield_begin();
    } else if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *py_shield_end(PyObject *module, PyObject *unused)
{
    struct pyfibril *p = fibril_current() ? fibril__py_of(fibril_current()) : NULL;
    if (p) {
        p->shields--;
        fibril_shield_end();
    }
    Py_RETURN_NONE;
}

static PyObject *py_cancelled(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(fibril_current() && fibril_cancelled());
}

static PyMethodDef functions[] = {{"_shield_begin", py_shield_begin, METH_NOARGS, begin_doc},
                                  {"_shield_end", py_shield_end, METH_NOARGS, end_doc},
                                  {"cancelled", py_cancelled, METH_NOARGS, cancelled_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_cancel_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
