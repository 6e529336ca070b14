/* SPDX-License-Identifier: MIT */
/*
 * Semaphore, Lock and Event. The types differ in little: a semaphore of the core, or an event.
 * Whether a lock is held is counted here, under the GIL; who waits, in the core.
 */
#include "fibril_py.h"

#include <limits.h>

struct semaphore {
    PyObject_HEAD struct fibril_sem *sem;
    unsigned free, most; /* how many can be taken; UINT_MAX: any number may be released */
};

struct event {
    PyObject_HEAD struct fibril_event *event;
};

/* Something that never waits: at once on a fibril, by one for an OS thread. */
static int at_once(fibril__py_op *op, void *arg)
{
    return fibril_current() ? op(arg, 0) : fibril__py_wait(op, arg, FIBRIL_FOREVER);
}

static PyObject *none_or_raise(int rc)
{
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    Py_RETURN_NONE;
}

/* True, False for a time that passed, or an exception. */
static PyObject *true_or_late(int rc)
{
    if (rc == -ETIMEDOUT || rc == -EAGAIN) {
        Py_RETURN_FALSE;
    }
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    Py_RETURN_TRUE;
}

/* ---- semaphores and locks ---- */

static int acquire_op(void *arg, int64_t deadline_ns)
{
    return fibril_sem_wait(arg, deadline_ns);
}

static int release_op(void *arg, int64_t deadline_ns)
{
    (void)deadline_ns;
    return fibril_sem_post(arg);
}

PyDoc_STRVAR(acquire_doc,
             "acquire(blocking=True, timeout=None)\n--\n\n"
             "Takes one, waiting for it in turn. Returns True, or False when timeout (seconds)\n"
             "passes or blocking is false and there is none. Raises Cancelled.");

static PyObject *sem_acquire(struct semaphore *s, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"blocking", "timeout", NULL};
    int blocking = 1;
    PyObject *timeout = Py_None;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pO:acquire", names, &blocking, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    int rc = fibril_current() ? fibril_sem_try_wait(s->sem) : -EAGAIN;
    if (rc == -EAGAIN && (blocking || !fibril_current())) {
        rc = fibril__py_wait(acquire_op, s->sem, blocking ? deadline_ns : 0);
    }
    s->free -= rc == 0;
    return true_or_late(rc);
}

static PyObject *sem_enter(struct semaphore *s, PyObject *unused)
{
    int rc = fibril_current() ? fibril_sem_try_wait(s->sem) : -EAGAIN;
    if (rc == -EAGAIN) {
        rc = fibril__py_wait(acquire_op, s->sem, FIBRIL_FOREVER);
    }
    s->free -= rc == 0;
    return rc == 0 ? Py_NewRef((PyObject *)s) : none_or_raise(rc);
}

PyDoc_STRVAR(release_doc, "release()\n--\n\n"
                          "Gives one back, or to the longest waiter. Never waits. RuntimeError for "
                          "a Lock that\nnobody holds.");

static PyObject *sem_release(struct semaphore *s, PyObject *unused)
{
    if (s->free >= s->most) {
        PyErr_SetString(PyExc_RuntimeError, "released more often than acquired");
        return NULL;
    }
    int rc = at_once(release_op, s->sem);
    s->free += rc == 0;
    return none_or_raise(rc);
}

static PyObject *sem_exit(struct semaphore *s, PyObject *const *args, Py_ssize_t n)
{
    return sem_release(s, NULL);
}

static PyObject *sem_locked(struct semaphore *s, PyObject *unused)
{
    return PyBool_FromLong(s->free == 0);
}

static PyObject *new_semaphore(PyTypeObject *type, unsigned value, unsigned most)
{
    struct semaphore *s = (struct semaphore *)type->tp_alloc(type, 0);
    if (!s) {
        return NULL;
    }
    s->free = value;
    s->most = most;
    int rc = fibril_sem_new(value, 0, &s->sem);
    if (rc < 0) {
        Py_DECREF(s);
        return fibril__py_raise(rc);
    }
    return (PyObject *)s;
}

static PyObject *sem_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    Py_ssize_t value = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:Semaphore", names, &value)) {
        return NULL;
    }
    if (value < 0 || value >= UINT_MAX) {
        PyErr_SetString(PyExc_ValueError, "a semaphore starts between 0 and 2**32 - 2");
        return NULL;
    }
    return new_semaphore(type, (unsigned)value, UINT_MAX);
}

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Lock", names)) {
        return NULL;
    }
    return new_semaphore(type, 1, 1);
}

static void sem_dealloc(struct semaphore *s)
{
    PyTypeObject *type = Py_TYPE(s);
    fibril_sem_free(s->sem);
    type->tp_free(s);
    Py_DECREF(type);
}

