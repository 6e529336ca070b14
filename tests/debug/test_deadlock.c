/* SPDX-License-Identifier: MIT */
/*
 * Deadlocks: found and named, on one loop and across loops; and no report where something can still
 * come.
 */
#include <fibril/embed.h>
#include <fibril/fibril.h>
#include <fibril/io.h>

#include "seeing.h"
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { PHILOSOPHERS_MAX = 5 };

static struct fibril_mutex *forks[PHILOSOPHERS_MAX];
static unsigned seats;
static _Atomic unsigned seated;
static const char *const names[PHILOSOPHERS_MAX] = {"first", "second", "third", "fourth", "fifth"};
static const struct fibril_opts returning = {.deadlock = FIBRIL_DEADLOCK_RETURN};

static void forks_new(unsigned n, unsigned flags)
{
    seats = n;
    atomic_store(&seated, 0);
    for (unsigned i = 0; i < n; i++) {
        ASSERT_OK(fibril_mutex_new(flags, &forks[i]));
    }
}

static void forks_free(void)
{
    for (unsigned i = 0; i < seats; i++) {
        fibril_mutex_free(forks[i]);
    }
}

/* Takes the fork on one side and, when the others have done so too, the one on the other. */
static int dine(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    ASSERT_OK(fibril_mutex_lock(forks[i], FIBRIL_FOREVER));
    atomic_fetch_add(&seated, 1);
    while (atomic_load(&seated) < seats) {
        fibril_sleep(1000000);
    }
    int rc = fibril_mutex_lock(forks[(i + 1) % seats], FIBRIL_FOREVER);
    if (rc == 0) {
        fibril_mutex_unlock(forks[(i + 1) % seats]);
    }
    fibril_mutex_unlock(forks[i]);
    return rc == -ECANCELED ? 0 : rc;
}

static int spawn_diners(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < seats; i++) {
        struct fibril_spawn_opts opts = {.name = names[i]};
        ASSERT_OK(fibril_spawn(dine, (void *)(uintptr_t)i, &opts, NULL));
    }
    return 0;
}

/* ---- the reports ---- */

static const char *report_of(int fd)
{
    const char *text = caught(fd);
    ASSERT_HAS(text, "fibril: deadlock: ");
    return text;
}

static void cycle_of_mutexes(unsigned n)
{
    int fd = catch_stderr();
    forks_new(n, 0);
    ASSERT_ERR(fibril_run(&returning, spawn_diners, NULL), -EDEADLK);
    const char *text = report_of(fd);
    char expected[128];
    for (unsigned i = 0; i < n; i++) {
        snprintf(expected, sizeof expected, "\"%s\" waits: mutex held by fibril ", names[i]);
        ASSERT_EQ(count_of(text, expected), 2); /* in the cycle, and among all that wait */
        snprintf(expected, sizeof expected, " \"%s\" since ", names[i]);
        ASSERT_EQ(count_of(text, expected), 2);
    }
    ASSERT_EQ(count_of(text, "fibril: deadlock: fibril "), 1);
    ASSERT_HAS(text, "fibril: deadlock: no fibril can ever run again\n");
    ASSERT_HAS(text, "\"main\" waits: end of its fibrils");
    forks_free();
}

TEST(two_mutexes_in_opposite_order)
{
    cycle_of_mutexes(2);
}

TEST(five_philosophers)
{
    cycle_of_mutexes(5);
}

TEST(deadlock_aborts_by_default)
{
    forks_new(2, 0);
    EXPECT_ABORT(fibril_run(NULL, spawn_diners, NULL), "\"first\" waits: mutex held by fibril ");
    EXPECT_ABORT(fibril_run(NULL, spawn_diners, NULL), "no fibril can ever run again");
    forks_free();
}

static struct fibril *joined[2];

static int join_other(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    int rc = fibril_join(joined[!i], FIBRIL_FOREVER, NULL);
    if (rc < 0) {
        fibril_detach(joined[!i]);
    }
    return 0;
}

static int spawn_joiners(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.name = names[i]};
        ASSERT_OK(fibril_spawn(join_other, (void *)(uintptr_t)i, &opts, &joined[i]));
    }
    return 0;
}

