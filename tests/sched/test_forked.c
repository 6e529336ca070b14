/* SPDX-License-Identifier: MIT */
/*
 * fibril_embed_forked: the child of a fork by a fibril, with others parked in all sorts of waits.
 * What the child finds it says by its exit status; a failed assertion there aborts it.
 */
#include <fibril/embed.h>
#include <fibril/io.h>

#include "test.h"

#include "base/compiler.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CROWD = 100, WELL = 42 };

static struct fibril_mutex *mutex;
static struct fibril_chan *chan;
static struct fibril_waker *waker;
static int never[2]; /* a pipe that stays empty */
static int resumed;  /* fibrils of the crowd that ran on, in this process */
static int ended;    /* and exit handlers of theirs */
static pid_t owner;

/* ---- the crowd ---- */

static void count_end(void *arg)
{
    (void)arg;
    ended++;
    ASSERT_EQ(getpid(), owner);
}

static int sleeps(void *arg)
{
    (void)arg;
    fibril_at_exit(count_end, NULL);
    fibril_sleep(FIBRIL_FOREVER);
    return ++resumed;
}

static int reads(void *arg)
{
    char byte;
    (void)arg;
    fibril_at_exit(count_end, NULL);
    fibril_read(never[0], &byte, 1, FIBRIL_FOREVER);
    return ++resumed;
}

static int locks(void *arg)
{
    (void)arg;
    fibril_at_exit(count_end, NULL);
    if (fibril_mutex_lock(mutex, FIBRIL_FOREVER) == 0) {
        fibril_mutex_unlock(mutex);
    }
    return ++resumed;
}

static int receives(void *arg)
{
    int element;
    (void)arg;
    fibril_at_exit(count_end, NULL);
    fibril_chan_recv(chan, &element, FIBRIL_FOREVER);
    return ++resumed;
}

static int selects(void *arg)
{
    int element;
    (void)arg;
    struct fibril_case cases[] = {
        {.op = FIBRIL_CASE_RECV, .chan = chan, .elem = &element},
        {.op = FIBRIL_CASE_FD, .fd = never[0], .events = POLLIN},
    };
    fibril_select(cases, 2, fibril_after(INT64_C(3600) * 1000000000));
    return ++resumed;
}

static int waits(void *arg)
{
    (void)arg;
    fibril_waker_wait(waker, FIBRIL_FOREVER);
    return ++resumed;
}

static int blocks(void *arg)
{
    struct timespec t = {.tv_nsec = 200000000};
    (void)arg;
    nanosleep(&t, NULL);
    return 7;
}

static int offloads(void *arg)
{
    (void)arg;
    int rc = fibril_offload(blocks, NULL, FIBRIL_FOREVER);
    resumed++;
    return rc;
}

static struct fibril *crowd[CROWD], *waits_alone;

static void gather(void)
{
    static fibril_fn *const kinds[] = {sleeps, reads, locks, receives, selects};
    owner = getpid();
    resumed = ended = 0;
    ASSERT_OK(fibril_pipe(never));
    ASSERT_OK(fibril_mutex_new(0, &mutex));
    ASSERT_OK(fibril_chan_new(sizeof(int), 0, 0, &chan));
    ASSERT_OK(fibril_waker_new(&waker));
    ASSERT_OK(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    for (int i = 0; i < CROWD; i++) {
        struct fibril_spawn_opts opts = {
            .stack = i % 10 == 9 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN,
            .stack_bytes = i % 10 == 3 ? 64 << 10 : 0,
            .name = "crowd",
            .daemon = i % 3 == 0,
        };
        ASSERT_OK(fibril_spawn(kinds[i % 5], NULL, &opts, i % 3 ? &crowd[i] : NULL));
    }
    ASSERT_OK(fibril_spawn(waits, NULL, NULL, &waits_alone));
    fibril_sleep(2000000);
}

/* Ends the crowd in the parent, which must still be there, whole. */
static void disperse(void)
{
    ASSERT_EQ(resumed, 0);
    ASSERT_EQ(ended, 0);
    fibril_waker_wake(waker);
    ASSERT_OK(fibril_join(waits_alone, FIBRIL_FOREVER, NULL));
    for (int i = 0; i < CROWD; i++) {
        if (i % 3) {
            fibril_cancel(crowd[i]);
        }
    }
    fibril_mutex_unlock(mutex);
    ASSERT_EQ(write(never[1], "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", 52), 52);
    for (int i = 0; i < CROWD; i++) {
        if (i % 3) {
            ASSERT_OK(fibril_join(crowd[i], FIBRIL_FOREVER, NULL));
        }
    }
    fibril_chan_close(chan);
    close(never[1]);
}

/* ---- what the child does ---- */

static int answers(void *arg)
{
    int *ends = arg;
    char byte;
    ASSERT_EQ(fibril_read(ends[0], &byte, 1, FIBRIL_FOREVER), 1);
    return byte;
}

static int ticks(void *arg)
{
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_sleep(500000));
        ++*(int *)arg;
    }
    return 0;
}

