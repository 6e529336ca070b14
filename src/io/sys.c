/* SPDX-License-Identifier: MIT */
/*
 * See sys.h. The calls that create descriptors always make them non-blocking: the epoll poller
 * would have to set that later, and a descriptor that is ours from birth is nobody else's to be
 * surprised by it.
 */
#include "io/sys.h"

#include "sched/current.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static inline const struct fibril__sys *simulation(void)
{
    return fibril__loop->poller->sys;
}

bool fibril__sys_simulated(void)
{
    return simulation() != NULL;
}

int fibril__sys_socket(int domain, int type)
{
    if (simulation()) {
        return simulation()->socket(fibril__loop->poller, domain, type);
    }
    int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int fibril__sys_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (simulation()) {
        return simulation()->bind(fibril__loop->poller, fd, addr, len);
    }
    return bind(fd, addr, len) == 0 ? 0 : -errno;
}

int fibril__sys_listen(int fd, int backlog)
{
    if (simulation()) {
        return simulation()->listen(fibril__loop->poller, fd, backlog);
    }
    return listen(fd, backlog) == 0 ? 0 : -errno;
}

int fibril__sys_pipe(int ret_fds[2])
{
    if (simulation()) {
        return simulation()->pipe(fibril__loop->poller, ret_fds);
    }
    return pipe2(ret_fds, O_NONBLOCK | O_CLOEXEC) == 0 ? 0 : -errno;
}

int fibril__sys_shutdown(int fd, int how)
{
    if (simulation()) {
        return simulation()->shutdown(fibril__loop->poller, fd, how);
    }
    return shutdown(fd, how) == 0 ? 0 : -errno;
}

int fibril__sys_getname(int fd, bool peer, struct sockaddr *addr, socklen_t *len)
{
    if (simulation()) {
        return simulation()->getname(fibril__loop->poller, fd, peer, addr, len);
    }
    return (peer ? getpeername(fd, addr, len) : getsockname(fd, addr, len)) == 0 ? 0 : -errno;
}

int fibril__sys_close(int fd)
{
    if (simulation() && simulation()->close) {
        int rc = simulation()->close(fibril__loop->poller, fd);
        if (rc != -EBADF) {
            return rc; /* else a descriptor of the kernel's, in a simulated program */
        }
    }
    /* Linux has freed the number when it says EINTR; a second close would hit somebody else's. */
    return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

int fibril__sys_set(int fd, int level, int option, int value)
{
    if (simulation()) {
        return 0;
    }
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

bool fibril__sys_is_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK);
}

/* ---- one attempt ----------------------------------------------------------------------------- */

int64_t fibril__sys_attempt(struct fibril__op *op)
{
    struct fibril__poller *p = fibril__loop->poller;
    return p->ops->attempt(p, op);
}

/* ---- SIGPIPE --------------------------------------------------------------------------------- */

static void nothing(int signo)
{
    (void)signo;
}

void fibril__sys_guard_pipes(void)
{
    static _Atomic bool done;
    if (atomic_load_explicit(&done, memory_order_relaxed)) {
        return;
    }
    struct sigaction now, ours = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    if (sigaction(SIGPIPE, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
        now.sa_handler == SIG_DFL) {
        sigaction(SIGPIPE, &ours, NULL);
    }
    atomic_store_explicit(&done, true, memory_order_relaxed);
}
