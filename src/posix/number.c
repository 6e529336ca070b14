/* SPDX-License-Identifier: MIT */
/*
 * Calls that make descriptor numbers mean something else. A loop keeps a record of each number it
 * has waited on; close and dup2 end those waits with EBADF and drop the record. Some descriptors
 * are closed where we do not see it (fclose, libraries that call the kernel, OS threads without a
 * loop): so a call that makes a descriptor drops what is left under its number.
 */
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <fibril/io.h>

/* ---- ending ---------------------------------------------------------------------------------- */

int fibril_posix_close(int fd)
{
    fibril__fd_unguess(fd);
    if (!fibril__on_loop()) {
        return close(fd);
    }
    int saved = errno;
    return (int)fibril__posix_result(fibril_close(fd), saved);
}

/* Whoever waits on `to` gets EBADF, unless the call will fail. */
static int make_way(int from, int to)
{
    if (to < 0 || fcntl(from, F_GETFD) < 0) {
        return 0; /* the call itself says so */
    }
    fibril__fd_unguess(to);
    return fibril_embed_forget(to);
}

int fibril_posix_dup2(int from, int to)
{
    if (!fibril__on_loop() || from == to) {
        return dup2(from, to);
    }
    int saved = errno, rc = make_way(from, to);
    if (rc < 0) {
        return (int)fibril__posix_result(-EBUSY, saved); /* a close of it is under way */
    }
    errno = saved;
    return dup2(from, to);
}

int fibril_posix_dup3(int from, int to, int flags)
{
    if (!fibril__on_loop() || from == to || (flags & ~O_CLOEXEC)) {
        return dup3(from, to, flags);
    }
    int saved = errno, rc = make_way(from, to);
    if (rc < 0) {
        return (int)fibril__posix_result(-EBUSY, saved);
    }
    errno = saved;
    return dup3(from, to, flags);
}

/* ---- making ---------------------------------------------------------------------------------- */

static int born(int fd)
{
    return fibril__on_loop() ? fibril__fd_born(fd) : fd;
}

static int born_pair(int rc, const int fds[2])
{
    if (rc == 0 && fibril__on_loop()) {
        fibril__fd_born(fds[0]);
        fibril__fd_born(fds[1]);
    }
    return rc;
}

int fibril_posix_dup(int fd)
{
    return born(dup(fd));
}

int fibril_posix_pipe(int fds[2])
{
    return born_pair(pipe(fds), fds);
}

int fibril_posix_pipe2(int fds[2], int flags)
{
    return born_pair(pipe2(fds, flags), fds);
}

int fibril_posix_eventfd(unsigned count, int flags)
{
    return born(eventfd(count, flags));
}

int fibril_posix_timerfd_create(clockid_t clock, int flags)
{
    return born(timerfd_create(clock, flags));
}

int fibril_posix_inotify_init1(int flags)
{
    return born(inotify_init1(flags));
}

/* A set given to a signalfd that exists changes it, and makes none. */
int fibril_posix_signalfd(int fd, const sigset_t *set, int flags)
{
    int made = signalfd(fd, set, flags);
    return fd < 0 ? born(made) : made;
}

int fibril_posix_epoll_create(int size)
{
    return born(epoll_create(size));
}

int fibril_posix_epoll_create1(int flags)
{
    return born(epoll_create1(flags));
}

int fibril_posix_socket(int domain, int type, int protocol)
{
    return born(socket(domain, type, protocol));
}

int fibril_posix_socketpair(int domain, int type, int protocol, int fds[2])
{
    return born_pair(socketpair(domain, type, protocol, fds), fds);
}
