/* SPDX-License-Identifier: MIT */
/*
 * Waiting for signals. For those that are blocked (sigwait and its kin) a signalfd says when, and
 * the real sigtimedwait, without waiting, takes the signal and tells all there is to tell. For
 * handlers (pause, sigsuspend) the wait is one that only signal.c ends.
 *
 * A mask is the OS thread's: while a fibril is in sigsuspend, all fibrils of its loop have that
 * mask.
 */
#include "posix/process_calls.h"

#include "base/alloc.h"
#include "posix/thread.h"

#include <fibril/io.h>

#include <poll.h>
#include <sys/signalfd.h>

/* ---- blocked signals ---- */

static int64_t take(const sigset_t *set, siginfo_t *ret_info)
{
    const struct timespec none = {0};
    int signo;
    do {
        signo = sigtimedwait(set, ret_info, &none);
    } while (signo < 0 && errno == EINTR);
    return signo < 0 ? -errno : signo;
}

static int64_t wait_on(int fd, const sigset_t *set, siginfo_t *ret_info, int64_t deadline_ns)
{
    for (;;) {
        int rc = fibril_fd_wait(fd, POLLIN, deadline_ns);
        int64_t signo = rc == -ECANCELED ? -EAGAIN : take(set, ret_info);
        if (signo != -EAGAIN) {
            return signo;
        }
        if (rc < 0) {
            return rc;
        }
    }
}

static int64_t wait_for(const sigset_t *set, siginfo_t *ret_info, int64_t deadline_ns)
{
    int64_t signo = take(set, ret_info);
    if (signo != -EAGAIN || deadline_ns <= fibril_now()) {
        return signo;
    }
    int fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    signo = wait_on(fd, set, ret_info, deadline_ns);
    fibril_shield_begin();
    fibril_close(fd);
    fibril_shield_end();
    return signo == -ETIMEDOUT ? -EAGAIN : signo;
}

int fibril_posix_sigtimedwait(const sigset_t *set, siginfo_t *ret_info,
                              const struct timespec *timeout)
{
    if (!fibril__on_loop()) {
        return sigtimedwait(set, ret_info, timeout);
    }
    int saved = errno;
    int64_t deadline_ns;
    int64_t rc = fibril__deadline_in(timeout, &deadline_ns);
    rc = rc < 0 ? rc : wait_for(set, ret_info, deadline_ns);
    return (int)fibril__posix_result(rc, saved);
}

int fibril_posix_sigwaitinfo(const sigset_t *set, siginfo_t *ret_info)
{
    return fibril__on_loop() ? fibril_posix_sigtimedwait(set, ret_info, NULL)
                             : sigwaitinfo(set, ret_info);
}

/* Returns the error number; EINTR is none of its errors. */
int fibril_posix_sigwait(const sigset_t *set, int *ret_signo)
{
    if (!fibril__on_loop()) {
        return sigwait(set, ret_signo);
    }
    int saved = errno;
    int64_t signo;
    do {
        signo = wait_for(set, NULL, FIBRIL_FOREVER);
    } while (signo == -EINTR);
    if (signo < 0) {
        return fibril__posix_error((int)signo, saved);
    }
    *ret_signo = (int)signo;
    errno = saved;
    return 0;
}

/* ---- handlers ---- */

/* A wake that comes late for an earlier wait of the thread's is none of ours. */
static int64_t wait_for_handler(void)
{
    static const struct fibril_waker_info info = {.name = "signal"};
    struct fibril__thread *t = fibril__thread_self();
    int rc = t ? 0 : -ENOMEM;
    while (rc == 0) {
        rc = fibril_waker_wait_as(fibril_waker_in(&t->waker), &info, FIBRIL_FOREVER);
    }
    return rc;
}

int fibril_posix_pause(void)
{
    if (!fibril__on_loop()) {
        return pause();
    }
    int saved = errno;
    return (int)fibril__posix_result(wait_for_handler(), saved);
}

/* A handler that ran as soon as the mask was changed has ended the wait already; from then on it
 * finds the caller in the list. */
int fibril_posix_sigsuspend(const sigset_t *mask)
{
    if (!fibril__on_loop()) {
        return sigsuspend(mask);
    }
    int saved = errno;
    struct fibril__suspended *s = fibril__alloc_zero(sizeof *s); /* others link to it */
    if (!s) {
        errno = ENOMEM;
        return -1;
    }
    unsigned count = fibril__signal_count();
    sigset_t before;
    pthread_sigmask(SIG_SETMASK, mask, &before);
    fibril__signal_suspend(s);
    int64_t rc = fibril__signal_count() != count ? -EINTR : wait_for_handler();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    fibril__signal_resume(s);
    fibril__free(s);
    return (int)fibril__posix_result(rc, saved);
}

const struct fibril__call fibril__calls_signal[] = {
    FIBRIL__CALL(sigaction),
    FIBRIL__CALL(pthread_sigmask),
    FIBRIL__CALL(sigprocmask),
    {"__sigaction", (void (*)(void))fibril_posix_sigaction, false, NULL},
    FIBRIL__CALL(signal),
    {"bsd_signal", (void (*)(void))fibril_posix_signal, false, NULL},
    {"ssignal", (void (*)(void))fibril_posix_signal, false, NULL},
    FIBRIL__CALL(raise),
    {"gsignal", (void (*)(void))fibril_posix_raise, false, NULL},
    FIBRIL__CALL(pthread_kill),
    FIBRIL__CALL(pthread_sigqueue),
    FIBRIL__CALL(pause),
    FIBRIL__CALL(sigsuspend),
    FIBRIL__CALL(sigwait),
    FIBRIL__CALL(sigwaitinfo),
    FIBRIL__CALL(sigtimedwait),
    {NULL, NULL, false, NULL},
};
