/* SPDX-License-Identifier: MIT */
/*
 * fork, _Fork and vfork by fibrils. What is left of the loop in the child is tested in
 * sched/test_forked.c; here, that the layer brings it about, once, and keeps identities.
 */
#include "process_rig.h"

#include "posix/address.h"
#include "posix/calls.h"

#include <string.h>

static void expect_well(pid_t pid)
{
    int status;
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), PROCESS_WELL);
}

static int sleeps(void *arg)
{
    (void)arg;
    return fibril_sleep(FIBRIL_FOREVER) == -ECANCELED ? 0 : -1;
}

static struct fibril *sleeper;

static void child_of_main(void)
{
    struct process_clock clock;
    int result;
    ASSERT_EQ(fibril_current(), fibril__thread_main());
    ASSERT_OK(fibril_join(sleeper, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, -ECANCELED);
    process_clock_start(&clock);
    ASSERT_OK(fibril_sleep(50000000));
    ASSERT_GT(process_clock_stop(&clock), 0);
    _exit(PROCESS_WELL);
}

PROCESS_TEST(child_has_the_calling_fibril_alone)
{
    (void)arg;
    sleeper = process_start(sleeps, NULL);
    fibril_yield();
    errno = 12345;
    pid_t pid = fibril_posix_fork();
    ASSERT_EQ(errno, 12345);
    if (pid == 0) {
        child_of_main();
    }
    expect_well(pid);
    ASSERT_OK(fibril_cancel(sleeper));
    return fibril_join(sleeper, FIBRIL_FOREVER, NULL);
}

PROCESS_TEST(fork_without_handlers_does_the_same)
{
    (void)arg;
    sleeper = process_start(sleeps, NULL);
    fibril_yield();
    pid_t pid = fibril_posix__Fork();
    if (pid == 0) {
        child_of_main();
    }
    expect_well(pid);
    ASSERT_OK(fibril_cancel(sleeper));
    return fibril_join(sleeper, FIBRIL_FOREVER, NULL);
}

/* ---- threads ---- */

static pthread_key_t key;

static void *just_ends(void *arg)
{
    fibril_sleep(1000000);
    return arg;
}

static void say_well(void)
{
    _exit(PROCESS_WELL);
}

static void *lasts(void *arg)
{
    fibril_sleep(3000000);
    ASSERT_EQ(atexit(say_well), 0); /* had the process ended before, it would say 0 */
    return arg;
}

static bool returns;

static void *forks(void *arg)
{
    pthread_t self = fibril_posix_pthread_self(), other;
    ASSERT_EQ(fibril_posix_pthread_setspecific(key, "mine"), 0);
    pid_t pid = fibril_posix_fork();
    if (pid == 0) {
        void *result;
        ASSERT_EQ(self, fibril_posix_pthread_self());
        ASSERT_STR(fibril_posix_pthread_getspecific(key), "mine");
        ASSERT_EQ(fibril_current(), fibril__thread_main());
        ASSERT_EQ(fibril__thread_live(), 1);
        ASSERT_EQ(fibril_posix_pthread_create(&other, NULL, just_ends, arg), 0);
        ASSERT_EQ(fibril_posix_pthread_join(other, &result), 0);
        ASSERT_EQ(result, arg);
        if (!returns) {
            _exit(PROCESS_WELL);
        }
        ASSERT_EQ(fibril_posix_pthread_create(&other, NULL, lasts, arg), 0);
        return NULL;
    }
    expect_well(pid);
    return arg;
}

static int run_forker(void *arg)
{
    pthread_t t;
    void *result;
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, NULL), 0);
    ASSERT_EQ(fibril_posix_pthread_create(&t, NULL, forks, &key), 0);
    ASSERT_EQ(fibril_posix_pthread_join(t, &result), 0);
    ASSERT_EQ(result, &key);
    return arg ? -1 : 0;
}

PROCESS_TEST(thread_keeps_identity_and_values)
{
    return run_forker(arg);
}

PROCESS_TEST(process_ends_with_its_last_thread)
{
    returns = true;
    return run_forker(arg);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *locks(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
    ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
    return arg;
}

/* Those who waited for the lock in the parent are not handed it in the child. */
PROCESS_TEST(lock_of_the_caller_is_free_of_waiters)
{
    (void)arg;
    pthread_t t[10];
    ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(fibril_posix_pthread_create(&t[i], NULL, locks, NULL), 0);
    }
    fibril_sleep(1000000);
    pid_t pid = fibril_posix_fork();
    if (pid == 0) {
        pthread_t one;
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
        fibril_sleep(1000000);
        ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
        ASSERT_EQ(fibril_posix_pthread_create(&one, NULL, locks, NULL), 0);
        fibril_sleep(1000000);
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
        ASSERT_EQ(fibril_posix_pthread_join(one, NULL), 0);
        _exit(PROCESS_WELL);
    }
    expect_well(pid);
    ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(fibril_posix_pthread_join(t[i], NULL), 0);
    }
    return 0;
}

