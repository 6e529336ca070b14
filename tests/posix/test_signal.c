/* SPDX-License-Identifier: MIT */
/*
 * Handlers under the layer, and waits for signals: what handlers may call, whose wait ends, what
 * the program sees of its own handlers.
 */
#include "process_rig.h"

#include "posix/calls.h"
#include "posix/io_calls.h"

#include <setjmp.h>
#include <string.h>
#include <time.h>

static volatile int calls, seen_signo, mode_inside, seen_value;

static void count(int signo)
{
    calls++;
    seen_signo = signo;
    mode_inside = fibril__on_loop();
    errno = 99;
}

static void count_with_info(int signo, siginfo_t *info, void *context)
{
    count(signo);
    seen_value = info->si_value.sival_int;
    ASSERT_NE(context, NULL);
}

static void handle(int signo, int flags)
{
    struct sigaction a = {.sa_handler = count, .sa_flags = flags};
    sigemptyset(&a.sa_mask);
    ASSERT_EQ(fibril_posix_sigaction(signo, &a, NULL), 0);
}

/* Sends a signal to the process from a fibril of its own, a little later. */
static int sends(void *arg)
{
    fibril_sleep(3000000);
    return kill(getpid(), *(int *)arg);
}

static struct fibril *send_later(int signo)
{
    static int which;
    which = signo;
    return process_start(sends, &which);
}

static void sent(struct fibril *f)
{
    int result;
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 0);
}

/* ---- sigaction ---- */

PROCESS_TEST(program_sees_its_own_handler)
{
    (void)arg;
    struct sigaction a = {.sa_sigaction = count_with_info, .sa_flags = SA_SIGINFO | SA_NODEFER},
                     old;
    sigfillset(&a.sa_mask);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, &a, &old), 0);
    ASSERT_EQ(old.sa_handler, SIG_DFL);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, NULL, &old), 0);
    ASSERT_EQ(old.sa_sigaction, count_with_info);
    ASSERT_EQ(old.sa_flags & (SA_SIGINFO | SA_NODEFER | SA_RESTART), SA_SIGINFO | SA_NODEFER);
    ASSERT_EQ(sigismember(&old.sa_mask, SIGTERM), 1);
    ASSERT_EQ(fibril_posix_signal(SIGUSR1, count), (sighandler_t)(void *)count_with_info);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, NULL, &old), 0);
    ASSERT_EQ(old.sa_handler, count);
    ASSERT_EQ(old.sa_flags & (SA_SIGINFO | SA_RESTART), SA_RESTART);
    ASSERT_EQ(fibril_posix_signal(SIGUSR1, SIG_IGN), count);
    ASSERT_EQ(fibril_posix_signal(SIGUSR1, SIG_DFL), SIG_IGN);
    return 0;
}

PROCESS_TEST(errors_of_sigaction_are_the_real_ones)
{
    (void)arg;
    struct sigaction a = {.sa_handler = count}, old;
    ASSERT_ERRNO(fibril_posix_sigaction(SIGKILL, &a, NULL), EINVAL);
    ASSERT_ERRNO(fibril_posix_sigaction(0, &a, NULL), EINVAL);
    ASSERT_ERRNO(fibril_posix_sigaction(1000, &a, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_signal(SIGSTOP, count), SIG_ERR);
    ASSERT_EQ(fibril_posix_sigaction(SIGKILL, NULL, &old), 0);
    ASSERT_EQ(old.sa_handler, SIG_DFL);
    return 0;
}

PROCESS_TEST(handler_runs_with_real_calls_and_leaves_errno)
{
    (void)arg;
    handle(SIGUSR1, 0);
    errno = 5;
    ASSERT_EQ(fibril_posix_raise(SIGUSR1), 0);
    ASSERT_EQ(calls, 1);
    ASSERT_EQ(mode_inside, 0);
    ASSERT_EQ(errno, 5);
    ASSERT(fibril__on_loop());
    return 0;
}

PROCESS_TEST(value_and_context_reach_the_handler)
{
    (void)arg;
    struct sigaction a = {.sa_sigaction = count_with_info, .sa_flags = SA_SIGINFO};
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR2, &a, NULL), 0);
    ASSERT_EQ(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 77}), 0);
    ASSERT_EQ(calls, 1);
    ASSERT_EQ(seen_value, 77);
    return 0;
}

