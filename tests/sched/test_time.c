/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and deadlines, in the virtual time of the sim poller where order matters.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>

enum { MS = 1000000 };
static const int64_t hour_ns = 3600 * (int64_t)1000000000;

static int64_t woken[1000];
static size_t woken_len;

static int sleep_for(void *arg)
{
    int64_t deadline_ns = fibril_after((intptr_t)arg);
    ASSERT_OK(fibril_sleep_until(deadline_ns));
    ASSERT_GE(fibril_now(), deadline_ns);
    woken[woken_len++] = (intptr_t)arg;
    return 0;
}

static int sleepers_main(void *arg)
{
    for (intptr_t i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_spawn(sleep_for, (void *)(i * 7919 % 1000 * MS), arg, NULL));
    }
    return 0;
}

static void sleepers_wake_in_order(enum fibril_stack stack)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 1};
    struct fibril_spawn_opts spawn = {.stack = stack};
    ASSERT_OK(fibril_run(&opts, sleepers_main, &spawn));
    ASSERT_EQ(woken_len, 1000);
    for (size_t i = 1; i < woken_len; i++) {
        ASSERT_LE(woken[i - 1], woken[i]);
    }
}

TEST(sleepers_wake_in_order_of_their_deadlines)
{
    sleepers_wake_in_order(FIBRIL_STACK_OWN);
}

TEST(sleepers_on_copied_stacks_wake_in_order)
{
    sleepers_wake_in_order(FIBRIL_STACK_COPIED);
}

static int sleep_hours(void *arg)
{
    (void)arg;
    int64_t before = fibril_now();
    ASSERT_OK(fibril_sleep(100 * hour_ns));
    ASSERT_GE(fibril_now() - before, 100 * hour_ns);
    return 0;
}

TEST(virtual_time_passes_at_once)
{
    struct fibril_opts opts = {.poller = "sim"};
    ASSERT_OK(fibril_run(&opts, sleep_hours, NULL));
}

static int never_early(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        int64_t deadline_ns = fibril_after(i * 50000);
        ASSERT_OK(fibril_sleep_until(deadline_ns));
        ASSERT_GE(fibril_now(), deadline_ns);
    }
    return 0;
}

TEST(real_sleep_is_never_early)
{
    ASSERT_OK(fibril_run(NULL, never_early, NULL));
}

static int past(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_sleep_until(0));
    ASSERT_OK(fibril_sleep(-5));
    ASSERT_EQ(fibril_after(FIBRIL_FOREVER), FIBRIL_FOREVER);
    ASSERT_EQ(fibril_after(INT64_MAX - 1), FIBRIL_FOREVER);
    return 0;
}

TEST(past_and_far_deadlines_are_fine)
{
    ASSERT_OK(fibril_run(NULL, past, NULL));
}

static int sleep_and_stop(void *arg)
{
    ASSERT_OK(fibril_sleep(5 * MS));
    *(bool *)arg = true;
    return 0;
}

static int busy_main(void *arg)
{
    (void)arg;
    bool stop = false;
    ASSERT_OK(fibril_spawn(sleep_and_stop, &stop, NULL, NULL));
    while (!stop) {
        fibril_yield();
    }
    return 0;
}

TEST(busy_fibrils_do_not_starve_timers)
{
    ASSERT_OK(fibril_run(NULL, busy_main, NULL));
}

enum { MILLION = 1000000 };

static int nap(void *arg)
{
    return fibril_sleep_until(*(int64_t *)arg);
}

static int million_main(void *arg)
{
    (void)arg;
    int n = test_is_slow() ? MILLION / 500 : MILLION;
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    int64_t deadline_ns = fibril_after(hour_ns);
    for (int i = 0; i < n; i++) {
        ASSERT_OK(fibril_spawn(nap, &deadline_ns, &opts, NULL));
    }
    struct fibril_metrics m = {.timers = 0};
    for (int turns = 0; m.timers != (uint64_t)n; turns++) { /* the hard flavour shuffles */
        ASSERT_LT(turns, 1000);
        fibril_yield();
        ASSERT_OK(fibril_metrics(NULL, &m));
    }
    ASSERT_OK(fibril_sleep_until(deadline_ns + 1));
    for (int turns = 0; m.fibrils != 1; turns++) {
        ASSERT_LT(turns, 1000);
        fibril_yield();
        ASSERT_OK(fibril_metrics(NULL, &m));
    }
    return 0;
}

TEST_WITHIN(million_timers_at_once, 120)
{
    struct fibril_opts opts = {.poller = "sim"};
    ASSERT_OK(fibril_run(&opts, million_main, NULL));
}
