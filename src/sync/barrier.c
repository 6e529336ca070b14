/* SPDX-License-Identifier: MIT */
/*
 * Barriers: the last of `parties` fibrils to come releases the others, and the barrier is ready for
 * the next round. One that gives up leaves the list and is uncounted; the round then needs another
 * in its place. Released fibrils belong to a finished round: they are off the list, so the next
 * round cannot mix with it.
 *
 * Invariant, outside the spin lock: `here` is the length of the list and below `parties`.
 */
#include "sync/waiters.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril_barrier {
    struct fibril__waiters waiters; /* first */
    unsigned parties;
    unsigned here; /* under the spin lock */
};

static bool barrier_abort(struct fibril *f, int error)
{
    (void)error;
    struct fibril_barrier *b = f->wait_on;
    fibril__spin_lock(&b->waiters.spin);
    bool left = fibril__waiters_leave(f);
    b->here -= left;
    fibril__spin_unlock(&b->waiters.spin);
    return left;
}

static const struct fibril__wait_kind barrier_wait = {
    .name = "barrier",
    .reason = FIBRIL__BY_OTHER,
    .abort = barrier_abort,
};

int fibril_barrier_new(unsigned parties, unsigned flags, struct fibril_barrier **ret_barrier)
{
    if (!parties || (flags & ~(unsigned)FIBRIL_SHARED)) {
        return -EINVAL;
    }
    struct fibril_barrier *b = fibril__alloc(sizeof(*b));
    if (!b) {
        return -ENOMEM;
    }
    b->parties = parties;
    b->here = 0;
    fibril__waiters_init(&b->waiters, flags);
    *ret_barrier = b;
    return 0;
}

void fibril_barrier_free(struct fibril_barrier *b)
{
    FIBRIL_ASSERT(!b || fibril__list_empty(&b->waiters.list));
    fibril__free(b);
}

int fibril_barrier_wait(struct fibril_barrier *b, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    struct fibril__chain released = {NULL, NULL};
    fibril__spin_lock(&b->waiters.spin);
    bool last = b->here + 1 == b->parties;
    if (last) {
        b->here = 0;
        fibril__chain_add_all(&released, &b->waiters);
    } else {
        b->here++;
        fibril__list_push(&b->waiters.list, &self->link);
    }
    fibril__spin_unlock(&b->waiters.spin);
    if (!last) {
        return (int)fibril__park(&barrier_wait, b, deadline_ns);
    }
    fibril__chain_wake(&released, 0);
    fibril__may_have_parked();
    return 1;
}
