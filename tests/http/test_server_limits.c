/* SPDX-License-Identifier: MIT */
/*
 * Every limit and every timeout, with small values. A timeout of some milliseconds is waited for,
 * never measured: what is asserted is what the peer sees, not when.
 */
#include "site.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST "Host: test\r\n"
enum { MS = 1000000 };

/* ---- sizes --------------------------------------------------------------- */

TEST(defaults_are_those_of_the_header)
{
    struct fibril_http_limits l;
    fibril_http_limits_default(&l);
    ASSERT_EQ(l.request_line_bytes, 8192);
    ASSERT_EQ(l.field_bytes, 8192);
    ASSERT_EQ(l.head_bytes, 32768);
    ASSERT_EQ(l.fields_max, 100);
    ASSERT_EQ(l.trailer_bytes, 8192);
    ASSERT_EQ(l.trailers_max, 32);
    ASSERT_EQ(l.body_bytes, 1048576);
    ASSERT_EQ(l.drain_bytes, 65536);
    ASSERT_EQ(l.first_byte_ns, 10000LL * MS);
    ASSERT_EQ(l.head_ns, 10000LL * MS);
    ASSERT_EQ(l.body_idle_ns, 30000LL * MS);
    ASSERT_EQ(l.body_rate, 500);
    ASSERT_EQ(l.write_idle_ns, 30000LL * MS);
    ASSERT_EQ(l.keep_alive_ns, 65000LL * MS);
    ASSERT_EQ(l.linger_ns, 2000LL * MS);
    ASSERT_EQ(l.requests_max, 100000);
    ASSERT_EQ(l.connection_age_ns, 3600000LL * MS);
    ASSERT_EQ(l.connections_max, 100000);
    ASSERT_EQ(l.per_address_max, 0);
    ASSERT_EQ(l.handlers_max, 50000);
    ASSERT_EQ(l.retry_after_s, 1);
}

static int ask_padded(const struct site *site, const char *before, size_t pad, const char *after)
{
    struct reply r;
    size_t len = strlen(before) + pad + strlen(after);
    char *request = malloc(len + 1);
    snprintf(request, len + 1, "%s", before);
    memset(request + strlen(before), 'x', pad);
    snprintf(request + strlen(before) + pad, strlen(after) + 1, "%s", after);
    ask_once(site, request, &r);
    free(request);
    return r.status;
}

SITE_TEST(long_request_lines_get_414)
{
    site_start(site);
    static const char rest[] = " HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    ASSERT_EQ(ask_padded(site, "GET /", 8100, rest), 404);
    ASSERT_EQ(ask_padded(site, "GET /", 8300, rest), 414);
    ASSERT_EQ(ask_padded(site, "GET /", 100000, rest), 414);
}

SITE_TEST(large_fields_and_heads_get_431)
{
    static char request[60000];
    struct reply r;
    site_start(site);
    static const char before[] = "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\nX: ";
    ASSERT_EQ(ask_padded(site, before, 8100, "\r\n\r\n"), 200);
    ASSERT_EQ(ask_padded(site, before, 8300, "\r\n\r\n"), 431);
    for (int lines = 98; lines <= 99; lines++) { /* 100 with Host and Connection, and one more */
        size_t len = (size_t)snprintf(request, sizeof(request),
                                      "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n");
        for (int i = 0; i < lines; i++) {
            len += (size_t)snprintf(request + len, sizeof(request) - len, "A%d: b\r\n", i);
        }
        snprintf(request + len, sizeof(request) - len, "\r\n");
        ask_once(site, request, &r);
        ASSERT_EQ(r.status, lines == 98 ? 200 : 431);
    }
    size_t len = (size_t)snprintf(request, sizeof(request), "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 5; i++) {
        len += (size_t)snprintf(request + len, sizeof(request) - len, "A%d: ", i);
        memset(request + len, 'x', 8000);
        len += 8000;
        len += (size_t)snprintf(request + len, sizeof(request) - len, "\r\n");
    }
    snprintf(request + len, sizeof(request) - len, "\r\n");
    ask_once(site, request, &r);
    ASSERT_EQ(r.status, 431);
}