static void check_io(void)
{
    int ends[2], result, count = 0;
    struct fibril *reader, *ticker;
    ASSERT_OK(fibril_pipe(ends));
    ASSERT_OK(fibril_spawn(answers, ends, NULL, &reader));
    ASSERT_OK(fibril_spawn(ticks, &count, NULL, &ticker));
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(fibril_write(ends[1], "x", 1, FIBRIL_FOREVER), 1);
    ASSERT_OK(fibril_join(reader, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 'x');
    ASSERT_OK(fibril_join(ticker, FIBRIL_FOREVER, NULL));
    ASSERT_EQ(count, 3);
    ASSERT_OK(fibril_close(ends[0]));
    ASSERT_OK(fibril_close(ends[1]));
    ASSERT_EQ(fibril_offload(blocks, NULL, FIBRIL_FOREVER), 7);
}

static int send_one(void *arg)
{
    return fibril_chan_send(arg, &(int){5}, FIBRIL_FOREVER);
}

/* Nobody of the crowd is met at what it waited for. */
static void check_objects(bool owns_mutex)
{
    int element = 0;
    struct fibril *sender;
    if (owns_mutex) {
        ASSERT_OK(fibril_mutex_unlock(mutex));
        ASSERT_OK(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    }
    ASSERT_ERR(fibril_chan_try_send(chan, &element), -EAGAIN);
    ASSERT_OK(fibril_spawn(send_one, chan, NULL, &sender));
    ASSERT_OK(fibril_chan_recv(chan, &element, FIBRIL_FOREVER));
    ASSERT_EQ(element, 5);
    ASSERT_OK(fibril_join(sender, FIBRIL_FOREVER, NULL));
    fibril_waker_wake(waker);
    ASSERT_OK(fibril_waker_wait(waker, FIBRIL_FOREVER));
    char byte;
    ASSERT_ERR(fibril_read(never[0], &byte, 1, fibril_after(1000000)), -ETIMEDOUT);
}

static void check_counts(bool main)
{
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(NULL, &m));
    ASSERT_EQ(m.timers, 0);
    ASSERT_EQ(m.fibrils, main ? 1 : 2);
    ASSERT_EQ(fibril_loop_count(), 1);
}

static void check_handles(void)
{
    int result = 0;
    for (int i = 0; i < CROWD; i++) {
        if (i % 3) {
            ASSERT_OK(fibril_join(crowd[i], FIBRIL_FOREVER, &result));
            ASSERT_EQ(result, -ECANCELED);
        }
    }
    ASSERT_OK(fibril_cancel(waits_alone));
    fibril_detach(waits_alone);
}

static void check_child(bool main)
{
    ASSERT_OK(fibril_embed_forked());
    check_counts(main);
    check_io();
    check_objects(main);
    check_handles();
    check_io();
    ASSERT_EQ(resumed, 0);
    ASSERT_EQ(ended, 0);
}

static void expect_exit(pid_t child, int status_wanted)
{
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), status_wanted);
}

