/* SPDX-License-Identifier: MIT */
/* Read-write locks: who holds one together, and that nobody starves. */
#include "both.h"

static struct fibril_rwlock *l;

static int read_note_unlock(void *arg)
{
    ASSERT_OK(fibril_rwlock_read(l, FIBRIL_FOREVER));
    note(as_int(arg));
    return fibril_rwlock_unlock(l);
}

static int write_note_unlock(void *arg)
{
    ASSERT_OK(fibril_rwlock_write(l, FIBRIL_FOREVER));
    note(as_int(arg));
    return fibril_rwlock_unlock(l);
}

static int read_forever(void *arg)
{
    (void)arg;
    return fibril_rwlock_read(l, FIBRIL_FOREVER);
}

static int write_forever(void *arg)
{
    (void)arg;
    return fibril_rwlock_write(l, FIBRIL_FOREVER);
}

static int read_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_rwlock_read(l, fibril_after(MS));
}

static int write_for_a_moment(void *arg)
{
    (void)arg;
    return fibril_rwlock_write(l, fibril_after(MS));
}

static int unlock(void *arg)
{
    (void)arg;
    return fibril_rwlock_unlock(l);
}

static void begin(int (*lock)(struct fibril_rwlock *, int64_t))
{
    ASSERT_OK(fibril_rwlock_new(0, &l));
    ASSERT_OK(lock(l, FIBRIL_FOREVER));
}

static void finish(void)
{
    ASSERT_OK(fibril_rwlock_write(l, 0)); /* it is free */
    ASSERT_OK(fibril_rwlock_unlock(l));
    fibril_rwlock_free(l);
}

BOTH(rwlock_readers_hold_it_together)
{
    begin(fibril_rwlock_read);
    ASSERT_EQ(end(go(read_note_unlock, NULL)), 0);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

BOTH(rwlock_writer_waits_for_every_reader)
{
    begin(fibril_rwlock_read);
    ASSERT_OK(fibril_rwlock_read(l, FIBRIL_FOREVER));
    struct fibril *f = go_parked(write_note_unlock, NULL);
    ASSERT_OK(fibril_rwlock_unlock(l));
    ASSERT_OK(fibril_yield());
    ASSERT_EQ(f->state, FIBRIL__PARKED);
    ASSERT_OK(fibril_rwlock_unlock(l));
    ASSERT_EQ(end(f), 0);
    finish();
}

BOTH(rwlock_writer_keeps_readers_and_writers_out)
{
    begin(fibril_rwlock_write);
    ASSERT_ERR(end(go(read_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_ERR(end(go(write_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

BOTH(rwlock_waiting_writer_holds_later_readers_back)
{
    begin(fibril_rwlock_read);
    struct fibril *writer = go_parked(write_note_unlock, as_arg(1));
    struct fibril *reader = go_parked(read_note_unlock, as_arg(2));
    ASSERT_OK(fibril_rwlock_unlock(l));
    ASSERT_EQ(end(writer), 0);
    ASSERT_EQ(end(reader), 0);
    ASSERT_EQ(noted(0), 1);
    ASSERT_EQ(noted(1), 2);
    finish();
}

BOTH(rwlock_writers_are_served_first_come_first_served)
{
    begin(fibril_rwlock_write);
    struct fibril *f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = go_parked(write_note_unlock, as_arg(i));
    }
    ASSERT_OK(fibril_rwlock_unlock(l));
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
        ASSERT_EQ(noted(i), i);
    }
    finish();
}

BOTH(rwlock_lets_all_readers_up_to_the_next_writer_in_at_once)
{
    begin(fibril_rwlock_write);
    struct fibril *readers[3];
    for (int i = 0; i < 3; i++) {
        readers[i] = go_parked(read_forever, NULL);
    }
    struct fibril *writer = go_parked(write_note_unlock, NULL);
    struct fibril *late = go_parked(read_note_unlock, NULL);
    ASSERT_OK(fibril_rwlock_unlock(l));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(end(readers[i]), 0);
    }
    ASSERT_EQ(writer->state, FIBRIL__PARKED);
    ASSERT_EQ(late->state, FIBRIL__PARKED);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_rwlock_unlock(l));
    }
    ASSERT_EQ(end(writer), 0);
    ASSERT_EQ(end(late), 0);
    finish();
}

BOTH(rwlock_readers_go_on_when_the_writer_before_them_times_out)
{
    begin(fibril_rwlock_read);
    struct fibril *writer = go_parked(write_for_a_moment, NULL);
    struct fibril *reader = go_parked(read_note_unlock, NULL);
    ASSERT_ERR(end(writer), -ETIMEDOUT);
    ASSERT_EQ(end(reader), 0);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

BOTH(rwlock_readers_go_on_when_the_writer_before_them_is_cancelled)
{
    begin(fibril_rwlock_read);
    struct fibril *writer = go_parked(write_forever, NULL);
    struct fibril *reader = go_parked(read_note_unlock, NULL);
    ASSERT_OK(fibril_cancel(writer));
    ASSERT_ERR(end(writer), -ECANCELED);
    ASSERT_EQ(end(reader), 0);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

BOTH(rwlock_read_wait_is_cancelled)
{
    begin(fibril_rwlock_write);
    struct fibril *f = go_parked(read_forever, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(end(f), -ECANCELED);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

BOTH(rwlock_cancel_after_the_grant_leaves_it_granted)
{
    begin(fibril_rwlock_write);
    struct fibril *f = go_parked(write_note_unlock, as_arg(7));
    ASSERT_OK(fibril_rwlock_unlock(l));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    ASSERT_EQ(noted(0), 7);
    finish();
}

BOTH(rwlock_is_not_unlocked_by_those_who_do_not_hold_it)
{
    begin(fibril_rwlock_write);
    ASSERT_ERR(end(go(unlock, NULL)), -EPERM);
    ASSERT_OK(fibril_rwlock_unlock(l));
    ASSERT_ERR(fibril_rwlock_unlock(l), -EPERM);
    finish();
}

BOTH(rwlock_refuses_the_writer_that_comes_again)
{
    begin(fibril_rwlock_write);
    ASSERT_ERR(fibril_rwlock_write(l, FIBRIL_FOREVER), -EDEADLK);
    ASSERT_ERR(fibril_rwlock_read(l, FIBRIL_FOREVER), -EDEADLK);
    ASSERT_OK(fibril_rwlock_unlock(l));
    finish();
}

TEST(rwlock_calls_outside_loops_fail)
{
    ASSERT_OK(fibril_rwlock_new(0, &l));
    ASSERT_ERR(fibril_rwlock_read(l, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_rwlock_write(l, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_rwlock_unlock(l), -EPERM);
    fibril_rwlock_free(l);
    fibril_rwlock_free(NULL);
}

TEST(rwlock_new_reports_missing_memory)
{
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_rwlock_new(0, &l), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(fibril_rwlock_new(FIBRIL_RECURSIVE, &l), -EINVAL);
}
