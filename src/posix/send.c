/* SPDX-License-Identifier: MIT */
/*
 * send and its kin: the call itself with MSG_DONTWAIT. A blocking stream socket takes all of it, so
 * what was not taken is sent when there is room. The call is always the kernel's own, hence SIGPIPE
 * comes as it does there; not after a part has been sent, since then the count is the answer.
 */
#include "base/alloc.h"
#include "posix/attempt.h"
#include "posix/io_calls.h"

enum { PIECES_ON_STACK = 16 };

static bool may_wait(int fd, int flags)
{
    return !(flags & MSG_DONTWAIT) && fibril__fd_blocks(fd);
}

static int64_t send_now(int fd, const struct msghdr *m, int flags)
{
    ssize_t n = sendmsg(fd, m, flags | MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* Control data and address have gone with the first part. */
static void only_rest(struct msghdr *m, const struct fibril__vector *v, size_t done,
                      struct iovec *room)
{
    struct fibril__vector rest = fibril__vector_rest(v, done, room);
    if (done > 0) {
        *m = (struct msghdr){.msg_name = NULL};
    }
    m->msg_iov = room;
    m->msg_iovlen = (size_t)rest.n;
}

/* n is what the attempt came to. `room` has as many pieces as m. */
static int64_t send_rest(int fd, const struct msghdr *m, int flags, int64_t n, struct iovec *room)
{
    struct fibril__vector v;
    int rc = fibril__vector_of(m->msg_iov, (int)m->msg_iovlen, &v);
    if (rc < 0) {
        return rc;
    }
    int64_t deadline_ns = fibril__fd_deadline(fd, SO_SNDTIMEO), done = n > 0 ? n : 0;
    while (n == -EAGAIN || done < (int64_t)v.bytes) {
        rc = fibril__fd_await_socket(fd, POLLOUT, deadline_ns);
        if (rc < 0) {
            return done ? done : rc;
        }
        struct msghdr rest = *m;
        only_rest(&rest, &v, (size_t)done, room);
        n = send_now(fd, &rest, flags | (done ? MSG_NOSIGNAL : 0));
        if (n < 0 && n != -EAGAIN) {
            return done ? done : n;
        }
        done += n > 0 ? n : 0;
        fibril_embed_spend();
    }
    return done;
}

static NOINLINE int64_t send_waiting(int fd, const struct msghdr *m, int flags, int64_t n)
{
    if (!may_wait(fd, flags)) {
        fibril_embed_spend();
        return n;
    }
    if (m->msg_iovlen <= PIECES_ON_STACK) {
        struct iovec room[PIECES_ON_STACK];
        return send_rest(fd, m, flags, n, room);
    }
    struct iovec *room = fibril__alloc(m->msg_iovlen * sizeof(*room));
    if (!room) {
        return n > 0 ? n : -ENOMEM;
    }
    n = send_rest(fd, m, flags, n, room);
    fibril__free(room);
    return n;
}

ssize_t fibril_posix_sendto(int fd, const void *buf, size_t len, int flags,
                            const struct sockaddr *to, socklen_t to_len)
{
    if (!fibril__on_loop()) {
        return sendto(fd, buf, len, flags, to, to_len);
    }
    int saved = errno;
    int64_t n = sendto(fd, buf, len, flags | MSG_DONTWAIT, to, to_len);
    if (LIKELY(n == (int64_t)len)) {
        fibril_embed_spend();
        errno = saved;
        return n;
    }
    n = n < 0 ? -errno : n;
    if (n >= 0 || n == -EAGAIN) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len}; /* only read */
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_name = (void *)(uintptr_t)to, /* only read */
                           .msg_namelen = to ? to_len : 0};
        n = send_waiting(fd, &m, flags, n);
    }
    return fibril__posix_result(n, saved);
}

ssize_t fibril_posix_send(int fd, const void *buf, size_t len, int flags)
{
    return fibril_posix_sendto(fd, buf, len, flags, NULL, 0);
}

/* ---- messages -------------------------------------------------------------------------------- */

static int64_t send_message(int fd, const struct msghdr *m, int flags)
{
    int64_t n = send_now(fd, m, flags);
    size_t bytes = 0;
    for (size_t i = 0; n >= 0 && i < m->msg_iovlen; i++) {
        bytes += m->msg_iov[i].iov_len;
    }
    if (UNLIKELY(n == -EAGAIN || (n >= 0 && (size_t)n < bytes))) {
        return send_waiting(fd, m, flags, n);
    }
    fibril_embed_spend();
    return n;
}

ssize_t fibril_posix_sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (!fibril__on_loop()) {
        return sendmsg(fd, m, flags);
    }
    int saved = errno;
    return fibril__posix_result(send_message(fd, m, flags), saved);
}

/* An error after the first message shows with the next call. */
int fibril_posix_sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
    if (!fibril__on_loop() || n == 0) {
        return sendmmsg(fd, v, n, flags);
    }
    int saved = errno;
    unsigned done = 0, most = n < 1024 ? n : 1024; /* the kernel takes no more either */
    int64_t rc = 0;
    while (done < most) {
        rc = send_message(fd, &v[done].msg_hdr, flags);
        if (rc < 0) {
            break;
        }
        v[done++].msg_len = (unsigned)rc;
    }
    return (int)fibril__posix_result(done ? (int64_t)done : rc, saved);
}
