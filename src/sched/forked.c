/* SPDX-License-Identifier: MIT */
/*
 * The child of a fork. The calling fibril goes on alone: the kernel has copied its OS thread only,
 * so no other loop runs any more, and the other fibrils of this loop are forgotten because POSIX
 * gives the child one thread.
 *
 *   poller      a fresh one; the old one's descriptors are closed, its kernel objects, which are
 *               the parent's too, are not spoken to. While waits are undone a dead poller stands
 * in. fibrils     unlinked from the locks and channels they wait on, so that those who use these
 * here meet nobody; their stacks go back to the cache. One with a handle becomes a fibril that has
 * ended with -ECANCELED. main        if it is not the caller, its stack is dead. Its record gets a
 * stack of its own and one duty: to end the process when the last fibril has ended, as POSIX has
 * it.
 *
 * A hundred thousand parked fibrils must not cost the child a hundred thousand page copies: their
 * records are only read, and their pages given back in as few calls as possible.
 *
 * Rejected: to go on with an io_uring of the parent's, which is shared memory, or with its epoll
 * set, which is one object in both processes.
 */
#include <fibril/embed.h>

#include "base/clock.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/extra.h"
#include "sched/hooks.h"
#include "sched/record.h"
#include "sched/users.h"

#include <errno.h>

/* ---- the poller ---- */

static int gone_start(struct fibril__poller *p, struct fibril__op *op)
{
    (void)p;
    op->result = -EBADF;
    return 1;
}

static int gone_cancel(struct fibril__poller *p, struct fibril__op *op)
{
    (void)p;
    op->result = -ECANCELED;
    return 1;
}

static int64_t gone_now(struct fibril__poller *p)
{
    (void)p;
    return fibril__clock_now();
}

static void gone_wake(struct fibril__poller *p)
{
    (void)p;
}

/* Stands where the parent's poller was until there is a new one: whatever was under way is over. */
static const struct fibril__poll_ops gone_ops = {
    .name = "gone",
    .start = gone_start,
    .cancel = gone_cancel,
    .close = gone_wake,
    .abandon = gone_wake,
    .wake = gone_wake,
    .now = gone_now,
};

/* Of the same kind; where a second ring is refused, on epoll. */
static int open_poller(struct fibril_loop *loop, const struct fibril__poll_ops *ops)
{
    const struct fibril__poll_opts opts = {.seed = loop->opts.seed};
    struct fibril__poller *p;
    int rc = ops->open(&opts, &p);
    if (rc < 0 && ops == &fibril__poll_uring && !loop->opts.poller) {
        rc = fibril__poll_epoll.open(&opts, &p);
    }
    if (rc == 0) {
        loop->poller = p;
    }
    return rc;
}

/* ---- the other fibrils ---- */

struct sweep {
    struct fibril_loop *loop;
    const struct fibril *self;
    char *run; /* adjoining dead stacks whose pages are still to be given back */
    size_t run_len;
    uint8_t run_log2;
};

/* Undoes a wait on something that the caller may use. What waited for the kernel, the pool or
 * another fibril waits for what has gone itself. */
static void unlink_wait(struct fibril *f)
{
    if (f->state != FIBRIL__PARKED || !f->wait) {
        return;
    }
    enum fibril__reason reason = f->wait->reason;
    if (reason == FIBRIL__BY_LOCK || reason == FIBRIL__BY_CHAN || reason == FIBRIL__BY_OTHER) {
        f->wait->abort(f, -ECANCELED);
    }
}

static void flush_run(struct sweep *s)
{
    if (s->run_len > 0 && !fibril__slots_drop(s->run, s->run_len, s->run_log2)) {
        for (size_t i = 0; i < s->run_len; i++) { /* locked memory: the records stay as they are */
            fibril__record_in(s->run + (i << s->run_log2), s->run_log2)->state = FIBRIL__FREE;
        }
    }
    s->run_len = 0;
}

/* Given pages read as zeroes, and a zeroed record is a free one. */
static void give_stack(struct sweep *s, struct fibril *f)
{
    uint8_t log2 = f->ctx.log2;
    char *slot = fibril__slot_of(f);
    struct fibril__slot_cache *cache = fibril__loop_stacks(s->loop, log2);
    fibril__context_forget(slot, (size_t)1 << log2);
    if (f->ctx.policy == FIBRIL__OPENED) {
        fibril__slot_reserve_close(slot);
        f->ctx.policy = FIBRIL__OWN;
    }
    if (!cache || f->ctx.policy != FIBRIL__OWN) {
        f->state = FIBRIL__FREE;
        if (cache) {
            fibril__slot_give(cache, slot);
        }
        return;
    }
    bool adjoins = s->run_len > 0 && s->run_log2 == log2 && slot == s->run + (s->run_len << log2);
    if (!adjoins) {
        flush_run(s);
        s->run = slot;
        s->run_log2 = log2;
    }
    s->run_len++;
    fibril__slot_give(cache, slot);
}

/* A select that has been decided is still linked in its other channels until it runs. */
static bool is_linked_still(const struct fibril *f)
{
    return f->state == FIBRIL__READY && f->wait && f->wait->reason == FIBRIL__BY_CHAN;
}

