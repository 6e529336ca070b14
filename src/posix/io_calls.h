/* SPDX-License-Identifier: MIT */
/* The covered calls on descriptors and time, declared with the very type that libc gives to its
 * own. */
#ifndef FIBRIL_POSIX_IO_CALLS_H
#define FIBRIL_POSIX_IO_CALLS_H

#include "posix/layer.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* What the compiler makes of calls when it knows the size of the buffer (_FORTIFY_SOURCE). libc
 * declares these only then. */
extern ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
extern ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t room);
extern ssize_t __pread64_chk(int fd, void *buf, size_t len, off_t offset, size_t room);
extern ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
extern ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t room, int flags,
                              struct sockaddr *from, socklen_t *from_len);
extern int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room);
extern int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask, size_t room);
extern int __open_2(const char *path, int flags);
extern int __openat_2(int dirfd, const char *path, int flags);
NORETURN extern void __chk_fail(void);

#define COVERS_IO(name) extern __typeof__(name) fibril_posix_##name

/* stream.c */
COVERS_IO(read);
COVERS_IO(readv);
COVERS_IO(write);
COVERS_IO(writev);
COVERS_IO(__read_chk);

/* position.c */
COVERS_IO(pread);
COVERS_IO(preadv);
COVERS_IO(preadv2);
COVERS_IO(pwrite);
COVERS_IO(pwritev);
COVERS_IO(pwritev2);
COVERS_IO(__pread_chk);

/* number.c */
COVERS_IO(close);
COVERS_IO(dup);
COVERS_IO(dup2);
COVERS_IO(dup3);
COVERS_IO(close_range);
COVERS_IO(closefrom);
COVERS_IO(pipe);
COVERS_IO(pipe2);
COVERS_IO(socket);
COVERS_IO(socketpair);
COVERS_IO(eventfd);
COVERS_IO(timerfd_create);
COVERS_IO(inotify_init1);
COVERS_IO(signalfd);
COVERS_IO(epoll_create);
COVERS_IO(epoll_create1);

/* splice.c */
COVERS_IO(splice);
COVERS_IO(tee);
COVERS_IO(sendfile);

/* receive.c, send.c, socket.c */
COVERS_IO(recv);
COVERS_IO(recvmsg);
COVERS_IO(recvmmsg);
COVERS_IO(__recv_chk);
COVERS_IO(__recvfrom_chk);
COVERS_IO(send);
COVERS_IO(sendmsg);
COVERS_IO(sendmmsg);
COVERS_IO(shutdown);
/* libc's own have a union of all kinds of addresses here. */
extern ssize_t fibril_posix_recvfrom(int fd, void *buf, size_t len, int flags,
                                     struct sockaddr *from, socklen_t *from_len);
extern ssize_t fibril_posix_sendto(int fd, const void *buf, size_t len, int flags,
                                   const struct sockaddr *to, socklen_t to_len);
extern int fibril_posix_accept(int fd, struct sockaddr *addr, socklen_t *len);
extern int fibril_posix_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
extern int fibril_posix_connect(int fd, const struct sockaddr *addr, socklen_t len);
COVERS_IO(setsockopt);

/* poll.c, select.c, epoll.c */
COVERS_IO(poll);
COVERS_IO(ppoll);
COVERS_IO(__poll_chk);
COVERS_IO(__ppoll_chk);
COVERS_IO(select);
COVERS_IO(pselect);
COVERS_IO(epoll_wait);
COVERS_IO(epoll_pwait);
COVERS_IO(epoll_pwait2);

/* open.c, file.c */
COVERS_IO(open);
COVERS_IO(openat);
COVERS_IO(creat);
COVERS_IO(__open_2);
COVERS_IO(__openat_2);
COVERS_IO(fsync);
COVERS_IO(fdatasync);
COVERS_IO(flock);
COVERS_IO(fcntl);
COVERS_IO(lockf);

/* sleep.c */
COVERS_IO(sleep);
COVERS_IO(usleep);
COVERS_IO(nanosleep);
COVERS_IO(clock_nanosleep);
COVERS_IO(sched_yield);

/* The row of a call under another of its names. */
#define FIBRIL__CALL_AS(alias, name)                                                               \
    {                                                                                              \
#alias, (void (*)(void))fibril_posix_##name, false, NULL                                   \
    }

/* On the systems we know these are the same calls under both names. */
_Static_assert(sizeof(off_t) == 8, "off_t is off64_t");

#endif
