/* SPDX-License-Identifier: MIT */
/*
 * The server as a whole: options, listeners, and running one lane per loop. A wish to stop travels
 * through two atomics and the wakers of the lanes, so it may come from any thread.
 */
#include "http/server.h"

#include "base/alloc.h"
#include "http/lane.h"
#include "http/static.h"
#include "http/token.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- making ---------------------------------------------------------------------------------- */

static int set_server_field(struct fibril_http_server *srv, const char *name)
{
    name = name ? name : "fibril";
    for (const char *at = name; *at; at++) {
        if (!fibril__char_is(*at, FIBRIL__VISIBLE) && *at != ' ') {
            return -EINVAL;
        }
    }
    size_t size = strlen(name) + sizeof("Server: \r\n");
    if (size > 256) {
        return -EINVAL;
    }
    srv->server_field = fibril__alloc_zero(size);
    if (!srv->server_field) {
        return -ENOMEM;
    }
    if (*name) {
        snprintf(srv->server_field, size, "Server: %s\r\n", name);
    }
    srv->server_field_len = strlen(srv->server_field);
    return 0;
}

static int set_options(struct fibril_http_server *srv, const struct fibril_http_opts *opts)
{
    srv->limits = opts->limits;
    fibril__http_limits_complete(&srv->limits);
    fibril__http_limits_translate(&srv->limits, &srv->parser_limits);
    srv->stack = opts->stack;
    srv->stack_bytes = opts->stack_bytes;
    srv->daemon = opts->daemon;
    srv->usual = opts->stack == FIBRIL_STACK_OWN && opts->stack_bytes == 0 && !opts->daemon;
    srv->backlog = opts->backlog ? opts->backlog : 4096;
    srv->access_log = opts->access_log;
    srv->access_log_fd = opts->access_log_fd ? opts->access_log_fd : STDOUT_FILENO;
    srv->error_log_fd = opts->error_log_fd ? opts->error_log_fd : STDERR_FILENO;
    srv->on_access = opts->on_access;
    srv->on_error = opts->on_error;
    srv->log_arg = opts->log_arg;
    srv->own_loop = opts->loops == 0;
    srv->lane_count = opts->loops ? opts->loops : 1;
    bool contradicts = (opts->stack == FIBRIL_STACK_COPIED && opts->stack_bytes) ||
                       opts->loops > 1024 || srv->limits.fields_max > UINT16_MAX ||
                       srv->limits.head_bytes > 1 << 24 || srv->limits.field_bytes > UINT16_MAX;
    return contradicts ? -EINVAL : set_server_field(srv, opts->server_name);
}

static int make_lanes(struct fibril_http_server *srv)
{
    srv->lanes = fibril__alloc_zero(srv->lane_count * sizeof(*srv->lanes));
    int rc = srv->lanes ? 0 : -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < srv->lane_count; i++) {
        rc = fibril__http_lane_new(srv, i, &srv->lanes[i]);
    }
    return rc;
}

int fibril_http_server_new(const struct fibril_http_opts *opts,
                           struct fibril_http_server **ret_server)
{
    static const struct fibril_http_opts none;
    struct fibril_http_server *srv = fibril__alloc_zero(sizeof(*srv));
    if (!srv) {
        return -ENOMEM;
    }
    fibril__http_addresses_init(&srv->addresses);
    int rc = set_options(srv, opts ? opts : &none);
    rc = rc < 0 ? rc : make_lanes(srv);
    if (rc < 0) {
        fibril_http_server_free(srv);
        return rc;
    }
    *ret_server = srv;
    return 0;
}

void fibril_http_server_free(struct fibril_http_server *srv)
{
    if (!srv) {
        return;
    }
    for (unsigned i = 0; srv->lanes && i < srv->lane_count; i++) {
        fibril__http_listeners_close(srv, i);
        fibril__http_lane_free(srv->lanes[i]);
    }
    for (unsigned i = 0; i < srv->listener_count; i++) {
        fibril__free(srv->listeners[i].fds);
    }
    fibril__http_router_fini(&srv->router);
    fibril__http_statics_free(srv->statics);
    fibril__http_addresses_fini(&srv->addresses);
    fibril__free(srv->server_field);
    fibril__free(srv->lanes);
    fibril__free(srv);
}

/* ---- listeners ------------------------------------------------------------------------------- */

