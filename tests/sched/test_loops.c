/* SPDX-License-Identifier: MIT */
/*
 * Several loops: spawning on, joining and cancelling fibrils of another one; adopted and foreign OS
 * threads.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>

static int loop_number(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < fibril_loop_count(); i++) {
        if (fibril_loop_at(i) == fibril_loop_current()) {
            return (int)i;
        }
    }
    return -1;
}

static struct fibril_loop *other(void)
{
    struct fibril_loop *first = fibril_loop_at(0);
    return first == fibril_loop_current() ? fibril_loop_at(1) : first;
}

static int run_there(fibril_fn *fn, void *arg, enum fibril_stack stack)
{
    struct fibril_spawn_opts opts = {.loop = other(), .stack = stack, .name = "there"};
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(fn, arg, &opts, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    return result;
}

static int two_loops(fibril_fn *fn, void *arg)
{
    struct fibril_opts opts = {.loops = 2};
    return fibril_run(&opts, fn, arg);
}

static int spawn_there(void *arg)
{
    (void)arg;
    ASSERT_EQ(fibril_loop_count(), 2);
    int here = loop_number(NULL);
    for (int i = 0; i < 200; i++) {
        int there = run_there(loop_number, NULL, i & 1 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN);
        ASSERT_GE(there, 0);
        ASSERT_NE(there, here);
    }
    return 0;
}

TEST(fibril_runs_on_the_loop_it_is_spawned_on)
{
    ASSERT_OK(two_loops(spawn_there, NULL));
    ASSERT_EQ(fibril_loop_count(), 0);
}

static int sleep_for_ever(void *arg)
{
    (void)arg;
    return fibril_sleep_until(FIBRIL_FOREVER);
}

static int cancel_there(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.loop = other()};
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, &opts, &f));
    ASSERT_ERR(fibril_join(f, fibril_after(1000000), NULL), -ETIMEDOUT);
    ASSERT_ERR(fibril_join(f, fibril_after(1000), NULL), -ETIMEDOUT);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    return 0;
}

TEST(join_across_loops_times_out_and_can_be_repeated)
{
    ASSERT_OK(two_loops(cancel_there, NULL));
}

static _Atomic int count;

static int count_up(void *arg)
{
    (void)arg;
    fibril_yield();
    count++;
    return 0;
}

static int detach_there(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.loop = other()};
    for (int i = 0; i < 1000; i++) {
        struct fibril *f;
        ASSERT_OK(fibril_spawn(count_up, NULL, &opts, i & 1 ? &f : NULL));
        if (i & 1) {
            fibril_detach(f);
        }
    }
    return 0;
}

TEST(run_waits_for_fibrils_on_other_loops)
{
    ASSERT_OK(two_loops(detach_there, NULL));
    ASSERT_EQ(count, 1000);
}

static int ping_pong(void *arg)
{
    intptr_t n = (intptr_t)arg;
    return n == 0 ? 0 : run_there(ping_pong, (void *)(n - 1), FIBRIL_STACK_OWN) + 1;
}

TEST(joins_chain_between_loops)
{
    ASSERT_EQ(two_loops(ping_pong, (void *)(intptr_t)100), 100);
}

/* ---- OS threads ---- */

static void *spawn_from_thread(void *loop)
{
    struct fibril_spawn_opts opts = {.loop = loop};
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(fibril_spawn(count_up, NULL, &opts, NULL));
    }
    return NULL;
}

static int thread_main(void *arg)
{
    (void)arg;
    pthread_t thread;
    ASSERT_EQ(pthread_create(&thread, NULL, spawn_from_thread, fibril_loop_current()), 0);
    while (count < 100) {
        ASSERT_OK(fibril_sleep(100000));
    }
    pthread_join(thread, NULL);
    return 0;
}

TEST(foreign_thread_may_spawn_on_a_loop)
{
    ASSERT_OK(fibril_run(NULL, thread_main, NULL));
}

TEST(adopted_thread_runs_fibrils_whenever_it_parks)
{
    struct fibril_loop *loop;
    struct fibril *f;
    int result = 0;
    ASSERT_OK(fibril_loop_attach(NULL, &loop));
    ASSERT_EQ(loop, fibril_loop_current());
    ASSERT_ERR(fibril_loop_attach(NULL, &loop), -EBUSY);
    ASSERT_OK(fibril_spawn(loop_number, NULL, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 0);
    ASSERT_OK(fibril_loop_detach());
    ASSERT_EQ(fibril_loop_current(), NULL);
    ASSERT_ERR(fibril_loop_detach(), -EPERM);
}

static int start_and_stop(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct fibril_loop *loop;
        ASSERT_OK(fibril_loop_start(NULL, &loop));
        ASSERT_EQ(fibril_loop_count(), 2);
        struct fibril_spawn_opts opts = {.loop = loop};
        ASSERT_OK(fibril_spawn(count_up, NULL, &opts, NULL));
        ASSERT_OK(fibril_loop_stop(loop));
        ASSERT_EQ(count, i + 1);
    }
    ASSERT_ERR(fibril_loop_stop(fibril_loop_current()), -EPERM);
    return 0;
}

TEST(stop_waits_for_the_loops_fibrils)
{
    ASSERT_OK(fibril_run(NULL, start_and_stop, NULL));
}

TEST(bad_poller_fails_the_start_of_a_loop)
{
    struct fibril_opts opts = {.loops = 3, .poller = "none"};
    ASSERT_ERR(fibril_run(&opts, start_and_stop, NULL), -EINVAL);
}
