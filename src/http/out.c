/* SPDX-License-Identifier: MIT */
/*
 * See out.h. The flusher only tries (MSG_DONTWAIT): a peer that is slow to read is the handler's to
 * wait for. Its call may yield all the same, so FLUSHING keeps the handler's hands off the buffer;
 * the wait for it is a few turns of the run queue at most.
 */
#include "http/out.h"

#include "base/assert.h"
#include "http/server.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

_Static_assert(EHOSTUNREACH < 256 && EPIPE < 256 && ECANCELED < 256, "errors fit a byte");

static int broken(struct fibril__http_conn *conn, ssize_t error)
{
    if (error == -ECONNRESET || error == -ENOTCONN) {
        error = -EPIPE;
    }
    if (error == -ETIMEDOUT) {
        FIBRIL__COUNT(conn->lane, timeouts, 1);
    }
    conn->error = (uint8_t)-error;
    return (int)error;
}

/* The flusher must have let go of the buffer. */
static void settle(struct fibril__http_conn *conn)
{
    while (conn->flags & FIBRIL__CONN_FLUSHING) {
        fibril_yield();
    }
}

static ssize_t send_once(struct fibril__http_conn *conn, const struct iovec *iov, int n, int flags,
                         int64_t deadline_ns)
{
    FIBRIL__COUNT(conn->lane, sends, 1);
    if (n == 1) {
        return fibril_send(conn->fd, iov->iov_base, iov->iov_len, flags, deadline_ns);
    }
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return fibril_sendmsg(conn->fd, &msg, flags, deadline_ns);
}

