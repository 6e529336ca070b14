/* SPDX-License-Identifier: MIT */
/*
 * The server on the wire: what is refused and how, framing both ways, keep-alive, pipelining. The
 * parser's own table is test_parse.c; here the question is what a peer sees.
 */
#include "site.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST "Host: test\r\n"

SITE_TEST(get_is_answered_with_length_and_date)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    ASSERT_STR(r.body, "hello\n");
    ASSERT(reply_has(&r, "Content-Type: text/plain"));
    ASSERT(reply_has(&r, "Content-Length: 6"));
    ASSERT(reply_has(&r, "Server: fibril"));
    ASSERT_EQ(strlen(reply_value(&r, "Date")), 29);
    ASSERT(r.keeps);
    client_close(&c);
}

SITE_TEST(bad_heads_are_refused_and_the_connection_ends)
{
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /hello HTTP/1.1\n" HOST "\n", 400},
        {"GET /hello\r\n\r\n", 400},
        {"GET  /hello HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /hello HTTP/1.1\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /../hello HTTP/1.1\r\n" HOST "\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 505},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: miracle\r\n\r\n", 417},
    };
    struct reply r;
    site_start(site);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask_once(site, cases[i].request, &r);
        if (r.status != cases[i].status) {
            test_fail(__FILE__, __LINE__, "case %zu: %d, not %d", i, r.status, cases[i].status);
        }
        ASSERT(!r.keeps);
    }
    ASSERT_EQ(site->calls, 0);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.refused_head, sizeof(cases) / sizeof(cases[0]));
}

SITE_TEST(keep_alive_follows_version_and_wish)
{
    struct client c;
    struct reply r;
    site_start(site);
    ask_once(site, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", &r);
    ASSERT(!r.keeps);
    ask_once(site, "GET /hello HTTP/1.0\r\n\r\n", &r);
    ASSERT(!r.keeps);
    client_open(&c, site);
    client_send(&c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client_reply(&c, &r);
    ASSERT(reply_has(&r, "Connection: keep-alive"));
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.accepted, 3);
}

SITE_TEST(head_has_the_length_and_no_body)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n");
    client_reply_head(&c, &r);
    ASSERT(reply_has(&r, "Content-Length: 6"));
    client_send(&c, "HEAD /chunks HTTP/1.1\r\n" HOST "\r\n");
    client_reply_head(&c, &r);
    ASSERT(reply_has(&r, "Transfer-Encoding: chunked"));
    ask(&c, "/hello", &r); /* nothing of a body was in between */
    ASSERT_STR(r.body, "hello\n");
    client_close(&c);
}

SITE_TEST(responses_204_and_304_have_no_body)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/status?code=204", &r);
    ASSERT_EQ(r.status, 204);
    ASSERT_STR(reply_value(&r, "Content-Length"), "");
    ASSERT_STR(reply_value(&r, "Transfer-Encoding"), "");
    ask(&c, "/status?code=304", &r);
    ASSERT_EQ(r.status, 304);
    ask(&c, "/status?code=201", &r);
    ASSERT_EQ(r.status, 201);
    ASSERT_STR(r.body, "body");
    client_close(&c);
}

SITE_TEST(routes_give_404_405_and_options)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/nowhere", &r);
    ASSERT_EQ(r.status, 404);
    ask(&c, "/echo", &r);
    ASSERT_EQ(r.status, 405);
    ASSERT(reply_has(&r, "Allow: POST, OPTIONS"));
    client_send(&c, "OPTIONS /hello HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 204);
    ASSERT(reply_has(&r, "Allow: GET, POST, HEAD, OPTIONS"));
    ask(&c, "/param/one%20two/x/a/./b/../c", &r);
    ASSERT_STR(r.body, "one two|a/c|/param/one two/x/a/c");
    ask(&c, "/param/z/x/", &r);
    ASSERT_STR(r.body, "z||/param/z/x/");
    client_send(&c, "CONNECT test:80 HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 501);
    client_close(&c);
}

SITE_TEST(accessors_say_what_was_sent)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "PUT http://other:81/inspect?q=a%26+b&x HTTP/1.1\r\n" HOST
                    "User-Agent:\t me \r\nA_b: 1\r\nEmpty:\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body,
               "PUT http://other:81/inspect?q=a%26+b&x path=/inspect query=q=a%26+b&x q=a& b "
               "host=other:81 minor=1 ua=me peer=127.0.0.1:\n"
               "Host=test;User-Agent=me;A_b=1_;Empty=;");
    client_close(&c);
}

SITE_TEST(bodies_echo_with_length_and_chunked)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello world");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "hello world");
    ASSERT_EQ(site->body_length, 11);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                    "5;a=b\r\nhello\r\n006\r\n world\r\n0\r\nX-Sum: 11\r\nHost: evil\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "hello world");
    ASSERT_STR(r.trailers, "X-Sum: 11\r\n\r\n");
    ASSERT_EQ(site->body_length, -1);
    client_send(&c, "POST /all HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                    "3\r\nabc\r\n0\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "abc");
    ASSERT(reply_has(&r, "Content-Length: 3"));
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
}

