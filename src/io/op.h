/* SPDX-License-Identifier: MIT */
/*
 * One poller operation, waited for by the calling fibril. With an own stack the operation and its
 * buffers lie where the caller put them and go to the poller as they are. A copied stack is
 * elsewhere while its fibril is parked, so nothing on it may be in the poller's hands: there a
 * small record on the heap waits for readiness, and the system call is made when the fibril runs
 * again (bounce.c has the few that cannot be done so). Rejected: bounce buffers for all, which
 * would cost each parked reader a buffer.
 *
 * How a wait ends: what the operation did wins; else the first of deadline and cancellation. A
 * cancellation that lost stays pending.
 */
#ifndef FIBRIL_IO_OP_H
#define FIBRIL_IO_OP_H

#include "poll/poll.h"
#include "sched/current.h"
#include "sched/wait.h"

#include <errno.h>

/* An operation and who waits for it. */
struct fibril__io {
    struct fibril__op op;  /* kind, fd and what the kind needs are filled in; the rest is zero */
    struct fibril *fibril; /* set while it is waited for */
    int why;               /* reason of an early end, 0 while none */
};

/* Runs a stream operation (not FORGET, nor those of files) and returns its result or -errno; -EBADF
 * while fd is being closed, -EPERM outside loops. io and what it points to may lie on any stack.
 * MAY PARK. */
int64_t fibril__io_run(struct fibril__io *io, int64_t deadline_ns);

/* The same for any operation; io and what it points to are not on a copied stack, and the
 * descriptor has been entered (users.h) if it can be. */
int64_t fibril__io_wait(struct fibril__io *io, int64_t deadline_ns);

/* Runs io from a copied stack through copies of it and of all it points to. */
int64_t fibril__io_bounce(struct fibril__io *io, int64_t deadline_ns);

/* Waits until fd is ready for `events` as fibril__io_run does. */
int64_t fibril__io_ready(int fd, short events, int64_t deadline_ns);

/* The result of an operation that is over: the reason of an early end instead of the poller's
 * -ECANCELED. */
static inline int64_t fibril__io_result(const struct fibril__op *op, int why)
{
    return why && op->result == -ECANCELED ? why : op->result;
}

/* Whether the calling fibril has been cancelled and is not shielded. */
static inline bool fibril__io_cancelled(void)
{
    const struct fibril *self = fibril__loop->current;
    return (self->flags & FIBRIL__F_CANCELLED) && !self->shield;
}

#endif
