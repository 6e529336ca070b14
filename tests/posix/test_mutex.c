/* SPDX-License-Identifier: MIT */
/* Mutexes of every kind: who owns them, what each call answers, and who gets them next. */
#include "thread_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum kind { NORMAL, RECURSIVE, ERRORCHECK, ADAPTIVE, ROBUST, SHARED, KINDS };

static pthread_mutex_t made[KINDS];

static pthread_mutex_t *make(enum kind kind)
{
    static const int types[KINDS] = {PTHREAD_MUTEX_NORMAL,     PTHREAD_MUTEX_RECURSIVE,
                                     PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP,
                                     PTHREAD_MUTEX_NORMAL,     PTHREAD_MUTEX_NORMAL};
    pthread_mutexattr_t attr;
    ASSERT_EQ(pthread_mutexattr_init(&attr), 0);
    ASSERT_EQ(pthread_mutexattr_settype(&attr, types[kind]), 0);
    if (kind == ROBUST) {
        ASSERT_EQ(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), 0);
    }
    if (kind == SHARED) {
        ASSERT_EQ(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
    }
    ASSERT_EQ(pthread_mutex_init(&made[kind], &attr), 0);
    pthread_mutexattr_destroy(&attr);
    return &made[kind];
}

static int lock(pthread_mutex_t *m)
{
    return fibril_posix_pthread_mutex_lock(m);
}

static int unlock(pthread_mutex_t *m)
{
    return fibril_posix_pthread_mutex_unlock(m);
}

static int try(pthread_mutex_t *m)
{
    return fibril_posix_pthread_mutex_trylock(m);
}

/* ---- between fibrils ---- */

static void *try_it(void *arg)
{
    return (void *)(intptr_t)try(arg);
}

static void *lock_and_unlock(void *arg)
{
    ASSERT_EQ(lock(arg), 0);
    ASSERT_EQ(unlock(arg), 0);
    return NULL;
}

ON_LOOP(a_mutex_shuts_other_fibrils_out_whatever_its_kind)
{
    for (int kind = 0; kind < KINDS; kind++) {
        pthread_mutex_t *m = make((enum kind)kind);
        ASSERT_EQ(lock(m), 0);
        ASSERT_EQ((intptr_t)rig_end(rig_go(try_it, m)), EBUSY);
        pthread_t waiter = rig_go(lock_and_unlock, m);
        rig_settle();
        ASSERT_EQ(fibril_posix_pthread_tryjoin_np(waiter, NULL), EBUSY);
        ASSERT_EQ(unlock(m), 0);
        rig_end(waiter);
        ASSERT_EQ(try(m), 0);
        ASSERT_EQ(unlock(m), 0);
        ASSERT_EQ(pthread_mutex_destroy(m), 0);
    }
}

static void *hold_in_thread(void *arg)
{
    ASSERT_EQ(lock(arg), 0);
    fibril_sleep(RIG_MS);
    ASSERT_EQ(unlock(arg), 0);
    return NULL;
}

ON_LOOP(the_main_fibril_and_others_shut_each_other_out)
{
    for (int kind = 0; kind < KINDS; kind++) {
        pthread_mutex_t *m = make((enum kind)kind);
        pthread_t thread = rig_go(hold_in_thread, m);
#if !FIBRIL_HARD /* which turns the queue: it may not have begun */
        fibril_yield();
        ASSERT_EQ(try(m), EBUSY);
#endif
        ASSERT_EQ(lock(m), 0); /* waits until it is over */
        ASSERT_EQ(unlock(m), 0);
        rig_end(thread);
    }
}

static void *own_again(void *arg)
{
    pthread_mutex_t *m = arg;
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(lock(m), 0);
    }
    ASSERT_EQ(try(m), 0);
    for (int i = 0; i < 6; i++) {
        fibril_yield();
        ASSERT_EQ(unlock(m), 0);
    }
    ASSERT_EQ(unlock(m), EPERM);
    return NULL;
}

ON_LOOP(a_recursive_mutex_counts_for_its_owner_only)
{
    pthread_mutex_t *m = make(RECURSIVE);
    pthread_t threads[20];
    for (int i = 0; i < 20; i++) {
        threads[i] = rig_go(own_again, m);
    }
    own_again(m);
    for (int i = 0; i < 20; i++) {
        rig_end(threads[i]);
    }
    ASSERT_EQ(pthread_mutex_destroy(m), 0);
}

