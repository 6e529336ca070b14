/* SPDX-License-Identifier: MIT */
/*
 * Life and death: peers that go away in every state, the drain, UNIX sockets, event streams,
 * several loops, logs, figures.
 */
#include "site.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOST "Host: test\r\n"
enum { MS = 1000000 };

/* ---- peers that go ------------------------------------------------------- */

SITE_TEST(a_peer_may_go_at_any_time)
{
    static const char *const beginnings[] = {
        "",
        "G",
        "GET /hello HTTP/1.1\r\nHost",
        "GET /hello HTTP/1.1\r\n" HOST "\r\n",
        "GET /slow?ms=20 HTTP/1.1\r\n" HOST "\r\n",
        "GET /slow?ms=20 HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n",
        "GET /big?n=9000000 HTTP/1.1\r\n" HOST "\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nhello",
        "POST /all HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        "BAD\r\n\r\n",
    };
    struct client c;
    struct reply r;
    site_start(site);
    for (size_t i = 0; i < 2 * sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        client_open(&c, site);
        client_send(&c, beginnings[i / 2]);
        struct fibril_http_stats figures = site_stats(site);
        if (i % 2) { /* let the server get to wait for more, else go before it looks */
            SITE_UNTIL(site, st.connections > 0 || st.accepted > figures.accepted);
            fibril_sleep(2 * MS);
        }
        client_close(&c);
    }
    SITE_UNTIL(site, st.connections == 0);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
}

static int watches(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    ASSERT(!fibril_http_gone(req));
    ASSERT_ERR(fibril_http_gone_wait(req, fibril_after(MS)), -ETIMEDOUT);
    site->calls = 1;
    site->handler_result = fibril_http_gone_wait(req, FIBRIL_FOREVER);
    ASSERT(fibril_http_gone(req));
    site->calls = 2;
    return 0;
}

SITE_TEST(a_handler_sees_its_peer_go)
{
    struct client c;
    site_new(site);
    ASSERT_OK(fibril_http_route(site->srv, "GET", "/watches", watches, site));
    site_go(site);
    client_open(&c, site);
    client_send(&c, "GET /watches HTTP/1.1\r\n" HOST "\r\n");
    while (site->calls != 1) {
        fibril_sleep(MS);
    }
    client_close(&c);
    SITE_UNTIL(site, st.connections == 0);
    ASSERT_EQ(site->calls, 2);
    ASSERT_EQ(site->handler_result, 0);
}

/* ---- the drain ----------------------------------------------------------- */

struct user {
    struct site *site;
    int answered, refused;
};

/* Asks until the server is gone. A request whose connection ends before the first byte of the
 * answer was never begun: that is what a client may repeat elsewhere. */
static int be_user(void *arg)
{
    struct user *u = arg;
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse(u->site->address, &addr));
    for (int fd; (fd = fibril_connect(&addr, fibril_after(5000LL * MS))) >= 0; fibril_close(fd)) {
        for (bool goes_on = true; goes_on;) {
            static const char request[] = "GET /slow?ms=3 HTTP/1.1\r\n" HOST "\r\n";
            char answer[512];
            if (fibril_write_all(fd, request, sizeof(request) - 1, FIBRIL_FOREVER) < 0) {
                break;
            }
            ssize_t n = fibril_recv(fd, answer, sizeof(answer) - 1, 0, fibril_after(5000LL * MS));
            if (n <= 0) {
                u->refused++;
                break;
            }
            answer[n] = '\0';
            ASSERT(strncmp(answer, "HTTP/1.1 200", 12) == 0);
            ASSERT(strstr(answer, "\r\n\r\nslow\n") != NULL);
            u->answered++;
            goes_on = strstr(answer, "Connection: close") == NULL;
        }
    }
    return 0;
}

SITE_TEST(a_drain_under_load_loses_nothing)
{
    enum { USERS = 40 };
    struct user users[USERS] = {{0}};
    struct fibril *fibrils[USERS];
    site_start(site);
    for (int i = 0; i < USERS; i++) {
        users[i].site = site;
        ASSERT_OK(fibril_spawn(be_user, &users[i], NULL, &fibrils[i]));
    }
    SITE_UNTIL(site, st.requests > 200);
    site_stop(site, fibril_after(20000LL * MS));
    ASSERT_OK(site->result);
    uint64_t answered = 0;
    for (int i = 0; i < USERS; i++) {
        ASSERT_OK(fibril_join(fibrils[i], fibril_after(20000LL * MS), NULL));
        answered += (uint64_t)users[i].answered;
        ASSERT_LE(users[i].refused, 1);
    }
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_EQ(figures.requests, answered); /* every request that was begun has been answered */
    ASSERT_EQ(figures.aborted, 0);
}

