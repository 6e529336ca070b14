/* SPDX-License-Identifier: MIT */
/*
 * timeout and deadline: a cancellation that comes by itself, and whose Cancelled becomes
 * TimeoutError where the block ends. They wait in one heap, and one fibril sleeps until the first
 * of them is due; a fibril per block would cost a stack each.
 *
 * Invariant: a timeout is in the heap between __enter__ and the earlier of __exit__ and its firing.
 * Heap and timeouts are touched under the GIL, by fibrils of the main loop only.
 */
#include "fibril_py.h"

#include "base/heap.h"

#include <structmember.h>

struct timeout {
    PyObject_HEAD int64_t after_ns, deadline_ns; /* after_ns counts from __enter__; below 0: a
                                                    deadline was given */
    struct pyfibril *of;                         /* whom it cancels; NULL outside the block */
    struct fibril__heap_node node;
    bool expired;
};

static struct fibril__heap due;
static struct fibril *keeper;
static bool stopping;
static struct fibril_waker *bell; /* tells the keeper that an earlier one is there */

/* ---- the keeper ---- */

/* An OS thread, or a signal handler of Python's, may end any wait: so the keeper waits for what
 * comes from outside, and the core never takes the process for deadlocked. Unless that is asked
 * for. */
static struct fibril_waker_info wait_info = {.name = "timeout"};

static void fire(int64_t now_ns)
{
    while (fibril__heap_min(&due) <= now_ns) {
        struct fibril__heap_node *node = fibril__heap_pop(&due);
        struct timeout *t = (void *)((char *)node - offsetof(struct timeout, node));
        t->expired = true;
        fibril__py_cancel(t->of);
    }
}

static int keep(void *arg)
{
    struct pyfibril self = {0};
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    (void)arg;
    if (fibril__py_begin(&self, frames, sizeof frames) < 0) {
        return -ENOMEM;
    }
    fibril__py.keeper = self.tstate;
    while (!stopping) {
        int64_t first_ns = fibril__heap_min(&due);
        fibril__py_leave(&self);
        fibril_waker_wait_as(bell, &wait_info, first_ns);
        fibril__py_enter(&self);
        fire(fibril_now());
    }
    fibril__py_end(&self);
    return 0;
}

int fibril__py_keeper_start(bool deadlocks)
{
    const struct fibril_spawn_opts opts = {.name = "timeouts", .daemon = true};
    wait_info.inside = deadlocks;
    stopping = false;
    int rc = fibril_waker_new(&bell);
    if (rc == 0 && (rc = fibril_spawn(keep, NULL, &opts, &keeper)) < 0) {
        fibril_waker_free(bell);
    }
    return rc;
}

static int join_keeper(void *arg, int64_t deadline_ns)
{
    (void)arg;
    return fibril_join(keeper, deadline_ns, NULL);
}

void fibril__py_keeper_stop(void)
{
    stopping = true;
    fibril_waker_wake(bell);
    fibril_shield_begin();
    fibril__py_wait(join_keeper, NULL, FIBRIL_FOREVER);
    fibril_shield_end();
    fibril_waker_free(bell);
}

/* ---- the block ---- */

static int arm(struct timeout *t, struct pyfibril *p)
{
    int rc = fibril__heap_reserve(&due);
    if (rc < 0) {
        return rc;
    }
    if (t->after_ns >= 0) {
        t->deadline_ns = fibril_after(t->after_ns);
    }
    t->of = p;
    bool first = t->deadline_ns < fibril__heap_min(&due);
    if (t->deadline_ns != FIBRIL_FOREVER) {
        fibril__heap_insert(&due, &t->node, t->deadline_ns);
    }
    if (first) {
        fibril_waker_wake(bell);
    }
    return 0;
}

static PyObject *timeout_enter(struct timeout *t, PyObject *unused)
{
    struct pyfibril *p = fibril__py_self();
    if (!p) {
        return PyErr_Occurred() ? NULL : fibril__py_raise(-EPERM);
    }
    if (t->of || t->expired) {
        PyErr_SetString(PyExc_RuntimeError, "a timeout serves one block only");
        return NULL;
    }
    int rc = arm(t, p);
    return rc == 0 ? Py_NewRef((PyObject *)t) : fibril__py_raise(rc);
}

