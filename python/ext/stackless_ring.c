/* SPDX-License-Identifier: MIT */
/*
 * The ring of runnable tasklets. The running one stands first; new ones go to the end, which is
 * right before it. What `next` and `prev` of tasklets show is this ring, so its order is part of
 * the interface.
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
}
