/* SPDX-License-Identifier: MIT */
/*
 * Who runs next. All that may run Python comes before a switch or after it; from saving one slice
 * until the other is loaded nothing is called but the switch.
 */
#include "stackless_turn.h"

enum { TICKS = 64 };

/* ---- the switch itself ---- */

/* `next` is on its way out of something else, and takes the GIL by itself. */
static NOINLINE void transfer_away(struct world *w, struct tasklet *next)
{
    next->away = false;
    w->attached = false;
    if (next->thrown) {
        fibril__slp_announce(next);
    }
    PyEval_SaveThread();
    give_turn(w, next);
    fibril_turn_let(next->fibril);
    fibril_turn_wait();
}

/* Nobody is runnable: waits until prev is. */
static void wait_for_turn(struct world *w, struct tasklet *prev)
{
    fibril__pyslice_save(&prev->slice, w->ts);
    w->idle = true;
    w->attached = false;
    PyEval_SaveThread();
    w->turn = NULL;
    fibril_waker_wake(w->waker);
    fibril_turn_wait();
    arrive(w);
    w->idle = false;
}

void fibril__slp_breathe(struct world *w)
{
    w->ticks = TICKS;
    if (fibril_turn_due() || w->out) {
        PyEval_SaveThread();
        fibril_yield();
        PyEval_RestoreThread(w->ts);
        fibril__slp_sync(w);
    }
}

/* ---- choosing ---- */

NOINLINE void fibril__slp_call_hook(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    if (w->schedlock) {
        return;
    }
    PyObject *type, *value, *traceback, *hook = Py_NewRef(fibril__slp_schedule_hook);
    PyErr_Fetch(&type, &value, &traceback);
    w->schedlock = 1;
    PyObject *result = PyObject_CallFunctionObjArgs(hook, prev ? object_of(prev) : Py_None,
                                                    next ? object_of(next) : Py_None, NULL);
    w->schedlock = 0;
    if (!result) {
        PyErr_WriteUnraisable(hook);
    }
    Py_XDECREF(result);
    Py_DECREF(hook);
    PyErr_Restore(type, value, traceback);
}

PyObject *fibril__slp_claim(struct tasklet *t)
{
    return claim(t);
}

static PyObject *go_elsewhere(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    struct world *other = next->world;
    if (!other || !other->ts) {
        PyErr_SetString(PyExc_RuntimeError, "tasklet has no thread");
        return NULL;
    }
    w->refused = false;
    if (next->place == AT_QUEUE) {
        fibril__slp_queue_remove(next);
        fibril__slp_ring_append(other, next);
    } else if (next->place == AT_NONE) {
        Py_INCREF(next);
        fibril__slp_ring_append(other, next);
    }
    fibril__slp_world_nudge(other);
    (void)w;
    return claim(prev);
}

/* What the deadlocked one, or the one that waits in run(), hears. */
static PyObject *refuse_to_block(struct world *w, struct tasklet *prev)
{
    struct tasklet *guard = fibril__slp_guard(w);
    if (guard->place != AT_NONE) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Deadlock: the last runnable tasklet cannot be blocked.");
        return NULL;
    }
    if (fibril__slp_is_bomb(prev->value)) {
        tasklet_set_value(guard, Py_NewRef(prev->value));
    }
    return fibril__slp_go_noted(w, prev, guard);
}

static PyObject *block(struct world *w, struct tasklet *prev)
{
    const struct tasklet *guard = fibril__slp_guard(w);
    bool revive = !(w->runflags & RUN_THREADBLOCK) && guard->place == AT_NONE;
    if (w->out == 0 && (revive || !fibril__slp_world_hopeful(w))) {
        return refuse_to_block(w, prev);
    }
    if (w->switch_trap) {
        PyErr_SetString(PyExc_RuntimeError, "switch_trap");
        return NULL;
    }
    notify(w, prev, NULL);
    wait_for_turn(w, prev);
    return claim(prev);
}

/* A run(soft=True) whose time is up ends at the next switch. */
static NOINLINE struct tasklet *divert(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    struct tasklet *guard = fibril__slp_interrupted_for(w);
    if (!guard || guard->place != AT_NONE || guard == next || prev->atomic) {
        return next;
    }
    prev->pending_irq = false;
    if (w->runflags & RUN_SOFT) {
        tasklet_set_value(guard, Py_NewRef(Py_None));
    } else {
        Py_XSETREF(w->interrupted, Py_NewRef(object_of(prev)));
    }
    return guard;
}

