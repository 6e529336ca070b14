/* SPDX-License-Identifier: MIT */
/*
 * What the tasklets of a thread share. The record is found by the thread state; a capsule in the
 * thread state's dict owns it, so it learns when the thread ends.
 *
 * I/O. A tasklet whose fibril parks in something else than a turn (a socket, a sleep, a lock) has
 * let the GIL go. It then loses its turn, and the world's dispatcher, a fibril of its own, lets the
 * next runnable one go on. When its fibril is ready again it is held back; whoever schedules next
 * appends it to the ring, in the order of readiness, and it goes on when it comes to its turn.
 *
 * Invariant: the thread state holds the slice of `turn`, or of the dispatcher while that has the
 * GIL, or nobody's. What happens without the GIL touches only turn, left, back and the slices, and
 * only on the loop's OS thread.
 */
#include "stackless_core.h"

#include <pthread.h>

struct world *fibril__slp_last;
static struct world *worlds;

static const char capsule_name[] = "fibril.stackless";

enum {
    DISPATCHER_FRAMES = 4096,
    TICKS = 64,
    LOOK_AGAIN_NS = 5000000, /* whether there are other threads to wait for */
};

struct world *fibril__slp_worlds(void)
{
    return worlds;
}

/* ---- leaving and coming back: without the GIL ---- */

static struct tasklet *of_turn(struct fibril_turn *turn)
{
    return (struct tasklet *)(void *)((char *)turn - offsetof(struct tasklet, turn));
}

static bool noted_left(const struct world *w, const struct tasklet *t)
{
    for (unsigned i = 0; i < w->left_len; i++) {
        if (w->left[i] == t) {
            return true;
        }
    }
    return false;
}

/* One that parks with the GIL, in a library that does not let it go, keeps its turn. So does one
 * for which there is no room to be noted. */
static void left(struct fibril *f, struct fibril_turn *turn)
{
    (void)f;
    struct tasklet *t = of_turn(turn);
    struct world *w = t->world;
    if (w->turn != t || fibril__pystate_current() == w->ts) {
        return;
    }
    if (!noted_left(w, t)) {
        if (w->left_len == LEFT_MAX) {
            return;
        }
        w->left[w->left_len++] = t;
    }
    fibril__pyslice_save(&t->slice, w->ts);
    t->away = true;
    w->turn = NULL;
    fibril_waker_wake(w->waker);
}

/* When the dispatcher waits for the GIL too, this one may be whom the GIL was given to. */
static bool back(struct fibril *f, struct fibril_turn *turn)
{
    (void)f;
    struct tasklet *t = of_turn(turn);
    struct world *w = t->world;
    if (w->turn == t) {
        return false;
    }
    if (!w->turn && w->acquiring) {
        w->turn = t;
        t->away = false;
        fibril__pyslice_load(&t->slice, w->ts);
        return false;
    }
    t->later = NULL;
    *w->back_end = t;
    w->back_end = &t->later;
    if (!w->turn) {
        fibril_waker_wake(w->waker);
    }
    return true;
}

static const struct fibril_turn_hooks hooks = {.left = left, .back = back};

/* ---- the same, seen with the GIL ---- */

static void take_out(struct world *w, struct tasklet *t)
{
    if (t->place != AT_RING) {
        return;
    }
    fibril__slp_ring_remove(w, t);
    t->place = AT_OUT;
    w->out++;
}

static void bring_in(struct world *w, struct tasklet *t,
                     void (*how)(struct world *w, struct tasklet *t))
{
    if (t->place == AT_OUT) {
        w->out--;
        how(w, t);
    }
}

void fibril__slp_sync(struct world *w)
{
    for (unsigned i = 0; i < w->left_len; i++) {
        take_out(w, w->left[i]);
    }
    w->left_len = 0;
    struct tasklet *t = w->back;
    w->back = NULL;
    w->back_end = &w->back;
    while (t) {
        struct tasklet *later = t->later;
        bring_in(w, t, fibril__slp_ring_append);
        t = later;
    }
    if (w->turn && w->turn != w->current) {
        bring_in(w, w->turn, fibril__slp_ring_first);
    }
}

/* ---- the dispatcher ---- */

