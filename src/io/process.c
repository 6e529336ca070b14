/* SPDX-License-Identifier: MIT */
/*
 * Child processes. posix_spawn makes them: the C library shares the address space until the exec
 * (no page table is copied, however large we are) and brings a failed exec back as its result. The
 * loop stands still meanwhile, a millisecond or so. A pidfd stands for the child from then on: it
 * becomes readable at the end, and a signal sent by it never reaches a later process with the same
 * number.
 *
 * The child begins with no signal blocked: what fibril_signals_open blocks here must not stay
 * blocked in every program that is started.
 */
#include <fibril/io.h>

#include "base/alloc.h"
#include "io/op.h"
#include "io/reap.h"
#include "io/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { SOCKET = 3, PIPES };

struct fibril_process {
    pid_t pid;
    int pidfd;
    int pipes[PIPES]; /* our ends, or -1; the last is a socket */
    bool over;        /* reaped */
    int status;       /* as waitpid(2), when over; -ECHILD if somebody else has reaped it */
};

/* ---- starting -------------------------------------------------------------------------------- */

static void close_all(const int fds[PIPES])
{
    for (int i = 0; i < PIPES; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Moves *fd above the standard descriptors, where no dup2 in the child can hit it. */
static int lift(int *fd)
{
    if (*fd > 2) {
        return 0;
    }
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (high < 0) {
        return -errno;
    }
    close(*fd);
    *fd = high;
    return 0;
}

/* Our end is non-blocking; the child's is not, since programs expect that. */
static int make_pipe(bool child_reads, int *ret_ours, int *ret_child)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -errno;
    }
    *ret_ours = fds[child_reads];
    *ret_child = fds[!child_reads];
    int rc = lift(ret_ours);
    rc = rc < 0 ? rc : lift(ret_child);
    if (rc == 0 && fcntl(*ret_ours, F_SETFL, O_NONBLOCK) != 0) {
        rc = -errno;
    }
    return rc;
}

static int make_socket(int *ret_ours, int *ret_child)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return -errno;
    }
    *ret_ours = fds[0];
    *ret_child = fds[1];
    int rc = lift(ret_ours);
    rc = rc < 0 ? rc : lift(ret_child);
    if (rc == 0 && fcntl(*ret_ours, F_SETFL, O_NONBLOCK) != 0) {
        rc = -errno;
    }
    return rc;
}

static int make_pipes(const struct fibril_process_opts *opts, int ours[PIPES], int child[PIPES])
{
    const bool wanted[SOCKET] = {opts->pipe_stdin, opts->pipe_stdout, opts->pipe_stderr};
    int rc = 0;
    for (int i = 0; i < SOCKET && rc == 0; i++) {
        if (wanted[i]) {
            rc = make_pipe(i == 0, &ours[i], &child[i]);
        }
    }
    return rc == 0 && opts->socket ? make_socket(&ours[SOCKET], &child[SOCKET]) : rc;
}

/* What happens in the child before the exec. */
static int describe(const struct fibril_process_opts *opts, const int child[PIPES],
                    posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
    sigset_t none;
    sigemptyset(&none);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    rc = rc ? rc : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
    for (int i = 0; i < PIPES && rc == 0; i++) { /* the socket last: 3 may be a pipe's here */
        if (child[i] >= 0) {
            rc = posix_spawn_file_actions_adddup2(actions, child[i], i);
        }
    }
    if (rc == 0 && opts->cwd) {
        rc = posix_spawn_file_actions_addchdir_np(actions, opts->cwd);
    }
    return -rc;
}

