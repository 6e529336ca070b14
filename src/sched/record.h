/* SPDX-License-Identifier: MIT */
/*
 * Between the files of the fibril's life cycle: where records lie, and the steps of spawning and
 * ending that fibril.c, join.c, remote.c, scope.c and stack_use.c share.
 */
#ifndef FIBRIL_SCHED_RECORD_H
#define FIBRIL_SCHED_RECORD_H

#include "sched/fibril.h"
#include "sched/loop.h"

#include <fibril/embed.h>

enum {
    FIBRIL__RECORD_ALIGN = 64,
    /* With more of them the deepest that CPython calls in a thread that begins (it parses
     * arguments) would not fit on the page of some. */
    FIBRIL__COLOURS = 12,
    FIBRIL__COLOUR_TURN = 16, /* slots after which they come again: cheaper than a division */
    FIBRIL__COLOUR_BYTES = 64,
};

/* Where the record lies in a stack slot. */
static ALWAYS_INLINE struct fibril *fibril__record_in(char *slot, uint8_t log2)
{
    size_t record =
        (sizeof(struct fibril) + FIBRIL__RECORD_ALIGN - 1) & ~(size_t)(FIBRIL__RECORD_ALIGN - 1);
    size_t colour = ((uintptr_t)slot >> log2) % FIBRIL__COLOUR_TURN * FIBRIL__COLOURS /
                    FIBRIL__COLOUR_TURN * FIBRIL__COLOUR_BYTES;
    return (struct fibril *)(void *)(slot + ((size_t)1 << log2) - record - colour);
}

/* The stack slot that holds the record of a fibril with an own stack. */
static inline char *fibril__slot_of(const struct fibril *f)
{
    return (char *)((uintptr_t)f & ~(((uintptr_t)1 << f->ctx.log2) - 1));
}

/* Rounds a stack size up: the log2 of the slot, or -EINVAL. */
int fibril__stack_log2(size_t bytes);

uint64_t fibril__id_new(struct fibril_loop *loop);

/* Where f was spawned. Only on f's own OS thread: others may see a label go. */
static inline const void *fibril__site(const struct fibril *f)
{
    return f->flags & FIBRIL__F_LABEL ? ((const struct fibril_label *)f->site)->opaque_ : f->site;
}

/* Spawns on the calling loop, or remotely, for a caller at `site`. The new fibril has no handle. */
int fibril__spawn_at(fibril_fn *fn, void *arg, const struct fibril_spawn_opts *opts,
                     const void *site, struct fibril **ret_f);

/* Spawns on another loop; the new fibril has a handle. */
int fibril__spawn_remote(struct fibril_loop *loop, fibril_fn *fn, void *arg,
                         const struct fibril_spawn_opts *opts, const void *site,
                         struct fibril **ret_f);

/* Counts f, whose record is complete, and makes it ready. */
void fibril__start(struct fibril *f);

/* Makes a daemon with a copied stack that is parked in a wait of that kind and has not begun.
 * Returns 0 or -ENOMEM. */
int fibril__spawn_parked(fibril_fn *fn, void *arg, const struct fibril__wait_kind *kind,
                         const void *site, struct fibril **ret_f);

/* Frees f, which is parked and will never run again. */
void fibril__drop_parked(struct fibril *f);

/* f, which takes turns with others, is parked now. */
void fibril__turns_left(struct fibril *f);

/* Tells the joiner of f on another loop that f has a result. */
void fibril__answer_joiner(struct fibril *f);

void fibril__detach_remote(struct fibril *f);
void fibril__release_slow(struct fibril *f);

/* Frees the record and the stack of f, which has ended or never begun. */
static ALWAYS_INLINE void fibril__release(struct fibril *f)
{
    struct fibril__slot_cache *stacks = &f->loop->stacks;
    bool usual = f->ctx.policy == FIBRIL__OWN && f->ctx.log2 == stacks->log2 && !f->extra;
    if (LIKELY(usual)) {
        f->state = FIBRIL__FREE;
        fibril__slot_give(stacks, fibril__slot_of(f));
    } else {
        fibril__release_slow(f);
    }
}

/* Gives up the handle of a fibril of this loop. Whatever another loop did to f while it had the
 * handle (a cancellation) lies in the inbox at the latest now, and has to come before f goes. */
static ALWAYS_INLINE void fibril__drop_handle(struct fibril *f)
{
    if (UNLIKELY(atomic_load_explicit(&f->loop->inbox.head, memory_order_relaxed) != 0)) {
        fibril__inbox_drain(f->loop);
    }
    f->flags &= (uint8_t)~FIBRIL__F_HANDLE;
    if (f->state == FIBRIL__DONE) {
        fibril__release(f);
    }
}

/* Cancels a fibril of this loop. */
void fibril__cancel_here(struct fibril *f);

/* Calls fn for every fibril of the process that is not free. Records of other loops change
 * meanwhile. Async-signal-safe if fn is. */
void fibril__each(void (*fn)(struct fibril *f, void *arg), void *arg);

/* What embed.h promises to call: for a fibril that ends, for a loop that begins or ends on the
 * calling OS thread, for a fibril in a dump. */
void fibril__embed_ended(struct fibril *f);
void fibril__embed_loop(struct fibril_loop *loop, bool started);
void fibril__embed_dump(const struct fibril *f, int fd);
/* For the running fibril f: its stack is full, and the answer says whether it may open its reserve;
 * or it has shrunk again. */
bool fibril__embed_overflow(struct fibril *f, bool full);

/* Under measure_stacks: prepares f's stack for an exact high-water mark; takes it when f ends. */
void fibril__stack_paint(struct fibril *f);
void fibril__stack_measure(struct fibril *f);

#endif
