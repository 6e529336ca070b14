/* SPDX-License-Identifier: MIT */
/*
 * Cancellation of waits inside CPython, which know nothing of it. Two ways lead out of them with
 * an exception.
 *
 * Calls of the system that fail end in an OSError that CPython makes of errno. So the constructor
 * of OSError, when it is asked for one of ECANCELED in a fibril that has been cancelled, raises
 * Cancelled instead.
 *
 * Waits for locks take every error but one for a bug of their own, and go on without the lock. That
 * one is EINTR, on which they run the pending calls; one of those then raises Cancelled. But
 * pending calls run in the main thread only, so the fibril passes for it while it is asked who it
 * is: from the end of that wait to the exception, with the GIL held, and nothing else of CPython
 * runs.
 *
 * Rejected: the methods of the locks replaced by ours, of which each version has others.
 */
#include "fibril_py.h"

#if FIBRIL_PY_POSIX
#include "posix/thread.h"
#endif

/* ---- calls of the system ---- */

static newfunc make_os_error;

static bool is_of_cancellation(PyObject *args)
{
    PyObject *number = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    bool ours = number && PyLong_Check(number) && PyLong_AsLong(number) == ECANCELED;
    PyErr_Clear(); /* a number too large for errno */
    return ours;
}

static PyObject *new_os_error(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct fibril *f = fibril_current();
    struct pyfibril *p = f ? fibril__py_of(f) : NULL;
    bool cancelled =
        p && fibril_cancelled() && (PyObject *)type == PyExc_OSError && is_of_cancellation(args);
    return cancelled ? fibril__py_raise(-ECANCELED) : make_os_error(type, args, kwargs);
}

/* The types derived from it inherited it when they were made, and object.__new__ insists that a
 * type and its base agree. */
static int replace(PyTypeObject *type, newfunc from, newfunc to)
{
    if (type->tp_new != from) {
        return 0;
    }
    type->tp_new = to;
    PyObject *derived = PyObject_CallMethod((PyObject *)type, "__subclasses__", NULL);
    int rc = derived ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(derived); i++) {
        rc = replace((PyTypeObject *)PyList_GET_ITEM(derived, i), from, to);
    }
    Py_XDECREF(derived);
    return rc;
}

static void replace_os_error(newfunc from, newfunc to)
{
    if (replace((PyTypeObject *)PyExc_OSError, from, to) < 0) {
        PyErr_Clear();
    }
}

/* ---- locks ---- */

#if FIBRIL_PY_POSIX

static int raise_cancelled(void *arg)
{
    struct pyfibril *p = fibril__py_self();
    if (!p || p != arg || !fibril_cancelled()) {
        return 0; /* the main fibril was first: ours goes on waiting */
    }
    fibril__thread_face()->told = false;
    fibril__py_raise(-ECANCELED);
    return -1;
}

/* Without the GIL. */
static bool on_cancelled(const void *caller)
{
    struct pyfibril *p = fibril__py_of(fibril_current());
    if (!p || !p->tstate || !fibril__pystate_is_code(caller)) {
        return false;
    }
    p->asked = 0;
    return true;
}

/* Asked for the first time with the GIL held. */
static bool as_main(struct fibril__thread *t)
{
    struct pyfibril *p = fibril__py_of(fibril_current());
    if (!p || fibril__pystate_current() != p->tstate) {
        return false;
    }
    unsigned asked = p->asked++;
    if (asked == FIBRIL__PYSTATE_ASKED_BEFORE) {
        t->told = false; /* adding it may ask as well */
        bool added = Py_AddPendingCall(raise_cancelled, p) == 0;
        t->told = added;
        return added;
    }
    return asked > FIBRIL__PYSTATE_ASKED_BEFORE;
}

static void watch_locks(bool on)
{
    fibril__posix_on_cancelled = on ? on_cancelled : NULL;
    fibril__posix_as_main = on ? as_main : NULL;
    fibril__posix_cancel_ends = !on; /* the exception does */
}

#else

static void watch_locks(bool on)
{
    (void)on;
}

#endif

void fibril__py_cancel_start(void)
{
    make_os_error = ((PyTypeObject *)PyExc_OSError)->tp_new;
    replace_os_error(make_os_error, new_os_error);
    watch_locks(true);
}

void fibril__py_cancel_stop(void)
{
    watch_locks(false);
    replace_os_error(new_os_error, make_os_error);
}