/* Takes fd over on success. */
static int add_listener(struct fibril_http_server *srv, int fd, bool shared)
{
    struct fibril__http_listener *l = &srv->listeners[srv->listener_count];
    *l = (struct fibril__http_listener){.shared = shared};
    int rc = fibril_addr_local(fd, &l->addr);
    if (rc < 0) {
        return rc;
    }
    l->fds = fibril__alloc(srv->lane_count * sizeof(*l->fds));
    if (!l->fds) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < srv->lane_count; i++) {
        l->fds[i] = i == 0 || shared ? fd : -1;
    }
    return (int)srv->listener_count++;
}

static bool may_listen(const struct fibril_http_server *srv, int *ret_error)
{
    *ret_error = atomic_load(&srv->running)                      ? -EBUSY
                 : srv->listener_count == FIBRIL__HTTP_LISTENERS ? -ENOSPC
                                                                 : 0;
    return *ret_error == 0;
}

static unsigned listen_flags(const struct fibril_http_server *srv, const struct fibril_addr *addr)
{
    return srv->lane_count > 1 && addr->ss.ss_family != AF_UNIX ? FIBRIL_LISTEN_REUSEPORT : 0;
}

int fibril_http_server_listen(struct fibril_http_server *srv, const char *address)
{
    struct fibril_addr addr;
    int rc;
    if (!may_listen(srv, &rc)) {
        return rc;
    }
    rc = fibril_addr_parse(address, &addr);
    if (rc < 0) {
        return rc;
    }
    int fd = fibril_listen(&addr, srv->backlog, listen_flags(srv, &addr));
    if (fd < 0) {
        return fd;
    }
    rc = add_listener(srv, fd, addr.ss.ss_family == AF_UNIX);
    if (rc < 0) {
        fibril_close(fd);
    }
    return rc;
}

int fibril_http_server_listen_fd(struct fibril_http_server *srv, int fd)
{
    int rc;
    if (!may_listen(srv, &rc)) {
        return rc;
    }
    rc = add_listener(srv, fd, true);
    if (rc >= 0) {
        srv->listeners[rc].given = true;
    }
    return rc;
}

int fibril_http_server_address(const struct fibril_http_server *srv, unsigned i, char *ret_text,
                               size_t size)
{
    return i < srv->listener_count ? fibril_addr_format(&srv->listeners[i].addr, ret_text, size)
                                   : -ENOENT;
}

int fibril__http_listeners_open(struct fibril_http_server *srv)
{
    for (unsigned l = 0; l < srv->listener_count; l++) {
        struct fibril__http_listener *listener = &srv->listeners[l];
        for (unsigned i = 1; i < srv->lane_count; i++) {
            if (listener->fds[i] >= 0) {
                continue;
            }
            int fd = fibril_listen(&listener->addr, srv->backlog, FIBRIL_LISTEN_REUSEPORT);
            if (fd < 0) {
                return fd;
            }
            listener->fds[i] = fd;
        }
    }
    return 0;
}

/* A socket file is of no use without its socket. */
static void unlink_socket(const struct fibril_addr *addr)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->ss;
    if (addr->ss.ss_family == AF_UNIX && un->sun_path[0] != '\0') {
        unlink(un->sun_path);
    }
}

void fibril__http_listeners_close(struct fibril_http_server *srv, unsigned i)
{
    for (unsigned l = 0; l < srv->listener_count; l++) {
        struct fibril__http_listener *listener = &srv->listeners[l];
        int fd = listener->fds[i];
        listener->fds[i] = -1;
        if (fd >= 0 && (i == 0 || !listener->shared)) {
            if (i == 0 && !listener->given) {
                unlink_socket(&listener->addr);
            }
            if (fibril_close(fd) == -EPERM) {
                close(fd); /* outside loops: nobody waits on it */
            }
        }
    }
}

/* ---- routes ---------------------------------------------------------------------------------- */

int fibril_http_route(struct fibril_http_server *srv, const char *method, const char *pattern,
                      fibril_http_handler *handler, void *arg)
{
    return atomic_load(&srv->running)
               ? -EBUSY
               : fibril__http_router_add(&srv->router, method, pattern, handler, arg);
}

/* ---- running --------------------------------------------------------------------------------- */