PROCESS_TEST(one_shot_handlers_go)
{
    (void)arg;
    struct sigaction old;
    handle(SIGUSR1, (int)SA_RESETHAND);
    ASSERT_EQ(fibril_posix_raise(SIGUSR1), 0);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, NULL, &old), 0);
    ASSERT_EQ(old.sa_handler, SIG_DFL);
    return 0;
}

PROCESS_TEST(handlers_from_before_are_wrapped_and_put_back)
{
    (void)arg;
    struct sigaction a = {.sa_handler = count, .sa_flags = SA_RESTART}, now;
    ASSERT_EQ(sigaction(SIGUSR1, &a, NULL), 0);
    ASSERT_OK(fibril__signal_wrap_all());
    ASSERT_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    ASSERT_NE(now.sa_handler, count);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, NULL, &now), 0);
    ASSERT_EQ(now.sa_handler, count);
    raise(SIGUSR1);
    ASSERT_EQ(calls, 1);
    ASSERT_EQ(mode_inside, 0);
    fibril__signal_unwrap_all();
    ASSERT_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    ASSERT_EQ(now.sa_handler, count);
    ASSERT_EQ(now.sa_flags & (SA_SIGINFO | SA_RESTART), SA_RESTART);
    return 0;
}

/* ---- whose wait ends ---- */

static int waits_too(void *arg)
{
    int *ends = arg;
    char byte;
    return fibril_posix_read(ends[0], &byte, 1) == 1 ? byte : -errno;
}

PROCESS_TEST(main_fibrils_wait_ends_and_no_others)
{
    (void)arg;
    int ends[2], other_ends[2], result;
    char byte;
    ASSERT_OK(pipe(ends));
    ASSERT_OK(pipe(other_ends));
    handle(SIGUSR1, 0);
    struct fibril *other = process_start(waits_too, other_ends);
    struct fibril *sender = send_later(SIGUSR1);
    ASSERT_ERRNO(fibril_posix_read(ends[0], &byte, 1), EINTR);
    ASSERT_EQ(calls, 1);
    sent(sender);
    ASSERT_EQ(write(other_ends[1], "z", 1), 1);
    ASSERT_OK(fibril_join(other, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 'z');
    return 0;
}

static int writes_later(void *arg)
{
    fibril_sleep(8000000);
    return (int)write(*(int *)arg, "w", 1);
}

PROCESS_TEST(reads_go_on_after_handlers_that_restart)
{
    (void)arg;
    int ends[2];
    char byte = 0;
    ASSERT_OK(pipe(ends));
    handle(SIGUSR1, SA_RESTART);
    struct fibril *sender = send_later(SIGUSR1), *writer = process_start(writes_later, &ends[1]);
    ASSERT_EQ(fibril_posix_read(ends[0], &byte, 1), 1);
    ASSERT_EQ(calls, 1);
    ASSERT_EQ(byte, 'w');
    sent(sender);
    return fibril_join(writer, FIBRIL_FOREVER, NULL);
}

PROCESS_TEST(sleeps_end_even_then)
{
    (void)arg;
    struct timespec t = {.tv_sec = 100}, left = {0};
    handle(SIGUSR1, SA_RESTART);
    struct fibril *sender = send_later(SIGUSR1);
    ASSERT_ERRNO(fibril_posix_nanosleep(&t, &left), EINTR);
    ASSERT_GT(left.tv_sec, 90);
    sent(sender);
    return 0;
}

static void *kills_process(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    kill(getpid(), *(int *)arg);
    return NULL;
}

/* Nothing is ready: the loop sleeps in the kernel when the signal comes. */
PROCESS_TEST(sleeping_loop_is_woken)
{
    (void)arg;
    int signo = SIGUSR1;
    pthread_t t;
    sigset_t set;
    handle(signo, 0);
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    ASSERT_EQ(pthread_create(&t, NULL, kills_process, &signo), 0);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    ASSERT_ERRNO(fibril_posix_nanosleep(&(struct timespec){.tv_sec = 100}, NULL), EINTR);
    ASSERT_EQ(calls, 1);
    pthread_join(t, NULL);
    return 0;
}

static int waits_child(void *arg)
{
    int status;
    return fibril_posix_waitpid(*(pid_t *)arg, &status, 0) < 0 ? -errno : 0;
}

PROCESS_TEST(child_is_worth_more_than_its_signal)
{
    (void)arg;
    handle(SIGCHLD, 0);
    for (int i = 0; i < 5; i++) {
        int status;
        pid_t a = process_child(3), b = process_child(3);
        struct fibril *f = process_start(waits_child, &b);
        pid_t got;
        do {
            got = fibril_posix_waitpid(a, &status, 0);
        } while (got < 0 && errno == EINTR); /* the other one's signal came first */
        ASSERT_EQ(got, a);
        int result;
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result) == -EINTR
                      ? fibril_join(f, FIBRIL_FOREVER, &result)
                      : 0);
        ASSERT_EQ(result, 0);
    }
    return 0;
}

