/* SPDX-License-Identifier: MIT */
/*
 * Fibrils that take turns: see embed.h. A turn is passed by switching straight to the other fibril;
 * neither the run queue nor the poller is looked at, which is what makes it cheap, and why the
 * caller has to yield now and then (fibril_turn_due).
 *
 * Invariant: a fibril that waits for its turn is in no queue. Rejected: to let them all stand in
 * the run queue, where two that share a state could run in any order.
 */
#include <fibril/embed.h>

#include "base/assert.h"
#include "sched/current.h"
#include "sched/record.h"
#include "sched/wait.h"

#include <errno.h>

const char fibril_turn_owner;

static const struct fibril_turn_hooks *hooks;

static bool abort_turn(struct fibril *f, int error)
{
    (void)f;
    (void)error;
    return false;
}

static const struct fibril__wait_kind turn_kind = {
    .name = "turn", .reason = FIBRIL__BY_OTHER, .abort = abort_turn};

/* ---- told to the runtime ---- */

void fibril_turn_hooks(const struct fibril_turn_hooks *of)
{
    hooks = of;
}

static struct fibril_turn *turn_of(const struct fibril *f)
{
    return (struct fibril_turn *)(void *)fibril_embed_find(f, &fibril_turn_owner);
}

void fibril__turns_left(struct fibril *f)
{
    if (f->wait != &turn_kind) {
        hooks->left(f, turn_of(f));
    }
}

bool fibril__turns_back(struct fibril *f)
{
    return hooks->back(f, turn_of(f));
}

/* ---- taking part ---- */

void fibril_turn_join(struct fibril *f, struct fibril_turn *t)
{
    t->node.owner = &fibril_turn_owner;
    fibril_embed_add(f, &t->node);
    f->flags |= FIBRIL__F_TURNS;
}

void fibril_turn_leave(struct fibril *f, struct fibril_turn *t)
{
    f->flags &= (uint8_t)~FIBRIL__F_TURNS;
    fibril_embed_remove(f, &t->node);
}

int fibril_turn_new(fibril_fn *fn, void *arg, struct fibril_turn *t, struct fibril **ret_fibril)
{
    int rc = fibril__spawn_parked(fn, arg, &turn_kind, __builtin_return_address(0), ret_fibril);
    if (rc == 0) {
        fibril_turn_join(*ret_fibril, t);
    }
    return rc;
}

void fibril_turn_drop(struct fibril *f)
{
    struct fibril_turn *t = turn_of(f);
    FIBRIL_ASSERT(f->state == FIBRIL__PARKED && f->wait == &turn_kind);
    fibril_turn_leave(f, t);
    fibril__drop_parked(f);
}

/* ---- turns ---- */

int fibril_turn_hand_over(struct fibril *to)
{
    struct fibril_loop *loop = fibril__loop;
    struct fibril *self = loop->current;
    if (UNLIKELY(!fibril__context_reserve(&loop->machine, &self->ctx))) {
        return -ENOMEM;
    }
    self->wait = &turn_kind;
    self->state = FIBRIL__PARKED;
    to->state = FIBRIL__READY;
    loop->ticks -= loop->ticks > 1;
    fibril__loop_switch(loop, self, to);
    return 0;
}

void fibril_turn_wait(void)
{
    fibril__park(&turn_kind, NULL, FIBRIL_FOREVER);
}

void fibril_turn_let(struct fibril *f)
{
    f->state = FIBRIL__READY;
    fibril__loop_push(f->loop, f);
}

void fibril_turn_let_first(struct fibril *f)
{
    struct fibril_loop *loop = f->loop;
    f->state = FIBRIL__READY;
    f->link.next = (struct fibril__link *)(void *)loop->run_head;
    if (!loop->run_head) {
        loop->run_tail = (struct fibril **)(void *)&f->link.next;
    }
    loop->run_head = f;
}

void *fibril_turn_at(struct fibril *f, void *p)
{
    return fibril__stack_at(f, p);
}

void *fibril_turn_stack(const struct fibril *f, size_t *ret_bytes)
{
    return fibril__context_run_stack(&f->loop->machine, &f->ctx, ret_bytes);
}

bool fibril_turn_shares(const void *p)
{
    return fibril__loop && fibril__machine_shares(&fibril__loop->machine, p);
}

bool fibril_turn_due(void)
{
    const struct fibril_loop *loop = fibril__loop;
    return loop->ticks <= 1 || loop->run_head;
}
