/* SPDX-License-Identifier: MIT */
/*
 * Three loops hammer the same mutex, lock, semaphore, condition and channels, also by select, with
 * deadlines of a few microseconds and cancellations from everywhere, so that wake-ups race with
 * giving up all the time. Whatever happens, a lock has one owner, a permit is neither lost nor
 * doubled, and what was reported sent was received once. Every wait has a deadline and every worker
 * a number of operations: the test ends by itself. Meant for ThreadSanitizer.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>
#include <stdatomic.h>

enum { LOOPS = 3, WORKERS = 6, CHANS = 3, PERMITS = 2, US = 1000 };

static struct fibril_loop *loops[LOOPS];
static struct fibril *workers[LOOPS * WORKERS];
static struct fibril_mutex *m;
static struct fibril_rwlock *l;
static struct fibril_sem *s;
static struct fibril_cond *c;
static struct fibril_chan *chans[CHANS];
static uint64_t under_mutex, under_lock; /* plain: the locks order them */
static atomic_ullong locked, written, sent_sum, received_sum, sent, received, cancels;
static atomic_int permits_out;

static int operations(void)
{
    return test_is_long() ? 20000 : test_is_slow() ? 500 : 4000;
}

static unsigned next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33);
}

static int64_t soon(uint64_t *random)
{
    return fibril_after((int64_t)(next_random(random) % 40) * US);
}

/* Returns whether the operation was carried out; a cancellation is dealt with. */
static bool done(int rc)
{
    if (rc == -ECANCELED) {
        ASSERT(fibril_cancel_clear());
        atomic_fetch_add(&cancels, 1);
    }
    ASSERT(rc >= 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    return rc >= 0;
}

static void use_mutex(uint64_t *random)
{
    if (done(fibril_mutex_lock(m, soon(random)))) {
        under_mutex++;
        atomic_fetch_add(&locked, 1);
        if (next_random(random) % 4 == 0) {
            done(fibril_cond_wait(c, m, soon(random)));
            ASSERT(fibril_mutex_owner(m) == fibril_current());
        } else if (next_random(random) % 4 == 0) {
            fibril_yield();
        }
        fibril_cond_signal(c);
        ASSERT_OK(fibril_mutex_unlock(m));
    }
}

static void use_lock(uint64_t *random)
{
    bool writes = next_random(random) % 3 == 0;
    if (done(writes ? fibril_rwlock_write(l, soon(random)) : fibril_rwlock_read(l, soon(random)))) {
        if (writes) {
            under_lock++;
            atomic_fetch_add(&written, 1);
        } else {
            uint64_t before = under_lock;
            fibril_yield();
            ASSERT_EQ(under_lock, before); /* nobody writes while this one reads */
        }
        ASSERT_OK(fibril_rwlock_unlock(l));
    }
}

static void use_semaphore(uint64_t *random)
{
    if (done(fibril_sem_wait(s, soon(random)))) {
        ASSERT_LT(atomic_fetch_add(&permits_out, 1), PERMITS);
        if (next_random(random) % 2) {
            fibril_yield();
        }
        atomic_fetch_sub(&permits_out, 1);
        ASSERT_OK(fibril_sem_post(s));
    }
}

static void count(atomic_ullong *number, atomic_ullong *sum, uint64_t value)
{
    atomic_fetch_add(number, 1);
    atomic_fetch_add(sum, value);
}

static void use_channel(uint64_t *random)
{
    struct fibril_chan *ch = chans[next_random(random) % CHANS];
    uint64_t value = next_random(random);
    if (next_random(random) % 2) {
        if (done(fibril_chan_send(ch, &value, soon(random)))) {
            count(&sent, &sent_sum, value);
        }
    } else if (done(fibril_chan_recv(ch, &value, soon(random)))) {
        count(&received, &received_sum, value);
    }
}

static void use_select(uint64_t *random)
{
    uint64_t value = next_random(random), in[CHANS];
    struct fibril_case cases[2 * CHANS];
    for (int i = 0; i < CHANS; i++) {
        cases[2 * i] =
            (struct fibril_case){.op = FIBRIL_CASE_RECV, .chan = chans[i], .elem = &in[i]};
        cases[2 * i + 1] = (struct fibril_case){
            .op = FIBRIL_CASE_SEND, .chan = chans[CHANS - 1 - i], .elem = &value};
    }
    int index = fibril_select(cases, 2 * CHANS, soon(random));
    if (done(index)) {
        ASSERT_EQ(cases[index].result, 0);
        if (index % 2) {
            count(&sent, &sent_sum, value);
        } else {
            count(&received, &received_sum, in[index / 2]);
        }
    }
}

static int work(void *arg)
{
    static void (*const uses[])(uint64_t * random) = {use_mutex, use_lock, use_semaphore,
                                                      use_channel, use_select};
    uint64_t random = (uint64_t)(uintptr_t)arg * 2654435761u + 1;
    for (int i = 0; i < operations(); i++) {
        uses[next_random(&random) % 5](&random);
        if (i % 16 == 0) {
            fibril_yield();
        }
    }
    return 0;
}

/* Cancels workers of all loops while they work. */
static int harass(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < operations() / 10; i++) {
        ASSERT_OK(fibril_cancel(workers[next_random(&random) % (LOOPS * WORKERS)]));
        ASSERT_OK(fibril_sleep((int64_t)(next_random(&random) % 100) * US));
    }
    return 0;
}

