/* SPDX-License-Identifier: MIT */
/* Threads that are fibrils: how they begin, are joined, cancelled and end. */
#include "thread_rig.h"

#include "base/alloc.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *give_back(void *arg)
{
    return arg;
}

static void *sleep_a_little(void *arg)
{
    fibril_sleep(2 * RIG_MS);
    return arg;
}

static void *sleep_for_ever(void *arg)
{
    fibril__posix_result(fibril_sleep_until(FIBRIL_FOREVER), 0);
    return arg;
}

/* ---- joining ---- */

ON_LOOP(a_join_returns_the_result)
{
    int here;
    ASSERT(rig_end(rig_go(give_back, &here)) == &here);
    ASSERT(rig_end(rig_go(sleep_a_little, &here)) == &here);
    ASSERT_EQ(fibril__thread_live(), 0);
}

ON_LOOP(joins_with_a_time_end_with_ETIMEDOUT)
{
    pthread_t thread = rig_go(sleep_for_ever, NULL);
    struct timespec past = rig_time(CLOCK_REALTIME, -5), soon = rig_time(CLOCK_MONOTONIC, 3);
    struct timespec bad = {.tv_sec = 1, .tv_nsec = -1};
    void *result;
    ASSERT_EQ(fibril_posix_pthread_tryjoin_np(thread, &result), EBUSY);
    ASSERT_EQ(fibril_posix_pthread_timedjoin_np(thread, &result, &past), ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_clockjoin_np(thread, &result, CLOCK_MONOTONIC, &soon),
              ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_timedjoin_np(thread, &result, &bad), EINVAL);
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_tryjoin_np(thread, &result), 0);
    ASSERT(result == PTHREAD_CANCELED);
}

static void *join_self(void *arg)
{
    return (void *)(intptr_t)fibril_posix_pthread_join(fibril_posix_pthread_self(), arg);
}

ON_LOOP(a_thread_that_joins_itself_is_refused)
{
    ASSERT_EQ((intptr_t)rig_end(rig_go(join_self, NULL)), EDEADLK);
}

static void *join_it(void *arg)
{
    void *result;
    ASSERT_EQ(fibril_posix_pthread_join(*(pthread_t *)arg, &result), 0);
    return result;
}

ON_LOOP(an_os_thread_joins_a_fibril_and_a_fibril_an_os_thread)
{
    int here;
    pthread_t ours = rig_go(sleep_a_little, &here), real;
    ASSERT_EQ(pthread_create(&real, NULL, join_it, &ours), 0);
    ASSERT(rig_end(real) == &here);
}

static _Atomic int ended;

static void *count_end(void *arg)
{
    fibril_sleep(RIG_MS);
    ended++;
    return arg;
}

ON_LOOP(detached_threads_end_by_themselves)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    ASSERT_EQ(fibril_posix_pthread_create(&thread, &attr, count_end, NULL), 0);
    ASSERT_EQ(fibril_posix_pthread_join(thread, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_pthread_detach(thread), EINVAL);
    pthread_attr_destroy(&attr);
    ASSERT_EQ(fibril_posix_pthread_detach(rig_go(count_end, NULL)), 0);
    pthread_t over = rig_go(give_back, NULL);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_detach(over), 0);
    fibril__thread_wait_for_all();
    ASSERT_EQ(ended, 2);
}

/* ---- identity ---- */

static void *self_of(void *arg)
{
    pthread_t first = fibril_posix_pthread_self();
    fibril_yield();
    ASSERT(pthread_equal(first, fibril_posix_pthread_self()));
    ASSERT(!pthread_equal(first, pthread_self()));
    (void)arg;
    return (void *)first;
}

ON_LOOP(each_thread_has_an_identity_of_its_own)
{
    pthread_t a = rig_go(self_of, NULL), b = rig_go(self_of, NULL);
    ASSERT(!pthread_equal(a, b));
    ASSERT(pthread_equal(fibril_posix_pthread_self(), pthread_self()));
    ASSERT((pthread_t)rig_end(a) == a);
    ASSERT((pthread_t)rig_end(b) == b);
}

ON_LOOP(a_thread_can_be_named_before_it_runs)
{
    char name[16];
    pthread_t thread = rig_go(sleep_a_little, NULL);
    ASSERT_EQ(fibril_posix_pthread_setname_np(thread, "a name too long for it"), ERANGE);
    ASSERT_EQ(fibril_posix_pthread_setname_np(thread, "worker"), 0);
    ASSERT_EQ(fibril_posix_pthread_getname_np(thread, name, 3), ERANGE);
    ASSERT_EQ(fibril_posix_pthread_getname_np(thread, name, sizeof name), 0);
    ASSERT_STR(name, "worker");
    rig_end(thread);
}

