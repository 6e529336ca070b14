/* SPDX-License-Identifier: MIT */
/*
 * run(): the caller stands aside until the other tasklets have ended or cannot go on; with a
 * timeout, until one of them has run too long.
 *
 * What "too long" counts: instructions of the interpreter, all of them. An unmodified one tells of
 * each only to its trace function, in every version and thread, and lets it switch tasklets. So
 * there is one while a run(timeout) is, which makes the interpreter several times slower.
 *
 * Rejected: line events alone (a loop of one instruction makes none); pending calls (3.11 runs up
 * to 32 of them at a check point, only in the main thread, and none while one is suspended); and
 * the processor's clock (the same program would be interrupted elsewhere each time).
 */
#include "stackless_core.h"

#include <frameobject.h>

/* ---- interrupting ---- */

/* Whether the running tasklet may be interrupted here. */
static bool may_interrupt(const struct world *w, const struct tasklet *t)
{
    return !(w->runflags & RUN_SOFT) && !t->atomic && !w->schedlock && !w->switch_trap;
}

static int interrupt(struct world *w)
{
    struct tasklet *t = w->current, *guard = w->watchdog;
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
    bool done;
    Py_INCREF(t);
    tasklet_set_value(t, Py_NewRef(Py_None));
    PyObject *result = fibril__slp_go(w, t, guard, &done);
    Py_DECREF(t);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Each frame says by itself whether its instructions are told. */
static int tell_instructions(PyFrameObject *frame)
{
    return PyObject_SetAttrString((PyObject *)frame, "f_trace_opcodes", Py_True);
}

static int count(PyObject *self, PyFrameObject *frame, int what, PyObject *arg)
{
    (void)self;
    (void)arg;
    if (what == PyTrace_CALL || what == PyTrace_LINE) {
        return tell_instructions(frame);
    }
    struct world *w = what == PyTrace_OPCODE ? fibril__slp_world() : NULL;
    if (!w || !w->watchdog || w->interval <= 0 || w->current != w->turn) {
        return 0;
    }
    return --w->ticks_left <= 0 ? interrupt(w) : 0;
}

/* ---- run ---- */

struct outer {
    struct tasklet *watchdog;
    PyObject *interrupted;
    long interval, ticks_left;
    unsigned runflags;
};

static struct outer enter(struct world *w, struct tasklet *self, long timeout, unsigned flags)
{
    struct outer o = {w->watchdog, w->interrupted, w->interval, w->ticks_left, w->runflags};
    w->watchdog = self;
    w->interrupted = NULL;
    w->interval = w->ticks_left = timeout;
    w->runflags = flags;
    if (timeout > 0) {
        PyEval_SetTrace(count, NULL);
    }
    return o;
}

static void leave(struct world *w, struct outer o, long timeout)
{
    if (timeout > 0 && o.interval <= 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyEval_SetTrace(NULL, NULL);
        PyErr_Restore(type, value, traceback);
    }
    w->watchdog = o.watchdog;
    w->interrupted = o.interrupted;
    w->interval = o.interval;
    w->ticks_left = o.ticks_left;
    w->runflags = o.runflags;
}

static PyObject *wait_for_others(struct world *w, struct tasklet *self, bool *ret_done)
{
    Py_INCREF(self);
    fibril__slp_ring_remove(w, self);
    Py_DECREF(self);
    tasklet_set_value(self, Py_NewRef(Py_None));
    PyObject *result = fibril__slp_go(w, self, w->current, ret_done);
    if (self->place == AT_NONE) {
        Py_INCREF(self);
        fibril__slp_ring_first(w, self);
    }
    Py_DECREF(self);
    return result;
}

/* The interrupted one is not runnable any more, unless the interruption was a soft one. */
static PyObject *victim_of(struct world *w, PyObject *result)
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
    if (!(w->runflags & RUN_SOFT) && t->place == AT_RING && t != w->current) {
        fibril__slp_ring_remove(w, t);
        Py_DECREF(t);
    }
    return victim;
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
    bool done;
    struct tasklet *self = w->current;
    struct outer o = enter(w, self, timeout, flags);
    PyObject *result = victim_of(w, wait_for_others(w, self, &done));
    leave(w, o, timeout);
    return result;
}
