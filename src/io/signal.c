/* SPDX-License-Identifier: MIT */
/*
 * Signals as something to wait for: blocked, and read from a signalfd like any other descriptor. A
 * handler that writes to a pipe would do too, but interrupts system calls and needs a table; a
 * signalfd also carries the sender. Only those signals are unblocked again that were not blocked
 * before.
 */
#include <fibril/io.h>

#include "base/alloc.h"
#include "io/sys.h"
#include "sched/current.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/signalfd.h>

struct fibril_signals {
    int fd;
    sigset_t ours; /* blocked by us */
};

/* The signals of `set` that are not in `before`. */
static sigset_t newly_blocked(const sigset_t *set, const sigset_t *before)
{
    sigset_t ours;
    sigemptyset(&ours);
    for (int signo = 1; signo < NSIG; signo++) {
        if (sigismember(set, signo) == 1 && sigismember(before, signo) == 0) {
            sigaddset(&ours, signo);
        }
    }
    return ours;
}

int fibril_signals_open(const sigset_t *set, struct fibril_signals **ret_signals)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (fibril__sys_simulated()) {
        return -ENOSYS; /* no simulated run may depend on when a signal comes */
    }
    struct fibril_signals *s = fibril__alloc(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->fd < 0) {
        int rc = -errno;
        fibril__free(s);
        return rc;
    }
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, set, &before);
    s->ours = newly_blocked(set, &before);
    *ret_signals = s;
    return 0;
}

static void to_siginfo(const struct signalfd_siginfo *from, siginfo_t *to)
{
    memset(to, 0, sizeof(*to));
    to->si_signo = (int)from->ssi_signo;
    to->si_errno = from->ssi_errno;
    to->si_code = from->ssi_code;
    to->si_pid = (pid_t)from->ssi_pid;
    to->si_uid = from->ssi_uid;
    if (from->ssi_signo == SIGCHLD) {
        to->si_status = from->ssi_status;
        to->si_utime = (clock_t)from->ssi_utime;
        to->si_stime = (clock_t)from->ssi_stime;
    } else {
        to->si_value.sival_ptr = (void *)(uintptr_t)from->ssi_ptr;
    }
}

int fibril_signals_wait(struct fibril_signals *s, siginfo_t *ret_info, int64_t deadline_ns)
{
    struct signalfd_siginfo info;
    ssize_t n = fibril_read(s->fd, &info, sizeof(info), deadline_ns);
    if (n < 0) {
        return (int)n;
    }
    if (ret_info) {
        to_siginfo(&info, ret_info);
    }
    return (int)info.ssi_signo;
}

void fibril_signals_close(struct fibril_signals *s)
{
    if (s) {
        fibril_close(s->fd);
        pthread_sigmask(SIG_UNBLOCK, &s->ours, NULL);
        fibril__free(s);
    }
}
