/* SPDX-License-Identifier: MIT */
/*
 * Switch hooks, the embedder's word, and wakers: see embed.h. A waker is one atomic word:
 *     EMPTY, SET (a wake came first), or the fibril that waits.
 */
#include <fibril/embed.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "sched/current.h"

#include <errno.h>

enum { EMPTY = 0, SET = 1 };

struct fibril_waker {
    _Atomic uintptr_t state; /* acquire-release: what came before the wake is seen after the wait */
};

void fibril_embed_on_switch(void (*fn)(struct fibril *from, struct fibril *to))
{
    FIBRIL_ASSERT(fibril__loop);
    fibril__loop->on_switch = fn;
}

void fibril_embed_set(struct fibril *f, void *data)
{
    f->embed = data;
}

void *fibril_embed_get(const struct fibril *f)
{
    return f->embed;
}

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

static const struct fibril__wait_kind waker_kind = {
    .name = "waker", .reason = FIBRIL__BY_OTHER, .abort = abort_wait};

int fibril_waker_wait(struct fibril_waker *w, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (!self) {
        return -EPERM;
    }
    uintptr_t state = EMPTY;
    if (!atomic_compare_exchange_strong(&w->state, &state, (uintptr_t)self)) {
        if (state != SET) {
            return -EBUSY;
        }
        atomic_store(&w->state, EMPTY);
        return 0;
    }
    self->loop->outside++;
    int64_t rc = fibril__park(&waker_kind, w, deadline_ns);
    self->loop->outside--;
    return (int)rc;
}

void fibril_waker_wake(struct fibril_waker *w)
{
    uintptr_t state = atomic_load(&w->state);
    for (;;) {
        uintptr_t next = state == EMPTY ? SET : state == SET ? SET : EMPTY;
        if (atomic_compare_exchange_weak(&w->state, &state, next)) {
            break;
        }
    }
    if (state != EMPTY && state != SET) {
        fibril__wake((struct fibril *)state, 0);
    }
}