SITE_TEST(bad_chunks_are_the_end)
{
    static const char *const bodies[] = {"5\nhello\r\n",    "+5\r\nhello\r\n", "0x5\r\nhello\r\n",
                                         "5\r\nhelloX\r\n", "5 \r\nhello\r\n", "g\r\n"};
    site_start(site);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        char request[256];
        struct reply r;
        snprintf(request, sizeof(request),
                 "POST /all HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s", bodies[i]);
        ask_once(site, request, &r);
        ASSERT_EQ(r.status, 400);
        ASSERT_EQ(site->handler_result, -EPROTO);
    }
}

SITE_TEST(requests_come_byte_by_byte)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n"
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        client_send_bytes(&c, request + i, 1);
        fibril_yield();
        fibril_sleep(20000);
    }
    client_reply(&c, &r);
    ASSERT_STR(r.body, "hello");
    ASSERT_STR(r.trailers, "X-T: v\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "abc");
    client_close(&c);
}

SITE_TEST(requests_are_cut_at_every_byte)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n";
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
        struct fibril_http_stats before = site_stats(site);
        client_send_bytes(&c, request, cut);
        SITE_UNTIL(site, st.bytes_in >= before.bytes_in + cut);
        client_send_bytes(&c, request + cut, sizeof(request) - 1 - cut);
        client_reply(&c, &r);
        ASSERT_STR(r.body, "hello");
        client_reply(&c, &r);
        ASSERT_STR(r.body, "hello\n");
    }
    client_close(&c);
}

SITE_TEST(expect_is_answered_on_the_first_read)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_send(&c,
                "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 100);
    client_send(&c, "ok");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 200);
    ASSERT_STR(r.body, "ok");
    ASSERT(r.keeps);
    /* Nobody reads the body: no 100, and the connection ends, for the peer may or may not send it.
     */
    client_send(&c, "POST /hello HTTP/1.1\r\n" HOST
                    "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 200);
    ASSERT(!r.keeps);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(unread_bodies_are_dropped_or_end_the_connection)
{
    struct client c;
    struct reply r;
    char body[4000];
    memset(body, 'x', sizeof(body));
    site->opts.limits.drain_bytes = 5000;
    site_start(site);
    client_open(&c, site);
    client_send(&c, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 4000\r\n\r\n");
    client_reply(&c, &r);
    ASSERT(r.keeps);
    client_send_bytes(&c, body, sizeof(body));
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_send(&c, "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 6000\r\n\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 200);
    ASSERT(!r.keeps);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

SITE_TEST(chunked_responses_have_trailers_and_merge_small_writes)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/chunks", &r);
    ASSERT_STR(r.body, "one two three");
    ASSERT_STR(r.trailers, "X-Sum: 15\r\n\r\n");
    client_send(&c, "GET /chunks HTTP/1.1\r\n" HOST "\r\n");
    static const char wanted[] = "0008\r\none two \r\n0005\r\nthree\r\n0\r\nX-Sum: 15\r\n\r\n";
    char *body = NULL;
    while (!body || strlen(body + 4) < strlen(wanted)) {
        ASSERT_GT(c.len + 1, 0);
        ssize_t n = fibril_recv(c.fd, c.bytes + c.len, 1000, 0, FIBRIL_FOREVER);
        ASSERT_GT(n, 0);
        c.len += (size_t)n;
        c.bytes[c.len] = '\0';
        body = strstr(c.bytes, "\r\n\r\n");
    }
    ASSERT_STR(body + 4, wanted);
    client_close(&c);
    ask_once(site, "GET /chunks HTTP/1.0\r\n\r\n", &r);
    ASSERT_STR(r.body, "one two three");
    ASSERT_STR(reply_value(&r, "Transfer-Encoding"), "");
}

SITE_TEST(large_responses_come_whole)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    ask(&c, "/big?n=900001", &r);
    ASSERT_EQ(r.len, 900001);
    for (size_t i = 0; i < r.len; i++) {
        ASSERT_EQ(r.body[i], site_byte(i));
    }
    client_close(&c);
}

/* ---- pipelining ---------------------------------------------------------- */

SITE_TEST(pipelined_responses_keep_order_and_leave_together)
{
    struct client c;
    struct reply r;
    char burst[4096] = "";
    site_start(site);
    client_open(&c, site);
    for (int i = 0; i < 16; i++) {
        char one[128];
        snprintf(one, sizeof(one), "GET /param/%d/x/y HTTP/1.1\r\n" HOST "\r\n", i);
        strncat(burst, one, sizeof(burst) - strlen(burst) - 1);
    }
    struct fibril_http_stats before = site_stats(site);
    client_send(&c, burst);
    for (int i = 0; i < 16; i++) {
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "%d|y|/param/%d/x/y", i, i);
        client_reply(&c, &r);
        ASSERT_STR(r.body, wanted);
    }
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.requests - before.requests, 16);
    ASSERT_EQ(st.sends - before.sends, 1);
    client_close(&c);
}

