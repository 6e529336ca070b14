/* SPDX-License-Identifier: MIT */
/* Once: one run that succeeds, however many come, and a next try after each that fails. */
#include "both.h"

static struct fibril_once once = FIBRIL_ONCE_INIT;
static struct fibril_once other = FIBRIL_ONCE_INIT;
static struct fibril_event *gate;
static int runs;

/* Counts, and waits at the gate; fails with arg. */
static int count_and_wait(void *arg)
{
    runs++;
    ASSERT_OK(fibril_event_wait(gate, FIBRIL_FOREVER));
    return as_int(arg);
}

static int run_it(void *arg)
{
    return fibril_once_run(&once, count_and_wait, arg, FIBRIL_FOREVER);
}

static int run_it_for_a_moment(void *arg)
{
    return fibril_once_run(&once, count_and_wait, arg, fibril_after(MS));
}

static void begin(void)
{
    ASSERT_OK(fibril_event_new(0, &gate));
}

static void finish(void)
{
    fibril_event_free(gate);
}

BOTH(once_runs_once_and_the_others_wait)
{
    begin();
    struct fibril *f[5];
    for (int i = 0; i < 5; i++) {
        f[i] = go_parked(run_it, NULL);
    }
    ASSERT_EQ(runs, 1);
    fibril_event_set(gate);
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    ASSERT_OK(run_it(NULL));
    ASSERT_EQ(runs, 1);
    finish();
}

BOTH(once_result_above_zero_is_success)
{
    begin();
    fibril_event_set(gate);
    ASSERT_EQ(run_it(as_arg(7)), 0);
    ASSERT_EQ(run_it(as_arg(7)), 0);
    ASSERT_EQ(runs, 1);
    finish();
}

BOTH(once_that_failed_is_tried_by_the_next_caller)
{
    begin();
    fibril_event_set(gate);
    ASSERT_ERR(run_it(as_arg(-EIO)), -EIO);
    ASSERT_OK(run_it(NULL));
    ASSERT_EQ(runs, 2);
    finish();
}

BOTH(once_that_failed_is_tried_by_the_longest_waiter)
{
    begin();
    struct fibril *failing = go_parked(run_it, as_arg(-EIO));
    struct fibril *next = go_parked(run_it, NULL), *last = go_parked(run_it, as_arg(-ENOENT));
    fibril_event_set(gate);
    ASSERT_ERR(end(failing), -EIO);
    ASSERT_EQ(end(next), 0);
    ASSERT_EQ(end(last), 0);
    ASSERT_EQ(runs, 2);
    finish();
}

BOTH(once_wait_times_out)
{
    begin();
    struct fibril *f = go_parked(run_it, NULL);
    ASSERT_ERR(end(go(run_it_for_a_moment, NULL)), -ETIMEDOUT);
    fibril_event_set(gate);
    ASSERT_EQ(end(f), 0);
    finish();
}

BOTH(once_wait_is_cancelled)
{
    begin();
    struct fibril *f = go_parked(run_it, NULL), *waiter = go_parked(run_it, NULL);
    ASSERT_OK(fibril_cancel(waiter));
    ASSERT_ERR(end(waiter), -ECANCELED);
    fibril_event_set(gate);
    ASSERT_EQ(end(f), 0);
    finish();
}

BOTH(once_objects_do_not_wake_each_others_waiters)
{
    begin();
    struct fibril *f = go_parked(run_it, NULL), *waiter = go_parked(run_it, NULL);
    struct fibril_event *kept = gate;
    ASSERT_OK(fibril_event_new(0, &gate));
    fibril_event_set(gate);
    ASSERT_OK(fibril_once_run(&other, count_and_wait, NULL, FIBRIL_FOREVER));
    fibril_event_free(gate);
    gate = kept;
    ASSERT_EQ(waiter->state, FIBRIL__PARKED);
    fibril_event_set(gate);
    ASSERT_EQ(end(f), 0);
    ASSERT_EQ(end(waiter), 0);
    finish();
}

static int run_inside(void *arg)
{
    return fibril_once_run(&once, count_and_wait, arg, FIBRIL_FOREVER);
}

BOTH(once_that_calls_for_itself_is_refused)
{
    ASSERT_ERR(fibril_once_run(&once, run_inside, NULL, FIBRIL_FOREVER), -EDEADLK);
    begin();
    fibril_event_set(gate);
    ASSERT_OK(run_it(NULL));
    ASSERT_EQ(runs, 1);
    finish();
}

TEST(once_outside_loops_fails)
{
    ASSERT_ERR(run_it(NULL), -EPERM);
    ASSERT_EQ(runs, 0);
}
