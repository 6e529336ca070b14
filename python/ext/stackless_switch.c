/* SPDX-License-Identifier: MIT */
/*
 * Who runs next, and how a tasklet begins and ends. All that may run Python comes before a switch
 * or after it; from saving one slice until the other is loaded nothing is called but the switch.
 */
#include "stackless_core.h"

enum { TICKS = 64 };

/* ---- queues of channels ---- */

void fibril__slp_queue_append(struct channel *c, struct tasklet *t, int direction)
{
    t->place = AT_QUEUE;
    t->blocked = (int8_t)direction;
    t->channel = c;
    t->next = NULL;
    t->prev = c->tail;
    *(c->tail ? &c->tail->next : &c->head) = t;
    c->tail = t;
    c->balance += direction;
}

void fibril__slp_queue_remove(struct tasklet *t)
{
    struct channel *c = t->channel;
    *(t->prev ? &t->prev->next : &c->head) = t->next;
    *(t->next ? &t->next->prev : &c->tail) = t->prev;
    c->balance -= t->blocked;
    t->next = t->prev = NULL;
    t->blocked = 0;
    t->channel = NULL;
    t->place = AT_NONE;
}

/* ---- beginning ---- */

static int run(void *arg);

static void enlist(struct tasklet *t)
{
    struct world *w = t->world;
    t->next_live = w->live;
    t->live = &w->live;
    if (w->live) {
        w->live->live = &t->next_live;
    }
    w->live = t;
}

static void delist(struct tasklet *t)
{
    *t->live = t->next_live;
    if (t->next_live) {
        t->next_live->live = t->live;
    }
    t->next_live = NULL;
    t->live = NULL;
}

/* Gives t a stack and frames. -1 without an exception: no memory. */
static int begin(struct tasklet *t)
{
    t->frames = PyObject_Malloc(TASKLET_FRAMES);
    t->turn.leader = t->world->main->fibril;
    if (!t->frames || fibril_turn_new(run, t, &t->turn, &t->fibril) < 0) {
        PyObject_Free(t->frames);
        t->frames = NULL;
        return -1;
    }
    enlist(t);
    return 0;
}

int fibril__slp_begin(struct tasklet *t)
{
    return t->fibril ? 0 : begin(t);
}

void *fibril__slp_at(void *arg, void *p)
{
    struct tasklet *t = arg;
    return t->fibril ? fibril_turn_at(t->fibril, p) : p;
}

void fibril__slp_abandon(struct tasklet *t)
{
    if (!t->fibril || t->main || t->away) {
        return;
    }
    bool free = !t->begun || fibril__pyslice_abandon(&t->slice, fibril__slp_at, t);
    fibril__slp_forget_thrown(t);
    fibril_turn_drop(t->fibril);
    t->fibril = NULL;
    delist(t);
    if (free) {
        PyObject_Free(t->frames);
    }
    t->frames = NULL;
    t->ended = true;
}

/* ---- the switch itself ---- */

/* Whoever arrives drops the one that has ended. */
static inline void arrive(struct world *w)
{
    w->refused = false;
    if (UNLIKELY(!w->attached)) {
        w->attached = true;
        PyEval_RestoreThread(w->ts);
    } else if (fibril__pystate_current() != w->ts) {
        fibril__pystate_swap(w->ts);
    }
    struct tasklet *dead = w->dead;
    if (UNLIKELY(dead)) {
        w->dead = NULL;
        Py_DECREF(dead);
    }
}

/* The GIL goes with the turn, or, where that cannot be, is let go. */
static inline void let_go(struct world *w)
{
    w->attached = w->keeps;
    if (LIKELY(w->keeps)) {
        fibril__pystate_keep();
    } else {
        PyEval_SaveThread();
    }
}

static inline void give_turn(struct world *w, struct tasklet *next)
{
    w->turn = next;
    if (LIKELY(next->begun)) {
        fibril__pyslice_load(&next->slice, w->ts);
    }
}

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

