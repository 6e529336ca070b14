/* SPDX-License-Identifier: MIT */
/*
 * The observer's server: a daemon of the loop that asked for it. Each page that is open costs a
 * fibril and what it takes to answer it; the more that takes the rarer it is answered, so that
 * looking takes no more than one fiftieth of the time however many actors there are.
 *
 * It has no password. So on loopback it answers to local names only: a page of somebody else's,
 * whose own name has been made to mean 127.0.0.1, gets nothing.
 */
#include "observe/observe.h"

#include "base/alloc.h"
#include "actor/look.h"
#include "observe/page.h"

#include <fibril/embed.h>
#include <fibril/http.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { WATCHERS_MAX = 16, COST_DIVISOR = 50, ROWS_USUAL = 50 };

#define INTERVAL_MIN_NS INT64_C(1000000000)
#define INTERVAL_MAX_NS INT64_C(30000000000)
#define TICK_NS INT64_C(250000000) /* how exactly messages are dated */

static struct {
    _Atomic bool taken;
    struct fibril_loop *loop;
    struct fibril_http_server *srv;
    struct fibril_waker_room ended;
    bool local; /* only local names are answered to */
    unsigned watchers;
} serving;

/* ---- requests ---- */

static int say(struct fibril_http_req *req, int status, const char *text)
{
    return fibril_http_respond(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Whether the Host is one that only this machine calls so. */
static bool is_local(const char *host)
{
    size_t n = strcspn(host, *host == '[' ? "]" : ":");
    return n == 0 || (n == 9 && begins(host, "localhost")) ||
           (begins(host, "127.") && strspn(host, "0123456789.") == n) || begins(host, "[::1]");
}

/* Common to all answers; false: the request has been refused. */
static bool admit(struct fibril_http_req *req, int *ret_rc)
{
    if (serving.local && !is_local(fibril_http_host(req))) {
        *ret_rc = say(req, 403, "This server answers to local names only.\n");
        return false;
    }
    fibril_http_header(req, "Cache-Control", "no-store");
    fibril_http_header(req, "X-Content-Type-Options", "nosniff");
    return true;
}

static int page(struct fibril_http_req *req, void *arg)
{
    int rc;
    if (!admit(req, &rc)) {
        return rc;
    }
    fibril_http_header(req, "Content-Security-Policy",
                       "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                       "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                       "frame-ancestors 'none'");
    return fibril_http_respond(req, 200, "text/html; charset=utf-8", fibril__observe_page,
                               fibril__observe_page_len);
}

/* Reads one `key=value`. */
static int read_pair(struct fibril__view_query *q, char *pair, char *wrong, size_t size)
{
    char *equals = strchr(pair, '=');
    if (equals) {
        *equals = '\0';
    }
    return *pair ? fibril__query_set(q, pair, equals ? equals + 1 : "", wrong, size) : 0;
}

/* Reads the query, whose values need no escapes; what is wrong with it goes to `wrong`. */
static int read_query(struct fibril_http_req *req, struct fibril__view_query *q, char *wrong,
                      size_t size)
{
    char text[512];
    const char *query = fibril_http_query(req);
    *q = (struct fibril__view_query){.count = ROWS_USUAL};
    if (snprintf(text, sizeof text, "%s", query ? query : "") >= (int)sizeof text) {
        snprintf(wrong, size, "the query is longer than %zu bytes\n", sizeof text - 1);
        return -EINVAL;
    }
    char *rest = text;
    int rc = 0;
    for (char *pair; rc == 0 && (pair = strsep(&rest, "&")) != NULL;) {
        rc = read_pair(q, pair, wrong, size);
    }
    bool sorts = q->query.sort == FIBRIL_SORT_ID || q->query.sort == FIBRIL_SORT_CPU ||
                 q->query.sort == FIBRIL_SORT_SINCE;
    if (rc == 0 && q->view == FIBRIL__VIEW_FIBRILS && !sorts) {
        snprintf(wrong, size, "fibrils are sorted by id, cpu or since\n");
        rc = -EINVAL;
    }
    return rc;
}

static int json(struct fibril_http_req *req, void *arg)
{
    struct fibril__view_query q;
    struct fibril__sheet out = {0};
    char wrong[768];
    int rc;
    if (!admit(req, &rc)) {
        return rc;
    }
    if (read_query(req, &q, wrong, sizeof wrong) < 0) {
        return say(req, 400, wrong);
    }
    rc = fibril__json_write(&out, &q);
    if (rc == -ESRCH) {
        rc = say(req, 404, "There is no such supervisor.\n");
    } else if (rc == 0) {
        rc = fibril_http_respond(req, 200, "application/json", out.text, out.len);
    }
    fibril__sheet_fini(&out);
    return rc;
}

static int metrics(struct fibril_http_req *req, void *arg)
{
    struct fibril__sheet out = {0};
    int rc;
    if (!admit(req, &rc)) {
        return rc;
    }
    rc = fibril__metrics_write(&out);
    if (rc == 0) {
        rc = fibril_http_respond(req, 200, "text/plain; version=0.0.4; charset=utf-8", out.text,
                                 out.len);
    }
    fibril__sheet_fini(&out);
    return rc;
}

/* ---- /events ---- */

/* Sleeps, and dates messages meanwhile. */
static int pause_until(struct fibril_http_req *req, int64_t until_ns)
{
    int rc = -ETIMEDOUT;
    while (rc == -ETIMEDOUT && fibril_now() < until_ns) {
        int64_t tick_ns = fibril_after(TICK_NS);
        fibril__mail_redate(fibril_now());
        rc = fibril_http_gone_wait(req, tick_ns < until_ns ? tick_ns : until_ns);
    }
    return rc == -ETIMEDOUT ? 0 : rc == 0 ? -EPIPE : rc;
}

static int send_one(struct fibril_http_req *req, const struct fibril__view_query *q)
{
    struct fibril__sheet out = {0};
    int rc = fibril__json_write(&out, q);
    if (rc == 0) {
        rc = fibril_http_sse_send(req, NULL, out.text);
    } else if (rc == -ESRCH) {
        rc = fibril_http_sse_send(req, "gone", "there is no such supervisor");
    }
    fibril__sheet_fini(&out);
    return rc;
}

/* When to look again, after a look that began then and is over. */
static int64_t next_look(int64_t began_ns)
{
    int64_t wait_ns = (fibril_now() - began_ns) * COST_DIVISOR;
    wait_ns = wait_ns < INTERVAL_MIN_NS ? INTERVAL_MIN_NS : wait_ns;
    wait_ns = wait_ns > INTERVAL_MAX_NS ? INTERVAL_MAX_NS : wait_ns;
    return began_ns + wait_ns;
}

static int send_events(struct fibril_http_req *req, const struct fibril__view_query *q,
                       struct fibril__last_look *unused)
{
    (void)unused;
    int rc = fibril_http_sse_start(req);
    while (rc == 0) {
        fibril_observe_cpu(true); /* on each loop that there is by now */
        int64_t began_ns = fibril_now();
        rc = send_one(req, q);
        rc = rc < 0 ? rc : pause_until(req, next_look(began_ns));
    }
    return rc;
}

typedef int watch_fn(struct fibril_http_req *req, const struct fibril__view_query *q,
                     struct fibril__last_look *last);

/* Processor time is counted while somebody watches. */
static int watching(struct fibril_http_req *req, const struct fibril__view_query *q, watch_fn *fn,
                    struct fibril__last_look *last)
{
    if (serving.watchers == WATCHERS_MAX) {
        return say(req, 503, "16 others are watching.\n");
    }
    serving.watchers++;
    int rc = fn(req, q, last);
    if (--serving.watchers == 0) {
        fibril_shield_begin();
        fibril_observe_cpu(false);
        fibril_shield_end();
    }
    return rc;
}

static int events(struct fibril_http_req *req, void *arg)
{
    struct fibril__view_query q;
    char wrong[768];
    int rc;
    if (!admit(req, &rc)) {
        return rc;
    }
    if (read_query(req, &q, wrong, sizeof wrong) < 0) {
        return say(req, 400, wrong);
    }
    return watching(req, &q, send_events, NULL);
}

/* ---- /text ---- */

static int write_table(struct fibril_http_req *req, const struct fibril__view_query *q,
                       struct fibril__last_look *last)
{
    struct fibril__sheet out = {0};
    int rc = fibril__table_write(&out, q, last);
    rc = rc < 0 ? rc : fibril_http_write(req, out.text, out.len);
    rc = rc < 0 ? rc : fibril_http_flush(req);
    fibril__sheet_fini(&out);
    return rc;
}

/* Tables one after the other, with a form feed after each. */
static int write_tables(struct fibril_http_req *req, const struct fibril__view_query *q,
                        struct fibril__last_look *last)
{
    int rc = 0;
    while (rc == 0) {
        fibril_observe_cpu(true);
        int64_t began_ns = fibril_now();
        rc = write_table(req, q, last);
        rc = rc < 0 ? rc : fibril_http_write(req, "\f", 1);
        rc = rc < 0 ? rc : fibril_http_flush(req);
        rc = rc < 0 ? rc : pause_until(req, next_look(began_ns));
    }
    return rc;
}

static int text(struct fibril_http_req *req, void *arg)
{
    struct fibril__view_query q;
    char wrong[768];
    int rc;
    if (!admit(req, &rc)) {
        return rc;
    }
    if (read_query(req, &q, wrong, sizeof wrong) < 0) {
        return say(req, 400, wrong);
    }
    struct fibril__last_look *last = fibril__alloc_zero(FIBRIL__OBSERVE_LOOPS * sizeof *last);
    if (!last) {
        return -ENOMEM;
    }
    fibril_http_header(req, "Content-Type", "text/plain; charset=utf-8");
    if (q.watch) {
        rc = watching(req, &q, write_tables, last);
    } else {
        rc = write_table(req, &q, last);
    }
    fibril__free(last);
    return rc;
}

/* ---- the server ---- */

static int run(void *arg)
{
    int rc = fibril_http_server_run(serving.srv);
    fibril_http_server_free(serving.srv);
    serving.srv = NULL;
    atomic_store(&serving.taken, false);
    fibril_waker_wake(fibril_waker_in(&serving.ended));
    return rc;
}

static int open_server(const char *address, struct fibril_http_server **ret_srv)
{
    struct fibril_http_opts opts = {.daemon = true,
                                    .error_log_fd = -1,
                                    .server_name = "",
                                    .limits = {.connections_max = 64, .handlers_max = 64}};
    struct fibril_http_server *srv;
    char local[32];
    if (*address && strspn(address, "0123456789") == strlen(address) && strlen(address) <= 5) {
        snprintf(local, sizeof local, "127.0.0.1:%s", address);
        address = local;
    }
    int rc = fibril_http_server_new(&opts, &srv);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_http_route(srv, "GET", "/", page, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/json", json, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/text", text, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/metrics", metrics, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/events", events, NULL);
    rc = rc < 0 ? rc : fibril_http_server_listen(srv, address);
    if (rc < 0) {
        fibril_http_server_free(srv);
        return rc;
    }
    *ret_srv = srv;
    return 0;
}

static int start(const char *address, char *ret_address, size_t size)
{
    struct fibril_spawn_opts opts = {.name = "observer", .daemon = true};
    struct fibril_http_server *srv;
    char bound[128];
    int rc = open_server(address, &srv);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_http_server_address(srv, 0, bound, sizeof bound);
    if (rc >= 0 && ret_address && snprintf(ret_address, size, "%s", bound) >= (int)size) {
        rc = -ENOSPC;
    }
    serving.srv = srv;
    serving.loop = fibril_loop_current();
    serving.local = begins(bound, "127.") || begins(bound, "[::1]");
    serving.watchers = 0;
    serving.ended = (struct fibril_waker_room){{0}};
    rc = rc < 0 ? rc : fibril_spawn(run, NULL, &opts, NULL);
    if (rc < 0) {
        fibril_http_server_free(srv);
    }
    return rc;
}

int fibril_observe_serve(const char *address, char *ret_address, size_t size)
{
    if (!fibril_current()) {
        return -EPERM;
    }
    if (atomic_exchange(&serving.taken, true)) {
        return -EBUSY;
    }
    int rc = start(address, ret_address, size);
    if (rc < 0) {
        atomic_store(&serving.taken, false);
    }
    return rc < 0 ? rc : 0;
}

int fibril_observe_stop(void)
{
    if (!atomic_load(&serving.taken)) {
        return 0;
    }
    if (!fibril_current() || serving.loop != fibril_loop_current()) {
        return -EPERM;
    }
    fibril_http_server_stop(serving.srv, fibril_now());
    fibril_shield_begin();
    while (atomic_load(&serving.taken)) {
        fibril_waker_wait(fibril_waker_in(&serving.ended), FIBRIL_FOREVER);
    }
    fibril_shield_end();
    return 0;
}
