/* SPDX-License-Identifier: MIT */
/*
 * The inside of the poller on io_uring: its record, the states of operations, and what its files
 * ask of each other. See poll_uring.c for how they work together.
 *
 *   poll_uring.c      starting, waiting, opening; the table of functions
 *   uring_begin.c     an operation begins: tried directly, or put into the ring
 *   uring_complete.c  what completions mean
 *   uring_cancel.c    ending early: cancel, and FORGET
 *   uring.c           the ring itself; uring_prep.c its entries
 */
#ifndef FIBRIL_POLL_URING_POLLER_H
#define FIBRIL_POLL_URING_POLLER_H

#include "poll/attempt.h"
#include "poll/fd_table.h"
#include "poll/finished.h"
#include "poll/kernel.h"
#include "poll/uring.h"

#include <errno.h>

enum fibril__uring_state {
    FIBRIL__URING_QUEUED = 1, /* behind another in its list */
    FIBRIL__URING_RINGING,    /* in the ring */
    FIBRIL__URING_WATCHING,   /* in the ring as a poll */
    FIBRIL__URING_AWAITING,   /* an edge from the lasting poll will begin it again */
    FIBRIL__URING_FINISHED,   /* over, done is still to be called */
    FIBRIL__URING_STATE_MASK = 7,
    FIBRIL__URING_CANCELLED = 8,  /* a flag: nothing new is begun */
    FIBRIL__URING_FORGOTTEN = 16, /* a flag: -ECANCELED becomes -EBADF */
};

/* What the low bits of user_data say it is: the address of an operation; to be ignored; the poll of
 * the wake-up counter; the lasting poll of the descriptor in the upper bits. */
enum {
    FIBRIL__URING_DATA_OP = 0,
    FIBRIL__URING_DATA_IGNORE = 1,
    FIBRIL__URING_DATA_WAKE = 2,
    FIBRIL__URING_DATA_EDGE = 3,
    FIBRIL__URING_DATA_MASK = 3,
    FIBRIL__URING_DATA_SHIFT = 2
};

/* From this read on that has to wait, a descriptor gets a lasting poll: one that lives as long does
 * not repay it. */
enum { FIBRIL__READS_BEFORE_ARMING = 3 };

struct fibril__uring_poller {
    struct fibril__kernel kernel; /* first */
    struct fibril__uring ring;
    bool wake_armed; /* the poll of the counter is in the ring or queued */
};

static inline struct fibril__uring_poller *fibril__uring_self(struct fibril__poller *p)
{
    return CONTAINER_OF(p, struct fibril__uring_poller, kernel.base);
}

static inline void fibril__uring_set_state(struct fibril__op *op, enum fibril__uring_state state)
{
    op->poller_state = (uint8_t)((op->poller_state & ~FIBRIL__URING_STATE_MASK) | state);
}

static inline enum fibril__uring_state fibril__uring_state(const struct fibril__op *op)
{
    return op->poller_state & FIBRIL__URING_STATE_MASK;
}

static inline bool fibril__uring_holds(const struct fibril__op *op)
{
    return fibril__uring_state(op) == FIBRIL__URING_RINGING ||
           fibril__uring_state(op) == FIBRIL__URING_WATCHING;
}

/* Polls and operations on files keep no order. */
static inline bool fibril__uring_orders(const struct fibril__op *op)
{
    return op->kind != FIBRIL__OP_POLL && op->kind < FIBRIL__OP_PREAD;
}

/* Reads and writes of what may be no socket. */
static inline bool fibril__uring_is_plain(const struct fibril__op *op)
{
    return op->kind >= FIBRIL__OP_READ && op->kind <= FIBRIL__OP_WRITEV;
}

/* Whether op waits for readiness instead of being the kernel's to do. */
static inline bool fibril__uring_is_polled(const struct fibril__fd_record *r,
                                           const struct fibril__op *op)
{
    return fibril__uring_is_plain(op) && r->kind != FIBRIL__KIND_FILE;
}

static inline struct fibril__list *fibril__uring_list(struct fibril__fd_record *r,
                                                      const struct fibril__op *op)
{
    return !fibril__uring_orders(op) ? &r->watchers
           : fibril__op_writes(op)   ? &r->writers
                                     : &r->readers;
}

static inline bool fibril__fd_has(const struct fibril__fd_record *r, enum fibril__fd_flag flag)
{
    return r->flags & flag;
}

static inline void fibril__uring_learn(struct fibril__fd_record *r, const struct fibril__op *op,
                                       int64_t result)
{
    if (!fibril__op_writes(op) && op->kind != FIBRIL__OP_POLL &&
        (result == -EAGAIN || fibril__attempt_was_short(r, op, result))) {
        bool sure = result == -EAGAIN || !fibril__fd_has(r, FIBRIL__FD_URGENT);
        r->flags &= (uint8_t) ~(sure ? FIBRIL__FD_READABLE : 0);
        r->flags |= FIBRIL__FD_DRAINED;
    }
}

static inline void fibril__uring_finish(struct fibril__uring_poller *p, struct fibril__op *op,
                                        int64_t result)
{
    fibril__link_remove(&op->link);
    op->result =
        result == -ECANCELED && (op->poller_state & FIBRIL__URING_FORGOTTEN) ? -EBADF : result;
    fibril__uring_set_state(op, FIBRIL__URING_FINISHED);
    fibril__list_push(&p->kernel.finished, &op->link);
}

static inline int fibril__uring_enlist(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                                       struct fibril__op *op)
{
    fibril__list_push(fibril__uring_list(r, op), &op->link);
    p->kernel.base.pending++;
    return 0;
}

static inline bool fibril__uring_is_idle(const struct fibril__fd_record *r)
{
    return fibril__list_empty(&r->readers) && fibril__list_empty(&r->writers) &&
           !fibril__fd_has(r, FIBRIL__FD_ARMED);
}

/* Puts op into the ring, as itself or as a poll. Returns 0, or -EAGAIN if the kernel takes nothing.
 * r is NULL only for OPENAT2. */
int fibril__uring_ring(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                       struct fibril__op *op, enum fibril__uring_state state);

/* Puts the lasting poll of a descriptor into the ring: 0, or -EAGAIN. */
int fibril__uring_arm(struct fibril__uring_poller *p, struct fibril__fd_record *r, int fd);

/* Begins op, which is or will be the first in its list. Returns 1 if it is over, with its result
 * set; 0 if it waits. */
int fibril__uring_begin(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                        struct fibril__op *op);

/* The first of a list has gone: begins those behind it until one has to wait. */
void fibril__uring_begin_next(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                              struct fibril__list *list);

/* Takes completions from the ring, as many as are handled at once. */
void fibril__uring_reap(struct fibril__uring_poller *p);

/* Tells the kernel to end op, which is in the ring. */
void fibril__uring_cancel_op(struct fibril__uring_poller *p, struct fibril__op *op);

/* Starts a FORGET; ends those that wait until nothing of the descriptor is left. */
int fibril__uring_forget(struct fibril__uring_poller *p, struct fibril__op *op);
void fibril__uring_settle(struct fibril__uring_poller *p, struct fibril__fd_record *r);

/* struct fibril__poll_ops.cancel */
int fibril__uring_cancel(struct fibril__poller *base, struct fibril__op *op);

#endif
