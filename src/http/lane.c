/* SPDX-License-Identifier: MIT */
/*
 * See lane.h. The life of a lane:
 *
 *     begin -> serve until the server is stopped -> no more accepting -> idle connections end
 *           -> wait for the busy ones -> at the deadline cancel them, wait -> end
 *
 * A connection that waits idly and has a request on the way when the drain begins is served all the
 * same: every one is given a last look before it is closed. A server that is retired waits for that
 * request.
 */
#include "http/lane.h"

#include "base/alloc.h"
#include "http/conn.h"
#include "http/file_cache.h"
#include "http/out.h"
#include "http/serve.h"
#include "http/server.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define LAST_LOOK_NS 100000000

/* ---- the clock ------------------------------------------------------------------------------- */

/* "Sun, 06 Nov 1994 08:49:37 GMT" as "06/Nov/1994:08:49:37". */
static void set_log_time(char *out, const char *date)
{
    memcpy(out, date + 5, 2);
    out[2] = '/';
    memcpy(out + 3, date + 8, 3);
    out[6] = '/';
    memcpy(out + 7, date + 12, 4);
    out[11] = ':';
    memcpy(out + 12, date + 17, 8);
    out[FIBRIL__HTTP_LOG_TIME] = '\0';
}

void fibril__http_lane_stamp(struct fibril__http_lane *lane)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec == lane->second) {
        return;
    }
    char date[FIBRIL__HTTP_DATE_BYTES];
    if (fibril__http_date_format(now.tv_sec, date) < 0) {
        return; /* a clock beyond the year 9999 has no date */
    }
    lane->second = now.tv_sec;
    memcpy(lane->stamp, "Date: ", 6);
    memcpy(lane->stamp + 6, date, sizeof(date));
    memcpy(lane->stamp + 6 + sizeof(date), "\r\n", 2);
    lane->stamp_len = 6 + sizeof(date) + 2;
    set_log_time(lane->log_time, date);
}

/* ---- making ---------------------------------------------------------------------------------- */

int fibril__http_lane_new(struct fibril_http_server *srv, unsigned index,
                          struct fibril__http_lane **ret_lane)
{
    struct fibril__http_lane *lane = fibril__alloc_zero(sizeof(*lane));
    if (!lane) {
        return -ENOMEM;
    }
    lane->srv = srv;
    lane->index = index;
    lane->reserve_fd = -1;
    lane->second = -1;
    fibril__list_init(&lane->idle);
    fibril__list_init(&lane->busy);
    fibril__list_init(&lane->ready);
    fibril__list_init(&lane->doomed);
    fibril__list_init(&lane->leaving);
    fibril__list_init(&lane->held);
    int rc = fibril_waker_new(&lane->waker);
    rc = rc < 0 ? rc : fibril_event_new(0, &lane->room);
    rc = rc < 0 ? rc : fibril_event_new(0, &lane->held_event);
    if (rc < 0) {
        fibril__http_lane_free(lane);
        return rc;
    }
    *ret_lane = lane;
    return 0;
}

void fibril__http_lane_free(struct fibril__http_lane *lane)
{
    if (!lane) {
        return;
    }
    fibril_waker_free(lane->waker);
    fibril_event_free(lane->room);
    fibril_event_free(lane->held_event);
    fibril__free(lane);
}

/* ---- begin and end --------------------------------------------------------------------------- */

static int spawn(fibril_fn *fn, struct fibril__http_lane *lane, void *arg, const char *name,
                 struct fibril **ret_fibril)
{
    struct fibril_spawn_opts opts = {.name = name, .daemon = lane->srv->daemon};
    return fibril_spawn(fn, arg, &opts, ret_fibril);
}

static int begin(struct fibril__http_lane *lane)
{
    struct fibril_http_server *srv = lane->srv;
    lane->connections_max = fibril__http_share(srv, srv->limits.connections_max);
    lane->handlers_max = fibril__http_share(srv, srv->limits.handlers_max);
    fibril__http_reserve_open(lane);
    int rc = fibril__http_file_cache_new(&lane->files);
    rc = rc < 0 ? rc : fibril__http_log_start(lane);
    rc = rc < 0 ? rc : spawn(fibril__http_out_flusher, lane, lane, "http flusher", &lane->flusher);
    for (unsigned i = 0; rc == 0 && i < srv->listener_count; i++) {
        struct fibril__http_acceptor *a = &lane->acceptors[i];
        *a = (struct fibril__http_acceptor){.lane = lane, .fd = srv->listeners[i].fds[lane->index]};
        rc = spawn(fibril__http_accept_run, lane, a, "http acceptor", &a->fibril);
    }
    return rc;
}

