/* SPDX-License-Identifier: MIT */
/*
 * recv and its kin: the call itself with MSG_DONTWAIT, and where that says EAGAIN on a blocking
 * socket, a wait. With data there, that is one system call. A plain recv that waits is left to the
 * core, which receives as soon as something comes; the others wait for readiness and try again. A
 * socket on which a recv had to wait is one that asks and is answered: its next ones go to the core
 * at once, without an attempt that would be in vain.
 */
#include "base/alloc.h"
#include "posix/attempt.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <string.h>

enum {
    PIECES_ON_STACK = 16,
    PEEK_NAP_NS = 1000000, /* between looks for more bytes that nothing announces */
};

/* Calls that never wait: the error queue, urgent data, those told not to. */
static bool may_wait(int fd, int flags)
{
    return !(flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB)) && fibril__fd_blocks(fd);
}

/* Gives up a receive that would block, letting others run: the caller may well ask in a loop. */
static int64_t would_block(void)
{
    fibril_embed_spend();
    return -EAGAIN;
}

/* ---- recv, recvfrom -------------------------------------------------------------------------- */

struct receive {
    int fd, flags;
    void *buf;
    size_t len;
    struct sockaddr *from; /* NULL: not asked for */
    socklen_t *from_len;
};

static int64_t receive_now(const struct receive *r)
{
    ssize_t n = recvfrom(r->fd, r->buf, r->len, r->flags | MSG_DONTWAIT, r->from, r->from_len);
    return n < 0 ? -errno : n;
}

static int64_t receive_by_core(const struct receive *r, int64_t deadline_ns)
{
    int64_t n;
    do {
        n = fibril_recv(r->fd, r->buf, r->len, 0, deadline_ns);
    } while (fibril__fd_again(n, deadline_ns));
    return n == -ETIMEDOUT && fibril_now() >= deadline_ns ? -EAGAIN : n;
}

static int64_t receive_waiting(const struct receive *r, int64_t deadline_ns)
{
    if (r->flags == 0 && !r->from && r->len > 0) {
        fibril__fd_expect_wait(r->fd);
        return receive_by_core(r, deadline_ns);
    }
    for (;;) {
        int rc = fibril__fd_await_socket(r->fd, POLLIN, deadline_ns);
        if (rc < 0) {
            return rc;
        }
        int64_t n = receive_now(r);
        if (n != -EAGAIN) {
            return n;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool has_ended(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, /* timeout= */ 0) != 0;
}

/* Until there are that many bytes to be peeked at: no edge says so, for some are there already. */
static int64_t peek_all(const struct receive *r, int64_t n, int64_t deadline_ns)
{
    while (n > 0 && (size_t)n < r->len && fibril_now() < deadline_ns && !has_ended(r->fd)) {
        if (fibril_sleep(PEEK_NAP_NS) < 0) {
            break;
        }
        int64_t now = receive_now(r);
        n = now > 0 ? now : n;
    }
    return n;
}

/* MSG_WAITALL: goes on after n bytes until all are there, the stream ends or fails. */
static int64_t receive_all(struct receive r, int64_t n, int64_t deadline_ns)
{
    if (n <= 0 || (size_t)n >= r.len || !is_stream(r.fd)) {
        return n;
    }
    if (r.flags & MSG_PEEK) {
        return peek_all(&r, n, deadline_ns);
    }
    int64_t done = n;
    r.flags &= ~MSG_WAITALL;
    for (size_t all = r.len; (size_t)done < all;) {
        r.buf = (char *)r.buf + n;
        r.len = all - (size_t)done;
        n = receive_waiting(&r, deadline_ns);
        if (n <= 0) {
            break;
        }
        done += n;
    }
    return done;
}

/* What the attempt came to is not the answer yet: EAGAIN, or less than MSG_WAITALL asks for. */
static NOINLINE int64_t receive_slowly(const struct receive *r, int64_t n)
{
    if (n < 0 && n != -EAGAIN) {
        return n;
    }
    if (n >= 0 && (size_t)n == r->len) {
        return n;
    }
    if (!may_wait(r->fd, r->flags)) {
        return n < 0 ? would_block() : n;
    }
    int64_t deadline_ns = fibril__fd_deadline(r->fd, SO_RCVTIMEO);
    if (n < 0) {
        n = receive_waiting(r, deadline_ns);
    }
    return r->flags & MSG_WAITALL ? receive_all(*r, n, deadline_ns) : n;
}

ssize_t fibril_posix_recv(int fd, void *buf, size_t len, int flags)
{
    if (!fibril__on_loop()) {
        return recv(fd, buf, len, flags);
    }
    int saved = errno;
    struct receive r = {.fd = fd, .flags = flags, .buf = buf, .len = len};
    if (flags == 0 && len > 0 && fibril__fd_expects_wait(fd) && fibril__fd_blocks(fd)) {
        int64_t n = receive_by_core(&r, fibril__fd_deadline(fd, SO_RCVTIMEO));
        return fibril__posix_result(n, saved);
    }
    int64_t n = recv(fd, buf, len, flags | MSG_DONTWAIT);
    if (UNLIKELY(n < 0 || (flags & MSG_WAITALL))) {
        n = receive_slowly(&r, n < 0 ? -errno : n);
        return fibril__posix_result(n, saved);
    }
    fibril_embed_spend();
    errno = saved;
    return n;
}

ssize_t fibril_posix_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
                              socklen_t *from_len)
{
    if (!fibril__on_loop()) {
        return recvfrom(fd, buf, len, flags, from, from_len);
    }
    int saved = errno;
    struct receive r = {
        .fd = fd, .flags = flags, .buf = buf, .len = len, .from = from, .from_len = from_len};
    int64_t n = receive_now(&r);
    if (n < 0 || (flags & MSG_WAITALL)) {
        n = receive_slowly(&r, n);
    } else {
        fibril_embed_spend();
    }
    return fibril__posix_result(n, saved);
}

ssize_t fibril_posix___recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
    if (len > room) {
        __chk_fail();
    }
    return fibril_posix_recv(fd, buf, len, flags);
}

