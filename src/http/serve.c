/* SPDX-License-Identifier: MIT */
/*
 * See serve.h. The parser and its array of fields are some 4 KiB that are needed only until a head
 * is complete, so they are borrowed from the lane, and stacks stay small.
 */
#include "http/serve.h"

#include "base/alloc.h"
#include "http/out.h"
#include "http/request.h"
#include "http/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WAIT_LONGER = 1, ENDED = 2 }; /* of read_head, beside 0 and a status */

struct fibril__http_scratch {
    struct fibril__http_scratch *next; /* while it is spare */
    struct fibril__http_parser parser;
    struct fibril__http_field fields[];
};

static struct fibril__http_scratch *scratch_take(struct fibril__http_lane *lane)
{
    struct fibril__http_scratch *s = lane->scratch;
    if (s) {
        lane->scratch = s->next;
        return s;
    }
    return fibril__alloc(sizeof(*s) + lane->srv->limits.fields_max * sizeof(s->fields[0]));
}

static void scratch_give(struct fibril__http_lane *lane, struct fibril__http_scratch *s)
{
    s->next = lane->scratch;
    lane->scratch = s;
}

void fibril__http_scratch_fini(struct fibril__http_lane *lane)
{
    while (lane->scratch) {
        struct fibril__http_scratch *s = lane->scratch;
        lane->scratch = s->next;
        fibril__free(s);
    }
}

/* ---- the head -------------------------------------------------------------------------------- */

/* More bytes of a head: 0, WAIT_LONGER when not even its first has come, ENDED, or a status. */
static int receive(struct fibril__http_conn *conn, int64_t begun_ns)
{
    const struct fibril_http_limits *limits = &conn->lane->srv->limits;
    bool begun = fibril__http_conn_buffered(conn) > 0;
    if (conn->out_len > 0 && fibril__http_out_flush(conn) < 0) {
        return ENDED;
    }
    int64_t deadline =
        limits->head_ns == FIBRIL_FOREVER ? FIBRIL_FOREVER : begun_ns + limits->head_ns;
    ssize_t n = fibril__http_conn_fill(conn, limits->head_bytes + FIBRIL__HTTP_BUFFER,
                                       begun ? deadline : 0);
    if (n > 0) {
        return 0;
    }
    if (n == -EAGAIN) {
        return WAIT_LONGER;
    }
    if (n == -ETIMEDOUT) {
        FIBRIL__COUNT(conn->lane, timeouts, 1);
        return 408;
    }
    return n == -ENOMEM ? 503 : n == -ENOBUFS ? 431 : ENDED;
}

static int parse(struct fibril__http_conn *conn, struct fibril__http_scratch *s, int64_t begun_ns)
{
    struct fibril_http_server *srv = conn->lane->srv;
    fibril__http_parser_init(&s->parser, &srv->parser_limits, s->fields, srv->limits.fields_max);
    for (;;) {
        size_t buffered = fibril__http_conn_buffered(conn);
        if (buffered > 0) {
            int rc = fibril__http_parse(&s->parser, conn->in + conn->in_at, buffered);
            if (rc != -EAGAIN) {
                return rc;
            }
        }
        int rc = receive(conn, begun_ns);
        if (rc != 0) {
            return rc;
        }
    }
}

static int read_head(struct fibril__http_conn *conn, int64_t begun_ns,
                     struct fibril_http_req **ret_req)
{
    struct fibril__http_lane *lane = conn->lane;
    struct fibril__http_scratch *s = scratch_take(lane);
    if (!s) {
        return 503;
    }
    int rc = parse(conn, s, begun_ns);
    if (rc == 0) {
        rc = fibril__http_req_new(conn, &s->parser.head, begun_ns, ret_req);
    }
    if (rc == 0) {
        conn->in_at += (uint32_t)s->parser.head.bytes;
        conn->requests++;
        conn->flags &= (uint8_t)~FIBRIL__CONN_FRESH;
        fibril__http_conn_trim(conn);
    }
    scratch_give(lane, s);
    return rc;
}

