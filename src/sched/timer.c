/* SPDX-License-Identifier: MIT */
/* See timer.h. */
#include "sched/timer.h"

#include "sched/current.h"

void fibril__timer_init(struct fibril__timer *t, void (*fire)(struct fibril__timer *t))
{
    t->node.index = FIBRIL__HEAP_OUT;
    t->fire = fire;
}

int fibril__timer_start(struct fibril__timer *t, int64_t deadline_ns)
{
    struct fibril__heap *timers = &fibril__loop->timers;
    fibril__heap_remove(timers, &t->node);
    int rc = fibril__heap_reserve(timers);
    if (rc == 0) {
        fibril__heap_insert(timers, &t->node, deadline_ns);
    }
    return rc;
}

void fibril__timer_stop(struct fibril__timer *t)
{
    fibril__heap_remove(&fibril__loop->timers, &t->node);
}
