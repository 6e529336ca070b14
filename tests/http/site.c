/* SPDX-License-Identifier: MIT */
/*
 * See site.h. The client's parser is deliberately simple and trusts nothing it does not need: it is
 * there to show what came over the wire.
 */
#include "site.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { PATIENCE_S = 20 };

static int64_t patience(void)
{
    return fibril_after(PATIENCE_S * 1000000000LL);
}

/* ---- handlers ------------------------------------------------------------ */

static int hello(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    site->calls++;
    return fibril_http_respond(req, 200, "text/plain", "hello\n", 6);
}

/* The body comes back as it is read, chunked, with the request's trailers. */
static int echo(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    char part[777];
    ssize_t n;
    site->calls++;
    site->body_length = fibril_http_body_length(req);
    while ((n = fibril_http_body_read(req, part, sizeof(part), FIBRIL_FOREVER)) > 0) {
        int rc = fibril_http_write(req, part, (size_t)n);
        if (rc < 0) {
            return rc;
        }
    }
    const char *name, *value;
    for (size_t i = 0; n == 0 && fibril_http_trailer_at(req, i, &name, &value); i++) {
        fibril_http_trailer(req, name, value);
    }
    site->handler_result = (int)n;
    return (int)n;
}

static int all(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    const char *body;
    ssize_t n = fibril_http_body_all(req, 100000, &body, FIBRIL_FOREVER);
    site->handler_result = (int)n;
    return n < 0 ? (int)n : fibril_http_respond(req, 200, "text/plain", body, (size_t)n);
}

static int slow(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    char text[16] = "0";
    site->calls++;
    fibril_http_query_get(req, "ms", text, sizeof(text));
    int rc = fibril_sleep((int64_t)atoi(text) * 1000000);
    site->handler_result = rc;
    return rc < 0 ? rc : fibril_http_respond(req, 200, "text/plain", "slow\n", 5);
}

static int chunks(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    int rc = fibril_http_write(req, "one ", 4);
    rc = rc < 0 ? rc : fibril_http_write(req, "two ", 4);
    rc = rc < 0 ? rc : fibril_http_flush(req);
    rc = rc < 0 ? rc : fibril_http_write(req, "three", 5);
    fibril_http_trailer(req, "X-Sum", "15");
    return rc;
}

static int big(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    char text[24] = "0", piece[10000];
    fibril_http_query_get(req, "n", text, sizeof(text));
    size_t n = (size_t)atoll(text);
    for (size_t at = 0; at < n;) {
        size_t len = n - at < sizeof(piece) ? n - at : sizeof(piece);
        for (size_t i = 0; i < len; i++) {
            piece[i] = site_byte(at + i);
        }
        int rc = fibril_http_write(req, piece, len);
        if (rc < 0) {
            site->handler_result = rc;
            return rc;
        }
        at += len;
    }
    return 0;
}

static int param(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[256];
    int len = snprintf(text, sizeof(text), "%s|%s|%s", fibril_http_param(req, "a"),
                       fibril_http_param(req, "rest"), fibril_http_path(req));
    ASSERT(fibril_http_param(req, "other") == NULL);
    return fibril_http_respond(req, 200, "text/plain", text, (size_t)len);
}

/* Says what the request accessors say. */
static int inspect(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[2048], peer[64], q[64] = "-";
    const char *name, *value;
    ASSERT_OK(fibril_http_peer(req, peer, sizeof(peer)));
    fibril_http_query_get(req, "q", q, sizeof(q));
    int len = snprintf(
        text, sizeof(text), "%s %s path=%s query=%s q=%s host=%s minor=%d ua=%s peer=%.10s\n",
        fibril_http_method(req), fibril_http_target(req), fibril_http_path(req),
        fibril_http_query(req) ? fibril_http_query(req) : "(null)", q, fibril_http_host(req),
        fibril_http_version_minor(req), fibril_http_header_get(req, "uSER-aGENT"), peer);
    for (size_t i = 0; fibril_http_header_at(req, i, &name, &value); i++) {
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%s=%s%s;", name, value,
                        fibril_http_header_has_underscore(req, i) ? "_" : "");
    }
    return fibril_http_respond(req, 200, "text/plain", text, (size_t)len);
}

static int with_status(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[16] = "";
    fibril_http_query_get(req, "code", text, sizeof(text));
    int rc = fibril_http_status(req, atoi(text));
    return rc < 0 ? rc : fibril_http_write(req, "body", 4);
}

static int fails(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[16] = "";
    ASSERT_OK(fibril_http_query_get(req, "errno", text, sizeof(text)));
    if (fibril_http_query_get(req, "after", text + 8, 8) >= 0) {
        fibril_http_write(req, "part", 4);
        fibril_http_flush(req);
    }
    return -atoi(text);
}