/* ---- figures and log ------------------------------------------------------------------------- */

static void count_answer(struct fibril__http_lane *lane, int status, int64_t duration_ns)
{
    uint64_t us = (uint64_t)duration_ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;
    if (bucket >= FIBRIL_HTTP_LATENCY_BUCKETS) {
        bucket = FIBRIL_HTTP_LATENCY_BUCKETS - 1;
    }
    FIBRIL__COUNT(lane, requests, 1);
    FIBRIL__COUNT(lane, status[status / 100 < 6 ? status / 100 : 0], 1);
    FIBRIL__COUNT(lane, latency[bucket], 1);
}

static bool logs_access(const struct fibril_http_server *srv)
{
    return srv->access_log != FIBRIL_HTTP_LOG_NONE || srv->on_access;
}

static const char *known_or_empty(const struct fibril_http_req *req, enum fibril__http_id id)
{
    const char *value = fibril__http_req_known(req, id);
    return value ? value : "";
}

/* req is NULL when the head was refused. */
static NOINLINE void log_answer(struct fibril__http_conn *conn, const struct fibril_http_req *req,
                                int status, int64_t duration_ns)
{
    struct fibril__http_lane *lane = conn->lane;
    char peer[FIBRIL__HTTP_PEER_TEXT];
    fibril__http_peer_format(&conn->peer, false, peer, sizeof(peer));
    fibril__http_lane_stamp(lane);
    struct fibril_http_access a = {
        .peer = peer,
        .method = req ? req->method : "",
        .target = req ? req->target : "",
        .referer = req ? known_or_empty(req, FIBRIL__FIELD_REFERER) : "",
        .user_agent = req ? known_or_empty(req, FIBRIL__FIELD_USER_AGENT) : "",
        .time_s = lane->second,
        .duration_ns = duration_ns,
        .body_bytes = req && !(req->flags & FIBRIL__REQ_BODILESS) ? req->written : 0,
        .status = status,
        .version_minor = req ? req->minor : 1,
    };
    fibril__http_log_access(lane, &a);
}

/* ---- what comes after a request -------------------------------------------------------------- */

static int64_t after(int64_t now_ns, int64_t ns)
{
    return ns >= FIBRIL_FOREVER - now_ns ? FIBRIL_FOREVER : now_ns + ns;
}

static void refuse(struct fibril__http_conn *conn, int status, int64_t begun_ns)
{
    struct fibril__http_lane *lane = conn->lane;
    int64_t duration = fibril_now() - begun_ns;
    if (status != 408 && status != 503) {
        FIBRIL__COUNT(lane, refused_head, 1);
    }
    fibril__http_refuse_head(conn, status);
    count_answer(lane, status, duration);
    if (logs_access(lane->srv)) {
        log_answer(conn, NULL, status, duration);
    }
    fibril__http_conn_linger(conn);
}

/* Responses that are ready together leave together: nothing is sent while more requests are at
 * hand. */
static void go_on(struct fibril__http_conn *conn, int64_t now_ns)
{
    if (fibril__http_conn_buffered(conn) > 0) {
        fibril__http_conn_spawn(conn);
        return;
    }
    if (fibril__http_out_flush(conn) < 0) {
        fibril__http_conn_close(conn);
    } else if (conn->lane->draining && !conn->lane->patient) {
        fibril__http_conn_spawn(conn); /* serves what has come meanwhile, or closes */
    } else {
        fibril__http_conn_idle(conn, after(now_ns, conn->lane->srv->limits.keep_alive_ns));
    }
}

/* The peer gets to see the response even if it is still sending. */
static void end(struct fibril__http_conn *conn, bool unread)
{
    int rc = fibril__http_out_flush(conn);
    if (rc == 0 && (unread || fibril__http_conn_buffered(conn) > 0)) {
        fibril__http_conn_linger(conn);
    } else {
        fibril__http_conn_close(conn);
    }
}