static void *check_errors(void *arg)
{
    pthread_mutex_t *m = arg;
    struct timespec soon = rig_time(CLOCK_REALTIME, 1000);
    ASSERT_EQ(unlock(m), EPERM);
    ASSERT_EQ(lock(m), 0);
    ASSERT_EQ(lock(m), EDEADLK);
    ASSERT_EQ(try(m), EBUSY);
    ASSERT_EQ(fibril_posix_pthread_mutex_timedlock(m, &soon), EDEADLK);
    fibril_yield();
    ASSERT_EQ(unlock(m), 0);
    ASSERT_EQ(unlock(m), EPERM);
    return NULL;
}

static void *unlock_of_another(void *arg)
{
    return (void *)(intptr_t)unlock(arg);
}

ON_LOOP(an_error_checking_mutex_tells_fibrils_apart)
{
    pthread_mutex_t *m = make(ERRORCHECK);
    check_errors(m);
    pthread_t a = rig_go(check_errors, m), b = rig_go(check_errors, m);
    rig_end(a);
    rig_end(b);
    ASSERT_EQ(lock(m), 0);
    ASSERT_EQ((intptr_t)rig_end(rig_go(unlock_of_another, m)), EPERM);
    ASSERT_EQ(unlock(m), 0);
    m = make(RECURSIVE);
    ASSERT_EQ(lock(m), 0);
    ASSERT_EQ((intptr_t)rig_end(rig_go(unlock_of_another, m)), EPERM);
    ASSERT_EQ(unlock(m), 0);
}

/* ---- times ---- */

static void *time_out(void *arg)
{
    pthread_mutex_t *m = arg;
    struct timespec past = rig_time(CLOCK_REALTIME, -1000);
    struct timespec soon = rig_time(CLOCK_REALTIME, 2), soon_mono = rig_time(CLOCK_MONOTONIC, 2);
    struct timespec bad = {.tv_sec = soon.tv_sec, .tv_nsec = 1000000000};
    errno = EXDEV;
    ASSERT_EQ(fibril_posix_pthread_mutex_timedlock(m, &past), ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_mutex_timedlock(m, &soon), ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &soon_mono), ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_mutex_timedlock(m, &bad), EINVAL);
    ASSERT_EQ(errno, EXDEV);
    return NULL;
}

ON_LOOP(a_timed_lock_ends_with_ETIMEDOUT_and_keeps_errno)
{
    for (int kind = 0; kind < KINDS; kind++) {
        pthread_mutex_t *m = make((enum kind)kind);
        ASSERT_EQ(lock(m), 0);
        rig_end(rig_go(time_out, m));
        ASSERT_EQ(unlock(m), 0);
        struct timespec past = rig_time(CLOCK_REALTIME, -1000);
        ASSERT_EQ(fibril_posix_pthread_mutex_timedlock(m, &past), 0); /* free: no wait, no error */
        ASSERT_EQ(unlock(m), 0);
    }
}

/* ---- order ---- */

static unsigned order[8], order_len;

static void *lock_and_note(void *arg)
{
    pthread_mutex_t *m = &made[NORMAL];
    ASSERT_EQ(lock(m), 0);
    order[order_len++] = (unsigned)(uintptr_t)arg;
    ASSERT_EQ(unlock(m), 0);
    return NULL;
}

ON_LOOP(a_mutex_is_handed_to_the_one_that_waits_longest)
{
    pthread_mutex_t *m = make(NORMAL);
    pthread_t threads[8];
    ASSERT_EQ(lock(m), 0);
    for (unsigned i = 0; i < 8; i++) {
        threads[i] = rig_go(lock_and_note, (void *)(uintptr_t)i);
        rig_settle();
    }
    ASSERT_EQ(unlock(m), 0);
    ASSERT_EQ(try(m), EBUSY); /* it is the first one's already */
    for (unsigned i = 0; i < 8; i++) {
        rig_end(threads[i]);
        ASSERT_EQ(order[i], i);
    }
}

/* ---- cancelling ---- */

static void *lock_cancelled(void *arg)
{
    ASSERT_EQ(lock(arg), 0); /* no place to be cancelled at */
    ASSERT_EQ(unlock(arg), 0);
    fibril_posix_pthread_testcancel();
    return (void *)1;
}

ON_LOOP(cancelling_does_not_end_the_wait_for_a_mutex)
{
    pthread_mutex_t *m = make(NORMAL);
    ASSERT_EQ(lock(m), 0);
    pthread_t thread = rig_go(lock_cancelled, m);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_tryjoin_np(thread, NULL), EBUSY);
    ASSERT_EQ(unlock(m), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
    ASSERT_EQ(try(m), 0);
}

/* ---- deadlocks ---- */