SITE_TEST(a_head_of_nearly_the_limit_is_served)
{
    static char request[40000];
    struct client c;
    struct reply r;
    site_start(site);
    size_t len = (size_t)snprintf(request, sizeof(request), "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 4; i++) {
        len += (size_t)snprintf(request + len, sizeof(request) - len, "A%d: ", i);
        memset(request + len, 'x', 8000);
        len += 8000;
        len += (size_t)snprintf(request + len, sizeof(request) - len, "\r\n");
    }
    snprintf(request + len, sizeof(request) - len, "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_open(&c, site);
    client_send(&c, request);
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 200);
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
}

static int generous(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    const char *body;
    ASSERT_OK(fibril_http_body_limit(req, 2000));
    ssize_t n = fibril_http_body_all(req, 5000, &body, FIBRIL_FOREVER);
    ASSERT_ERR(fibril_http_body_limit(req, 3000), -EBUSY);
    return n < 0 ? (int)n : fibril_http_respond(req, 200, NULL, body, (size_t)n);
}

SITE_TEST(large_bodies_get_413)
{
    struct reply r;
    char request[8000];
    site->opts.limits.body_bytes = 10;
    site_new(site);
    ASSERT_OK(fibril_http_route(site->srv, "POST", "/generous", generous, NULL));
    site_go(site);
    ask_once(site, "POST /all HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello world", &r);
    ASSERT_EQ(r.status, 413);
    ask_once(site, "POST /all HTTP/1.1\r\n" HOST "Content-Length: 9999999999999999999\r\n\r\n", &r);
    ASSERT_GE(r.status, 400);
    ask_once(site,
             "POST /all HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
             "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
             &r);
    ASSERT_EQ(r.status, 413);
    int len = snprintf(request, sizeof(request),
                       "POST /generous HTTP/1.1\r\n" HOST
                       "Connection: close\r\nContent-Length: 1999\r\n\r\n");
    memset(request + len, 'y', 1999);
    request[len + 1999] = '\0';
    ask_once(site, request, &r);
    ASSERT_EQ(r.status, 200);
    ASSERT_EQ(r.len, 1999);
}

SITE_TEST(large_trailers_are_refused)
{
    struct reply r;
    static char request[12000];
    site_start(site);
    int len = snprintf(request, sizeof(request),
                       "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    for (int i = 0; i < 33; i++) {
        len += snprintf(request + len, sizeof(request) - (size_t)len, "T%d: v\r\n", i);
    }
    snprintf(request + len, sizeof(request) - (size_t)len, "\r\n");
    ask_once(site, request, &r);
    ASSERT_EQ(r.status, 400);
    ASSERT_EQ(site->handler_result, -EPROTO);
}

/* ---- times --------------------------------------------------------------- */

SITE_TEST(a_late_head_gets_408)
{
    struct client c;
    struct reply r;
    site->opts.limits.head_ns = 30 * MS;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "GET /hello HTTP/1.1\r\nHo");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 408);
    ASSERT(client_sees_end(&c));
    client_close(&c);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.timeouts, 1);
}

