/* SPDX-License-Identifier: MIT */
/*
 * The response: status and headers are collected, the head is written into the connection's buffer
 * with the first bytes of the body, and the framing is chosen then:
 *
 *     HEAD, 204, 304              no body           Content-Length where known
 *     Content-Length set          as it is          enforced
 *     HTTP/1.1                    chunked
 *     HTTP/1.0                    till close
 *
 * Small writes gather in one chunk: its size line is four digits wide and filled in when the chunk
 * is closed, by a flush or the end. Large ones go to the socket from where they lie.
 */
#include "http/request.h"

#include "base/assert.h"
#include "http/encode.h"
#include "http/out.h"
#include "http/server.h"
#include "http/status.h"
#include "http/token.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    EXTRA_MAX = 32768,    /* header lines of the application */
    HEAD_OWN_BYTES = 512, /* status line, Date, framing: at most */
    CHUNK_HEAD = 6,       /* "1f40\r\n" */
    CHUNK_TAIL = 2,
    COPY_MAX = 6144, /* larger writes are not copied */
};

/* ---- setting up ------------------------------------------------------------------------------ */

static bool committed(const struct fibril_http_req *req)
{
    return (req->flags & FIBRIL__REQ_COMMITTED) != 0;
}

int fibril_http_status(struct fibril_http_req *req, int status)
{
    if (committed(req)) {
        return -EBUSY;
    }
    if (status < 200 || status > 599) {
        return -EINVAL;
    }
    req->status = (uint16_t)status;
    return 0;
}

int fibril_http_content_length(struct fibril_http_req *req, uint64_t bytes)
{
    if (committed(req)) {
        return -EBUSY;
    }
    req->content_length = bytes;
    req->flags |= FIBRIL__REQ_LENGTH_SET;
    return 0;
}

int fibril_http_reset(struct fibril_http_req *req)
{
    if (committed(req)) {
        return -EBUSY;
    }
    req->status = 200;
    req->flags &= (uint16_t) ~(FIBRIL__REQ_LENGTH_SET | FIBRIL__REQ_WANTS_CLOSE);
    fibril__http_text_free(req, &req->extra);
    fibril__http_text_free(req, &req->trailers_out);
    return 0;
}

static int add_line(struct fibril_http_req *req, struct fibril__http_text *text,
                    struct fibril__span name, struct fibril__span value)
{
    char small[512];
    struct fibril__http_out line = {small, 0, sizeof(small)};
    size_t bytes = name.len + value.len + 4;
    char *large = NULL;
    if (bytes > EXTRA_MAX) {
        return -ENOBUFS;
    }
    if (bytes > sizeof(small)) {
        large = fibril__http_block_take(&req->conn->lane->pool, bytes);
        if (!large) {
            return -ENOMEM;
        }
        line = (struct fibril__http_out){large, 0, bytes};
    }
    int rc = fibril__http_put_field(&line, name, value);
    rc = rc < 0 ? rc : fibril__http_text_add(req, text, line.ptr, line.len, EXTRA_MAX);
    fibril__http_block_give(&req->conn->lane->pool, large, bytes);
    return rc;
}

static int set_length_text(struct fibril_http_req *req, struct fibril__span value)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned)(value.ptr[i] - '0');
        if (digit > 9 || bytes > (UINT64_MAX - digit) / 10) {
            return -EINVAL;
        }
        bytes = bytes * 10 + digit;
    }
    return value.len ? fibril_http_content_length(req, bytes) : -EINVAL;
}

int fibril_http_header(struct fibril_http_req *req, const char *name, const char *value)
{
    struct fibril__span n = {name, strlen(name)}, v = {value, strlen(value)};
    if (committed(req)) {
        return -EBUSY;
    }
    if (!fibril__is_token(n)) {
        return -EINVAL;
    }
    switch (fibril__http_field_id(n)) {
    case FIBRIL__FIELD_CONTENT_LENGTH: return set_length_text(req, v);
    case FIBRIL__FIELD_CONNECTION:
        if (!fibril__span_equal_nocase(v, FIBRIL__SPAN("close"))) {
            return -EINVAL;
        }
        req->flags |= FIBRIL__REQ_WANTS_CLOSE;
        return 0;
    case FIBRIL__FIELD_DATE:
    case FIBRIL__FIELD_SERVER:
    case FIBRIL__FIELD_TRANSFER_ENCODING: return -EINVAL;
    default: return add_line(req, &req->extra, n, v);
    }
}