TEST(two_that_join_each_other)
{
    int fd = catch_stderr();
    ASSERT_ERR(fibril_run(&returning, spawn_joiners, NULL), -EDEADLK);
    ASSERT_HAS(report_of(fd), "\"first\" waits: join of fibril ");
    ASSERT_HAS(report_of(fd), "\"second\" waits: join of fibril ");
    ASSERT_EQ(count_of(report_of(fd), "fibril: deadlock: fibril "), 1);
}

static struct fibril_rwlock *doors[2];

static int pass_doors(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    ASSERT_OK(fibril_rwlock_write(doors[i], FIBRIL_FOREVER));
    fibril_sleep(1000000);
    int rc = fibril_rwlock_read(doors[!i], FIBRIL_FOREVER);
    if (rc == 0) {
        fibril_rwlock_unlock(doors[!i]);
    }
    fibril_rwlock_unlock(doors[i]);
    return rc == -ECANCELED ? 0 : rc;
}

static int spawn_writers(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.name = names[i]};
        ASSERT_OK(fibril_rwlock_new(0, &doors[i]));
        ASSERT_OK(fibril_spawn(pass_doors, (void *)(uintptr_t)i, &opts, NULL));
    }
    return 0;
}

TEST(writers_that_read_each_others_lock)
{
    int fd = catch_stderr();
    ASSERT_ERR(fibril_run(&returning, spawn_writers, NULL), -EDEADLK);
    ASSERT_HAS(report_of(fd), "\"first\" waits: rwlock read held by fibril ");
    ASSERT_EQ(count_of(report_of(fd), "fibril: deadlock: fibril "), 1);
    fibril_rwlock_free(doors[0]);
    fibril_rwlock_free(doors[1]);
}

/* ---- what the main fibril gets ---- */

static int lock_first(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_mutex_lock(forks[0], FIBRIL_FOREVER));
    return fibril_mutex_unlock(forks[0]);
}

static int main_in_cycle(void *arg)
{
    struct fibril *f;
    int fd = catch_stderr(), result = -1;
    (void)arg;
    ASSERT_OK(fibril_mutex_lock(forks[0], FIBRIL_FOREVER));
    ASSERT_OK(fibril_spawn(lock_first, NULL, &(struct fibril_spawn_opts){.name = "first"}, &f));
    ASSERT_ERR(fibril_join(f, FIBRIL_FOREVER, &result), -EDEADLK);
    ASSERT_HAS(report_of(fd), "\"main\" waits: join of fibril ");
    ASSERT_EQ(result, -1);
    ASSERT_OK(fibril_mutex_unlock(forks[0]));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result)); /* it can be mended */
    return result;
}

TEST(wait_of_the_main_fibril_fails_and_it_goes_on)
{
    forks_new(1, 0);
    ASSERT_OK(fibril_run(&returning, main_in_cycle, NULL));
    forks_free();
}

static int wait_alone(void *arg)
{
    struct fibril_chan *ch;
    char x;
    (void)arg;
    ASSERT_OK(fibril_chan_new(1, 0, 0, &ch));
    ASSERT_ERR(fibril_chan_recv(ch, &x, FIBRIL_FOREVER), -EDEADLK);
    fibril_chan_free(ch);
    return 5;
}

TEST(waiting_for_nobody_is_a_deadlock_without_a_cycle)
{
    int fd = catch_stderr();
    ASSERT_EQ(fibril_run(&returning, wait_alone, NULL), 5);
    ASSERT_HAS(report_of(fd), "\"main\" waits: channel receive");
    ASSERT_EQ(count_of(report_of(fd), "fibril: deadlock: fibril "), 0);
}

TEST(simulation_finds_deadlocks_too)
{
    struct fibril_opts opts = {.poller = "sim", .deadlock = FIBRIL_DEADLOCK_RETURN};
    int fd = catch_stderr();
    ASSERT_EQ(fibril_run(&opts, wait_alone, NULL), 5);
    report_of(fd);
}

static int shielded_wait(void *arg)
{
    fibril_shield_begin();
    return fibril_sem_wait(arg, FIBRIL_FOREVER);
}

static int spawn_shielded(void *arg)
{
    return fibril_spawn(shielded_wait, arg, NULL, NULL);
}

TEST(deadlock_that_cancelling_cannot_end_aborts)
{
    struct fibril_sem *s;
    ASSERT_OK(fibril_sem_new(0, 0, &s));
    EXPECT_ABORT(fibril_run(&returning, spawn_shielded, s), "shielded fibrils are deadlocked");
    fibril_sem_free(s);
}

