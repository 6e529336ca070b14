/* SPDX-License-Identifier: MIT */
/* Conditions: a signal wakes just one that was waiting, and the mutex is the waiter's when it
 * returns. */
#include "both.h"

static struct fibril_cond *c;
static struct fibril_mutex *m;

static void begin(unsigned mutex_flags)
{
    ASSERT_OK(fibril_cond_new(0, &c));
    ASSERT_OK(fibril_mutex_new(mutex_flags, &m));
}

static void finish(void)
{
    fibril_cond_free(c);
    fibril_mutex_free(m);
}

static int wait_until(int64_t deadline_ns, int number)
{
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    int rc = fibril_cond_wait(c, m, deadline_ns);
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)fibril_current());
    note(number);
    ASSERT_OK(fibril_mutex_unlock(m));
    return rc;
}

static int wait_forever(void *arg)
{
    return wait_until(FIBRIL_FOREVER, as_int(arg));
}

static int wait_for_a_moment(void *arg)
{
    return wait_until(fibril_after(MS), as_int(arg));
}

BOTH(cond_signal_wakes_the_longest_waiter)
{
    begin(0);
    struct fibril *f[3];
    for (int i = 0; i < 3; i++) {
        f[i] = go_parked(wait_forever, as_arg(i));
    }
    for (int i = 0; i < 3; i++) {
        fibril_cond_signal(c);
        ASSERT_EQ(end(f[i]), 0);
        ASSERT_EQ(notes(), i + 1);
        ASSERT_EQ(noted(i), i);
    }
    finish();
}

BOTH(cond_broadcast_wakes_all_in_order)
{
    begin(0);
    struct fibril *f[3];
    for (int i = 0; i < 3; i++) {
        f[i] = go_parked(wait_forever, as_arg(i));
    }
    fibril_cond_broadcast(c);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(end(f[i]), 0);
#if !FIBRIL_HARD /* which shuffles those that are ready */
        ASSERT_EQ(noted(i), i);
#endif
    }
    finish();
}

BOTH(cond_signal_without_a_waiter_is_lost)
{
    begin(0);
    fibril_cond_signal(c);
    fibril_cond_broadcast(c);
    ASSERT_ERR(end(go(wait_for_a_moment, NULL)), -ETIMEDOUT);
    finish();
}

BOTH(cond_wait_leaves_the_mutex_to_others)
{
    begin(0);
    struct fibril *f = go_parked(wait_forever, NULL);
    ASSERT(!fibril_mutex_owner(m));
    fibril_cond_signal(c);
    ASSERT_EQ(end(f), 0);
    finish();
}

BOTH(cond_wait_that_times_out_has_the_mutex)
{
    begin(0);
    struct fibril *f = go_parked(wait_for_a_moment, as_arg(5));
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    ASSERT_OK(fibril_sleep(3 * MS)); /* its deadline passes while the mutex is taken */
    ASSERT_EQ(notes(), 0);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_ERR(end(f), -ETIMEDOUT);
    ASSERT_EQ(noted(0), 5);
    finish();
}

BOTH(cond_wait_that_is_cancelled_has_the_mutex)
{
    begin(0);
    struct fibril *f = go_parked(wait_forever, as_arg(5));
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    ASSERT_OK(fibril_cancel(f));
    until_parked(f);
    ASSERT_EQ(notes(), 0);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_ERR(end(f), -ECANCELED);
    ASSERT_EQ(noted(0), 5);
    finish();
}

BOTH(cond_cancel_after_the_signal_does_not_undo_it)
{
    begin(0);
    struct fibril *f = go_parked(wait_forever, NULL);
    fibril_cond_signal(c);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    finish();
}

BOTH(cond_waiter_that_gave_up_eats_no_signal)
{
    begin(0);
    struct fibril *first = go_parked(wait_forever, as_arg(1));
    struct fibril *second = go_parked(wait_forever, as_arg(2));
    ASSERT_OK(fibril_cancel(first));
    fibril_cond_signal(c);
    ASSERT_ERR(end(first), -ECANCELED);
    ASSERT_EQ(end(second), 0);
    finish();
}

static int wait_three_deep(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    }
    ASSERT_OK(fibril_cond_wait(c, m, FIBRIL_FOREVER));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_mutex_unlock(m));
    }
    return fibril_mutex_unlock(m);
}

BOTH(cond_wait_keeps_the_depth_of_a_recursive_mutex)
{
    begin(FIBRIL_RECURSIVE);
    struct fibril *f = go_parked(wait_three_deep, NULL);
    ASSERT(!fibril_mutex_owner(m));
    fibril_cond_signal(c);
    ASSERT_ERR(end(f), -EPERM); /* the fourth unlock */
    finish();
}

BOTH(cond_wait_needs_the_mutex)
{
    begin(0);
    ASSERT_ERR(fibril_cond_wait(c, m, FIBRIL_FOREVER), -EPERM);
    finish();
}

TEST(cond_calls_outside_loops_fail)
{
    begin(0);
    ASSERT_ERR(fibril_cond_wait(c, m, FIBRIL_FOREVER), -EPERM);
    finish();
    fibril_cond_free(NULL);
}

TEST(cond_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_cond_new(0, &c), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(fibril_cond_new(FIBRIL_RECURSIVE, &c), -EINVAL);
}
