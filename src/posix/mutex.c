/* SPDX-License-Identifier: MIT */
/*
 * See mutex.h. Recursive and error-checking mutexes know their owner by the number of its OS
 * thread, which all fibrils of a loop share. So while a fibril other than the main one holds such a
 * mutex, its owner field holds the fibril's mark instead: no OS thread finds itself there, and each
 * fibril only itself. libc sees its own number there only during a real call of the owner.
 *
 * Rejected: a table of held mutexes, which would cost a look-up and memory for each lock.
 */
#include "posix/mutex.h"

#include "base/alloc.h"
#include "posix/calls.h"

enum {
    TYPE_MASK = 3, /* the bits of libc's __kind that hold PTHREAD_MUTEX_* */
    ROBUST = 16,
    PROTOCOLS = 32 | 64, /* priority inheritance and protection */
    SHARED = 128,
};

static int kind_of(const pthread_mutex_t *m)
{
    return __atomic_load_n(&m->__data.__kind, __ATOMIC_RELAXED);
}

static int owner_of(const pthread_mutex_t *m)
{
    return __atomic_load_n(&m->__data.__owner, __ATOMIC_RELAXED);
}

static void set_owner(pthread_mutex_t *m, int owner)
{
    __atomic_store_n(&m->__data.__owner, owner, __ATOMIC_RELAXED);
}

/* t may come to hold such mutexes. */
static void expect_to_hold(struct fibril__thread *t)
{
    if (UNLIKELY(!t->holder)) {
        t->holder = fibril__alloc_zero(sizeof *t->holder);
        if (t->holder) {
            t->holder->fibril = t->fibril;
        }
    }
}

/* Which thread holds m, for reports, is noted where libc would link a robust mutex, which one that
 * knows its owner is not. Where there was no memory reports do not know. */
static void note_holder(pthread_mutex_t *m, struct fibril__thread *t)
{
    struct fibril__holder *holder = t->holder;
    if (holder) {
        holder->held++;
        __atomic_store_n(&m->__data.__list.__prev, (void *)holder, __ATOMIC_RELAXED);
    }
}

static void forget_holder(pthread_mutex_t *m, struct fibril__thread *t)
{
    struct fibril__holder *holder = t->holder;
    if (holder && (void *)m->__data.__list.__prev == holder) { /* else locked before the layer came
                                                                */
        holder->held--;
        __atomic_store_n(&m->__data.__list.__prev, NULL, __ATOMIC_RELAXED);
    }
}

/* Whether m knows its owner by number. Robust and priority mutexes do so in the lock word, which is
 * the kernel's too: those are left to the OS thread. */
static bool knows_owner(const pthread_mutex_t *m)
{
    int kind = kind_of(m);
    int type = kind & TYPE_MASK;
    return (type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) &&
           !(kind & (ROBUST | PROTOCOLS));
}

/* ---- trying ---- */

/* A real try by a fibril that already holds m: libc must see its own number. */
static int try_again(pthread_mutex_t *m, int mark)
{
    set_owner(m, fibril__os_thread());
    int rc = pthread_mutex_trylock(m);
    set_owner(m, mark);
    return rc;
}

static int try_owned(pthread_mutex_t *m, struct fibril__thread *t)
{
    int owner = owner_of(m), mark = t->owner;
    if (owner == mark) {
        return try_again(m, mark);
    }
    if (owner == fibril__os_thread()) {
        return EBUSY; /* the main fibril's: libc would take it for ours */
    }
    int rc = pthread_mutex_trylock(m);
    if (rc == 0) {
        expect_to_hold(t);
        set_owner(m, mark);
        note_holder(m, t);
    }
    return rc;
}

static int try(pthread_mutex_t *m)
{
    if (LIKELY(!knows_owner(m))) {
        return pthread_mutex_trylock(m);
    }
    struct fibril__thread *t = fibril__thread_self();
    return t ? try_owned(m, t) : EAGAIN;
}

/* An error-checking mutex refuses its owner; a try only says EBUSY. */
static bool would_deadlock(const pthread_mutex_t *m, const struct fibril__thread *t)
{
    return knows_owner(m) && (kind_of(m) & TYPE_MASK) == PTHREAD_MUTEX_ERRORCHECK &&
           owner_of(m) == t->owner;
}

/* ---- waiting ---- */

/* Whether m may be released without our seeing it: its owner is no fibril of this OS thread. */
static bool may_miss(const pthread_mutex_t *m)
{
    int owner = owner_of(m);
    bool fibrils = owner == fibril__os_thread() || (knows_owner(m) && owner >= 1 << 30);
    return !fibrils || (kind_of(m) & SHARED);
}

/* For reports: the fibril that holds it, where the mutex knows. */
static struct fibril *holder(const void *object)
{
    const pthread_mutex_t *m = object;
    const struct fibril__holder *h = NULL;
    if (knows_owner(m) && owner_of(m) != 0) {
        h = (const void *)__atomic_load_n(&m->__data.__list.__prev, __ATOMIC_RELAXED);
    }
    return h ? h->fibril : NULL;
}