static void end_fibril(struct fibril **f)
{
    if (*f) {
        fibril_cancel(*f);
        fibril_join(*f, FIBRIL_FOREVER, NULL);
        *f = NULL;
    }
}

static void end(struct fibril__http_lane *lane)
{
    end_fibril(&lane->flusher);
    fibril__http_log_stop(lane);
    fibril__http_file_cache_free(lane->files);
    lane->files = NULL;
    fibril__http_scratch_fini(lane);
    fibril__http_pool_fini(&lane->pool);
    fibril__http_reserve_close(lane);
}

/* ---- serving --------------------------------------------------------------------------------- */

/* Closes those who could not do so themselves. */
static void bury(struct fibril__http_lane *lane)
{
    struct fibril__link *link;
    while ((link = fibril__list_first(&lane->doomed)) != NULL) {
        fibril__http_conn_close(CONTAINER_OF(link, struct fibril__http_conn, link));
    }
}

static void wake_idle(struct fibril__http_lane *lane)
{
    struct fibril__link *link = lane->idle.head.next;
    while (link != &lane->idle.head) {
        struct fibril__http_conn *conn = CONTAINER_OF(link, struct fibril__http_conn, link);
        link = link->next;
        if (fibril__http_conn_wake(conn)) {
            fibril__http_conn_spawn(conn);
        }
    }
}

static void cancel_busy(struct fibril__http_lane *lane)
{
    struct fibril__link *link = lane->busy.head.next;
    for (; link != &lane->busy.head; link = link->next) {
        struct fibril__http_conn *conn = CONTAINER_OF(link, struct fibril__http_conn, link);
        atomic_store(&lane->srv->late, true);
        if (conn->fibril) {
            fibril_cancel(conn->fibril);
        }
    }
}

/* The end of patience: idle connections get their last look. */
static void hurry(struct fibril__http_lane *lane)
{
    lane->patient = false;
    wake_idle(lane);
}

/* The deadline of the drain has come. Those who were waited for in patience are told first. */
static int64_t overtime(struct fibril__http_lane *lane)
{
    if (lane->patient) {
        hurry(lane);
        return fibril_after(LAST_LOOK_NS);
    }
    lane->killing = true;
    cancel_busy(lane);
    return FIBRIL_FOREVER;
}

static void drain(struct fibril__http_lane *lane)
{
    struct fibril_http_server *srv = lane->srv;
    int64_t own = 0; /* deadline that replaces the server's, 0: none */
    lane->draining = true;
    lane->patient = atomic_load(&srv->patient);
    for (unsigned i = 0; i < srv->listener_count; i++) {
        end_fibril(&lane->acceptors[i].fibril);
    }
    fibril__http_listeners_close(srv, lane->index);
    if (!lane->patient) {
        wake_idle(lane);
    }
    for (;;) {
        bury(lane);
        if (lane->stats.connections == 0) {
            return;
        }
        int64_t deadline = own ? own : atomic_load(&srv->drain_deadline_ns);
        if (fibril_waker_wait(lane->waker, deadline) == -ETIMEDOUT) {
            own = overtime(lane);
        } else if (lane->patient && !atomic_load(&srv->patient)) {
            hurry(lane);
        }
    }
}

int fibril__http_lane_run(void *arg)
{
    struct fibril__http_lane *lane = arg;
    fibril_shield_begin(); /* it is stopped through the server, never cancelled */
    int rc = begin(lane);
    if (rc < 0) {
        fibril_http_server_stop(lane->srv, 0);
    }
    while (!atomic_load_explicit(&lane->srv->stopping, memory_order_acquire)) {
        fibril_waker_wait(lane->waker, FIBRIL_FOREVER);
        bury(lane);
    }
    drain(lane);
    end(lane);
    fibril_shield_end();
    return rc;
}
