/* SPDX-License-Identifier: MIT */
/* What two loops share: nothing is lost, nothing comes twice, order is kept. */
#include "both.h"

#include <stdatomic.h>
#include <string.h>

static struct fibril_loop *other;
static struct fibril_chan *there, *back;

static void begin(void)
{
    ASSERT_OK(fibril_loop_start(NULL, &other));
}

static void finish(void)
{
    ASSERT_OK(fibril_loop_stop(other));
}

static uint64_t many(void)
{
    return test_is_slow() ? 5000 : 100000;
}

/* Lets `arrivals` fibrils start at the same moment, so that the loops do run against each other. */
static atomic_int arrived;

static void start_together(int arrivals)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < arrivals) {
        ASSERT_OK(fibril_yield());
    }
}

/* ---- channels ------------------------------------------------------------ */

static int send_many(void *arg)
{
    start_together(4);
    for (uint64_t i = 0; i < many(); i++) {
        ASSERT_OK(fibril_chan_send(arg, &i, FIBRIL_FOREVER));
    }
    return 0;
}

static int recv_many_in_order(void *arg)
{
    start_together(4);
    for (uint64_t i = 0; i < many(); i++) {
        uint64_t n = UINT64_MAX;
        ASSERT_OK(fibril_chan_recv(arg, &n, FIBRIL_FOREVER));
        ASSERT_EQ(n, i);
    }
    return 0;
}

/* A stream in each direction at the same time. */
static void stream(size_t capacity)
{
    begin();
    ASSERT_OK(fibril_chan_new(sizeof(uint64_t), capacity, FIBRIL_SHARED, &there));
    ASSERT_OK(fibril_chan_new(sizeof(uint64_t), capacity, FIBRIL_SHARED, &back));
    struct fibril *f[] = {go(send_many, there), go_on(other, recv_many_in_order, there),
                          go_on(other, send_many, back), go(recv_many_in_order, back)};
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    ASSERT_EQ(fibril_chan_len(there), 0);
    finish();
    fibril_chan_free(there);
    fibril_chan_free(back);
}

BOTH(shared_chan_unbuffered_keeps_order_between_loops)
{
    stream(0);
}

BOTH(shared_chan_buffered_keeps_order_between_loops)
{
    stream(64);
}

enum { BIG = 100 * 1024 };

static int send_big(void *arg)
{
    static char big[BIG];
    (void)arg;
    for (int i = 0; i < 20; i++) {
        memset(big, 'a' + i, BIG);
        ASSERT_OK(fibril_chan_send(there, big, FIBRIL_FOREVER));
        memset(big, '?', BIG); /* it has been copied */
    }
    return 0;
}

BOTH(shared_chan_big_elements_arrive_whole)
{
    static char big[BIG], expected[BIG];
    begin();
    ASSERT_OK(fibril_chan_new(BIG, 0, FIBRIL_SHARED, &there));
    struct fibril *f = go_on(other, send_big, NULL);
    for (int i = 0; i < 20; i++) {
        memset(expected, 'a' + i, BIG);
        ASSERT_OK(fibril_chan_recv(there, big, FIBRIL_FOREVER));
        ASSERT_MEM(big, expected, BIG);
    }
    ASSERT_EQ(end(f), 0);
    finish();
    fibril_chan_free(there);
}

static int recv_signal(void *arg)
{
    return fibril_chan_recv(arg, NULL, FIBRIL_FOREVER);
}

BOTH(shared_chan_close_wakes_waiters_of_another_loop)
{
    begin();
    ASSERT_OK(fibril_chan_new(0, 0, FIBRIL_SHARED, &there));
    struct fibril *f[] = {go_on(other, recv_signal, there), go_on(other, recv_signal, there),
                          go(recv_signal, there)};
    ASSERT_OK(fibril_chan_send(there, NULL, FIBRIL_FOREVER));
    ASSERT_OK(fibril_chan_close(there));
    int closed = 0;
    for (int i = 0; i < 3; i++) {
        closed += end(f[i]) == -EPIPE;
    }
    ASSERT_EQ(closed, 2);
    finish();
    fibril_chan_free(there);
}

