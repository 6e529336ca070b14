/* SPDX-License-Identifier: MIT */
/*
 * Counting semaphores. A post goes straight to the longest waiter, if there is one, and raises the
 * count otherwise, so nobody who comes later can take it away.
 *
 * Invariant: while anybody waits the count is zero.
 */
#include "sync/waiters.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <limits.h>

struct fibril_sem {
    struct fibril__waiters waiters; /* first */
    unsigned count;                 /* under the spin lock */
};

static const struct fibril__wait_kind sem_wait_kind = {
    .name = "semaphore",
    .reason = FIBRIL__BY_LOCK,
    .abort = fibril__waiters_abort,
};

int fibril_sem_new(unsigned count, unsigned flags, struct fibril_sem **ret_sem)
{
    if (flags & ~(unsigned)FIBRIL_SHARED) {
        return -EINVAL;
    }
    struct fibril_sem *s = fibril__alloc(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->count = count;
    fibril__waiters_init(&s->waiters, flags);
    *ret_sem = s;
    return 0;
}

void fibril_sem_free(struct fibril_sem *s)
{
    FIBRIL_ASSERT(!s || fibril__list_empty(&s->waiters.list));
    fibril__free(s);
}

/* Takes one if there is one; otherwise, if self is given, it joins the waiters. */
static bool take(struct fibril_sem *s, struct fibril *self)
{
    fibril__spin_lock(&s->waiters.spin);
    bool taken = s->count > 0;
    if (taken) {
        s->count--;
    } else if (self) {
        fibril__list_push(&s->waiters.list, &self->link);
    }
    fibril__spin_unlock(&s->waiters.spin);
    return taken;
}

int fibril_sem_wait(struct fibril_sem *s, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (!take(s, self)) {
        return (int)fibril__park_outside(&sem_wait_kind, &s->waiters, deadline_ns);
    }
    fibril__may_have_parked();
    return 0;
}

int fibril_sem_try_wait(struct fibril_sem *s)
{
    if (UNLIKELY(!fibril__self())) {
        return -EPERM;
    }
    return take(s, NULL) ? 0 : -EAGAIN;
}

int fibril_sem_post(struct fibril_sem *s)
{
    fibril__spin_lock(&s->waiters.spin);
    struct fibril *f = fibril__waiters_pop(&s->waiters);
    bool full = !f && s->count == UINT_MAX;
    if (!f && !full) {
        s->count++;
    }
    fibril__spin_unlock(&s->waiters.spin);
    if (f) {
        fibril__wake(f, 0);
    }
    return full ? -EOVERFLOW : 0;
}