SITE_TEST(a_connection_without_a_byte_is_closed)
{
    struct client c;
    site->opts.limits.first_byte_ns = 30 * MS;
    site_start(site);
    client_open(&c, site);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(an_idle_connection_is_closed)
{
    struct client c;
    struct reply r;
    site->opts.limits.keep_alive_ns = 30 * MS;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT(r.keeps);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(an_idle_body_gets_408)
{
    struct client c;
    struct reply r;
    site->opts.limits.body_idle_ns = 30 * MS;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "POST /all HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 408);
    ASSERT_EQ(site->handler_result, -ETIMEDOUT);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(a_dripping_body_gets_408)
{
    struct client c;
    struct reply r;
    site->opts.limits.body_idle_ns = 200 * MS;
    site->opts.limits.body_rate = 1000000; /* beyond all drips */
    site_start(site);
    client_open(&c, site);
    client_send(&c, "POST /all HTTP/1.1\r\n" HOST "Content-Length: 50000\r\n\r\n");
    for (int i = 0; i < 1000; i++) { /* each in time, the whole of them not */
        if (fibril_write_all(c.fd, "x", 1, FIBRIL_FOREVER) < 0 ||
            fibril_fd_wait(c.fd, 1 /* POLLIN */, fibril_after(20 * MS)) > 0) {
            break;
        }
    }
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 408);
    client_close(&c);
}

static int patient(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    char byte;
    ssize_t n = fibril_http_body_read(req, &byte, 1, fibril_after(MS));
    ASSERT_ERR(n, -ETIMEDOUT); /* one's own deadline spoils nothing */
    site->calls++;
    n = fibril_http_body_read(req, &byte, 1, FIBRIL_FOREVER);
    return n < 0 ? (int)n : fibril_http_respond(req, 200, NULL, &byte, 1);
}

SITE_TEST(the_handlers_own_deadline_leaves_the_body_intact)
{
    struct client c;
    struct reply r;
    site_new(site);
    ASSERT_OK(fibril_http_route(site->srv, "POST", "/patient", patient, site));
    site_go(site);
    client_open(&c, site);
    client_send(&c, "POST /patient HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n");
    while (site->calls == 0) {
        fibril_sleep(MS);
    }
    client_send(&c, "k");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "k");
    client_close(&c);
}

SITE_TEST(a_slow_reader_holds_up_its_handler_and_nobody_else)
{
    struct client slow, quick;
    struct reply r;
    site_start(site);
    client_open(&slow, site);
    client_send(&slow, "GET /big?n=30000000 HTTP/1.1\r\n" HOST "\r\n");
    client_open(&quick, site);
    uint64_t out = 0;
    for (int still = 0; still < 20; still++) { /* until the kernel's buffers are full */
        ask(&quick, "/hello", &r);
        ASSERT_EQ(r.status, 200);
        struct fibril_http_stats figures = site_stats(site);
        still = figures.bytes_out > out + 1000 ? 0 : still;
        out = figures.bytes_out;
    }
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_EQ(figures.in_flight, 1);
    ASSERT_LT(figures.bytes_out, 20000000);
    ASSERT_LT(figures.buffer_bytes, 100000);
    client_close(&quick);
    client_close(&slow); /* the handler is told */
    SITE_UNTIL(site, st.in_flight == 0);
    ASSERT_EQ(site->handler_result, -EPIPE);
}

SITE_TEST(a_reader_that_takes_nothing_is_given_up)
{
    struct client c;
    site->opts.limits.write_idle_ns = 30 * MS;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "GET /big?n=30000000 HTTP/1.1\r\n" HOST "\r\n");
    SITE_UNTIL(site, st.timeouts == 1 && st.connections == 0);
    ASSERT_EQ(site->handler_result, -ETIMEDOUT);
    client_close(&c);
}

/* ---- counts -------------------------------------------------------------- */

