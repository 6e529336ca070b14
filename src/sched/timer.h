/* SPDX-License-Identifier: MIT */
/*
 * Timers of a loop that call a function instead of waking a fibril, in the same heap as the
 * fibrils' deadlines.
 */
#ifndef FIBRIL_SCHED_TIMER_H
#define FIBRIL_SCHED_TIMER_H

#include "base/heap.h"

struct fibril_loop;

struct fibril__timer {
    struct fibril__heap_node node;         /* first */
    void (*fire)(struct fibril__timer *t); /* runs on the loop, outside any wait list; must not
                                              park; may wake and spawn */
};

void fibril__timer_init(struct fibril__timer *t, void (*fire)(struct fibril__timer *t));

/* Arms t on the calling OS thread's loop, or moves it. Returns 0 or -ENOMEM (moving never fails).
 */
int fibril__timer_start(struct fibril__timer *t, int64_t deadline_ns);

/* Disarms t; a no-op if it is not armed. */
void fibril__timer_stop(struct fibril__timer *t);

#endif