/* ---- looking while others run ---- */

static int look_live(void *arg)
{
    int fd = catch_new();
    struct fibril *f[4];
    (void)arg;
    ASSERT_EQ(fibril_deadlocks(fd), 0);
    for (unsigned i = 0; i < 4; i++) {
        struct fibril_spawn_opts opts = {.name = names[i]};
        ASSERT_OK(fibril_spawn(dine, (void *)(uintptr_t)i, &opts, &f[i]));
    }
    ASSERT_EQ(fibril_deadlocks(fd), 0);
    ASSERT_OK(fibril_sleep(10000000));
    ASSERT_EQ(fibril_deadlocks(fd), 1);
    ASSERT_HAS(caught(fd), "\"third\" waits: mutex held by fibril ");
    ASSERT_OK(fibril_cancel(f[2]));
    for (unsigned i = 0; i < 4; i++) {
        ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, NULL));
    }
    ASSERT_EQ(fibril_deadlocks(fd), 0);
    return 0;
}

TEST(cycles_are_found_while_others_run)
{
    forks_new(4, 0);
    ASSERT_OK(fibril_run(NULL, look_live, NULL));
    forks_free();
}

static int look_two(void *arg)
{
    (void)arg;
    ASSERT_OK(spawn_joiners(NULL));
    struct fibril *kept[2] = {joined[0], joined[1]};
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_OK(spawn_joiners(NULL));
    ASSERT_OK(fibril_sleep(1000000));
    int fd = catch_new();
    ASSERT_EQ(fibril_deadlocks(fd), 2);
    ASSERT_EQ(count_of(caught(fd), "fibril: deadlock: fibril "), 2);
    ASSERT_OK(fibril_cancel(joined[0]));
    ASSERT_OK(fibril_sleep(1000000));
    joined[0] = kept[0];
    joined[1] = kept[1];
    return fibril_cancel(kept[0]);
}

TEST(each_cycle_is_found_once)
{
    ASSERT_OK(fibril_run(NULL, look_two, NULL));
}

TEST(deadlocks_are_looked_for_on_loops_only)
{
    ASSERT_ERR(fibril_deadlocks(STDERR_FILENO), -EPERM);
}

/* ---- several loops ---- */

static int dine_apart(void *arg)
{
    struct fibril_loop *loop;
    struct fibril *f[2];
    (void)arg;
    ASSERT_OK(fibril_loop_start(NULL, &loop));
    for (unsigned i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.name = names[i], .loop = i ? loop : NULL};
        ASSERT_OK(fibril_spawn(dine, (void *)(uintptr_t)i, &opts, &f[i]));
    }
    int fd = catch_stderr();
    ASSERT_ERR(fibril_join(f[0], FIBRIL_FOREVER, NULL), -EDEADLK);
    ASSERT_HAS(report_of(fd), "fibril: deadlock: fibril ");
    ASSERT_EQ(count_of(report_of(fd), "\"first\" waits: mutex held by fibril "), 2);
    ASSERT_EQ(count_of(report_of(fd), "\"second\" waits: mutex held by fibril "), 2);
    ASSERT_EQ(fibril_deadlocks(fd), 0); /* none that is all on this loop */
    ASSERT_OK(fibril_cancel(f[0]));
    ASSERT_OK(fibril_join(f[0], FIBRIL_FOREVER, NULL));
    ASSERT_OK(fibril_join(f[1], FIBRIL_FOREVER, NULL));
    return fibril_loop_stop(loop);
}

TEST(deadlock_across_loops_names_the_cycle)
{
    forks_new(2, FIBRIL_SHARED);
    ASSERT_OK(fibril_run(&returning, dine_apart, NULL));
    forks_free();
}

/* ---- no false alarm ---- */

/* Each of these waits for what must come, with nothing ready meanwhile; a report would abort. */
static struct fibril_sem *sem;

static int post_later(void *arg)
{
    (void)arg;
    fibril_sleep(20000000);
    return fibril_sem_post(sem);
}

static int wait_for_post(void *arg)
{
    (void)arg;
    return fibril_sem_wait(sem, FIBRIL_FOREVER);
}