static inline PyObject *claim(struct tasklet *t)
{
    PyObject *value = t->value;
    t->value = Py_NewRef(Py_None);
    if (value == TASKLET_ITSELF) {
        Py_DECREF(value);
        return Py_NewRef(object_of(t));
    }
    return UNLIKELY(fibril__slp_is_bomb(value)) ? fibril__slp_bomb_explode(value) : value;
}

static NOINLINE void call_hook(struct world *w, struct tasklet *prev, struct tasklet *next)
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

static inline void notify(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    if (UNLIKELY(fibril__slp_schedule_hook)) {
        call_hook(w, prev, next);
    }
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
    return fibril__slp_go(w, prev, guard);
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

static inline void place(struct world *w, struct tasklet *next)
{
    if (next->place == AT_QUEUE) {
        fibril__slp_queue_remove(next);
        fibril__slp_ring_append(w, next);
    } else if (next->place == AT_NONE) {
        Py_INCREF(next);
        fibril__slp_ring_append(w, next);
    }
    w->current = next;
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

PyObject *fibril__slp_go(struct world *w, struct tasklet *prev, struct tasklet *next)
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

/* ---- ending ---- */

/* The error handler takes care of it, or the exception (perhaps another one) becomes a bomb. */
static PyObject *handle_error(void)
{
    PyObject *raised = fibril__py_take_exception();
    PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
    Py_DECREF(raised);
    if (PyErr_ExceptionMatches(fibril__slp_exit)) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    if (fibril__slp_error_hook) {
        PyObject *type, *value, *traceback, *hook = Py_NewRef(fibril__slp_error_hook);
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        PyObject *result =
            PyObject_CallFunctionObjArgs(hook, type, value, traceback ? traceback : Py_None, NULL);
        Py_DECREF(hook);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        if (result) {
            Py_DECREF(result);
            return Py_NewRef(Py_None);
        }
    }
    PyObject *bomb = fibril__slp_bomb_current();
    if (!bomb) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return bomb;
}

PyObject *fibril__slp_deadlock_bomb(const struct tasklet *guard)
{
    PyErr_SetString(PyExc_RuntimeError,
                    guard->blocked < 0
                        ? "the main tasklet is receiving without a sender available."
                        : "the main tasklet is sending without a receiver available.");
    return fibril__slp_bomb_current();
}

/* Who goes on when a tasklet has ended with `result`, which is None or a bomb. NULL: nobody yet. */
static struct tasklet *heir(struct world *w, PyObject *result)
{
    struct tasklet *guard = fibril__slp_guard(w), *next = w->current;
    bool bomb = fibril__slp_is_bomb(result);
    if (!next && !bomb) {
        bool wait = w->out > 0 || ((w->runflags & RUN_THREADBLOCK || guard->place == AT_QUEUE) &&
                                   fibril__slp_world_hopeful(w));
        if (wait) {
            Py_DECREF(result);
            return NULL;
        }
        next = guard;
        if (guard->blocked) {
            Py_SETREF(result, fibril__slp_deadlock_bomb(guard));
            bomb = result != NULL;
        }
    }
    if (bomb && guard->away) {
        fibril__slp_throw_out(guard, result);
        next = guard->place == AT_RING ? guard : w->current;
    } else if (bomb) {
        next = guard;
        tasklet_set_value(guard, result);
    } else {
        Py_XDECREF(result);
    }
    return next;
}

/* Arranges that `next` runs when the calling fibril has ended. From here on no Python. */
static void pass_on(struct world *w, struct tasklet *next)
{
    if (next && next->thrown) {
        fibril__slp_announce(next);
    }
    if (!next || next->away) {
        w->attached = false;
        PyEval_SaveThread();
    } else {
        let_go(w);
    }
    if (!next) {
        w->idle = true;
        w->turn = NULL;
        fibril_waker_wake(w->waker);
        return;
    }
    next->away = false;
    give_turn(w, next);
    fibril_turn_let_first(next->fibril);
}

/* What is left of a result when nobody can ask for it. May run Python, and park. */
static PyObject *outcome(PyObject *result)
{
    result = result ? result : handle_error();
    if (!fibril__slp_is_bomb(result)) {
        Py_SETREF(result, Py_NewRef(Py_None));
    }
    return result;
}

/* Not inlined, as all that run() does but the call: its variables would be on each parked stack. */
static NOINLINE void end(PyObject *result, struct tasklet *t)
{
    struct world *w = t->world;
    result = outcome(result);
    Py_CLEAR(t->call);
    fibril__slp_sync(w);
    t->ended = true;
    fibril__slp_ring_remove(w, t);
    struct tasklet *next = heir(w, result);
    if (next) {
        while (fibril__slp_begin(next) < 0) {
            fibril__slp_breathe(w);
        }
        place(w, next);
    }
    notify(w, t, next);
    fibril__pyslice_ended(&t->slice, w->ts);
    w->dead = t;
    PyObject_Free(t->frames);
    t->frames = NULL;
    fibril__slp_forget_thrown(t);
    fibril_turn_leave(t->fibril, &t->turn);
    t->fibril = NULL;
    delist(t);
    pass_on(w, next);
}

PyObject *fibril__slp_claim(struct tasklet *t)
{
    return claim(t);
}

/* Whether it may run its function: not, with an exception set, if it has been killed before. */
static NOINLINE bool may_call(struct tasklet *t)
{
    PyObject *fn = PyTuple_CheckExact(t->call) ? PyTuple_GET_ITEM(t->call, 0) : t->call;
    PyObject *value = fn == fibril__slp_resume ? Py_NewRef(Py_None) : claim(t);
    Py_XDECREF(value);
    return value != NULL;
}

/* NULL: it has to be called as anything else is. */
static NOINLINE vectorcallfunc direct_call(const struct tasklet *t)
{
    if (!PyTuple_CheckExact(t->call)) {
        return PyVectorcall_Function(t->call);
    }
    bool plain = PyTuple_GET_ITEM(t->call, 2) == Py_None;
    return plain ? PyVectorcall_Function(PyTuple_GET_ITEM(t->call, 0)) : NULL;
}

static NOINLINE PyObject *call_otherwise(PyObject *call)
{
    PyObject *kwargs = PyTuple_GET_ITEM(call, 2);
    return PyObject_Call(PyTuple_GET_ITEM(call, 0), PyTuple_GET_ITEM(call, 1),
                         kwargs == Py_None ? NULL : kwargs);
}

/* Straight to what the callable has for it: a step less of PyObject_Call's on each parked stack.
 * The call stays where the garbage collector sees it: here it would keep alive what refers to t. */
static inline PyObject *call(const struct tasklet *t)
{
    vectorcallfunc direct = direct_call(t);
    PyObject *call = t->call;
    if (!PyTuple_CheckExact(call)) {
        return direct(call, NULL, 0, NULL);
    }
    PyObject *fn = PyTuple_GET_ITEM(call, 0), *args = PyTuple_GET_ITEM(call, 1);
    if (direct) {
        return direct(fn, &PyTuple_GET_ITEM(args, 0), (size_t)PyTuple_GET_SIZE(args), NULL);
    }
    return call_otherwise(call);
}

/* Calls under way are counted from the same number on, whoever is switched from. */
static void begin_slice(struct world *w, struct tasklet *t)
{
    size_t bytes;
    const void *low = fibril_turn_stack(t->fibril, &bytes);
    fibril__pyslice_fresh(&t->slice, w->ts, t->frames, TASKLET_FRAMES);
    fibril__pyslice_on_stack(w->ts, low, bytes);
    fibril__pyslice_save(&t->slice, w->ts);
    fibril__pyslice_count_from(&t->slice, w->c_depth);
    fibril__pyslice_load(&t->slice, w->ts);
}

static NOINLINE void arrive_first(struct tasklet *t)
{
    begin_slice(t->world, t);
    t->begun = true;
    arrive(t->world);
}

static int run(void *arg)
{
    struct tasklet *t = arg;
    arrive_first(t);
    if (may_call(t)) {
        end(call(t), t);
    } else {
        end(NULL, t);
    }
    return 0;
}