static void *look_at_stack(void *arg)
{
    pthread_attr_t attr;
    void *low;
    size_t bytes;
    char here;
    ASSERT_EQ(fibril_posix_pthread_getattr_np(fibril_posix_pthread_self(), &attr), 0);
    ASSERT_EQ(pthread_attr_getstack(&attr, &low, &bytes), 0);
    ASSERT_EQ(pthread_attr_destroy(&attr), 0);
    ASSERT(&here >= (char *)low && &here < (char *)low + bytes);
    ASSERT_GE(bytes, *(size_t *)arg);
    ((char *)low)[0] = 1; /* above the guard */
    return NULL;
}

ON_LOOP(the_stack_is_what_getattr_says_and_as_large_as_asked)
{
#if FIBRIL_ASAN
    SKIP("ASan keeps variables elsewhere than on the stack");
#endif
    static size_t asked = 0;
    rig_end(rig_go(look_at_stack, &asked));
    pthread_attr_t attr;
    pthread_t thread;
    asked = 512 << 10;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, asked);
    ASSERT_EQ(fibril_posix_pthread_create(&thread, &attr, look_at_stack, &asked), 0);
    pthread_attr_destroy(&attr);
    rig_end(thread);
}

/* ---- ending from inside ---- */

static char trace[64];

static void append(const char *text)
{
    size_t len = strlen(trace);
    snprintf(trace + len, sizeof trace - len, "%s", text);
}

static void note(void *arg)
{
    append(arg);
}

static void note_parking(void *arg)
{
    fibril_yield();
    append(arg);
}

static void (*volatile leave)(void *result) = fibril_posix_pthread_exit;

static void __attribute__((noinline)) exit_deep(int depth)
{
    volatile char room[256];
    room[0] = (char)depth;
    if (depth > 0) {
        exit_deep(depth - 1);
        room[1] = room[0];
        return;
    }
    leave(trace);
}

/* pthread_cleanup_push, as this file's own imports are not rewritten. */
static void *with_handlers(void *arg)
{
    __pthread_unwind_buf_t outer, inner;
    if (__sigsetjmp_cancel(outer.__cancel_jmp_buf, 0)) {
        note_parking("outer ");
        fibril_posix___pthread_unwind_next(&outer);
    }
    fibril_posix___pthread_register_cancel(&outer);
    if (__sigsetjmp_cancel(inner.__cancel_jmp_buf, 0)) {
        note("inner ");
        fibril_posix___pthread_unwind_next(&inner);
    }
    fibril_posix___pthread_register_cancel(&inner);
    if (arg) {
        exit_deep(10);
    }
    fibril__posix_result(fibril_sleep_until(FIBRIL_FOREVER), 0);
    return NULL;
}

ON_LOOP(pthread_exit_runs_the_handlers_inside_out)
{
#if FIBRIL_ASAN
    SKIP("ASan keeps variables elsewhere than on the stack");
#endif
    ASSERT(rig_end(rig_go(with_handlers, trace)) == trace);
    ASSERT_STR(trace, "inner outer ");
}

ON_LOOP(a_thread_cancelled_where_it_parks_runs_its_handlers)
{
#if FIBRIL_ASAN
    SKIP("ASan keeps variables elsewhere than on the stack");
#endif
    pthread_t thread = rig_go(with_handlers, NULL);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
    ASSERT_STR(trace, "inner outer ");
}

static void *refuse_first(void *arg)
{
    int old;
    ASSERT_EQ(fibril_posix_pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old), 0);
    ASSERT_EQ(old, PTHREAD_CANCEL_ENABLE);
    ASSERT_EQ(fibril_posix_pthread_setcancelstate(77, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old), 0);
    ASSERT_EQ(fibril_posix_pthread_setcanceltype(77, NULL), EINVAL);
    ASSERT_EQ(fibril_sleep(3 * RIG_MS), 0); /* cancelled here, and not told */
    fibril_posix_pthread_testcancel();
    *(int *)arg = 1;
    fibril_posix_pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    ASSERT_EQ(old, PTHREAD_CANCEL_DISABLE);
    fibril_posix_pthread_testcancel();
    *(int *)arg = 2;
    return NULL;
}

ON_LOOP(a_thread_that_refuses_cancellation_goes_on_until_it_allows_it)
{
    static int reached;
    pthread_t thread = rig_go(refuse_first, &reached);
    fibril_sleep(RIG_MS);
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
    ASSERT_EQ(reached, 1);
}

ON_LOOP(a_thread_cancelled_before_it_runs_ends_at_its_first_point)
{
    pthread_t thread = rig_go(sleep_for_ever, NULL);
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
}

