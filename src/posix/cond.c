/* SPDX-License-Identifier: MIT */
/*
 * Condition variables. A fibril waits in the table of addresses; foreign OS threads wait in libc. A
 * signal goes to one of either: which of them has waited longest is not known, and POSIX lets a
 * signal wake more than one. Real signals without a real waiter cost a load.
 *
 * A fibril enters the table before it unlocks the mutex, so no signal that is sent with the mutex
 * held can miss it.
 */
#include "posix/calls.h"
#include "posix/mutex.h"

enum { CLOCK_IS_MONOTONIC = 2 }; /* libc's bit in __wrefs */

static clockid_t clock_of(const pthread_cond_t *c)
{
    unsigned bits = __atomic_load_n(&c->__data.__wrefs, __ATOMIC_RELAXED);
    return bits & CLOCK_IS_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

/* Waits without having m, and takes it again, however it ends. */
static int wait(struct fibril__thread *t, pthread_cond_t *c, pthread_mutex_t *m,
                int64_t deadline_ns)
{
    struct fibril_waker_info info = {.name = "pthread condition", .object = c};
    fibril__address_enter(t, c);
    int rc = fibril__mutex_unlock(m);
    if (rc != 0) {
        fibril__address_leave(t);
        return rc;
    }
    bool cancellable = t->start && t->cancel_state == PTHREAD_CANCEL_ENABLE;
    if (!cancellable) {
        fibril_shield_begin();
    }
    int waited = fibril__address_wait(t, &info, deadline_ns);
    if (!cancellable) {
        fibril_shield_end();
    }
    rc = fibril__mutex_lock(m, FIBRIL_FOREVER);
    if (waited == -ECANCELED) {
        fibril__thread_heed_cancel();
    }
    return rc ? rc : waited == -ETIMEDOUT ? ETIMEDOUT : waited == -EDEADLK ? EDEADLK : 0;
}

static int wait_until(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                      const struct timespec *until)
{
    int saved = errno;
    int64_t deadline_ns;
    int rc = fibril__deadline_at(clock, until, &deadline_ns);
    struct fibril__thread *t = fibril__thread_self();
    if (rc == 0 && !t) {
        rc = -ENOMEM;
    }
    rc = rc < 0 ? -rc : wait(t, c, m, deadline_ns);
    errno = saved;
    return rc;
}

int fibril_posix_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    if (!fibril__on_loop()) {
        return pthread_cond_wait(c, m);
    }
    return wait_until(c, m, CLOCK_MONOTONIC, NULL);
}

int fibril_posix_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                        const struct timespec *until)
{
    if (!fibril__on_loop()) {
        return pthread_cond_timedwait(c, m, until);
    }
    return wait_until(c, m, clock_of(c), until);
}

int fibril_posix_pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                                        const struct timespec *until)
{
    if (!fibril__on_loop()) {
        return pthread_cond_clockwait(c, m, clock, until);
    }
    return wait_until(c, m, clock, until);
}

int fibril_posix_pthread_cond_signal(pthread_cond_t *c)
{
    fibril__address_wake(c, 1);
    return pthread_cond_signal(c);
}

int fibril_posix_pthread_cond_broadcast(pthread_cond_t *c)
{
    fibril__address_wake(c, FIBRIL__WAKE_ALL);
    return pthread_cond_broadcast(c);
}

/* The imports of the same names from before glibc 2.3.2 have another layout and are left alone. */
const struct fibril__call fibril__calls_cond[] = {
    FIBRIL__CALL_AT(pthread_cond_wait, "GLIBC_2.3.2"),
    FIBRIL__CALL_AT(pthread_cond_timedwait, "GLIBC_2.3.2"),
    FIBRIL__CALL(pthread_cond_clockwait),
    FIBRIL__CALL_AT(pthread_cond_signal, "GLIBC_2.3.2"),
    FIBRIL__CALL_AT(pthread_cond_broadcast, "GLIBC_2.3.2"),
    {NULL, NULL, false, NULL},
};
