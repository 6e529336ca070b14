/* SPDX-License-Identifier: MIT */
/*
 * Spots: see embed.h. A spot is the fibril that waits at it, or NULL. Only its own loop touches it,
 * so a wait and its wake are plain stores; a waker, which any OS thread may wake, pays two atomic
 * exchanges for the same.
 */
#include <fibril/embed.h>

#include "base/assert.h"
#include "sched/current.h"

#include <errno.h>

static bool abort_wait(struct fibril *f, int error)
{
    (void)error;
    struct fibril_spot *s = f->wait_on;
    s->waiter = NULL;
    return true;
}

static struct fibril *holder(const struct fibril *f)
{
    const struct fibril_spot *s = f->wait_on;
    return s->info && s->info->holder ? s->info->holder(s->info->object) : NULL;
}

static const char *called(const struct fibril *f)
{
    const struct fibril_spot *s = f->wait_on;
    return s->info ? s->info->name : f->wait->name;
}

static const struct fibril__wait_kind spot_kind = {.name = "spot",
                                                   .reason = FIBRIL__BY_OTHER,
                                                   .abort = abort_wait,
                                                   .blocker = holder,
                                                   .called = called};

int fibril_spot_wait(struct fibril_spot *s, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(s->waiter)) {
        return -EBUSY;
    }
    s->waiter = self;
    if (s->info && s->info->inside) {
        return (int)fibril__park(&spot_kind, s, deadline_ns);
    }
    self->loop->outside++;
    int64_t rc = fibril__park(&spot_kind, s, deadline_ns);
    fibril__loop->outside--; /* asked again, as registers that are kept cost bytes when parked */
    return (int)rc;
}

void fibril_spot_wake(struct fibril_spot *s)
{
    struct fibril *f = s->waiter;
    if (f) {
        FIBRIL_CHECK(f->loop == fibril__loop);
        s->waiter = NULL;
        fibril__wake(f, 0);
    }
}