static void forget_own(struct sweep *s, struct fibril *f)
{
    fibril__scope_forget(f);
    if (f->extra) {
        fibril__extra_free(f);
    }
    if (is_linked_still(f)) {
        f->state = FIBRIL__FREE;
    } else if (fibril__context_is_copied(&f->ctx)) {
        fibril__context_fini(&s->loop->machine, &f->ctx);
        f->state = FIBRIL__FREE;
        fibril__slot_give(&s->loop->records, f);
    } else {
        give_stack(s, f);
    }
}

/* Somebody may join it: it has ended. */
static void end_with_handle(struct sweep *s, struct fibril *f)
{
    fibril__scope_forget(f);
    if (f->loop == s->loop) {
        fibril__context_fini(&s->loop->machine, &f->ctx);
    }
    f->loop = s->loop;
    f->joiner = NULL;
    f->flags &= (uint8_t)~FIBRIL__F_REMOTE;
    f->embed = NULL;
    f->result = -ECANCELED;
    f->state = FIBRIL__DONE;
}

/* The OS threads of other loops may have stopped anywhere: what was theirs is not used again. */
static void forget_one(struct fibril *f, void *arg)
{
    struct sweep *s = arg;
    if (f == s->self || (f->flags & FIBRIL__F_MAIN) || f->state == FIBRIL__DONE) {
        return;
    }
    unlink_wait(f);
    if (f->flags & FIBRIL__F_HANDLE) {
        end_with_handle(s, f);
    } else if (f->loop == s->loop) {
        forget_own(s, f);
    } else {
        f->state = FIBRIL__FREE;
    }
}

static void forget_fibrils(struct fibril_loop *loop)
{
    struct sweep s = {.loop = loop, .self = loop->current};
    loop->run_head = NULL;
    loop->run_tail = &loop->run_head;
    fibril__heap_clear(&loop->sleepers, /* tell= */ false);
    fibril__heap_clear(&loop->timers, /* tell= */ true);
    fibril__each(forget_one, &s);
    flush_run(&s);
}

/* ---- the caller and its loop ---- */

static void reset_self(struct fibril *self)
{
    fibril__scope_forget(self);
    self->joiner = NULL;
    if (!(self->flags & FIBRIL__F_MAIN)) {
        self->flags &= (uint8_t) ~(FIBRIL__F_REMOTE | FIBRIL__F_DAEMON | FIBRIL__F_HANDLE);
    }
}

static void reset_loop(struct fibril_loop *loop)
{
    bool is_main = loop->current == &loop->main;
    atomic_store(&loop->inbox.head, 0);
    atomic_store(&loop->senders, 0);
    atomic_store(&loop->asleep, false);
    atomic_store(&loop->stalled_since_ns, 0);
    loop->alive = is_main ? 0 : 1;
    loop->daemons = 0;
    loop->outside = 0;
    loop->drainer = loop->serving = NULL;
    loop->stop = NULL;
    loop->ticks = FIBRIL__TICKS;
    loop->forks++;
    loop->thread = pthread_self();
}

/* The main fibril's stack has gone with the frames on it: it begins anew, elsewhere. */
static int revive_main(struct fibril_loop *loop)
{
    struct fibril *main = &loop->main;
    char *slot = fibril__slot_take(&loop->stacks);
    if (!slot) {
        return -ENOMEM;
    }
    struct fibril *unused = fibril__record_in(slot, loop->stacks.log2);
    unused->state = FIBRIL__FREE;
    unlink_wait(main);
    fibril__context_own(&main->ctx, slot, unused, loop->stacks.log2);
    main->wait = NULL;
    main->wait_on = (void *)(uintptr_t)fibril__loop_outlive;
    main->wait_data = loop;
    main->joiner = NULL;
    main->shield = 0;
    main->flags = FIBRIL__F_MAIN;
    main->timer.index = FIBRIL__HEAP_OUT;
    main->state = FIBRIL__READY;
    fibril__loop_push(loop, main);
    return 0;
}

int fibril_embed_forked(void)
{
    struct fibril_loop *loop = fibril__loop;
    if (!loop) {
        return -EPERM;
    }
    struct fibril__poller gone = {.ops = &gone_ops}, *old = loop->poller;
    const struct fibril__poll_ops *ops = old->ops;
    loop->poller = &gone;
    fibril__slots_forked();
    fibril__loops_forked(loop);
    fibril__users_forked();
    fibril__extra_forked();
    forget_fibrils(loop);
    reset_self(loop->current);
    reset_loop(loop);
    ops->abandon(old);
    int rc = open_poller(loop, ops);
    if (rc < 0) {
        loop->poller = old; /* of no use, and nothing to be used any more */
        return rc;
    }
    loop->now_ns = loop->trimmed_ns = loop->poller->ops->now(loop->poller);
    rc = loop->current == &loop->main ? 0 : revive_main(loop);
    if (rc == 0 && fibril__actors_forked) {
        fibril__actors_forked();
    }
    return rc < 0 ? rc : fibril__debug_loop_forked(loop);
}