static int spawn(const struct fibril_process_opts *opts, const int child[PIPES], pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return -ENOMEM;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int rc = describe(opts, child, &actions, &attr);
    if (rc == 0) {
        char *const *argv = (char *const *)(uintptr_t)opts->argv; /* only read */
        char *const *envp = opts->envp ? (char *const *)(uintptr_t)opts->envp : environ;
        rc = -posix_spawnp(ret_pid, argv[0], &actions, &attr, argv, envp);
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int open_pidfd(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        int rc = -errno;
        kill(pid, SIGKILL); /* not reaped yet, so the number is still its own */
        waitpid(pid, NULL, 0);
        return rc;
    }
    return (int)fd;
}

static int start(const struct fibril_process_opts *opts, struct fibril_process *p)
{
    int child[PIPES] = {-1, -1, -1, -1};
    int rc = make_pipes(opts, p->pipes, child);
    rc = rc < 0 ? rc : spawn(opts, child, &p->pid);
    rc = rc < 0 ? rc : open_pidfd(p->pid);
    close_all(child);
    if (rc < 0) {
        close_all(p->pipes);
        return rc;
    }
    p->pidfd = rc;
    return 0;
}

int fibril_process_start(const struct fibril_process_opts *opts,
                         struct fibril_process **ret_process)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (!opts->argv || !opts->argv[0]) {
        return -EINVAL;
    }
    if (fibril__sys_simulated()) {
        return -ENOSYS; /* no simulated run may depend on another process */
    }
    struct fibril_process *p = fibril__alloc(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct fibril_process){.pipes = {-1, -1, -1, -1}};
    int rc = start(opts, p);
    if (rc < 0) {
        fibril__free(p);
        return rc;
    }
    *ret_process = p;
    return 0;
}

/* ---- its life -------------------------------------------------------------------------------- */

pid_t fibril_process_pid(const struct fibril_process *p)
{
    return p->pid;
}

int fibril_process_pipe(const struct fibril_process *p, int which)
{
    return which >= 0 && which < SOCKET ? p->pipes[which] : -1;
}

int fibril_process_take_socket(struct fibril_process *p)
{
    int fd = p->pipes[SOCKET];
    p->pipes[SOCKET] = -1;
    return fd;
}

void fibril_process_close_pipe(struct fibril_process *p, int which)
{
    if (fibril_process_pipe(p, which) >= 0) {
        int fd = p->pipes[which];
        p->pipes[which] = -1;
        fibril_close(fd);
    }
}

static int status_of(const siginfo_t *info)
{
    int status = info->si_status;
    switch (info->si_code) {
    case CLD_EXITED: return (status & 0xff) << 8;
    case CLD_DUMPED: return status | WCOREFLAG;
    default: return status;
    }
}

/* Reaps it if it has ended; says whether that is so. */
static bool look(struct fibril_process *p)
{
    siginfo_t info = {.si_pid = 0};
    int rc = p->over ? 0 : waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG);
    if (rc < 0 && errno != EINTR) {
        p->over = true;
        p->status = -ECHILD; /* SIGCHLD is ignored, or somebody waits for any child */
    } else if (rc == 0 && info.si_pid != 0) {
        p->over = true;
        p->status = status_of(&info);
    }
    return p->over;
}

int fibril_process_wait(struct fibril_process *p, int64_t deadline_ns, int *ret_status)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    while (!look(p)) {
        int events = fibril_fd_wait(p->pidfd, POLLIN, deadline_ns);
        if (events < 0) {
            return events;
        }
    }
    if (p->status < 0) {
        return p->status;
    }
    if (ret_status) {
        *ret_status = p->status;
    }
    return 0;
}

int fibril_process_kill(struct fibril_process *p, int signo)
{
    if (look(p)) {
        return -ESRCH; /* the kernel would take a signal for a zombie */
    }
    return syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0) == 0 ? 0 : -errno;
}

/* The reaper gets a pidfd of its own: the number of ours goes through fibril_close as usual. */
void fibril_process_free(struct fibril_process *p)
{
    if (!p) {
        return;
    }
    for (int i = 0; i < SOCKET; i++) {
        fibril_process_close_pipe(p, i);
    }
    if (p->pipes[SOCKET] >= 0) {
        fibril_close(p->pipes[SOCKET]);
    }
    if (!look(p)) {
        int pidfd = fcntl(p->pidfd, F_DUPFD_CLOEXEC, 3);
        if (pidfd >= 0) {
            fibril__reap_later(pidfd);
        }
    }
    fibril_close(p->pidfd);
    fibril__free(p);
}