/* The threads for which the thread waited have ended: the one that guards it hears of it. */
static void end_wait(struct world *w)
{
    struct tasklet *guard = fibril__slp_guard(w);
    PyObject *bomb = guard->place == AT_QUEUE ? fibril__slp_deadlock_bomb(guard) : NULL;
    if (guard->place == AT_QUEUE) {
        fibril__slp_queue_remove(guard);
    } else if (guard->place == AT_NONE) {
        Py_INCREF(guard);
    } else {
        Py_XDECREF(bomb);
        return;
    }
    if (bomb) {
        tasklet_set_value(guard, bomb);
    }
    fibril__slp_ring_append(w, guard);
}

/* With the GIL, in its own slice. */
static void choose(struct world *w)
{
    fibril__slp_sync(w);
    if (!w->current && w->idle && !fibril__slp_world_hopeful(w)) {
        end_wait(w);
    }
    if (w->current && fibril__slp_schedule_hook && w->current->begun) {
        PyObject *result =
            PyObject_CallFunction(fibril__slp_schedule_hook, "OO", Py_None, object_of(w->current));
        if (!result) {
            PyErr_WriteUnraisable(fibril__slp_schedule_hook);
        }
        Py_XDECREF(result);
    }
}

static void dispatch_once(struct world *w, void *frames)
{
    w->acquiring = true;
    PyEval_RestoreThread(w->ts);
    w->acquiring = false;
    if (!w->turn) {
        struct fibril__pyslice slice = {0};
        fibril__pyslice_fresh(&slice, w->ts, frames, DISPATCHER_FRAMES);
        choose(w);
        fibril__pyslice_ended(&slice, w->ts);
        fibril__pyslice_clear(&slice);
    }
    struct tasklet *next = w->turn ? NULL : w->current;
    if (next && fibril__slp_begin(next) < 0) {
        next = NULL;
    }
    PyEval_SaveThread();
    if (next) {
        w->turn = next;
        w->attached = false;
        w->idle = false;
        next->away = false;
        if (next->begun) {
            fibril__pyslice_load(&next->slice, w->ts);
        }
        fibril_turn_let(next->fibril);
    }
}

static int dispatch(void *arg)
{
    struct world *w = arg;
    void *frames = PyMem_RawMalloc(DISPATCHER_FRAMES);
    while (frames && w->ts) {
        bool unsure = w->idle && w->out == 0;
        fibril_waker_wait(w->waker, unsure ? fibril_after(LOOK_AGAIN_NS) : FIBRIL_FOREVER);
        fibril_cancel_clear();
        if (w->ts && !w->turn && !fibril__py.ending) {
            dispatch_once(w, frames);
        }
    }
    PyMem_RawFree(frames);
    return 0;
}

void fibril__slp_world_nudge(struct world *w)
{
    if (w->ts && w->waker) {
        fibril_waker_wake(w->waker);
    }
}

bool fibril__slp_world_hopeful(const struct world *w)
{
    if (w->out > 0) {
        return true;
    }
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(w->ts));
    for (; ts; ts = PyThreadState_Next(ts)) {
        struct world *other = worlds;
        while (other && other->ts != ts) {
            other = other->next_world;
        }
        bool waits = other && other->idle && !other->current && other->out == 0;
        if (ts != w->ts && ts != fibril__py.keeper && !waits) {
            return true;
        }
    }
    return false;
}

/* ---- the end ---- */

void fibril__slp_world_unref(struct world *w)
{
    if (--w->refs == 0) {
        fibril_waker_free(w->waker);
        PyMem_Free(w);
    }
}

static void forget(struct world *w)
{
    struct world **at = &worlds;
    while (*at && *at != w) {
        at = &(*at)->next_world;
    }
    if (*at) {
        *at = w->next_world;
    }
    if (fibril__slp_last == w) {
        fibril__slp_last = NULL;
    }
}

static void empty_ring(struct world *w)
{
    while (w->current && w->current->next != w->current) {
        struct tasklet *t = w->current->next == w->main ? w->main->next : w->current->next;
        if (t == w->main) {
            break;
        }
        fibril__slp_ring_remove(w, t);
        fibril__slp_abandon(t);
        Py_DECREF(t);
    }
}