PROCESS_TEST(signal_between_two_looks_for_children_counts)
{
    (void)arg;
    pid_t pid = process_child(60000);
    handle(SIGUSR1, 0);
    for (int i = 0; i < 20; i++) {
        struct fibril *sender = send_later(SIGUSR1);
        ASSERT_ERRNO(fibril_posix_wait(NULL), EINTR);
        sent(sender);
    }
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_EQ(fibril_posix_wait(NULL), pid);
    return 0;
}

static int storms(void *arg)
{
    for (int i = 0; i < 200; i++) {
        kill(getpid(), SIGUSR1);
        fibril_sleep(20000);
    }
    *(bool *)arg = true;
    return 0;
}

PROCESS_TEST(storm_of_signals_loses_no_wakeup)
{
    (void)arg;
    bool over = false;
    int interrupted = 0;
    handle(SIGUSR1, 0);
    struct fibril *f = process_start(storms, &over);
    while (!over) {
        interrupted += fibril_posix_nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL) < 0;
    }
    while (fibril_join(f, FIBRIL_FOREVER, NULL) == -EINTR) {}
    ASSERT_EQ(calls, 200);
    ASSERT_GT(interrupted, 100);
    return 0;
}

/* ---- one thread ---- */

static void *sleeps_until_killed(void *result)
{
    errno = 0;
    *(int *)result =
        fibril_posix_nanosleep(&(struct timespec){.tv_sec = 100}, NULL) < 0 ? errno : 0;
    return NULL;
}

PROCESS_TEST(pthread_kill_ends_that_threads_wait)
{
    (void)arg;
    pthread_t t;
    int result = -1;
    handle(SIGUSR1, 0);
    ASSERT_EQ(fibril_posix_pthread_create(&t, NULL, sleeps_until_killed, &result), 0);
    fibril_sleep(1000000);
    ASSERT_EQ(fibril_posix_pthread_kill(t, 0), 0);
    ASSERT_EQ(fibril_posix_pthread_kill(t, 1000), EINVAL);
    ASSERT_EQ(fibril_posix_pthread_kill(t, SIGUSR1), 0);
    ASSERT_EQ(calls, 1);
    ASSERT_OK(fibril_sleep(2000000)); /* not ours */
    ASSERT_EQ(result, EINTR);
    ASSERT_EQ(fibril_posix_pthread_kill(t, SIGUSR1), ESRCH);
    ASSERT_EQ(fibril_posix_pthread_join(t, NULL), 0);
    return 0;
}

PROCESS_TEST(pthread_kill_of_the_main_thread_is_real)
{
    (void)arg;
    handle(SIGUSR1, 0);
    ASSERT_EQ(fibril_posix_pthread_kill(fibril_posix_pthread_self(), SIGUSR1), 0);
    ASSERT_EQ(calls, 1);
    return 0;
}

/* ---- pause, sigsuspend ---- */

