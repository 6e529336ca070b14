/* SPDX-License-Identifier: MIT */
/*
 * The simulated poller: no kernel, no real time. wait() jumps to the next event or deadline and
 * everything that is left to chance comes from one seeded generator, so a seed replays a run
 * exactly.
 *
 * Beyond faults of the network it plays the two kinds of kernel interface against the scheduler: an
 * operation that could be over at once is sometimes over only later (as io_uring's are), and a
 * cancelled one is sometimes still on its way and may succeed.
 *
 * Where OS threads run in turns (base/turns.h), the loops of all of them share one virtual clock,
 * and a wait gives the turn away: then a seed replays a run of several loops.
 *
 * The one place where it touches the world is a loop that waits for other OS threads (base.owed,
 * base.foreign): no virtual time passes while an answer is owed, so a run with offloaded calls
 * stays reproducible.
 */
#include "poll/poll_sim.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/turns.h"
#include "poll/sim.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct fibril__sim *sim_of(struct fibril__poller *p)
{
    return CONTAINER_OF(p, struct fibril__sim, base);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int sim_open(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller)
{
    struct fibril__sim_config config;
    char error[320];
    fibril__sim_defaults(&config);
    if (fibril__sim_parse(getenv("FIBRIL_SIM"), &config, error, sizeof error) < 0) {
        fprintf(stderr, "fibril: FIBRIL_SIM: %s\n", error);
        return -EINVAL;
    }
    struct fibril__sim *s = fibril__alloc_zero(sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->base.ops = &fibril__poll_sim;
    s->base.sys = &fibril__sim_sys;
    s->base.virtual_time = 1;
    if (opts->seed) {
        config.seed = opts->seed;
    }
    s->config = config;
    s->random = config.seed;
    s->hash = UINT64_C(0xcbf29ce484222325) ^ config.seed;
    s->now_ns = 1000000000; /* not 0: code that takes 0 for "no time" shows */
    fibril__list_init(&s->over);
    fibril__list_init(&s->batch);
    fibril__list_init(&s->named);
    s->turn = fibril__turns_self();
    fibril__turns_follow(&s->now_ns);
    *ret_poller = &s->base;
    return 0;
}

/* Lets what is on its way fall: the sockets it holds go with it. */
static void drop_event(struct fibril__sim *s, struct fibril__sim_event *e)
{
    struct fibril__sim_sock *k = e->sock;
    struct fibril__sim_flow *f = e->flow;
    struct fibril__sim_message *m = e->message;
    bool own = e->own;
    if (m) {
        fibril__sim_message_free(s, m);
        return;
    }
    e->sock = NULL;
    e->flow = NULL;
    if (own) {
        fibril__free(e);
    }
    fibril__sim_flow_unref(s, f);
    if (k) {
        fibril__sim_sock_unref(s, k);
    }
}

static void sim_close(struct fibril__poller *p)
{
    struct fibril__sim *s = sim_of(p);
    for (uint32_t i = 0; i < s->fds_cap; i++) {
        if (s->fds[i]) {
            fibril__sim_sock_close(s, s->fds[i]);
        }
    }
    while (s->events.len) {
        struct fibril__heap_node *n = fibril__heap_pop(&s->events);
        drop_event(s, CONTAINER_OF(n, struct fibril__sim_event, node));
    }
    FIBRIL_CHECK(s->promised == 0);
    fibril__turns_note(s->hash);
    fibril__turns_follow(NULL);
    fibril__heap_fini(&s->events);
    fibril__free(s->fds);
    fibril__free(s);
}

/* ---- operations ------------------------------------------------------------------------------ */

static bool is_on(const struct fibril__list *l, int fd)
{
    for (struct fibril__link *n = l->head.next; n != &l->head; n = n->next) {
        if (CONTAINER_OF(n, struct fibril__op, link)->fd == fd) {
            return true;
        }
    }
    return false;
}

/* Over at once if nothing of the descriptor is left; else it is the last in the line of what is
 * over. */
static int forget(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__op *op)
{
    if (k) {
        fibril__sim_sock_forget(s, k);
    }
    op->result = 0;
    if (!is_on(&s->batch, op->fd) && !is_on(&s->over, op->fd)) {
        return 1;
    }
    fibril__sim_end(s, op, 0);
    s->base.pending++;
    return 0;
}

static int sim_start(struct fibril__poller *p, struct fibril__op *op)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, op->fd);
    op->link = (struct fibril__link){NULL, NULL};
    op->poller_state = 0;
    fibril__sim_note(s, FIBRIL__SIM_START, op->fd, op->kind);
    if (op->kind == FIBRIL__OP_FORGET) {
        return forget(s, k, op);
    }
    if (op->kind > FIBRIL__OP_CONNECT || !k) {
        op->result = op->kind > FIBRIL__OP_CONNECT ? -EOPNOTSUPP : -EBADF;
        return 1;
    }
    struct fibril__list *queue = fibril__sim_queue(k, op);
    bool first = queue == &k->pollers || fibril__list_empty(queue);
    bool defer = fibril__sim_chance(s, s->config.defer);
    if (first && !defer) {
        op->result = fibril__sim_try(s, k, op);
        if (op->result != FIBRIL__SIM_WAIT) {
            fibril__sim_note(s, FIBRIL__SIM_DONE, op->fd, op->result);
            return 1;
        }
    }
    fibril__list_push(queue, &op->link);
    s->base.pending++;
    if (defer) {
        fibril__sim_retry_soon(s, k);
    }
    return 0;
}