ssize_t fibril_posix___recvfrom_chk(int fd, void *buf, size_t len, size_t room, int flags,
                                    struct sockaddr *from, socklen_t *from_len)
{
    if (len > room) {
        __chk_fail();
    }
    return fibril_posix_recvfrom(fd, buf, len, flags, from, from_len);
}

/* ---- recvmsg --------------------------------------------------------------------------------- */

/* Descriptors that came with the message (also with one that was only peeked at) are new. */
static void note_descriptors(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
                fibril__fd_born(fd);
            }
        }
    }
}

static int64_t message_now(int fd, struct msghdr *m, int flags)
{
    ssize_t n = recvmsg(fd, m, flags | MSG_DONTWAIT);
    if (n >= 0 && m->msg_controllen > 0) {
        note_descriptors(m);
    }
    return n < 0 ? -errno : n;
}

static int64_t message_waiting(int fd, struct msghdr *m, int flags, int64_t deadline_ns)
{
    for (;;) {
        int rc = fibril__fd_await_socket(fd, POLLIN, deadline_ns);
        if (rc < 0) {
            return rc;
        }
        int64_t n = message_now(fd, m, flags);
        if (n != -EAGAIN) {
            return n;
        }
        fibril_embed_spend();
    }
}

/* The rest of a stream's bytes, without control data: the first part had that. */
static int64_t message_rest(int fd, const struct fibril__vector *v, int64_t done,
                            struct iovec *room, int64_t deadline_ns)
{
    while (done < (int64_t)v->bytes) {
        struct fibril__vector rest = fibril__vector_rest(v, (size_t)done, room);
        struct msghdr m = {.msg_iov = room, .msg_iovlen = (size_t)rest.n};
        int64_t n = message_waiting(fd, &m, 0, deadline_ns);
        if (n <= 0) {
            return done;
        }
        done += n;
    }
    return done;
}

static int64_t message_all(int fd, const struct msghdr *m, int flags, int64_t n,
                           int64_t deadline_ns)
{
    struct fibril__vector v;
    struct iovec room[PIECES_ON_STACK];
    if (n <= 0 || (flags & MSG_PEEK) || fibril__vector_of(m->msg_iov, (int)m->msg_iovlen, &v) < 0 ||
        n >= (int64_t)v.bytes || !is_stream(fd)) {
        return n;
    }
    if (v.n <= PIECES_ON_STACK) {
        return message_rest(fd, &v, n, room, deadline_ns);
    }
    struct iovec *heap = fibril__alloc((size_t)v.n * sizeof(*heap));
    n = heap ? message_rest(fd, &v, n, heap, deadline_ns) : n;
    fibril__free(heap);
    return n;
}

ssize_t fibril_posix_recvmsg(int fd, struct msghdr *m, int flags)
{
    if (!fibril__on_loop()) {
        return recvmsg(fd, m, flags);
    }
    int saved = errno;
    int64_t n = message_now(fd, m, flags);
    if (n >= 0 && !(flags & MSG_WAITALL)) {
        fibril_embed_spend();
    } else if (n >= 0 || n == -EAGAIN) {
        if (may_wait(fd, flags)) {
            int64_t deadline_ns = fibril__fd_deadline(fd, SO_RCVTIMEO);
            n = n < 0 ? message_waiting(fd, m, flags, deadline_ns) : n;
            n = flags & MSG_WAITALL ? message_all(fd, m, flags, n, deadline_ns) : n;
        } else if (n < 0) {
            n = would_block();
        }
    }
    return fibril__posix_result(n, saved);
}

/* ---- recvmmsg -------------------------------------------------------------------------------- */

/* Some messages, or -errno; a timeout counts while nothing comes, which the kernel's does not. */
static int64_t messages(int fd, struct mmsghdr *v, unsigned n, int flags, int64_t deadline_ns)
{
    unsigned done = 0;
    int64_t own_ns = INT64_MIN; /* the socket's timeout, when it has been asked for */
    for (;;) {
        int got = recvmmsg(fd, v + done, n - done, flags | MSG_DONTWAIT, NULL);
        int error = got < 0 ? -errno : 0;
        for (int i = 0; i < got; i++) {
            note_descriptors(&v[done + (unsigned)i].msg_hdr);
        }
        done += got > 0 ? (unsigned)got : 0;
        if (done == n || (error && error != -EAGAIN) || (done && (flags & MSG_WAITFORONE))) {
            return done ? (int64_t)done : error;
        }
        if (own_ns == INT64_MIN) {
            if (!may_wait(fd, flags)) {
                return done ? (int64_t)done : would_block();
            }
            own_ns = fibril__fd_deadline(fd, SO_RCVTIMEO);
            own_ns = own_ns < deadline_ns ? own_ns : deadline_ns;
        }
        int rc = fibril__fd_await_socket(fd, POLLIN, own_ns);
        if (rc < 0) {
            return done ? (int64_t)done : rc;
        }
    }
}

int fibril_posix_recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags,
                          struct timespec *timeout)
{
    if (!fibril__on_loop() || n == 0) {
        return recvmmsg(fd, v, n, flags, timeout);
    }
    int saved = errno;
    int64_t deadline_ns;
    int64_t rc = fibril__deadline_in(timeout, &deadline_ns);
    rc = rc < 0 ? rc : messages(fd, v, n, flags, deadline_ns);
    fibril_embed_spend();
    return (int)fibril__posix_result(rc, saved);
}