/* What the peer has not acknowledged yet. */
static int unacknowledged(const struct fibril__http_conn *conn)
{
    int bytes = 0;
    return ioctl(conn->fd, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

/* Waits for room as long as the peer takes anything: the kernel announces room only when a third of
 * its buffer, which may be megabytes, is free again, and that can take a slow peer minutes. */
static ssize_t send_patiently(struct fibril__http_conn *conn, const struct iovec *iov, int n)
{
    int left = unacknowledged(conn);
    for (;;) {
        int64_t deadline = fibril_after(conn->lane->srv->limits.write_idle_ns);
        ssize_t sent = send_once(conn, iov, n, 0, deadline);
        int now = sent == -ETIMEDOUT ? unacknowledged(conn) : left;
        if (now >= left) {
            return sent;
        }
        left = now;
    }
}

/* Most sends need no wait: a try is one system call under either poller. */
static ssize_t send_some(struct fibril__http_conn *conn, const struct iovec *iov, int n)
{
    ssize_t sent = send_once(conn, iov, n, MSG_DONTWAIT, FIBRIL_FOREVER);
    if (sent == -EAGAIN) {
        sent = send_patiently(conn, iov, n);
    }
    if (sent > 0) {
        FIBRIL__COUNT(conn->lane, bytes_out, sent);
    }
    return sent;
}

static void advance(struct iovec **iov, int *n, size_t bytes)
{
    while (*n > 0 && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (bytes > 0 && *n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

static int send_all(struct fibril__http_conn *conn, struct iovec *iov, int n)
{
    advance(&iov, &n, 0); /* empty ones in front */
    while (n > 0) {
        ssize_t sent = send_some(conn, iov, n);
        if (sent < 0) {
            return broken(conn, sent);
        }
        advance(&iov, &n, (size_t)sent);
    }
    return 0;
}

int fibril__http_out_vector(struct fibril__http_conn *conn, struct iovec *iov, int n)
{
    settle(conn);
    if (conn->error) {
        return -conn->error;
    }
    iov[0] = (struct iovec){conn->out, conn->out_len};
    conn->out_len = conn->held_len = 0; /* whatever happens, it is not sent twice */
    return send_all(conn, iov, n);
}

int fibril__http_out_flush(struct fibril__http_conn *conn)
{
    struct iovec iov[1];
    return fibril__http_out_vector(conn, iov, 1);
}

char *fibril__http_out_room(struct fibril__http_conn *conn, size_t bytes)
{
    FIBRIL_CHECK(bytes <= FIBRIL__HTTP_BUFFER);
    settle(conn);
    if (conn->error) {
        return NULL;
    }
    if (!conn->out) {
        conn->out = fibril__http_buffer_take(&conn->lane->pool);
        if (!conn->out) {
            conn->error = ENOMEM;
            return NULL;
        }
    }
    if ((size_t)conn->out_len + bytes > FIBRIL__HTTP_BUFFER && fibril__http_out_flush(conn) < 0) {
        return NULL;
    }
    return conn->out + conn->out_len;
}

static ssize_t send_piece(struct fibril__http_conn *conn, int fd, off_t *at, size_t len)
{
    int left = unacknowledged(conn);
    for (;;) {
        FIBRIL__COUNT(conn->lane, sends, 1);
        int64_t deadline = fibril_after(conn->lane->srv->limits.write_idle_ns);
        ssize_t n = fibril_sendfile(conn->fd, fd, at, len, deadline);
        int now = n == -ETIMEDOUT ? unacknowledged(conn) : left;
        if (now >= left) {
            return n;
        }
        left = now;
    }
}

int fibril__http_out_file(struct fibril__http_conn *conn, int fd, uint64_t offset, uint64_t len)
{
    int rc = fibril__http_out_flush(conn);
    off_t at = (off_t)offset;
    while (rc == 0 && len > 0) {
        ssize_t n = send_piece(conn, fd, &at, len < (1u << 30) ? (size_t)len : 1u << 30);
        if (n <= 0) {
            return broken(conn, n < 0 ? n : -EIO); /* the file has become shorter */
        }
        FIBRIL__COUNT(conn->lane, bytes_out, n);
        len -= (uint64_t)n;
    }
    return rc;
}

/* ---- the flusher ----------------------------------------------------------------------------- */

/* The link of `held` is the watch's memory: a busy connection does not watch. */
static struct fibril__link *held_link(struct fibril__http_conn *conn)
{
    return (struct fibril__link *)(void *)conn->watch.opaque_;
}

void fibril__http_out_hold(struct fibril__http_conn *conn)
{
    struct fibril__http_lane *lane = conn->lane;
    if (fibril__list_empty(&lane->held)) {
        fibril_event_set(lane->held_event);
    }
    conn->held_len = conn->out_len;
    fibril__list_push(&lane->held, held_link(conn));
    conn->flags |= FIBRIL__CONN_HELD;
}

void fibril__http_out_release(struct fibril__http_conn *conn)
{
    settle(conn);
    if (conn->flags & FIBRIL__CONN_HELD) {
        fibril__link_remove(held_link(conn));
        conn->flags &= (uint8_t)~FIBRIL__CONN_HELD;
    }
}

static void flush_held(struct fibril__http_conn *conn)
{
    if (conn->error || conn->held_len == 0) {
        return; /* sent already, with what the handler itself flushed */
    }
    struct iovec iov = {conn->out, conn->held_len};
    conn->flags |= FIBRIL__CONN_FLUSHING;
    ssize_t sent = send_once(conn, &iov, 1, MSG_DONTWAIT, FIBRIL_FOREVER);
    conn->flags &= (uint8_t)~FIBRIL__CONN_FLUSHING;
    if (sent > 0) {
        FIBRIL__COUNT(conn->lane, bytes_out, sent);
        conn->out_len = (uint16_t)(conn->out_len - sent);
        conn->chunk_at = (uint16_t)(conn->chunk_at - sent); /* matters only if a chunk is open */
        memmove(conn->out, conn->out + sent, conn->out_len);
    } else if (sent != -EAGAIN && sent != -ECANCELED) {
        broken(conn, sent);
    }
}

int fibril__http_out_flusher(void *arg)
{
    struct fibril__http_lane *lane = arg;
    while (fibril_event_wait(lane->held_event, FIBRIL_FOREVER) == 0) {
        struct fibril__link *link = fibril__list_pop(&lane->held);
        if (!link) {
            fibril_event_reset(lane->held_event);
            continue;
        }
        struct fibril_watch *watch = CONTAINER_OF(link, struct fibril_watch, opaque_);
        struct fibril__http_conn *conn = CONTAINER_OF(watch, struct fibril__http_conn, watch);
        conn->flags &= (uint8_t)~FIBRIL__CONN_HELD;
        flush_held(conn);
    }
    return 0;
}