/* ---- pthread_atfork ---- */

static int prepared, went_on, began;

static void prepare(void)
{
    prepared++;
}

static void go_on(void)
{
    went_on++;
}

static void begin(void)
{
    began++;
}

PROCESS_TEST(handlers_run_once)
{
    (void)arg;
    ASSERT_EQ(pthread_atfork(prepare, go_on, begin), 0);
    pid_t pid = fibril_posix_fork();
    if (pid == 0) {
        ASSERT_EQ(prepared, 1);
        ASSERT_EQ(began, 1);
        ASSERT_EQ(went_on, 0);
        _exit(PROCESS_WELL);
    }
    expect_well(pid);
    ASSERT_EQ(prepared, 1);
    ASSERT_EQ(went_on, 1);
    ASSERT_EQ(began, 0);
    return 0;
}

static int fork_under_install(void)
{
    struct process_clock clock;
    pid_t pid = fork(); /* not by a covered call: as daemon(3) in libc does */
    if (pid == 0) {
        int result;
        ASSERT_EQ(fibril_current(), fibril__thread_main());
        ASSERT_OK(fibril_join(sleeper, FIBRIL_FOREVER, &result));
        process_clock_start(&clock);
        ASSERT_OK(fibril_sleep(50000000));
        ASSERT_GT(process_clock_stop(&clock), 0);
        _exit(PROCESS_WELL);
    }
    return pid;
}

PROCESS_TEST(forks_inside_libc_are_seen)
{
    (void)arg;
    sleeper = process_start(sleeps, NULL);
    fibril_yield();
    ASSERT_OK(fibril_posix_install(NULL));
    expect_well(fork_under_install());
    ASSERT_OK(fibril_cancel(sleeper));
    ASSERT_OK(fibril_join(sleeper, FIBRIL_FOREVER, NULL));
    ASSERT_OK(fibril_posix_uninstall());
    return 0;
}

/* ---- vfork ---- */

static volatile int seen;

static __attribute__((noinline)) pid_t vfork_and_look(void)
{
    pid_t pid = fibril_posix_vfork();
    if (pid == 0) {
        seen = fibril__on_loop() ? 1 : 2;
        seen += fibril__vfork_child() ? 10 : 20;
        _exit(PROCESS_WELL);
    }
    return pid;
}

PROCESS_TEST(vfork_returns_twice_and_only_the_parent_parks)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        seen = 0;
        pid_t pid = vfork_and_look();
        ASSERT_EQ(seen, 12);
        ASSERT_GT(pid, 0);
        ASSERT(!fibril__vfork_child());
        ASSERT(fibril__on_loop());
        ASSERT_EQ(fibril__posix_mode, FIBRIL__POSIX_LOOP);
        expect_well(pid);
    }
    return 0;
}

static __attribute__((noinline)) pid_t vfork_and_exec(void)
{
    static char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                           (char *)(uintptr_t) "exit 42", NULL};
    pid_t pid = fibril_posix_vfork();
    if (pid == 0) {
        fibril_posix_signal(SIGUSR1, SIG_DFL); /* as subprocess does; it must not touch our table */
        execv("/bin/sh", argv);
        _exit(127);
    }
    return pid;
}

static void on_usr1(int signo)
{
    seen = signo;
}

PROCESS_TEST(vfork_and_exec_leave_the_parent_as_it_was)
{
    (void)arg;
    struct sigaction now;
    ASSERT_NE(fibril_posix_signal(SIGUSR1, on_usr1), SIG_ERR);
    expect_well(vfork_and_exec());
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, NULL, &now), 0);
    ASSERT_EQ(now.sa_handler, on_usr1);
    ASSERT_EQ(raise(SIGUSR1), 0);
    ASSERT_EQ(seen, SIGUSR1);
    return 0;
}

TEST(vfork_without_a_loop_is_the_real_one)
{
    int status;
    seen = 0;
    pid_t pid = vfork_and_look();
    ASSERT_EQ(seen, 12);
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT(!fibril__on_loop());
    ASSERT_EQ(fibril__posix_mode, FIBRIL__POSIX_REAL);
}
