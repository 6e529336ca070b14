/* SPDX-License-Identifier: MIT */
/*
 * Stall reports: who keeps a loop is named, once; a loop that switches or sleeps is not accused.
 */
#include <fibril/fibril.h>

#include "base/compiler.h"
#include "seeing.h"
#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

enum { MS = 1000000 };

static int report;

FIBRIL_API int hogging_function(void *arg);

static uint64_t stalls(void)
{
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(NULL, &m));
    return m.stalls;
}

/* Burns until the watch has noticed, and then as long again as it takes to notice, three times
 * over. */
NOINLINE int hogging_function(void *arg)
{
    uint64_t before = stalls();
    int64_t limit_ns = *(int64_t *)arg;
    while (*(volatile uint64_t *)&before == stalls()) {}
    int64_t until_ns = fibril_now() + 3 * limit_ns;
    while (fibril_now() < until_ns) {}
    ASSERT_EQ(stalls(), before + 1);
    return 0;
}

static int hog_twice(void *arg)
{
    struct fibril_spawn_opts opts = {.name = "hog"};
    for (int i = 1; i <= 2; i++) {
        struct fibril *f;
        ASSERT_OK(fibril_spawn(hogging_function, arg, &opts, &f));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
        ASSERT_OK(fibril_sleep(MS));
        const char *text = caught(report);
        ASSERT_EQ(count_of(text, "fibril: stall: fibril "), i);
        ASSERT_EQ(count_of(text, "\"hog\" has kept its loop for 0."), i);
        ASSERT_HAS(text, "    hogging_function+0x");
    }
    return 0;
}

TEST(stall_is_reported_once_with_name_and_place)
{
    int64_t limit_ns = 20 * MS;
    struct fibril_opts opts = {.stall_ns = limit_ns};
    report = catch_stderr();
    ASSERT_OK(fibril_run(&opts, hog_twice, &limit_ns));
}

static int hog_on_other_loop(void *arg)
{
    int64_t limit_ns = *(int64_t *)arg;
    struct fibril_opts watched = {.stall_ns = limit_ns};
    struct fibril_loop *loop;
    ASSERT_OK(fibril_loop_start(&watched, &loop));
    struct fibril_spawn_opts opts = {.name = "far hog", .loop = loop};
    struct fibril *f;
    ASSERT_OK(fibril_spawn(hogging_function, arg, &opts, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(loop, &m));
    ASSERT_EQ(m.stalls, 1);
    ASSERT_EQ(stalls(), 0);
    ASSERT_EQ(count_of(caught(report), "\"far hog\" has kept its loop"), 1);
    return fibril_loop_stop(loop);
}

TEST(stall_of_a_started_loop_is_its_own)
{
    int64_t limit_ns = 20 * MS;
    report = catch_stderr();
    ASSERT_OK(fibril_run(NULL, hog_on_other_loop, &limit_ns));
}

static int switch_for(void *arg)
{
    int64_t until_ns = fibril_now() + *(int64_t *)arg;
    while (fibril_now() < until_ns) {
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

static int busy_switching(void *arg)
{
    ASSERT_OK(fibril_spawn(switch_for, arg, NULL, NULL));
    ASSERT_OK(switch_for(arg));
    ASSERT_EQ(stalls(), 0);
    return 0;
}

TEST(loop_that_switches_is_not_stalled)
{
    /* The limit is what the kernel may keep a busy machine's process waiting. */
    struct fibril_opts opts = {.stall_ns = 500 * (int64_t)MS};
    int64_t busy_ns = 1500 * (int64_t)MS;
    if (test_is_slow()) {
        SKIP("the checker itself keeps the loop");
    }
    report = catch_stderr();
    ASSERT_OK(fibril_run(&opts, busy_switching, &busy_ns));
    ASSERT_STR(caught(report), "");
}

static int idle(void *arg)
{
    ASSERT_OK(fibril_sleep(*(int64_t *)arg));
    ASSERT_EQ(stalls(), 0);
    return 0;
}

TEST(loop_that_sleeps_is_not_stalled)
{
    struct fibril_opts opts = {.stall_ns = 100 * MS};
    int64_t idle_ns = 500 * MS;
    report = catch_stderr();
    ASSERT_OK(fibril_run(&opts, idle, &idle_ns));
    ASSERT_STR(caught(report), "");
}

/* ---- SIGURG ---- */

static volatile sig_atomic_t earlier_calls, earlier_signo;

static void earlier_handler(int signo, siginfo_t *info, void *context)
{
    (void)context;
    earlier_calls = earlier_calls + (info != NULL);
    earlier_signo = signo;
}

static int raise_and_hog(void *arg)
{
    raise(SIGURG);
    ASSERT_EQ(earlier_calls, 1);
    ASSERT_EQ(earlier_signo, SIGURG);
    int rc = hogging_function(arg); /* the stall is still reported, and to us only */
    ASSERT_EQ(earlier_calls, 1);
    return rc;
}

TEST(signal_of_the_program_reaches_its_handler)
{
    int64_t limit_ns = 20 * MS;
    struct fibril_opts opts = {.stall_ns = limit_ns};
    struct sigaction action = {.sa_sigaction = earlier_handler, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    ASSERT_EQ(sigaction(SIGURG, &action, NULL), 0);
    report = catch_stderr();
    ASSERT_OK(fibril_run(&opts, raise_and_hog, &limit_ns));
    ASSERT_EQ(count_of(caught(report), "fibril: stall: fibril "), 1);
}
