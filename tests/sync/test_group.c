/* SPDX-License-Identifier: MIT */
/* Wait groups and barriers: many that wait for each other. */
#include "both.h"

static struct fibril_group *g;
static struct fibril_barrier *b;

static int wait_group(void *arg)
{
    (void)arg;
    return fibril_group_wait(g, FIBRIL_FOREVER);
}

static int wait_group_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_group_wait(g, fibril_after(MS));
}

static int work_and_be_done(void *arg)
{
    for (int i = 0; i < as_int(arg); i++) {
        ASSERT_OK(fibril_yield());
    }
    note(1);
    return fibril_group_done(g);
}

BOTH(group_wait_passes_at_zero)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_wait(g, FIBRIL_FOREVER));
    fibril_group_free(g);
}

BOTH(group_waits_for_everybody)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_add(g, 10));
    struct fibril *f[10];
    for (int i = 0; i < 10; i++) {
        f[i] = go(work_and_be_done, as_arg(3 * i));
    }
    ASSERT_OK(fibril_group_wait(g, FIBRIL_FOREVER));
    ASSERT_EQ(notes(), 10);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    fibril_group_free(g);
}

BOTH(group_at_zero_releases_all_even_if_the_count_rises_again)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_add(g, 1));
    struct fibril *first = go_parked(wait_group, NULL), *second = go_parked(wait_group, NULL);
    ASSERT_OK(fibril_group_done(g));
    ASSERT_OK(fibril_group_add(g, 1));
    ASSERT_EQ(end(first), 0);
    ASSERT_EQ(end(second), 0);
    ASSERT_OK(fibril_group_done(g));
    fibril_group_free(g);
}

BOTH(group_count_cannot_fall_below_zero)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_add(g, 2));
    ASSERT_ERR(fibril_group_add(g, -3), -EINVAL);
    ASSERT_OK(fibril_group_add(g, -2));
    ASSERT_ERR(fibril_group_done(g), -EINVAL);
    fibril_group_free(g);
}

BOTH(group_wait_times_out)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_add(g, 1));
    ASSERT_ERR(end(go(wait_group_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_OK(fibril_group_done(g));
    fibril_group_free(g);
}

BOTH(group_wait_is_cancelled)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_OK(fibril_group_add(g, 1));
    struct fibril *f = go_parked(wait_group, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_group_done(g));
    ASSERT_ERR(end(f), -ECANCELED);
    fibril_group_free(g);
}

TEST(group_calls_outside_loops_fail)
{
    ASSERT_OK(fibril_group_new(0, &g));
    ASSERT_ERR(fibril_group_add(g, 1), -EPERM);
    ASSERT_ERR(fibril_group_done(g), -EPERM);
    ASSERT_ERR(fibril_group_wait(g, FIBRIL_FOREVER), -EPERM);
    fibril_group_free(g);
    fibril_group_free(NULL);
}

TEST(group_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_group_new(0, &g), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(fibril_group_new(FIBRIL_RECURSIVE, &g), -EINVAL);
}

/* ---- barriers ------------------------------------------------------------ */

static int wait_barrier(void *arg)
{
    (void)arg;
    return fibril_barrier_wait(b, FIBRIL_FOREVER);
}

static int wait_barrier_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_barrier_wait(b, fibril_after(MS));
}

BOTH(barrier_opens_when_the_last_one_comes)
{
    ASSERT_OK(fibril_barrier_new(3, 0, &b));
    struct fibril *first = go_parked(wait_barrier, NULL), *second = go_parked(wait_barrier, NULL);
    ASSERT_EQ(fibril_barrier_wait(b, FIBRIL_FOREVER), 1);
    ASSERT_EQ(end(first), 0);
    ASSERT_EQ(end(second), 0);
    fibril_barrier_free(b);
}

BOTH(barrier_of_one_is_always_open)
{
    ASSERT_OK(fibril_barrier_new(1, 0, &b));
    ASSERT_EQ(fibril_barrier_wait(b, FIBRIL_FOREVER), 1);
    ASSERT_EQ(fibril_barrier_wait(b, 0), 1);
    fibril_barrier_free(b);
}

static int wait_ten_rounds(void *arg)
{
    (void)arg;
    int last = 0;
    for (int round = 0; round < 10; round++) {
        int rc = fibril_barrier_wait(b, FIBRIL_FOREVER);
        ASSERT_OK(rc);
        last += rc;
        note(round);
    }
    return last;
}

BOTH(barrier_keeps_rounds_apart)
{
    ASSERT_OK(fibril_barrier_new(3, 0, &b));
    struct fibril *f[3];
    for (int i = 0; i < 3; i++) {
        f[i] = go(wait_ten_rounds, NULL);
    }
    int last = end(f[0]) + end(f[1]) + end(f[2]);
    ASSERT_EQ(last, 10); /* just one last comer in each round */
    for (size_t i = 0; i < notes(); i++) {
        /* Who leaves a round first may be two notes ahead of the slowest, in the next round. */
        ASSERT_LE(noted(i), (int)(i / 3) + 1);
        ASSERT_GE(noted(i), (int)(i / 3) - 1);
    }
    fibril_barrier_free(b);
}

BOTH(barrier_does_not_count_one_that_timed_out)
{
    ASSERT_OK(fibril_barrier_new(2, 0, &b));
    ASSERT_ERR(end(go(wait_barrier_for_a_moment, NULL)), -ETIMEDOUT);
    struct fibril *f = go_parked(wait_barrier, NULL); /* it would pass if the other still counted */
    ASSERT_EQ(fibril_barrier_wait(b, FIBRIL_FOREVER), 1);
    ASSERT_EQ(end(f), 0);
    fibril_barrier_free(b);
}

BOTH(barrier_does_not_count_one_that_was_cancelled)
{
    ASSERT_OK(fibril_barrier_new(2, 0, &b));
    struct fibril *f = go_parked(wait_barrier, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(end(f), -ECANCELED);
    f = go_parked(wait_barrier, NULL);
    ASSERT_EQ(fibril_barrier_wait(b, FIBRIL_FOREVER), 1);
    ASSERT_EQ(end(f), 0);
    fibril_barrier_free(b);
}

BOTH(barrier_cancel_after_it_opened_stays_pending)
{
    ASSERT_OK(fibril_barrier_new(2, 0, &b));
    struct fibril *f = go_parked(wait_barrier, NULL);
    ASSERT_EQ(fibril_barrier_wait(b, FIBRIL_FOREVER), 1);
    if (f->state == FIBRIL__READY) { /* under the hard flavour it may have gone on already */
        ASSERT_OK(fibril_cancel(f));
    }
    ASSERT_EQ(end(f), 0);
    fibril_barrier_free(b);
}

TEST(barrier_waits_outside_loops_fail)
{
    ASSERT_OK(fibril_barrier_new(1, 0, &b));
    ASSERT_ERR(fibril_barrier_wait(b, FIBRIL_FOREVER), -EPERM);
    fibril_barrier_free(b);
    fibril_barrier_free(NULL);
}

TEST(barrier_new_refuses_what_makes_no_sense)
{
    ASSERT_ERR(fibril_barrier_new(0, 0, &b), -EINVAL);
    ASSERT_ERR(fibril_barrier_new(1, FIBRIL_RECURSIVE, &b), -EINVAL);
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_barrier_new(1, 0, &b), -ENOMEM);
    fibril__alloc_fail_after(-1);
}