static int shared_wait_without_memory(void *arg)
{
    uint64_t n = 0;
    fibril__alloc_fail_after(0);
    int rc = fibril_chan_recv(arg, &n, FIBRIL_FOREVER);
    int rc_send = fibril_chan_send(arg, &n, FIBRIL_FOREVER);
    struct fibril_case c = {.op = FIBRIL_CASE_RECV, .chan = arg, .elem = &n};
    int rc_select = fibril_select(&c, 1, FIBRIL_FOREVER);
    fibril__alloc_fail_after(-1);
    ASSERT_ERR(rc_send, -ENOMEM);
    ASSERT_ERR(rc_select, -ENOMEM);
    return rc;
}

BOTH(shared_chan_reports_missing_memory_when_it_must_wait)
{
    ASSERT_OK(fibril_chan_new(sizeof(uint64_t), 0, FIBRIL_SHARED, &there));
    ASSERT_ERR(end(go(shared_wait_without_memory, there)), -ENOMEM);
    ASSERT_ERR(fibril_chan_try_send(there, &(uint64_t){0}), -EAGAIN); /* and nobody was left waiting
                                                                       */
    fibril_chan_free(there);
}

/* ---- select -------------------------------------------------------------- */

static struct fibril_chan *lanes[3];

static void lanes_new(void)
{
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_chan_new(sizeof(uint64_t), 0, FIBRIL_SHARED, &lanes[i]));
    }
}

static void lanes_free(void)
{
    for (int i = 0; i < 3; i++) {
        fibril_chan_free(lanes[i]);
    }
}

static int select_send_many(void *arg)
{
    start_together(2);
    uint64_t count = many() / 5;
    (void)arg;
    for (uint64_t i = 0; i < count; i++) {
        struct fibril_case cases[3];
        for (int k = 0; k < 3; k++) {
            cases[k] = (struct fibril_case){.op = FIBRIL_CASE_SEND, .chan = lanes[k], .elem = &i};
        }
        int index = fibril_select(cases, 3, FIBRIL_FOREVER);
        ASSERT_OK(index);
        ASSERT_EQ(cases[index].result, 0);
    }
    return 0;
}

/* Receives by select, and expects the whole sequence whatever lanes it comes by: one winner for
 * each element. */
static int select_recv_many(void *arg)
{
    start_together(2);
    uint64_t count = many() / 5;
    (void)arg;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t in[3] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
        struct fibril_case cases[3];
        for (int k = 0; k < 3; k++) {
            cases[k] =
                (struct fibril_case){.op = FIBRIL_CASE_RECV, .chan = lanes[2 - k], .elem = &in[k]};
        }
        int index = fibril_select(cases, 3, FIBRIL_FOREVER);
        ASSERT_OK(index);
        ASSERT_EQ(cases[index].result, 0);
        ASSERT_EQ(in[index], i);
        ASSERT_EQ(in[(index + 1) % 3], -1);
        ASSERT_EQ(in[(index + 2) % 3], -1);
    }
    return 0;
}

BOTH(shared_select_meets_select_of_another_loop)
{
    begin();
    lanes_new();
    struct fibril *sender = go_on(other, select_send_many, NULL);
    struct fibril *receiver = go(select_recv_many, NULL);
    ASSERT_EQ(end(sender), 0);
    ASSERT_EQ(end(receiver), 0);
    finish();
    lanes_free();
}

static int send_on_lane(void *arg)
{
    start_together(4);
    for (uint64_t i = 0; i < many() / 10; i++) {
        ASSERT_OK(fibril_chan_send(lanes[as_int(arg)], &i, FIBRIL_FOREVER));
    }
    return 0;
}

static int select_recv_lanes(void *arg)
{
    start_together(4);
    uint64_t next[3] = {0, 0, 0};
    (void)arg;
    for (uint64_t i = 0; i < 3 * (many() / 10); i++) {
        uint64_t in[3];
        struct fibril_case cases[3];
        for (int k = 0; k < 3; k++) {
            cases[k] =
                (struct fibril_case){.op = FIBRIL_CASE_RECV, .chan = lanes[k], .elem = &in[k]};
        }
        int index = fibril_select(cases, 3, FIBRIL_FOREVER);
        ASSERT_OK(index);
        ASSERT_EQ(in[index], next[index]);
        next[index]++;
    }
    return 0;
}

BOTH(shared_select_keeps_the_order_of_each_channel)
{
    begin();
    lanes_new();
    struct fibril *f[] = {go_on(other, send_on_lane, as_arg(0)),
                          go_on(other, send_on_lane, as_arg(1)), go(send_on_lane, as_arg(2)),
                          go(select_recv_lanes, NULL)};
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    finish();
    lanes_free();
}

