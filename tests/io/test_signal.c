/* SPDX-License-Identifier: MIT */
/*
 * Signals as events.
 */
#include "io_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct fibril_signals *open_two(void)
{
    struct fibril_signals *s;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    ASSERT_OK(fibril_signals_open(&set, &s));
    return s;
}

EACH_STACK(a_signal_that_came_is_queued)
{
    struct fibril_signals *s = open_two();
    siginfo_t info;
    ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
    ASSERT_EQ(fibril_signals_wait(s, &info, FIBRIL_FOREVER), SIGUSR1);
    ASSERT_EQ(info.si_signo, SIGUSR1);
    ASSERT_EQ(info.si_pid, getpid());
    ASSERT_EQ(info.si_code, SI_USER);
    fibril_signals_close(s);
    return 0;
}

static int wait_one(void *arg)
{
    return fibril_signals_wait(arg, NULL, FIBRIL_FOREVER);
}

EACH_STACK(a_wait_for_a_signal_waits_times_out_and_is_cancelled)
{
    struct fibril_signals *s = open_two();
    ASSERT_ERR(fibril_signals_wait(s, NULL, 0), -ETIMEDOUT);
    ASSERT_ERR(fibril_signals_wait(s, NULL, io_in(3)), -ETIMEDOUT);
    struct fibril *f = io_start(wait_one, s);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(io_end(f), -ECANCELED);
    f = io_start(wait_one, s);
    io_settle();
    ASSERT_EQ(kill(getpid(), SIGTERM), 0);
    ASSERT_EQ(io_end(f), SIGTERM);
    fibril_signals_close(s);
    fibril_signals_close(NULL);
    return 0;
}

EACH_STACK(a_value_comes_along)
{
    struct fibril_signals *s = open_two();
    siginfo_t info;
    ASSERT_EQ(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 1234}), 0);
    ASSERT_EQ(fibril_signals_wait(s, &info, FIBRIL_FOREVER), SIGUSR1);
    ASSERT_EQ(info.si_value.sival_int, 1234);
    ASSERT_EQ(info.si_code, SI_QUEUE);
    fibril_signals_close(s);
    return 0;
}

IO_TEST(a_close_unblocks_what_was_not_blocked_before)
{
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    struct fibril_signals *s = open_two();
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    ASSERT_EQ(sigismember(&now, SIGTERM), 1);
    fibril_signals_close(s);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    ASSERT_EQ(sigismember(&now, SIGTERM), 0);
    ASSERT_EQ(sigismember(&now, SIGUSR1), 1);
    return 0;
}