/* ---- from the main fibril ---- */

static int fork_in_main(void *arg)
{
    (void)arg;
    gather();
    pid_t child = fork();
    if (child == 0) {
        check_child(/* main= */ true);
        _exit(WELL);
    }
    expect_exit(child, WELL);
    disperse();
    return 0;
}

TEST(main_fibril_goes_on_alone)
{
    ASSERT_OK(fibril_run(NULL, fork_in_main, NULL));
}

static int fork_and_return(void *arg)
{
    gather();
    pid_t child = fork();
    if (child == 0) {
        check_child(/* main= */ true);
        *(bool *)arg = true;
        return WELL;
    }
    expect_exit(child, WELL);
    disperse();
    return 0;
}

TEST(child_may_leave_its_loop)
{
    bool is_child = false;
    int rc = fibril_run(NULL, fork_and_return, &is_child);
    if (is_child) {
        _exit(rc);
    }
    ASSERT_OK(rc);
}

/* ---- from another ---- */

static bool returns_from_child;

static void say_well(void)
{
    if (getpid() != owner) {
        _exit(WELL);
    }
}

static int fork_in_fibril(void *arg)
{
    (void)arg;
    pid_t child = fork();
    if (child == 0) {
        check_child(/* main= */ false);
        if (!returns_from_child) {
            _exit(WELL);
        }
        ASSERT_EQ(atexit(say_well), 0);
        return 5;
    }
    expect_exit(child, WELL);
    return 0;
}

static int spawn_forker(void *opts)
{
    struct fibril *f;
    int result;
    gather();
    ASSERT_OK(fibril_spawn(fork_in_fibril, NULL, opts, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 0);
    disperse();
    return 0;
}

TEST(other_fibril_goes_on_alone)
{
    ASSERT_OK(fibril_run(NULL, spawn_forker, NULL));
}

TEST(copied_stack_goes_on_alone)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    ASSERT_OK(fibril_run(NULL, spawn_forker, &opts));
}

TEST(process_ends_with_its_last_fibril)
{
    returns_from_child = true;
    ASSERT_OK(fibril_run(NULL, spawn_forker, NULL));
}

TEST(last_fibril_may_be_a_copied_one)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    returns_from_child = true;
    ASSERT_OK(fibril_run(NULL, spawn_forker, &opts));
}

/* Exit handlers run as in any exit; memory of frames that have gone is none of a leak checker's. */
static int outlives(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_sleep(2000000));
    ASSERT_EQ(atexit(say_well), 0);
    return 0;
}

static int fork_and_leave_one(void *arg)
{
    (void)arg;
    pid_t child = fork();
    if (child == 0) {
        ASSERT_OK(fibril_embed_forked());
        ASSERT_OK(fibril_spawn(outlives, NULL, NULL, NULL));
        return 0;
    }
    expect_exit(child, WELL); /* exit handlers have run, after the one that was left */
    return 0;
}

static int spawn_leaver(void *arg)
{
    struct fibril *f;
    (void)arg;
    owner = getpid();
    ASSERT_OK(fibril_spawn(fork_and_leave_one, NULL, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    return 0;
}

TEST(fibrils_of_the_child_outlive_the_caller)
{
    ASSERT_OK(fibril_run(NULL, spawn_leaver, NULL));
}

/* ---- scopes, watches, joins, daemons ---- */

static int fork_in_scope(void *arg)
{
    (void)arg;
    struct fibril_scope *scope;
    ASSERT_OK(fibril_scope_open(&scope));
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_scope_spawn(scope, waits, NULL, NULL));
    }
    fibril_sleep(1000000);
    pid_t child = fork();
    if (child == 0) {
        ASSERT_OK(fibril_embed_forked());
        ASSERT_OK(fibril_scope_close(scope, FIBRIL_FOREVER)); /* empty now */
        _exit(WELL);
    }
    expect_exit(child, WELL);
    fibril_scope_cancel(scope);
    ASSERT_OK(fibril_scope_close(scope, FIBRIL_FOREVER));
    return 0;
}