SITE_TEST(a_finished_response_does_not_wait_for_a_sleeping_handler)
{
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    client_send(&c,
                "GET /hello HTTP/1.1\r\n" HOST "\r\nGET /slow?ms=600000 HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "hello\n");
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.in_flight, 1);
    client_close(&c);
    site_stop(site, 0);
    ASSERT_EQ(site->result, -ETIMEDOUT);
    ASSERT_EQ(site->handler_result, -ECANCELED);
}

SITE_TEST(a_burst_larger_than_the_buffers_is_answered_whole)
{
    enum { N = 3000 };
    struct client c;
    struct reply r;
    static char burst[N * 64];
    size_t len = 0;
    site_start(site);
    client_open(&c, site);
    for (int i = 0; i < N; i++) {
        len += (size_t)snprintf(burst + len, sizeof(burst) - len,
                                "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    }
    client_send_bytes(&c, burst, len);
    for (int i = 0; i < N; i++) {
        client_reply(&c, &r);
        ASSERT_EQ(r.status, 200);
    }
    struct fibril_http_stats st = site_stats(site);
    ASSERT_LT(st.sends, N / 10);
    client_close(&c);
}

/* ---- what handlers do wrong ---------------------------------------------- */

SITE_TEST(failed_handlers_become_statuses)
{
    static const struct {
        int error, status;
    } cases[] = {{ENOENT, 404}, {EACCES, 403}, {EINVAL, 400},   {EMSGSIZE, 413},
                 {ENOMEM, 503}, {EIO, 500},    {ETIMEDOUT, 504}};
    struct client c;
    struct reply r;
    site_start(site);
    client_open(&c, site);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char target[64];
        snprintf(target, sizeof(target), "/fails?errno=%d", cases[i].error);
        ask(&c, target, &r);
        ASSERT_EQ(r.status, cases[i].status);
        ASSERT(r.keeps);
    }
    ASSERT(strstr(site->errors, "GET /fails?errno=5: handler failed") != NULL);
    ASSERT(strstr(site->errors, "GET /fails?errno=2:") == NULL); /* 404 is no failure */
    client_send(&c, "GET /fails?errno=5&after HTTP/1.1\r\n" HOST "\r\n");
    while (!client_sees_end(&c)) { /* broken off: no last chunk */
        ASSERT(memmem(c.bytes, c.len, "0\r\n\r\n", 5) == NULL);
        c.len = 0;
    }
    client_close(&c);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.aborted, 1);
}

static int misuse(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    ASSERT_ERR(fibril_http_header(req, "A", "b\r\nEvil: 1"), -EINVAL);
    ASSERT_ERR(fibril_http_header(req, "A\r\nEvil", "b"), -EINVAL);
    ASSERT_ERR(fibril_http_header(req, "", "b"), -EINVAL);
    ASSERT_ERR(fibril_http_header(req, "Date", "now"), -EINVAL);
    ASSERT_ERR(fibril_http_header(req, "Transfer-Encoding", "gzip"), -EINVAL);
    ASSERT_ERR(fibril_http_header(req, "Content-Length", "1x"), -EINVAL);
    ASSERT_ERR(fibril_http_status(req, 99), -EINVAL);
    ASSERT_ERR(fibril_http_status(req, 600), -EINVAL);
    ASSERT_ERR(fibril_http_trailer(req, "Host", "x"), -EINVAL);
    ASSERT_OK(fibril_http_header(req, "Content-Length", "3"));
    ASSERT_OK(fibril_http_write(req, "ab", 2));
    ASSERT_ERR(fibril_http_write(req, "cd", 2), -EMSGSIZE);
    ASSERT_ERR(fibril_http_header(req, "A", "b"), -EBUSY);
    ASSERT_ERR(fibril_http_status(req, 500), -EBUSY);
    return 0;
}

SITE_TEST(misuse_is_told_and_a_short_body_is_broken_off)
{
    struct client c;
    site_new(site);
    ASSERT_OK(fibril_http_route(site->srv, "GET", "/misuse", misuse, NULL));
    site_go(site);
    client_open(&c, site);
    client_send(&c, "GET /misuse HTTP/1.1\r\n" HOST "\r\n");
    while (!client_sees_end(&c)) {
        ASSERT(memmem(c.bytes, c.len, "Evil", 4) == NULL);
        c.len = 0;
    }
    client_close(&c);
    struct fibril_http_stats st = site_stats(site);
    ASSERT_EQ(st.aborted, 1);
}
