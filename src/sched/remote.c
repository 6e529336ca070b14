/* SPDX-License-Identifier: MIT */
/*
 * Spawning on another loop, or from an OS thread that has none: the record is made here, from a
 * slot that no loop has cached, and counted and started there.
 */
#include "base/alloc.h"
#include "sched/current.h"
#include "sched/extra.h"
#include "sched/record.h"

#include <errno.h>
#include <string.h>

struct arrival {
    struct fibril__message message;
    struct fibril *f;
};

/* What only the loop itself can prepare: its run stacks, and room to take the slot back. */
static bool settle(struct fibril *f)
{
    if (f->ctx.policy == FIBRIL__COPIED) {
        return fibril__slot_adopt(&f->loop->records) &&
               fibril__context_copied(&f->loop->machine, &f->ctx) == 0;
    }
    struct fibril__slot_cache *stacks = fibril__loop_stacks(f->loop, f->ctx.log2);
    return stacks && fibril__slot_adopt(stacks);
}

/* Without memory for that the fibril fails instead of running. */
static void arrive(struct fibril__message *message)
{
    struct arrival *a = CONTAINER_OF(message, struct arrival, message);
    struct fibril *f = a->f;
    fibril__free(a);
    if (!settle(f)) {
        f->result = -ENOMEM;
        f->state = FIBRIL__DONE;
        if (!(f->flags & FIBRIL__F_HANDLE)) {
            fibril__release(f);
        }
        return;
    }
    f->id = fibril__id_new(f->loop);
    fibril__start(f);
}

static struct fibril *take(struct fibril_loop *loop, const struct fibril_spawn_opts *opts, int log2)
{
    struct fibril__slot_cache none;
    if (opts->stack == FIBRIL_STACK_COPIED) {
        fibril__slot_cache_init(&none, loop->records.log2, false);
        struct fibril *f = fibril__slot_take_fresh(&none);
        if (f) {
            memset(f, 0, sizeof *f);
            f->ctx.policy = FIBRIL__COPIED;
        }
        return f;
    }
    fibril__slot_cache_init(&none, (uint8_t)log2, true);
    char *slot = fibril__slot_take_fresh(&none);
    if (!slot) {
        return NULL;
    }
    struct fibril *f = fibril__record_in(slot, (uint8_t)log2);
    memset(f, 0, sizeof *f);
    fibril__context_own(&f->ctx, slot, f, (uint8_t)log2);
    return f;
}

/* Undoes take(): the slot goes back to the process. */
static void give_back(struct fibril *f)
{
    struct fibril__slot_cache one;
    bool copied = fibril__context_is_copied(&f->ctx);
    fibril__slot_cache_init(&one, copied ? f->loop->records.log2 : f->ctx.log2, !copied);
    if (f->extra) {
        fibril__extra_free(f);
    }
    f->state = FIBRIL__FREE;
    fibril__slot_give(&one, copied ? (char *)f : fibril__slot_of(f));
    fibril__slot_cache_fini(&one);
}

int fibril__spawn_remote(struct fibril_loop *loop, fibril_fn *fn, void *arg,
                         const struct fibril_spawn_opts *opts, const void *site,
                         struct fibril **ret_f)
{
    bool copied = opts->stack == FIBRIL_STACK_COPIED;
    int log2 = opts->stack_bytes ? fibril__stack_log2(opts->stack_bytes) : loop->stacks.log2;
    if (log2 < 0 || (copied && opts->stack_bytes)) {
        return -EINVAL;
    }
    struct arrival *a = fibril__alloc(sizeof *a);
    struct fibril *f = a ? take(loop, opts, log2) : NULL;
    if (!f) {
        fibril__free(a);
        return -ENOMEM;
    }
    f->loop = loop;
    f->wait_on = (void *)(uintptr_t)fn;
    f->wait_data = arg;
    f->timer.index = FIBRIL__HEAP_OUT;
    f->state = FIBRIL__READY;
    f->site = site;
    f->flags = FIBRIL__F_HANDLE | (opts->daemon ? FIBRIL__F_DAEMON : 0);
    if (opts->name && fibril_set_name(f, opts->name) != 0) {
        give_back(f);
        fibril__free(a);
        return -ENOMEM;
    }
    *a = (struct arrival){.message.run = arrive, .f = f};
    fibril__loop_send(loop, &a->message);
    *ret_f = f;
    return 0;
}