SITE_TEST(a_drain_closes_idle_ones_and_finishes_the_rest)
{
    struct client idle, busy, late;
    struct reply r;
    site_start(site);
    client_open(&idle, site);
    ask(&idle, "/hello", &r);
    client_open(&busy, site);
    client_send(&busy, "GET /slow?ms=100 HTTP/1.1\r\n" HOST "\r\n");
    SITE_UNTIL(site, st.in_flight == 1);
    fibril_http_server_stop(site->srv, fibril_after(20000LL * MS));
    ASSERT(client_sees_end(&idle));
    client_reply(&busy, &r);
    ASSERT_STR(r.body, "slow\n");
    ASSERT(!r.keeps);
    ASSERT(client_sees_end(&busy));
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse(site->address, &addr));
    late.fd = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_ERR(late.fd, -ECONNREFUSED);
    client_close(&idle);
    client_close(&busy);
    site_stop(site, fibril_after(20000LL * MS));
    ASSERT_OK(site->result);
}

SITE_TEST(the_deadline_of_a_drain_cancels)
{
    struct client c[3];
    site_start(site);
    for (int i = 0; i < 3; i++) {
        client_open(&c[i], site);
    }
    client_send(&c[0], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    client_send(&c[1], "POST /all HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nhello");
    client_send(&c[2], "GET /he");
    SITE_UNTIL(site, st.in_flight == 2);
    fibril_http_server_stop(site->srv, fibril_after(600000LL * MS));
    site_stop(site, fibril_after(20 * MS)); /* brought forward */
    ASSERT_EQ(site->result, -ETIMEDOUT);
    for (int i = 0; i < 3; i++) {
        ASSERT(client_sees_end(&c[i]));
        client_close(&c[i]);
    }
}

SITE_TEST(a_cancelled_run_ends)
{
    struct client c;
    struct reply r;
    int result;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT_OK(fibril_cancel(site->runner));
    ASSERT_OK(fibril_join(site->runner, fibril_after(20000LL * MS), &result));
    site->runner = NULL;
    ASSERT_EQ(result, -ECANCELED);
    client_close(&c);
}

SITE_TEST(a_stop_before_the_run_ends_it)
{
    site_new(site);
    fibril_http_server_stop(site->srv, 0);
    site_go(site);
    ASSERT_OK(fibril_join(site->runner, fibril_after(20000LL * MS), &site->result));
    site->runner = NULL;
    ASSERT_OK(site->result);
}

/* ---- ways in ------------------------------------------------------------- */

SITE_TEST(a_unix_socket_serves_and_disappears)
{
    struct client c;
    struct reply r;
    char path[128], name[160];
    site_folder(site);
    site_new(site);
    snprintf(path, sizeof(path), "%s/socket", site->folder);
    snprintf(name, sizeof(name), "unix:%s", path);
    ASSERT_EQ(fibril_http_server_listen(site->srv, name), 1);
    char address[256];
    ASSERT_OK(fibril_http_server_address(site->srv, 1, address, sizeof(address)));
    ASSERT_STR(address, name);
    ASSERT_ERR(fibril_http_server_address(site->srv, 2, address, sizeof(address)), -ENOENT);
    site_go(site);
    snprintf(site->address, sizeof(site->address), "%.120s", name);
    client_open(&c, site);
    client_send(&c, "GET /inspect HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT(strstr(r.body, "peer=unix:") != NULL);
    client_close(&c);
    site_stop(site, fibril_after(5000LL * MS));
    ASSERT_NE(access(path, F_OK), 0);
}

SITE_TEST(a_listening_socket_can_be_handed_over)
{
    struct client c;
    struct reply r;
    struct fibril_addr addr;
    site_new(site);
    ASSERT_OK(fibril_addr_parse("127.0.0.1:0", &addr));
    int fd = fibril_listen(&addr, 10, 0);
    ASSERT_OK(fd);
    ASSERT_EQ(fibril_http_server_listen_fd(site->srv, fd), 1);
    ASSERT_OK(fibril_http_server_address(site->srv, 1, site->address, sizeof(site->address)));
    site_go(site);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
}

SITE_TEST(setting_up_is_checked)
{
    struct fibril_http_server *srv;
    struct fibril_http_opts bad = {.server_name = "a\r\nb"};
    ASSERT_ERR(fibril_http_server_new(&bad, &srv), -EINVAL);
    bad = (struct fibril_http_opts){.stack = FIBRIL_STACK_COPIED, .stack_bytes = 65536};
    ASSERT_ERR(fibril_http_server_new(&bad, &srv), -EINVAL);
    ASSERT_OK(fibril_http_server_new(NULL, &srv));
    ASSERT_ERR(fibril_http_server_run(srv), -EINVAL);
    ASSERT_ERR(fibril_http_server_listen(srv, "nonsense"), -EINVAL);
    fibril_http_server_free(srv);
    fibril_http_server_free(NULL);
    site_start(site);
    fibril_yield();
    ASSERT_ERR(fibril_http_server_run(site->srv), -EBUSY);
    ASSERT_ERR(fibril_http_server_listen(site->srv, "127.0.0.1:0"), -EBUSY);
    ASSERT_ERR(fibril_http_route(site->srv, "GET", "/x", watches, NULL), -EBUSY);
}

/* ---- event streams ------------------------------------------------------- */

static int events(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    ASSERT_OK(fibril_http_sse_start(req));
    ASSERT_ERR(fibril_http_sse_send(req, "a\nb", "x"), -EINVAL);
    ASSERT_OK(fibril_http_sse_send(req, NULL, "one"));
    ASSERT_OK(fibril_http_sse_send(req, "two", "a\nb\r\nc"));
    int rc = 0;
    for (int i = 0; rc == 0 && i < 100000; i++) {
        rc = fibril_http_sse_send(req, "tick", "");
        fibril_sleep(MS / 10);
    }
    site->handler_result = rc;
    return rc;
}

SITE_TEST(events_leave_at_once_until_the_peer_goes)
{
    struct client c;
    site_new(site);
    ASSERT_OK(fibril_http_route(site->srv, "GET", "/events", events, site));
    site_go(site);
    client_open(&c, site);
    client_send(&c, "GET /events HTTP/1.0\r\n\r\n");
    const char *wanted =
        "\r\n\r\ndata: one\n\nevent: two\ndata: a\ndata: b\ndata: c\n\nevent: tick\ndata: \n\n";
    while (!memmem(c.bytes, c.len, wanted, strlen(wanted))) {
        ssize_t n = fibril_recv(c.fd, c.bytes + c.len, 1000, 0, fibril_after(20000LL * MS));
        ASSERT_GT(n, 0);
        c.len += (size_t)n;
    }
    ASSERT(memmem(c.bytes, c.len, "Content-Type: text/event-stream\r\n", 33) != NULL);
    client_close(&c);
    SITE_UNTIL(site, st.in_flight == 0);
    ASSERT_EQ(site->handler_result, -EPIPE);
}

/* ---- many ---------------------------------------------------------------- */

static int hundred(void *arg)
{
    struct site *site = arg;
    struct client c;
    struct reply r;
    client_open(&c, site);
    for (int i = 0; i < 100; i++) {
        client_send(&c, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
        while (!memmem(c.bytes, c.len, "hello\n", 6)) {
            ssize_t n = fibril_recv(c.fd, c.bytes + c.len, 1000, 0, FIBRIL_FOREVER);
            ASSERT_GT(n, 0);
            c.len += (size_t)n;
        }
        c.len = 0;
    }
    (void)r;
    client_close(&c);
    return 0;
}

SITE_TEST_LOOPS(several_loops_share_the_port, 2, 120)
{
    enum { USERS = 32 };
    struct fibril *users[USERS];
    site_start(site);
    for (int i = 0; i < USERS; i++) {
        ASSERT_OK(fibril_spawn(hundred, site, NULL, &users[i]));
    }
    for (int i = 0; i < USERS; i++) {
        ASSERT_OK(fibril_join(users[i], FIBRIL_FOREVER, NULL));
    }
    SITE_UNTIL(site, st.connections == 0);
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_EQ(figures.requests, USERS * 100);
    ASSERT_EQ(figures.status[2], USERS * 100);
    ASSERT_EQ(figures.accepted, USERS);
}

/* Per request in flight: the connection and its request, at most 1 KiB; idle: the connection alone.
 */
SITE_TEST(sleeping_handlers_and_idle_connections_hold_no_buffers)
{
    const uint64_t n = 100;
    struct client c[100];
    struct reply r;
    site_start(site);
    for (uint64_t i = 0; i < n; i++) {
        client_open(&c[i], site);
        client_send(&c[i], "GET /slow?ms=200 HTTP/1.1\r\n" HOST "User-Agent: test\r\n\r\n");
    }
    uint64_t bytes = 0;
    SITE_UNTIL(site, (bytes = st.buffer_bytes, st.in_flight == n) || site->calls >= n);
    ASSERT_LE(bytes, n * 1024);
    for (uint64_t i = 0; i < n; i++) {
        client_reply(&c[i], &r);
        ASSERT_STR(r.body, "slow\n");
    }
    SITE_UNTIL(site, st.idle == n);
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_EQ(figures.buffer_bytes, n * 256);
    for (uint64_t i = 0; i < n; i++) {
        client_close(&c[i]);
    }
}

/* ---- logs ---------------------------------------------------------------- */

static void note_access(void *arg, const struct fibril_http_access *a)
{
    struct site *site = arg;
    ASSERT_STR(a->peer, "127.0.0.1");
    site->calls += 1000;
    site->body_length = (int64_t)a->body_bytes;
}

static size_t read_log(int fd, char *text, size_t size)
{
    size_t len = 0;
    for (ssize_t n; len < size - 1 && (n = fibril_read(fd, text + len, size - 1 - len,
                                                       fibril_after(20000LL * MS))) > 0;) {
        len += (size_t)n;
    }
    text[len] = '\0';
    return len;
}

static void check_log(struct site *site, enum fibril_http_log format, const char *const *wanted)
{
    char text[8192];
    struct client c;
    struct reply r;
    int fds[2];
    ASSERT_OK(fibril_pipe(fds));
    site->opts.access_log = format;
    site->opts.access_log_fd = fds[1];
    site->opts.on_access = note_access;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "GET /hello?a=\"b HTTP/1.1\r\n" HOST
                    "User-Agent: q\"\xff\\z\r\nReferer: ref\r\n\r\n");
    client_reply(&c, &r);
    client_send(&c, "NONSENSE\r\n\r\n");
    client_reply(&c, &r);
    client_close(&c);
    site_stop(site, fibril_after(5000LL * MS));
    fibril_close(fds[1]);
    read_log(fds[0], text, sizeof(text));
    fibril_close(fds[0]);
    for (; *wanted; wanted++) {
        if (!strstr(text, *wanted)) {
            test_fail(__FILE__, __LINE__, "no %s in %s", *wanted, text);
        }
    }
    ASSERT_GE(site->calls, 2000);
}

SITE_TEST(the_combined_log_escapes_what_peers_send)
{
    static const char *const wanted[] = {
        "127.0.0.1 - - [",
        " +0000] \"GET /hello?a=\\x22b HTTP/1.1\" 200 6 \"ref\" \"q\\x22\\xff\\x5cz\" ",
        "] \"-\" 400 ", NULL};
    check_log(site, FIBRIL_HTTP_LOG_COMBINED, wanted);
}

SITE_TEST(the_json_log_escapes_what_peers_send)
{
    static const char *const wanted[] = {
        "{\"time\":",
        "\"peer\":\"127.0.0.1\",\"method\":\"GET\",\"target\":\"/hello?a=\\u0022b\","
        "\"version\":\"1.1\","
        "\"status\":200,\"bytes\":6,",
        "\"user_agent\":\"q\\u0022\\u00ff\\u005cz\"}", "\"status\":400", NULL};
    check_log(site, FIBRIL_HTTP_LOG_JSON, wanted);
}

SITE_TEST(figures_add_up)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ask(&c, "/nowhere", &r);
    ask(&c, "/fails?errno=5", &r);
    client_close(&c);
    SITE_UNTIL(site, st.connections == 0);
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_EQ(figures.accepted, 1);
    ASSERT_EQ(figures.requests, 3);
    ASSERT_EQ(figures.status[2], 1);
    ASSERT_EQ(figures.status[4], 1);
    ASSERT_EQ(figures.status[5], 1);
    ASSERT_EQ(figures.in_flight_max, 1);
    ASSERT_EQ(figures.sends, 3);
    ASSERT_GT(figures.bytes_in, 100);
    ASSERT_GT(figures.bytes_out, 300);
    uint64_t answered = 0;
    for (int i = 0; i < FIBRIL_HTTP_LATENCY_BUCKETS; i++) {
        answered += figures.latency[i];
    }
    ASSERT_EQ(answered, 3);
}

/* ---- somebody else's client ---------------------------------------------- */

/* What curl prints for those arguments, the URL last. */
static void curl(const struct site *site, const char *const *options, const char *target,
                 char *ret_text, size_t size)
{
    const char *argv[16] = {"curl", "-sS", "--max-time", "20"};
    char url[256];
    int n = 4, status;
    while (*options) {
        argv[n++] = *options++;
    }
    snprintf(url, sizeof(url), "http://%s%s", site->address, target);
    argv[n] = url;
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdout = true};
    struct fibril_process *p;
    int rc = fibril_process_start(&opts, &p);
    if (rc == -ENOENT) {
        SKIP("no curl");
    }
    ASSERT_OK(rc);
    size_t len = read_log(fibril_process_pipe(p, 1), ret_text, size);
    ASSERT_LT(len, size);
    ASSERT_OK(fibril_process_wait(p, fibril_after(20000LL * MS), &status));
    ASSERT_EQ(status, 0);
    fibril_process_free(p);
}

