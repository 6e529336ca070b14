/* SPDX-License-Identifier: MIT */
/*
 * How a tasklet begins and ends: its stack and frames, its call, and who goes on after it. What
 * run() does before the call and after it is in functions of their own, which are on no parked
 * stack.
 */
#include "stackless_turn.h"

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

/* ---- the call ---- */

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