/* ---- waiting on a condition is a point; the mutex is locked again there ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void *wait_on_cond(void *arg)
{
    __pthread_unwind_buf_t buf;
    ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
    if (__sigsetjmp_cancel(buf.__cancel_jmp_buf, 0)) {
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
        fibril_posix___pthread_unwind_next(&buf);
    }
    fibril_posix___pthread_register_cancel(&buf);
    for (;;) {
        fibril_posix_pthread_cond_wait(&cond, &mutex);
    }
    return arg;
}

ON_LOOP(a_thread_cancelled_on_a_condition_has_the_mutex_in_its_handler)
{
#if FIBRIL_ASAN
    SKIP("ASan keeps variables elsewhere than on the stack");
#endif
    pthread_t thread = rig_go(wait_on_cond, NULL);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
    ASSERT_EQ(pthread_mutex_trylock(&mutex), 0);
    ASSERT_EQ(pthread_mutex_unlock(&mutex), 0);
}

static int leave_threads_behind(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_posix_install(NULL));
    ASSERT_EQ(fibril_posix_pthread_detach(rig_go(wait_on_cond, NULL)), 0);
    ASSERT_EQ(fibril_posix_pthread_detach(rig_go(sleep_for_ever, NULL)), 0);
    rig_settle();
    return 7;
}

TEST(a_loop_that_ends_ends_its_threads)
{
    ASSERT_EQ(fibril_run(NULL, leave_threads_behind, NULL), 7);
    ASSERT_EQ(fibril__thread_live(), 0);
}

/* ---- many ---- */

ON_LOOP(a_hundred_thousand_threads_begin_and_are_joined)
{
    enum { BATCH = 1000 };
    static pthread_t threads[BATCH];
    int batches = test_is_slow() ? 5 : 100;
    for (int n = 0; n < batches; n++) {
        for (intptr_t i = 0; i < BATCH; i++) {
            threads[i] = rig_go(give_back, (void *)i);
        }
        for (intptr_t i = 0; i < BATCH; i++) {
            ASSERT_EQ((intptr_t)rig_end(threads[i]), i);
        }
    }
    ASSERT_EQ(fibril__thread_live(), 0);
}

/* ---- records in memory of others ---- */

static pthread_key_t lent_key;
static int destroyed;

static void count_destroyed(void *value)
{
    ASSERT_EQ(*(int *)value, 7);
    destroyed++;
}

static int lend(void *arg)
{
    pthread_t *name = arg;
    static int seven = 7;
    struct fibril__thread memory;
    int64_t before = fibril__alloc_live();
    fibril__thread_lend(&memory);
    *name = fibril_posix_pthread_self();
    ASSERT(fibril__thread_of(*name) == &memory);
    ASSERT_EQ(fibril_posix_pthread_setspecific(lent_key, &seven), 0);
    fibril_yield();
    ASSERT(fibril_posix_pthread_getspecific(lent_key) == &seven);
    ASSERT_EQ(fibril__alloc_live(), before);
    fibril__thread_take_back(&memory);
    ASSERT_EQ(fibril__alloc_live(), before);
    return 0;
}

ON_LOOP(a_record_may_lie_on_the_stack_of_its_fibril)
{
    pthread_t names[2];
    struct fibril *fibrils[2];
    ASSERT_EQ(fibril_posix_pthread_key_create(&lent_key, count_destroyed), 0);
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(fibril_spawn(lend, &names[i], NULL, &fibrils[i]));
    }
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(fibril_join(fibrils[i], FIBRIL_FOREVER, NULL));
    }
    ASSERT(names[0] != names[1]);
    ASSERT_EQ(destroyed, 2);
}

static void *lend_to_a_thread(void *arg)
{
    struct fibril__thread memory;
    pthread_t before = fibril_posix_pthread_self();
    fibril__thread_lend(&memory);
    ASSERT(fibril_posix_pthread_self() == before);
    fibril__thread_take_back(&memory);
    ASSERT(fibril_posix_pthread_self() == before);
    return arg;
}

ON_LOOP(who_has_a_record_keeps_it)
{
    int here;
    ASSERT(rig_end(rig_go(lend_to_a_thread, &here)) == &here);
}

static void *cancel_lender(void *arg)
{
    fibril_posix_pthread_cancel(*(pthread_t *)arg);
    return NULL;
}

static int lend_and_be_cancelled(void *arg)
{
    struct fibril__thread memory;
    fibril__thread_lend(&memory);
    *(pthread_t *)arg = fibril_posix_pthread_self();
    rig_foreign(4, cancel_lender, arg);
    fibril_shield_begin();
    rig_foreign_end();
    fibril_shield_end();
    fibril__thread_take_back(&memory); /* with the cancellation on its way, or done */
    memset(&memory, 0xa5, sizeof memory);
    fibril_cancel_clear();
    rig_settle();
    return 0;
}

