/* SPDX-License-Identifier: MIT */
/*
 * Memory that runs out at every point of a server's life: from its making through every kind of
 * request. Each time the peer gets an answer or an end, nothing hangs, and nothing is left behind.
 */
#include "test.h"

#include <fibril/http.h>
#include <fibril/io.h>

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOST "Host: test\r\n"

static const char requests[] =
    "GET /headers HTTP/1.1\r\n" HOST "\r\n"
    "POST /echo HTTP/1.1\r\n" HOST
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\n\r\n"
    "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    "GET /f/file.txt HTTP/1.1\r\n" HOST "\r\n"
    "GET /f/file.txt HTTP/1.1\r\n" HOST "Range: bytes=0-1,4-5\r\n\r\n"
    "GET /nowhere HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";

static char folder[64];
static int succeed; /* how many allocations succeed */

static int headers(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char value[600];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    int rc = 0;
    for (int i = 0; rc == 0 && i < 4; i++) {
        rc = fibril_http_header(req, "X-Long", value);
    }
    return rc < 0 ? rc : fibril_http_respond(req, 200, NULL, "x", 1);
}

static int echo(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    const char *body, *name, *value;
    ssize_t n = fibril_http_body_all(req, 1000, &body, FIBRIL_FOREVER);
    int rc = n < 0 ? (int)n : 0;
    for (size_t i = 0; rc == 0 && fibril_http_trailer_at(req, i, &name, &value); i++) {
        rc = fibril_http_trailer(req, name, value);
    }
    return rc < 0 ? rc : fibril_http_write(req, body, (size_t)n);
}

static int make(struct fibril_http_server **ret_srv)
{
    struct fibril_http_opts opts = {.error_log_fd = -1, .access_log = FIBRIL_HTTP_LOG_JSON};
    opts.limits.per_address_max = 10;
    opts.access_log_fd = STDERR_FILENO;
    struct fibril_http_server *srv;
    int rc = fibril_http_server_new(&opts, &srv);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_http_route(srv, "GET", "/headers", headers, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "POST", "/{what}", echo, NULL);
    rc = rc < 0 ? rc : fibril_http_static(srv, "/f/", folder, NULL);
    rc = rc < 0 ? rc : fibril_http_server_listen(srv, "127.0.0.1:0");
    if (rc < 0) {
        fibril_http_server_free(srv);
        return rc;
    }
    *ret_srv = srv;
    return 0;
}

static bool ended; /* the run; then nobody listens to the backlog any more */

static int run(void *srv)
{
    ended = false;
    int rc = fibril_http_server_run(srv);
    ended = true;
    return rc;
}

/* Talks until the server ends it, or memory does. */
static void talk(const struct fibril_http_server *srv)
{
    char address[128], bytes[2048];
    struct fibril_addr addr;
    ASSERT_OK(fibril_http_server_address(srv, 0, address, sizeof(address)));
    ASSERT_OK(fibril_addr_parse(address, &addr));
    int fd = fibril_connect(&addr, fibril_after(10000000000));
    if (fd < 0) {
        return;
    }
    if (fibril_write_all(fd, requests, sizeof(requests) - 1, fibril_after(10000000000)) > 0) {
        int64_t late = fibril_after(10000000000);
        for (ssize_t n = 1; n > 0 || n == -ETIMEDOUT;) {
            n = fibril_recv(fd, bytes, sizeof(bytes), 0, fibril_after(20000000));
            struct fibril_http_stats st;
            fibril_http_server_stats(srv, &st);
            if (n == -ETIMEDOUT && (st.accept_pauses > 0 || ended)) {
                break; /* it waits for memory, with us in the backlog */
            }
            if (n == -ETIMEDOUT && fibril_now() > late) {
                test_fail(__FILE__, __LINE__, "silence after %d allocations", succeed);
            }
        }
    }
    fibril_close(fd);
}

/* *arg allocations succeed; it becomes -1 when that was enough. */
static int scenario(void *arg)
{
    int *allowed = arg;
    struct fibril_http_server *srv;
    struct fibril *runner = NULL;
    fibril__alloc_fail_after(*allowed);
    int rc = make(&srv);
    if (rc < 0) {
        fibril__alloc_fail_after(-1);
        return rc == -ENOMEM ? 0 : rc;
    }
    if (fibril_spawn(run, srv, NULL, &runner) == 0) {
        talk(srv);
    }
    fibril__alloc_fail_after(-1);
    struct fibril_http_stats st;
    fibril_http_server_stats(srv, &st);
    if (st.status[2] >= 4 && st.status[4] == 1 && st.requests == 6) {
        *allowed = -1;
    }
    if (runner) {
        fibril_http_server_stop(srv, fibril_after(10000000000));
        fibril_join(runner, FIBRIL_FOREVER, NULL);
    }
    fibril_http_server_free(srv);
    return 0;
}

TEST_WITHIN(memory_may_run_out_at_any_point, 240)
{
    char name[128];
    snprintf(folder, sizeof(folder), "%s", "/tmp/fibril-oom-XXXXXX");
    ASSERT(mkdtemp(folder) != NULL);
    snprintf(name, sizeof(name), "%s/file.txt", folder);
    FILE *file = fopen(name, "w");
    ASSERT(file != NULL);
    fputs("0123456789", file);
    fclose(file);
    ASSERT(freopen("/dev/null", "w", stderr) != NULL);
    int allowed = 1000000;
    ASSERT_OK(fibril_run(NULL, scenario, &allowed)); /* makes what the process keeps */
    ASSERT_EQ(allowed, -1);
    allowed = 0;
    for (int n = 0; allowed >= 0; n++) {
        ASSERT_LT(n, 3000);
        int64_t live = fibril__alloc_live();
        allowed = succeed = n;
        ASSERT_OK(fibril_run(NULL, scenario, &allowed));
        if (fibril__alloc_live() != live) {
            test_fail(__FILE__, __LINE__, "left behind after %d allocations", n);
        }
    }
    unlink(name);
    rmdir(folder);
}