static void *lock_both(void *arg)
{
    enum kind first = (enum kind)(uintptr_t)arg;
    enum kind second = first == RECURSIVE ? ERRORCHECK : RECURSIVE;
    ASSERT_EQ(lock(&made[first]), 0);
    rig_settle();
    struct timespec soon = rig_time(CLOCK_REALTIME, 300);
    int rc = fibril_posix_pthread_mutex_timedlock(&made[second], &soon);
    ASSERT(rc == ETIMEDOUT || rc == 0);
    if (rc == 0) {
        ASSERT_EQ(unlock(&made[second]), 0);
    }
    ASSERT_EQ(unlock(&made[first]), 0);
    return NULL;
}

ON_LOOP(a_report_names_a_cycle_of_mutexes)
{
    char text[8192];
    int pipe_ends[2];
    make(RECURSIVE);
    make(ERRORCHECK);
    pthread_t a = rig_go(lock_both, (void *)RECURSIVE), b = rig_go(lock_both, (void *)ERRORCHECK);
    fibril_posix_pthread_setname_np(a, "ann");
    fibril_posix_pthread_setname_np(b, "bob");
    fibril_sleep(20 * RIG_MS);
    ASSERT_OK(pipe(pipe_ends));
    ASSERT_EQ(fibril_deadlocks(pipe_ends[1]), 1);
    ssize_t n = read(pipe_ends[0], text, sizeof text - 1);
    ASSERT_GT(n, 0);
    text[n] = 0;
    ASSERT(strstr(text, "ann") && strstr(text, "bob") && strstr(text, "pthread mutex"));
    rig_end(a);
    rig_end(b);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void *die_with_it(void *arg)
{
    ASSERT_EQ(lock(arg), 0);
    return NULL;
}

ON_LOOP(a_report_survives_an_owner_that_has_ended)
{
    pthread_mutex_t *m = make(RECURSIVE);
    rig_end(rig_go(die_with_it, m));
    pthread_t waiter = rig_go(time_out, m);
    fibril_yield();
    ASSERT_EQ(fibril_deadlocks(STDERR_FILENO), 0);
    rig_end(waiter);
}

/* ---- foreign OS threads ---- */

enum { ROUNDS = 3000 };

struct hammered {
    pthread_mutex_t *m;
    int64_t count;
};

static void *hammer_really(void *arg)
{
    struct hammered *h = arg;
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(pthread_mutex_lock(h->m), 0);
        h->count++;
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(h->m), 0); /* as a covered object calls it */
    }
    return NULL;
}

static void *hammer(void *arg)
{
    struct hammered *h = arg;
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(lock(h->m), 0);
        h->count++;
        if (i % 16 == 0) {
            fibril_yield(); /* parked with it */
        }
        ASSERT_EQ(unlock(h->m), 0);
    }
    return NULL;
}

static void hammer_with_foreigners(enum kind kind)
{
    struct hammered h = {.m = make(kind)};
    pthread_t threads[4];
    rig_foreign(3, hammer_really, &h);
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(hammer, &h);
    }
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
    rig_foreign_end();
    ASSERT_EQ(h.count, 7 * ROUNDS);
}

ON_LOOP(foreign_threads_and_fibrils_exclude_each_other)
{
    for (int kind = 0; kind < KINDS; kind++) {
        hammer_with_foreigners((enum kind)kind);
    }
}

enum step { TAKEN = 1, AWAITED, RELEASED, PASSED_ON, TAKEN_AGAIN };

struct wanted {
    pthread_mutex_t *m;
    _Atomic int step;
};

/* Parks nobody. */
static bool comes_to(struct wanted *w, int step)
{
    for (int i = 0; i < 1000000 && w->step < step; i++) {
        sched_yield();
    }
    return w->step >= step;
}

static void *take_twice(void *arg)
{
    struct wanted *w = arg;
    ASSERT_EQ(pthread_mutex_lock(w->m), 0);
    w->step = TAKEN;
    ASSERT(comes_to(w, AWAITED));
    ASSERT_EQ(pthread_mutex_unlock(w->m), 0);
    w->step = RELEASED;
    ASSERT(comes_to(w, PASSED_ON));
    ASSERT_EQ(pthread_mutex_lock(w->m), 0);
    w->step = TAKEN_AGAIN;
    ASSERT_EQ(pthread_mutex_unlock(w->m), 0);
    return NULL;
}