PROCESS_TEST(pause_ends_with_a_handler)
{
    (void)arg;
    struct process_clock clock;
    handle(SIGUSR1, SA_RESTART);
    process_clock_start(&clock);
    struct fibril *sender = send_later(SIGUSR1);
    ASSERT_ERRNO(fibril_posix_pause(), EINTR);
    ASSERT_GT(process_clock_stop(&clock), 0);
    ASSERT_EQ(calls, 1);
    sent(sender);
    return 0;
}

PROCESS_TEST(signals_from_before_end_no_wait)
{
    (void)arg;
    handle(SIGUSR1, 0);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
        ASSERT_EQ(fibril_posix_nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL), 0);
    }
    ASSERT_EQ(calls, 100);
    return 0;
}

PROCESS_TEST(sigsuspend_takes_what_was_pending_and_what_comes)
{
    (void)arg;
    sigset_t set, none, now;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    handle(SIGUSR1, 0);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
    ASSERT_EQ(calls, 0);
    ASSERT_ERRNO(fibril_posix_sigsuspend(&none), EINTR);
    ASSERT_EQ(calls, 1);
    struct fibril *sender = send_later(SIGUSR1);
    ASSERT_ERRNO(fibril_posix_sigsuspend(&none), EINTR);
    ASSERT_EQ(calls, 2);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    ASSERT_EQ(sigismember(&now, SIGUSR1), 1);
    sent(sender);
    return 0;
}

/* ---- sigwait and its kin ---- */

static void block(sigset_t *set, int signo)
{
    sigemptyset(set);
    sigaddset(set, signo);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, set, NULL), 0);
}

PROCESS_TEST(sigwait_parks_for_a_blocked_signal)
{
    (void)arg;
    struct process_clock clock;
    sigset_t set;
    int signo = 0;
    block(&set, SIGUSR1);
    process_clock_start(&clock);
    struct fibril *sender = send_later(SIGUSR1);
    errno = 12345;
    ASSERT_EQ(fibril_posix_sigwait(&set, &signo), 0);
    ASSERT_EQ(errno, 12345);
    ASSERT_EQ(signo, SIGUSR1);
    ASSERT_GT(process_clock_stop(&clock), 0);
    sent(sender);
    return 0;
}

PROCESS_TEST(sigwaitinfo_tells_all)
{
    (void)arg;
    sigset_t set;
    siginfo_t info;
    block(&set, SIGRTMIN);
    ASSERT_EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5}), 0);
    ASSERT_EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6}), 0);
    ASSERT_EQ(fibril_posix_sigwaitinfo(&set, &info), SIGRTMIN);
    ASSERT_EQ(info.si_value.sival_int, 5);
    ASSERT_EQ(info.si_code, SI_QUEUE);
    ASSERT_EQ(info.si_pid, getpid());
    ASSERT_EQ(fibril_posix_sigwaitinfo(&set, NULL), SIGRTMIN);
    return 0;
}

PROCESS_TEST(sigtimedwait_gives_up_in_time)
{
    (void)arg;
    sigset_t set;
    siginfo_t info;
    struct process_clock clock;
    block(&set, SIGUSR1);
    process_clock_start(&clock);
    ASSERT_ERRNO(fibril_posix_sigtimedwait(&set, &info, &(struct timespec){0}), EAGAIN);
    ASSERT_ERRNO(fibril_posix_sigtimedwait(&set, &info, &(struct timespec){.tv_nsec = 50000000}),
                 EAGAIN);
    ASSERT_ERRNO(fibril_posix_sigtimedwait(&set, &info, &(struct timespec){.tv_nsec = -1}), EINVAL);
    ASSERT_GT(process_clock_stop(&clock), 0);
    return 0;
}

PROCESS_TEST(handler_of_another_signal_ends_sigwaitinfo)
{
    (void)arg;
    sigset_t set;
    block(&set, SIGUSR1);
    handle(SIGUSR2, SA_RESTART);
    struct fibril *sender = send_later(SIGUSR2);
    ASSERT_ERRNO(fibril_posix_sigwaitinfo(&set, NULL), EINTR);
    sent(sender);
    return 0;
}

/* ---- off the loop ---- */

