/* SPDX-License-Identifier: MIT */
/*
 * pthread_once. A fibril that finds another in the middle of the routine waits
 * here instead of in the kernel, where nobody could wake it: the one that runs the routine may be a
 * fibril of the same OS thread.
 */
#include "posix/calls.h"
#include "posix/address.h"

enum { ONCE_RUNNING = 1, ONCE_DONE = 2 }; /* libc's bits in the word */

static int state_of(const pthread_once_t *once)
{
    return __atomic_load_n(once, __ATOMIC_ACQUIRE);
}

static int wait_for(pthread_once_t *once)
{
    struct fibril__thread *t = fibril__thread_self();
    struct fibril_waker_info info = {.name = "pthread once", .object = once};
    int64_t retry_ns = 0;
    if (!t) {
        return EAGAIN;
    }
    fibril_shield_begin();
    while ((state_of(once) & 3) == ONCE_RUNNING) {
        fibril__address_enter(t, once);
        if ((state_of(once) & 3) != ONCE_RUNNING) {
            fibril__address_leave(t);
            break;
        }
        fibril__address_wait_or_retry(t, &info, /* unseen= */ true, &retry_ns, FIBRIL_FOREVER);
    }
    fibril_shield_end();
    return 0;
}

int fibril_posix_pthread_once(pthread_once_t *once, void (*routine)(void))
{
    if (LIKELY(state_of(once) == ONCE_DONE)) {
        return 0;
    }
    if (fibril__on_loop() && (state_of(once) & 3) == ONCE_RUNNING) {
        int rc = wait_for(once);
        if (rc || state_of(once) == ONCE_DONE) {
            return rc;
        }
    }
    int rc = pthread_once(once, routine);
    fibril__address_wake(once, FIBRIL__WAKE_ALL);
    return rc;
}

const struct fibril__call fibril__calls_once[] = {
    FIBRIL__CALL(pthread_once),
    {NULL, NULL, false, NULL},
};
