/* SPDX-License-Identifier: MIT */
/*
 * What happens when the run queue is empty, and every so often when it is not: the inbox, the
 * timers and the poller are looked at, and whatever they make ready joins the queue in that order.
 */
#include "sched/loop.h"

#include "base/turns.h"
#include "poll/poll.h"
#include "poll/poll_sim.h"
#include "sched/current.h"
#include "sched/hooks.h"
#include "sched/timer.h"

#include <errno.h>

enum {
    TRIM_INTERVAL_NS = 1000000000,
    LOOK_AGAIN_NS = 1000000000, /* for a deadlock that another loop completed */
};

/* Ends the wait of a fibril whose deadline has come. It may turn out that its waker was first. */
static void expire(struct fibril_loop *loop, struct fibril *f)
{
    if (f->wait->abort(f, -ETIMEDOUT)) {
        loop->counters.timeouts += f->wait->reason != FIBRIL__BY_SLEEP;
        f->result = -ETIMEDOUT;
        fibril__loop_ready(loop, f);
    }
}

/* A deadline is over when it is not in the future. Expired entries leave the heap before anything
 * runs, so a callback that arms its timer anew for the past cannot keep the loop here: at most
 * `most` are taken. */
static void run_timers(struct fibril_loop *loop)
{
    unsigned fetched = 0;
    for (uint32_t most = loop->sleepers.len; most > 0; most--) {
        if (fibril__heap_min(&loop->sleepers) > loop->now_ns) {
            break;
        }
        if (fetched == 0) {
            fetched = fibril__heap_prefetch(&loop->sleepers, loop->now_ns);
        }
        fetched--;
        struct fibril__heap_node *n = fibril__heap_pop(&loop->sleepers);
        expire(loop, CONTAINER_OF(n, struct fibril, timer));
    }
    for (uint32_t most = loop->timers.len; most > 0; most--) {
        if (fibril__heap_min(&loop->timers) > loop->now_ns) {
            break;
        }
        struct fibril__timer *t =
            CONTAINER_OF(fibril__heap_pop(&loop->timers), struct fibril__timer, node);
        t->fire(t);
    }
}

static int64_t next_deadline(const struct fibril_loop *loop)
{
    int64_t a = fibril__heap_min(&loop->sleepers), b = fibril__heap_min(&loop->timers);
    return a < b ? a : b;
}

static void look_at_clock(struct fibril_loop *loop)
{
    loop->now_ns = loop->poller->ops->now(loop->poller);
}

/* Stacks and records that nobody needed for a second give their pages back. */
static void trim(struct fibril_loop *loop)
{
    if (loop->now_ns - loop->trimmed_ns < TRIM_INTERVAL_NS) {
        return;
    }
    loop->trimmed_ns = loop->now_ns;
    fibril__runs_trim(&loop->machine.runs);
    fibril__slot_cache_trim(&loop->stacks);
    for (unsigned i = 0; i <= FIBRIL__SLOT_LOG2_MAX; i++) {
        if (loop->other_stacks[i]) {
            fibril__slot_cache_trim(loop->other_stacks[i]);
        }
    }
}

static void poll(struct fibril_loop *loop, int64_t deadline_ns)
{
    loop->counters.polls++;
    loop->counters.poll_events += (uint64_t)loop->poller->ops->wait(loop->poller, deadline_ns);
    look_at_clock(loop);
}

/* Sleeps where only what is outside can wake; tells the embedder when nothing has, for long. */
static void stand_still(struct fibril_loop *loop)
{
    if (!loop->on_still) {
        poll(loop, INT64_MAX);
        return;
    }
    look_at_clock(loop);
    int64_t until_ns = loop->now_ns + loop->patience_ns;
    poll(loop, until_ns);
    if (loop->now_ns >= until_ns && !loop->run_head && atomic_load(&loop->inbox.head) == 0) {
        loop->patience_ns *= loop->patience_ns < loop->patience_max_ns ? 2 : 1;
        loop->on_still(loop);
    }
}