static int wait_for(pthread_mutex_t *m, struct fibril__thread *t, int64_t deadline_ns)
{
    struct fibril_waker_info info = {.name = "pthread mutex", .object = m, .holder = holder};
    int64_t retry_ns = 0;
    for (;;) {
        fibril__address_enter(t, m);
        int rc = try(m);
        if (rc != EBUSY) {
            if (!fibril__address_leave(t) && t->given && rc == 0) {
                fibril__mutex_unlock(m); /* a recursive one: given and then taken once more */
            }
            return rc;
        }
        bool miss = may_miss(m);
        t->tries = miss;
        info.inside = !miss;
        int waited = fibril__address_wait_or_retry(t, &info, miss, &retry_ns, deadline_ns);
        if (t->given) {
            return 0;
        }
        if (waited == -ETIMEDOUT) {
            rc = try(m);
            return rc == EBUSY ? ETIMEDOUT : rc;
        }
        if (waited == -EDEADLK) {
            return EDEADLK;
        }
    }
}

/* Leaves errno alone, as the calls do: others run while it waits. */
static NOINLINE int lock_slow(pthread_mutex_t *m, int64_t deadline_ns)
{
    int saved = errno;
    struct fibril__thread *t = fibril__thread_self();
    if (!t) {
        return EAGAIN;
    }
    if (would_deadlock(m, t)) {
        return EDEADLK;
    }
    if (knows_owner(m)) {
        expect_to_hold(t); /* it may be given to us */
    }
    fibril_shield_begin();
    int rc = wait_for(m, t, deadline_ns);
    fibril_shield_end();
    errno = saved;
    return rc;
}

int fibril__mutex_lock(pthread_mutex_t *m, int64_t deadline_ns)
{
    int rc = try(m);
    return LIKELY(rc != EBUSY) ? rc : lock_slow(m, deadline_ns);
}

/* ---- unlocking ---- */

/* The mutex stays locked and changes hands. */
static void give(struct fibril__thread *to, const void *m)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)m;
    if (knows_owner(mutex)) {
        set_owner(mutex, to->owner);
        note_holder(mutex, to);
    }
}

/* Whether a fibril has got it: not while OS threads wait in libc (2 in the lock word), which are
 * not to be passed over for ever, nor where the lock word itself names the owner. */
static bool give_away(pthread_mutex_t *m)
{
    enum { CONTENDED = 2 };
    return __atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) != CONTENDED &&
           !(kind_of(m) & (ROBUST | PROTOCOLS | SHARED)) && fibril__address_give_slow(m, give);
}

/* libc is to see its own number, and after the last unlock m may be gone. */
static int unlock_owned(pthread_mutex_t *m, int mark, bool last)
{
    set_owner(m, fibril__os_thread());
    int rc = pthread_mutex_unlock(m);
    if (!last) {
        set_owner(m, mark);
    }
    return rc;
}

static int unlock_as(pthread_mutex_t *m, struct fibril__thread *t)
{
    if (owner_of(m) != t->owner) {
        return EPERM;
    }
    bool last = m->__data.__count <= 1;
    if (last) {
        forget_holder(m, t);
        if (UNLIKELY(fibril__address_any(m)) && give_away(m)) {
            return 0;
        }
    }
    int rc = unlock_owned(m, t->owner, last);
    if (rc == 0 && last) {
        fibril__address_wake(m, 1);
    }
    return rc;
}

int fibril__mutex_unlock(pthread_mutex_t *m)
{
    if (UNLIKELY(knows_owner(m))) {
        struct fibril__thread *t = fibril__thread_self();
        return t ? unlock_as(m, t) : EPERM;
    }
    if (UNLIKELY(fibril__address_any(m)) && give_away(m)) {
        return 0;
    }
    int rc = pthread_mutex_unlock(m);
    if (rc == 0) {
        fibril__address_wake(m, 1);
    }
    return rc;
}

/* ---- the calls ---- */

int fibril_posix_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!fibril__on_loop()) {
        return pthread_mutex_lock(m);
    }
    return fibril__mutex_lock(m, FIBRIL_FOREVER);
}

int fibril_posix_pthread_mutex_trylock(pthread_mutex_t *m)
{
    return fibril__on_loop() ? try(m) : pthread_mutex_trylock(m);
}

int fibril_posix_pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock,
                                         const struct timespec *until)
{
    if (!fibril__on_loop()) {
        return pthread_mutex_clocklock(m, clock, until);
    }
    int rc = try(m);
    if (rc == EBUSY) {
        int64_t deadline_ns;
        rc = fibril__deadline_at(clock, until, &deadline_ns);
        rc = rc < 0 ? -rc : lock_slow(m, deadline_ns);
    }
    return rc;
}

int fibril_posix_pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
    if (!fibril__on_loop()) {
        return pthread_mutex_timedlock(m, until);
    }
    return fibril_posix_pthread_mutex_clocklock(m, CLOCK_REALTIME, until);
}

int fibril_posix_pthread_mutex_unlock(pthread_mutex_t *m)
{
    if (fibril__on_loop()) {
        return fibril__mutex_unlock(m);
    }
    int rc = pthread_mutex_unlock(m);
    if (rc == 0) {
        fibril__address_wake(m, 1);
    }
    return rc;
}

const struct fibril__call fibril__calls_mutex[] = {
    FIBRIL__CALL(pthread_mutex_lock),      FIBRIL__CALL(pthread_mutex_trylock),
    FIBRIL__CALL(pthread_mutex_timedlock), FIBRIL__CALL(pthread_mutex_clocklock),
    FIBRIL__CALL(pthread_mutex_unlock),    {NULL, NULL, false, NULL},
};
