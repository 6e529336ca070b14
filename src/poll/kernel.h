/* SPDX-License-Identifier: MIT */
/*
 * What the pollers of the kernel have alike: records of descriptors, operations that are over, the
 * way to be woken, and the clock.
 */
#ifndef FIBRIL_POLL_KERNEL_H
#define FIBRIL_POLL_KERNEL_H

#include "poll/fd_table.h"
#include "poll/poll.h"
#include "poll/wakeup.h"

struct fibril__kernel {
    struct fibril__poller base; /* first */
    struct fibril__fd_table table;
    struct fibril__list finished; /* over, done is still to be called */
    struct fibril__wakeup wakeup;
};

/* Says which descriptors the poller lives on: fd, and that by which it is woken. */
static inline void fibril__kernel_owns(struct fibril__kernel *k, int fd)
{
    k->base.own[0] = fd;
    k->base.own[1] = k->wakeup.fd;
    k->base.own_count = 2;
}

/* struct fibril__poll_ops.wake and .now */
void fibril__kernel_wake(struct fibril__poller *base);
int64_t fibril__kernel_now(struct fibril__poller *base);

#endif
