/* SPDX-License-Identifier: MIT */
/*
 * spawn and current: fibrils that Python starts. The fibril owns a reference to its handle while it
 * lives; the handle holds the pyfibril, and hands it over to the stack at the very end, because the
 * handle may go before the thread state does.
 */
#include "spawn.h"

#if FIBRIL_PY_POSIX
#include "posix/thread.h"
#endif

#include <pthread.h>

static size_t awaited;            /* alive and no daemons */
static struct fibril_event *none; /* for whoever waits until there is none */

void fibril__py_awaited_begins(void)
{
    awaited++;
}

void fibril__py_awaited_ends(void)
{
    if (--awaited == 0 && none) {
        fibril_event_set(none);
    }
}

/* ---- the life of one ---- */

static PyObject *call(struct handle *h)
{
    PyObject *fn = h->fn, *args = h->args, *kwargs = h->kwargs;
    h->fn = h->args = h->kwargs = NULL;
    PyObject *result;
    if (fibril_cancelled()) {
        result = fibril__py_raise(-ECANCELED);
    } else if (!args && !kwargs) {
        result = PyObject_CallNoArgs(fn);
    } else {
        PyObject *all = args ? Py_NewRef(args) : PyTuple_New(0);
        result = all ? PyObject_Call(fn, all, kwargs) : NULL;
        Py_XDECREF(all);
    }
    Py_DECREF(fn);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return result;
}

static void count_end(const struct handle *h)
{
    if (!h->daemon) {
        fibril__py_awaited_ends();
    }
}

/* No memory to begin: whoever joins hears of it. Without the GIL, so the reference is lost. */
static void fail_to_begin(struct handle *h)
{
    h->live = NULL;
    count_end(h);
    h->state = HANDLE_RAISED;
    h->fn = h->outcome = h->kwargs = NULL;
    if (h->ended) {
        fibril_event_set(h->ended);
    }
    fibril__py_bind(fibril_current(), NULL);
}

static int run_python(struct handle *h, struct fibril *self)
{
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    if (fibril__py_begin(&h->own, frames, sizeof frames) < 0) {
        fail_to_begin(h);
        return -ENOMEM;
    }
    PyObject *result = call(h);
    fibril__py_cancel_settle(&h->own);
    enum handle_state state = result ? HANDLE_RETURNED : HANDLE_RAISED;
    struct pyfibril last = h->own;
    last.handle = NULL;
    h->outcome = result ? result : fibril__py_take_exception();
    h->live = NULL;
    fibril__py_bind(self, &last);
    count_end(h);
    fibril__py_end_handle(h, state);
    Py_DECREF(h);
    fibril__py_end(&last);
    return 0;
}

#if FIBRIL_PY_POSIX

/* The layer's record of the thread has room on the page that the frames are on. */
static int run(void *arg)
{
    struct fibril *self = fibril_current();
    struct fibril__thread thread;
    bool lent = fibril__py.layer;
    if (lent) {
        fibril__thread_lend(&thread);
    }
    int rc = run_python(arg, self);
    if (lent) {
        fibril__thread_take_back(&thread);
    }
    fibril_detach(self);
    return rc;
}

#else

static int run(void *arg)
{
    struct fibril *self = fibril_current();
    int rc = run_python(arg, self);
    fibril_detach(self);
    return rc;
}

#endif

/* ---- spawn ---- */