SITE_TEST(a_connection_ends_after_its_requests)
{
    struct client c;
    struct reply r;
    site->opts.limits.requests_max = 3;
    site_start(site);
    client_open(&c, site);
    for (int i = 1; i <= 3; i++) {
        ask(&c, "/hello", &r);
        ASSERT_EQ(r.keeps, i < 3);
    }
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(an_old_connection_ends)
{
    struct client c;
    struct reply r;
    site->opts.limits.connection_age_ns = 10 * MS;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/slow?ms=20", &r);
    ASSERT(r.keeps); /* it was young when the request came */
    ask(&c, "/hello", &r);
    ASSERT(!r.keeps);
    client_close(&c);
}

SITE_TEST(handlers_over_the_cap_get_503)
{
    struct client c[3];
    struct reply r;
    site->opts.limits.handlers_max = 2;
    site->opts.limits.retry_after_s = 7;
    site_start(site);
    for (int i = 0; i < 3; i++) {
        client_open(&c[i], site);
    }
    client_send(&c[0], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    client_send(&c[1], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    SITE_UNTIL(site, st.in_flight == 2);
    ask(&c[2], "/hello", &r);
    ASSERT_EQ(r.status, 503);
    ASSERT(reply_has(&r, "Retry-After: 7"));
    ASSERT(r.keeps);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.refused_handlers, 1);
    for (int i = 0; i < 3; i++) {
        client_close(&c[i]);
    }
    site_stop(site, 0);
}

SITE_TEST(connections_over_the_cap_get_503_unless_one_is_idle)
{
    struct client c[4];
    struct reply r;
    site->opts.limits.connections_max = 2;
    site_start(site);
    client_open(&c[0], site);
    client_open(&c[1], site);
    ask(&c[0], "/hello", &r);
    client_send(&c[1], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    SITE_UNTIL(site, st.in_flight == 1);
    client_open(&c[2], site); /* c[0] is idle and has to go */
    client_send(&c[2], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    ASSERT(client_sees_end(&c[0]));
    SITE_UNTIL(site, st.in_flight == 2);
    client_open(&c[3], site);
    client_send(&c[3], "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c[3], &r);
    ASSERT_EQ(r.status, 503);
    ASSERT(reply_has(&r, "Retry-After: 1"));
    ASSERT(client_sees_end(&c[3]));
    for (int i = 0; i < 4; i++) {
        client_close(&c[i]);
    }
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.refused_connections, 1);
    site_stop(site, 0);
}

SITE_TEST(connections_of_one_address_are_capped)
{
    struct client c[3];
    struct reply r;
    site->opts.limits.per_address_max = 2;
    site_start(site);
    for (int i = 0; i < 2; i++) {
        client_open(&c[i], site);
        ask(&c[i], "/hello", &r);
        ASSERT_EQ(r.status, 200);
    }
    client_open(&c[2], site);
    client_reply(&c[2], &r);
    ASSERT_EQ(r.status, 503);
    client_close(&c[2]);
    client_close(&c[0]);
    SITE_UNTIL(site, st.connections == 1);
    client_open(&c[0], site);
    ask(&c[0], "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c[0]);
    client_close(&c[1]);
}

/* ---- descriptors --------------------------------------------------------- */

static void limit_descriptors(rlim_t n)
{
    struct rlimit limit;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = n;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Half of the descriptors are the clients': those that the server cannot take wait in the backlog.
 */
SITE_TEST(accepting_pauses_without_descriptors_and_recovers)
{
    enum { N = 32 };
    struct client c[N];
    struct reply r;
    int made = 0, spare[8];
    site_start(site);
    client_open(&c[made++], site);
    ask(&c[0], "/hello", &r);
    client_send(&c[0], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    SITE_UNTIL(site, st.in_flight == 1);
    limit_descriptors(64);
    for (int i = 0; i < 8; i++) { /* for the clients that come after the shortage */
        spare[i] = dup(0);
    }
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse(site->address, &addr));
    while (made < N) { /* busy ones, so that none can be closed to make room */
        int fd = fibril_connect(&addr, fibril_after(1000LL * MS));
        if (fd < 0) {
            break;
        }
        c[made] = (struct client){.fd = fd, .bytes = malloc(CLIENT_BYTES)};
        client_send(&c[made++], "GET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
        fibril_sleep(MS);
    }
    SITE_UNTIL(site, st.accept_pauses > 0);
    ASSERT(strstr(site->errors, "accepting pauses") != NULL);
    struct fibril_http_stats figures = site_stats(site);
    ASSERT_LT(figures.accepted, made);
    for (int i = 0; i < 8; i++) {
        if (spare[i] >= 0) {
            close(spare[i]);
        }
    }
    SITE_UNTIL(site, st.accepted == (uint64_t)made); /* all who waited were taken in */
    for (int i = 0; i < made; i++) {
        client_close(&c[i]);
    }
    site_stop(site, 0);
}

/* ---- all descriptors of the process, used up by others ------------------- */

/* A socket from one of several addresses of this host: with many connections from one, the kernel
 * takes long to find a free port. */
static int crowd_socket(int i)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (unsigned)i / 1000)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) != 0 ||
        bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0) {
        _exit(1);
    }
    return fd;
}

enum { CROWD_READY = 3 }; /* where a crowd says that it is complete */

/* In a process of its own: opens n connections, each with half a head, and keeps them. */
static _Noreturn void crowd(const struct fibril_addr *addr, int n)
{
    static const char half[] = "GET /hello HTTP/1.1\r\n";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < n; i++) {
        int fd = crowd_socket(i);
        if (connect(fd, (const struct sockaddr *)&addr->ss, addr->len) != 0 ||
            write(fd, half, sizeof(half) - 1) != sizeof(half) - 1) {
            _exit(1);
        }
    }
    if (write(CROWD_READY, "", 1) != 1) {
        _exit(1);
    }
    pause();
    _exit(0);
}

static pid_t crowd_start(const struct site *site, int n, const int ready[2])
{
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse(site->address, &addr));
    pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        dup2(ready[1], CROWD_READY);
        closefrom(CROWD_READY + 1);
        crowd(&addr, n);
    }
    return pid;
}

