/* SPDX-License-Identifier: MIT */
/*
 * fibril HTTP: a strict HTTP/1.1 server in which every request runs in a fibril of its own.
 *
 * A handler is plain code that reads the body and writes the response as blocking streams; slow
 * peers push back on it and on nobody else. A connection between two requests has neither stack nor
 * buffer.
 *
 *     static int hello(struct fibril_http_req *req, void *arg)
 *     {
 *         return fibril_http_respond(req, 200, "text/plain", "hello\n", 6);
 *     }
 *
 *     fibril_http_server_new(NULL, &srv);
 *     fibril_http_route(srv, "GET", "/hello", hello, NULL);
 *     fibril_http_server_listen(srv, "127.0.0.1:8080");
 *     fibril_http_server_run(srv);
 *
 * Conventions as in fibril.h. Calls on a request are made by the fibril that runs its handler and
 * by no other. Strings that they return live until the handler returns. Bodies, sizes and status
 * codes are what goes over the wire; nothing is compressed or re-coded.
 */
#ifndef FIBRIL_HTTP_H
#define FIBRIL_HTTP_H

#include <fibril/fibril.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fibril_http_server; /* listeners, routes, limits and the connections they brought */
struct fibril_http_req;    /* one request and its response */

/* ---- Limits ---------------------------------------------------------------------------------- */

/* What a peer may make the server hold, read or wait for. In the options of a server a zero field
 * means the default that stands beside it; fibril_http_limits_default fills them all in.
 * FIBRIL_FOREVER in a time and UINT64_MAX in body_bytes mean no limit. Caps that are "per server"
 * are shared evenly among its loops. */
struct fibril_http_limits {
    size_t request_line_bytes; /* 8192; more: 414 */
    size_t field_bytes;        /* 8192, one header line; more: 431 */
    size_t head_bytes;         /* 32768, request line and all headers; more: 431 */
    unsigned fields_max;       /* 100 header lines; more: 431 */
    size_t trailer_bytes;      /* 8192 */
    unsigned trailers_max;     /* 32 */
    uint64_t body_bytes; /* 1048576; more: 413; a handler can set its own, fibril_http_body_limit */
    size_t drain_bytes;  /* 65536 of a body that the handler left unread are read to save the
                            connection; with more it is closed */
    int64_t first_byte_ns; /* 10 s from accept to the first byte; late: closed */
    int64_t head_ns;       /* 10 s from the first byte of a head to its end; late: 408 */
    int64_t body_idle_ns;  /* 30 s between two bytes of a body; late: 408 */
    uint64_t body_rate; /* 500 bytes a second, averaged over the waiting for a body after its first
                           body_idle_ns; slower: 408 */
    int64_t write_idle_ns;     /* 30 s in which the peer takes not one byte; late: closed */
    int64_t keep_alive_ns;     /* 65 s of idle connection; then closed */
    int64_t linger_ns;         /* 2 s of reading on after a refusal, so that the peer sees it */
    unsigned requests_max;     /* 100000 on one connection; then closed */
    int64_t connection_age_ns; /* 1 h, a tenth more or less by chance; then closed after the
                                  response */
    unsigned connections_max;  /* 100000 at once, per server; then idle ones are closed, then 503 */
    unsigned per_address_max;  /* 0: no limit (default); connections at once from one address; then
                                  503.  An IPv6 address counts by its first 64 bits */
    unsigned handlers_max;     /* 50000 handlers at once, per server; then 503 with Retry-After */
    unsigned retry_after_s;    /* 1, the value of Retry-After in a 503 of the server itself */
};

/* Fills in the defaults. Callable anywhere. */
FIBRIL_API void fibril_http_limits_default(struct fibril_http_limits *ret_limits);

/* ---- Logs ------------------------------------------------------------------------------------ */

enum fibril_http_log {
    FIBRIL_HTTP_LOG_NONE = 0,
    FIBRIL_HTTP_LOG_COMBINED, /* the format of that name, with the microseconds it took at the end
                               */
    FIBRIL_HTTP_LOG_JSON,     /* one object a line */
};

