/* SPDX-License-Identifier: MIT */
/*
 * run(): the caller stands aside until the other tasklets have ended or cannot go on; with a
 * timeout, until one of them has run too long. What "too long" counts are instructions of the
 * interpreter, all of them: see stackless_count.c.
 *
 * Several tasklets may be in run(), one inside the other. When nobody can go on, or a tasklet
 * fails, the innermost of them wakes. One wakes by interruptions, the first that asked for a
 * timeout; those inside it are in run() no more then, and runnable.
 */
#include "stackless_core.h"

/* ---- those in run() ---- */

/* In *interrupts: whether t wants to be the one that interruptions wake; whether it is. */
static int enlist(struct world *w, struct tasklet *t, bool *interrupts)
{
    if (!w->watchdogs && !(w->watchdogs = Py_BuildValue("[O]", Py_None))) {
        return -1;
    }
    *interrupts = *interrupts && !fibril__slp_interrupted_for(w);
    if (PyList_Append(w->watchdogs, object_of(t)) < 0) {
        return -1;
    }
    return *interrupts ? PyList_SetItem(w->watchdogs, 0, Py_NewRef(object_of(t))) : 0;
}

/* Whoever asked for interruptions hears of no more. */
static void end_interruptions(struct world *w)
{
    w->interval = 0;
    fibril__slp_count_off(w);
    PyList_SetItem(w->watchdogs, 0, Py_NewRef(Py_None));
}

/* Takes the innermost one out of the list; a reference for the caller. */
static struct tasklet *delist(struct world *w)
{
    Py_ssize_t last = PyList_GET_SIZE(w->watchdogs) - 1;
    PyObject *t = Py_NewRef(PyList_GET_ITEM(w->watchdogs, last));
    PyList_SetSlice(w->watchdogs, last, last + 1, NULL);
    if (fibril__slp_interrupted_for(w) == tasklet_of(t)) {
        end_interruptions(w);
    }
    return tasklet_of(t);
}

static bool is_listed(const struct world *w, const struct tasklet *t)
{
    for (Py_ssize_t i = PyList_GET_SIZE(w->watchdogs) - 1; i > 0; i--) {
        if (PyList_GET_ITEM(w->watchdogs, i) == (const PyObject *)t) {
            return true;
        }
    }
    return false;
}

/* t has woken, and with it those inside it, who are told by not being listed any more. */
static void delist_up_to(struct world *w, struct tasklet *t)
{
    struct tasklet *inner;
    do {
        inner = delist(w);
        if (inner->place == AT_NONE) {
            fibril__slp_ring_append(w, inner);
        } else {
            Py_DECREF(inner);
        }
    } while (inner != t);
}

/* ---- interrupting ---- */

/* Whether the running tasklet may be interrupted here. */
static bool may_interrupt(const struct world *w, const struct tasklet *t)
{
    return !(w->runflags & RUN_SOFT) && !t->atomic && !w->schedlock && !w->switch_trap;
}

static int interrupt(struct world *w)
{
    struct tasklet *t = w->current, *guard = fibril__slp_interrupted_for(w);
    w->ticks_left = w->interval;
    if (t == guard || guard->place != AT_NONE) {
        return 0;
    }
    if (!may_interrupt(w, t)) {
        t->pending_irq = true;
        return 0;
    }
    t->pending_irq = false;
    Py_XSETREF(w->interrupted, Py_NewRef(object_of(t)));
    Py_INCREF(t);
    tasklet_set_value(t, Py_NewRef(Py_None));
    t->interrupted = true;
    PyObject *result = fibril__slp_go(w, t, guard);
    t->interrupted = false;
    Py_DECREF(t);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int fibril__slp_tick(struct world *w)
{
    if (w->left_len || w->back) {
        fibril__slp_sync(w);
    }
    if (!fibril__slp_interrupted_for(w) || w->current != w->turn) {
        return 0;
    }
    return --w->ticks_left <= 0 ? interrupt(w) : 0;
}

/* ---- run ---- */

static PyObject *wait_for_others(struct world *w, struct tasklet *self)
{
    Py_INCREF(self);
    fibril__slp_ring_remove(w, self);
    Py_DECREF(self);
    tasklet_set_value(self, Py_NewRef(Py_None));
    PyObject *result = fibril__slp_go(w, self, w->current);
    if (self->place == AT_NONE) {
        Py_INCREF(self);
        fibril__slp_ring_first(w, self);
    }
    Py_DECREF(self);
    return result;
}

/* The interrupted one is not runnable any more, unless the interruption was a soft one. */
static PyObject *victim_of(struct world *w, PyObject *result, bool soft)
{
    PyObject *victim = w->interrupted;
    w->interrupted = NULL;
    if (!result || !victim) {
        Py_XDECREF(victim);
        Py_XDECREF(result);
        return result ? Py_NewRef(Py_None) : NULL;
    }
    Py_DECREF(result);
    struct tasklet *t = tasklet_of(victim);
    if (!soft && t->place == AT_RING && t != w->current) {
        fibril__slp_ring_remove(w, t);
        Py_DECREF(t);
    }
    return victim;
}

static int enter(struct world *w, struct tasklet *self, long timeout, unsigned flags)
{
    bool interrupts = timeout > 0;
    if (enlist(w, self, &interrupts) < 0) {
        return -1;
    }
    w->runflags =
        interrupts ? flags : (w->runflags & ~(unsigned)RUN_THREADBLOCK) | (flags & RUN_THREADBLOCK);
    if (!interrupts) {
        return 0;
    }
    w->interval = w->ticks_left = timeout;
    if (fibril__slp_count_on(w) < 0) {
        w->interval = 0;
        PyList_SetItem(w->watchdogs, 0, Py_NewRef(Py_None));
        Py_DECREF(delist(w));
        return -1;
    }
    return 0;
}

/* With the exception, if one is set, kept. */
static void leave(struct world *w, struct tasklet *self, unsigned runflags)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (is_listed(w, self)) {
        delist_up_to(w, self);
        w->runflags = runflags;
    }
    PyErr_Restore(type, value, traceback);
}

PyObject *fibril__slp_run(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout",        "threadblock",  "soft",
                            "ignore_nesting", "totaltimeout", NULL};
    long timeout = 0;
    int block = 0, soft = 0, nesting = 0, total = 0;
    (void)module;
    struct world *w = fibril__slp_world();
    if (!w || !PyArg_ParseTupleAndKeywords(args, kwargs, "|lpppp:run", names, &timeout, &block,
                                           &soft, &nesting, &total)) {
        return NULL;
    }
    unsigned flags = (block ? RUN_THREADBLOCK : 0u) | (soft ? RUN_SOFT : 0u) |
                     (nesting ? RUN_IGNORE_NESTING : 0u) | (total ? RUN_TOTALTIMEOUT : 0u);
    unsigned before = w->runflags;
    struct tasklet *self = w->current;
    if (enter(w, self, timeout, flags) < 0) {
        return NULL;
    }
    PyObject *result = wait_for_others(w, self);
    leave(w, self, before);
    return victim_of(w, result, soft);
}
