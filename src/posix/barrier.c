/* SPDX-License-Identifier: MIT */
/*
 * Barriers and spin locks. A barrier's real wait cannot be tried, so this one replaces it, also on
 * OS threads without a loop: a round is over when a full count has arrived in it. It is kept in the
 * barrier's own five words in the sense that libc gives them, so that pthread_barrier_init and
 * pthread_barrier_destroy, which waits for the last to leave, stay libc's.
 *
 * Barriers that processes share are libc's alone, and block the OS thread.
 */
#include "posix/calls.h"
#include "posix/futex_wait.h"
#include "posix/mutex.h"

struct barrier {
    unsigned in;    /* how many have come since the last reset */
    unsigned round; /* how many of those belong to rounds that are over */
    unsigned count;
    int shared;
    unsigned out; /* how many have gone; at the last possible one, all starts from 0 */
};

/* Counting starts anew before it can overflow: at a multiple of the count. */
static unsigned most(const struct barrier *b)
{
    unsigned threshold = UINT_MAX / 2;
    return threshold - threshold % b->count;
}

/* The rounds of two OS threads may end in the other order. */
static void end_round(struct barrier *b, unsigned end)
{
    unsigned round = __atomic_load_n(&b->round, __ATOMIC_RELAXED);
    while (round < end && !__atomic_compare_exchange_n(&b->round, &round, end, /* weak= */ true,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
    fibril__address_wake(&b->round, FIBRIL__WAKE_ALL);
    fibril__futex_wake((_Atomic int *)&b->round, INT_MAX);
}

/* Waits on a loop until *word is not `value` any more. */
static void wait_here(struct fibril__thread *t, unsigned *word, unsigned value)
{
    struct fibril_waker_info info = {.name = "pthread barrier", .object = word};
    fibril__address_enter(t, word);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) {
        fibril__address_leave(t);
    } else {
        fibril__address_wait(t, &info, FIBRIL_FOREVER);
    }
}

static void wait_change(unsigned *word, unsigned value)
{
    struct fibril__thread *t = fibril__on_loop() ? fibril__thread_self() : NULL;
    if (t) {
        fibril_shield_begin();
        wait_here(t, word, value);
        fibril_shield_end();
    } else {
        fibril__futex_wait((_Atomic int *)word, (int)value, CLOCK_MONOTONIC, NULL);
    }
}

/* Number `mine` waits until its round, which ends at `end`, is over. */
static void await_round(struct barrier *b, unsigned end)
{
    unsigned round;
    while ((round = __atomic_load_n(&b->round, __ATOMIC_SEQ_CST)) < end) {
        wait_change(&b->round, round);
    }
}

/* Takes a number. Those who come when numbers have run out wait until all others have gone. */
static unsigned arrive(struct barrier *b)
{
    unsigned last = most(b), mine;
    while ((mine = __atomic_add_fetch(&b->in, 1, __ATOMIC_SEQ_CST)) > last) {
        unsigned in = mine;
        while (in > last) {
            wait_change(&b->in, in);
            in = __atomic_load_n(&b->in, __ATOMIC_SEQ_CST);
        }
    }
    return mine;
}

static void leave(struct barrier *b)
{
    unsigned last = most(b);
    if (__atomic_add_fetch(&b->out, 1, __ATOMIC_SEQ_CST) < last) {
        return;
    }
    __atomic_store_n(&b->round, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&b->out, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&b->in, 0, __ATOMIC_SEQ_CST);
    fibril__address_wake(&b->in, FIBRIL__WAKE_ALL);
    fibril__futex_wake((_Atomic int *)&b->in, INT_MAX);
}

int fibril_posix_pthread_barrier_wait(pthread_barrier_t *barrier)
{
    struct barrier *b = (struct barrier *)(void *)barrier;
    _Static_assert(sizeof *b <= sizeof *barrier, "libc's barrier is smaller than these words");
    if (b->shared) {
        return pthread_barrier_wait(barrier);
    }
    int saved = errno;
    unsigned mine = arrive(b);
    unsigned end = mine + (b->count - mine % b->count) % b->count;
    bool serial = mine == end;
    if (serial) {
        end_round(b, end);
    } else {
        await_round(b, end);
    }
    leave(b);
    errno = saved;
    return serial ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}

/* Whoever has it may be a fibril of this very OS thread. */
int fibril_posix_pthread_spin_lock(pthread_spinlock_t *lock)
{
    if (!fibril__on_loop()) {
        return pthread_spin_lock(lock);
    }
    int saved = errno;
    fibril_shield_begin();
    while (pthread_spin_trylock(lock) != 0) {
        fibril_yield();
    }
    fibril_shield_end();
    errno = saved;
    return 0;
}

const struct fibril__call fibril__calls_barrier[] = {
    FIBRIL__CALL(pthread_barrier_wait),
    FIBRIL__CALL(pthread_spin_lock),
    {NULL, NULL, false, NULL},
};