/* One answered request, as the access log sees it. */
struct fibril_http_access {
    const char *peer; /* address without port; "unix:" for UNIX sockets */
    const char *method, *target, *referer, *user_agent; /* "" where there is none */
    int64_t time_s;                                     /* of its end, seconds since 1970 */
    int64_t duration_ns; /* from its first byte seen to the last of the response handed over */
    uint64_t body_bytes; /* of the response, framing not counted */
    int status;
    int version_minor; /* HTTP/1.x */
};

/* ---- Server ---------------------------------------------------------------------------------- */

/* Options of a server; all zero is the default. Strings and the struct itself are copied. */
struct fibril_http_opts {
    struct fibril_http_limits limits; /* zero fields mean the defaults */
    unsigned loops;          /* 0: the loop that calls run; n: loops number 0 to n-1, each with a
                                listening socket of its own (SO_REUSEPORT) */
    enum fibril_stack stack; /* of handlers */
    size_t stack_bytes;      /* of handlers with own stacks; 0: the runtime's default */
    bool daemon;             /* its fibrils are daemons: it does not keep its loops from ending */
    const char *server_name; /* the Server header; NULL: "fibril"; "": none */
    int backlog;             /* of listening sockets; 0: 4096 */
    enum fibril_http_log access_log;
    int access_log_fd; /* 0: standard output. Lines are buffered for up to a second */
    int error_log_fd;  /* 0: standard error; -1: no error log */
    /* Called besides, on the fibril of the request; must not park. NULL: not called. */
    void (*on_access)(void *log_arg, const struct fibril_http_access *access);
    void (*on_error)(void *log_arg, const char *text);
    void *log_arg;
};

/* Makes a server. opts may be NULL. -EINVAL for options that contradict themselves, -ENOMEM. */
FIBRIL_API int fibril_http_server_new(const struct fibril_http_opts *opts,
                                      struct fibril_http_server **ret_server);

/* Frees a server that is not running, and closes its listening sockets. NULL is ignored. */
FIBRIL_API void fibril_http_server_free(struct fibril_http_server *srv);

/* Listens on an address as fibril_addr_parse takes it: "127.0.0.1:8080", "[::]:80", "*:80",
 * "unix:/path"; port 0 lets the kernel choose. May be called several times before run (-EBUSY
 * while running). Returns the number of the listener, from 0, or what bind and listen said. Never
 * parks. */
FIBRIL_API int fibril_http_server_listen(struct fibril_http_server *srv, const char *address);

/* Adds a socket that listens already (handed over by a parent or a service manager); the server
 * owns it from now on. All loops accept from it. Otherwise as fibril_http_server_listen. */
FIBRIL_API int fibril_http_server_listen_fd(struct fibril_http_server *srv, int fd);

/* Writes the address that listener i is bound to, in the form above. Returns its length, -ENOENT,
 * -ENOSPC. */
FIBRIL_API int fibril_http_server_address(const struct fibril_http_server *srv, unsigned i,
                                          char *ret_text, size_t size);

/* Serves until it has been stopped and drained; then the listening sockets are closed. Returns 0
 * when every request was finished, -ETIMEDOUT when some had to be cancelled at the deadline of
 * the drain, -EINVAL without a listener, -EBUSY when it runs already or a loop of opts.loops is
 * missing, -ENOMEM. A cancelled caller stops the server at once and gets -ECANCELED. MAY PARK. */
FIBRIL_API int fibril_http_server_run(struct fibril_http_server *srv);

/* Asks a running server to end: connections that already wait to be accepted are taken in, no
 * more are; idle ones are closed at once; requests go on to their end and are answered with
 * `Connection: close`. What still runs when drain_deadline_ns comes is cancelled. May be called
 * again to bring the deadline forward. Thread-safe, never parks, from any OS thread; called
 * before run, it makes run return at once. */
FIBRIL_API void fibril_http_server_stop(struct fibril_http_server *srv, int64_t drain_deadline_ns);

/* As fibril_http_server_stop, for a server that another one follows on the same sockets: idle
 * connections stay until their next request, which is answered with `Connection: close`, so that no
 * request meets a closed connection; until they are late, or the deadline comes. */
