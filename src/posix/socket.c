/* SPDX-License-Identifier: MIT */
/*
 * Calls on connections: accept, connect, shutdown, setsockopt.
 *
 * accept knows no MSG_DONTWAIT, so poll(2) is asked first. Where another process takes the
 * connection between the two calls from a listener that is shared and blocking, the second one
 * waits on the OS thread: rejected was to make the listener non-blocking meanwhile, which the
 * others would notice. What accept returns is what the kernel made: blocking, unless the caller's
 * flags say otherwise.
 */
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <string.h>

/* ---- accept ---------------------------------------------------------------------------------- */

static int accept_now(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, /* timeout= */ 0) == 0) {
        return -EAGAIN;
    }
    int made = accept4(fd, addr, len, flags);
    return made < 0 ? -errno : fibril__fd_born(made);
}

static bool listens(int fd)
{
    int on = 0;
    socklen_t len = sizeof(on);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

static int accept_waiting(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    if (!listens(fd)) {
        return accept4(fd, addr, len, flags) < 0 ? -errno : -EINVAL; /* fails at once */
    }
    if (!fibril__fd_blocks(fd)) {
        fibril_embed_spend();
        return -EAGAIN;
    }
    int64_t deadline_ns = fibril__fd_deadline(fd, SO_RCVTIMEO);
    for (;;) {
        int rc = fibril__fd_await_socket(fd, POLLIN, deadline_ns);
        rc = rc < 0 ? rc : accept_now(fd, addr, len, flags);
        if (rc != -EAGAIN || (deadline_ns != FIBRIL_FOREVER && fibril_now() >= deadline_ns)) {
            return rc;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

int fibril_posix_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    if (!fibril__on_loop()) {
        return accept4(fd, addr, len, flags);
    }
    int saved = errno, rc = accept_now(fd, addr, len, flags);
    if (rc == -EAGAIN) {
        rc = accept_waiting(fd, addr, len, flags);
    }
    fibril_embed_spend();
    return (int)fibril__posix_result(rc, saved);
}

int fibril_posix_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return fibril_posix_accept4(fd, addr, len, 0);
}

/* ---- connect --------------------------------------------------------------------------------- */

/* An attempt is under way: what it comes to. */
static int connected(int fd, int64_t deadline_ns)
{
    int rc = fibril__fd_await(fd, POLLOUT, deadline_ns);
    if (rc < 0) {
        return rc == -ETIMEDOUT ? -EINPROGRESS : rc; /* as SO_SNDTIMEO ends it */
    }
    int error = 0;
    socklen_t len = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

/* The core makes the attempt; one that is given up goes on in the kernel. */
static int connect_waiting(int fd, const struct fibril_addr *to)
{
    int64_t deadline_ns = fibril__fd_deadline(fd, SO_SNDTIMEO);
    int rc = fibril_connect_fd(fd, to, deadline_ns);
    if (rc == -ETIMEDOUT && fibril_now() >= deadline_ns) {
        return -EINPROGRESS;
    }
    if (rc == -EALREADY || fibril__fd_again(rc, deadline_ns)) {
        return connected(fd, deadline_ns);
    }
    return rc;
}

int fibril_posix_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    struct fibril_addr to = {.len = len};
    if (!fibril__on_loop() || len > sizeof(to.ss) || !fibril__fd_blocks(fd)) {
        return connect(fd, addr, len);
    }
    int saved = errno;
    memcpy(&to.ss, addr, len);
    int rc = connect_waiting(fd, &to);
    return (int)fibril__posix_result(rc, saved);
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* The kernel wakes all who wait for the socket, in our pollers too. */
int fibril_posix_shutdown(int fd, int how)
{
    return shutdown(fd, how);
}

/* Only to learn that there are sockets with timeouts. */
int fibril_posix_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
    if (level == SOL_SOCKET && (option == SO_RCVTIMEO || option == SO_SNDTIMEO ||
                                option == SO_RCVTIMEO_NEW || option == SO_SNDTIMEO_NEW)) {
        fibril__fd_timeouts_exist();
    }
    return setsockopt(fd, level, option, value, len);
}

const struct fibril__call fibril__calls_socket[] = {
    FIBRIL__CALL(recv),
    FIBRIL__CALL(__recv_chk),
    FIBRIL__CALL(recvfrom),
    FIBRIL__CALL(__recvfrom_chk),
    FIBRIL__CALL(recvmsg),
    FIBRIL__CALL(recvmmsg),
    FIBRIL__CALL(send),
    FIBRIL__CALL_AS(__send, send),
    FIBRIL__CALL(sendto),
    FIBRIL__CALL(sendmsg),
    FIBRIL__CALL(sendmmsg),
    FIBRIL__CALL(accept),
    FIBRIL__CALL(accept4),
    FIBRIL__CALL(connect),
    FIBRIL__CALL_AS(__connect, connect),
    FIBRIL__CALL(shutdown),
    FIBRIL__CALL(setsockopt),
    FIBRIL__CALL(socket),
    FIBRIL__CALL(socketpair),
    {NULL, NULL, false, NULL},
};
