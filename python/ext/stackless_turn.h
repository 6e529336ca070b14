/* SPDX-License-Identifier: MIT */
/*
 * The steps of a switch that one which begins or ends takes as well (stackless_switch.c and
 * stackless_life.c). From the saving of one slice until the other is loaded no Python may run.
 */
#ifndef FIBRIL_PY_STACKLESS_TURN_H
#define FIBRIL_PY_STACKLESS_TURN_H

#include "stackless_core.h"

/* Whoever arrives drops the one that has ended. */
static inline void arrive(struct world *w)
{
    w->refused = false;
    if (UNLIKELY(!w->attached)) {
        w->attached = true;
        PyEval_RestoreThread(w->ts);
    } else if (LIKELY(w->hidden)) {
        fibril__pystate_show(w->ts);
    } else if (fibril__pystate_current() != w->ts) {
        fibril__pystate_swap(w->ts);
    }
    w->hidden = false;
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

/* Tells the schedule callback, if there is one. */
void fibril__slp_call_hook(struct world *w, struct tasklet *prev, struct tasklet *next);

static inline void notify(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    if (UNLIKELY(fibril__slp_schedule_hook)) {
        fibril__slp_call_hook(w, prev, next);
    }
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

#endif
