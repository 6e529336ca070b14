/* SPDX-License-Identifier: MIT */
/*
 * What the scheduler asks of this floor when a loop starts, ends, or cannot go on (sched/hooks.h).
 */
#include "sched/hooks.h"

#include "base/assert.h"
#include "sched/current.h"

int fibril__debug_loop_started(struct fibril_loop *loop) {
    (void)loop;
    return 0;
}

void fibril__debug_loop_ending(struct fibril_loop *loop) {
    (void)loop;
}

bool fibril__debug_deadlock(struct fibril_loop *loop) {
    (void)loop;
    if (fibril_loop_count() > 1) {
        return false;
    }
    fibril__panic("deadlock: no fibril can ever run again");
}