TEST(without_a_loop_all_is_real)
{
    sigset_t set;
    int signo;
    handle(SIGUSR1, 0);
    ASSERT_EQ(fibril_posix_raise(SIGUSR1), 0);
    ASSERT_EQ(calls, 1);
    block(&set, SIGUSR2);
    ASSERT_EQ(fibril_posix_raise(SIGUSR2), 0);
    ASSERT_EQ(fibril_posix_sigwait(&set, &signo), 0);
    ASSERT_EQ(signo, SIGUSR2);
}

/* ---- masks ---- */

static int block_usr1(void *arg)
{
    (void)arg;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    ASSERT_EQ(fibril_posix_pthread_sigmask(SIG_BLOCK, &set, &old), 0);
    ASSERT(!sigismember(&old, SIGUSR1));
    ASSERT_EQ(fibril_posix_sigprocmask(SIG_BLOCK, NULL, &old), 0);
    ASSERT_EQ(sigismember(&old, SIGUSR1), 1);
    ASSERT_EQ(fibril_posix_pthread_sigmask(77, &set, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_sigprocmask(SIG_UNBLOCK, &set, &old), 0);
    ASSERT_EQ(fibril_posix_sigprocmask(SIG_BLOCK, NULL, &old), 0);
    ASSERT(!sigismember(&old, SIGUSR1));
    ASSERT_EQ(fibril_posix_pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
    return 0;
}

PROCESS_TEST(a_fibril_that_blocks_signals_blocks_them_for_itself)
{
    (void)arg;
    struct fibril *f;
    ASSERT_OK(fibril_spawn(block_usr1, NULL, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    sigset_t real;
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, NULL, &real), 0);
    ASSERT(!sigismember(&real, SIGUSR1));
    return 0;
}

/* ---- handlers that are left by siglongjmp ---------------------------------------------------- */

static sigjmp_buf out;

static void jump_out(int signo)
{
    (void)signo;
    mode_inside = fibril__on_loop();
    siglongjmp(out, 1);
}

static NOINLINE int deep(int depth)
{
    volatile char room[512];
    memset((char *)(uintptr_t)room, depth, sizeof room);
    return depth > 0 ? deep(depth - 1) + room[depth] : fibril__on_loop();
}

static void leave_a_handler(int flags)
{
    struct sigaction a = {.sa_handler = jump_out, .sa_flags = flags};
    sigemptyset(&a.sa_mask);
    ASSERT_EQ(fibril_posix_sigaction(SIGUSR1, &a, NULL), 0);
    mode_inside = 7;
    if (sigsetjmp(out, /* savemask= */ 1) == 0) {
        raise(SIGUSR1);
        mode_inside = 8; /* the handler has not jumped */
    }
    ASSERT_EQ(mode_inside, 0);
}

static int runs_meanwhile(void *arg)
{
    *(bool *)arg = true;
    return 0;
}

static void parks_again(void)
{
    static bool ran;
    ran = false;
    struct fibril *other = process_start(runs_meanwhile, &ran);
    ASSERT_EQ(fibril_posix_usleep(1000), 0);
    ASSERT(ran);
    ASSERT_OK(fibril_join(other, FIBRIL_FOREVER, NULL));
    ASSERT(!fibril__signal_inside());
}

PROCESS_TEST(covered_calls_park_again_after_a_handler_was_left_by_siglongjmp)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        leave_a_handler(0);
        parks_again();
    }
    leave_a_handler(0);
    leave_a_handler(0); /* and a handler that begins before any covered call */
    ASSERT_NE(deep(20), 0);
    leave_a_handler(0);
    handle(SIGUSR2, 0);
    raise(SIGUSR2); /* one that returns puts back what is right */
    parks_again();
    return 0;
}

PROCESS_TEST(the_same_where_the_handler_ran_on_a_signal_stack)
{
    (void)arg;
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, before;
    ASSERT_EQ(sigaltstack(&stack, &before), 0);
    leave_a_handler(SA_ONSTACK);
    parks_again();
    ASSERT_EQ(sigaltstack(&before, NULL), 0);
    return 0;
}
