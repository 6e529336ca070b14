/* SPDX-License-Identifier: MIT */
/*
 * The life of a fibril: spawn, run, end. A record is freed when the fibril has ended and its handle
 * is gone, whichever comes last.
 *
 * An own stack is one slot: guard at the low end, the record at the top, frames from there down.
 * Records and the first frames of all stacks would share the same few cache sets if they all lay at
 * the same place of their page, so each slot shifts them by a colour of its own.
 */
#include "sched/fibril.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "sched/current.h"
#include "sched/extra.h"
#include "sched/nest.h"
#include "sched/record.h"

#include <errno.h>
#include <string.h>

enum { ID_BLOCK = 1024 };

static _Atomic uint64_t ids = 1;

/* ---- making ---- */

uint64_t fibril__id_new(struct fibril_loop *loop)
{
    if (loop->next_id == loop->last_id) {
        loop->next_id = atomic_fetch_add(&ids, ID_BLOCK);
        loop->last_id = loop->next_id + ID_BLOCK;
    }
    return loop->next_id++;
}

int fibril__context_entry(void *context)
{
    if (UNLIKELY((uintptr_t)context & FIBRIL__NESTED_TAG)) {
        return fibril__nested_entry(context);
    }
    struct fibril *self = CONTAINER_OF(context, struct fibril, ctx);
    fibril__context_begin(&self->loop->machine, &self->ctx);
    fibril_fn *fn = (fibril_fn *)(uintptr_t)self->wait_on;
    return fn(self->wait_data);
}

/* Until it runs, a fibril's function and argument are kept where a wait will be. */
static ALWAYS_INLINE void init_record(struct fibril *f, struct fibril_loop *loop, fibril_fn *fn,
                                      void *arg, const void *site)
{
    f->link.prev = NULL;
    f->loop = loop;
    f->wait = NULL;
    f->wait_on = (void *)(uintptr_t)fn;
    f->wait_data = arg;
    f->timer.index = FIBRIL__HEAP_OUT;
    /* Other loops look whose it is once it is not free: fibril__each. */
    __atomic_store_n(&f->state, (uint8_t)FIBRIL__READY, __ATOMIC_RELEASE);
    f->flags = 0;
    f->shield = 0;
    f->joiner = NULL;
    f->extra = NULL;
    f->site = site;
    f->embed = NULL;
}

static ALWAYS_INLINE struct fibril *new_own(struct fibril_loop *loop,
                                            struct fibril__slot_cache *cache)
{
    char *slot = fibril__slot_take(cache);
    if (UNLIKELY(!slot)) {
        return NULL;
    }
    struct fibril *f = fibril__record_in(slot, cache->log2);
    fibril__context_own(&f->ctx, slot, f, cache->log2);
    return f;
}

static struct fibril *new_copied(struct fibril_loop *loop)
{
    struct fibril *f = fibril__slot_take(&loop->records);
    if (f && fibril__context_copied(&loop->machine, &f->ctx) != 0) {
        fibril__slot_give(&loop->records, f);
        return NULL;
    }
    return f;
}

static int stack_log2(size_t bytes)
{
    if (bytes > (size_t)1 << FIBRIL__SLOT_LOG2_MAX) {
        return -EINVAL;
    }
    int log2 = FIBRIL__STACK_LOG2_MIN;
    while ((size_t)1 << log2 < bytes) {
        log2++;
    }
    return log2;
}

int fibril__stack_log2(size_t bytes)
{
    return stack_log2(bytes);
}

static int new_by_opts(struct fibril_loop *loop, const struct fibril_spawn_opts *opts,
                       struct fibril **ret_f)
{
    if (opts->stack == FIBRIL_STACK_COPIED) {
        if (opts->stack_bytes) {
            return -EINVAL;
        }
        *ret_f = new_copied(loop);
    } else if (opts->stack_bytes) {
        int log2 = stack_log2(opts->stack_bytes);
        if (log2 < 0) {
            return log2;
        }
        struct fibril__slot_cache *cache = fibril__loop_stacks(loop, (uint8_t)log2);
        *ret_f = cache ? new_own(loop, cache) : NULL;
    } else {
        *ret_f = new_own(loop, &loop->stacks);
    }
    return *ret_f ? 0 : -ENOMEM;
}

