/* SPDX-License-Identifier: MIT */
/* Semaphores: what is posted is taken once, by who came first. */
#include "both.h"

#include <limits.h>

static struct fibril_sem *s;

static int wait_note(void *arg)
{
    int rc = fibril_sem_wait(s, FIBRIL_FOREVER);
    note(as_int(arg));
    return rc;
}

static int wait_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_sem_wait(s, fibril_after(MS));
}

BOTH(sem_gives_as_many_as_it_counts)
{
    ASSERT_OK(fibril_sem_new(2, 0, &s));
    ASSERT_OK(fibril_sem_wait(s, FIBRIL_FOREVER));
    ASSERT_OK(fibril_sem_try_wait(s));
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    ASSERT_ERR(fibril_sem_wait(s, 0), -ETIMEDOUT);
    ASSERT_OK(fibril_sem_post(s));
    ASSERT_OK(fibril_sem_try_wait(s));
    fibril_sem_free(s);
}

BOTH(sem_serves_first_come_first_served)
{
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    struct fibril *f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = go_parked(wait_note, as_arg(i));
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(fibril_sem_post(s));
        ASSERT_EQ(end(f[i]), 0);
        ASSERT_EQ(notes(), i + 1);
    }
    fibril_sem_free(s);
}

BOTH(sem_post_cannot_be_taken_from_the_waiter_it_woke)
{
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    struct fibril *f = go_parked(wait_note, NULL);
    ASSERT_OK(fibril_sem_post(s));
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    ASSERT_EQ(end(f), 0);
    fibril_sem_free(s);
}

BOTH(sem_wait_that_times_out_takes_nothing)
{
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    ASSERT_ERR(end(go(wait_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_OK(fibril_sem_post(s));
    ASSERT_OK(fibril_sem_try_wait(s));
    fibril_sem_free(s);
}

BOTH(sem_wait_is_cancelled_and_takes_nothing)
{
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    struct fibril *f = go_parked(wait_note, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_sem_post(s));
    ASSERT_ERR(end(f), -ECANCELED);
    ASSERT_OK(fibril_sem_try_wait(s));
    fibril_sem_free(s);
}

BOTH(sem_cancel_after_the_post_does_not_undo_it)
{
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    struct fibril *f = go_parked(wait_note, NULL);
    ASSERT_OK(fibril_sem_post(s));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    fibril_sem_free(s);
}

BOTH(sem_does_not_overflow)
{
    ASSERT_OK(fibril_sem_new(UINT_MAX, 0, &s));
    ASSERT_ERR(fibril_sem_post(s), -EOVERFLOW);
    ASSERT_OK(fibril_sem_try_wait(s));
    ASSERT_OK(fibril_sem_post(s));
    fibril_sem_free(s);
}

static void *post_hundred(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(fibril_sem_post(s));
    }
    return NULL;
}

static int wait_hundred(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(fibril_sem_wait(s, FIBRIL_FOREVER));
    }
    return 0;
}

BOTH(sem_is_posted_by_an_os_thread_without_a_loop)
{
    ASSERT_OK(fibril_sem_new(0, FIBRIL_SHARED, &s));
    struct fibril *f = go_parked(wait_hundred, NULL);
    on_os_thread(post_hundred, NULL);
    ASSERT_EQ(end(f), 0);
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    fibril_sem_free(s);
}

TEST(sem_waits_outside_loops_fail)
{
    ASSERT_OK(fibril_sem_new(1, FIBRIL_SHARED, &s));
    ASSERT_ERR(fibril_sem_wait(s, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_sem_try_wait(s), -EPERM);
    ASSERT_OK(fibril_sem_post(s));
    fibril_sem_free(s);
    fibril_sem_free(NULL);
}

TEST(sem_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_sem_new(0, 0, &s), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(fibril_sem_new(0, FIBRIL_RECURSIVE, &s), -EINVAL);
}
