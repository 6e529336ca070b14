/* SPDX-License-Identifier: MIT */
/*
 * See conn.h. Readiness is known when a fibril starts, so receiving first tries without a wait:
 * that is one system call under either poller, and no park.
 */
#include "http/conn.h"

#include "base/assert.h"
#include "http/out.h"
#include "http/serve.h"
#include "http/server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum {
    LINGER_BYTES = 256 * 1024,
    /* Fibrils that have not begun yet. When a thousand connections become readable at once the
     * first ones to end leave their stacks, still in the cache, to the next. */
    STARTING_MAX = 16,
};

/* ---- from list to list ----------------------------------------------------------------------- */

static void move_to(struct fibril__http_conn *conn, struct fibril__list *list)
{
    fibril__link_remove(&conn->link);
    fibril__list_push(list, &conn->link);
}

/* From where it may not park: leaves the closing to the lane fibril. */
static void doom(struct fibril__http_conn *conn)
{
    move_to(conn, &conn->lane->doomed);
    fibril_waker_wake(conn->lane->waker);
}

static void on_ready(struct fibril_watch *watch, int result)
{
    struct fibril__http_conn *conn = CONTAINER_OF(watch, struct fibril__http_conn, watch);
    FIBRIL__COUNT(conn->lane, idle, -1);
    bool evicted = conn->flags & FIBRIL__CONN_EVICTED;
    conn->flags &= (uint8_t)~FIBRIL__CONN_EVICTED;
    if (result < 0 && (result != -ECANCELED || evicted)) {
        doom(conn); /* late, or to make room, or the descriptor is gone */
        return;
    }
    fibril__http_conn_spawn(conn);
}

/* Starts a fibril for conn, which is in no list but `busy` or on its way there. */
static void spawn_now(struct fibril__http_conn *conn)
{
    struct fibril__http_lane *lane = conn->lane;
    int rc;
    if (lane->srv->usual) {
        rc = fibril_spawn(fibril__http_serve, conn, NULL, NULL);
    } else {
        struct fibril_spawn_opts opts = {.stack = lane->srv->stack,
                                         .stack_bytes = lane->srv->stack_bytes,
                                         .daemon = lane->srv->daemon};
        rc = fibril_spawn(fibril__http_serve, conn, &opts, NULL);
    }
    if (rc < 0) {
        doom(conn);
        return;
    }
    lane->starting++;
    move_to(conn, &lane->busy);
}

void fibril__http_conn_spawn(struct fibril__http_conn *conn)
{
    conn->fibril = NULL;
    if (conn->lane->starting < STARTING_MAX) {
        spawn_now(conn);
    } else {
        move_to(conn, &conn->lane->ready);
    }
}

void fibril__http_conn_started(struct fibril__http_conn *conn)
{
    struct fibril__http_lane *lane = conn->lane;
    struct fibril__link *link;
    conn->fibril = fibril_current();
    lane->starting--;
    while (lane->starting < STARTING_MAX && (link = fibril__list_first(&lane->ready)) != NULL) {
        spawn_now(CONTAINER_OF(link, struct fibril__http_conn, link));
    }
}

static void give_buffers(struct fibril__http_conn *conn)
{
    struct fibril__http_pool *pool = &conn->lane->pool;
    conn->in_at = conn->in_len = 0;
    fibril__http_conn_trim(conn);
    if (conn->out) {
        fibril__http_buffer_give(pool, conn->out);
        conn->out = NULL;
    }
    conn->out_len = 0;
}

void fibril__http_conn_idle(struct fibril__http_conn *conn, int64_t deadline_ns)
{
    struct fibril__http_lane *lane = conn->lane;
    give_buffers(conn);
    conn->fibril = NULL;
    int rc = fibril_watch_start(&conn->watch, conn->fd, POLLIN | POLLRDHUP, deadline_ns, on_ready);
    if (rc < 0) {
        doom(conn);
        return;
    }
    move_to(conn, &lane->idle);
    FIBRIL__COUNT(lane, idle, 1);
}

bool fibril__http_conn_wake(struct fibril__http_conn *conn)
{
    if (fibril_watch_stop(&conn->watch) < 0) {
        return false;
    }
    FIBRIL__COUNT(conn->lane, idle, -1);
    return true;
}

void fibril__http_conn_evict(struct fibril__http_conn *conn)
{
    if (fibril__http_conn_wake(conn)) {
        fibril__http_conn_close(conn);
    } else {
        conn->flags |= FIBRIL__CONN_EVICTED;
        move_to(conn, &conn->lane->leaving);
    }
}

/* ---- beginning and end ----------------------------------------------------------------------- */

