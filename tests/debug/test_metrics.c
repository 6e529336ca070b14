/* SPDX-License-Identifier: MIT */
/*
 * Each counter moves when it should, by as much as it should.
 */
#include <fibril/fibril.h>
#include <fibril/io.h>

#include "base/compiler.h"
#include "test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct fibril_metrics metrics(void)
{
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(NULL, &m));
    return m;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void let_others_run(void)
{
    ASSERT_OK(fibril_sleep(1000000));
}

/* ---- life ---- */

static int life(void *arg)
{
    struct fibril_metrics a = metrics();
    struct fibril *f;
    (void)arg;
    ASSERT_EQ(a.fibrils, 1);
    ASSERT_EQ(a.spawned, 0);
    ASSERT_OK(fibril_spawn(nothing, NULL, NULL, &f));
    ASSERT_OK(fibril_spawn(nothing, NULL, &(struct fibril_spawn_opts){.daemon = true}, NULL));
    struct fibril_metrics b = metrics();
    ASSERT_EQ(b.spawned, 2);
    ASSERT_EQ(b.fibrils, 3);
    ASSERT_EQ(b.ended, 0);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    let_others_run();
    struct fibril_metrics c = metrics();
    ASSERT_EQ(c.ended, 2);
    ASSERT_EQ(c.fibrils, 1);
    ASSERT_EQ(c.parks_join, 1);
    ASSERT_GE(c.switches, 2);
    ASSERT_GE(c.stacks_mapped, 2);
    return 0;
}

TEST(spawned_ended_and_alive)
{
    ASSERT_OK(fibril_run(NULL, life, NULL));
}

static int poller_name(void *arg)
{
    ASSERT_STR(metrics().poller, arg);
    return 0;
}

TEST(name_of_the_poller)
{
    struct fibril_opts opts = {.poller = "epoll"};
    ASSERT_OK(fibril_run(&opts, poller_name, (void *)(uintptr_t) "epoll"));
    opts.poller = "sim";
    ASSERT_OK(fibril_run(&opts, poller_name, (void *)(uintptr_t) "sim"));
}

/* ---- parks by reason ---- */

static struct fibril_mutex *mutex;
static struct fibril_chan *chan;

static int lock_and_unlock(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    return fibril_mutex_unlock(mutex);
}

static int send_one(void *arg)
{
    return fibril_chan_send(chan, &arg, FIBRIL_FOREVER);
}

static int write_one(void *arg)
{
    int fd = *(int *)arg;
    return write(fd, "x", 1) == 1 ? 0 : -EIO;
}