static PyObject *timeout_exit(struct timeout *t, PyObject *const *args, Py_ssize_t n)
{
    struct pyfibril *p = t->of;
    if (n != 3 || !p) {
        PyErr_SetString(PyExc_TypeError, "__exit__ ends a block");
        return NULL;
    }
    fibril__heap_remove(&due, &t->node);
    t->of = NULL;
    if (!t->expired) {
        Py_RETURN_FALSE;
    }
    bool ours = args[0] != Py_None && fibril__py_is_cancelled(args[0], args[1]);
    if (ours || args[0] == Py_None) {
        fibril__py_cancel_over(p);
    }
    if (!ours) {
        Py_RETURN_FALSE;
    }
    PyErr_SetString(PyExc_TimeoutError, "timed out");
    return NULL;
}

/* ---- making them ---- */

static struct timeout *new_timeout(PyTypeObject *type)
{
    struct timeout *t = (struct timeout *)type->tp_alloc(type, 0);
    if (t) {
        t->node.index = FIBRIL__HEAP_OUT;
    }
    return t;
}

/* Nanoseconds of a number of seconds, FIBRIL_FOREVER for None; below zero: an exception is set. */
static int64_t to_ns(PyObject *seconds)
{
    int64_t deadline_ns;
    int64_t now_ns = fibril_now();
    if (seconds == Py_None) {
        return FIBRIL_FOREVER;
    }
    if (!fibril__py_deadline(seconds, &deadline_ns)) {
        return -1;
    }
    return deadline_ns == FIBRIL_FOREVER ? FIBRIL_FOREVER : deadline_ns - now_ns;
}

static PyObject *timeout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seconds", NULL};
    PyObject *seconds;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:timeout", names, &seconds)) {
        return NULL;
    }
    int64_t ns = to_ns(seconds);
    struct timeout *t = ns < 0 ? NULL : new_timeout(type);
    if (t) {
        t->after_ns = ns;
    }
    return (PyObject *)t;
}

static PyObject *deadline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"monotonic", NULL};
    double at;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "d:deadline", names, &at)) {
        return NULL;
    }
    struct timeout *t = new_timeout(type);
    if (t) {
        t->after_ns = -1;
        t->deadline_ns = at >= 9.2e9 ? FIBRIL_FOREVER : at > 0 ? (int64_t)(at * 1e9) : 0;
    }
    return (PyObject *)t;
}

static void timeout_dealloc(struct timeout *t)
{
    PyTypeObject *type = Py_TYPE(t);
    fibril__heap_remove(&due, &t->node);
    type->tp_free(t);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__enter__", (PyCFunction)timeout_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))timeout_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {{"expired", T_BOOL, offsetof(struct timeout, expired), READONLY,
                                 "Whether it has passed (bool)."},
                                {NULL, 0, 0, 0, NULL}};

PyDoc_STRVAR(timeout_doc,
             "timeout(seconds)\n--\n\n"
             "A block that may take so long (int or float, None: for ever). When it passes, the\n"
             "present or next wait in the block ends and the block raises TimeoutError. They "
             "nest.\n\n"
             "Raises RuntimeError on a real OS thread and when used twice.");
PyDoc_STRVAR(deadline_doc, "deadline(monotonic)\n--\n\n"
                           "As timeout, but given the moment, in seconds of time.monotonic().");

static PyType_Slot timeout_slots[] = {{Py_tp_doc, (void *)(uintptr_t)timeout_doc},
                                      {Py_tp_new, timeout_new},
                                      {Py_tp_dealloc, timeout_dealloc},
                                      {Py_tp_methods, methods},
                                      {Py_tp_members, members},
                                      {0, NULL}};
static PyType_Slot deadline_slots[] = {{Py_tp_doc, (void *)(uintptr_t)deadline_doc},
                                       {Py_tp_new, deadline_new},
                                       {Py_tp_dealloc, timeout_dealloc},
                                       {Py_tp_methods, methods},
                                       {Py_tp_members, members},
                                       {0, NULL}};
static PyType_Spec specs[] = {
    {"fibril.timeout", sizeof(struct timeout), 0, Py_TPFLAGS_DEFAULT, timeout_slots},
    {"fibril.deadline", sizeof(struct timeout), 0, Py_TPFLAGS_DEFAULT, deadline_slots}};

int fibril__py_timeout_init(PyObject *module)
{
    return fibril__py_add_types(module, specs, sizeof specs / sizeof *specs);
}
