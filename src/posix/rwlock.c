/* SPDX-License-Identifier: MIT */
/*
 * Read-write locks: real ones, taken by a real try. Waiters are woken together when the lock is
 * given back, since which of them can go is libc's decision; whoever cannot waits again.
 */
#include "posix/calls.h"
#include "posix/address.h"

typedef int try_fn(pthread_rwlock_t *l);

/* Who has it for writing: libc's word holds the OS thread, which all fibrils of a loop share, or
 * while a fibril other than the main one has it, that fibril's mark. libc sees its own number again
 * when it is asked to unlock. */
static int writer_of(const pthread_rwlock_t *l)
{
    return __atomic_load_n(&l->__data.__cur_writer, __ATOMIC_RELAXED);
}

static void set_writer(pthread_rwlock_t *l, int writer)
{
    __atomic_store_n(&l->__data.__cur_writer, writer, __ATOMIC_RELAXED);
}

static int try_write(pthread_rwlock_t *l)
{
    const struct fibril__thread *t = fibril__thread_self();
    int rc = t ? pthread_rwlock_trywrlock(l) : EAGAIN;
    if (rc == 0) {
        set_writer(l, t->owner);
    }
    return rc;
}

static int wait_for(pthread_rwlock_t *l, try_fn *try, int64_t deadline_ns)
{
    struct fibril__thread *t = fibril__thread_self();
    struct fibril_waker_info info = {.name = "pthread rwlock", .object = l};
    int64_t retry_ns = 0;
    if (!t) {
        return EAGAIN;
    }
    if (writer_of(l) == t->owner) {
        return EDEADLK;
    }
    for (;;) {
        fibril__address_enter(t, l);
        int rc = try(l);
        if (rc != EBUSY) {
            fibril__address_leave(t);
            return rc;
        }
        bool shared = l->__data.__shared != 0;
        int waited = fibril__address_wait_or_retry(t, &info, shared, &retry_ns, deadline_ns);
        if (waited == -ETIMEDOUT) {
            rc = try(l);
            return rc == EBUSY ? ETIMEDOUT : rc;
        }
    }
}

/* Neither cancellation nor signals end it. */
static int lock(pthread_rwlock_t *l, try_fn *try, clockid_t clock, const struct timespec *until)
{
    int saved = errno;
    int rc = try(l);
    if (rc == EBUSY) {
        int64_t deadline_ns;
        rc = -fibril__deadline_at(clock, until, &deadline_ns);
        if (rc == 0) {
            fibril_shield_begin();
            rc = wait_for(l, try, deadline_ns);
            fibril_shield_end();
        }
    }
    errno = saved;
    return rc;
}

int fibril_posix_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
    return fibril__on_loop() ? lock(l, pthread_rwlock_tryrdlock, CLOCK_MONOTONIC, NULL)
                             : pthread_rwlock_rdlock(l);
}

int fibril_posix_pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *until)
{
    return fibril__on_loop() ? lock(l, pthread_rwlock_tryrdlock, CLOCK_REALTIME, until)
                             : pthread_rwlock_timedrdlock(l, until);
}

int fibril_posix_pthread_rwlock_clockrdlock(pthread_rwlock_t *l, clockid_t clock,
                                            const struct timespec *until)
{
    return fibril__on_loop() ? lock(l, pthread_rwlock_tryrdlock, clock, until)
                             : pthread_rwlock_clockrdlock(l, clock, until);
}

int fibril_posix_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
    return fibril__on_loop() ? lock(l, try_write, CLOCK_MONOTONIC, NULL) : pthread_rwlock_wrlock(l);
}

int fibril_posix_pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *until)
{
    return fibril__on_loop() ? lock(l, try_write, CLOCK_REALTIME, until)
                             : pthread_rwlock_timedwrlock(l, until);
}

int fibril_posix_pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock,
                                            const struct timespec *until)
{
    return fibril__on_loop() ? lock(l, try_write, clock, until)
                             : pthread_rwlock_clockwrlock(l, clock, until);
}

int fibril_posix_pthread_rwlock_trywrlock(pthread_rwlock_t *l)
{
    return fibril__on_loop() ? try_write(l) : pthread_rwlock_trywrlock(l);
}

int fibril_posix_pthread_rwlock_unlock(pthread_rwlock_t *l)
{
    int writer = writer_of(l);
    if (writer != 0 && fibril__on_loop()) {
        const struct fibril__thread *t = fibril__thread_self();
        if (!t || writer != t->owner) {
            return EPERM; /* libc would give back a reading that is not there */
        }
        set_writer(l, fibril__os_thread());
    }
    int rc = pthread_rwlock_unlock(l);
    if (rc == 0) {
        fibril__address_wake(l, FIBRIL__WAKE_ALL);
    }
    return rc;
}

const struct fibril__call fibril__calls_rwlock[] = {
    FIBRIL__CALL(pthread_rwlock_rdlock),
    FIBRIL__CALL(pthread_rwlock_timedrdlock),
    FIBRIL__CALL(pthread_rwlock_clockrdlock),
    FIBRIL__CALL(pthread_rwlock_wrlock),
    FIBRIL__CALL(pthread_rwlock_timedwrlock),
    FIBRIL__CALL(pthread_rwlock_clockwrlock),
    FIBRIL__CALL(pthread_rwlock_trywrlock),
    FIBRIL__CALL(pthread_rwlock_unlock),
    {NULL, NULL, false, NULL},
};
