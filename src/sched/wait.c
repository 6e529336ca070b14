/* SPDX-License-Identifier: MIT */
/* See wait.h. Also what needs nothing but a wait: sleeping, yielding, cancelling. */
#include "sched/wait.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/record.h"

#include <errno.h>

/* ---- parking ---- */

static bool cancel_pending(const struct fibril *f)
{
    return (f->flags & FIBRIL__F_CANCELLED) && f->shield == 0;
}

/* Why the wait must not begin, or 0. */
static int refusal(struct fibril_loop *loop, struct fibril *f, int64_t deadline_ns)
{
    if (cancel_pending(f)) {
        loop->counters.cancels++;
        return -ECANCELED;
    }
    if (deadline_ns == FIBRIL_FOREVER) {
        return 0;
    }
    if (deadline_ns <= loop->now_ns) {
        loop->counters.timeouts++;
        return -ETIMEDOUT;
    }
    return fibril__heap_reserve(&loop->sleepers);
}

static NORETURN NOINLINE void parked_in_nopark(const struct fibril *f,
                                               const struct fibril__wait_kind *kind)
{
    fibril__panicf("fibril %llu \"%s\" would park (%s) inside a region marked as non-parking",
                   (unsigned long long)f->id, fibril_name(f), kind->name);
}

int64_t fibril__park(const struct fibril__wait_kind *kind, void *wait_on, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    struct fibril *self = loop->current;
    if (UNLIKELY(loop->nopark)) {
        parked_in_nopark(self, kind);
    }
    self->wait = kind;
    self->wait_on = wait_on;
    int error = 0;
    if (UNLIKELY(deadline_ns != FIBRIL_FOREVER || (self->flags & FIBRIL__F_CANCELLED))) {
        error = refusal(loop, self, deadline_ns);
    }
    if (UNLIKELY(!fibril__context_reserve(&loop->machine, &self->ctx))) {
        error = -ENOMEM;
    }
    if (UNLIKELY(error) && kind->abort(self, error)) {
        return error;
    }
    if (deadline_ns != FIBRIL_FOREVER && !error) {
        fibril__heap_insert(&loop->sleepers, &self->timer, deadline_ns);
    }
    loop->counters.parks[kind->reason]++;
    self->state = FIBRIL__PARKED;
    self->since_ns = loop->now_ns;
    if (UNLIKELY(error == -ENOMEM)) { /* it must wait, and cannot be copied out */
        fibril__loop_wait_in_place(loop, self);
        return self->result;
    }
    if (UNLIKELY(self->flags & FIBRIL__F_TURNS)) {
        fibril__turns_left(self);
    }
    struct fibril *next = fibril__loop_next(loop);
    if (next != self) {
        fibril__loop_switch(loop, self, next);
    } else {
        loop->budget = loop->budget_full;
    }
    return self->result;
}

void fibril__wake(struct fibril *f, int64_t result)
{
    f->result = result;
    if (LIKELY(f->loop == fibril__loop)) {
        fibril__loop_ready(f->loop, f);
    } else {
        fibril__loop_send_ready(f);
    }
}

void *fibril__stack_at(struct fibril *f, void *p)
{
    return fibril__context_at(&f->loop->machine, &f->ctx, p);
}

/* ---- yielding ---- */

int fibril_yield(void)
{
    struct fibril_loop *loop = fibril__loop;
    if (UNLIKELY(!loop)) {
        return -EPERM;
    }
    struct fibril *self = loop->current;
    if (UNLIKELY(loop->nopark)) {
        fibril__panicf("fibril %llu \"%s\" yields inside a region marked as non-parking",
                       (unsigned long long)self->id, fibril_name(self));
    }
    if (UNLIKELY(!fibril__context_reserve(&loop->machine, &self->ctx))) {
        return -ENOMEM;
    }
    loop->counters.yields++;
    struct fibril *next = fibril__loop_swap(loop, self);
    if (LIKELY(next != self)) {
        fibril__loop_switch(loop, self, next);
    } else {
        loop->budget = loop->budget_full;
    }
    return 0;
}