ON_LOOP(a_record_is_taken_back_when_no_canceller_needs_it)
{
    pthread_t name;
    struct fibril *f;
    ASSERT_OK(fibril_spawn(lend_and_be_cancelled, &name, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
}

/* ---- without memory ---- */

ON_LOOP(without_memory_pthread_create_says_EAGAIN_and_leaves_nothing)
{
    rig_end(rig_go(give_back, NULL));
    int failed = 0;
    for (int n = 0;; n++) {
        pthread_t thread;
        fibril__thread_forget_kept();
        int64_t before = fibril__alloc_live();
        fibril__alloc_fail_after(n);
        int rc = fibril_posix_pthread_create(&thread, NULL, give_back, NULL);
        fibril__alloc_fail_after(-1);
        if (rc == 0) {
            rig_end(thread);
            break;
        }
        ASSERT_EQ(rc, EAGAIN);
        fibril__thread_forget_kept();
        ASSERT_EQ(fibril__alloc_live(), before);
        ASSERT_EQ(fibril__thread_live(), 0);
        failed++;
    }
    ASSERT_GE(failed, 1);
}

/* ---- C11 ---- */

static int eleven(void *arg)
{
    fibril_posix_mtx_lock(arg);
    fibril_posix_mtx_unlock(arg);
    fibril_posix_thrd_exit(11);
}

ON_LOOP(threads_of_C11_are_fibrils_too)
{
    static mtx_t m;
    thrd_t thread;
    int result = 0;
    ASSERT_EQ(mtx_init(&m, mtx_timed), thrd_success);
    ASSERT_EQ(fibril_posix_mtx_lock(&m), thrd_success);
    ASSERT_EQ(fibril_posix_thrd_create(&thread, eleven, &m), thrd_success);
    rig_settle();
    struct timespec past = rig_time(CLOCK_REALTIME, -5);
    ASSERT_EQ(fibril_posix_mtx_trylock(&m), thrd_busy);
    ASSERT_EQ(fibril_posix_mtx_timedlock(&m, &past), thrd_timedout);
    ASSERT_EQ(fibril_posix_mtx_unlock(&m), thrd_success);
    ASSERT_EQ(fibril_posix_thrd_join(thread, &result), thrd_success);
    ASSERT_EQ(result, 11);
}

/* ---- cancelling from other OS threads -------------------------------------------------------- */

enum { CANCELLED_ROUNDS = 300, CANCELLED_AT_ONCE = 6 };

struct cancelled {
    pthread_t threads[CANCELLED_AT_ONCE];
    _Atomic bool ready;
};

static struct cancelled cancelled;

/* Some end by themselves just then; a wait while they cannot be cancelled is never disturbed. */
static void *cancelled_or_ends(void *arg)
{
    for (intptr_t turns = (intptr_t)arg; turns > 0; turns--) {
        int old;
        ASSERT_OK(fibril_posix_pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
        ASSERT_EQ(fibril_sleep(1), 0);
        ASSERT_EQ(fibril_sleep(20000), 0);
        ASSERT_OK(fibril_posix_pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old));
        fibril_posix_pthread_testcancel();
    }
    return arg;
}

static void *cancel_all(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!atomic_load(&cancelled.ready)) {
        sched_yield();
    }
    for (unsigned i = rig_random(&random) % 300; i > 0; i--) {
        __asm__ volatile("" ::: "memory");
    }
    for (int i = 0; i < CANCELLED_AT_ONCE; i++) {
        int rc = fibril_posix_pthread_cancel(cancelled.threads[i]);
        ASSERT(rc == 0 || rc == ESRCH);
    }
    return NULL;
}

ON_LOOP(threads_may_end_while_others_cancel_them)
{
    uint64_t random = 7;
    int finished = 0, stopped = 0;
    for (int round = 1; round <= (test_is_slow() ? CANCELLED_ROUNDS / 10 : CANCELLED_ROUNDS);
         round++) {
        atomic_store(&cancelled.ready, false);
        rig_foreign(1, cancel_all, (void *)(intptr_t)round);
        rig_foreign(1, cancel_all, (void *)(intptr_t)(round + 1000));
        for (int i = 0; i < CANCELLED_AT_ONCE; i++) {
            cancelled.threads[i] =
                rig_go(cancelled_or_ends, (void *)(intptr_t)(rig_random(&random) % 4));
        }
        atomic_store(&cancelled.ready, true);
        rig_foreign_end();
        for (int i = 0; i < CANCELLED_AT_ONCE; i++) {
            bool was = rig_end(cancelled.threads[i]) == PTHREAD_CANCELED;
            stopped += was;
            finished += !was;
        }
    }
    ASSERT_GT(stopped, 10);
    ASSERT_GT(finished, 10);
}