static int in_scope(void *arg)
{
    struct fibril_scope *scope;
    (void)arg;
    ASSERT_OK(fibril_waker_new(&waker));
    ASSERT_OK(fibril_scope_open(&scope));
    ASSERT_OK(fibril_scope_spawn(scope, fork_in_scope, NULL, NULL));
    ASSERT_OK(fibril_scope_close(scope, FIBRIL_FOREVER));
    fibril_waker_free(waker);
    return 0;
}

TEST(scopes_forget_those_who_have_gone)
{
    ASSERT_OK(fibril_run(NULL, in_scope, NULL));
}

static int watch_calls;

static void on_watch(struct fibril_watch *w, int result)
{
    (void)w;
    (void)result;
    watch_calls++;
}

static int fork_with_watches(void *arg)
{
    struct fibril_watch by_time, by_fd, again;
    int ends[2];
    (void)arg;
    ASSERT_OK(fibril_pipe(ends));
    ASSERT_OK(fibril_watch_start(&by_fd, ends[0], POLLIN, FIBRIL_FOREVER, on_watch));
    ASSERT_OK(fibril_watch_start(&by_time, ends[0], POLLPRI, fibril_after(20000000), on_watch));
    fibril_sleep(1000000);
    pid_t child = fork();
    if (child == 0) {
        ASSERT_OK(fibril_embed_forked());
        ASSERT_EQ(write(ends[1], "x", 1), 1);
        ASSERT_OK(fibril_sleep(30000000));
        ASSERT_EQ(watch_calls, 0);
        ASSERT_OK(fibril_watch_stop(&by_fd));
        ASSERT_OK(fibril_watch_stop(&by_time));
        ASSERT_OK(fibril_watch_start(&again, ends[0], POLLIN, FIBRIL_FOREVER, on_watch));
        ASSERT_OK(fibril_sleep(1000000));
        ASSERT_EQ(watch_calls, 1);
        _exit(WELL);
    }
    expect_exit(child, WELL);
    ASSERT_OK(fibril_sleep(30000000));
    ASSERT_EQ(watch_calls, 2); /* the same pipe: the child's byte, and the time */
    return 0;
}

TEST(watches_of_the_parent_are_not_the_childs)
{
    ASSERT_OK(fibril_run(NULL, fork_with_watches, NULL));
}

static int fork_as_daemon(void *arg)
{
    (void)arg;
    pid_t child = fork();
    if (child == 0) {
        ASSERT_OK(fibril_embed_forked());
        check_io();
        ASSERT_EQ(atexit(say_well), 0);
        return 0; /* no daemon any more: the process ends by exit, not by cancelling it */
    }
    expect_exit(child, WELL);
    return 0;
}

static int joins_forker(void *arg)
{
    return fibril_join(arg, FIBRIL_FOREVER, NULL);
}

static int daemon_main(void *arg)
{
    struct fibril *f, *joiner;
    (void)arg;
    owner = getpid();
    ASSERT_OK(fibril_spawn(fork_as_daemon, NULL, &(struct fibril_spawn_opts){.daemon = true}, &f));
    ASSERT_OK(fibril_spawn(joins_forker, f, NULL, &joiner));
    ASSERT_OK(fibril_join(joiner, FIBRIL_FOREVER, NULL));
    return 0;
}

TEST(daemon_with_a_joiner_goes_on_alone)
{
    ASSERT_OK(fibril_run(NULL, daemon_main, NULL));
}

/* ---- in use ---- */

static int generations(void *arg)
{
    int left = *(int *)arg;
    if (left == 0) {
        check_io();
        return 0;
    }
    pid_t child = fork();
    if (child == 0) {
        struct fibril *f;
        int fewer = left - 1;
        ASSERT_OK(fibril_embed_forked());
        ASSERT_OK(fibril_spawn(generations, &fewer, NULL, &f));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
        _exit(WELL);
    }
    expect_exit(child, WELL);
    return 0;
}