/* ---- locks --------------------------------------------------------------- */

static struct fibril_mutex *m;
static struct fibril_rwlock *l;
static struct fibril_cond *c;
static struct fibril_sem *s;
static struct fibril_group *g;
static struct fibril_barrier *b;
static uint64_t counter; /* plain: the lock orders it */

static int count_under_mutex(void *arg)
{
    start_together(4);
    (void)arg;
    for (uint64_t i = 0; i < many(); i++) {
        ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
        counter++;
        ASSERT_OK(fibril_mutex_unlock(m));
    }
    return 0;
}

static void two_on_each_loop(fibril_fn *fn)
{
    struct fibril *f[] = {go_on(other, fn, NULL), go_on(other, fn, NULL), go(fn, NULL),
                          go(fn, NULL)};
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
}

BOTH(shared_mutex_keeps_fibrils_of_two_loops_apart)
{
    begin();
    ASSERT_OK(fibril_mutex_new(FIBRIL_SHARED, &m));
    two_on_each_loop(count_under_mutex);
    ASSERT_EQ(counter, 4 * many());
    finish();
    fibril_mutex_free(m);
}

static int read_and_write(void *arg)
{
    start_together(4);
    (void)arg;
    for (uint64_t i = 0; i < many() / 10; i++) {
        if (i % 4) {
            ASSERT_OK(fibril_rwlock_read(l, FIBRIL_FOREVER));
            ASSERT_LE(counter, 4 * many());
        } else {
            ASSERT_OK(fibril_rwlock_write(l, FIBRIL_FOREVER));
            counter++;
        }
        ASSERT_OK(fibril_rwlock_unlock(l));
    }
    return 0;
}

BOTH(shared_rwlock_keeps_writers_of_two_loops_apart)
{
    begin();
    ASSERT_OK(fibril_rwlock_new(FIBRIL_SHARED, &l));
    two_on_each_loop(read_and_write);
    ASSERT_EQ(counter, many() / 10);
    finish();
    fibril_rwlock_free(l);
}

/* Two loops take turns: even numbers here, odd ones there. */
static int take_turns(void *arg)
{
    ASSERT_OK(fibril_mutex_lock(m, FIBRIL_FOREVER));
    while (counter < many() / 10) {
        if (counter % 2 == (uint64_t)as_int(arg)) {
            counter++;
            fibril_cond_broadcast(c);
        } else {
            ASSERT_OK(fibril_cond_wait(c, m, FIBRIL_FOREVER));
        }
    }
    fibril_cond_broadcast(c);
    return fibril_mutex_unlock(m);
}

BOTH(shared_cond_passes_turns_between_loops)
{
    begin();
    ASSERT_OK(fibril_mutex_new(FIBRIL_SHARED, &m));
    ASSERT_OK(fibril_cond_new(FIBRIL_SHARED, &c));
    struct fibril *even = go(take_turns, as_arg(0)), *odd = go_on(other, take_turns, as_arg(1));
    ASSERT_EQ(end(even), 0);
    ASSERT_EQ(end(odd), 0);
    ASSERT_EQ(counter, many() / 10);
    finish();
    fibril_cond_free(c);
    fibril_mutex_free(m);
}

static atomic_int inside;

static int pass_semaphore(void *arg)
{
    start_together(4);
    (void)arg;
    for (uint64_t i = 0; i < many(); i++) {
        ASSERT_OK(fibril_sem_wait(s, FIBRIL_FOREVER));
        ASSERT_LE(atomic_fetch_add(&inside, 1), 2);
        atomic_fetch_sub(&inside, 1);
        ASSERT_OK(fibril_sem_post(s));
    }
    return 0;
}

BOTH(shared_sem_lets_no_more_in_than_it_counts)
{
    begin();
    ASSERT_OK(fibril_sem_new(3, FIBRIL_SHARED, &s));
    two_on_each_loop(pass_semaphore);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_sem_try_wait(s));
    }
    ASSERT_ERR(fibril_sem_try_wait(s), -EAGAIN);
    finish();
    fibril_sem_free(s);
}

static int be_done(void *arg)
{
    (void)arg;
    return fibril_group_done(g);
}

