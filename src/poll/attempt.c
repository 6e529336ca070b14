/* SPDX-License-Identifier: MIT */
/*
 * See attempt.h. A blocking pipe that polls writable has room for PIPE_BUF bytes, so it is given no
 * more than that at once; a blocking terminal promises less. A blocking socket that is to connect
 * is made non-blocking for that one call, because connect knows no MSG_DONTWAIT. Sockets never
 * raise SIGPIPE here, whichever operation writes to them.
 */
#include "poll/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DEVICE_ROOM = 256 }; /* a terminal says writable while it holds fewer characters than this */

int fibril__attempt_poll(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n;
    do {
        n = poll(&p, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return n < 0 ? -errno : 0;
    }
    return p.revents & POLLNVAL ? -EBADF : p.revents;
}

int fibril__attempt_connected(int fd)
{
    int rc = fibril__attempt_poll(fd, POLLOUT);
    if (rc <= 0) {
        return rc ? rc : -EAGAIN;
    }
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        return -errno;
    }
    return -error;
}

/* 1 if the call may be made now, else -errno. */
static int may_call(const struct fibril__fd_record *r, int fd, short events)
{
    if (LIKELY(!(r->flags & FIBRIL__FD_BLOCKING)) || r->kind == FIBRIL__KIND_FILE) {
        return 1;
    }
    int rc = fibril__attempt_poll(fd, events);
    return rc > 0 ? 1 : rc ? rc : -EAGAIN;
}

static int64_t socket_vector(struct fibril__op *op, bool out)
{
    struct iovec one = {.iov_base = op->buf, .iov_len = op->len};
    bool single = op->kind == FIBRIL__OP_READ || op->kind == FIBRIL__OP_WRITE;
    struct msghdr m = {.msg_iov = single ? &one : op->buf, .msg_iovlen = single ? 1 : op->len};
    ssize_t n =
        out ? sendmsg(op->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : recvmsg(op->fd, &m, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* A descriptor that was not looked at is taken for a socket first: then one call is enough. */
static bool is_socket(struct fibril__fd_record *r, struct fibril__op *op, bool out,
                      int64_t *ret_result)
{
    if (r->kind != FIBRIL__KIND_UNKNOWN && !fibril__fd_is_socket(r)) {
        return false;
    }
    *ret_result = socket_vector(op, out);
    return *ret_result != -ENOTSOCK;
}

static int look_at(struct fibril__fd_record *r, int fd)
{
    return r->kind == FIBRIL__KIND_UNKNOWN ? fibril__fd_classify(r, fd) : 0;
}

static int64_t read_some(struct fibril__fd_record *r, struct fibril__op *op)
{
    int64_t result;
    if (is_socket(r, op, /* out= */ false, &result)) {
        return result;
    }
    int rc = look_at(r, op->fd);
    rc = rc < 0 ? rc : may_call(r, op->fd, POLLIN);
    if (rc < 0) {
        return rc;
    }
    ssize_t n = op->kind == FIBRIL__OP_READV ? readv(op->fd, op->buf, (int)op->len)
                                             : read(op->fd, op->buf, op->len);
    return n < 0 ? -errno : n;
}

/* The first part of a vector that is not empty, and no more of it than `most`. */
static ssize_t write_part(int fd, const struct iovec *iov, size_t n, size_t most)
{
    while (n > 1 && iov->iov_len == 0) {
        iov++;
        n--;
    }
    return n ? write(fd, iov->iov_base, iov->iov_len < most ? iov->iov_len : most) : 0;
}

static int64_t write_some(struct fibril__fd_record *r, struct fibril__op *op)
{
    int64_t result;
    if (is_socket(r, op, /* out= */ true, &result)) {
        return result;
    }
    int rc = look_at(r, op->fd);
    rc = rc < 0 ? rc : may_call(r, op->fd, POLLOUT);
    if (rc < 0) {
        return rc;
    }
    struct iovec one = {.iov_base = op->buf, .iov_len = op->len};
    const struct iovec *iov = op->kind == FIBRIL__OP_WRITE ? &one : op->buf;
    size_t count = op->kind == FIBRIL__OP_WRITE ? 1 : op->len;
    ssize_t n;
    if ((r->flags & FIBRIL__FD_BLOCKING) && r->kind != FIBRIL__KIND_FILE) {
        n = write_part(op->fd, iov, count, r->kind == FIBRIL__KIND_PIPE ? PIPE_BUF : DEVICE_ROOM);
    } else {
        n = writev(op->fd, iov, (int)count);
    }
    return n < 0 ? -errno : n;
}

static int64_t accept_one(struct fibril__fd_record *r, struct fibril__op *op)
{
    int rc = look_at(r, op->fd);
    rc = rc < 0 ? rc : may_call(r, op->fd, POLLIN);
    if (rc < 0) {
        return rc;
    }
    int fd = accept4(op->fd, op->buf, op->buf ? &op->addr_len : NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int64_t connect_once(struct fibril__op *op)
{
    int status = fcntl(op->fd, F_GETFL);
    bool blocks = status >= 0 && !(status & O_NONBLOCK);
    if (blocks) {
        fcntl(op->fd, F_SETFL, status | O_NONBLOCK);
    }
    int64_t rc = connect(op->fd, op->buf, (socklen_t)op->len) < 0 ? -errno : 0;
    if (blocks) {
        fcntl(op->fd, F_SETFL, status);
    }
    return rc == -EINTR ? -EINPROGRESS : rc; /* an interrupted attempt goes on */
}

static int64_t attempt_once(struct fibril__fd_record *r, struct fibril__op *op)
{
    ssize_t n;
    switch (op->kind) {
    case FIBRIL__OP_RECV: n = recv(op->fd, op->buf, op->len, op->flags | MSG_DONTWAIT); break;
    case FIBRIL__OP_SEND:
        n = send(op->fd, op->buf, op->len, op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case FIBRIL__OP_RECVMSG: n = recvmsg(op->fd, op->buf, op->flags | MSG_DONTWAIT); break;
    case FIBRIL__OP_SENDMSG:
        n = sendmsg(op->fd, op->buf, op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case FIBRIL__OP_READ:
    case FIBRIL__OP_READV: return read_some(r, op);
    case FIBRIL__OP_WRITE:
    case FIBRIL__OP_WRITEV: return write_some(r, op);
    case FIBRIL__OP_ACCEPT: return accept_one(r, op);
    case FIBRIL__OP_CONNECT: return connect_once(op);
    case FIBRIL__OP_POLL: n = fibril__attempt_poll(op->fd, op->events); return n ? n : -EAGAIN;
    default: return -EOPNOTSUPP;
    }
    return n < 0 ? -errno : n;
}

int64_t fibril__attempt(struct fibril__fd_record *r, struct fibril__op *op)
{
    int64_t n;
    do {
        n = attempt_once(r, op);
    } while (UNLIKELY(n == -EINTR));
    return n;
}