/* As the thread that preempts does with the GIL's mutex. */
ON_LOOP(a_ready_fibril_keeps_no_foreign_thread_from_a_mutex_while_another_computes)
{
    struct wanted w = {.m = make(NORMAL)};
    rig_foreign(1, take_twice, &w);
    ASSERT(comes_to(&w, TAKEN));
    pthread_t waiter = rig_go(lock_and_unlock, w.m);
    rig_settle();
    w.step = AWAITED;
    ASSERT(comes_to(&w, RELEASED));
    ASSERT_EQ(lock(w.m), 0);
    ASSERT_EQ(unlock(w.m), 0);
    w.step = PASSED_ON;
    ASSERT(comes_to(&w, TAKEN_AGAIN));
    rig_end(waiter);
    rig_foreign_end();
}

/* ---- two loops ---- */

static int hammer_there(void *arg)
{
    hammer(arg);
    return 0;
}

static void hammer_on_two_loops(struct fibril_loop *other, enum kind kind)
{
    struct hammered h = {.m = make(kind)};
    struct fibril *there[4];
    pthread_t here[4];
    struct fibril_spawn_opts opts = {.loop = other};
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(fibril_spawn(hammer_there, &h, &opts, &there[i]));
        here[i] = rig_go(hammer, &h);
    }
    for (int i = 0; i < 4; i++) {
        rig_end(here[i]);
        ASSERT_OK(fibril_join(there[i], FIBRIL_FOREVER, NULL));
    }
    ASSERT_EQ(h.count, 8 * ROUNDS);
}

ON_LOOP(fibrils_of_two_loops_exclude_each_other)
{
    struct fibril_loop *other;
    ASSERT_OK(fibril_loop_start(NULL, &other));
    for (int kind = 0; kind < KINDS; kind++) {
        hammer_on_two_loops(other, (enum kind)kind);
    }
    ASSERT_OK(fibril_loop_stop(other));
}

/* ---- against a model ---- */

enum { ACTORS = 12, MUTEXES = 4, STEPS = 400 };

static struct {
    uint64_t seed;
    int owner[MUTEXES]; /* the model: 0 nobody, else actor + 1 */
    int depth[MUTEXES];
} model;

static void model_locked(int me, int m)
{
    ASSERT(model.owner[m] == 0 || (model.owner[m] == me && m % 2 == RECURSIVE));
    model.owner[m] = me;
    model.depth[m]++;
}

/* The model is told before the unlock, since the mutex has a new owner when that returns. */
static void model_unlock(int me, int m)
{
    ASSERT_EQ(model.owner[m], me);
    if (--model.depth[m] == 0) {
        model.owner[m] = 0;
    }
    ASSERT_EQ(unlock(&made[m]), 0);
}

static void step(int me, int m, unsigned what)
{
    bool mine = model.owner[m] == me, recursive = m % 2 == 1;
    struct timespec soon = rig_time(CLOCK_REALTIME, (int)(what % 3));
    int rc = EBUSY;
    if (mine && what % 2 == 0) {
        model_unlock(me, m);
        return;
    }
    if (mine && !recursive) {
        ASSERT_EQ(try(&made[m]), EBUSY);
        return;
    }
    rc = what % 3 == 0 ? try(&made[m]) : fibril_posix_pthread_mutex_timedlock(&made[m], &soon);
    if (rc == 0) {
        model_locked(me, m);
    } else {
        ASSERT(rc == (what % 3 == 0 ? EBUSY : ETIMEDOUT));
        ASSERT(!(mine && recursive));
    }
}

static void *act(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < STEPS; i++) {
        uint32_t r = rig_random(&model.seed);
        step(me, (int)(r % MUTEXES), r / MUTEXES % 97);
        if (r % 7 == 0) {
            fibril_yield();
        }
    }
    for (int m = 0; m < MUTEXES; m++) {
        while (model.owner[m] == me) {
            model_unlock(me, m);
        }
    }
    return NULL;
}

ON_LOOP(random_schedules_agree_with_a_model)
{
    for (uint64_t seed = 1; seed <= (test_is_slow() ? 3 : 10); seed++) {
        pthread_t threads[ACTORS];
        memset(&model, 0, sizeof model);
        model.seed = seed;
        make(NORMAL);
        make(RECURSIVE);
        make(ERRORCHECK);
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
        ASSERT_EQ(pthread_mutex_init(&made[3], &attr), 0);
        for (intptr_t i = 0; i < ACTORS; i++) {
            threads[i] = rig_go(act, (void *)(i + 1));
        }
        for (int i = 0; i < ACTORS; i++) {
            rig_end(threads[i]);
        }
        for (int m = 0; m < MUTEXES; m++) {
            ASSERT_EQ(model.owner[m], 0);
            ASSERT_EQ(pthread_mutex_destroy(&made[m]), 0);
        }
    }
}