BOTH(shared_group_waits_for_fibrils_of_another_loop)
{
    begin();
    ASSERT_OK(fibril_group_new(FIBRIL_SHARED, &g));
    ASSERT_OK(fibril_group_add(g, 4));
    struct fibril *f[] = {go_on(other, be_done, NULL), go_on(other, be_done, NULL),
                          go(be_done, NULL), go_on(other, be_done, NULL)};
    ASSERT_OK(fibril_group_wait(g, FIBRIL_FOREVER));
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    finish();
    fibril_group_free(g);
}

static int meet(void *arg)
{
    int last = 0;
    (void)arg;
    for (uint64_t i = 0; i < many() / 50; i++) {
        int rc = fibril_barrier_wait(b, FIBRIL_FOREVER);
        ASSERT_OK(rc);
        last += rc;
    }
    return last;
}

BOTH(shared_barrier_gathers_fibrils_of_two_loops)
{
    begin();
    ASSERT_OK(fibril_barrier_new(4, FIBRIL_SHARED, &b));
    struct fibril *f[] = {go_on(other, meet, NULL), go_on(other, meet, NULL), go(meet, NULL),
                          go(meet, NULL)};
    int last = 0;
    for (int i = 0; i < 4; i++) {
        last += end(f[i]);
    }
    ASSERT_EQ(last, many() / 50);
    finish();
    fibril_barrier_free(b);
}

static struct fibril_once once = FIBRIL_ONCE_INIT;

static int count_slowly(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_sleep(MS));
    counter++;
    return 0;
}

static int run_once(void *arg)
{
    ASSERT_OK(fibril_once_run(&once, count_slowly, arg, FIBRIL_FOREVER));
    ASSERT_EQ(counter, 1);
    return 0;
}

BOTH(shared_once_runs_once_in_all_loops)
{
    begin();
    two_on_each_loop(run_once);
    ASSERT_EQ(counter, 1);
    finish();
}

/* ---- giving up in one loop, granting in another -------------------------- */

static int take_or_time_out(void *arg)
{
    start_together(2);
    int taken = 0;
    (void)arg;
    for (uint64_t i = 0; i < many() / 20; i++) {
        int rc = fibril_sem_wait(s, fibril_after((int64_t)(i % 20) * 500));
        ASSERT(rc == 0 || rc == -ETIMEDOUT);
        taken += rc == 0;
    }
    return taken;
}

static int post_many(void *arg)
{
    start_together(2);
    (void)arg;
    for (uint64_t i = 0; i < many() / 20; i++) {
        ASSERT_OK(fibril_sem_post(s));
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

BOTH(shared_sem_time_outs_racing_with_posts_lose_nothing)
{
    begin();
    ASSERT_OK(fibril_sem_new(0, FIBRIL_SHARED, &s));
    struct fibril *taker = go(take_or_time_out, NULL), *poster = go_on(other, post_many, NULL);
    ASSERT_EQ(end(poster), 0);
    uint64_t taken = (uint64_t)end(taker);
    while (fibril_sem_try_wait(s) == 0) {
        taken++;
    }
    ASSERT_EQ(taken, many() / 20);
    finish();
    fibril_sem_free(s);
}

static int recv_or_time_out(void *arg)
{
    start_together(2);
    uint64_t expected = 0;
    for (uint64_t i = 0; expected < many() / 20; i++) {
        uint64_t n = UINT64_MAX;
        int rc = fibril_chan_recv(arg, &n, fibril_after((int64_t)(i % 20) * 500));
        ASSERT(rc == 0 || rc == -ETIMEDOUT);
        if (rc == 0) {
            ASSERT_EQ(n, expected);
            expected++;
        }
    }
    return 0;
}

static int send_or_time_out(void *arg)
{
    start_together(2);
    uint64_t i = 0;
    for (uint64_t tries = 0; i < many() / 20; tries++) {
        int rc = fibril_chan_send(arg, &i, fibril_after((int64_t)(tries % 17) * 500));
        ASSERT(rc == 0 || rc == -ETIMEDOUT);
        i += rc == 0;
    }
    return 0;
}

BOTH(shared_chan_time_outs_on_both_sides_lose_and_double_nothing)
{
    begin();
    ASSERT_OK(fibril_chan_new(sizeof(uint64_t), 0, FIBRIL_SHARED, &there));
    struct fibril *receiver = go(recv_or_time_out, there);
    struct fibril *sender = go_on(other, send_or_time_out, there);
    ASSERT_EQ(end(sender), 0);
    ASSERT_EQ(end(receiver), 0);
    finish();
    fibril_chan_free(there);
}
