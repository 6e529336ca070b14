/* SPDX-License-Identifier: MIT */
/*
 * The body of a request as a blocking stream. A body of known length goes straight from the socket
 * into the reader's memory once the bytes that came with the head are used up; a chunked one is
 * decoded from the receive buffer.
 *
 * Two clocks watch the peer, and only while the handler waits for it: no byte for body_idle_ns, and
 * fewer bytes in all than body_rate allows. A handler that takes its time costs the peer nothing.
 *
 * An error repeats: the framing is lost after it, and the connection ends with the request.
 */
#include "http/request.h"

#include "base/alloc.h"
#include "http/out.h"
#include "http/server.h"

#include <errno.h>
#include <string.h>

/* A body that was read at once: freed with the request. */
struct fibril__http_whole {
    struct fibril__http_whole *next;
    char bytes[];
};

static int fail(struct fibril_http_req *req, ssize_t error)
{
    req->body_error = (int32_t)error;
    return (int)error;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How long the peer may still keep us waiting before its average is too low. */
static int64_t rate_budget(const struct fibril_http_req *req)
{
    const struct fibril_http_limits *limits = &req->conn->lane->srv->limits;
    if (limits->body_idle_ns == FIBRIL_FOREVER || limits->body_rate == UINT64_MAX) {
        return FIBRIL_FOREVER;
    }
    uint64_t earned = req->received / limits->body_rate;
    if (earned > 1000000000) {
        return FIBRIL_FOREVER;
    }
    return limits->body_idle_ns + (int64_t)earned * 1000000000 - req->waited_ns;
}

/* Receives into buf, or into the connection's buffer when that is NULL. 0 is the end, which comes
 * too soon. */
static ssize_t receive(struct fibril_http_req *req, void *buf, size_t len, int64_t deadline_ns)
{
    struct fibril__http_conn *conn = req->conn;
    const struct fibril_http_limits *limits = &conn->lane->srv->limits;
    int64_t begin = fibril_now();
    int64_t patience = sooner(limits->body_idle_ns, rate_budget(req));
    int64_t late =
        patience == FIBRIL_FOREVER ? FIBRIL_FOREVER : begin + (patience > 0 ? patience : 0);
    int64_t until = sooner(late, deadline_ns);
    size_t room = limits->trailer_bytes + FIBRIL__HTTP_BUFFER;
    ssize_t n = buf ? fibril__http_conn_recv(conn, buf, len, until)
                    : fibril__http_conn_fill(conn, room, until);
    req->waited_ns += fibril_now() - begin;
    if (n > 0) {
        req->received += (uint64_t)n;
        return n;
    }
    if (n == 0 || n == -ECONNRESET) {
        return fail(req, -EPIPE);
    }
    if (n == -ETIMEDOUT && late > deadline_ns) {
        return n; /* the caller's own patience: it may come again */
    }
    if (n == -ETIMEDOUT) {
        FIBRIL__COUNT(conn->lane, timeouts, 1);
        req->flags |= FIBRIL__REQ_BODY_LATE;
    }
    return n == -ECANCELED ? n : fail(req, n);
}

/* The peer that asked for it is told to go on, unless it went on by itself. */
static int begin_body(struct fibril_http_req *req)
{
    req->flags |= FIBRIL__REQ_BODY_BEGUN;
    bool asks = req->flags & FIBRIL__REQ_EXPECT;
    req->flags &= (uint16_t)~FIBRIL__REQ_EXPECT;
    if (!asks || fibril__http_conn_buffered(req->conn) > 0 ||
        (req->flags & FIBRIL__REQ_COMMITTED)) {
        return 0;
    }
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *room = fibril__http_out_room(req->conn, sizeof(go_on) - 1);
    if (!room) {
        return -req->conn->error;
    }
    memcpy(room, go_on, sizeof(go_on) - 1);
    req->conn->out_len = (uint16_t)(req->conn->out_len + sizeof(go_on) - 1);
    return fibril__http_out_flush(req->conn);
}

/* ---- known length ---------------------------------------------------------------------------- */

static ssize_t read_known(struct fibril_http_req *req, void *buf, size_t len, int64_t deadline_ns)
{
    struct fibril__http_conn *conn = req->conn;
    if (len > req->left) {
        len = (size_t)req->left;
    }
    size_t buffered = fibril__http_conn_buffered(conn);
    ssize_t n;
    if (buffered > 0) {
        n = (ssize_t)(buffered < len ? buffered : len);
        memcpy(buf, conn->in + conn->in_at, (size_t)n);
        conn->in_at += (uint32_t)n;
        req->received += (uint64_t)n;
        fibril__http_conn_trim(conn);
    } else {
        n = receive(req, buf, len, deadline_ns);
    }
    if (n > 0) {
        req->left -= (uint64_t)n;
        req->flags |= req->left == 0 ? FIBRIL__REQ_BODY_DONE : 0;
    }
    return n;
}

/* ---- chunked --------------------------------------------------------------------------------- */

static int chunks_new(struct fibril_http_req *req)
{
    struct fibril_http_server *srv = req->conn->lane->srv;
    struct fibril__http_chunks *c;
    size_t bytes = sizeof(*c) + srv->limits.trailers_max * sizeof(c->fields[0]);
    c = fibril__http_block_take(&req->conn->lane->pool, bytes);
    if (!c) {
        return -ENOMEM;
    }
    c->bytes = bytes;
    fibril__http_chunk_init(&c->decoder, &srv->parser_limits, c->fields, srv->limits.trailers_max);
    req->chunks = c;
    return 0;
}

/* Keeps the trailers beyond the receive buffer: NAME NUL VALUE NUL ... */
static int keep_trailers(struct fibril_http_req *req)
{
    const struct fibril__http_chunks *c = req->chunks;
    for (size_t i = 0; i < c->decoder.field_count; i++) {
        const struct fibril__span parts[2] = {c->fields[i].name, c->fields[i].value};
        for (int part = 0; part < 2; part++) {
            int rc = fibril__http_text_add(req, &req->trailers_in,
                                           parts[part].len ? parts[part].ptr : "", parts[part].len,
                                           UINT32_MAX / 4);
            rc = rc < 0 ? rc : fibril__http_text_add(req, &req->trailers_in, "", 1, UINT32_MAX / 4);
            if (rc < 0) {
                return rc;
            }
        }
        req->trailer_count++;
    }
    return 0;
}

/* Hands out a run of data that the decoder has pointed out; `left` is what remains of it. */
static ssize_t take_run(struct fibril_http_req *req, void *buf, size_t len)
{
    struct fibril__http_conn *conn = req->conn;
    size_t n = req->left < len ? (size_t)req->left : len;
    memcpy(buf, conn->in + conn->in_at, n);
    conn->in_at += (uint32_t)n;
    req->left -= n;
    fibril__http_conn_trim(conn);
    return (ssize_t)n;
}

/* Decodes what is buffered: FIBRIL__HTTP_CHUNK_DATA with a run at in_at, FIBRIL__HTTP_CHUNK_END,
 * -EAGAIN when more bytes are needed, -EPROTO, -EMSGSIZE. */
static int decode(struct fibril_http_req *req)
{
    struct fibril__http_conn *conn = req->conn;
    struct fibril__span data;
    size_t used = 0;
    size_t offered = fibril__http_conn_buffered(conn);
    if (offered == 0) {
        return -EAGAIN;
    }
    int rc = fibril__http_chunk_next(&req->chunks->decoder, conn->in + conn->in_at, offered, &used,
                                     &data);
    conn->in_at += (uint32_t)used;
    if (rc == FIBRIL__HTTP_CHUNK_DATA) {
        conn->in_at -= (uint32_t)data.len;
        req->left = data.len;
        return req->chunks->decoder.total > req->limit ? -EMSGSIZE : rc;
    }
    return rc == FIBRIL__HTTP_CHUNK_END || rc == -EAGAIN ? rc : -EPROTO;
}

static ssize_t read_chunked(struct fibril_http_req *req, void *buf, size_t len, int64_t deadline_ns)
{
    int rc = req->chunks ? 0 : chunks_new(req);
    if (rc < 0) {
        return fail(req, rc);
    }
    while (req->left == 0) {
        rc = decode(req);
        if (rc == FIBRIL__HTTP_CHUNK_END) {
            rc = keep_trailers(req);
            req->flags |= FIBRIL__REQ_BODY_DONE;
            fibril__http_conn_trim(req->conn);
            return rc < 0 ? fail(req, rc) : 0;
        }
        if (rc == -EAGAIN) {
            ssize_t n = receive(req, NULL, 0, deadline_ns);
            if (n < 0) {
                return n;
            }
        } else if (rc < 0) {
            return fail(req, rc);
        }
    }
    return take_run(req, buf, len);
}

/* ---- the calls ------------------------------------------------------------------------------- */

int64_t fibril_http_body_length(const struct fibril_http_req *req)
{
    return req->length;
}

int fibril_http_body_limit(struct fibril_http_req *req, uint64_t bytes)
{
    if (req->flags & FIBRIL__REQ_BODY_BEGUN) {
        return -EBUSY;
    }
    req->limit = bytes;
    return 0;
}

ssize_t fibril_http_body_read(struct fibril_http_req *req, void *buf, size_t len,
                              int64_t deadline_ns)
{
    if (req->body_error) {
        return req->body_error;
    }
    if ((req->flags & FIBRIL__REQ_BODY_DONE) || len == 0) {
        return 0;
    }
    if (req->length >= 0 && (uint64_t)req->length > req->limit) {
        return fail(req, -EMSGSIZE);
    }
    if (!(req->flags & FIBRIL__REQ_BODY_BEGUN)) {
        int rc = begin_body(req);
        if (rc < 0) {
            return fail(req, rc);
        }
    }
    return req->length >= 0 ? read_known(req, buf, len, deadline_ns)
                            : read_chunked(req, buf, len, deadline_ns);
}

static struct fibril__http_whole *whole_grow(struct fibril__http_whole *whole, size_t bytes)
{
    return fibril__realloc(whole, sizeof(*whole) + bytes + 1);
}

/* Reads on to the end into *whole, which has room for `bytes` and a NUL and grows. */
static ssize_t read_whole(struct fibril_http_req *req, struct fibril__http_whole **whole,
                          size_t bytes, size_t max, int64_t deadline_ns)
{
    size_t len = 0;
    for (;;) {
        /* One byte more than fits is asked for, to see the end. */
        ssize_t n = fibril_http_body_read(req, (*whole)->bytes + len, bytes + 1 - len, deadline_ns);
        if (n <= 0) {
            return n < 0 ? n : (ssize_t)len;
        }
        len += (size_t)n;
        if (len > max) {
            return fail(req, -EMSGSIZE);
        }
        if (len > bytes) {
            struct fibril__http_whole *larger = whole_grow(*whole, bytes * 2);
            if (!larger) {
                return fail(req, -ENOMEM);
            }
            *whole = larger;
            bytes *= 2;
        }
    }
}

ssize_t fibril_http_body_all(struct fibril_http_req *req, size_t max, const char **ret_body,
                             int64_t deadline_ns)
{
    if (req->length > 0 && (uint64_t)req->length > max) {
        return req->body_error ? req->body_error : fail(req, -EMSGSIZE);
    }
    size_t bytes = req->length >= 0 ? (size_t)req->length : FIBRIL__HTTP_BLOCK;
    struct fibril__http_whole *whole = whole_grow(NULL, bytes);
    if (!whole) {
        return -ENOMEM;
    }
    ssize_t len = read_whole(req, &whole, bytes, max, deadline_ns);
    if (len < 0) {
        fibril__free(whole);
        return len;
    }
    whole->bytes[len] = '\0';
    whole->next = req->wholes;
    req->wholes = whole;
    *ret_body = whole->bytes;
    return len;
}

bool fibril_http_trailer_at(const struct fibril_http_req *req, size_t i, const char **ret_name,
                            const char **ret_value)
{
    if (i >= req->trailer_count) {
        return false;
    }
    const char *at = req->trailers_in.ptr;
    for (size_t skip = 2 * i; skip > 0; skip--) {
        at += strlen(at) + 1;
    }
    *ret_name = at;
    *ret_value = at + strlen(at) + 1;
    return true;
}

/* ---- the end --------------------------------------------------------------------------------- */

bool fibril__http_body_droppable(const struct fibril_http_req *req)
{
    if (req->flags & FIBRIL__REQ_BODY_DONE) {
        return true;
    }
    if (req->body_error || (req->flags & FIBRIL__REQ_EXPECT)) {
        return false;
    }
    return req->length < 0 || req->left <= req->conn->lane->srv->limits.drain_bytes;
}

bool fibril__http_body_drop(struct fibril_http_req *req)
{
    size_t allowed = req->conn->lane->srv->limits.drain_bytes;
    char bytes[512];
    if (!fibril__http_body_droppable(req)) {
        return false;
    }
    req->limit = UINT64_MAX;
    req->flags |= FIBRIL__REQ_BODY_BEGUN;
    while (!(req->flags & FIBRIL__REQ_BODY_DONE)) {
        ssize_t n = fibril_http_body_read(req, bytes, sizeof(bytes), FIBRIL_FOREVER);
        if (n < 0 || (size_t)n > allowed) {
            return false;
        }
        allowed -= (size_t)n;
    }
    return true;
}

void fibril__http_body_free(struct fibril_http_req *req)
{
    if (req->chunks) {
        fibril__http_block_give(&req->conn->lane->pool, req->chunks, req->chunks->bytes);
        req->chunks = NULL;
    }
    fibril__http_text_free(req, &req->trailers_in);
    while (req->wholes) {
        struct fibril__http_whole *whole = req->wholes;
        req->wholes = whole->next;
        fibril__free(whole);
    }
}