static void leave_loop(struct world *w)
{
    struct fibril *self = fibril_current();
    fibril_turn_leave(self, &w->main->turn);
    fibril_waker_wake(w->waker);
    PyThreadState *ts = PyEval_SaveThread();
    fibril_shield_begin();
    fibril_join(w->dispatcher, FIBRIL_FOREVER, NULL);
    fibril_shield_end();
    if (w->loop_ours) {
        fibril_loop_detach();
    }
    PyEval_RestoreThread(ts);
}

/* Runs when the thread state is cleared: in its thread, or, when the interpreter ends, in another
 * one while its own may still be somewhere inside. */
static void thread_ended(PyObject *capsule)
{
    struct world *w = PyCapsule_GetPointer(capsule, capsule_name);
    bool here = fibril__pystate_current() == w->ts && w->turn == w->main && !fibril__py.ending;
    forget(w);
    if (here) {
        fibril__slp_sync(w);
        empty_ring(w);
    }
    w->ts = NULL;
    if (here && w->waker && fibril_current()) {
        leave_loop(w);
        Py_CLEAR(w->main);
        fibril__slp_world_unref(w);
    }
}

/* ---- making ---- */

static int start_dispatcher(struct world *w)
{
    if (!fibril_current()) {
        static const struct fibril_opts opts = {.no_sigquit_dump = true};
        struct fibril_loop *loop;
        int rc = fibril_loop_attach(&opts, &loop);
        if (rc < 0) {
            return rc;
        }
        w->loop_ours = true;
    }
    int rc = fibril_waker_new(&w->waker);
    static const struct fibril_spawn_opts opts = {.name = "stackless", .daemon = true};
    rc = rc < 0 ? rc : fibril_spawn(dispatch, w, &opts, &w->dispatcher);
    if (rc == 0) {
        fibril_shield_begin();
        fibril_shield_end();
    }
    return rc;
}

static int make_main(struct world *w)
{
    w->main = fibril__slp_tasklet_new(fibril__slp_tasklet, w);
    if (!w->main) {
        return -1;
    }
    struct tasklet *t = w->main;
    t->main = t->begun = true;
    t->value = Py_NewRef(Py_None);
    t->fibril = fibril_current();
    t->turn.leader = t->fibril;
    fibril_turn_join(t->fibril, &t->turn);
    Py_INCREF(t);
    fibril__slp_ring_append(w, t);
    w->turn = t;
    w->attached = true;
    return 0;
}

static struct world *new_world(PyThreadState *ts, PyObject *dict)
{
    struct world *w = PyMem_Calloc(1, sizeof *w);
    if (!w) {
        PyErr_NoMemory();
        return NULL;
    }
    w->refs = 1;
    w->ts = ts;
    w->thread_id = PyThread_get_thread_ident();
    w->back_end = &w->back;
    w->ticks = TICKS;
    fibril_turn_hooks(&hooks);
    int rc = start_dispatcher(w);
    if (rc < 0) {
        fibril_waker_free(w->waker);
        PyMem_Free(w);
        fibril__py_raise(rc);
        return NULL;
    }
    w->keeps = fibril__pystate_can_swap() && fibril_loop_current() == fibril__py.loop;
    if (make_main(w) < 0) {
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(w, capsule_name, thread_ended);
    if (!capsule || PyDict_SetItemString(dict, capsule_name, capsule) < 0) {
        Py_XDECREF(capsule);
        return NULL;
    }
    Py_DECREF(capsule);
    w->next_world = worlds;
    worlds = w;
    return w;
}

struct world *fibril__slp_world_slow(PyThreadState *ts)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *dict = PyThreadState_GetDict();
    PyObject *capsule = dict ? PyDict_GetItemString(dict, capsule_name) : NULL;
    struct world *w = NULL;
    if (capsule) {
        w = PyCapsule_GetPointer(capsule, capsule_name);
    } else if (dict) {
        w = new_world(ts, dict);
    } else {
        PyErr_NoMemory();
    }
    if (!w) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return NULL;
    }
    PyErr_Restore(type, value, traceback);
    fibril__slp_last = w;
    return w;
}