static PyMethodDef sem_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))sem_acquire, METH_VARARGS | METH_KEYWORDS,
     acquire_doc},
    {"release", (PyCFunction)sem_release, METH_NOARGS, release_doc},
    {"locked", (PyCFunction)sem_locked, METH_NOARGS,
     "locked()\n--\n\nReturns whether acquiring would have to wait."},
    {"__enter__", (PyCFunction)sem_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))sem_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(sem_doc, "Semaphore(value=1)\n--\n\n"
                      "Counts what may be had at the same time. First come, first served; works "
                      "across OS\nthreads. A context manager.");
PyDoc_STRVAR(lock_doc, "Lock()\n--\n\n"
                       "One at a time, first come, first served; anybody may release it. Works "
                       "across OS\nthreads. A context manager.");

static PyType_Slot sem_slots[] = {{Py_tp_doc, (void *)(uintptr_t)sem_doc},
                                  {Py_tp_new, sem_new},
                                  {Py_tp_dealloc, sem_dealloc},
                                  {Py_tp_methods, sem_methods},
                                  {0, NULL}};
static PyType_Slot lock_slots[] = {{Py_tp_doc, (void *)(uintptr_t)lock_doc},
                                   {Py_tp_new, lock_new},
                                   {Py_tp_dealloc, sem_dealloc},
                                   {Py_tp_methods, sem_methods},
                                   {0, NULL}};

/* ---- events ---- */

static int wait_op(void *arg, int64_t deadline_ns)
{
    return fibril_event_wait(arg, deadline_ns);
}

static int set_op(void *arg, int64_t deadline_ns)
{
    (void)deadline_ns;
    fibril_event_set(arg);
    return 0;
}

static int clear_op(void *arg, int64_t deadline_ns)
{
    (void)deadline_ns;
    fibril_event_reset(arg);
    return 0;
}

PyDoc_STRVAR(wait_doc, "wait(timeout=None)\n--\n\n"
                       "Waits until it is set. Returns True, or False when timeout (seconds) "
                       "passes. Raises\nCancelled.");

static PyObject *event_wait(struct event *e, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", names, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    bool set = fibril_event_is_set(e->event);
    return true_or_late(set ? 0 : fibril__py_wait(wait_op, e->event, deadline_ns));
}

static PyObject *event_set(struct event *e, PyObject *unused)
{
    return none_or_raise(at_once(set_op, e->event));
}

static PyObject *event_clear(struct event *e, PyObject *unused)
{
    return none_or_raise(at_once(clear_op, e->event));
}

static PyObject *event_is_set(struct event *e, PyObject *unused)
{
    return PyBool_FromLong(fibril_event_is_set(e->event));
}

static PyObject *event_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Event", names)) {
        return NULL;
    }
    struct event *e = (struct event *)type->tp_alloc(type, 0);
    int rc = e ? fibril_event_new(0, &e->event) : 0;
    if (rc < 0) {
        Py_DECREF(e);
        return fibril__py_raise(rc);
    }
    return (PyObject *)e;
}

static void event_dealloc(struct event *e)
{
    PyTypeObject *type = Py_TYPE(e);
    fibril_event_free(e->event);
    type->tp_free(e);
    Py_DECREF(type);
}

static PyMethodDef event_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_VARARGS | METH_KEYWORDS, wait_doc},
    {"set", (PyCFunction)event_set, METH_NOARGS, "set()\n--\n\nSets it and wakes all waiters."},
    {"clear", (PyCFunction)event_clear, METH_NOARGS, "clear()\n--\n\nResets it."},
    {"is_set", (PyCFunction)event_is_set, METH_NOARGS,
     "is_set()\n--\n\nReturns whether it is set."},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(event_doc, "Event()\n--\n\n"
                        "Is set once and stays set until it is cleared. Works across OS threads.");

static PyType_Slot event_slots[] = {{Py_tp_doc, (void *)(uintptr_t)event_doc},
                                    {Py_tp_new, event_new},
                                    {Py_tp_dealloc, event_dealloc},
                                    {Py_tp_methods, event_methods},
                                    {0, NULL}};

/* ---- registration ---- */

static PyType_Spec specs[] = {
    {"fibril.Semaphore", sizeof(struct semaphore), 0, Py_TPFLAGS_DEFAULT, sem_slots},
    {"fibril.Lock", sizeof(struct semaphore), 0, Py_TPFLAGS_DEFAULT, lock_slots},
    {"fibril.Event", sizeof(struct event), 0, Py_TPFLAGS_DEFAULT, event_slots},
};

int fibril__py_sync_init(PyObject *module)
{
    return fibril__py_add_types(module, specs, sizeof specs / sizeof *specs);
}
