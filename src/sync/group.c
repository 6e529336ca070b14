/* SPDX-License-Identifier: MIT */
/*
 * Wait groups: a count of what is still to be done, and those who wait until it is back at zero.
 * Reaching zero releases everyone who waits at that moment, even if the count rises again before
 * they run.
 *
 * Invariant: nobody waits while the count is zero.
 */
#include "sync/waiters.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril_group {
    struct fibril__waiters waiters; /* first */
    int64_t count;                  /* under the spin lock; 64 bits: INT_MAX at a time, it lasts */
};

static const struct fibril__wait_kind group_wait = {
    .name = "group",
    .reason = FIBRIL__BY_OTHER,
    .abort = fibril__waiters_abort,
};

int fibril_group_new(unsigned flags, struct fibril_group **ret_group)
{
    if (flags & ~(unsigned)FIBRIL_SHARED) {
        return -EINVAL;
    }
    struct fibril_group *g = fibril__alloc(sizeof(*g));
    if (!g) {
        return -ENOMEM;
    }
    g->count = 0;
    fibril__waiters_init(&g->waiters, flags);
    *ret_group = g;
    return 0;
}

void fibril_group_free(struct fibril_group *g)
{
    FIBRIL_ASSERT(!g || fibril__list_empty(&g->waiters.list));
    fibril__free(g);
}

int fibril_group_add(struct fibril_group *g, int n)
{
    if (UNLIKELY(!fibril__self())) {
        return -EPERM;
    }
    struct fibril__chain woken = {NULL, NULL};
    fibril__spin_lock(&g->waiters.spin);
    bool misused = n < 0 && g->count < -(int64_t)n;
    if (!misused) {
        g->count += n;
        if (g->count == 0) {
            fibril__chain_add_all(&woken, &g->waiters);
        }
    }
    fibril__spin_unlock(&g->waiters.spin);
    fibril__chain_wake(&woken, 0);
    return misused ? -EINVAL : 0;
}

int fibril_group_done(struct fibril_group *g)
{
    return fibril_group_add(g, -1);
}

int fibril_group_wait(struct fibril_group *g, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    fibril__spin_lock(&g->waiters.spin);
    bool done = g->count == 0;
    if (!done) {
        fibril__list_push(&g->waiters.list, &self->link);
    }
    fibril__spin_unlock(&g->waiters.spin);
    if (!done) {
        return (int)fibril__park(&group_wait, g, deadline_ns);
    }
    fibril__may_have_parked();
    return 0;
}