/* What the options say beyond the stack. */
static int apply_opts(struct fibril *f, const struct fibril_spawn_opts *opts)
{
    if (opts->daemon) {
        f->flags |= FIBRIL__F_DAEMON;
    }
    return opts->name ? fibril_set_name(f, opts->name) : 0;
}

static ALWAYS_INLINE void start(struct fibril_loop *loop, struct fibril *f)
{
    loop->counters.spawned++;
    if (UNLIKELY(f->flags & FIBRIL__F_DAEMON)) {
        loop->daemons++;
        f->flags |= loop->ending ? FIBRIL__F_CANCELLED : 0;
    } else {
        loop->alive++;
    }
    if (UNLIKELY(loop->sites)) {
        fibril__stack_paint(f);
    }
    f->since_ns = loop->now_ns;
    fibril__loop_push(loop, f);
}

void fibril__start(struct fibril *f)
{
    start(f->loop, f);
}

static NOINLINE int spawn_by_opts(fibril_fn *fn, void *arg, const struct fibril_spawn_opts *opts,
                                  const void *site, struct fibril **ret_f)
{
    struct fibril_loop *loop = fibril__loop;
    if (opts->loop && opts->loop != loop) {
        return fibril__spawn_remote(opts->loop, fn, arg, opts, site, ret_f);
    }
    if (!loop) {
        return -EPERM;
    }
    struct fibril *f;
    int rc = new_by_opts(loop, opts, &f);
    if (rc < 0) {
        return rc;
    }
    init_record(f, loop, fn, arg, site);
    f->id = fibril__id_new(loop);
    rc = apply_opts(f, opts);
    if (rc < 0) {
        fibril__release(f);
        return rc;
    }
    start(loop, f);
    *ret_f = f;
    return 0;
}

int fibril__spawn_at(fibril_fn *fn, void *arg, const struct fibril_spawn_opts *opts,
                     const void *site, struct fibril **ret_f)
{
    return spawn_by_opts(fn, arg, opts ? opts : &(struct fibril_spawn_opts){0}, site, ret_f);
}

/* Whether the options ask for nothing but the default. */
static ALWAYS_INLINE bool is_plain(const struct fibril_spawn_opts *opts)
{
    return !opts || (!opts->name && opts->stack == FIBRIL_STACK_OWN && !opts->stack_bytes &&
                     !opts->loop && !opts->daemon);
}

int fibril_spawn(fibril_fn *fn, void *arg, const struct fibril_spawn_opts *opts,
                 struct fibril **ret_fibril)
{
    const void *site = __builtin_return_address(0);
    struct fibril_loop *loop = fibril__loop;
    struct fibril *f;
    if (LIKELY(loop && is_plain(opts))) {
        f = new_own(loop, &loop->stacks);
        if (UNLIKELY(!f)) {
            return -ENOMEM;
        }
        init_record(f, loop, fn, arg, site);
        f->id = LIKELY(loop->next_id != loop->last_id) ? loop->next_id++ : fibril__id_new(loop);
        start(loop, f);
    } else {
        struct fibril_spawn_opts none = {0};
        int rc = spawn_by_opts(fn, arg, opts ? opts : &none, site, &f);
        if (rc < 0) {
            return rc;
        }
        if (f->loop != loop) { /* already on its way: fibril__spawn_remote has set its handle */
            if (ret_fibril) {
                *ret_fibril = f;
            } else {
                fibril_detach(f);
            }
            return 0;
        }
    }
    if (ret_fibril) {
        f->flags |= FIBRIL__F_HANDLE;
        *ret_fibril = f;
    }
    return 0;
}

/* ---- ending ---- */

void fibril__release_slow(struct fibril *f)
{
    struct fibril_loop *loop = f->loop;
    if (f->extra) {
        fibril__extra_free(f);
    }
    f->state = FIBRIL__FREE;
    if (fibril__context_is_copied(&f->ctx)) {
        fibril__context_fini(&loop->machine, &f->ctx);
        fibril__slot_give(&loop->records, f);
        return;
    }
    if (f->ctx.policy == FIBRIL__OPENED) {
        fibril__slot_reserve_close(fibril__slot_of(f));
    }
    struct fibril__slot_cache *cache = fibril__loop_stacks(loop, f->ctx.log2);
    if (cache) {
        fibril__slot_give(cache, fibril__slot_of(f));
    }
}

