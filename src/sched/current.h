/* SPDX-License-Identifier: MIT */
/*
 * Which loop this OS thread runs. A fibril never migrates, so a compiler may keep the address of
 * this thread-local across a switch. Initial-exec: one instruction even in a shared library.
 */
#ifndef FIBRIL_SCHED_CURRENT_H
#define FIBRIL_SCHED_CURRENT_H

#include "sched/loop.h"

extern _Thread_local struct fibril_loop *fibril__loop __attribute__((tls_model("initial-exec")));

/* The running fibril; NULL outside loops. */
static inline struct fibril *fibril__self(void)
{
    return LIKELY(fibril__loop) ? fibril__loop->current : NULL;
}

/* Whether pointers into the running fibril's stack may be given to others while it is parked. */
static inline bool fibril__stack_stays(void)
{
    return !fibril__context_is_copied(&fibril__loop->current->ctx);
}

#endif