TEST(children_fork_again)
{
    ASSERT_OK(fibril_run(NULL, generations, &(int){4}));
}

static int busy_pair(void *arg)
{
    int *ends = arg;
    char byte;
    for (int i = 0; i < 500; i++) {
        ASSERT_EQ(fibril_write(ends[1], "y", 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(fibril_read(ends[0], &byte, 1, FIBRIL_FOREVER), 1);
        if (i % 50 == 0) {
            fibril_sleep(100000);
        }
    }
    return 0;
}

/* The parent goes on at full pace while its children end and begin. */
static int fork_while_busy(void *arg)
{
    int ends[8][2];
    struct fibril *f[9];
    (void)arg;
    for (int i = 0; i < 8; i++) {
        ASSERT_OK(fibril_pipe(ends[i]));
        ASSERT_OK(fibril_spawn(busy_pair, ends[i], NULL, &f[i]));
    }
    ASSERT_OK(fibril_spawn(offloads, NULL, NULL, &f[8]));
    for (int i = 0; i < (test_is_slow() ? 3 : 20); i++) {
        fibril_sleep(50000);
        pid_t child = fork();
        if (child == 0) {
            ASSERT_OK(fibril_embed_forked());
            ASSERT_OK(fibril_sleep(100000));
            _exit(WELL);
        }
        expect_exit(child, WELL);
    }
    for (int i = 0; i < 9; i++) {
        int result;
        ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, &result));
        ASSERT_EQ(result, i == 8 ? 7 : 0);
    }
    return 0;
}

TEST(parent_is_not_disturbed)
{
    ASSERT_OK(fibril_run(NULL, fork_while_busy, NULL));
}

static int fork_among_loops(void *arg)
{
    (void)arg;
    struct fibril *remote;
    struct fibril_loop *other = NULL;
    for (unsigned i = 0; i < fibril_loop_count(); i++) {
        other = fibril_loop_at(i) != fibril_loop_current() ? fibril_loop_at(i) : other;
    }
    ASSERT_OK(fibril_waker_new(&waker));
    ASSERT_OK(fibril_spawn(waits, NULL, &(struct fibril_spawn_opts){.loop = other}, &remote));
    fibril_sleep(5000000);
    pid_t child = fork();
    if (child == 0) {
        int result;
        ASSERT_OK(fibril_embed_forked());
        ASSERT_EQ(fibril_loop_count(), 1);
        ASSERT_OK(fibril_join(remote, FIBRIL_FOREVER, &result));
        ASSERT_EQ(result, -ECANCELED);
        check_io();
        _exit(WELL);
    }
    expect_exit(child, WELL);
    fibril_waker_wake(waker);
    ASSERT_OK(fibril_join(remote, FIBRIL_FOREVER, NULL));
    fibril_waker_free(waker);
    return 0;
}

TEST(other_loops_are_forgotten)
{
    struct fibril_opts opts = {.loops = 3};
    ASSERT_OK(fibril_run(&opts, fork_among_loops, NULL));
}

static int stall_main(void *arg)
{
    (void)arg;
    pid_t child = fork();
    if (child == 0) {
        struct fibril_metrics m;
        ASSERT_OK(fibril_embed_forked());
        ASSERT_OK(fibril_yield());
        int64_t until = fibril_after(200000000);
        while (fibril_now() < until) {}
        ASSERT_OK(fibril_metrics(NULL, &m));
        _exit(m.stalls > 0 ? WELL : 1);
    }
    expect_exit(child, WELL);
    return 0;
}

TEST(stalls_of_the_child_are_seen)
{
#if FIBRIL_TSAN
    SKIP("TSan puts signals off, and the stall watch asks by one");
#endif
    struct fibril_opts opts = {.stall_ns = 20000000};
    ASSERT_OK(fibril_run(&opts, stall_main, NULL));
}

TEST(outside_loops_it_is_refused)
{
    ASSERT_ERR(fibril_embed_forked(), -EPERM);
}
