/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing any descriptor. What a descriptor is (users.h) decides how: a socket by RECV
 * and SEND, which need neither the non-blocking flag nor SIGPIPE care; a file by file.c; the rest
 * as a stream. Closing is in close.c.
 */
#include <fibril/io.h>

#include "base/iovec.h"
#include "io/file.h"
#include "io/op.h"
#include "io/sys.h"
#include "sched/users.h"

#include <poll.h>

/* Linux moves no more in one call. */
static size_t capped(size_t len)
{
    return len < 0x7ffff000 ? len : 0x7ffff000;
}

/* The sort of fd, -EPERM outside loops. */
static int sort_of(int fd)
{
    return LIKELY(fibril__loop) ? fibril__users_sort(fd) : -EPERM;
}

int fibril_fd_wait(int fd, short events, int64_t deadline_ns)
{
    int sort = sort_of(fd);
    if (sort < 0) {
        return sort;
    }
    if (sort == FIBRIL__FD_FILE) {
        return events & (POLLIN | POLLOUT); /* poll(2) says so too; epoll would refuse it */
    }
    int64_t result = fibril__io_ready(fd, events, deadline_ns);
    return result == -EPERM ? events & (POLLIN | POLLOUT) : (int)result;
}

/* The simulation's descriptors have no sort; vectors go to any of them. */
static ssize_t transfer_unknown(int kind, int fd, void *buf, size_t len, int64_t deadline_ns)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct fibril__io io = {.op = {.kind = (uint8_t)kind, .fd = fd, .buf = &iov, .len = 1}};
    return fibril__io_run(&io, deadline_ns);
}

ssize_t fibril_read(int fd, void *buf, size_t len, int64_t deadline_ns)
{
    int sort = sort_of(fd);
    if (sort < 0 || len == 0) {
        return sort < 0 ? sort : 0;
    }
    if (sort == FIBRIL__FD_FILE) {
        return fibril__file_read(fd, buf, len, FIBRIL__FILE_POSITION, deadline_ns);
    }
    if (sort == FIBRIL__FD_UNKNOWN) {
        return transfer_unknown(FIBRIL__OP_READV, fd, buf, capped(len), deadline_ns);
    }
    uint8_t kind = sort == FIBRIL__FD_SOCKET ? FIBRIL__OP_RECV : FIBRIL__OP_READ;
    struct fibril__io io = {.op = {.kind = kind, .fd = fd, .buf = buf, .len = capped(len)}};
    return fibril__io_run(&io, deadline_ns);
}

ssize_t fibril_write(int fd, const void *buf, size_t len, int64_t deadline_ns)
{
    int sort = sort_of(fd);
    if (sort < 0 || len == 0) {
        return sort < 0 ? sort : 0;
    }
    void *bytes = (void *)(uintptr_t)buf; /* only read */
    if (sort == FIBRIL__FD_FILE) {
        return fibril__file_write(fd, bytes, len, FIBRIL__FILE_POSITION, deadline_ns);
    }
    if (sort == FIBRIL__FD_UNKNOWN) {
        return transfer_unknown(FIBRIL__OP_WRITEV, fd, bytes, capped(len), deadline_ns);
    }
    uint8_t kind = sort == FIBRIL__FD_SOCKET ? FIBRIL__OP_SEND : FIBRIL__OP_WRITE;
    struct fibril__io io = {.op = {.kind = kind, .fd = fd, .buf = bytes, .len = capped(len)}};
    return fibril__io_run(&io, deadline_ns);
}

/* ---- vectors --------------------------------------------------------------------------------- */

/* The first piece that is not empty; there is one. */
static const struct iovec *first_piece(const struct iovec *iov)
{
    while (iov->iov_len == 0) {
        iov++;
    }
    return iov;
}

static ssize_t transfer_vector(bool writes, int fd, const struct iovec *iov, int n,
                               int64_t deadline_ns)
{
    size_t bytes;
    int rc = fibril__iovec_bytes(iov, n, &bytes);
    int sort = rc < 0 ? rc : sort_of(fd);
    if (sort < 0 || bytes == 0) {
        return sort < 0 ? sort : 0;
    }
    if (sort == FIBRIL__FD_FILE) { /* a piece at a time: a short count is allowed */
        iov = first_piece(iov);
        return writes ? fibril_write(fd, iov->iov_base, iov->iov_len, deadline_ns)
                      : fibril_read(fd, iov->iov_base, iov->iov_len, deadline_ns);
    }
    struct iovec *pieces = (struct iovec *)(uintptr_t)iov; /* only read */
    if (sort == FIBRIL__FD_SOCKET) { /* by message: writev would raise SIGPIPE */
        struct msghdr msg = {.msg_iov = pieces, .msg_iovlen = (size_t)n};
        uint8_t kind = writes ? FIBRIL__OP_SENDMSG : FIBRIL__OP_RECVMSG;
        struct fibril__io io = {.op = {.kind = kind, .fd = fd, .buf = &msg}};
        return fibril__io_run(&io, deadline_ns);
    }
    uint8_t kind = writes ? FIBRIL__OP_WRITEV : FIBRIL__OP_READV;
    struct fibril__io io = {.op = {.kind = kind, .fd = fd, .buf = pieces, .len = (size_t)n}};
    return fibril__io_run(&io, deadline_ns);
}

ssize_t fibril_readv(int fd, const struct iovec *iov, int n, int64_t deadline_ns)
{
    return transfer_vector(false, fd, iov, n, deadline_ns);
}

ssize_t fibril_writev(int fd, const struct iovec *iov, int n, int64_t deadline_ns)
{
    return transfer_vector(true, fd, iov, n, deadline_ns);
}

/* ---- all of it ------------------------------------------------------------------------------- */

ssize_t fibril_read_all(int fd, void *buf, size_t len, int64_t deadline_ns)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = fibril_read(fd, (char *)buf + at, len - at, deadline_ns);
        if (n <= 0) {
            return n < 0 ? n : -EPIPE;
        }
        at += (size_t)n;
    }
    return (ssize_t)len;
}

ssize_t fibril_write_all(int fd, const void *buf, size_t len, int64_t deadline_ns)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = fibril_write(fd, (const char *)buf + at, len - at, deadline_ns);
        if (n < 0) {
            return n;
        }
        at += (size_t)n;
    }
    return (ssize_t)len;
}

/* Drops the first `bytes` of the vector. */
static void advance(struct iovec **iov, int *n, size_t bytes)
{
    while (*n && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (bytes) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

ssize_t fibril_writev_all(int fd, struct iovec *iov, int n, int64_t deadline_ns)
{
    size_t bytes;
    int rc = fibril__iovec_bytes(iov, n, &bytes);
    if (rc < 0) {
        return rc;
    }
    for (size_t left = bytes; left;) {
        ssize_t sent = fibril_writev(fd, iov, n, deadline_ns);
        if (sent < 0) {
            return sent;
        }
        left -= (size_t)sent;
        advance(&iov, &n, (size_t)sent);
    }
    return (ssize_t)bytes;
}

int fibril_pipe(int ret_fds[2])
{
    return fibril__loop ? fibril__sys_pipe(ret_fds) : -EPERM;
}
