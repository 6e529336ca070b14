/* SPDX-License-Identifier: MIT */
/*
 * Between fibril's conventions and Python's: negative errno and exceptions, absolute nanoseconds
 * and seconds from now.
 */
#include "fibril_py.h"

#include <math.h>

static const double NS = 1e9;

PyObject *fibril__py_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

PyObject *fibril__py_raise(int rc)
{
    switch (-rc) {
    case ENOMEM: return PyErr_NoMemory();
    case ECANCELED:
        if (fibril__slp_is_thrown(fibril_current())) {
            return fibril__slp_raise_thrown(fibril_current());
        }
        fibril__py_cancel_over(fibril__py_self());
        PyErr_SetNone(fibril__py.cancelled);
        return NULL;
    case ETIMEDOUT: PyErr_SetString(PyExc_TimeoutError, "timed out"); return NULL;
    case EDEADLK:
        PyErr_SetString(fibril__py.deadlock, "every fibril waits for another");
        return NULL;
    case EPIPE: PyErr_SetString(fibril__py.closed, "the channel is closed"); return NULL;
    case EPERM:
        PyErr_SetString(PyExc_RuntimeError, "not in a fibril: fibril.enable() was not called, or "
                                            "this is a real OS thread");
        return NULL;
    default: errno = -rc; return PyErr_SetFromErrno(PyExc_OSError);
    }
}

bool fibril__py_deadline(PyObject *seconds, int64_t *ret_deadline_ns)
{
    if (!seconds || seconds == Py_None) {
        *ret_deadline_ns = FIBRIL_FOREVER;
        return true;
    }
    double s = PyFloat_AsDouble(seconds);
    if (s == -1.0 && PyErr_Occurred()) {
        return false;
    }
    if (isnan(s)) {
        PyErr_SetString(PyExc_ValueError, "a time in seconds is not a number");
        return false;
    }
    double ns = s > 0 ? ceil(s * NS) : 0;
    *ret_deadline_ns = fibril_after(ns < 9e18 ? (int64_t)ns : FIBRIL_FOREVER);
    return true;
}

PyObject *fibril__py_timeout_arg(const char *called, PyObject *const *args, Py_ssize_t n,
                                 PyObject *names)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n + named == 0) {
        return Py_None;
    }
    if (n + named > 1) {
        return PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", called,
                            n + named);
    }
    if (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0) {
        return PyErr_Format(PyExc_TypeError, "'%U' is an invalid keyword argument for %s()",
                            PyTuple_GET_ITEM(names, 0), called);
    }
    return args[0];
}

bool fibril__py_interrupted(void)
{
    return PyErr_CheckSignals() == 0;
}

/* ---- the exception types ---- */

PyDoc_STRVAR(cancelled_doc,
             "The fibril was cancelled. Raised where it parks; a BaseException, so that\n"
             "`except Exception` lets it pass.");
PyDoc_STRVAR(deadlock_doc, "Every fibril of the process waits for another one.");
PyDoc_STRVAR(closed_doc, "The channel is closed.");

/* The interpreter makes the exception when an asynchronous Cancelled is raised: that is the moment
 * of delivery, after which the fibril may wait again. */
static PyObject *cancelled_made(PyObject *unused, PyObject *args, PyObject *kwargs)
{
    struct pyfibril *p = fibril__py_self();
    if (p && p->cancelled_async) {
        p->cancelled_async = false;
        fibril_cancel_clear();
    }
    Py_RETURN_NONE;
}

static PyMethodDef made_def = {"__init__", (PyCFunction)(void (*)(void))cancelled_made,
                               METH_VARARGS | METH_KEYWORDS, NULL};

/* A built-in function binds to no instance: the type's __init__ calls it without one. */
static PyObject *cancelled_dict(void)
{
    PyObject *made = PyCFunction_New(&made_def, NULL);
    PyObject *dict = made ? Py_BuildValue("{sO}", "__init__", made) : NULL;
    Py_XDECREF(made);
    return dict;
}

static int add_type(PyObject *module, const char *name, const char *doc, PyObject *base,
                    PyObject *dict, PyObject **ret_type)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "fibril.%s", name);
    if (!*ret_type) {
        *ret_type = PyErr_NewExceptionWithDoc(full, doc, base, dict);
    }
    return *ret_type ? PyModule_AddObjectRef(module, name, *ret_type) : -1;
}

int fibril__py_errors_init(PyObject *module)
{
    struct fibril__py *g = &fibril__py;
    PyObject *dict = cancelled_dict();
    int rc = dict ? add_type(module, "Cancelled", cancelled_doc, PyExc_BaseException, dict,
                             &g->cancelled)
                  : -1;
    Py_XDECREF(dict);
    if (rc < 0 ||
        add_type(module, "Deadlock", deadlock_doc, PyExc_RuntimeError, NULL, &g->deadlock) < 0) {
        return -1;
    }
    return add_type(module, "ChannelClosed", closed_doc, PyExc_Exception, NULL, &g->closed);
}
