/* SPDX-License-Identifier: MIT */
/*
 * Events: set, and set they stay until they are reset. Setting wakes all who wait; a reset straight
 * after it does not hold them back, because they were taken off the list by the setting.
 *
 * The flag of a shared event is read under the spin lock: who has seen it set knows that the setter
 * is through with the event, and may free it.
 */
#include "sync/waiters.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril_event {
    struct fibril__waiters waiters; /* first */
    bool set;                       /* under the spin lock */
};

static const struct fibril__wait_kind event_wait = {
    .name = "event",
    .reason = FIBRIL__BY_OTHER,
    .abort = fibril__waiters_abort,
};

int fibril_event_new(unsigned flags, struct fibril_event **ret_event)
{
    if (flags & ~(unsigned)FIBRIL_SHARED) {
        return -EINVAL;
    }
    struct fibril_event *e = fibril__alloc(sizeof(*e));
    if (!e) {
        return -ENOMEM;
    }
    e->set = false;
    fibril__waiters_init(&e->waiters, flags);
    *ret_event = e;
    return 0;
}

void fibril_event_free(struct fibril_event *e)
{
    FIBRIL_ASSERT(!e || fibril__list_empty(&e->waiters.list));
    fibril__free(e);
}

int fibril_event_wait(struct fibril_event *e, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    fibril__spin_lock(&e->waiters.spin);
    bool set = e->set;
    if (!set) {
        fibril__list_push(&e->waiters.list, &self->link);
    }
    fibril__spin_unlock(&e->waiters.spin);
    if (!set) {
        return (int)fibril__park_outside(&event_wait, &e->waiters, deadline_ns);
    }
    fibril__may_have_parked();
    return 0;
}

void fibril_event_set(struct fibril_event *e)
{
    struct fibril__chain woken = {NULL, NULL};
    fibril__spin_lock(&e->waiters.spin);
    e->set = true;
    fibril__chain_add_all(&woken, &e->waiters);
    fibril__spin_unlock(&e->waiters.spin);
    fibril__chain_wake(&woken, 0);
}

void fibril_event_reset(struct fibril_event *e)
{
    fibril__spin_lock(&e->waiters.spin);
    e->set = false;
    fibril__spin_unlock(&e->waiters.spin);
}

bool fibril_event_is_set(const struct fibril_event *e)
{
    /* The lock is no part of what the caller sees of the event. */
    struct fibril__spin *spin = (struct fibril__spin *)(uintptr_t)&e->waiters.spin;
    fibril__spin_lock(spin);
    bool set = e->set;
    fibril__spin_unlock(spin);
    return set;
}