/* Takes name= and daemon= out of the keywords; what is left is the function's. */
static int split_keywords(struct handle *h, PyObject *const *values, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "daemon") == 0) {
            int daemon = PyObject_IsTrue(values[i]);
            if (daemon < 0) {
                return -1;
            }
            h->daemon = daemon;
        } else if (PyUnicode_CompareWithASCIIString(name, "name") == 0) {
            if (values[i] != Py_None && !PyUnicode_Check(values[i])) {
                PyErr_SetString(PyExc_TypeError, "name must be a str or None");
                return -1;
            }
            Py_XSETREF(h->name, values[i] == Py_None ? NULL : Py_NewRef(values[i]));
        } else if ((!h->kwargs && !(h->kwargs = PyDict_New())) ||
                   PyDict_SetItem(h->kwargs, name, values[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int keep_arguments(struct handle *h, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    h->fn = Py_NewRef(args[0]);
    if (n > 1) {
        h->args = PyTuple_New(n - 1);
        for (Py_ssize_t i = 1; h->args && i < n; i++) {
            PyTuple_SET_ITEM(h->args, i - 1, Py_NewRef(args[i]));
        }
        if (!h->args) {
            return -1;
        }
    }
    return names ? split_keywords(h, args + n, names) : 0;
}

/* From the main thread's loop, or from an OS thread without one. */
static int start(struct handle *h)
{
    struct fibril_spawn_opts opts = {.daemon = true}; /* the loop's usual stack is ours */
    if (h->name && !(opts.name = PyUnicode_AsUTF8(h->name))) {
        return -1;
    }
    opts.loop = fibril_current() ? NULL : fibril__py.loop;
    h->live = &h->own;
    h->own.handle = (PyObject *)h;
    int rc = fibril_spawn(run, h, &opts, &h->own.fibril);
    if (rc < 0) {
        h->live = NULL;
        fibril__py_raise(rc);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(
    spawn_doc,
    "spawn(function, /, *args, name=None, daemon=False, **kwargs)\n--\n\n"
    "Starts a fibril that calls function(*args, **kwargs), and returns its Fibril. It runs\n"
    "when the caller parks. The process waits for it before it ends, unless it is a "
    "daemon.\n\n"
    "Raises RuntimeError before fibril.enable(), MemoryError.");

static PyObject *py_spawn(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    if (n < 1 || !PyCallable_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "spawn needs something to call");
        return NULL;
    }
    if (!fibril__py.loop) {
        return fibril__py_raise(-EPERM);
    }
    struct handle *h = fibril__py_new_handle();
    if (!h || keep_arguments(h, args, n, names) < 0 || start(h) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    h->id = fibril_id(h->own.fibril);
    if (fibril_current()) { /* another OS thread's may be waiting for the GIL already */
        h->own.ours = true;
        fibril__py_bind(h->own.fibril, &h->own);
    }
    if (!h->daemon) {
        fibril__py_awaited_begins();
    }
    return Py_NewRef((PyObject *)h);
}

/* ---- current ---- */

PyDoc_STRVAR(current_doc, "current()\n--\n\nReturns the calling Fibril, None on a real OS thread.");

static PyObject *py_current(PyObject *module, PyObject *unused)
{
    struct pyfibril *p = fibril__py_self();
    if (!p) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyObject *handle = fibril__py_handle(p);
    return Py_XNewRef(handle);
}

/* ---- the end of the process ---- */

static int wait_none(void *arg, int64_t deadline_ns)
{
    (void)arg;
    return fibril_event_wait(none, deadline_ns);
}

int fibril__py_await_all(void)
{
    while (awaited > 0) {
        if (!none && fibril_event_new(FIBRIL_SHARED, &none) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        fibril_event_reset(none);
        struct pyfibril *self = fibril__py_self();
        if (self) {
            self->joins = FIBRIL__PY_JOINS_ALL;
        }
        int rc = fibril__py_wait(wait_none, NULL, FIBRIL_FOREVER);
        if (self) {
            self->joins = 0;
        }
        if (rc != 0) {
            if (rc < 0) {
                fibril__py_raise(rc);
            }
            return -1;
        }
    }
    return 0;
}

/* Of a fork: there is the calling fibril, if it is one of them, and no other. */
static void forked(void)
{
    struct pyfibril *p = fibril_current() ? fibril__py_of(fibril_current()) : NULL;
    struct handle *h = p && !p->adopted ? (struct handle *)p->handle : NULL;
    awaited = h && p == &h->own && !h->daemon;
}

int fibril__py_spawn_start(void)
{
    static bool watching;
    watching = watching || pthread_atfork(NULL, NULL, forked) == 0;
    return watching ? 0 : -ENOMEM;
}

static PyMethodDef functions[] = {
    {"spawn", (PyCFunction)(void (*)(void))py_spawn, METH_FASTCALL | METH_KEYWORDS, spawn_doc},
    {"current", py_current, METH_NOARGS, current_doc},
    {NULL, NULL, 0, NULL}};

int fibril__py_spawn_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