FIBRIL_API void fibril_http_server_retire(struct fibril_http_server *srv,
                                          int64_t drain_deadline_ns);

enum {
    FIBRIL_HTTP_LATENCY_BUCKETS = 28, /* bucket i counts requests that took below 2^i microseconds;
                                         the last one all that took longer */
};

/* Counters of a server since it was made, gauges as of now, over all its loops. */
struct fibril_http_stats {
    uint64_t accepted;            /* connections taken */
    uint64_t connections;         /* open now ... */
    uint64_t idle;                /* ... of which wait for a request */
    uint64_t requests;            /* answered */
    uint64_t in_flight;           /* handlers that run now */
    uint64_t in_flight_max;       /* most of them at once so far, summed over the loops */
    uint64_t status[6];           /* answers by class: [2] counts 2xx; [0] those of no class */
    uint64_t bytes_in, bytes_out; /* as seen on the sockets; the kernel's own headers not counted */
    uint64_t sends, receives;     /* calls that moved them */
    uint64_t refused_head;        /* heads refused: 400, 414, 417, 431, 501, 505 */
    uint64_t refused_connections; /* over connections_max or per_address_max */
    uint64_t refused_handlers;    /* over handlers_max */
    uint64_t timeouts;      /* of heads, bodies and writes; idle connections are not counted */
    uint64_t accept_pauses; /* for want of descriptors or memory */
    uint64_t aborted;      /* responses broken off: the peer went, or the handler failed half-way */
    uint64_t log_lost;     /* access log lines dropped because the log took no more */
    uint64_t buffer_bytes; /* held by buffers and requests now, caches not counted */
    uint64_t latency[FIBRIL_HTTP_LATENCY_BUCKETS]; /* of answered requests */
};

/* Fills ret_stats. The figures of other loops may be a little out of step with each other. Never
 * parks; any OS thread. */
FIBRIL_API void fibril_http_server_stats(const struct fibril_http_server *srv,
                                         struct fibril_http_stats *ret_stats);

/* ---- Routes ---------------------------------------------------------------------------------- */

/* Answers one request, in a fibril of its own. May park; on the same connection the next request
 * waits for it. When it returns 0 or more the response is completed: without any it is empty,
 * with the status set so far. When it returns a negative errno and nothing has been sent yet, the
 * server answers: -ENOENT 404, -EACCES and -EPERM 403, -EINVAL and -EPROTO 400, -EMSGSIZE 413,
 * -ETIMEDOUT 408 if it came of the request's body, else 504, -ENOMEM 503, others 500; once
 * something has been sent, the connection is broken off so that the peer can tell. */
typedef int fibril_http_handler(struct fibril_http_req *req, void *arg);

/* Has requests with that method and a path of that pattern answered by handler(req, arg). method
 * NULL means any. A pattern begins with a slash; a segment {name} stands for exactly one segment
 * that is not empty, and {name*} at the end for the rest, which may be empty and may hold
 * slashes. The pattern with the earlier fixed segment wins, whatever the order of the calls; so
 * does a method over NULL. Paths are matched after decoding and without `.`, `..` and empty
 * segments. HEAD falls back to GET. A path that only other methods have gets 405 with Allow
 * (OPTIONS: 204 with Allow); an unknown one 404. -EINVAL for a malformed pattern, -EEXIST for one
 * that says the same, -EBUSY while the server runs, -ENOMEM. */
FIBRIL_API int fibril_http_route(struct fibril_http_server *srv, const char *method,
                                 const char *pattern, fibril_http_handler *handler, void *arg);

struct fibril_http_static_opts {
    const char *index;         /* file served for a directory; NULL: "index.html"; "": none */
    const char *cache_control; /* that header; NULL: none */
    bool dotfiles;             /* serve names that begin with a dot (else 404) */
    size_t cache_file_bytes;   /* largest file kept in memory; 0: 65536 */
    size_t cache_bytes;        /* all of them, per loop; 0: 16 MiB; SIZE_MAX: no cache */
};

/* Serves the files below directory dir for GET and HEAD under prefix, which begins and ends with
 * a slash. No path or symbolic link leads out of dir. Ranges, ETag, Last-Modified, If-*, index
 * files, redirection of a directory to its slash. opts may be NULL. Opens dir at once: -ENOENT,
 * -ENOTDIR, -EACCES; others as fibril_http_route. MAY PARK. */
