/* SPDX-License-Identifier: MIT */
/*
 * Where tasklets stand: the ring of runnable ones, and the queues of channels. In the ring the
 * running one stands first; new ones go to the end, which is right before it. What `next` and
 * `prev` of tasklets show is this ring, so its order is part of the interface.
 *
 * One in the ring is alive whatever refers to it, and so is all that it refers to. The garbage
 * collector learns nothing by looking at it, so new ones are hidden from it until they first leave
 * the ring: of a million that are made at once, all would be looked at again and again.
 */
#include "stackless_core.h"

static void link_before(struct world *w, struct tasklet *t, struct tasklet *at)
{
    t->place = AT_RING;
    w->runcount++;
    if (!at) {
        t->next = t->prev = t;
        w->current = t;
        return;
    }
    t->next = at;
    t->prev = at->prev;
    at->prev->next = t;
    at->prev = t;
}

void fibril__slp_ring_append(struct world *w, struct tasklet *t)
{
    link_before(w, t, w->current);
}

void fibril__slp_ring_follow(struct world *w, struct tasklet *t)
{
    link_before(w, t, w->current ? w->current->next : NULL);
}

void fibril__slp_ring_first(struct world *w, struct tasklet *t)
{
    link_before(w, t, w->current);
    w->current = t;
}

void fibril__slp_ring_remove(struct world *w, struct tasklet *t)
{
    w->runcount--;
    if (w->current == t) {
        w->current = t->next == t ? NULL : t->next;
    }
    t->next->prev = t->prev;
    t->prev->next = t->next;
    t->next = t->prev = NULL;
    t->place = AT_NONE;
    if (UNLIKELY(t->hidden)) {
        t->hidden = false;
        PyObject_GC_Track(t);
    }
}

void fibril__slp_ring_hide(struct tasklet *t)
{
    if (!t->hidden && t->place == AT_RING && PyObject_GC_IsTracked((PyObject *)t)) {
        t->hidden = true;
        PyObject_GC_UnTrack(t);
    }
}

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