#if FIBRIL_HARD
/* Every operation may be the one after which the others run. */
static bool out_of_budget(struct fibril_loop *loop)
{
    loop->random = loop->random * 6364136223846793005u + 1442695040888963407u;
    return (loop->random >> 62) == 0;
}
#else
static ALWAYS_INLINE bool out_of_budget(struct fibril_loop *loop)
{
    return --loop->budget <= 0;
}
#endif

void fibril__spend(void)
{
    struct fibril_loop *loop = fibril__loop;
    if (UNLIKELY(out_of_budget(loop)) && !loop->nopark) {
        loop->counters.budget_yields++;
        fibril_yield();
    }
}

/* ---- sleeping ---- */

static bool abort_sleep(struct fibril *f, int error)
{
    (void)f;
    (void)error;
    return true;
}

static const struct fibril__wait_kind sleep_kind = {
    .name = "sleep", .reason = FIBRIL__BY_SLEEP, .abort = abort_sleep};

int fibril_sleep_until(int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    if (!loop) {
        return -EPERM;
    }
    if (deadline_ns <= loop->now_ns) {
        int rc = cancel_pending(loop->current) ? -ECANCELED : fibril_yield();
        return rc;
    }
    int64_t rc = fibril__park(&sleep_kind, NULL, deadline_ns);
    return rc == -ETIMEDOUT ? 0 : (int)rc;
}

int fibril_sleep(int64_t ns)
{
    return fibril_sleep_until(fibril_after(ns));
}

int64_t fibril_now(void)
{
    struct fibril_loop *loop = fibril__loop;
    return loop ? loop->poller->ops->now(loop->poller) : fibril__clock_now();
}

int64_t fibril_after(int64_t ns)
{
    if (ns == FIBRIL_FOREVER) {
        return FIBRIL_FOREVER;
    }
    int64_t deadline_ns;
    return __builtin_add_overflow(fibril_now(), ns, &deadline_ns) ? FIBRIL_FOREVER : deadline_ns;
}

/* ---- cancellation ---- */

/* A wait that cannot be ended now ends by itself soon. */
void fibril__cancel_here(struct fibril *f)
{
    if (f->state >= FIBRIL__EXITING) {
        return;
    }
    f->flags |= FIBRIL__F_CANCELLED;
    if (f->state == FIBRIL__PARKED && f->shield == 0 && f->wait->abort(f, -ECANCELED)) {
        f->loop->counters.cancels++;
        f->result = -ECANCELED;
        fibril__loop_ready(f->loop, f);
    }
}

struct cancel_message {
    struct fibril__message message;
    struct fibril *f;
};

static void run_cancel(struct fibril__message *message)
{
    struct cancel_message *m = CONTAINER_OF(message, struct cancel_message, message);
    fibril__cancel_here(m->f);
    fibril__free(m);
}

int fibril_cancel(struct fibril *f)
{
    if (f->loop == fibril__loop) {
        fibril__cancel_here(f);
        return 0;
    }
    struct cancel_message *m = fibril__alloc(sizeof *m);
    if (!m) {
        return -ENOMEM;
    }
    *m = (struct cancel_message){.message.run = run_cancel, .f = f};
    fibril__loop_send(f->loop, &m->message);
    return 0;
}

bool fibril_cancelled(void)
{
    struct fibril *self = fibril__self();
    return self && cancel_pending(self);
}

bool fibril_cancel_clear(void)
{
    struct fibril *self = fibril__self();
    bool was = self && (self->flags & FIBRIL__F_CANCELLED);
    if (was) {
        self->flags &= (uint8_t)~FIBRIL__F_CANCELLED;
    }
    return was;
}

void fibril_shield_begin(void)
{
    struct fibril *self = fibril__self();
    FIBRIL_ASSERT(self && self->shield < UINT16_MAX);
    self->shield++;
}

void fibril_shield_end(void)
{
    struct fibril *self = fibril__self();
    FIBRIL_ASSERT(self && self->shield > 0);
    self->shield--;
}

void fibril_nopark_begin(void)
{
    FIBRIL_ASSERT(fibril__loop);
    fibril__loop->nopark++;
}

void fibril_nopark_end(void)
{
    FIBRIL_ASSERT(fibril__loop && fibril__loop->nopark > 0);
    fibril__loop->nopark--;
}