FIBRIL_API int fibril_http_static(struct fibril_http_server *srv, const char *prefix,
                                  const char *dir, const struct fibril_http_static_opts *opts);

/* ---- Request --------------------------------------------------------------------------------- */
/* None of these parks. */

/* The method as it was sent: case matters. */
FIBRIL_API const char *fibril_http_method(const struct fibril_http_req *req);
/* The request target as it was sent. */
FIBRIL_API const char *fibril_http_target(const struct fibril_http_req *req);
/* The path of the target, decoded and normalised: what routes are matched against. "*" for
 * OPTIONS of all. */
FIBRIL_API const char *fibril_http_path(const struct fibril_http_req *req);
/* What follows the question mark, as it was sent; NULL without one. */
FIBRIL_API const char *fibril_http_query(const struct fibril_http_req *req);
/* Decodes the first query parameter of that name into ret_value, with a NUL (`+` is a space).
 * Returns its length, -ENOENT without one, -ENOSPC, -EINVAL for broken escapes. */
FIBRIL_API ssize_t fibril_http_query_get(const struct fibril_http_req *req, const char *name,
                                         char *ret_value, size_t size);
/* The part of the path that {name} of the route's pattern stands for, or NULL. */
FIBRIL_API const char *fibril_http_param(const struct fibril_http_req *req, const char *name);
/* The value of the first header of that name, in any case, or NULL. */
FIBRIL_API const char *fibril_http_header_get(const struct fibril_http_req *req, const char *name);
/* Header i in order of arrival; false beyond the last. */
FIBRIL_API bool fibril_http_header_at(const struct fibril_http_req *req, size_t i,
                                      const char **ret_name, const char **ret_value);
/* Whether a header's name has an underscore, which a CGI or WSGI environment cannot tell from a
 * hyphen: leave it out there. */
FIBRIL_API bool fibril_http_header_has_underscore(const struct fibril_http_req *req, size_t i);
/* The host that is asked for, from the target or the Host header, port included; "" if HTTP/1.0
 * gave none. */
FIBRIL_API const char *fibril_http_host(const struct fibril_http_req *req);
/* Writes the peer's address as text, "unix:" for a UNIX socket. Returns its length or -ENOSPC. */
FIBRIL_API int fibril_http_peer(const struct fibril_http_req *req, char *ret_text, size_t size);
/* 0 or 1: HTTP/1.x. */
FIBRIL_API int fibril_http_version_minor(const struct fibril_http_req *req);
/* Whether the connection will be used again after this response, as far as is known. */
FIBRIL_API bool fibril_http_keep_alive(const struct fibril_http_req *req);
/* The server that the request came to. */
FIBRIL_API struct fibril_http_server *fibril_http_server_of(const struct fibril_http_req *req);

/* ---- Request body ---------------------------------------------------------------------------- */

/* The length the peer announced; 0 without a body, -1 when it is chunked. Never parks. */
FIBRIL_API int64_t fibril_http_body_length(const struct fibril_http_req *req);

/* Sets how much body this request may have, before its first read (-EBUSY after it). */
FIBRIL_API int fibril_http_body_limit(struct fibril_http_req *req, uint64_t bytes);

/* Reads at most len bytes of the body; 0 at its end. The first read asks a waiting peer to go on
 * (100-continue). -EMSGSIZE when there is more than the limit, -EPROTO for broken framing, -EPIPE
 * when the peer went away, -ETIMEDOUT when it is too slow for the limits or the deadline passes.
 * After an error of the peer's the handler should return it. MAY PARK. */
FIBRIL_API ssize_t fibril_http_body_read(struct fibril_http_req *req, void *buf, size_t len,
                                         int64_t deadline_ns);

/* Reads the whole body into memory that lives as long as the request, with a NUL behind it. At
 * most `max` bytes (-EMSGSIZE). Returns its length; otherwise as fibril_http_body_read. */
FIBRIL_API ssize_t fibril_http_body_all(struct fibril_http_req *req, size_t max,
                                        const char **ret_body, int64_t deadline_ns);