/* Lets the peer see that a response is not whole, whatever its framing. */
static void break_off(struct fibril__http_conn *conn)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    fibril__http_conn_close(conn);
}

/* ---- the request ----------------------------------------------------------------------------- */

static int status_of(const struct fibril_http_req *req, int rc)
{
    switch (rc) {
    case -ENOENT: return 404;
    case -EACCES:
    case -EPERM: return 403;
    case -EINVAL:
    case -EPROTO: return 400;
    case -EMSGSIZE: return 413;
    case -ETIMEDOUT: return req->flags & FIBRIL__REQ_BODY_LATE ? 408 : 504;
    case -ENOMEM: return 503;
    default: return 500;
    }
}

static int answer_busy(struct fibril_http_req *req)
{
    char extra[64];
    struct fibril__http_lane *lane = req->conn->lane;
    FIBRIL__COUNT(lane, refused_handlers, 1);
    snprintf(extra, sizeof(extra), "Retry-After: %u\r\n", lane->srv->limits.retry_after_s);
    return fibril__http_respond_plain(req, 503, extra);
}

static NOINLINE int answer_unrouted(struct fibril_http_req *req, int status)
{
    char extra[256] = "";
    if (status != 404) {
        static const char name[] = "Allow: ";
        memcpy(extra, name, sizeof(name));
        struct fibril__span path = {req->path, req->path_len};
        size_t at = sizeof(name) - 1;
        fibril__http_router_allow(&req->conn->lane->srv->router, path, extra + at,
                                  sizeof(extra) - at - 2);
        at = strlen(extra);
        memcpy(extra + at, "\r\n", 3);
    }
    return fibril__http_respond_plain(req, status, extra);
}

static int run_handler(struct fibril_http_req *req, const struct fibril__http_route *route)
{
    struct fibril__http_conn *conn = req->conn;
    struct fibril__http_lane *lane = conn->lane;
    FIBRIL__COUNT(lane, in_flight, 1);
    if (lane->stats.in_flight > lane->stats.in_flight_max) {
        FIBRIL__COUNT(lane, in_flight_max, 1);
    }
    bool held = conn->out_len > 0;
    if (held) {
        fibril__http_out_hold(conn);
    }
    int rc = route->handler(req, route->arg);
    if (held) {
        fibril__http_out_release(conn);
    }
    FIBRIL__COUNT(lane, in_flight, -1);
    return rc;
}

static NOINLINE const struct fibril__http_route *find_route(struct fibril_http_req *req,
                                                            int *ret_status)
{
    struct fibril__http_match match;
    struct fibril__span path = {req->path, req->path_len};
    int rc = fibril__http_router_find(&req->conn->lane->srv->router, req->method, req->method_id,
                                      path, &match);
    if (rc == 0) {
        fibril__http_req_matched(req, &match);
        return match.route;
    }
    *ret_status = req->method_id == FIBRIL__HTTP_CONNECT ? 501 : rc;
    return NULL;
}

static int dispatch(struct fibril_http_req *req)
{
    struct fibril__http_lane *lane = req->conn->lane;
    if (lane->stats.in_flight >= lane->handlers_max) {
        return answer_busy(req);
    }
    int status = 404;
    const struct fibril__http_route *route = find_route(req, &status);
    return route ? run_handler(req, route) : answer_unrouted(req, status);
}

/* What the peer did, and refusals that handlers return on purpose, are no errors of ours. */
static bool is_our_fault(const struct fibril_http_req *req, int rc)
{
    return rc != -ECANCELED && rc != -req->conn->error && rc != req->body_error &&
           (status_of(req, rc) >= 500 || (req->flags & FIBRIL__REQ_COMMITTED));
}

