/* SPDX-License-Identifier: MIT */
/*
 * What the scheduler asks of the debug floor above it; defined in src/debug/.
 */
#ifndef FIBRIL_SCHED_HOOKS_H
#define FIBRIL_SCHED_HOOKS_H

#include <stdbool.h>

struct fibril_loop;

/* A loop has started on the calling OS thread, or is about to end: signal stacks, stall watch, SIGQUIT. Returns 0 or -errno. */
int fibril__debug_loop_started(struct fibril_loop *loop);
void fibril__debug_loop_ending(struct fibril_loop *loop);

/* No fibril of the loop is ready, and no timer, operation or outside waker can make one so; other loops may. If that is true of all loops:
 * reports, and aborts, or ends the main fibril's wait with -EDEADLK and returns true. */
bool fibril__debug_deadlock(struct fibril_loop *loop);

#endif
