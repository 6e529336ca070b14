/* SPDX-License-Identifier: MIT */
/*
 * What the scheduler asks of the debug floor above it, defined in src/debug/, and of the actors and
 * the observer.
 */
#ifndef FIBRIL_SCHED_HOOKS_H
#define FIBRIL_SCHED_HOOKS_H

#include "base/compiler.h"

#include <stdbool.h>

struct fibril;
struct fibril_loop;

/* A loop has started on the calling OS thread, or is about to end: signal stacks, stall watch,
 * SIGQUIT. Returns 0 or -errno. */
int fibril__debug_loop_started(struct fibril_loop *loop);
void fibril__debug_loop_ending(struct fibril_loop *loop);

/* The first loop has started; of src/observe/. NULL: that is not linked into this program. */
__attribute__((weak)) void fibril__observe_loop_started(struct fibril_loop *loop);

/* The process is the child of a fork, and this its only loop. Returns 0 or -errno. */
int fibril__debug_loop_forked(struct fibril_loop *loop);

/* The same, for the actors. NULL: they are not linked into this program. */
__attribute__((weak)) void fibril__actors_forked(void);

/* No fibril of the loop is ready, and no timer, operation or outside waker can make one so; other
 * loops may. If that is true of all loops: reports, and aborts, or ends the main fibril's wait with
 * -EDEADLK and returns true. */
bool fibril__debug_deadlock(struct fibril_loop *loop);

/* The running fibril f has overflowed its stack: reports and aborts. */
NORETURN void fibril__debug_overflow(struct fibril *f);

#endif