/* Nothing is ready: sleeps in the poller. The flag is up before the inbox is looked at for the last
 * time, see push() in inbox.c. */
static void sleep_in_poller(struct fibril_loop *loop)
{
    int64_t deadline_ns = next_deadline(loop);
    atomic_fetch_add(&loop->sleeps, 1);
    atomic_store(&loop->asleep, true);
    fibril__turn_point();
    if (atomic_load(&loop->inbox.head) == 0) {
        bool quiet = loop->poller->pending == 0 || fibril__sim_stuck(loop->poller);
        bool still = deadline_ns == INT64_MAX && quiet;
        if (!still) {
            poll(loop, deadline_ns);
        } else if (loop->outside > 0) {
            stand_still(loop);
        } else if (!fibril__debug_deadlock(loop)) {
            poll(loop, loop->serving ? INT64_MAX : loop->now_ns + LOOK_AGAIN_NS);
        }
    }
    fibril__turn_point();
    atomic_store(&loop->asleep, false);
}

static void look_outside(struct fibril_loop *loop)
{
    loop->ticks = FIBRIL__TICKS;
    fibril__inbox_drain(loop);
    if (loop->poller->pending > 0 || loop->poller->virtual_time) {
        poll(loop, /* deadline_ns= */ 0);
    } else {
        look_at_clock(loop);
    }
    run_timers(loop);
    trim(loop);
}

static struct fibril *pop(struct fibril_loop *loop)
{
    struct fibril *f = loop->run_head;
    loop->run_head = (struct fibril *)(void *)f->link.next;
    if (!loop->run_head) {
        loop->run_tail = &loop->run_head;
    }
    return f;
}

#if FIBRIL_HARD
/* Turns the queue by a random number of places, so that nothing can rely on the order. */
static void shuffle(struct fibril_loop *loop)
{
    loop->random = loop->random * 6364136223846793005u + 1442695040888963407u;
    for (unsigned n = (unsigned)(loop->random >> 60) & 7; n > 0; n--) {
        fibril__loop_push(loop, pop(loop));
    }
}
#else
#define shuffle(loop) ((void)0)
#endif

struct fibril *fibril__loop_next_slow(struct fibril_loop *loop)
{
    if (loop->ticks <= 0) {
        look_outside(loop);
    } else if (loop->run_head) {
        loop->ticks--;
    }
    while (!loop->run_head) {
        sleep_in_poller(loop);
        fibril__inbox_drain(loop);
        run_timers(loop);
        trim(loop);
    }
    shuffle(loop);
    return pop(loop);
}

/* Takes f out of the run queue, if it is there. */
static bool take_out(struct fibril_loop *loop, struct fibril *f)
{
    struct fibril **at = &loop->run_head;
    while (*at && *at != f) {
        at = (struct fibril **)(void *)&(*at)->link.next;
    }
    if (!*at) {
        return false;
    }
    *at = (struct fibril *)(void *)f->link.next;
    if (!*at) {
        loop->run_tail = at;
    }
    return true;
}

void fibril__loop_wait_in_place(struct fibril_loop *loop, struct fibril *self)
{
    while (!take_out(loop, self)) {
        fibril__inbox_drain(loop);
        poll(loop, /* deadline_ns= */ 0);
        run_timers(loop);
    }
}

void fibril__loop_sample(struct fibril_loop *loop, struct fibril *to)
{
    int64_t delay = loop->poller->ops->now(loop->poller) - to->since_ns;
    unsigned bucket = 0;
    while (bucket < FIBRIL_DELAY_BUCKETS - 1 && delay >= (int64_t)64 << bucket) {
        bucket++;
    }
    loop->counters.delay[bucket]++;
    loop->counters.delay_ns += delay > 0 ? (uint64_t)delay : 0;
}
