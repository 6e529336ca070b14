/* SPDX-License-Identifier: MIT */
/*
 * The observer's server over real sockets on loopback: what it answers, what it refuses, and that
 * its text for Prometheus is what that format allows, by a strict reader.
 */
#include "test.h"

#include <fibril/actor.h>
#include <fibril/io.h>
#include <fibril/observe.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 1 << 20 };
#define SOON fibril_after(INT64_C(20000000000))

static char address[128];
static char answer[ANSWER_MAX];

/* ---- a client ---- */

static int open_to(const char *target, const char *host)
{
    struct fibril_addr to;
    char request[2048];
    ASSERT_OK(fibril_addr_parse(address, &to));
    int fd = fibril_connect(&to, SOON);
    ASSERT_OK(fd);
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host);
    ASSERT_EQ(fibril_write_all(fd, request, (size_t)len, SOON), len);
    return fd;
}

/* Returns the status; the whole answer is in `answer`. */
static int get_as(const char *target, const char *host)
{
    int fd = open_to(target, host);
    size_t len = 0;
    ssize_t n;
    while ((n = fibril_read(fd, answer + len, ANSWER_MAX - 1 - len, SOON)) > 0) {
        len += (size_t)n;
    }
    ASSERT_EQ(n, 0);
    answer[len] = '\0';
    fibril_close(fd);
    return atoi(answer + sizeof "HTTP/1.1");
}

static int get(const char *target)
{
    return get_as(target, address);
}

static const char *body(void)
{
    const char *at = strstr(answer, "\r\n\r\n");
    ASSERT(at);
    return at + 4;
}

#define HAS(text) ASSERT(strstr(answer, text))

/* A test with the server running. */
static void with_server(fibril_fn *fn)
{
    ASSERT_OK(fibril_run(NULL, fn, NULL));
}

static void serve(void)
{
    ASSERT_OK(fibril_observe_serve("0", address, sizeof address));
}