static NOINLINE void log_failure(const struct fibril_http_req *req, int rc)
{
    fibril__http_log_error(req->conn->lane->srv, "%s %s: handler failed: %s", req->method,
                           req->target, strerror(-rc));
}

/* Completes the response: 0, or -errno when it has to be broken off. */
static int complete(struct fibril_http_req *req, int rc)
{
    if (rc < 0) {
        if (is_our_fault(req, rc)) {
            log_failure(req, rc);
        }
        if (req->conn->error || (req->flags & FIBRIL__REQ_COMMITTED) || rc == -ECANCELED) {
            return rc;
        }
        req->flags &= (uint16_t)~FIBRIL__REQ_LENGTH_SET;
        rc = fibril__http_respond_plain(req, status_of(req, rc), "");
    }
    return rc < 0 ? rc : fibril__http_response_end(req);
}

/* Frees the request and goes on with the connection. */
static void finish(struct fibril_http_req *req, int rc)
{
    struct fibril__http_conn *conn = req->conn;
    struct fibril__http_lane *lane = conn->lane;
    rc = complete(req, rc);
    int64_t now = fibril_now();
    count_answer(lane, req->status, now - req->begun_ns);
    if (logs_access(lane->srv)) {
        log_answer(conn, req, req->status, now - req->begun_ns);
    }
    bool keep = rc >= 0 && (req->flags & FIBRIL__REQ_KEEP);
    if (keep && !(req->flags & FIBRIL__REQ_BODY_DONE)) {
        keep = fibril__http_out_flush(conn) == 0 && fibril__http_body_drop(req);
    }
    bool unread = !(req->flags & FIBRIL__REQ_BODY_DONE);
    fibril_embed_set_label(NULL);
    fibril__http_req_free(req);
    if (rc < 0) {
        FIBRIL__COUNT(lane, aborted, 1);
        break_off(conn);
    } else if (keep) {
        go_on(conn, now);
    } else {
        end(conn, unread);
    }
}

/* Nothing came: back to waiting, or the end of a drain. */
static void wait_longer(struct fibril__http_conn *conn)
{
    const struct fibril_http_limits *limits = &conn->lane->srv->limits;
    if (conn->lane->draining && !conn->lane->patient) {
        fibril__http_conn_close(conn);
    } else if (conn->flags & FIBRIL__CONN_FRESH) {
        fibril__http_conn_idle(conn, after(conn->born_ns, limits->first_byte_ns));
    } else {
        fibril__http_conn_idle(conn, fibril_after(limits->keep_alive_ns));
    }
}

/* What a request fibril is called: "GET /path". */
static size_t write_label(const struct fibril_label *label, char *text, size_t size)
{
    _Static_assert(offsetof(struct fibril_http_req, label) == 0, "the label is the request");
    const struct fibril_http_req *req = (const void *)label;
    const char *const parts[] = {req->method, " ", req->target};
    size_t len = 0;
    for (unsigned i = 0; i < 3; i++) {
        size_t part = strnlen(parts[i], size - len);
        memcpy(text + len, parts[i], part);
        len += part;
    }
    return len;
}

int fibril__http_serve(void *arg)
{
    struct fibril__http_conn *conn = arg;
    fibril__http_conn_started(conn);
    int64_t begun = fibril_now();
    if (conn->lane->killing) {
        fibril__http_conn_close(conn);
        return 0;
    }
    if (conn->flags & FIBRIL__CONN_REFUSED) {
        refuse(conn, 503, begun);
        return 0;
    }
    struct fibril_http_req *req;
    int rc = read_head(conn, begun, &req);
    if (rc == 0) {
        req->label.write = write_label;
        fibril_embed_set_label(&req->label);
        finish(req, dispatch(req));
    } else if (rc == WAIT_LONGER) {
        wait_longer(conn);
    } else if (rc == ENDED) {
        fibril__http_conn_close(conn);
    } else {
        refuse(conn, rc, begun);
    }
    return 0;
}
