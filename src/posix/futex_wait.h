/* SPDX-License-Identifier: MIT */
/*
 * The kernel's futex calls, for the few places where an OS thread without a loop waits for a
 * fibril.
 */
#ifndef FIBRIL_POSIX_FUTEX_WAIT_H
#define FIBRIL_POSIX_FUTEX_WAIT_H

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Blocks the OS thread while *word is `value`: 0 (look again), -ETIMEDOUT. until NULL: for ever. */
static inline int fibril__futex_wait(_Atomic int *word, int value, clockid_t clock,
                                     const struct timespec *until)
{
    int op = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;
    op |= clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0;
    long rc = syscall(SYS_futex, word, op, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
    return rc < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

static inline void fibril__futex_wake(_Atomic int *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

#endif