#define SERVE_TEST(test_name)                                                                      \
    static void body_of_##test_name(void);                                                         \
    static int run_##test_name(void *arg)                                                          \
    {                                                                                              \
        serve();                                                                                   \
        body_of_##test_name();                                                                     \
        ASSERT_OK(fibril_observe_stop());                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    TEST(test_name)                                                                                \
    {                                                                                              \
        with_server(run_##test_name);                                                              \
    }                                                                                              \
    static void body_of_##test_name(void)

static int waits(void *arg)
{
    return fibril_sleep_until(FIBRIL_FOREVER);
}

static uint64_t spawn_named(const char *name, int messages)
{
    struct fibril_actor_opts opts = {.name = name};
    struct fibril_message *m;
    uint64_t actor;
    ASSERT_OK(fibril_actor_spawn(waits, NULL, &opts, &actor));
    for (int i = 0; i < messages; i++) {
        ASSERT_OK(fibril_message_new(1, 8, NULL, &m));
        ASSERT_OK(fibril_actor_send(actor, m, FIBRIL_FOREVER));
    }
    return actor;
}

/* ---- the tests ---- */

SERVE_TEST(a_port_alone_means_loopback)
{
    ASSERT_EQ(strncmp(address, "127.0.0.1:", 10), 0);
    ASSERT_EQ(get("/"), 200);
    HAS("text/html");
    HAS("<title>fibril</title>");
}

SERVE_TEST(there_is_one_server)
{
    ASSERT_ERR(fibril_observe_serve("0", NULL, 0), -EBUSY);
    ASSERT_OK(fibril_observe_stop());
    serve();
    ASSERT_EQ(get("/metrics"), 200);
}

SERVE_TEST(names_of_others_are_refused)
{
    ASSERT_EQ(get_as("/json", "evil.example"), 403);
    ASSERT_EQ(get_as("/json", "127.0.0.1.evil.example"), 403);
    ASSERT_EQ(get_as("/json", "localhost:1"), 200);
    ASSERT_EQ(get_as("/json", "[::1]:1"), 200);
}

SERVE_TEST(rows_come_sorted_and_paged)
{
    spawn_named("three", 3);
    spawn_named("one", 1);
    spawn_named("two \"quoted\"", 2);
    ASSERT_EQ(get("/json?sort=waiting&order=desc&count=2"), 200);
    HAS("\"total\":3");
    const char *three = strstr(answer, "\"name\":\"three\"");
    const char *two = strstr(answer, "\"name\":\"two \\\"quoted\\\"\"");
    ASSERT(three && two && three < two);
    ASSERT(!strstr(answer, "\"name\":\"one\""));
    ASSERT_EQ(get("/json?sort=waiting&order=desc&count=2&skip=2"), 200);
    HAS("\"name\":\"one\"");
    ASSERT(!strstr(answer, "\"name\":\"three\""));
    ASSERT_EQ(get("/json?view=fibrils&sort=since"), 200);
    HAS("\"state\":\"waits: sleep\"");
    ASSERT_EQ(get("/json?view=tree"), 200);
    HAS("\"total\":0");
}

SERVE_TEST(bad_queries_are_refused_with_what_is_wrong)
{
    static const char *const bad[] = {
        "view=moon",      "sort=up",
        "order=",         "skip=-1",
        "skip=1048077",   "count=501",
        "count=x",        "colour=blue",
        "supervisor=12x", "skip=99999999999999999999",
        "view=%61",       "count=+1",
        "sort",           "view=fibrils&sort=waiting",
    };
    char target[64];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(target, sizeof target, "/json?%s", bad[i]);
        ASSERT_EQ(get(target), 400);
        snprintf(target, sizeof target, "/events?%s", bad[i]);
        ASSERT_EQ(get(target), 400);
    }
    ASSERT_EQ(get("/json?order=sideways"), 400);
    ASSERT_STR(body(), "order wants asc or desc, not 'sideways'\n");
    ASSERT_EQ(get("/json?view=tree&supervisor=77"), 404);
    char longer[700] = "/json?";
    memset(longer + 6, 'a', sizeof longer - 7);
    ASSERT_EQ(get(longer), 400);
    ASSERT_EQ(get("/nothing"), 404);
}

SERVE_TEST(events_come_one_after_the_other)
{
    spawn_named("watched", 1);
    int fd = open_to("/events?count=5", address), seen = 0;
    size_t len = 0;
    while (seen < 2) {
        ssize_t n = fibril_read(fd, answer + len, ANSWER_MAX - 1 - len, SOON);
        ASSERT_GT(n, 0);
        len += (size_t)n;
        answer[len] = '\0';
        seen = 0;
        for (const char *at = answer; (at = strstr(at, "\"name\":\"watched\"")); at++) {
            seen++;
        }
    }
    HAS("text/event-stream");
    fibril_close(fd);
}

/* ---- Prometheus ---- */

enum { NAMES_MAX = 64 };

struct reader {
    char names[NAMES_MAX][64]; /* with a TYPE, in order */
    unsigned count;
    char type[16]; /* of the last */
    bool help;
    double bucket; /* the last one's value */
    char labels[64];
    unsigned samples;
};

static size_t name_length(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    ASSERT(n > 0 && n < 64 && (*s < '0' || *s > '9'));
    return n;
}

static void read_comment(struct reader *r, const char *line)
{
    bool is_help = strncmp(line, "# HELP ", 7) == 0;
    ASSERT(is_help || strncmp(line, "# TYPE ", 7) == 0);
    size_t n = name_length(line + 7);
    ASSERT_EQ(line[7 + n], ' ');
    if (is_help) {
        for (unsigned i = 0; i < r->count; i++) { /* a family comes once */
            ASSERT(strncmp(r->names[i], line + 7, n) != 0 || r->names[i][n]);
        }
        ASSERT_LT(r->count, NAMES_MAX);
        memcpy(r->names[r->count], line + 7, n);
        r->names[r->count++][n] = '\0';
        r->help = true;
        return;
    }
    ASSERT(r->help && strncmp(r->names[r->count - 1], line + 7, n) == 0);
    snprintf(r->type, sizeof r->type, "%s", line + 8 + n);
    ASSERT(strcmp(r->type, "gauge") == 0 || strcmp(r->type, "counter") == 0 ||
           strcmp(r->type, "histogram") == 0);
    r->help = false;
    r->bucket = 0;
}

/* Labels, in braces; returns what follows. */
static const char *read_labels(const char *at)
{
    while (*at++ != '}') {
        at += name_length(at);
        ASSERT_EQ(*at++, '=');
        ASSERT_EQ(*at++, '"');
        at += strcspn(at, "\"\\\n");
        ASSERT_EQ(*at++, '"');
        ASSERT(*at == ',' || *at == '}');
    }
    return at;
}

static void read_sample(struct reader *r, const char *line)
{
    size_t n = name_length(line), family = strlen(r->names[r->count - 1]);
    const char *at = line + n;
    ASSERT(!r->help && n >= family && strncmp(line, r->names[r->count - 1], family) == 0);
    bool histogram = strcmp(r->type, "histogram") == 0;
    bool bucket = histogram && strncmp(line + family, "_bucket{", 8) == 0;
    ASSERT(histogram ? bucket || strncmp(line + family, "_sum", 4) == 0 ||
                           strncmp(line + family, "_count", 6) == 0
                     : n == family);
    if (strcmp(r->type, "counter") == 0) {
        ASSERT(n > 6 && strncmp(line + n - 6, "_total", 6) == 0);
    }
    at = *at == '{' ? read_labels(at) : at;
    ASSERT_EQ(*at++, ' ');
    char *end;
    double value = strtod(at, &end);
    ASSERT(end > at && !*end && value >= 0);
    if (bucket) { /* they are cumulative, and +Inf equals the count */
        ASSERT(value >= r->bucket);
    } else if (histogram && strncmp(line + family, "_count", 6) == 0) {
        ASSERT(value >= r->bucket && value <= r->bucket);
    }
    r->bucket = bucket ? value : r->bucket;
    r->samples++;
}

SERVE_TEST(the_text_for_prometheus_is_well_formed)
{
    struct reader r = {.count = 0};
    spawn_named("one", 4);
    ASSERT_EQ(get("/metrics"), 200);
    HAS("Content-Type: text/plain; version=0.0.4");
    HAS("\nfibril_actors 1\n");
    HAS("\nfibril_mailbox_messages 4\n");
    char *text = strdup(body()), *rest = text;
    ASSERT_EQ(text[strlen(text) - 1], '\n');
    for (char *line; (line = strsep(&rest, "\n")) && rest;) {
        if (*line == '#') {
            read_comment(&r, line);
        } else {
            read_sample(&r, line);
        }
    }
    ASSERT_GT(r.count, 20);
    ASSERT_GT(r.samples, 40);
    free(text);
}

static int serves_and_returns(void *arg)
{
    serve();
    ASSERT_EQ(get("/text?view=fibrils"), 200);
    HAS("observer");
    int fd = open_to("/text?watch=1", address); /* somebody watches, and is cut off */
    char first[64];
    ASSERT(fibril_read(fd, first, sizeof first, SOON) > 0);
    fibril_close(fd);
    return 7;
}

TEST(a_program_that_is_observed_ends_by_itself)
{
    ASSERT_EQ(fibril_run(NULL, serves_and_returns, NULL), 7);
    ASSERT_EQ(fibril_run(NULL, serves_and_returns, NULL), 7);
}

static int looks_at_text(void *arg)
{
    spawn_named("a name that is longer than its column\n", 3);
    serve();
    ASSERT_EQ(get("/text?sort=waiting&order=desc"), 200);
    HAS("a name that is longer t~");
    HAS("loop 0");
    ASSERT_EQ(get("/text?view=tree"), 200);
    HAS("nobody supervises");
    ASSERT_EQ(get("/text?watch=2"), 400);
    HAS("watch wants 1, not '2'");
    ASSERT_OK(fibril_observe_stop());
    return 0;
}

TEST(tables_are_text_for_a_terminal)
{
    ASSERT_OK(fibril_run(NULL, looks_at_text, NULL));
}