void fibril__http_conn_start(struct fibril__http_lane *lane, int fd, const struct fibril_addr *peer,
                             uint8_t flags)
{
    struct fibril__http_conn *conn = fibril__http_block_take(&lane->pool, sizeof(*conn));
    if (!conn) {
        fibril_close(fd);
        return;
    }
    memset(conn, 0, sizeof(*conn));
    conn->lane = lane;
    conn->fd = fd;
    conn->flags = flags | FIBRIL__CONN_FRESH;
    conn->born_ns = fibril_now();
    fibril__http_peer_set(&conn->peer, peer);
    FIBRIL__COUNT(lane, accepted, 1);
    FIBRIL__COUNT(lane, connections, 1);
    fibril__http_conn_spawn(conn);
}

void fibril__http_conn_close(struct fibril__http_conn *conn)
{
    struct fibril__http_lane *lane = conn->lane;
    fibril__link_remove(&conn->link);
    give_buffers(conn);
    if (conn->flags & FIBRIL__CONN_COUNTED) {
        fibril__http_addresses_remove(&lane->srv->addresses, &conn->peer);
    }
    fibril_close(conn->fd);
    fibril__http_block_give(&lane->pool, conn, sizeof(*conn));
    FIBRIL__COUNT(lane, connections, -1);
    fibril_event_set(lane->room);
    if (lane->draining && lane->stats.connections == 0) {
        fibril_waker_wake(lane->waker);
    }
}

void fibril__http_conn_linger(struct fibril__http_conn *conn)
{
    int64_t deadline = fibril_after(conn->lane->srv->limits.linger_ns);
    fibril_shutdown(conn->fd, SHUT_WR);
    size_t total = 0;
    while (total < LINGER_BYTES && !conn->lane->killing) {
        conn->in_at = conn->in_len = 0;
        ssize_t n = fibril__http_conn_fill(conn, FIBRIL__HTTP_BUFFER, deadline);
        if (n <= 0) {
            break;
        }
        total += (size_t)n;
    }
    fibril__http_conn_close(conn);
}

/* ---- receiving ------------------------------------------------------------------------------- */

void fibril__http_conn_trim(struct fibril__http_conn *conn)
{
    if (!conn->in || fibril__http_conn_buffered(conn) > 0) {
        return;
    }
    if (conn->in_bytes == FIBRIL__HTTP_BUFFER) {
        fibril__http_buffer_give(&conn->lane->pool, conn->in);
    } else {
        fibril__http_block_give(&conn->lane->pool, conn->in, conn->in_bytes);
    }
    conn->in = NULL;
    conn->in_at = conn->in_len = conn->in_bytes = 0;
}

/* A larger buffer with the same bytes at its beginning. */
static int grow(struct fibril__http_conn *conn, size_t bytes)
{
    char *in = fibril__http_block_take(&conn->lane->pool, bytes);
    if (!in) {
        return -ENOMEM;
    }
    size_t len = fibril__http_conn_buffered(conn);
    memcpy(in, conn->in + conn->in_at, len);
    conn->in_at = conn->in_len = 0;
    fibril__http_conn_trim(conn);
    conn->in = in;
    conn->in_len = (uint32_t)len;
    conn->in_bytes = (uint32_t)bytes;
    return 0;
}

/* Room behind in_len: by moving what is there to the front, then by a larger buffer. */
static int make_room(struct fibril__http_conn *conn, size_t bytes_max)
{
    if (!conn->in) {
        conn->in = fibril__http_buffer_take(&conn->lane->pool);
        conn->in_bytes = FIBRIL__HTTP_BUFFER;
        conn->in_at = conn->in_len = 0;
        return conn->in ? 0 : -ENOMEM;
    }
    if (conn->in_len < conn->in_bytes) {
        return 0;
    }
    if (conn->in_at > 0) {
        size_t len = fibril__http_conn_buffered(conn);
        memmove(conn->in, conn->in + conn->in_at, len);
        conn->in_at = 0;
        conn->in_len = (uint32_t)len;
        return 0;
    }
    return conn->in_bytes < bytes_max ? grow(conn, bytes_max) : -ENOBUFS;
}

ssize_t fibril__http_conn_recv(struct fibril__http_conn *conn, void *buf, size_t len,
                               int64_t deadline_ns)
{
    ssize_t n = fibril_recv(conn->fd, buf, len, MSG_DONTWAIT, FIBRIL_FOREVER);
    if (n == -EAGAIN && deadline_ns != 0) {
        n = fibril_recv(conn->fd, buf, len, 0, deadline_ns);
    }
    FIBRIL__COUNT(conn->lane, receives, 1);
    if (n > 0) {
        FIBRIL__COUNT(conn->lane, bytes_in, n);
    }
    return n;
}

ssize_t fibril__http_conn_fill(struct fibril__http_conn *conn, size_t bytes_max,
                               int64_t deadline_ns)
{
    int rc = make_room(conn, bytes_max);
    if (rc < 0) {
        return rc;
    }
    ssize_t n = fibril__http_conn_recv(conn, conn->in + conn->in_len, conn->in_bytes - conn->in_len,
                                       deadline_ns);
    if (n > 0) {
        conn->in_len += (uint32_t)n;
    }
    return n;
}
