/* SPDX-License-Identifier: MIT */
/* See kernel.h. */
#include "poll/kernel.h"

#include "base/clock.h"

void fibril__kernel_wake(struct fibril__poller *base)
{
    fibril__wakeup_send(&CONTAINER_OF(base, struct fibril__kernel, base)->wakeup);
}

int64_t fibril__kernel_now(struct fibril__poller *base)
{
    (void)base;
    return fibril__clock_now();
}
