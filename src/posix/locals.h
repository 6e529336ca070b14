/* SPDX-License-Identifier: MIT */
/*
 * Compiler thread-locals (__thread, thread_local) that belong to the fibril.
 *
 * They cannot be caught call by call: compiled code reads them at a fixed distance from the thread
 * pointer. So those of a few objects that are known to keep something there across calls that park
 * are copied out and in at each switch: libstdc++ (exceptions being handled), gRPC (its execution
 * context), Abseil (who waits). A fibril that parks with all of them as they are in a new thread,
 * which is the usual case, costs one comparison of some 50 to 250 bytes and no memory.
 *
 * Swapping the thread pointer itself would cover every object, and would take libc's own state (the
 * cancellation of the OS thread, its stack guard, malloc's caches) away from it.
 */
#ifndef FIBRIL_POSIX_LOCALS_H
#define FIBRIL_POSIX_LOCALS_H

#include "posix/thread.h"

/* Looks for such objects and, on a loop, swaps their thread-locals from now on. Called when the
 * layer is installed, when a loop starts and when objects were loaded; the other loops of the
 * process learn of new objects when they look themselves. */
void fibril__locals_look(void);

/* Whether the thread-locals of the object at that path are swapped. */
bool fibril__locals_known(const char *path);

/* The loop of the calling OS thread ends, or the layer goes. */
void fibril__locals_leave(void);

/* The calling fibril ends: the next one finds what a new thread would. */
void fibril__locals_reset(void);

#endif
