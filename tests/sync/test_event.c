/* SPDX-License-Identifier: MIT */
/* Events: who waits goes on when one is set, and at once while it is. */
#include "both.h"

#include <pthread.h>

static struct fibril_event *e;

static int wait_forever(void *arg)
{
    (void)arg;
    return fibril_event_wait(e, FIBRIL_FOREVER);
}

static int wait_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_event_wait(e, fibril_after(MS));
}

BOTH(event_is_passed_while_it_is_set)
{
    ASSERT_OK(fibril_event_new(0, &e));
    ASSERT(!fibril_event_is_set(e));
    fibril_event_set(e);
    ASSERT(fibril_event_is_set(e));
    ASSERT_OK(fibril_event_wait(e, FIBRIL_FOREVER));
    ASSERT_OK(fibril_event_wait(e, 0));
    fibril_event_free(e);
}

BOTH(event_set_wakes_all_who_wait)
{
    ASSERT_OK(fibril_event_new(0, &e));
    struct fibril *f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = go_parked(wait_forever, NULL);
    }
    fibril_event_set(e);
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    fibril_event_free(e);
}

BOTH(event_reset_holds_those_who_come_after_it)
{
    ASSERT_OK(fibril_event_new(0, &e));
    fibril_event_set(e);
    fibril_event_reset(e);
    ASSERT(!fibril_event_is_set(e));
    ASSERT_ERR(end(go(wait_for_a_moment, NULL)), -ETIMEDOUT);
    fibril_event_free(e);
}

BOTH(event_reset_does_not_hold_those_who_were_woken)
{
    ASSERT_OK(fibril_event_new(0, &e));
    struct fibril *f = go_parked(wait_forever, NULL);
    fibril_event_set(e);
    fibril_event_reset(e);
    ASSERT_EQ(end(f), 0);
    fibril_event_free(e);
}

BOTH(event_wait_is_cancelled)
{
    ASSERT_OK(fibril_event_new(0, &e));
    struct fibril *f = go_parked(wait_forever, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(end(f), -ECANCELED);
    fibril_event_set(e);
    fibril_event_free(e);
}

BOTH(event_cancel_after_it_was_set_stays_pending)
{
    ASSERT_OK(fibril_event_new(0, &e));
    struct fibril *f = go_parked(wait_forever, NULL);
    fibril_event_set(e);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    fibril_event_free(e);
}

static void *set(void *arg)
{
    (void)arg;
    fibril_event_set(e);
    return NULL;
}

BOTH(event_is_set_by_an_os_thread_without_a_loop)
{
    ASSERT_OK(fibril_event_new(FIBRIL_SHARED, &e));
    pthread_t thread;
    ASSERT_EQ(pthread_create(&thread, NULL, set, NULL), 0);
    ASSERT_OK(fibril_event_wait(e, FIBRIL_FOREVER));
    fibril_event_free(e); /* whoever has passed may free it: the setter does not touch it any more
                           */
    ASSERT_EQ(pthread_join(thread, NULL), 0);
}

TEST(event_waits_outside_loops_fail)
{
    ASSERT_OK(fibril_event_new(0, &e));
    ASSERT_ERR(fibril_event_wait(e, FIBRIL_FOREVER), -EPERM);
    fibril_event_free(e);
    fibril_event_free(NULL);
}

TEST(event_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_event_new(0, &e), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(fibril_event_new(FIBRIL_RECURSIVE, &e), -EINVAL);
}
