/* SPDX-License-Identifier: MIT */
/* Mutexes: who owns one when, and what ends a wait for it. */
#include "both.h"

static struct fibril_mutex *m;

static void lock_new(unsigned flags)
{
    ASSERT_OK(fibril_mutex_new(flags, &m));
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
}

static int lock_note_unlock(void *arg)
{
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    note(as_int(arg));
    return fibril_mutex_unlock(m);
}

static int lock_forever(void *arg)
{
    (void)arg;
    return fibril_mutex_lock(m, FIBRIL_FOREVER);
}

static int lock_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_mutex_lock(m, fibril_after(MS));
}

BOTH(mutex_serves_first_come_first_served)
{
    lock_new(0);
    struct fibril *f[5];
    for (int i = 0; i < 5; i++) {
        f[i] = go_parked(lock_note_unlock, as_arg(i));
    }
    ASSERT_OK(fibril_mutex_unlock(m));
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(end(f[i]), 0);
        ASSERT_EQ(noted(i), i);
    }
    fibril_mutex_free(m);
}

BOTH(mutex_belongs_to_the_waiter_from_the_unlock_on)
{
    lock_new(0);
    struct fibril *f = go_parked(lock_note_unlock, NULL);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)f);
    ASSERT_ERR(fibril_mutex_try_lock(m), -EAGAIN);
    ASSERT_EQ(end(f), 0);
    ASSERT(!fibril_mutex_owner(m));
    fibril_mutex_free(m);
}

BOTH(mutex_lock_times_out)
{
    lock_new(0);
    ASSERT_ERR(end(go(lock_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)fibril_current());
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT(!fibril_mutex_owner(m));
    fibril_mutex_free(m);
}

static int lock_in_the_past(void *arg)
{
    (void)arg;
    return fibril_mutex_lock(m, 0);
}

BOTH(mutex_deadline_in_the_past_makes_it_a_try)
{
    lock_new(0);
    ASSERT_ERR(end(go(lock_in_the_past, NULL)), -ETIMEDOUT);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_OK(end(go(lock_in_the_past, NULL)));
    fibril_mutex_free(m);
}

BOTH(mutex_wait_is_cancelled)
{
    lock_new(0);
    struct fibril *f = go_parked(lock_forever, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(end(f), -ECANCELED);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT(!fibril_mutex_owner(m));
    fibril_mutex_free(m);
}

BOTH(mutex_goes_on_to_the_next_when_the_first_gave_up)
{
    lock_new(0);
    struct fibril *first = go_parked(lock_forever, NULL);
    struct fibril *second = go_parked(lock_note_unlock, as_arg(2));
    ASSERT_OK(fibril_cancel(first));
    ASSERT_ERR(end(first), -ECANCELED);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_EQ(end(second), 0);
    ASSERT_EQ(noted(0), 2);
    fibril_mutex_free(m);
}

static int lock_then_wait(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)fibril_current());
    ASSERT_ERR(fibril_sleep(MS), -ECANCELED);
    return fibril_mutex_unlock(m);
}

BOTH(mutex_cancel_after_the_grant_stays_pending)
{
    lock_new(0);
    struct fibril *f = go_parked(lock_then_wait, NULL);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    ASSERT(!fibril_mutex_owner(m));
    fibril_mutex_free(m);
}

BOTH(mutex_recursive_is_free_after_as_many_unlocks)
{
    lock_new(FIBRIL_RECURSIVE);
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    ASSERT_OK(fibril_mutex_try_lock(m));
    struct fibril *f = go_parked(lock_note_unlock, NULL);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)fibril_current());
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_EQ((intptr_t)fibril_mutex_owner(m), (intptr_t)f);
    ASSERT_EQ(end(f), 0);
    fibril_mutex_free(m);
}

BOTH(mutex_refuses_to_be_locked_twice)
{
    lock_new(0);
    ASSERT_ERR(fibril_mutex_lock(m, FIBRIL_FOREVER), -EDEADLK);
    ASSERT_ERR(fibril_mutex_try_lock(m), -EDEADLK);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT(!fibril_mutex_owner(m));
    fibril_mutex_free(m);
}

static int unlock(void *arg)
{
    (void)arg;
    return fibril_mutex_unlock(m);
}

BOTH(mutex_is_unlocked_by_its_owner_only)
{
    lock_new(0);
    ASSERT_ERR(end(go(unlock, NULL)), -EPERM);
    ASSERT_OK(fibril_mutex_unlock(m));
    ASSERT_ERR(fibril_mutex_unlock(m), -EPERM);
    fibril_mutex_free(m);
}

TEST(mutex_calls_outside_loops_fail)
{
    ASSERT_OK(fibril_mutex_new(0, &m));
    ASSERT_ERR(fibril_mutex_lock(m, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_mutex_try_lock(m), -EPERM);
    ASSERT_ERR(fibril_mutex_unlock(m), -EPERM);
    fibril_mutex_free(m);
}

TEST(mutex_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_mutex_new(0, &m), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT(!m);
}

TEST(mutex_new_refuses_unknown_flags)
{
    ASSERT_ERR(fibril_mutex_new(1u << 9, &m), -EINVAL);
}

TEST(mutex_free_ignores_null)
{
    fibril_mutex_free(NULL);
}