static int add_routes(struct site *site)
{
    static const struct {
        const char *method, *pattern;
        fibril_http_handler *handler;
    } routes[] = {
        {"GET", "/hello", hello},    {"POST", "/hello", hello},
        {"POST", "/echo", echo},     {"POST", "/all", all},
        {"GET", "/slow", slow},      {"GET", "/chunks", chunks},
        {"GET", "/big", big},        {"GET", "/param/{a}/x/{rest*}", param},
        {NULL, "/inspect", inspect}, {"GET", "/status", with_status},
        {"GET", "/fails", fails},
    };
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        int rc = fibril_http_route(site->srv, routes[i].method, routes[i].pattern,
                                   routes[i].handler, site);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- the server ---------------------------------------------------------- */

static void note_error(void *arg, const char *text)
{
    struct site *site = arg;
    size_t len = strlen(site->errors);
    snprintf(site->errors + len, sizeof(site->errors) - len, "%s\n", text);
}

void site_new(struct site *site)
{
    site->opts.error_log_fd = -1;
    site->opts.on_error = note_error;
    site->opts.log_arg = site->opts.log_arg ? site->opts.log_arg : site;
    ASSERT_OK(fibril_http_server_new(&site->opts, &site->srv));
    ASSERT_OK(add_routes(site));
    ASSERT_EQ(fibril_http_server_listen(site->srv, "127.0.0.1:0"), 0);
    ASSERT_OK(fibril_http_server_address(site->srv, 0, site->address, sizeof(site->address)));
}

static int run_server(void *arg)
{
    struct site *site = arg;
    return fibril_http_server_run(site->srv);
}

void site_go(struct site *site)
{
    ASSERT_OK(fibril_spawn(run_server, site, NULL, &site->runner));
}

void site_start(struct site *site)
{
    site_new(site);
    site_go(site);
}

void site_stop(struct site *site, int64_t deadline_ns)
{
    fibril_http_server_stop(site->srv, deadline_ns);
    ASSERT_OK(fibril_join(site->runner, patience(), &site->result));
    site->runner = NULL;
}

struct fibril_http_stats site_stats(const struct site *site)
{
    struct fibril_http_stats st;
    fibril_http_server_stats(site->srv, &st);
    return st;
}

void site_folder(struct site *site)
{
    snprintf(site->folder, sizeof(site->folder), "%s", "/tmp/fibril-site-XXXXXX");
    ASSERT(mkdtemp(site->folder) != NULL);
}

void site_file(const struct site *site, const char *name, const void *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", site->folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_OK(fd);
    ASSERT_EQ(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

struct start {
    void (*body)(struct site *site);
    struct site *site;
};

static int site_main(void *arg)
{
    struct start *start = arg;
    start->body(start->site);
    if (start->site->runner) {
        site_stop(start->site, fibril_after(5000000000));
        ASSERT_OK(start->site->result);
    }
    struct fibril_http_stats st = site_stats(start->site);
    ASSERT_EQ(st.connections, 0);
    ASSERT_EQ(st.in_flight, 0);
    ASSERT_EQ(st.idle, 0);
    ASSERT_EQ(st.buffer_bytes, 0);
    fibril_http_server_free(start->site->srv);
    return 0;
}

void site_run(void (*body)(struct site *site), enum fibril_stack stack, unsigned loops)
{
    struct site *site = calloc(1, sizeof(*site));
    struct start start = {body, site};
    struct fibril_opts opts = {.loops = loops};
    site->opts.stack = stack;
    site->opts.loops = loops > 1 ? loops : 0;
    site->loops = loops;
    int rc = fibril_run(&opts, site_main, &start);
    if (rc == -ENOSYS) {
        SKIP("the kernel, or an emulator, refuses this poller");
    }
    ASSERT_OK(rc);
    if (site->folder[0]) {
        char command[128];
        snprintf(command, sizeof(command), "rm -rf '%s'", site->folder);
        ASSERT_EQ(system(command), 0);
    }
    free(site);
}

/* ---- the client ---------------------------------------------------------- */

void client_open(struct client *c, const struct site *site)
{
    struct fibril_addr addr;
    ASSERT_OK(fibril_addr_parse(site->address, &addr));
    *c = (struct client){.bytes = malloc(CLIENT_BYTES)};
    ASSERT(c->bytes != NULL);
    c->fd = fibril_connect(&addr, patience());
    ASSERT_OK(c->fd);
}

void client_close(struct client *c)
{
    ASSERT_OK(fibril_close(c->fd));
    free(c->bytes);
    c->bytes = NULL;
}

void client_send_bytes(struct client *c, const void *bytes, size_t len)
{
    ASSERT_OK(fibril_write_all(c->fd, bytes, len, patience()));
}

void client_send(struct client *c, const char *text)
{
    client_send_bytes(c, text, strlen(text));
}

/* More bytes; false at the end, for which a reset counts too. */
static bool receive(struct client *c)
{
    ASSERT_LT(c->len, CLIENT_BYTES - 1);
    ssize_t n =
        c->ended ? 0
                 : fibril_recv(c->fd, c->bytes + c->len, CLIENT_BYTES - 1 - c->len, 0, patience());
    ASSERT(n >= 0 || n == -ECONNRESET);
    c->ended = n <= 0;
    c->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

bool client_sees_end(struct client *c)
{
    return c->len == 0 && !receive(c);
}

static void need(struct client *c, size_t len)
{
    while (c->len < len) {
        ASSERT(receive(c));
    }
}

static void drop(struct client *c, size_t len)
{
    memmove(c->bytes, c->bytes + len, c->len - len);
    c->len -= len;
}

/* Everything up to and with the text; its length. */
static size_t need_text(struct client *c, const char *text)
{
    char *at;
    while ((at = memmem(c->bytes, c->len, text, strlen(text))) == NULL) {
        ASSERT(receive(c));
    }
    return (size_t)(at - c->bytes) + strlen(text);
}

static void read_chunks(struct client *c, struct reply *r)
{
    for (;;) {
        size_t line = need_text(c, "\r\n");
        size_t size = (size_t)strtoull(c->bytes, NULL, 16);
        drop(c, line);
        if (size == 0) {
            break;
        }
        need(c, size + 2);
        memcpy(r->body + r->len, c->bytes, size);
        r->len += size;
        ASSERT_MEM(c->bytes + size, "\r\n", 2);
        drop(c, size + 2);
    }
    need(c, 2);
    size_t end = memcmp(c->bytes, "\r\n", 2) == 0 ? 2 : need_text(c, "\r\n\r\n");
    ASSERT_LT(end, sizeof(r->trailers));
    memcpy(r->trailers, c->bytes, end);
    drop(c, end);
}

static void read_body(struct client *c, struct reply *r)
{
    if (reply_has(r, "Transfer-Encoding: chunked")) {
        read_chunks(c, r);
        return;
    }
    const char *length = reply_value(r, "Content-Length");
    if (*length) {
        r->len = (size_t)atoll(length);
        need(c, r->len);
    } else {
        while (receive(c)) {}
        r->len = c->len;
    }
    memcpy(r->body, c->bytes, r->len);
    drop(c, r->len);
}

static void read_reply(struct client *c, struct reply *r, bool head)
{
    static char body[CLIENT_BYTES];
    size_t len = need_text(c, "\r\n\r\n");
    *r = (struct reply){.body = body};
    ASSERT_LT(len, sizeof(r->head));
    memcpy(r->head, c->bytes, len);
    drop(c, len);
    ASSERT(sscanf(r->head, "HTTP/1.1 %3d ", &r->status) == 1);
    r->keeps = !reply_has(r, "Connection: close");
    if (!head && r->status != 304 && r->status != 204 && r->status >= 200) {
        read_body(c, r);
    }
    body[r->len] = '\0';
}

void client_reply(struct client *c, struct reply *r)
{
    read_reply(c, r, false);
}

void client_reply_head(struct client *c, struct reply *r)
{
    read_reply(c, r, true);
}

void ask_once(const struct site *site, const char *request, struct reply *r)
{
    struct client c;
    client_open(&c, site);
    client_send(&c, request);
    client_reply(&c, r);
    ASSERT(client_sees_end(&c));
    client_close(&c);
}

void ask(struct client *c, const char *target, struct reply *r)
{
    char request[2048];
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", target);
    client_send(c, request);
    client_reply(c, r);
}

bool reply_has(const struct reply *r, const char *line)
{
    const char *at = r->head;
    size_t len = strlen(line);
    while ((at = strstr(at, "\r\n")) != NULL) {
        at += 2;
        if (strncasecmp(at, line, len) == 0 && at[len] == '\r') {
            return true;
        }
    }
    return false;
}

const char *reply_value(const struct reply *r, const char *name)
{
    static char value[512];
    size_t len = strlen(name);
    const char *at = r->head;
    value[0] = '\0';
    while ((at = strstr(at, "\r\n")) != NULL) {
        at += 2;
        if (strncasecmp(at, name, len) == 0 && at[len] == ':') {
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + len + 2, "\r"), at + len + 2);
        }
    }
    return value;
}
