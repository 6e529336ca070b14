/* SPDX-License-Identifier: MIT */
/*
 * What the pollers of the kernel share: operations that are over and wait for their done to be
 * called, which happens from wait() only and never deeper, so that done may start, cancel and
 * forget whatever it likes.
 */
#ifndef FIBRIL_POLL_FINISHED_H
#define FIBRIL_POLL_FINISHED_H

#include "base/clock.h"
#include "poll/poll.h"

/* Events taken at once. Reading from many sockets before the first of their fibrils runs and
 * answers leaves sockets, stacks and records cold; a system call for so many events is cheap. */
enum { FIBRIL__BATCH = 32 };

static inline struct fibril__op *fibril__op_of(struct fibril__link *link)
{
    return CONTAINER_OF(link, struct fibril__op, link);
}

/* What start() and cancel() return when op is over at once. */
static inline int fibril__op_over(struct fibril__op *op, int64_t result)
{
    op->result = result;
    return 1;
}

/* Calls done for all in the list. Returns how many; what done adds is for the next time, so that
 * the loop is bounded. */
static inline int fibril__finished_call(struct fibril__poller *p, struct fibril__list *finished)
{
    const struct fibril__link *last = finished->head.prev;
    struct fibril__link *link;
    int n = 0;
    while ((link = fibril__list_pop(finished)) != NULL) {
        p->pending--;
        n++;
        fibril__op_of(link)->done(fibril__op_of(link));
        if (link == last) {
            break;
        }
    }
    return n;
}

/* How long to wait: 0 if not at all, INT64_MAX for ever. */
static inline int64_t fibril__time_left(int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        return INT64_MAX;
    }
    int64_t left = deadline_ns <= 0 ? 0 : deadline_ns - fibril__clock_now();
    return left > 0 ? left : 0;
}

#endif
