/* SPDX-License-Identifier: MIT */
/*
 * What the server tests share: a server with a handful of routes on 127.0.0.1, and a client that
 * speaks raw bytes. Both live in one runtime; the test body is its main fibril. Every test runs
 * with handlers on own and on copied stacks; the poller comes from $FIBRIL_POLLER, the build runs
 * each program once per poller.
 */
#ifndef FIBRIL_TESTS_HTTP_SITE_H
#define FIBRIL_TESTS_HTTP_SITE_H

#include "test.h"

#include <fibril/fibril.h>
#include <fibril/http.h>
#include <fibril/io.h>

struct site {
    struct fibril_http_opts opts; /* to be changed before site_start */
    unsigned loops;               /* of the runtime, see SITE_TEST_LOOPS */
    struct fibril_http_server *srv;
    char address[128]; /* of listener 0 */
    struct fibril *runner;
    int result;      /* of fibril_http_server_run, after site_stop */
    char folder[64]; /* of its own, removed at the end; made by site_folder */
    /* what handlers report */
    int handler_result;
    int64_t body_length;
    _Atomic unsigned calls; /* of handlers, on any loop */
    char errors[4096];      /* what on_error was called with, a line each */
};

#define SITE_TEST_LOOPS(name, loops, seconds)                                                      \
    static void site_body_##name(struct site *site);                                               \
    TEST_WITHIN(name, seconds)                                                                     \
    {                                                                                              \
        site_run(site_body_##name, FIBRIL_STACK_OWN, loops);                                       \
        site_run(site_body_##name, FIBRIL_STACK_COPIED, loops);                                    \
    }                                                                                              \
    static void site_body_##name(struct site *site)
#define SITE_TEST(name) SITE_TEST_LOOPS(name, 1, 60)

void site_run(void (*body)(struct site *site), enum fibril_stack stack, unsigned loops);

/* Makes the server with the routes of site.c (site->srv), listening on a port of its own. */
void site_new(struct site *site);
/* Runs it in a fibril. */
void site_go(struct site *site);
/* Both. */
void site_start(struct site *site);
/* Stops it with that deadline and waits; done at the end of the test if the test did not. */
void site_stop(struct site *site, int64_t deadline_ns);

struct fibril_http_stats site_stats(const struct site *site);
/* Waits until a condition about the figures holds. */
#define SITE_UNTIL(site, condition)                                                                \
    do {                                                                                           \
        struct fibril_http_stats st = site_stats(site);                                            \
        if (condition) {                                                                           \
            break;                                                                                 \
        }                                                                                          \
        ASSERT_OK(fibril_sleep(200000));                                                           \
    } while (1)

/* An empty folder, and files in it. */
void site_folder(struct site *site);
void site_file(const struct site *site, const char *name, const void *bytes, size_t len);

/* ---- the client ---- */

enum { CLIENT_BYTES = 1 << 20 };

struct client {
    int fd;
    size_t len; /* received and not yet looked at */
    char *bytes;
    bool ended; /* the server has closed */
};

struct reply {
    int status;
    bool keeps;      /* no `Connection: close`, and 1.1 */
    char head[4096]; /* as it came */
    size_t len;      /* of the body, decoded */
    char *body;      /* with a NUL; lives until the next one */
    char trailers[512];
};

void client_open(struct client *c, const struct site *site);
void client_close(struct client *c);
void client_send(struct client *c, const char *text);
void client_send_bytes(struct client *c, const void *bytes, size_t len);

/* Reads one response, of a HEAD request or of any other. */
void client_reply(struct client *c, struct reply *r);
void client_reply_head(struct client *c, struct reply *r);
/* Whether the server closes without another byte. */
bool client_sees_end(struct client *c);

/* Sends and reads in one go, on a connection of its own that must be closed after the response. */
void ask_once(const struct site *site, const char *request, struct reply *r);

/* "GET target HTTP/1.1" with a Host, on an open connection. */
void ask(struct client *c, const char *target, struct reply *r);

/* Whether the reply has that header line, given without CRLF. */
bool reply_has(const struct reply *r, const char *line);
/* The value of a header, or "". */
const char *reply_value(const struct reply *r, const char *name);

/* Byte i of the pattern that /big writes. */
static inline char site_byte(size_t i)
{
    return (char)('a' + i % 23);
}

#endif
