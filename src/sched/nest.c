/* SPDX-License-Identifier: MIT */
/*
 * See nest.h. When the fibril around a nested context parks, its record gets the stack pointer,
 * which then lies on a stack of the nest; that is all it takes to go on there. Sanitizers also want
 * to know which stack that is, so the record of the fibril carries the bounds of the current
 * context.
 */
#include "sched/nest.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "sched/current.h"
#include "sched/record.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static struct fibril__nest *_Atomic newest;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the list of all ---- */

static void enter_list(struct fibril__nest *n)
{
    pthread_mutex_lock(&list_lock);
    n->newer = newest;
    newest = n;
    pthread_mutex_unlock(&list_lock);
}

static void leave_list(struct fibril__nest *n)
{
    pthread_mutex_lock(&list_lock);
    if (newest == n) {
        newest = n->newer;
    }
    for (struct fibril__nest *p = newest; p; p = p->newer) {
        if (p->newer == n) {
            p->newer = n->newer;
        }
    }
    pthread_mutex_unlock(&list_lock);
}

bool fibril__nest_guards(const void *address, size_t *ret_bytes)
{
    const char *at = address;
    const ptrdiff_t page = sysconf(_SC_PAGESIZE);
    for (struct fibril__nest *n = newest; n; n = n->newer) {
        if (fibril__runs_guard(&n->machine.runs, address)) {
            *ret_bytes = n->machine.runs.bytes;
            return true;
        }
        const struct fibril__context *c = &n->current->ctx;
        const char *slot = c->saved;
        bool own = c->policy == FIBRIL__OWN && slot && at >= slot;
        if (own && at < slot + page + fibril__slot_reserve(slot)) {
            *ret_bytes = (size_t)1 << c->log2;
            return true;
        }
    }
    return false;
}

/* ---- making ---- */

static NORETURN void overflowed(struct fibril__context *c)
{
    (void)c;
    fibril__panic("stack overflow in a nested context");
}

static void begin_base(struct fibril__nest *n, struct fibril__nested *base)
{
    fibril__context_thread(&base->ctx);
#if FIBRIL_ASAN
    struct fibril *self = fibril__self();
    if (self && !(self->flags & FIBRIL__F_MAIN)) {
        base->ctx.low = self->ctx.low;
        base->ctx.bytes = self->ctx.bytes;
    }
#endif
    base->nest = n;
    n->current = base;
}

int fibril__nest_new(const struct fibril__nest_opts *opts, fibril__nest_fn *run,
                     struct fibril__nested *base, struct fibril__nest **ret_nest)
{
    if (fibril__self() && fibril__context_is_copied(&fibril__self()->ctx)) {
        return -ENOTSUP;
    }
    struct fibril__nest *n = fibril__alloc_zero(sizeof *n);
    if (!n) {
        return -ENOMEM;
    }
    fibril__machine_init(&n->machine, opts->run_bytes, overflowed);
    n->machine.tag = FIBRIL__NESTED_TAG;
    fibril__slot_cache_init(&n->own, (uint8_t)fibril__stack_log2(opts->own_bytes), true);
    n->run = run;
    begin_base(n, base);
    enter_list(n);
    *ret_nest = n;
    return 0;
}

void fibril__nest_free(struct fibril__nest *n)
{
    if (n) {
        leave_list(n);
        fibril__slot_cache_fini(&n->own);
        fibril__machine_fini(&n->machine);
        fibril__free(n);
    }
}

int fibril__nested_copied(struct fibril__nest *n, struct fibril__nested *c)
{
    c->nest = n;
    return fibril__context_copied(&n->machine, &c->ctx) == 0 ? 0 : -ENOMEM;
}

/* The slot has room for the record of a fibril, as others of its kind; it says that there is none.
 */
int fibril__nested_own(struct fibril__nest *n, struct fibril__nested *c)
{
    char *slot = fibril__slot_take(&n->own);
    if (!slot) {
        return -ENOMEM;
    }
    struct fibril *top = fibril__record_in(slot, n->own.log2);
    top->state = FIBRIL__FREE;
    fibril__context_own(&c->ctx, slot, top, n->own.log2);
    c->ctx.sp = fibril__arch_make(top, (char *)&c->ctx + FIBRIL__NESTED_TAG);
    c->ctx.policy = FIBRIL__OWN;
    c->ctx.saved = slot;
    c->nest = n;
    return 0;
}

static void release(struct fibril__nested *c)
{
    if (c->ctx.policy == FIBRIL__OWN && c->ctx.saved) {
        fibril__slot_give(&c->nest->own, c->ctx.saved);
        c->ctx.saved = NULL;
    } else {
        fibril__context_fini(&c->nest->machine, &c->ctx);
    }
}

void fibril__nested_drop(struct fibril__nested *c)
{
    if (c->ctx.policy == FIBRIL__OWN && c->ctx.saved) {
        fibril__context_forget(c->ctx.saved, (size_t)1 << c->ctx.log2);
    }
    release(c);
}

bool fibril__nest_shares(const struct fibril__nest *n, const void *p)
{
    return fibril__machine_shares(&n->machine, p);
}

/* ---- switching ---- */

/* The fibril around the nest now runs on the stack of c. */
static inline void note_stack(const struct fibril__nested *c)
{
#if FIBRIL_ASAN || FIBRIL_TSAN
    struct fibril *self = fibril__self();
    if (self) {
#if FIBRIL_ASAN
        self->ctx.low = c->ctx.low;
        self->ctx.bytes = c->ctx.bytes;
#endif
#if FIBRIL_TSAN
        self->ctx.tsan = c->ctx.tsan;
#endif
    }
#else
    (void)c;
#endif
}

/* Own stacks that have no guard begin with a mark. */
static inline void check_mark(const struct fibril__context *c)
{
    if (c->policy == FIBRIL__OWN && UNLIKELY(fibril__slot_unguarded(c->saved)) &&
        !fibril__slot_mark_intact(c->saved)) {
        overflowed(NULL);
    }
}

int fibril__nest_switch(struct fibril__nest *n, struct fibril__nested *to)
{
    struct fibril__nested *from = n->current;
    if (UNLIKELY(!fibril__context_reserve(&n->machine, &from->ctx))) {
        return -ENOMEM;
    }
    check_mark(&from->ctx);
    n->current = to;
    note_stack(to);
    fibril__context_switch(&n->machine, &from->ctx, &to->ctx);
    return 0;
}

static struct fibril__nested *untagged(void *tagged)
{
    char *context = (char *)tagged - FIBRIL__NESTED_TAG;
    return CONTAINER_OF(context, struct fibril__nested, ctx);
}

int fibril__nested_entry(void *tagged)
{
    struct fibril__nested *self = untagged(tagged);
    fibril__context_begin(&self->nest->machine, &self->ctx);
    self->nest->next_current = self->nest->run(self);
    return 0;
}

NORETURN void fibril__nested_ended(void *tagged)
{
    struct fibril__nested *self = untagged(tagged);
    struct fibril__nest *n = self->nest;
    struct fibril__nested *to = n->next_current;
    check_mark(&self->ctx);
    release(self);
    n->current = to;
    note_stack(to);
    fibril__context_switch_last(&n->machine, &self->ctx, &to->ctx);
    __builtin_unreachable();
}
