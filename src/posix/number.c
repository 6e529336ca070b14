/* SPDX-License-Identifier: MIT */
/*
 * Calls that make descriptor numbers mean something else. A loop keeps a record of each number it
 * has waited on; close and dup2 end those waits with EBADF and drop the record, also on an OS
 * thread without a loop. Some descriptors are closed where we do not see it (fclose, libraries that
 * call the kernel, signal handlers on a loop): so a call that makes a descriptor drops what is left
 * under its number. What closes a whole range leaves out the descriptors that the loops live on.
 */
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <limits.h>

/* ---- ending ---------------------------------------------------------------------------------- */

/* Not in handlers and the like, which may have interrupted the loop itself. */
static bool is_outside(void)
{
    return !fibril_loop_current();
}

int fibril_posix_close(int fd)
{
    fibril__fd_unguess(fd);
    if (!fibril__on_loop()) {
        if (is_outside()) {
            int saved = errno;
            fibril_embed_forget(fd);
            errno = saved;
        }
        return close(fd);
    }
    int saved = errno;
    return (int)fibril__posix_result(fibril_close(fd), saved);
}

/* Whoever waits on `to` gets EBADF, unless the call will fail. Returns a negative errno if a close
 * of it is under way. */
static int make_way(int from, int to)
{
    if (to < 0 || fcntl(from, F_GETFD) < 0) {
        return 0; /* the call itself says so */
    }
    fibril__fd_unguess(to);
    return fibril_embed_forget(to);
}

/* 0 if the number `to` is free to be another's; errno is as it was. */
static int give_over(int from, int to)
{
    bool uses = fibril__on_loop() || (is_outside() && fibril_embed_used(to, to) == to);
    if (!uses || from == to) {
        return 0;
    }
    int saved = errno, rc = make_way(from, to);
    errno = saved;
    return rc < 0 ? -EBUSY : 0;
}

int fibril_posix_dup2(int from, int to)
{
    int rc = give_over(from, to);
    return rc < 0 ? (int)fibril__posix_result(rc, errno) : dup2(from, to);
}

int fibril_posix_dup3(int from, int to, int flags)
{
    int rc = flags & ~O_CLOEXEC ? 0 : give_over(from, to);
    return rc < 0 ? (int)fibril__posix_result(rc, errno) : dup3(from, to, flags);
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static void forget_range(int first, int last)
{
    for (int fd = first; fd <= last && fd < FIBRIL__GUESSES; fd++) {
        fibril__fd_unguess(fd);
    }
    for (int fd = first; (fd = fibril_embed_used(fd, last)) >= 0 && fd < last; fd++) {
        fibril_embed_forget(fd);
    }
    if (fibril_embed_used(last, last) == last) {
        fibril_embed_forget(last);
    }
}

/* The range in pieces, around what the loops live on. */
static int close_pieces(unsigned first, unsigned last, int flags)
{
    int rc = 0, end = last > INT_MAX ? INT_MAX : (int)last, owned;
    while (rc == 0 && first <= (unsigned)end &&
           (owned = fibril_embed_owned((int)first, end)) >= 0) {
        rc = (unsigned)owned > first ? close_range(first, (unsigned)owned - 1, flags) : 0;
        first = (unsigned)owned + 1;
    }
    return rc == 0 && first <= last ? close_range(first, last, flags) : rc;
}

int fibril_posix_close_range(unsigned first, unsigned last, int flags)
{
    bool acts = (fibril__on_loop() || is_outside()) && first <= last && first <= INT_MAX;
    if (!acts || (flags & CLOSE_RANGE_CLOEXEC) || (flags & ~(int)CLOSE_RANGE_UNSHARE)) {
        return close_range(first, last, flags);
    }
    int saved = errno;
    forget_range((int)first, last > INT_MAX ? INT_MAX : (int)last);
    errno = saved;
    return close_pieces(first, last, flags);
}

void fibril_posix_closefrom(int first)
{
    fibril_posix_close_range(first < 0 ? 0 : (unsigned)first, UINT_MAX, 0);
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