/* There is no memory to keep the stack of prev, which goes on with an exception. */
static NOINLINE PyObject *stay(struct tasklet *prev)
{
    struct world *w = prev->world;
    if (w->turn->begun) {
        fibril__pyslice_save(&w->turn->slice, w->ts);
    }
    give_turn(w, prev);
    arrive(w);
    return PyErr_NoMemory();
}

static NOINLINE PyObject *no_stack(struct world *w)
{
    w->refused = false;
    return PyErr_NoMemory();
}

/* Whom to hand over to, or NULL: that has been done. */
static NOINLINE struct fibril *depart(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    fibril__pyslice_save(&prev->slice, w->ts);
    if (UNLIKELY(next->away)) {
        transfer_away(w, next);
        return NULL;
    }
    let_go(w);
    give_turn(w, next);
    return next->fibril;
}

static NOINLINE PyObject *go_on(struct tasklet *prev)
{
    arrive(prev->world);
    return claim(prev);
}

/* In three, and called last: of who switches only this frame is on its parked stack, and only
 * `prev` is in it. */
static NOINLINE PyObject *transfer(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    struct fibril *to = depart(w, prev, next);
    if (LIKELY(to) && UNLIKELY(fibril_turn_hand_over(to) < 0)) {
        return stay(prev);
    }
    return go_on(prev);
}

static NOINLINE PyObject *go_with_care(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    w->refused = true;
    if (UNLIKELY(!next)) {
        return block(w, prev);
    }
    if (UNLIKELY(next->world != w)) {
        return go_elsewhere(w, prev, next);
    }
    if (prev == next) {
        if (--w->ticks == 0 || w->out) {
            fibril__slp_breathe(w);
        }
        w->refused = false;
        return claim(prev);
    }
    if (UNLIKELY(w->switch_trap)) {
        PyErr_SetString(PyExc_RuntimeError, "switch_trap");
        return NULL;
    }
    if (UNLIKELY(prev->pending_irq)) {
        next = divert(w, prev, next);
    }
    if (UNLIKELY(next->place == AT_OUT)) {
        PyErr_SetString(PyExc_RuntimeError, "the tasklet waits for something outside");
        return NULL;
    }
    if (UNLIKELY(fibril__slp_begin(next) < 0)) {
        return PyErr_NoMemory();
    }
    place(w, next);
    notify(w, prev, next);
    if (UNLIKELY(w->interval > 0) && !(w->runflags & RUN_TOTALTIMEOUT)) {
        w->ticks_left = w->interval;
    }
    if (UNLIKELY(--w->ticks == 0)) {
        fibril__slp_breathe(w);
        next = w->current;
        if (next == prev) {
            w->refused = false;
            return claim(prev);
        }
        if (!next) {
            return block(w, prev);
        }
    }
    return LIKELY(fibril__slp_begin(next) == 0) ? transfer(w, prev, next) : no_stack(w);
}

/* To one of the same world that waits for its turn: nobody else runs in between, so its thread
 * state stays the current one. */
static NOINLINE struct fibril *depart_plainly(struct world *w, struct tasklet *prev,
                                              struct tasklet *next)
{
    w->ticks--;
    w->attached = true; /* who comes back from outside takes the GIL without a word */
    w->hidden = true;
    w->turn = w->current = next;
    fibril__pyslice_exchange(&prev->slice, &next->slice, w->ts);
    fibril__pystate_hide();
    return next->fibril;
}

static NOINLINE PyObject *transfer_plainly(struct world *w, struct tasklet *prev,
                                           struct tasklet *next)
{
    if (UNLIKELY(fibril_turn_hand_over(depart_plainly(w, prev, next)) < 0)) {
        return stay(prev);
    }
    return go_on(prev);
}

/* Whether there is nothing to do but that. */
static inline bool is_plain(const struct world *w, const struct tasklet *prev,
                            const struct tasklet *next)
{
    return next && next != prev && next->world == w && next->place == AT_RING && next->begun &&
           !next->away && !prev->pending_irq && w->ticks > 1 && w->keeps && !w->switch_trap &&
           w->interval == 0 && !fibril__slp_schedule_hook;
}

PyObject *fibril__slp_go_noted(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    if (LIKELY(is_plain(w, prev, next))) {
        return transfer_plainly(w, prev, next);
    }
    return go_with_care(w, prev, next);
}