static int sim_cancel(struct fibril__poller *p, struct fibril__op *op)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, op->fd);
    bool waits = op->poller_state != FIBRIL__SIM_OVER;
    fibril__sim_note(s, FIBRIL__SIM_CANCEL, op->fd, waits);
    if (!waits || op->poller_state == FIBRIL__SIM_CANCELLED) {
        return 0; /* it is on its way back */
    }
    if (fibril__sim_chance(s, s->config.slow_cancel)) {
        op->poller_state = FIBRIL__SIM_CANCELLED;
        fibril__sim_retry_soon(s, k);
        return 0;
    }
    fibril__link_remove(&op->link);
    op->result = -ECANCELED;
    s->base.pending--;
    return 1;
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Calls done for what is over now, not for what that brings about: a loop must get its turn. */
static int deliver(struct fibril__sim *s)
{
    struct fibril__link *n;
    int count = 0;
    while ((n = fibril__list_pop(&s->over))) {
        fibril__list_push(&s->batch, n);
    }
    while ((n = fibril__list_pop(&s->batch))) {
        struct fibril__op *op = CONTAINER_OF(n, struct fibril__op, link);
        fibril__sim_note(s, FIBRIL__SIM_DONE, op->fd, op->result);
        s->base.pending--;
        count++;
        op->done(op);
    }
    return count;
}

/* Really waits for wake(). */
static void wait_outside(struct fibril__sim *s)
{
    if (s->turn >= 0 && !s->base.owed) {
        fibril__turns_rest(INT64_MAX);
    }
    while (atomic_load_explicit(&s->woken, memory_order_acquire) == 0) {
        syscall(SYS_futex, &s->woken, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
    atomic_store_explicit(&s->woken, 0, memory_order_relaxed);
}

static void pass_until(struct fibril__sim *s, int64_t at_ns)
{
    if (at_ns > s->now_ns) {
        s->now_ns = at_ns;
        if (s->turn >= 0) {
            fibril__turns_pass(at_ns);
        }
    }
    fibril__sim_happen(s);
}

/* Until then, or less when loops in turns have something for this one. */
static void rest_until(struct fibril__sim *s, int64_t at_ns)
{
    if (s->turn < 0) {
        pass_until(s, at_ns);
    } else {
        fibril__turns_rest(at_ns);
        fibril__sim_happen(s);
    }
}

static int sim_wait(struct fibril__poller *p, int64_t deadline_ns)
{
    struct fibril__sim *s = sim_of(p);
    fibril__turn_point();
    bool woken = atomic_exchange_explicit(&s->woken, 0, memory_order_acquire);
    bool look = woken || deadline_ns <= s->now_ns;
    pass_until(s, s->now_ns + (look ? s->config.tick_ns : 0));
    int count = deliver(s);
    if (count || look) {
        return count;
    }
    if (p->owed) {
        wait_outside(s);
        return deliver(s);
    }
    for (bool first = true;; first = false) {
        int64_t next = fibril__heap_min(&s->events);
        if (next == INT64_MAX && deadline_ns == INT64_MAX) {
            if (first) {
                wait_outside(s);
            }
            return 0; /* the loop may see now that it is stuck */
        }
        rest_until(s, next < deadline_ns ? next : deadline_ns);
        count = deliver(s);
        if (count || s->now_ns >= deadline_ns || atomic_load(&s->woken)) {
            return count;
        }
    }
}

static void sim_wake(struct fibril__poller *p)
{
    struct fibril__sim *s = sim_of(p);
    if (atomic_exchange_explicit(&s->woken, 1, memory_order_release) == 0) {
        int kept = errno; /* this may run in a signal handler */
        if (s->turn >= 0) {
            fibril__turns_wake(s->turn);
        }
        syscall(SYS_futex, &s->woken, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        errno = kept;
    }
}

static int64_t sim_now(struct fibril__poller *p)
{
    return sim_of(p)->now_ns;
}

/* ---- for tests and the scheduler ----------------------------------------- */

bool fibril__sim_stuck(const struct fibril__poller *p)
{
    if (p->ops != &fibril__poll_sim) {
        return false;
    }
    const struct fibril__sim *s = (const struct fibril__sim *)(const void *)p;
    return s->events.len == 0 && fibril__list_empty(&s->over) && p->owed == 0 &&
           atomic_load_explicit(&s->woken, memory_order_relaxed) == 0;
}

void fibril__sim_trace(struct fibril__poller *p, uint64_t value)
{
    if (p->ops == &fibril__poll_sim) {
        fibril__sim_note(sim_of(p), FIBRIL__SIM_OUTSIDE, 0, (int64_t)value);
    }
}

uint64_t fibril__sim_hash(const struct fibril__poller *p)
{
    return p->ops == &fibril__poll_sim ? ((const struct fibril__sim *)(const void *)p)->hash : 0;
}

uint64_t fibril__sim_seed(const struct fibril__poller *p)
{
    return p->ops == &fibril__poll_sim ? ((const struct fibril__sim *)(const void *)p)->config.seed
                                       : 0;
}

const struct fibril__poll_ops fibril__poll_sim = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .abandon = sim_close,
    .start = sim_start,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .wake = sim_wake,
    .now = sim_now,
};