static int reasons(void *arg)
{
    int ends[2];
    char c;
    void *received;
    (void)arg;
    ASSERT_OK(fibril_mutex_new(0, &mutex));
    ASSERT_OK(fibril_chan_new(sizeof(void *), 0, 0, &chan));
    ASSERT_OK(fibril_pipe(ends));
    struct fibril_metrics a = metrics();
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(metrics().parks_sleep, a.parks_sleep + 1);
    ASSERT_OK(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    ASSERT_OK(fibril_spawn(lock_and_unlock, NULL, NULL, NULL));
    let_others_run();
    ASSERT_EQ(metrics().parks_lock, a.parks_lock + 1);
    ASSERT_OK(fibril_mutex_unlock(mutex));
    let_others_run();
    ASSERT_OK(fibril_spawn(send_one, NULL, NULL, NULL));
    ASSERT_OK(fibril_chan_recv(chan, &received, FIBRIL_FOREVER));
    let_others_run();
    ASSERT_EQ(metrics().parks_chan, a.parks_chan + 1);
    ASSERT_OK(fibril_spawn(write_one, &ends[1], NULL, NULL));
    ASSERT_EQ(fibril_read(ends[0], &c, 1, FIBRIL_FOREVER), 1);
    ASSERT_GE(metrics().parks_io, a.parks_io + 1);
    ASSERT_OK(fibril_offload(nothing, NULL, FIBRIL_FOREVER));
    ASSERT_EQ(metrics().parks_offload, a.parks_offload + 1);
    struct fibril_metrics m = metrics();
    ASSERT_EQ(m.parks, m.parks_sleep + m.parks_io + m.parks_lock + m.parks_chan + m.parks_join +
                           m.parks_offload + m.parks_other);
    ASSERT_GT(m.polls, a.polls);
    ASSERT_GT(m.poll_events, a.poll_events);
    fibril_mutex_free(mutex);
    fibril_chan_free(chan);
    fibril_close(ends[0]);
    return fibril_close(ends[1]);
}

TEST(parks_are_counted_by_reason)
{
    ASSERT_OK(fibril_run(NULL, reasons, NULL));
}

/* ---- endings of waits ---- */

static int wait_on(void *arg)
{
    return fibril_sem_wait(arg, FIBRIL_FOREVER) == -ECANCELED ? 0 : -1;
}

static int endings(void *arg)
{
    struct fibril_sem *s;
    struct fibril *f;
    (void)arg;
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    struct fibril_metrics a = metrics();
    ASSERT_ERR(fibril_sem_wait(s, fibril_after(1000000)), -ETIMEDOUT);
    ASSERT_EQ(metrics().timeouts, a.timeouts + 1);
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(metrics().timeouts, a.timeouts + 1); /* a sleep that ends is no timeout */
    ASSERT_OK(fibril_spawn(wait_on, s, NULL, &f));
    let_others_run();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(metrics().cancels, a.cancels + 1);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    fibril_sem_free(s);
    return 0;
}

TEST(timeouts_and_cancels)
{
    ASSERT_OK(fibril_run(NULL, endings, NULL));
}

/* ---- yields and delays ---- */

static int yield_often(void *arg)
{
    for (int i = *(int *)arg; i > 0; i--) {
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

static int yields(void *arg)
{
    int n = 1000;
    struct fibril *f;
    uint64_t sampled = 0;
    (void)arg;
    ASSERT_OK(fibril_spawn(yield_often, &n, NULL, &f));
    ASSERT_OK(yield_often(&n));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    struct fibril_metrics m = metrics();
    ASSERT_EQ(m.yields, 2 * n + m.budget_yields);
    for (int i = 0; i < FIBRIL_DELAY_BUCKETS; i++) {
        sampled += m.delay[i];
    }
    ASSERT_EQ(sampled, m.switches / 64);
    return 0;
}

TEST(yields_are_counted_and_delays_sampled)
{
    ASSERT_OK(fibril_run(NULL, yields, NULL));
}

static int budget(void *arg)
{
    int ends[2];
    char c = 'x';
    (void)arg;
    ASSERT_OK(fibril_pipe(ends));
    uint64_t before = metrics().budget_yields;
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(fibril_write(ends[1], &c, 1, FIBRIL_FOREVER), 1);
    }
    ASSERT_GE(metrics().budget_yields, before + 10);
    fibril_close(ends[0]);
    return fibril_close(ends[1]);
}

TEST(budget_makes_who_never_waits_yield)
{
    struct fibril_opts opts = {.budget = 10, .poller = "epoll"};
    ASSERT_OK(fibril_run(&opts, budget, NULL));
}

/* ---- gauges ---- */

static int sleep_long(void *arg)
{
    int rc = fibril_sleep(60000000000);
    (void)arg;
    return rc == -ECANCELED ? 0 : rc;
}

static int gauges(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.daemon = true, .stack = FIBRIL_STACK_COPIED};
    ASSERT_EQ(metrics().copied_bytes, 0);
    for (int i = 0; i < 20; i++) {
        ASSERT_OK(fibril_spawn(sleep_long, NULL, &opts, NULL));
    }
    let_others_run();
    struct fibril_metrics m = metrics();
    ASSERT_GE(m.timers, 20);
    ASSERT_GT(m.copied_bytes, 0);
    ASSERT_EQ(m.stalls, 0);
    struct fibril *f;
    ASSERT_OK(fibril_spawn(nothing, NULL, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    let_others_run();
#if !FIBRIL_HARD
    ASSERT_GE(metrics().stacks_cached, 1);
#endif
    return 0;
}

TEST(gauges_show_what_there_is)
{
    ASSERT_OK(fibril_run(NULL, gauges, NULL));
}

/* ---- loops ---- */

static int post(void *arg)
{
    return fibril_sem_post(arg);
}

static int other_loop(void *arg)
{
    struct fibril_loop *loop;
    struct fibril *f;
    struct fibril_sem *s;
    struct fibril_metrics m;
    (void)arg;
    ASSERT_OK(fibril_sem_new(0, FIBRIL_SHARED, &s));
    ASSERT_OK(fibril_loop_start(NULL, &loop));
    struct fibril_spawn_opts opts = {.loop = loop};
    while (metrics().remote_wakes == 0) { /* until the post came after the wait had begun */
        ASSERT_OK(fibril_spawn(post, s, &opts, &f));
        ASSERT_OK(fibril_sem_wait(s, FIBRIL_FOREVER));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    }
    ASSERT_OK(fibril_metrics(loop, &m));
    ASSERT_GE(m.spawned, 1);
    ASSERT_EQ(m.ended, m.spawned);
    ASSERT_EQ(metrics().spawned, 0);
    fibril_sem_free(s);
    return fibril_loop_stop(loop);
}

TEST(each_loop_has_its_own)
{
    ASSERT_OK(fibril_run(NULL, other_loop, NULL));
}

TEST(metrics_need_a_loop)
{
    struct fibril_metrics m;
    ASSERT_ERR(fibril_metrics(NULL, &m), -EPERM);
}
