/* SPDX-License-Identifier: MIT */
/*
 * Scopes: all fibrils of one end before its close returns, and the first failure cancels the
 * others.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>

static int ended, cancelled;

static int sleep_a_little(void *arg)
{
    int rc = fibril_sleep((intptr_t)arg * 1000);
    cancelled += rc == -ECANCELED;
    ended++;
    return 0;
}

static int fail_with_eio(void *arg)
{
    (void)arg;
    fibril_yield();
    ended++;
    return -EIO;
}

static int sleep_for_ever(void *arg)
{
    (void)arg;
    int rc = fibril_sleep_until(FIBRIL_FOREVER);
    cancelled += rc == -ECANCELED;
    ended++;
    return rc;
}

static int close_waits(void *arg)
{
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    for (int i = 0; i < 10; i++) {
        ASSERT_OK(fibril_scope_spawn(s, sleep_a_little, (void *)(intptr_t)(i * 10), arg));
    }
    ASSERT_OK(fibril_scope_close(s, FIBRIL_FOREVER));
    ASSERT_EQ(ended, 10);
    return 0;
}

TEST(close_waits_for_all)
{
    ASSERT_OK(fibril_run(NULL, close_waits, NULL));
}

TEST(close_waits_for_copied_stacks)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED, .name = "child"};
    ASSERT_OK(fibril_run(NULL, close_waits, &opts));
}

static int first_failure(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    ASSERT_OK(fibril_scope_spawn(s, fail_with_eio, NULL, NULL));
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    ASSERT_ERR(fibril_scope_close(s, FIBRIL_FOREVER), -EIO);
    ASSERT_EQ(ended, 3);
    ASSERT_EQ(cancelled, 2);
    return 0;
}

TEST(first_failure_cancels_the_others_and_is_returned)
{
    ASSERT_OK(fibril_run(NULL, first_failure, NULL));
}

static int deadline_passes(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    ASSERT_ERR(fibril_scope_close(s, fibril_after(1000000)), -ETIMEDOUT);
    ASSERT_EQ(cancelled, 1);
    return 0;
}

TEST(deadline_cancels_and_still_waits)
{
    ASSERT_OK(fibril_run(NULL, deadline_passes, NULL));
}

static int spawn_into(void *arg)
{
    struct fibril_scope *s = arg;
    fibril_sleep(FIBRIL_FOREVER);
    return fibril_scope_spawn(s, sleep_for_ever, NULL, NULL);
}

static int refused_with;

static int note_refusal(void *arg)
{
    refused_with = spawn_into(arg);
    return refused_with;
}

static int closing_refuses_and_says_so(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, note_refusal, s, NULL));
    ASSERT_ERR(fibril_scope_close(s, fibril_after(1000000)), -ETIMEDOUT);
    ASSERT_EQ(refused_with, -EPIPE);
    return 0;
}

TEST(close_that_gave_up_lets_nobody_in)
{
    ASSERT_OK(fibril_run(NULL, closing_refuses_and_says_so, NULL));
}

static int start_another(void *arg)
{
    struct fibril_scope *s = arg;
    fibril_yield();
    return fibril_scope_spawn(s, sleep_a_little, (void *)1, NULL);
}

static int members_start_others(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, start_another, s, NULL));
    ASSERT_EQ(fibril_scope_close(s, FIBRIL_FOREVER), 0);
    return 0;
}

TEST(members_may_start_others_while_a_close_waits)
{
    ASSERT_OK(fibril_run(NULL, members_start_others, NULL));
}

static int open_and_close(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    ASSERT_ERR(fibril_scope_close(s, FIBRIL_FOREVER), -ECANCELED);
    ASSERT_EQ(cancelled, 1);
    return 0;
}

static int cancel_closer(void *arg)
{
    (void)arg;
    struct fibril *f;
    ASSERT_OK(fibril_spawn(open_and_close, NULL, NULL, &f));
    fibril_yield();
    fibril_yield();
    ASSERT_OK(fibril_cancel(f));
    return fibril_join(f, FIBRIL_FOREVER, NULL);
}

TEST(cancelled_closer_cancels_the_scope)
{
    ASSERT_OK(fibril_run(NULL, cancel_closer, NULL));
}

static int nested(void *arg)
{
    struct fibril_scope *s;
    intptr_t depth = (intptr_t)arg;
    ASSERT_OK(fibril_scope_open(&s));
    if (depth > 0) {
        ASSERT_OK(fibril_scope_spawn(s, nested, (void *)(depth - 1), NULL));
        ASSERT_OK(fibril_scope_spawn(s, nested, (void *)(depth - 1), NULL));
    }
    int rc = fibril_scope_close(s, FIBRIL_FOREVER);
    ended++;
    return rc;
}

TEST(scopes_nest)
{
    ASSERT_OK(fibril_run(NULL, nested, (void *)(intptr_t)6));
    ASSERT_EQ(ended, 127);
}

static int failure_goes_up(void *arg)
{
    struct fibril_scope *s;
    intptr_t depth = (intptr_t)arg;
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_OK(fibril_scope_spawn(s, depth > 0 ? failure_goes_up : fail_with_eio,
                                 (void *)(depth - 1), NULL));
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    return fibril_scope_close(s, FIBRIL_FOREVER);
}

TEST(failure_goes_up_through_scopes)
{
    ASSERT_ERR(fibril_run(NULL, failure_goes_up, (void *)(intptr_t)4), -EIO);
    ASSERT_EQ(cancelled, 5);
}

static int cancel_then_spawn(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    ASSERT_OK(fibril_scope_open(&s));
    fibril_scope_cancel(s);
    ASSERT_OK(fibril_scope_spawn(s, sleep_for_ever, NULL, NULL));
    ASSERT_OK(fibril_scope_close(s, FIBRIL_FOREVER));
    ASSERT_EQ(cancelled, 1);
    return 0;
}

TEST(fibril_spawned_into_a_cancelled_scope_is_cancelled)
{
    ASSERT_OK(fibril_run(NULL, cancel_then_spawn, NULL));
}

static int misuse(void *arg)
{
    (void)arg;
    struct fibril_scope *s;
    struct fibril_spawn_opts daemon = {.daemon = true};
    ASSERT_OK(fibril_scope_open(&s));
    ASSERT_ERR(fibril_scope_spawn(s, sleep_for_ever, NULL, &daemon), -EINVAL);
    return fibril_scope_close(s, FIBRIL_FOREVER);
}

TEST(daemons_are_refused)
{
    ASSERT_OK(fibril_run(NULL, misuse, NULL));
}
