/* SPDX-License-Identifier: MIT */
/*
 * Deadlocks. Who waits for whom is a graph with at most one edge out of each fibril (the owner of
 * the mutex, the fibril that is joined), so a cycle is found by following edges: a fibril is in one
 * if a walk of at most as many steps as there are fibrils comes back to it. Each cycle is reported
 * once, from its smallest number.
 */
#include "debug/describe.h"
#include "debug/debug.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/hooks.h"
#include "sched/record.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { CYCLE_MAX = 1 << 20, NAMED_MAX = 32 };

/* Whom f waits for. What another loop's fibril waits for changes while we look, unless all loops
 * sleep: `only`, if not NULL, is the one loop that may be looked at. */
__attribute__((no_sanitize_thread)) static const struct fibril *
blocker_of(const struct fibril *f, const struct fibril_loop *only)
{
    if ((only && f->loop != only) || f->state != FIBRIL__PARKED || !f->wait || !f->wait->blocker) {
        return NULL;
    }
    return f->wait->blocker(f);
}

/* Whether f is in a cycle and has the smallest number of it. */
static bool leads_cycle(const struct fibril *f, const struct fibril_loop *only)
{
    const struct fibril *next = blocker_of(f, only);
    for (int steps = 0; next && steps < CYCLE_MAX; steps++) {
        if (next == f) {
            return true;
        }
        if (next->id < f->id) {
            return false;
        }
        next = blocker_of(next, only);
    }
    return false;
}

static void write_cycle(const struct fibril *first, int fd)
{
    struct fibril__text t = {.len = 0};
    const struct fibril *f = first;
    int named = 0;
    do {
        fibril__text_str(&t, f == first ? "fibril: deadlock: " : "  ");
        fibril__text_fibril(&t, f);
        fibril__text_str(&t, " ");
        fibril__text_state(&t, f, f->loop->now_ns);
        fibril__text_str(&t, "\n");
        fibril__text_flush(&t, fd);
        f = blocker_of(f, NULL);
    } while (f && f != first && ++named < NAMED_MAX);
}

struct search {
    struct fibril_loop *only; /* NULL: all loops, which all sleep */
    int fd;
    int found;
};

__attribute__((no_sanitize_thread)) static void look_at(struct fibril *f, void *arg)
{
    struct search *s = arg;
    if ((!s->only || f->loop == s->only) && leads_cycle(f, s->only)) {
        write_cycle(f, s->fd);
        s->found++;
    }
}

static int write_cycles(struct fibril_loop *only, int fd)
{
    struct search s = {.only = only, .fd = fd};
    fibril__each(look_at, &s);
    return s.found;
}

int fibril_deadlocks(int fd)
{
    return fibril__loop ? write_cycles(fibril__loop, fd) : -EPERM;
}

/* ---- nobody can go on ---- */

/* Whether a loop other than the caller's may still make something happen. Read while that loop may
 * run: true if in doubt. */
__attribute__((no_sanitize_thread)) static bool may_go_on(const struct fibril_loop *loop)
{
    /* The main fibril of a started loop waits for orders: that alone is no hope. */
    return atomic_load(&loop->inbox.head) != 0 || !atomic_load(&loop->asleep) ||
           loop->poller->pending > 0 || loop->sleepers.len > 0 || loop->timers.len > 0 ||
           loop->outside > (loop->serving ? 1u : 0u);
}

static bool any_may_go_on(const struct fibril_loop *here, uint64_t *ret_sleeps)
{
    *ret_sleeps = 0;
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        const struct fibril_loop *loop = fibril__loop_slot(i);
        if (loop && loop != here) {
            if (may_go_on(loop)) {
                return true;
            }
            *ret_sleeps += atomic_load(&loop->sleeps);
        }
    }
    return false;
}

/* Looks twice. If no loop has gone to sleep anew in between, each slept all the time from its first
 * look to its second, so there was a moment at which all slept with empty inboxes, and nobody has
 * sent anything since. */
static bool others_may_go_on(const struct fibril_loop *here)
{
    uint64_t before, after;
    return any_may_go_on(here, &before) || any_may_go_on(here, &after) || before != after ||
           atomic_load(&here->inbox.head) != 0;
}

static void write_waiter(struct fibril *f, void *arg)
{
    int *left = arg;
    if (f->state != FIBRIL__PARKED || f->loop->serving == f || (*left)-- <= 0) {
        return;
    }
    struct fibril__text t = {.len = 0};
    fibril__text_str(&t, "  ");
    fibril__text_fibril(&t, f);
    fibril__text_str(&t, " ");
    fibril__text_state(&t, f, f->loop->now_ns);
    fibril__text_str(&t, "\n");
    fibril__text_flush(&t, STDERR_FILENO);
}

static void report(void)
{
    static const char head[] = "fibril: deadlock: no fibril can ever run again\n";
    int left = NAMED_MAX;
    (void)!write(STDERR_FILENO, head, sizeof head - 1);
    write_cycles(/* only= */ NULL, STDERR_FILENO);
    fibril__each(write_waiter, &left);
}

static bool end_mains_wait(struct fibril_loop *loop)
{
    struct fibril *f = &loop->main;
    if (f->state != FIBRIL__PARKED || !f->wait->abort(f, -EDEADLK)) {
        return false;
    }
    f->result = -EDEADLK;
    fibril__loop_ready(loop, f);
    return true;
}

/* Several loops that fall asleep at the same time may each see the other awake: whoever comes last
 * sees all asleep. So that a report is not missed, a loop with company wakes now and then to look
 * again (see loop.c). */
bool fibril__debug_deadlock(struct fibril_loop *loop)
{
    if (loop->serving || others_may_go_on(loop)) {
        return false;
    }
    report();
    if (loop->opts.deadlock == FIBRIL_DEADLOCK_RETURN && end_mains_wait(loop)) {
        return true;
    }
    abort();
}