static void count_out(struct fibril_loop *loop, const struct fibril *f)
{
    loop->counters.ended++;
    if (f->flags & FIBRIL__F_DAEMON) {
        loop->daemons--;
    } else {
        loop->alive--;
    }
    if (UNLIKELY(loop->drainer) && (loop->alive == 0 || loop->daemons == 0)) {
        struct fibril *drainer = loop->drainer;
        loop->drainer = NULL;
        fibril__wake(drainer, 0);
    }
}

static NOINLINE void run_exits(struct fibril *self)
{
    if (self->extra) {
        fibril__extra_run_exits(self);
    }
    fibril__embed_ended(self);
}

int fibril__spawn_parked(fibril_fn *fn, void *arg, const struct fibril__wait_kind *kind,
                         const void *site, struct fibril **ret_f)
{
    struct fibril_loop *loop = fibril__loop;
    struct fibril *f = new_copied(loop);
    if (!f) {
        return -ENOMEM;
    }
    init_record(f, loop, fn, arg, site);
    f->id = fibril__id_new(loop);
    f->wait = kind;
    f->state = FIBRIL__PARKED;
    f->flags = FIBRIL__F_DAEMON;
    f->since_ns = loop->now_ns;
    loop->counters.spawned++;
    loop->daemons++;
    *ret_f = f;
    return 0;
}

void fibril__drop_parked(struct fibril *f)
{
    f->state = FIBRIL__EXITING;
    fibril__embed_ended(f);
    count_out(f->loop, f);
    f->state = FIBRIL__DONE;
    fibril__release(f);
}

/* From the moment the result is known until another fibril runs, the record must stay: we stand on
 * its stack, and looking for the next fibril may run messages that give the handle up. */
NORETURN void fibril__context_ended(void *context, int result)
{
    if (UNLIKELY((uintptr_t)context & FIBRIL__NESTED_TAG)) {
        fibril__nested_ended(context);
    }
    struct fibril *self = CONTAINER_OF(context, struct fibril, ctx);
    struct fibril_loop *loop = self->loop;
    if (UNLIKELY(self->extra || self->embed)) {
        run_exits(self);
        if (self->extra) {
            fibril__scope_ended(self, result);
        }
    }
    if (UNLIKELY(loop->sites)) {
        fibril__stack_measure(self);
    }
    self->result = result;
    self->state = FIBRIL__EXITING;
    count_out(loop, self);
    if (self->joiner) {
        if (LIKELY(!(self->flags & FIBRIL__F_REMOTE))) {
            struct fibril *joiner = self->joiner;
            self->joiner = NULL;
            joiner->result = 0;
            fibril__loop_ready(loop, joiner);
        } else {
            fibril__answer_joiner(self);
        }
    }
    struct fibril *next = fibril__loop_next(loop);
    fibril__context_fini(&loop->machine, &self->ctx);
    self->state = FIBRIL__DONE;
    if (!(self->flags & FIBRIL__F_HANDLE)) {
        fibril__release(self);
    }
    loop->current = next;
    loop->budget = loop->budget_full;
    loop->counters.switches++;
    if (UNLIKELY(loop->on_switch)) {
        loop->on_switch(NULL, next);
    }
    fibril__context_switch_last(&loop->machine, &self->ctx, &next->ctx);
    __builtin_unreachable();
}

void fibril_detach(struct fibril *f)
{
    if (!f) {
        return;
    }
    if (f->loop == fibril__loop) {
        fibril__drop_handle(f);
    } else {
        fibril__detach_remote(f);
    }
}

/* ---- looking ---- */

struct fibril *fibril_current(void)
{
    return fibril__self();
}

uint64_t fibril_id(const struct fibril *f)
{
    return f->id;
}

struct fibril_loop *fibril_loop_of(const struct fibril *f)
{
    return f->loop;
}
