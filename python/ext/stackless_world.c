/* SPDX-License-Identifier: MIT */
/*
 * The world of a thread, which its tasklets share: waiting for something to do, and I/O. Making and
 * ending worlds is in stackless_thread.c.
 *
 * A tasklet whose fibril parks in something else than a turn (a socket, a sleep, a lock) has
 * let the GIL go. It then loses its turn, and the world's dispatcher, a fibril of its own, lets the
 * next runnable one go on. When its fibril is ready again it is held back; whoever schedules next
 * appends it to the ring, in the order of readiness, and it goes on when it comes to its turn.
 *
 * Invariant: the thread state holds the slice of `turn`, or of the dispatcher while that has the
 * GIL, or nobody's. What happens without the GIL touches only turn, left, back and the slices, and
 * only on the loop's OS thread.
 */
#include "stackless_core.h"

enum {
    DISPATCHER_FRAMES = 4096,
    LOOK_AGAIN_NS = 5000000, /* whether there are other threads to wait for */
};

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

/* Waiting for the GIL, or for anything else that is the interpreter's own, ends no turn: threads
 * exchange the GIL anywhere, and a tasklet must not notice. Nor does a file: importing a module is
 * nothing in which others of the thread should find themselves. Nor does what a callback waits for.
 * One that parks with the GIL, in a library that does not let it go, keeps its turn; one that is
 * between leave and enter (fibril_py.h) has let go of Python even where the GIL is kept for the
 * next. */
static bool keeps_turn(const struct fibril *f, const struct world *w)
{
    if (w->schedlock || fibril_embed_waits_for_file(f) ||
        fibril__pystate_is_runtime(fibril_embed_waits_for(f))) {
        return true;
    }
    const struct pyfibril *p = fibril__py_of(f);
    return fibril__pystate_current() == w->ts && !(p && p->ours);
}

/* One for which there is no room to be noted keeps it, too. */
static void left(struct fibril *f, struct fibril_turn *turn)
{
    struct tasklet *t = of_turn(turn);
    struct world *w = t->world;
    if (w->turn != t || keeps_turn(f, w)) {
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

/* When the dispatcher waits for the GIL too, this one may be whom the GIL was given to. What it has
 * been thrown takes the GIL to announce. */
static bool back(struct fibril *f, struct fibril_turn *turn)
{
    (void)f;
    struct tasklet *t = of_turn(turn);
    struct world *w = t->world;
    if (w->turn == t) {
        return false;
    }
    if (!w->turn && w->acquiring && !t->thrown) {
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

const struct fibril_turn_hooks fibril__slp_hooks = {.left = left, .back = back};

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
        void *low;
        size_t bytes;
        fibril__pyslice_fresh(&slice, w->ts, frames, DISPATCHER_FRAMES);
        if (fibril_embed_stack(w->dispatcher, &low, &bytes, NULL) == 0) {
            fibril__pyslice_on_stack(w->ts, low, bytes);
        }
        choose(w);
        fibril__pyslice_ended(&slice, w->ts);
        fibril__pyslice_clear(&slice);
    }
    struct tasklet *next = w->turn ? NULL : w->current;
    if (next && fibril__slp_begin(next) < 0) {
        next = NULL;
    }
    if (next && next->thrown) {
        fibril__slp_announce(next);
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

int fibril__slp_dispatch(void *arg)
{
    struct world *w = arg;
    char frames[DISPATCHER_FRAMES] __attribute__((aligned(16)));
    while (w->ts) {
        bool unsure = w->idle && w->out == 0;
        fibril_waker_wait(w->waker, unsure ? fibril_after(LOOK_AGAIN_NS) : FIBRIL_FOREVER);
        fibril_cancel_clear();
        if (w->ts && !w->turn && !fibril__py.ending) {
            dispatch_once(w, frames);
        }
    }
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
        const struct world *other = fibril__slp_world_of(ts);
        bool waits = other && other->idle && !other->current && other->out == 0;
        if (ts != w->ts && ts != fibril__py.keeper && ts != fibril__py.ticker && !waits) {
            return true;
        }
    }
    return false;
}