static void stop(struct fibril_http_server *srv, int64_t drain_deadline_ns)
{
    int64_t known = atomic_load(&srv->drain_deadline_ns);
    while (!atomic_load(&srv->stopping) || drain_deadline_ns < known) {
        if (atomic_compare_exchange_weak(&srv->drain_deadline_ns, &known, drain_deadline_ns)) {
            break;
        }
    }
    atomic_store_explicit(&srv->stopping, true, memory_order_release);
    for (unsigned i = 0; i < srv->lane_count; i++) {
        fibril_waker_wake(srv->lanes[i]->waker);
    }
}

void fibril_http_server_stop(struct fibril_http_server *srv, int64_t drain_deadline_ns)
{
    atomic_store(&srv->patient, false);
    stop(srv, drain_deadline_ns);
}

void fibril_http_server_retire(struct fibril_http_server *srv, int64_t drain_deadline_ns)
{
    if (!atomic_load(&srv->stopping)) {
        atomic_store(&srv->patient, true);
    }
    stop(srv, drain_deadline_ns);
}

static int spawn_lane(struct fibril_http_server *srv, unsigned i, struct fibril **ret_fibril)
{
    struct fibril_loop *loop = srv->own_loop ? fibril_loop_current() : fibril_loop_at(i);
    if (!loop) {
        return -EBUSY;
    }
    struct fibril_spawn_opts opts = {.name = "http lane", .loop = loop, .daemon = srv->daemon};
    return fibril_spawn(fibril__http_lane_run, srv->lanes[i], &opts, ret_fibril);
}

/* Waits for the lanes; a cancellation of the caller becomes a stop without a drain. */
static int join_lanes(struct fibril_http_server *srv, struct fibril **lanes, unsigned n)
{
    int first = 0;
    for (unsigned i = 0; i < n; i++) {
        int result = 0;
        int rc = fibril_join(lanes[i], FIBRIL_FOREVER, &result);
        if (rc == -ECANCELED) {
            first = first ? first : rc;
            fibril_http_server_stop(srv, 0);
            fibril_shield_begin();
            fibril_join(lanes[i], FIBRIL_FOREVER, &result);
            fibril_shield_end();
        }
        first = first ? first : result;
    }
    return first;
}

static int run_lanes(struct fibril_http_server *srv)
{
    struct fibril **lanes = fibril__alloc(srv->lane_count * sizeof(*lanes));
    if (!lanes) {
        return -ENOMEM;
    }
    int rc = fibril__http_listeners_open(srv);
    unsigned n = 0;
    while (rc == 0 && n < srv->lane_count) {
        rc = spawn_lane(srv, n, &lanes[n]);
        n += rc == 0;
    }
    if (rc < 0) {
        fibril_http_server_stop(srv, 0);
    }
    int joined = join_lanes(srv, lanes, n);
    for (unsigned i = n; i < srv->lane_count; i++) {
        fibril__http_listeners_close(srv, i);
    }
    fibril__free(lanes);
    return rc < 0 ? rc : joined;
}

int fibril_http_server_run(struct fibril_http_server *srv)
{
    if (!fibril_loop_current()) {
        return -EPERM;
    }
    if (srv->listener_count == 0) {
        return -EINVAL;
    }
    if (atomic_exchange(&srv->running, true)) {
        return -EBUSY;
    }
    int rc = run_lanes(srv);
    atomic_store(&srv->running, false);
    return rc == 0 && atomic_load(&srv->late) ? -ETIMEDOUT : rc;
}

/* ---- figures --------------------------------------------------------------------------------- */

void fibril_http_server_stats(const struct fibril_http_server *srv,
                              struct fibril_http_stats *ret_stats)
{
    memset(ret_stats, 0, sizeof(*ret_stats));
    uint64_t *sum = (uint64_t *)(void *)ret_stats;
    for (unsigned i = 0; i < srv->lane_count; i++) {
        const struct fibril__http_lane *lane = srv->lanes[i];
        const uint64_t *figures = (const uint64_t *)(const void *)&lane->stats;
        for (size_t k = 0; k < sizeof(*ret_stats) / sizeof(uint64_t); k++) {
            sum[k] += __atomic_load_n(&figures[k], __ATOMIC_RELAXED);
        }
        ret_stats->buffer_bytes += __atomic_load_n(&lane->pool.held, __ATOMIC_RELAXED);
    }
}
