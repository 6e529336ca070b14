/* SPDX-License-Identifier: MIT */
/*
 * Waiting for children. The real call decides, without waiting (WNOHANG), and whoever has to wait
 * parks in between:
 *   one child, its end      its pidfd, which becomes readable then; no delay, no signal
 *   any child, or a group,  looks again after 0.2 ms, twice as long each time, 10 ms at most; a
 *   or stops                signal handler ends the pause (SIGCHLD's, if the program has one)
 *
 * Rejected for any child: a handler of SIGCHLD of ours, as the program's EINTR and its children's
 * inheritance would change; an OS thread in waitid(WNOWAIT), which would spin on a zombie that
 * somebody else is going to reap; pidfds of all children, since no covered call tells of those that
 * libc spawns by itself. Ten milliseconds are what a hundred system calls a second buy.
 *
 * Children of fibril_process_free are reaped by their pidfd (io/reap.c). A wait for any child may
 * take one of them away, as it may from any part of a program; the reaper then finds it gone.
 */
#include "posix/process_calls.h"

#include <fibril/io.h>

#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { PAUSE_MIN_NS = 200000, PAUSE_MAX_NS = 10000000 };

/* One wait: how to look, and the descriptor that says when. */
struct await {
    int64_t (*look)(void *arg); /* > 0, 0: none yet, or -errno; never waits */
    void *arg;
    pid_t pid; /* whose end it is, if one child's alone; else 0 */
    int pidfd; /* the caller's own for it, or -1 */
};

/* Parks until a look may be worth it. Returns 0 or -errno. */
static int pause_until(int pidfd, int64_t *pause_ns)
{
    if (pidfd >= 0) {
        int rc = fibril_fd_wait(pidfd, POLLIN, FIBRIL_FOREVER);
        return rc < 0 ? rc : 0;
    }
    int rc = fibril_sleep(*pause_ns);
    *pause_ns = *pause_ns * 2 < PAUSE_MAX_NS ? *pause_ns * 2 : PAUSE_MAX_NS;
    return rc;
}

/* A child that is there is worth more than the signal that came with it. */
static int64_t await_with(const struct await *a, int pidfd)
{
    int64_t pause_ns = PAUSE_MIN_NS;
    unsigned count = fibril__signal_count();
    for (;;) {
        bool restart;
        int rc = pause_until(pidfd, &pause_ns);
        int64_t found = rc == -ECANCELED ? 0 : a->look(a->arg);
        if (found != 0) {
            return found;
        }
        bool hit = fibril__signal_hit(&count, &restart);
        if (rc < 0 && (rc != -EINTR || !fibril__posix_restart())) {
            return rc;
        }
        if (rc == 0 && hit && !restart) {
            return -EINTR;
        }
    }
}

static int64_t await(const struct await *a)
{
    int64_t found = a->look(a->arg);
    if (found != 0) {
        return found;
    }
    if (a->pidfd >= 0 || !a->pid) {
        return await_with(a, a->pidfd);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
    found = await_with(a, pidfd); /* without one (no descriptors left): by looking again */
    if (pidfd >= 0) {
        fibril_shield_begin();
        fibril_close(pidfd);
        fibril_shield_end();
    }
    return found;
}

/* ---- wait4 and those that it can express ---- */

struct wait4_args {
    pid_t pid;
    int *status;
    int options;
    struct rusage *usage;
};

static int64_t look_wait4(void *arg)
{
    const struct wait4_args *w = arg;
    pid_t pid;
    do {
        pid = wait4(w->pid, w->status, w->options | WNOHANG, w->usage);
    } while (pid < 0 && errno == EINTR);
    return pid < 0 ? -errno : pid;
}

static int64_t run_wait4(struct wait4_args *w)
{
    struct await a = {.look = look_wait4, .arg = w, .pidfd = -1};
    if (w->pid > 0 && !(w->options & (WUNTRACED | WCONTINUED))) {
        a.pid = w->pid;
    }
    return await(&a);
}

int fibril__child_wait(pid_t pid, int *ret_status)
{
    struct wait4_args w = {.pid = pid, .status = ret_status};
    int64_t rc;
    do {
        rc = run_wait4(&w);
    } while (rc == -EINTR);
    return rc < 0 ? (int)rc : 0;
}

pid_t fibril_posix_wait4(pid_t pid, int *ret_status, int options, struct rusage *ret_usage)
{
    if (!fibril__on_loop() || (options & WNOHANG)) {
        return wait4(pid, ret_status, options, ret_usage);
    }
    int saved = errno;
    struct wait4_args w = {pid, ret_status, options, ret_usage};
    return (pid_t)fibril__posix_result(run_wait4(&w), saved);
}

pid_t fibril_posix_waitpid(pid_t pid, int *ret_status, int options)
{
    return fibril_posix_wait4(pid, ret_status, options, NULL);
}

pid_t fibril_posix_wait(int *ret_status)
{
    return fibril_posix_wait4(WAIT_ANY, ret_status, 0, NULL);
}

pid_t fibril_posix_wait3(int *ret_status, int options, struct rusage *ret_usage)
{
    return fibril_posix_wait4(WAIT_ANY, ret_status, options, ret_usage);
}

/* ---- waitid ---- */

struct waitid_args {
    idtype_t type;
    id_t id;
    siginfo_t *info;
    int options;
};

/* Without a child it leaves the pid zero. */
static int64_t look_waitid(void *arg)
{
    const struct waitid_args *w = arg;
    int rc;
    w->info->si_pid = 0;
    do {
        rc = waitid(w->type, w->id, w->info, w->options | WNOHANG);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : w->info->si_pid;
}

int fibril_posix_waitid(idtype_t type, id_t id, siginfo_t *ret_info, int options)
{
    if (!fibril__on_loop() || (options & WNOHANG)) {
        return waitid(type, id, ret_info, options);
    }
    int saved = errno;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    struct waitid_args w = {type, id, ret_info ? ret_info : &info, options};
    struct await a = {.look = look_waitid, .arg = &w, .pidfd = -1};
    if (!(options & (WSTOPPED | WCONTINUED))) {
        a.pid = type == P_PID ? (pid_t)id : 0;
        a.pidfd = type == P_PIDFD ? (int)id : -1;
    }
    int64_t rc = await(&a);
    return (int)fibril__posix_result(rc < 0 ? rc : 0, saved);
}

const struct fibril__call fibril__calls_child[] = {
    FIBRIL__CALL(wait),
    FIBRIL__CALL(waitpid),
    {"__wait", (void (*)(void))fibril_posix_wait, false, NULL},
    {"__waitpid", (void (*)(void))fibril_posix_waitpid, false, NULL},
    FIBRIL__CALL(wait3),
    FIBRIL__CALL(wait4),
    FIBRIL__CALL(waitid),
    FIBRIL__CALL(system),
    FIBRIL__CALL(pclose),
    {NULL, NULL, false, NULL},
};