static void make(void)
{
    ASSERT_OK(fibril_mutex_new(FIBRIL_SHARED, &m));
    ASSERT_OK(fibril_rwlock_new(FIBRIL_SHARED, &l));
    ASSERT_OK(fibril_sem_new(PERMITS, FIBRIL_SHARED, &s));
    ASSERT_OK(fibril_cond_new(FIBRIL_SHARED, &c));
    for (int i = 0; i < CHANS; i++) { /* one that meets, two that buffer */
        ASSERT_OK(fibril_chan_new(sizeof(uint64_t), (size_t)i, FIBRIL_SHARED, &chans[i]));
    }
}

static void check(void)
{
    uint64_t value;
    for (int i = 0; i < CHANS; i++) {
        while (fibril_chan_try_recv(chans[i], &value) == 0) {
            count(&received, &received_sum, value);
        }
        ASSERT_ERR(fibril_chan_try_recv(chans[i], &value), -EAGAIN);
    }
    ASSERT_EQ(sent, received);
    ASSERT_EQ(sent_sum, received_sum);
    ASSERT_EQ(under_mutex, locked);
    ASSERT_EQ(under_lock, written);
    ASSERT(!fibril_mutex_owner(m));
    for (int i = 0; i < PERMITS; i++) {
        ASSERT_OK(fibril_sem_try_wait(s));
    }
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    ASSERT_GT(sent, 0);
}

static void dismantle(void)
{
    fibril_mutex_free(m);
    fibril_rwlock_free(l);
    fibril_sem_free(s);
    fibril_cond_free(c);
    for (int i = 0; i < CHANS; i++) {
        fibril_chan_free(chans[i]);
    }
}

static int run(void *arg)
{
    struct fibril *harassers[LOOPS];
    (void)arg;
    make();
    loops[0] = fibril_loop_current();
    for (int i = 1; i < LOOPS; i++) {
        ASSERT_OK(fibril_loop_start(NULL, &loops[i]));
    }
    for (int i = 0; i < LOOPS * WORKERS; i++) {
        struct fibril_spawn_opts opts = {.loop = loops[i % LOOPS],
                                         .stack = i % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN};
        ASSERT_OK(fibril_spawn(work, (void *)(uintptr_t)i, &opts, &workers[i]));
    }
    for (int i = 0; i < LOOPS; i++) {
        struct fibril_spawn_opts opts = {.loop = loops[i]};
        ASSERT_OK(fibril_spawn(harass, (void *)(uintptr_t)(i + 1000), &opts, &harassers[i]));
    }
    for (int i = 0; i < LOOPS; i++) {
        ASSERT_OK(fibril_join(harassers[i], FIBRIL_FOREVER, NULL));
    }
    for (int i = 0; i < LOOPS * WORKERS; i++) {
        ASSERT_OK(fibril_join(workers[i], FIBRIL_FOREVER, NULL));
    }
    for (int i = 1; i < LOOPS; i++) {
        ASSERT_OK(fibril_loop_stop(loops[i]));
    }
    check();
    dismantle();
    return 0;
}

TEST_WITHIN(sync_between_loops_survives_deadlines_and_cancellation, 120)
{
    ASSERT_EQ(fibril_run(NULL, run, NULL), 0);
    ASSERT_GT(cancels, 0);
}