/* Trailer i that followed a chunked body, once it has been read to its end; false beyond the
 * last. Trailers are never among the headers. Never parks. */
FIBRIL_API bool fibril_http_trailer_at(const struct fibril_http_req *req, size_t i,
                                       const char **ret_name, const char **ret_value);

/* ---- Response -------------------------------------------------------------------------------- */
/* The head leaves with the first bytes of the body, or with a flush. Until then status and
 * headers may be set; after it those calls return -EBUSY. What the application passes is checked:
 * -EINVAL for bytes that would split a response. Where a call MAY PARK the peer has
 * limits.write_idle_ns to take each piece; the errors are -EPIPE (it went away), -ETIMEDOUT,
 * -ECANCELED, and they repeat. */

/* Sets the status, 200 to 599; 200 unless set. Never parks. */
FIBRIL_API int fibril_http_status(struct fibril_http_req *req, int status);

/* Adds a header; the same name may come several times. Date, Server, Connection, Transfer-
 * Encoding are the server's (-EINVAL; but `Connection: close` is taken as a wish); Content-Length
 * is as fibril_http_content_length. -ENOBUFS beyond 32 KiB of headers. Never parks. */
FIBRIL_API int fibril_http_header(struct fibril_http_req *req, const char *name, const char *value);

/* Announces the length of the body. Writing more fails with -EMSGSIZE, ending with less breaks
 * the connection off. Without it the body is chunked, or for HTTP/1.0 ends with the connection.
 * Never parks. */
FIBRIL_API int fibril_http_content_length(struct fibril_http_req *req, uint64_t bytes);

/* Forgets status, headers, length and trailers that have been set. -EBUSY when the head has left.
 * Never parks. */
FIBRIL_API int fibril_http_reset(struct fibril_http_req *req);

/* Writes len bytes of the body; they may stay in a buffer until it is full, flushed, or the
 * handler returns. Returns 0. For HEAD, 204 and 304 they are counted and dropped. MAY PARK. */
FIBRIL_API int fibril_http_write(struct fibril_http_req *req, const void *data, size_t len);

/* Writes len bytes of a regular file from `offset` on, handed over by the kernel, to a response
 * whose length is announced (else -EINVAL); -EIO when the file ends before. MAY PARK. */
FIBRIL_API int fibril_http_write_file(struct fibril_http_req *req, int fd, uint64_t offset,
                                      uint64_t len);

/* Sends what is buffered, the head included. MAY PARK. */
FIBRIL_API int fibril_http_flush(struct fibril_http_req *req);

/* Adds a trailer to a chunked response, at any time before the handler returns. Ignored where the
 * response is not chunked. -EINVAL also for names that may not be trailers. Never parks. */
FIBRIL_API int fibril_http_trailer(struct fibril_http_req *req, const char *name,
                                   const char *value);

/* The whole response at once: status, Content-Type (NULL: none), Content-Length and body. MAY
 * PARK. */
FIBRIL_API int fibril_http_respond(struct fibril_http_req *req, int status, const char *type,
                                   const void *body, size_t len);

/* Whether the peer has closed its side, so that a response interests nobody. Does not wait, but may
 * yield as any I/O that needs no wait. */
FIBRIL_API bool fibril_http_gone(struct fibril_http_req *req);

/* Waits until the peer goes away: 0; or -ETIMEDOUT. What else it sends meanwhile is left for
 * later. MAY PARK. */
FIBRIL_API int fibril_http_gone_wait(struct fibril_http_req *req, int64_t deadline_ns);

/* ---- Server-sent events ---------------------------------------------------------------------- */

/* Begins a stream of events (text/event-stream, no caching) and sends its head. MAY PARK. */
FIBRIL_API int fibril_http_sse_start(struct fibril_http_req *req);

/* Sends one event; event NULL means "message"; data may have several lines. -EINVAL for a line
 * break in `event`. -EPIPE when the peer has gone. MAY PARK. */
FIBRIL_API int fibril_http_sse_send(struct fibril_http_req *req, const char *event,
                                    const char *data);

#ifdef __cplusplus
}
#endif

#endif
