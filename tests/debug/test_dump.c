/* SPDX-License-Identifier: MIT */
/*
 * The dump: what it says of each state and wait, of other loops, and on SIGQUIT.
 *
 * Functions whose names a backtrace must show are not static: only exported symbols have names at
 * run time.
 */
#include <fibril/fibril.h>
#include <fibril/io.h>

#include "base/compiler.h"
#include "seeing.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fibril_mutex *mutex;
static struct fibril_chan *chan;
static struct fibril_sem *sem;
static struct fibril_event *event;
static struct fibril *joined;
static int ends[2];

FIBRIL_API int sleeping_function(void *arg);
FIBRIL_API int locking_function(void *arg);
FIBRIL_API int receiving_function(void *arg);
FIBRIL_API int copied_function(void *arg);
FIBRIL_API int spawning_function(void *arg);
FIBRIL_API int spinning_function(void *arg);

NOINLINE int sleeping_function(void *arg)
{
    int rc = fibril_sleep(5000000000);
    (void)arg;
    return rc == -ECANCELED ? 0 : rc;
}

NOINLINE int locking_function(void *arg)
{
    int rc = fibril_mutex_lock(mutex, FIBRIL_FOREVER);
    (void)arg;
    return rc < 0 ? rc : fibril_mutex_unlock(mutex);
}

NOINLINE int receiving_function(void *arg)
{
    char c;
    ssize_t n = fibril_read(ends[0], &c, 1, FIBRIL_FOREVER);
    (void)arg;
    return n == 1 ? 0 : -EIO;
}

NOINLINE int copied_function(void *arg)
{
    int rc = fibril_sem_wait(sem, FIBRIL_FOREVER);
    (void)arg;
    return rc < 0 ? -1 : 0; /* not the last call: it would leave no frame */
}

static int receive(void *arg)
{
    int x, rc = fibril_chan_recv(chan, &x, FIBRIL_FOREVER);
    (void)arg;
    return rc == -EPIPE ? 0 : rc;
}

static int await_event(void *arg)
{
    (void)arg;
    return fibril_event_wait(event, FIBRIL_FOREVER);
}

