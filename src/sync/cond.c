/* SPDX-License-Identifier: MIT */
/*
 * Conditions. A waiter joins the queue while it still owns the mutex, so a signal given by the next
 * owner finds it; a wait ends by a signal, by its deadline or by cancellation, never for no reason,
 * and a signal is spent on exactly one fibril that was waiting when it was given.
 *
 * The woken fibril locks the mutex itself. Rejected: moving it to the mutex's queue when it is
 * signalled, which saves a switch only if the signaller keeps the mutex, and ties a condition to
 * one mutex.
 */
#include "sync/mutex.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril_cond {
    struct fibril__waiters waiters; /* first, and all there is */
};

static const struct fibril__wait_kind cond_wait = {
    .name = "condition",
    .reason = FIBRIL__BY_LOCK,
    .abort = fibril__waiters_abort,
};

int fibril_cond_new(unsigned flags, struct fibril_cond **ret_cond)
{
    if (flags & ~(unsigned)FIBRIL_SHARED) {
        return -EINVAL;
    }
    struct fibril_cond *c = fibril__alloc(sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    fibril__waiters_init(&c->waiters, flags);
    *ret_cond = c;
    return 0;
}

void fibril_cond_free(struct fibril_cond *c)
{
    FIBRIL_ASSERT(!c || fibril__list_empty(&c->waiters.list));
    fibril__free(c);
}

int fibril_cond_wait(struct fibril_cond *c, struct fibril_mutex *m, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self || fibril_mutex_owner(m) != self)) {
        return -EPERM;
    }
    fibril__spin_lock(&c->waiters.spin);
    fibril__list_push(&c->waiters.list, &self->link);
    fibril__spin_unlock(&c->waiters.spin);
    unsigned depth = fibril__mutex_leave(m);
    int error = (int)fibril__park(&cond_wait, c, deadline_ns);
    int unlocked = fibril__mutex_return(m, depth);
    return unlocked ? unlocked : error;
}

void fibril_cond_signal(struct fibril_cond *c)
{
    fibril__spin_lock(&c->waiters.spin);
    struct fibril *f = fibril__waiters_pop(&c->waiters);
    fibril__spin_unlock(&c->waiters.spin);
    if (f) {
        fibril__wake(f, 0);
    }
}

void fibril_cond_broadcast(struct fibril_cond *c)
{
    struct fibril__chain woken = {NULL, NULL};
    fibril__spin_lock(&c->waiters.spin);
    fibril__chain_add_all(&woken, &c->waiters);
    fibril__spin_unlock(&c->waiters.spin);
    fibril__chain_wake(&woken, 0);
}
