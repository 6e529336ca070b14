/* SPDX-License-Identifier: MIT */
/*
 * What every lock, semaphore, event and barrier starts with: the spin lock and the fibrils that
 * wait, first come, first served, linked by their own records. Who ends a wait takes the fibril off
 * the list under the spin lock and wakes it after releasing that lock, as the last thing: a woken
 * waiter may free the object at once.
 *
 * Invariant: a fibril is in the list exactly while link.prev is set. Inboxes, run queues and the
 * chains below use link.next alone, so `prev`, read under the spin lock, tells abort whether a
 * wake-up is on its way already.
 */
#ifndef FIBRIL_SYNC_WAITERS_H
#define FIBRIL_SYNC_WAITERS_H

#include "sched/current.h"
#include "sched/wait.h"
#include "base/spin.h"

struct fibril__waiters {
    struct fibril__spin spin;
    struct fibril__list list;
};

static inline void fibril__waiters_init(struct fibril__waiters *w, unsigned flags)
{
    w->spin = (struct fibril__spin){.shared = flags & FIBRIL_SHARED};
    fibril__list_init(&w->list);
}

/* Takes the longest waiter off the list, NULL if there is none. Under the spin lock. */
static inline struct fibril *fibril__waiters_pop(struct fibril__waiters *w)
{
    struct fibril__link *l = fibril__list_pop(&w->list);
    return l ? CONTAINER_OF(l, struct fibril, link) : NULL;
}

static inline struct fibril *fibril__waiters_first(const struct fibril__waiters *w)
{
    struct fibril__link *l = fibril__list_first(&w->list);
    return l ? CONTAINER_OF(l, struct fibril, link) : NULL;
}

/* Takes f off the list it is in; false if somebody has done so already. Under the spin lock. */
static inline bool fibril__waiters_leave(struct fibril *f)
{
    if (!f->link.prev) {
        return false;
    }
    fibril__link_remove(&f->link);
    return true;
}

/* The abort of a kind whose object starts with its waiters and keeps no account of them. */
static inline bool fibril__waiters_abort(struct fibril *f, int error)
{
    (void)error;
    struct fibril__waiters *w = f->wait_on;
    fibril__spin_lock(&w->spin);
    bool left = fibril__waiters_leave(f);
    fibril__spin_unlock(&w->spin);
    return left;
}

/* Fibrils taken off lists under a spin lock, to be woken in that order when it is released. */
struct fibril__chain {
    struct fibril__link *first, *last;
};

static inline void fibril__chain_add(struct fibril__chain *c, struct fibril *f)
{
    f->link.next = NULL;
    if (c->last) {
        c->last->next = &f->link;
    } else {
        c->first = &f->link;
    }
    c->last = &f->link;
}

static inline void fibril__chain_add_all(struct fibril__chain *c, struct fibril__waiters *w)
{
    struct fibril *f;
    while ((f = fibril__waiters_pop(w)) != NULL) {
        fibril__chain_add(c, f);
    }
}

static inline void fibril__chain_wake(const struct fibril__chain *c, int64_t result)
{
    for (struct fibril__link *l = c->first; l;) {
        struct fibril *f = CONTAINER_OF(l, struct fibril, link);
        l = l->next;
        fibril__wake(f, result);
    }
}

/* Parks on an object that, if it is shared, an OS thread without a loop may end the wait for: no
 * deadlock then. */
static inline int64_t fibril__park_outside(const struct fibril__wait_kind *kind,
                                           struct fibril__waiters *w, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    bool shared = w->spin.shared;
    loop->outside += shared;
    int64_t result = fibril__park(kind, w, deadline_ns);
    loop->outside -= shared;
    return result;
}

/* Ends a call that may park and did not: in the hard flavour others may run here all the same. */
static inline void fibril__may_have_parked(void)
{
#if FIBRIL_HARD
    fibril__spend();
#endif
}

#endif