static int join(void *arg)
{
    (void)arg;
    return fibril_join(joined, FIBRIL_FOREVER, NULL);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

NOINLINE static void spawn(fibril_fn *fn, const char *name, enum fibril_stack stack)
{
    struct fibril_spawn_opts opts = {.name = name, .stack = stack};
    ASSERT_OK(fibril_spawn(fn, NULL, &opts, NULL));
}

NOINLINE int spawning_function(void *arg)
{
    struct fibril_spawn_opts opts = {.name = "placed"};
    return fibril_spawn(arg ? nothing : sleeping_function, NULL, &opts, NULL);
}

static const char *dump(void)
{
    int fd = catch_new();
    ASSERT_OK(fibril_dump(fd));
    const char *text = caught(fd);
    close(fd);
    return text;
}

/* ---- what it says of each ---- */

static int waits(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_mutex_new(0, &mutex));
    ASSERT_OK(fibril_chan_new(sizeof(int), 0, 0, &chan));
    ASSERT_OK(fibril_sem_new(0, 0, &sem));
    ASSERT_OK(fibril_event_new(0, &event));
    ASSERT_OK(pipe(ends));
    ASSERT_OK(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    ASSERT_OK(fibril_set_name(fibril_current(), "conductor"));
    struct fibril_spawn_opts named = {.name = "sleeper"};
    ASSERT_OK(fibril_spawn(sleeping_function, NULL, &named, &joined));
    spawn(locking_function, "locker", FIBRIL_STACK_OWN);
    spawn(receiving_function, "reader", FIBRIL_STACK_OWN);
    spawn(copied_function, "copied", FIBRIL_STACK_COPIED);
    spawn(copied_function, "copied again", FIBRIL_STACK_COPIED);
    spawn(receive, "receiver", FIBRIL_STACK_OWN);
    spawn(await_event, "awaiter", FIBRIL_STACK_OWN);
    spawn(join, "joiner", FIBRIL_STACK_OWN);
    struct fibril *done;
    named.name = "ended";
    ASSERT_OK(fibril_spawn(nothing, NULL, &named, &done));
    ASSERT_OK(fibril_sleep(2000000)); /* all have parked, whatever the order */
    spawn(nothing, "ready", FIBRIL_STACK_OWN);

    const char *text = dump();
    char expected[128];
    ASSERT_HAS(text, "loop 0 (");
    ASSERT_HAS(text, "): 10 fibrils\n"); /* the ended one is not alive */
    ASSERT_HAS(record_of(text, "conductor"), "running since 0.");
    ASSERT_HAS(record_of(text, "ready"), "ready since 0.");
    ASSERT_HAS(record_of(text, "ended"), "ended, not joined since 0.");
    ASSERT_HAS(record_of(text, "sleeper"), "waits: sleep since 0.");
    snprintf(expected, sizeof expected, "waits: mutex held by fibril %llu \"conductor\" since ",
             (unsigned long long)fibril_id(fibril_current()));
    ASSERT_HAS(record_of(text, "locker"), expected);
    snprintf(expected, sizeof expected, "waits: read on descriptor %d since ", ends[0]);
    ASSERT_HAS(record_of(text, "reader"), expected);
    snprintf(expected, sizeof expected, "waits: semaphore %p since ", (void *)sem);
    ASSERT_HAS(record_of(text, "copied"), expected);
    ASSERT_HAS(record_of(text, "receiver"), "waits: channel receive 0x");
    ASSERT_HAS(record_of(text, "awaiter"), "waits: event 0x");
    snprintf(expected, sizeof expected, "waits: join of fibril %llu \"sleeper\"",
             (unsigned long long)fibril_id(joined));
    ASSERT_HAS(record_of(text, "joiner"), expected);
    if (HAS_VISIT) {
        ASSERT_HAS(record_of(text, "sleeper"), "    sleeping_function+0x");
        ASSERT_HAS(record_of(text, "locker"), "    locking_function+0x");
        ASSERT_HAS(record_of(text, "reader"), "    receiving_function+0x");
        ASSERT_HAS(record_of(text, "copied"), "    copied_function+0x");
        ASSERT_HAS(record_of(text, "copied again"), "    copied_function+0x");
        ASSERT_HAS_NOT(record_of(text, "copied"), "receiving_function");
        ASSERT_HAS_NOT(text, "no backtraces of those that are parked");
    } else {
        ASSERT_HAS(text, "    no backtraces of those that are parked: ");
    }

    fibril_cancel(joined);
    fibril_event_set(event);
    fibril_chan_close(chan);
    fibril_sem_post(sem);
    fibril_sem_post(sem);
    fibril_mutex_unlock(mutex);
    ASSERT_EQ(write(ends[1], "x", 1), 1);
    return fibril_join(done, FIBRIL_FOREVER, NULL);
}

static void free_objects(void)
{
    fibril_mutex_free(mutex);
    fibril_chan_free(chan);
    fibril_sem_free(sem);
    fibril_event_free(event);
}

TEST(dump_says_what_each_fibril_waits_for_and_where)
{
    ASSERT_OK(fibril_run(NULL, waits, NULL));
    free_objects();
}

static int ages(void *arg)
{
    (void)arg;
    ASSERT_OK(spawning_function(NULL));
    ASSERT_OK(fibril_sleep(2500000000)); /* virtual time */
    const char *record = record_of(dump(), "placed");
    ASSERT_HAS(record, "waits: sleep since 2.500 s, spawned at spawning_function+0x");
    return 0;
}

TEST(dump_says_since_when_and_spawned_where)
{
    struct fibril_opts opts = {.poller = "sim"};
    ASSERT_OK(fibril_run(&opts, ages, NULL));
}

static int twice(void *arg)
{
    waits(arg);
    free_objects();
    return waits(arg); /* stacks that were walked still work */
}

TEST(walked_stacks_go_on)
{
    ASSERT_OK(fibril_run(NULL, twice, NULL));
    free_objects();
}

TEST(dump_without_a_loop_is_empty)
{
    ASSERT_STR(dump(), "");
}

/* ---- other loops ---- */

static _Atomic int phase;

NOINLINE int spinning_function(void *arg)
{
    (void)arg;
    atomic_store(&phase, 1);
    while (atomic_load(&phase) != 2) {}
    return 0;
}

static int park_there(void *arg)
{
    (void)arg;
    atomic_store(&phase, 1);
    return fibril_sem_wait(sem, FIBRIL_FOREVER);
}

static int start_there(fibril_fn *fn, const char *name, struct fibril_loop **ret_loop)
{
    atomic_store(&phase, 0);
    ASSERT_OK(fibril_loop_start(NULL, ret_loop));
    struct fibril_spawn_opts opts = {.name = name, .loop = *ret_loop};
    ASSERT_OK(fibril_spawn(fn, NULL, &opts, NULL));
    while (atomic_load(&phase) != 1) {
        ASSERT_OK(fibril_sleep(1000000));
    }
    return 0;
}

static int other_loop_idle(void *arg)
{
    struct fibril_loop *loop;
    (void)arg;
    ASSERT_OK(fibril_sem_new(0, FIBRIL_SHARED, &sem));
    start_there(park_there, "far away", &loop);
    /* The last to park is the one that polls: it waits all the same. */
    const char *text = dump();
    while (count_of(record_of(text, "far away"), "waits: semaphore") == 0) {
        ASSERT_OK(fibril_sleep(1000000)); /* it had not parked yet */
        text = dump();
    }
    ASSERT_HAS(text, "loop 1 (");
    ASSERT_HAS_NOT(text, "busy");
    ASSERT_HAS(record_of(text, "far away"), "    fibril_sem_wait+0x");
    ASSERT_OK(fibril_sem_post(sem));
    ASSERT_OK(fibril_loop_stop(loop));
    fibril_sem_free(sem);
    return 0;
}

TEST(dump_asks_other_loops)
{
    ASSERT_OK(fibril_run(NULL, other_loop_idle, NULL));
}

static int other_loop_busy(void *arg)
{
    struct fibril_loop *loop;
    (void)arg;
    start_there(spinning_function, "spinner", &loop);
    const char *text = dump();
    ASSERT_HAS(text, "fibrils, busy: no answer\n");
    ASSERT_HAS(record_of(text, "spinner"), "running since");
    atomic_store(&phase, 2);
    return fibril_loop_stop(loop);
}

TEST(dump_does_not_wait_for_a_busy_loop)
{
    ASSERT_OK(fibril_run(NULL, other_loop_busy, NULL));
}

/* ---- SIGQUIT ---- */

static int quit_idle(void *arg)
{
    int fd = catch_stderr();
    (void)arg;
    ASSERT_OK(spawning_function(NULL));
    fibril_yield();
    ASSERT_OK(raise(SIGQUIT));
    ASSERT_STR(caught(fd), ""); /* made between fibrils */
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_HAS(record_of(caught(fd), "placed"), "waits: sleep since");
    ASSERT_HAS(caught(fd), "\"main\" waits: sleep since");
    ASSERT_OK(raise(SIGQUIT)); /* and once more */
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(count_of(caught(fd), "loop 0 ("), 2);
    return -1;
}

static int run_quit_idle(void *arg)
{
    struct fibril_scope *scope;
    (void)arg;
    ASSERT_OK(fibril_scope_open(&scope));
    ASSERT_EQ(quit_idle(NULL), -1);
    fibril_scope_close(scope, FIBRIL_FOREVER);
    _exit(0);
}

TEST(sigquit_dumps_between_fibrils)
{
    fibril_run(NULL, run_quit_idle, NULL);
    ASSERT(false);
}

static _Atomic int stuck_fd;

FIBRIL_API int stuck_function(void *arg);
NOINLINE int stuck_function(void *arg)
{
    (void)arg;
    ASSERT_OK(raise(SIGQUIT));
    ASSERT_STR(caught(atomic_load(&stuck_fd)), "");
    ASSERT_OK(raise(SIGQUIT));
    const char *text = caught(atomic_load(&stuck_fd));
    ASSERT_HAS(text, "busy: no answer");
    ASSERT_HAS(text, "\"stuck\" running since");
    ASSERT_HAS(text, "    stuck_function+0x");
    return 0;
}

static int run_stuck(void *arg)
{
    struct fibril_spawn_opts opts = {.name = "stuck"};
    (void)arg;
    atomic_store(&stuck_fd, catch_stderr());
    return fibril_spawn(stuck_function, NULL, &opts, NULL);
}

TEST(second_sigquit_shows_where_a_loop_is_stuck)
{
    ASSERT_OK(fibril_run(NULL, run_stuck, NULL));
}

static void own_handler(int signo)
{
    (void)signo;
}

static int look_at_handler(void *arg)
{
    struct sigaction now;
    ASSERT_OK(sigaction(SIGQUIT, NULL, &now));
    ASSERT_EQ((uintptr_t)now.sa_handler, (uintptr_t)arg);
    return 0;
}

TEST(sigquit_can_be_left_alone)
{
    struct fibril_opts opts = {.no_sigquit_dump = true};
    ASSERT_OK(fibril_run(&opts, look_at_handler, (void *)(uintptr_t)SIG_DFL));
}

TEST(sigquit_of_the_program_is_left_alone)
{
    signal(SIGQUIT, own_handler);
    ASSERT_OK(fibril_run(NULL, look_at_handler, (void *)(uintptr_t)own_handler));
}
