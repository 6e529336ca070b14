/* SPDX-License-Identifier: MIT */
/*
 * Waits on addresses: where a fibril waits for a mutex, condition, semaphore or futex word that
 * lives in the program's own memory. One table for all. Whoever releases such an object, fibril or
 * foreign OS thread, looks here after the real release; whoever waits enters first and tries once
 * more before it parks. So one of the two always sees the other.
 *
 *     enter(t, address);                       real release;
 *     if (real try succeeds) { leave(t); }     wake(address, 1);
 *     else { wait(t, ...); }
 */
#ifndef FIBRIL_POSIX_ADDRESS_H
#define FIBRIL_POSIX_ADDRESS_H

#include "posix/thread.h"

#include <limits.h>
#include <stdatomic.h>

enum { FIBRIL__WAKE_ALL = INT_MAX };

/* Puts the calling thread, which waits on nothing, into the table. */
void fibril__address_enter(struct fibril__thread *t, const void *address);

/* Takes it out again. Returns false if it has been woken already: the wake is then used up. */
bool fibril__address_leave(struct fibril__thread *t);

/* Parks until woken: 0, or -ETIMEDOUT, -ECANCELED, -EINTR, -EDEADLK; out of the table in any case.
 * MAY PARK. */
int fibril__address_wait(struct fibril__thread *t, const struct fibril_waker_info *info,
                         int64_t deadline_ns);

/*
 * The same where the object may be released unseen (by another process, by libc inside the
 * pthread_cond_wait of a foreign OS thread, by code that calls the kernel itself): then 1 comes now
 * and then, and the caller tries again. *retry_ns, 0 at first, is how long that takes: 100 us,
 * doubling up to 10 ms. MAY PARK.
 */
int fibril__address_wait_or_retry(struct fibril__thread *t, const struct fibril_waker_info *info,
                                  bool unseen, int64_t *retry_ns, int64_t deadline_ns);

/* Wakes up to n of those who wait on the address, the longest waiting first; returns how many. Any
 * OS thread. Never parks. */
int fibril__address_wake_slow(const void *address, int n);

/*
 * Gives what the caller has to the one that waits longest on the address, if that is a fibril of
 * the calling loop: give(to, address) is called while it is certain that `to` gets it, which then
 * finds to->given set. Returns false if it gave nothing. Without this whoever releases a lock and
 * takes it again at once would shut the others of its loop out for ever, since none of them runs in
 * between. Between loops that is not so, and to hand over there would make each release wait for
 * the other OS thread to be scheduled. Nor does one get it that waits for an OS thread's release
 * (to->tries): it would hold what OS threads want while it is ready and another fibril computes,
 * and one of those may be who is to make that one stop. Never parks.
 */
bool fibril__address_give_slow(const void *address,
                               void (*give)(struct fibril__thread *to, const void *address));

/* In the child of a fork: nobody waits. */
void fibril__address_forked(void);

/* How many wait in each row of the table. */
enum { FIBRIL__ADDRESS_LOG2 = 14, FIBRIL__ADDRESS_ROWS = 1 << FIBRIL__ADDRESS_LOG2 };
extern _Atomic uint32_t fibril__address_waiting[FIBRIL__ADDRESS_ROWS];

static ALWAYS_INLINE uint32_t fibril__address_row(const void *address)
{
    return (uint32_t)(((uintptr_t)address * 0x9e3779b97f4a7c15u) >> (64 - FIBRIL__ADDRESS_LOG2));
}

/* Whether anybody may be waiting on the address. */
static ALWAYS_INLINE bool fibril__address_any(const void *address)
{
    uint32_t row = fibril__address_row(address);
    return atomic_load_explicit(&fibril__address_waiting[row], memory_order_relaxed) != 0;
}

/* To be called after the real release. On x86-64 a release that others may wait for is a locked
 * instruction and so a full barrier; elsewhere one is needed between it and the look at the table.
 */
static ALWAYS_INLINE int fibril__address_wake(const void *address, int n)
{
#if defined(__x86_64__)
    __asm__ volatile("" ::: "memory");
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
    return UNLIKELY(fibril__address_any(address)) ? fibril__address_wake_slow(address, n) : 0;
}

#endif