int fibril_http_trailer(struct fibril_http_req *req, const char *name, const char *value)
{
    struct fibril__span n = {name, strlen(name)}, v = {value, strlen(value)};
    if (!fibril__is_token(n) || fibril__http_field_forbidden_in_trailer(fibril__http_field_id(n))) {
        return -EINVAL;
    }
    return add_line(req, &req->trailers_out, n, v);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* Connections that were made together are not to end together: each has an age limit of its own, a
 * tenth more or less. */
static bool is_old(const struct fibril_http_req *req)
{
    const struct fibril__http_conn *conn = req->conn;
    int64_t limit = conn->lane->srv->limits.connection_age_ns;
    int64_t age = req->begun_ns - conn->born_ns;
    if (limit == FIBRIL_FOREVER || age < limit / 10 * 9) {
        return false;
    }
    uint64_t chance = ((uint64_t)conn->born_ns * 0x9e3779b97f4a7c15u) >> 44; /* below 2^20 */
    return age >= limit / 10 * 9 + (limit / 5 >> 20) * (int64_t)chance;
}

/* Whether the connection can go on after this response, as far as can be told now. */
static bool will_keep(const struct fibril_http_req *req)
{
    const struct fibril__http_conn *conn = req->conn;
    const struct fibril_http_limits *limits = &conn->lane->srv->limits;
    return (req->flags & FIBRIL__REQ_KEEP) && !is_old(req) &&
           !(req->flags & (FIBRIL__REQ_WANTS_CLOSE | FIBRIL__REQ_TILL_CLOSE)) &&
           !conn->lane->draining && conn->requests < limits->requests_max &&
           fibril__http_body_droppable(req);
}

static void choose_framing(struct fibril_http_req *req)
{
    bool bodiless = fibril__http_status_bodiless(req->status);
    if (bodiless && req->status != 304) {
        req->flags &= (uint16_t)~FIBRIL__REQ_LENGTH_SET; /* 204 has none */
    }
    if (bodiless || (req->flags & FIBRIL__REQ_HEAD)) {
        req->flags |= FIBRIL__REQ_BODILESS;
    } else if (req->flags & FIBRIL__REQ_LENGTH_SET) {
        return;
    } else if (req->minor >= 1) {
        req->flags |= FIBRIL__REQ_CHUNKED_OUT;
    } else {
        req->flags |= FIBRIL__REQ_TILL_CLOSE;
    }
}

static void put_framing(struct fibril_http_req *req, struct fibril__http_out *out)
{
    bool keep = will_keep(req);
    if (!keep) {
        req->flags &= (uint16_t)~FIBRIL__REQ_KEEP;
        fibril__http_put_raw(out, FIBRIL__SPAN("Connection: close\r\n"));
    } else if (req->minor == 0) {
        fibril__http_put_raw(out, FIBRIL__SPAN("Connection: keep-alive\r\n"));
    }
    bool chunked = (req->flags & FIBRIL__REQ_CHUNKED_OUT) ||
                   ((req->flags & FIBRIL__REQ_HEAD) && !(req->flags & FIBRIL__REQ_LENGTH_SET) &&
                    req->minor >= 1 && !fibril__http_status_bodiless(req->status));
    if (chunked) {
        fibril__http_put_raw(out, FIBRIL__SPAN("Transfer-Encoding: chunked\r\n"));
    } else if (req->flags & FIBRIL__REQ_LENGTH_SET) {
        fibril__http_put_field_number(out, FIBRIL__SPAN("Content-Length"), req->content_length);
    }
    fibril__http_put_end(out);
}

static void put_head(struct fibril_http_req *req, struct fibril__http_out *out)
{
    struct fibril__http_lane *lane = req->conn->lane;
    fibril__http_lane_stamp(lane);
    fibril__http_put_status(out, req->status, (struct fibril__span){NULL, 0});
    fibril__http_put_raw(out, (struct fibril__span){lane->stamp, lane->stamp_len});
    fibril__http_put_raw(
        out, (struct fibril__span){lane->srv->server_field, lane->srv->server_field_len});
    fibril__http_put_raw(out, (struct fibril__span){req->extra.ptr, req->extra.len});
    put_framing(req, out);
}

/* A head that fits no buffer goes out from memory of its own. */
static int commit_large(struct fibril_http_req *req, size_t bytes)
{
    char *head = fibril__http_block_take(&req->conn->lane->pool, bytes);
    if (!head) {
        return -ENOMEM;
    }
    struct fibril__http_out out = {head, 0, bytes};
    put_head(req, &out);
    struct iovec iov[2] = {[1] = {head, out.len}};
    int rc = fibril__http_out_vector(req->conn, iov, 2);
    fibril__http_block_give(&req->conn->lane->pool, head, bytes);
    return rc;
}

static int commit(struct fibril_http_req *req)
{
    if (committed(req)) {
        return 0;
    }
    struct fibril__http_conn *conn = req->conn;
    size_t bytes = HEAD_OWN_BYTES + conn->lane->srv->server_field_len + req->extra.len;
    int rc = 0;
    if (bytes > FIBRIL__HTTP_BUFFER) {
        choose_framing(req);
        rc = commit_large(req, bytes);
    } else {
        char *room = fibril__http_out_room(conn, bytes);
        if (!room) {
            return -conn->error;
        }
        choose_framing(req);
        struct fibril__http_out out = {room, 0, bytes};
        put_head(req, &out);
        conn->out_len = (uint16_t)(conn->out_len + out.len);
    }
    if (rc == 0 || conn->error) {
        req->flags |= FIBRIL__REQ_COMMITTED;
        fibril__http_text_free(req, &req->extra);
    }
    return rc;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void close_chunk(struct fibril_http_req *req)
{
    static const char hex[] = "0123456789abcdef";
    struct fibril__http_conn *conn = req->conn;
    if (!(req->flags & FIBRIL__REQ_CHUNK_OPEN)) {
        return;
    }
    unsigned bytes = conn->out_len - conn->chunk_at - (unsigned)CHUNK_HEAD;
    char *head = conn->out + conn->chunk_at;
    for (int i = 0; i < 4; i++) {
        head[i] = hex[(bytes >> (12 - 4 * i)) & 15];
    }
    memcpy(head + 4, "\r\n", 2);
    memcpy(conn->out + conn->out_len, "\r\n", CHUNK_TAIL); /* room was kept for it */
    conn->out_len = (uint16_t)(conn->out_len + CHUNK_TAIL);
    req->flags &= (uint16_t)~FIBRIL__REQ_CHUNK_OPEN;
}

/* Room for `len` bytes of data and what frames them; opens a chunk when there is none. */
static char *chunk_room(struct fibril_http_req *req, size_t len)
{
    struct fibril__http_conn *conn = req->conn;
    if (req->flags & FIBRIL__REQ_CHUNK_OPEN) {
        if (conn->out_len + len + CHUNK_TAIL <= FIBRIL__HTTP_BUFFER) {
            return conn->out + conn->out_len;
        }
        close_chunk(req);
    }
    char *room = fibril__http_out_room(conn, len + CHUNK_HEAD + CHUNK_TAIL);
    if (!room) {
        return NULL;
    }
    conn->chunk_at = conn->out_len;
    req->flags |= FIBRIL__REQ_CHUNK_OPEN;
    conn->out_len = (uint16_t)(conn->out_len + CHUNK_HEAD);
    return room + CHUNK_HEAD;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_copied(struct fibril_http_req *req, const void *data, size_t len)
{
    struct fibril__http_conn *conn = req->conn;
    char *room = req->flags & FIBRIL__REQ_CHUNKED_OUT ? chunk_room(req, len)
                                                      : fibril__http_out_room(conn, len);
    if (!room) {
        return -conn->error;
    }
    memcpy(room, data, len);
    conn->out_len = (uint16_t)(conn->out_len + len);
    return 0;
}

static int write_direct(struct fibril_http_req *req, const void *data, size_t len)
{
    char size[FIBRIL__HTTP_CHUNK_HEAD_BYTES];
    struct fibril__http_out head = {size, 0, sizeof(size)};
    struct iovec iov[4];
    int n = 1;
    close_chunk(req);
    if (req->flags & FIBRIL__REQ_CHUNKED_OUT) {
        fibril__http_put_chunk_head(&head, len);
        iov[n++] = (struct iovec){size, head.len};
    }
    iov[n++] = (struct iovec){(void *)(uintptr_t)data, len};
    if (req->flags & FIBRIL__REQ_CHUNKED_OUT) {
        iov[n++] = (struct iovec){(void *)(uintptr_t) "\r\n", 2};
    }
    return fibril__http_out_vector(req->conn, iov, n);
}

int fibril_http_write(struct fibril_http_req *req, const void *data, size_t len)
{
    int rc = commit(req);
    if (rc < 0 || len == 0) {
        return rc;
    }
    if ((req->flags & FIBRIL__REQ_LENGTH_SET) && len > req->content_length - req->written) {
        return -EMSGSIZE;
    }
    req->written += len;
    if (req->flags & FIBRIL__REQ_BODILESS) {
        return 0;
    }
    return len > COPY_MAX ? write_direct(req, data, len) : write_copied(req, data, len);
}

int fibril__http_write_file(struct fibril_http_req *req, int fd, uint64_t offset, uint64_t len)
{
    int rc = commit(req);
    if (rc < 0) {
        return rc;
    }
    FIBRIL_ASSERT(req->flags & FIBRIL__REQ_LENGTH_SET);
    req->written += len;
    return req->flags & FIBRIL__REQ_BODILESS ? 0
                                             : fibril__http_out_file(req->conn, fd, offset, len);
}

int fibril_http_write_file(struct fibril_http_req *req, int fd, uint64_t offset, uint64_t len)
{
    if (!(req->flags & FIBRIL__REQ_LENGTH_SET)) {
        return -EINVAL;
    }
    if (len > req->content_length - req->written) {
        return -EMSGSIZE;
    }
    return fibril__http_write_file(req, fd, offset, len);
}

int fibril_http_flush(struct fibril_http_req *req)
{
    int rc = commit(req);
    if (rc < 0) {
        return rc;
    }
    close_chunk(req);
    return fibril__http_out_flush(req->conn);
}

int fibril_http_respond(struct fibril_http_req *req, int status, const char *type, const void *body,
                        size_t len)
{
    int rc = fibril_http_status(req, status);
    if (rc == 0 && type) {
        rc = fibril_http_header(req, "Content-Type", type);
    }
    rc = rc < 0 ? rc : fibril_http_content_length(req, len);
    return rc < 0 ? rc : fibril_http_write(req, body, len);
}

/* ---- what the server says itself ------------------------------------------------------------- */

int fibril__http_respond_plain(struct fibril_http_req *req, int status, const char *extra)
{
    char text[128];
    int len = snprintf(text, sizeof(text), "%d %s\n", status, fibril__http_reason(status));
    fibril__http_text_free(req, &req->extra);
    fibril__http_text_free(req, &req->trailers_out);
    int rc = fibril__http_text_add(req, &req->extra, extra, strlen(extra), EXTRA_MAX);
    if (rc < 0) {
        return rc;
    }
    if (fibril__http_status_bodiless(status)) {
        req->status = (uint16_t)status;
        return commit(req);
    }
    return fibril_http_respond(req, status, "text/plain; charset=utf-8", text, (size_t)len);
}

void fibril__http_refuse_head(struct fibril__http_conn *conn, int status)
{
    struct fibril__http_lane *lane = conn->lane;
    char *room = fibril__http_out_room(conn, HEAD_OWN_BYTES + lane->srv->server_field_len);
    if (!room) {
        return;
    }
    const char *reason = fibril__http_reason(status);
    struct fibril__http_out out = {room, 0, HEAD_OWN_BYTES + lane->srv->server_field_len};
    fibril__http_lane_stamp(lane);
    fibril__http_put_status(&out, status, (struct fibril__span){NULL, 0});
    fibril__http_put_raw(&out, (struct fibril__span){lane->stamp, lane->stamp_len});
    fibril__http_put_raw(
        &out, (struct fibril__span){lane->srv->server_field, lane->srv->server_field_len});
    if (status == 503) {
        fibril__http_put_field_number(&out, FIBRIL__SPAN("Retry-After"),
                                      lane->srv->limits.retry_after_s);
    }
    fibril__http_put_raw(&out, FIBRIL__SPAN("Content-Type: text/plain; charset=utf-8\r\n"
                                            "Connection: close\r\n"));
    fibril__http_put_field_number(&out, FIBRIL__SPAN("Content-Length"), strlen(reason) + 5);
    fibril__http_put_end(&out);
    char digits[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                      (char)('0' + status % 10), ' '};
    fibril__http_put_raw(&out, (struct fibril__span){digits, 4});
    fibril__http_put_raw(&out, (struct fibril__span){reason, strlen(reason)});
    fibril__http_put_raw(&out, FIBRIL__SPAN("\n"));
    conn->out_len = (uint16_t)(conn->out_len + out.len);
    fibril__http_out_flush(conn);
}

int fibril__http_respond_prebuilt(struct fibril_http_req *req, int status, const char *head,
                                  size_t head_len, const void *body, uint64_t len)
{
    struct fibril__http_conn *conn = req->conn;
    size_t bytes = head_len + FIBRIL__HTTP_STAMP + HEAD_OWN_BYTES;
    bool copies = body && len <= COPY_MAX && !(req->flags & FIBRIL__REQ_HEAD);
    if (bytes > FIBRIL__HTTP_BUFFER) {
        return -ENOBUFS;
    }
    size_t wanted = bytes + (copies ? (size_t)len : 0);
    char *room = fibril__http_out_room(conn, wanted < FIBRIL__HTTP_BUFFER ? wanted : bytes);
    if (!room) {
        return -conn->error;
    }
    struct fibril__http_out out = {room, 0, bytes};
    fibril__http_lane_stamp(conn->lane);
    fibril__http_put_raw(&out, (struct fibril__span){head, head_len});
    fibril__http_put_raw(&out, (struct fibril__span){conn->lane->stamp, conn->lane->stamp_len});
    req->status = (uint16_t)status;
    req->content_length = len;
    req->flags |= FIBRIL__REQ_COMMITTED | FIBRIL__REQ_LENGTH_SET;
    if ((req->flags & FIBRIL__REQ_HEAD) || fibril__http_status_bodiless(status)) {
        req->flags |= FIBRIL__REQ_BODILESS;
    }
    put_framing(req, &out);
    conn->out_len = (uint16_t)(conn->out_len + out.len);
    return body ? fibril_http_write(req, body, (size_t)len) : 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

static int end_chunks(struct fibril_http_req *req)
{
    struct fibril__http_conn *conn = req->conn;
    close_chunk(req);
    size_t trailers = req->trailers_out.len;
    if (trailers + 5 > FIBRIL__HTTP_BUFFER) {
        struct iovec iov[4] = {[1] = {(void *)(uintptr_t) "0\r\n", 3},
                               [2] = {req->trailers_out.ptr, trailers},
                               [3] = {(void *)(uintptr_t) "\r\n", 2}};
        return fibril__http_out_vector(conn, iov, 4);
    }
    char *room = fibril__http_out_room(conn, trailers + 5);
    if (!room) {
        return -conn->error;
    }
    struct fibril__http_out out = {room, 0, trailers + 5};
    fibril__http_put_last_chunk(&out);
    fibril__http_put_raw(&out, (struct fibril__span){req->trailers_out.ptr, trailers});
    fibril__http_put_end(&out);
    conn->out_len = (uint16_t)(conn->out_len + out.len);
    return 0;
}

int fibril__http_response_end(struct fibril_http_req *req)
{
    if (!committed(req) && !(req->flags & FIBRIL__REQ_LENGTH_SET)) {
        fibril_http_content_length(req, 0);
    }
    int rc = commit(req);
    if (rc < 0) {
        return rc;
    }
    if (req->flags & FIBRIL__REQ_CHUNKED_OUT) {
        return end_chunks(req);
    }
    bool whole = (req->flags & FIBRIL__REQ_BODILESS) || !(req->flags & FIBRIL__REQ_LENGTH_SET) ||
                 req->written == req->content_length;
    return whole ? 0 : -EPROTO;
}

/* ---- is anybody there? ----------------------------------------------------------------------- */

bool fibril_http_gone(struct fibril_http_req *req)
{
    if (req->conn->error) {
        return true;
    }
    return fibril_fd_wait(req->conn->fd, POLLRDHUP, 0) > 0;
}

int fibril_http_gone_wait(struct fibril_http_req *req, int64_t deadline_ns)
{
    if (req->conn->error) {
        return 0;
    }
    int rc = fibril_fd_wait(req->conn->fd, POLLRDHUP, deadline_ns);
    return rc > 0 ? 0 : rc;
}