SITE_TEST(curl_understands_us)
{
    char text[2048];
    static const char *const plain[] = {NULL};
    static const char *const old[] = {"--http1.0", NULL};
    static const char *const chunked[] = {"-H", "Transfer-Encoding: chunked", "-d", "some text",
                                          NULL};
    static const char *const head[] = {"-I", NULL};
    site_start(site);
    curl(site, plain, "/hello", text, sizeof(text));
    ASSERT_STR(text, "hello\n");
    curl(site, plain, "/chunks", text, sizeof(text));
    ASSERT_STR(text, "one two three");
    curl(site, old, "/chunks", text, sizeof(text));
    ASSERT_STR(text, "one two three");
    curl(site, chunked, "/echo", text, sizeof(text));
    ASSERT_STR(text, "some text");
    curl(site, head, "/hello", text, sizeof(text));
    ASSERT(strncmp(text, "HTTP/1.1 200 OK\r\n", 17) == 0);
}

/* ---- names in dumps ------------------------------------------------------ */

static void read_dump(char *text, size_t size)
{
    char path[] = "/tmp/fibril-dump.XXXXXX";
    int fd = mkstemp(path);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(unlink(path), 0);
    ASSERT_OK(fibril_dump(fd));
    ssize_t n = pread(fd, text, size - 1, 0);
    ASSERT_GT(n, 0);
    text[n] = 0;
    close(fd);
}

SITE_TEST(a_dump_names_each_request_while_it_lasts)
{
    static char text[262144];
    struct client c, d;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_open(&d, site);
    client_send(&c, "GET /slow?ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_send(&d, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
                    "GET /slow?ms=600000&0123456789012345678901234567890123456789"
                    "0123456789012345678901234567890123456789 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&d, &r);
    SITE_UNTIL(site, st.in_flight == 2);
    ASSERT_OK(fibril_sleep(2000000));
    read_dump(text, sizeof(text));
    const char *at = strstr(text, " \"GET /slow?ms=600000\" waits: sleep");
    ASSERT(at != NULL);
    ASSERT(strstr(at, ", spawned at ") != NULL);
    at = strstr(text, " \"GET /slow?ms=600000&0123");
    ASSERT(at != NULL);
    ASSERT_EQ(strcspn(at + 2, "\""), 80);       /* cut */
    ASSERT(strstr(text, "GET /hello") == NULL); /* that one is over */
    client_close(&c);
    client_close(&d);
    site_stop(site, 0);
}