static int by_timer(void *arg)
{
    ASSERT_OK(fibril_spawn(post_later, arg, NULL, NULL));
    return wait_for_post(NULL);
}

static int by_deadline(void *arg)
{
    (void)arg;
    ASSERT_ERR(fibril_sem_wait(sem, fibril_after(20000000)), -ETIMEDOUT);
    return 0;
}

static int by_other_loop(void *arg)
{
    struct fibril_loop *loop;
    (void)arg;
    ASSERT_OK(fibril_loop_start(NULL, &loop));
    struct fibril_spawn_opts opts = {.loop = loop};
    ASSERT_OK(fibril_spawn(post_later, NULL, &opts, NULL));
    ASSERT_OK(wait_for_post(NULL));
    return fibril_loop_stop(loop);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static int nap_on_thread(void *arg)
{
    (void)arg;
    nap();
    return 0;
}

static int by_offload(void *arg)
{
    (void)arg;
    return fibril_offload(nap_on_thread, NULL, FIBRIL_FOREVER);
}

static int ends[2];

static void *write_later(void *arg)
{
    nap();
    return write(ends[1], "x", 1) == 1 ? arg : NULL;
}

static int by_io(void *arg)
{
    pthread_t thread;
    char c;
    (void)arg;
    ASSERT_OK(fibril_pipe(ends));
    ASSERT_EQ(pthread_create(&thread, NULL, write_later, NULL), 0);
    ASSERT_EQ(fibril_read(ends[0], &c, 1, FIBRIL_FOREVER), 1);
    pthread_join(thread, NULL);
    fibril_close(ends[0]);
    return fibril_close(ends[1]);
}

static void *wake_later(void *arg)
{
    nap();
    fibril_waker_wake(arg);
    return NULL;
}

static int by_waker(void *arg)
{
    pthread_t thread;
    struct fibril_waker *w;
    (void)arg;
    ASSERT_OK(fibril_waker_new(&w));
    ASSERT_EQ(pthread_create(&thread, NULL, wake_later, w), 0);
    ASSERT_OK(fibril_waker_wait(w, FIBRIL_FOREVER));
    pthread_join(thread, NULL);
    fibril_waker_free(w);
    return 0;
}

static void *post_from_thread(void *arg)
{
    nap();
    fibril_sem_post(sem);
    return arg;
}

static int by_thread(void *arg)
{
    pthread_t thread;
    (void)arg;
    ASSERT_EQ(pthread_create(&thread, NULL, post_from_thread, NULL), 0);
    int rc = wait_for_post(NULL);
    pthread_join(thread, NULL);
    return rc;
}

static void *signal_later(void *arg)
{
    nap();
    kill(getpid(), SIGUSR1);
    return arg;
}

static int by_signal(void *arg)
{
    sigset_t set;
    struct fibril_signals *s;
    siginfo_t info;
    pthread_t thread;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    ASSERT_OK(fibril_signals_open(&set, &s));
    ASSERT_EQ(pthread_create(&thread, NULL, signal_later, NULL), 0);
    ASSERT_OK(fibril_signals_wait(s, &info, FIBRIL_FOREVER));
    pthread_join(thread, NULL);
    fibril_signals_close(s);
    return 0;
}

static void no_alarm(fibril_fn *fn)
{
    int fd = catch_stderr();
    ASSERT_OK(fibril_sem_new(0, FIBRIL_SHARED, &sem));
    ASSERT_OK(fibril_run(NULL, fn, NULL));
    fibril_sem_free(sem);
    ASSERT_HAS_NOT(caught(fd), "deadlock");
}

TEST(no_alarm_while_a_timer_runs)
{
    no_alarm(by_timer);
    no_alarm(by_deadline);
}

TEST(no_alarm_while_another_loop_can_go_on)
{
    no_alarm(by_other_loop);
}

TEST(no_alarm_while_work_is_offloaded)
{
    no_alarm(by_offload);
}

TEST(no_alarm_while_a_descriptor_is_waited_for)
{
    no_alarm(by_io);
}

TEST(no_alarm_while_a_waker_is_waited_for)
{
    no_alarm(by_waker);
}

TEST(no_alarm_while_a_thread_may_post)
{
    no_alarm(by_thread);
}

TEST(no_alarm_while_a_signal_is_waited_for)
{
    no_alarm(by_signal);
}
