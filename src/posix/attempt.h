/* SPDX-License-Identifier: MIT */
/*
 * One attempt at reading or writing any descriptor that cannot block on anything but a disk,
 * whatever O_NONBLOCK says. In one system call where the kernel allows it: MSG_DONTWAIT for
 * sockets, RWF_NOWAIT for files in the page cache, pipes (from Linux 6.5 on) and some more. What
 * knows neither is asked by poll(2) first; if such a descriptor is shared with another process that
 * reads it between the two calls, the second one blocks: no call of the kernel's prevents that.
 */
#ifndef FIBRIL_POSIX_ATTEMPT_H
#define FIBRIL_POSIX_ATTEMPT_H

#include "posix/descriptor.h"

#include <sys/uio.h>

/* A vector and the sum of its lengths, which is not 0. */
struct fibril__vector {
    const struct iovec *iov;
    int n;
    size_t bytes;
};

/* Sums the lengths up. -EINVAL where the kernel says so too. */
int fibril__vector_of(const struct iovec *iov, int n, struct fibril__vector *ret_v);

/* The rest of v after `done` bytes, in `room` for v->n pieces. */
struct fibril__vector fibril__vector_rest(const struct fibril__vector *v, size_t done,
                                          struct iovec *room);

/* Bytes, or -errno. -EAGAIN: it would block, or the file's bytes are not in the page cache;
 * *ret_guess says which. A file is read up to its end or to what is not cached. */
int64_t fibril__attempt_read(int fd, const struct fibril__vector *v, enum fibril__guess *ret_guess);

/* Bytes, or -errno; -EAGAIN as above, a file being left alone. May raise SIGPIPE. */
int64_t fibril__attempt_write(int fd, const struct fibril__vector *v,
                              enum fibril__guess *ret_guess);

#endif
