/* SPDX-License-Identifier: MIT */
/*
 * Cancellation: delivered where a fibril parks, sticky, shieldable.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>

enum { SECOND = 1000000000 };

static int result_of_wait;

static int sleep_for_ever(void *arg)
{
    (void)arg;
    result_of_wait = fibril_sleep_until(FIBRIL_FOREVER);
    return result_of_wait;
}

static int cancel_parked(void *arg)
{
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, arg, &f));
    fibril_yield();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    return 0;
}

TEST(cancel_ends_the_present_wait)
{
    ASSERT_OK(fibril_run(NULL, cancel_parked, NULL));
}

TEST(cancel_ends_the_wait_of_a_copied_stack)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    ASSERT_OK(fibril_run(NULL, cancel_parked, &opts));
}

static int cancel_unstarted(void *arg)
{
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, arg, &f));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    return 0;
}

TEST(cancel_before_the_start_ends_the_first_wait)
{
    ASSERT_OK(fibril_run(NULL, cancel_unstarted, NULL));
}

static int wait_twice(void *arg)
{
    (void)arg;
    ASSERT_ERR(fibril_sleep_until(FIBRIL_FOREVER), -ECANCELED);
    ASSERT_ERR(fibril_sleep_until(FIBRIL_FOREVER), -ECANCELED);
    ASSERT(fibril_cancelled());
    ASSERT(fibril_cancel_clear());
    ASSERT(!fibril_cancelled());
    ASSERT(!fibril_cancel_clear());
    ASSERT_OK(fibril_sleep(1000));
    return 0;
}

static int cancel_one(fibril_fn *fn)
{
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(fn, NULL, NULL, &f));
    fibril_yield();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    return result;
}

static int sticky_main(void *arg)
{
    (void)arg;
    return cancel_one(wait_twice);
}

TEST(cancel_is_sticky_until_cleared)
{
    ASSERT_OK(fibril_run(NULL, sticky_main, NULL));
}

static int shielded_wait(void *arg)
{
    (void)arg;
    fibril_shield_begin();
    fibril_shield_begin();
    ASSERT_OK(fibril_sleep(SECOND / 100)); /* cancelled meanwhile */
    fibril_shield_end();
    ASSERT(!fibril_cancelled());
    ASSERT_OK(fibril_sleep(1000));
    fibril_shield_end();
    ASSERT(fibril_cancelled());
    ASSERT_ERR(fibril_sleep(1000), -ECANCELED);
    return 0;
}

static int shield_main(void *arg)
{
    (void)arg;
    return cancel_one(shielded_wait);
}

TEST(shield_holds_cancellation_back_and_nests)
{
    ASSERT_OK(fibril_run(NULL, shield_main, NULL));
}

static int yield_when_cancelled(void *arg)
{
    (void)arg;
    ASSERT_ERR(fibril_sleep_until(FIBRIL_FOREVER), -ECANCELED);
    ASSERT_OK(fibril_yield());
    return 0;
}

static int yield_main(void *arg)
{
    (void)arg;
    return cancel_one(yield_when_cancelled);
}

TEST(yield_is_no_wait_and_never_cancelled)
{
    ASSERT_OK(fibril_run(NULL, yield_main, NULL));
}

static int joins(void *arg)
{
    return fibril_join(arg, FIBRIL_FOREVER, NULL);
}

static int cancel_joiner(void *arg)
{
    (void)arg;
    struct fibril *sleeper, *joiner;
    int result;
    ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, NULL, &sleeper));
    ASSERT_OK(fibril_spawn(joins, sleeper, NULL, &joiner));
    fibril_yield();
    fibril_yield();
    ASSERT_OK(fibril_cancel(joiner));
    ASSERT_OK(fibril_join(joiner, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    ASSERT_OK(fibril_cancel(sleeper)); /* its handle is still ours */
    ASSERT_OK(fibril_join(sleeper, FIBRIL_FOREVER, NULL));
    return 0;
}

TEST(cancelled_join_leaves_the_handle_valid)
{
    ASSERT_OK(fibril_run(NULL, cancel_joiner, NULL));
}

static int cancel_ended(void *arg)
{
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, arg, &f));
    ASSERT_OK(fibril_cancel(f));
    fibril_yield();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    return 0;
}

TEST(cancel_of_an_ended_fibril_does_nothing)
{
    ASSERT_OK(fibril_run(NULL, cancel_ended, NULL));
}

static int cancel_self(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_cancel(fibril_current()));
    ASSERT_ERR(fibril_sleep(SECOND), -ECANCELED);
    return 0;
}

TEST(fibril_may_cancel_itself)
{
    ASSERT_OK(fibril_run(NULL, cancel_self, NULL));
}
