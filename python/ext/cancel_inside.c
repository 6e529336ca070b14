/* SPDX-License-Identifier: MIT */
/*
 * Cancellation of waits inside CPython, which know nothing of it. Two ways lead out of them with
 * an exception.
 *
 * Calls of the system that fail end in an OSError that CPython makes of errno. So the call of
 * OSError, when it is asked for one of ECANCELED in a fibril that has been cancelled, raises
 * Cancelled instead. It is the type's vectorcall that is replaced, which no class inherits: for
 * those that have an __init__ of their own OSError looks whether their tp_new is still its own.
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

static vectorcallfunc make_os_error; /* NULL: there was none */

static bool is_of_cancellation(PyObject *number)
{
    bool ours = PyLong_Check(number) && PyLong_AsLong(number) == ECANCELED;
    PyErr_Clear(); /* a number too large for errno */
    return ours;
}

/* As it is called where there is no vectorcall. */
static PyObject *make_by_tuple(PyObject *type, PyObject *const *args, size_t n, PyObject *names)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    PyObject *tuple = PyTuple_New((Py_ssize_t)n), *kwargs = NULL, *result = NULL;
    for (size_t i = 0; tuple && i < n; i++) {
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, Py_NewRef(args[i]));
    }
    bool fine = tuple && (named == 0 || (kwargs = PyDict_New()) != NULL);
    for (Py_ssize_t i = 0; fine && i < named; i++) {
        fine = PyDict_SetItem(kwargs, PyTuple_GET_ITEM(names, i), args[n + (size_t)i]) == 0;
    }
    if (fine) {
        result = Py_TYPE(type)->tp_call(type, tuple, kwargs);
    }
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return result;
}

static PyObject *call_os_error(PyObject *type, PyObject *const *args, size_t nargsf,
                               PyObject *names)
{
    size_t n = (size_t)PyVectorcall_NARGS(nargsf);
    struct fibril *f = fibril_current();
    struct pyfibril *p = f ? fibril__py_of(f) : NULL;
    if (p && n > 0 && type == PyExc_OSError && fibril_cancelled() && is_of_cancellation(args[0])) {
        return fibril__py_raise(-ECANCELED);
    }
    return make_os_error ? make_os_error(type, args, nargsf, names)
                         : make_by_tuple(type, args, n, names);
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
    make_os_error = ((PyTypeObject *)PyExc_OSError)->tp_vectorcall;
    ((PyTypeObject *)PyExc_OSError)->tp_vectorcall = call_os_error;
    watch_locks(true);
}

void fibril__py_cancel_stop(void)
{
    watch_locks(false);
    ((PyTypeObject *)PyExc_OSError)->tp_vectorcall = make_os_error;
}
