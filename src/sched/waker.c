/* SPDX-License-Identifier: MIT */
/*
 * Wakers: see embed.h. A waker is one atomic word:
 *     EMPTY, SET (a wake came first), or the fibril that waits.
 */
#include <fibril/embed.h>

#include "base/alloc.h"
#include "base/turns.h"
#include "sched/current.h"

#include <errno.h>

enum { EMPTY = 0, SET = 1 };

struct fibril_waker {
    _Atomic uintptr_t state; /* acquire-release: what came before the wake is seen after the wait */
    const struct fibril_waker_info *info; /* of the present wait; NULL: nothing is known */
};
_Static_assert(sizeof(struct fibril_waker) <= sizeof(struct fibril_waker_room) &&
                   _Alignof(struct fibril_waker) <= _Alignof(uint64_t),
               "a waker does not fit into its room");

int fibril_waker_new(struct fibril_waker **ret_waker)
{
    *ret_waker = fibril__alloc_zero(sizeof **ret_waker);
    return *ret_waker ? 0 : -ENOMEM;
}

void fibril_waker_free(struct fibril_waker *w)
{
    fibril__free(w);
}

static bool abort_wait(struct fibril *f, int error)
{
    (void)error;
    struct fibril_waker *w = f->wait_on;
    uintptr_t self = (uintptr_t)f;
    return atomic_compare_exchange_strong(&w->state, &self, EMPTY);
}

static struct fibril *holder(const struct fibril *f)
{
    const struct fibril_waker *w = f->wait_on;
    return w->info && w->info->holder ? w->info->holder(w->info->object) : NULL;
}

static const char *called(const struct fibril *f)
{
    const struct fibril_waker *w = f->wait_on;
    return w->info ? w->info->name : f->wait->name;
}

static const struct fibril__wait_kind waker_kind = {.name = "waker",
                                                    .reason = FIBRIL__BY_OTHER,
                                                    .abort = abort_wait,
                                                    .blocker = holder,
                                                    .called = called};

const void *fibril_embed_waits_for(const struct fibril *f)
{
    const struct fibril_waker *w = f->wait == &waker_kind ? f->wait_on : NULL;
    return w && w->info ? w->info->object : NULL;
}

int fibril_waker_wait_as(struct fibril_waker *w, const struct fibril_waker_info *info,
                         int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (!self) {
        return -EPERM;
    }
    uintptr_t state = EMPTY;
    w->info = info;
    fibril__turn_point();
    if (!atomic_compare_exchange_strong(&w->state, &state, (uintptr_t)self)) {
        if (state != SET) {
            return -EBUSY;
        }
        atomic_store(&w->state, EMPTY);
        return 0;
    }
    uint64_t outside = !info || !info->inside;
    self->loop->outside += outside;
    int64_t rc = fibril__park(&waker_kind, w, deadline_ns);
    self->loop->outside -= outside;
    return (int)rc;
}

int fibril_waker_wait(struct fibril_waker *w, int64_t deadline_ns)
{
    return fibril_waker_wait_as(w, NULL, deadline_ns);
}

void fibril_waker_wake(struct fibril_waker *w)
{
    uintptr_t state = atomic_load(&w->state);
    fibril__turn_point();
    for (;;) {
        uintptr_t next = state == EMPTY ? SET : state == SET ? SET : EMPTY;
        if (atomic_compare_exchange_weak(&w->state, &state, next)) {
            break;
        }
    }
    fibril__turn_point();
    if (state != EMPTY && state != SET) {
        fibril__wake((struct fibril *)state, 0);
    }
}