static void crowd_end(pid_t pid)
{
    int status;
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT(WIFSIGNALED(status)); /* it kept all its connections till now */
}

static int descriptors_wanted(void)
{
    int wanted = test_is_long() ? 20000 : 1000;
    struct rlimit limit;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < (rlim_t)wanted) {
        limit.rlim_max = (rlim_t)wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            SKIP("the hard limit of descriptors is lower");
        }
    }
    return wanted;
}

/* The server alone holds every descriptor that its process may have; more wait in the backlog.
 * When half of its peers leave, those are taken in, and a newcomer is served. */
SITE_TEST_LOOPS(every_descriptor_in_use_and_the_way_back, 1, 120)
{
    int limit = descriptors_wanted(), each = limit / 2 + 50;
    site->opts.limits.head_ns = FIBRIL_FOREVER;
    site_start(site);
    int ready[2];
    char both[2];
    ASSERT_OK(fibril_pipe(ready));
    limit_descriptors((rlim_t)limit);
    pid_t a = crowd_start(site, each, ready), b = crowd_start(site, each, ready);
    ASSERT_EQ(fibril_read_all(ready[0], both, sizeof both, FIBRIL_FOREVER), 2);
    SITE_UNTIL(site, st.accept_pauses > 0);
    ASSERT(strstr(site->errors, "accepting pauses: out of descriptors") != NULL);
    struct fibril_http_stats full = site_stats(site);
    ASSERT_GT(full.connections, limit - 64);
    ASSERT_LT(full.connections, limit);
    crowd_end(a);
    SITE_UNTIL(site, st.accepted == 2 * (uint64_t)each); /* all who waited were taken in */
    SITE_UNTIL(site, st.connections <= (uint64_t)each);
    ASSERT_GT(site_stats(site).connections, each / 2); /* who was idle still may have had to go */
    struct client c;
    struct reply r;
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
    crowd_end(b);
    SITE_UNTIL(site, st.connections == 0);
    ASSERT_OK(fibril_close(ready[0]));
    ASSERT_OK(fibril_close(ready[1]));
    site_stop(site, 0);
}
