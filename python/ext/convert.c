/* SPDX-License-Identifier: MIT */
/*
 * Between fibril's conventions and Python's: negative errno and exceptions, absolute nanoseconds
 * and seconds from now.
 */
#include "fibril_py.h"

#include <math.h>
#include <string.h>

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

static void clear_cancel(void)
{
    struct pyfibril *p = fibril__py_self();
    fibril_cancel_clear();
    if (p && p->cancelled_async) {
        /* It is being raised here: not a second time. */
        p->cancelled_async = false;
        PyThreadState_SetAsyncExc(p->tstate->thread_id, NULL);
    }
}

PyObject *fibril__py_raise(int rc)
{
    switch (-rc) {
    case ENOMEM: return PyErr_NoMemory();
    case ECANCELED:
        clear_cancel();
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

static int add_type(PyObject *module, const char *name, const char *doc, PyObject *base,
                    PyObject **ret_type)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "fibril.%s", name);
    if (!*ret_type) {
        *ret_type = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    }
    return *ret_type ? PyModule_AddObjectRef(module, name, *ret_type) : -1;
}

int fibril__py_errors_init(PyObject *module)
{
    struct fibril__py *g = &fibril__py;
    if (add_type(module, "Cancelled", cancelled_doc, PyExc_BaseException, &g->cancelled) < 0 ||
        add_type(module, "Deadlock", deadlock_doc, PyExc_RuntimeError, &g->deadlock) < 0) {
        return -1;
    }
    return add_type(module, "ChannelClosed", closed_doc, PyExc_Exception, &g->closed);
}
