/* SPDX-License-Identifier: MIT */
/*
 * Forgetting a descriptor on behalf of an OS thread without a loop, which is about to close it:
 *
 *   mark the word "closing", ask each loop that has used fd, by message, one after the other; wait
 *   until it has forgotten; clear the word
 *
 * The OS thread really blocks, for PATIENCE_NS at most: a loop that stands still may be waiting for
 * a lock that this very thread holds. Then the request is withdrawn and the descriptor closed
 * nevertheless, as it would have been without us. close(2) may be called in a signal handler: so
 * records are taken from a fixed few, and nothing here allocates or locks.
 *
 *   FREE --take--> ASKED --message--> STARTED --over--> DONE --waiter--> FREE
 *                    |                   |
 *                    +---- waiter gives up: ABANDONED --message, or over--> FREE
 */
#include "io/outside.h"

#include "base/clock.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/users.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RECORDS = 16, PATIENCE_NS = 1000000000 };
enum { FREE, ASKED, STARTED, DONE, ABANDONED };

struct request {
    _Atomic uint32_t state;
    struct fibril__op op;
    struct fibril__message message;
};

static struct request requests[RECORDS];

/* ---- on the loop ----------------------------------------------------------------------------- */

static void over(struct request *r)
{
    if (atomic_exchange(&r->state, DONE) == ABANDONED) {
        atomic_store(&r->state, FREE);
    } else {
        syscall(SYS_futex, &r->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void op_over(struct fibril__op *op)
{
    over(CONTAINER_OF(op, struct request, op));
}

static void arrive(struct fibril__message *m)
{
    struct request *r = CONTAINER_OF(m, struct request, message);
    uint32_t asked = ASKED;
    if (!atomic_compare_exchange_strong(&r->state, &asked, STARTED)) {
        atomic_store(&r->state, FREE); /* the number may be somebody else's by now */
        return;
    }
    struct fibril__poller *p = fibril__loop->poller;
    if (p->ops->start(p, &r->op)) {
        over(r);
    }
}

/* ---- on the OS thread ------------------------------------------------------------------------ */

static struct request *take(int fd)
{
    for (unsigned i = 0; i < RECORDS; i++) {
        uint32_t free = FREE;
        struct request *r = &requests[i];
        if (atomic_compare_exchange_strong(&r->state, &free, ASKED)) {
            r->op = (struct fibril__op){.kind = FIBRIL__OP_FORGET, .fd = fd, .done = op_over};
            r->message = (struct fibril__message){.run = arrive};
            return r;
        }
    }
    return NULL;
}

/* Whether the loop has forgotten in time. */
static bool await(struct request *r, int64_t deadline_ns)
{
    uint32_t state;
    while ((state = atomic_load(&r->state)) != DONE) {
        int64_t left_ns = deadline_ns - fibril__clock_now();
        if (left_ns <= 0 && atomic_compare_exchange_strong(&r->state, &state, ABANDONED)) {
            return false;
        }
        struct timespec t = {.tv_sec = left_ns > 0 ? left_ns / 1000000000 : 0,
                             .tv_nsec = left_ns > 0 ? left_ns % 1000000000 : 0};
        syscall(SYS_futex, &r->state, FUTEX_WAIT_PRIVATE, state, &t, NULL, 0);
    }
    atomic_store(&r->state, FREE);
    return true;
}

static bool ask(unsigned loop, int fd, int64_t deadline_ns)
{
    struct request *r = take(fd);
    if (!r) {
        return false;
    }
    if (fibril__loop_send_slot(loop, &r->message)) {
        return await(r, deadline_ns);
    }
    atomic_store(&r->state, FREE);
    return true;
}

int fibril__forget_outside(int fd)
{
    _Atomic uint64_t *word = fibril__users_known(fd);
    const uint64_t users = FIBRIL__USERS_REST | (FIBRIL__USERS_REST - 1);
    if (!word || !(atomic_load_explicit(word, memory_order_relaxed) & users) ||
        !fibril__loops_ours()) {
        return 0; /* also the child of a fork or vfork, where the loops are the parent's */
    }
    uint64_t before = atomic_fetch_or(word, FIBRIL__USERS_CLOSING);
    if (before & FIBRIL__USERS_CLOSING) {
        return -EBADF;
    }
    int64_t deadline_ns = fibril__clock_now() + PATIENCE_NS;
    uint64_t left = 0; /* those who have not forgotten: they will when the number is born anew */
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        if ((before & fibril__users_bit(i)) && fibril__loop_slot(i)) {
            left |= ask(i, fd, deadline_ns) ? 0 : fibril__users_bit(i);
        }
    }
    atomic_store(word, left);
    return 0;
}
