/* SPDX-License-Identifier: MIT */
/*
 * The handlers of the demo site. Each is plain code in a fibril of its own: /slow sleeps where it
 * stands, /events loops for as long as the browser looks, /load starts a process and waits for it.
 *
 * Requests in flight are counted here and not taken from the server's gauge, because event streams
 * are handlers too, and a page that watches would count itself.
 */
#include "site.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MS_MAX = 60000, EVENT_BYTES = 8192 };

static const char plain[] = "text/plain; charset=utf-8";

static int respond(struct fibril_http_req *req, int status, const char *text)
{
    return fibril_http_respond(req, status, plain, text, strlen(text));
}

/* ---- /hello, /slow and the page ------------------------------------------ */

static int hello(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;

    pulse_enter(&site->pulse);
    int rc = respond(req, 200, "hello\n");
    pulse_leave(&site->pulse);
    return rc;
}

/* A query parameter that is a number from min to max, in plain digits; else -EINVAL. */
static int number_of(const struct fibril_http_req *req, const char *name, int min, int max)
{
    char text[8];
    ssize_t len = fibril_http_query_get(req, name, text, sizeof(text));
    int number = 0;

    if (len <= 0) {
        return -EINVAL;
    }
    for (ssize_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -EINVAL;
        }
        number = number * 10 + (text[i] - '0');
    }
    return number >= min && number <= max ? number : -EINVAL;
}

static int slow(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    int ms = number_of(req, "ms", 0, MS_MAX);
    char text[32];

    if (ms < 0) {
        return respond(req, 400,
                       "Say how long to wait: ms is a whole number of milliseconds from 0 to "
                       "60000, as in /slow?ms=1000.\n");
    }
    pulse_enter(&site->pulse);
    int rc = fibril_sleep((int64_t)ms * 1000000);
    if (rc == 0) {
        snprintf(text, sizeof(text), "waited %d ms\n", ms);
        rc = respond(req, 200, text);
    }
    pulse_leave(&site->pulse);
    return rc;
}

static int page(struct fibril_http_req *req, void *arg)
{
    const struct site_file *file = arg;

    fibril_http_header(req, "Cache-Control", "no-cache");
    fibril_http_header(req, "X-Content-Type-Options", "nosniff");
    fibril_http_header(req, "Content-Security-Policy",
                       "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
                       "form-action 'none'; frame-ancestors 'none'");
    return fibril_http_respond(req, 200, file->type, file->bytes, file->len);
}

/* ---- /events ------------------------------------------------------------- */

/* The figures of now, and of the last second that is complete. */
static void write_pulse(const struct pulse *pulse, char *text, size_t size)
{
    const struct pulse_point *last =
        &pulse->points[(pulse->second + PULSE_SECONDS - 1) % PULSE_SECONDS];

    snprintf(text, size,
             "{\"in_flight\":%u,\"peak\":%u,\"per_second\":%u,\"answered\":%llu,"
             "\"bytes_each\":%lld,\"bytes_at\":%u,\"threads\":%u,\"second\":%llu,"
             "\"last\":[%u,%.3f,%.3f]}",
             pulse->in_flight, pulse->peak, pulse->per_second, (unsigned long long)pulse->answered,
             (long long)pulse_bytes_each(pulse), pulse->peak_at, pulse->threads,
             (unsigned long long)pulse->second, last->count, last->p50_ms, last->p99_ms);
}

/* What a page that has just opened needs to know: the last minute, oldest second first. */
static int send_past(struct fibril_http_req *req, const struct site *site)
{
    const struct pulse *pulse = &site->pulse;
    char *text = malloc(EVENT_BYTES);
    int len;

    if (!text) {
        return -ENOMEM;
    }
    len = snprintf(text, EVENT_BYTES,
                   "{\"version\":\"%s\",\"poller\":\"%s\",\"load_max\":%u,"
                   "\"second\":%llu,\"points\":[",
                   fibril_version(), fibril_loop_poller(fibril_loop_current()), site->load_max,
                   (unsigned long long)pulse->second);
    for (unsigned i = 0; i < PULSE_SECONDS; i++) {
        const struct pulse_point *at = &pulse->points[(pulse->second + i) % PULSE_SECONDS];
        len += snprintf(text + len, (size_t)(EVENT_BYTES - len), "%s[%u,%.3f,%.3f]", i ? "," : "",
                        at->count, at->p50_ms, at->p99_ms);
    }
    snprintf(text + len, (size_t)(EVENT_BYTES - len), "]}");
    int rc = fibril_http_sse_send(req, "past", text);
    free(text);
    return rc;
}

static int events(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    char text[512];
    int rc = fibril_http_sse_start(req);

    if (rc == 0) {
        rc = send_past(req, site);
    }
    while (rc == 0) {
        write_pulse(&site->pulse, text, sizeof(text));
        rc = fibril_http_sse_send(req, "pulse", text);
        if (rc == 0) {
            rc = fibril_http_gone_wait(req, fibril_after(PULSE_TICKS * PULSE_TICK_MS * 1000000LL));
            if (rc == 0) {
                return 0; /* the browser has gone */
            }
            rc = rc == -ETIMEDOUT ? 0 : rc;
        }
    }
    return rc;
}

/* ---- /metrics.json ------------------------------------------------------- */

struct number {
    const char *name;
    uint64_t value;
};

static int write_numbers(struct fibril_http_req *req, const char *name,
                         const struct number *numbers, size_t count)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "  \"%s\": {", name);
    int rc = fibril_http_write(req, text, (size_t)len);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        len = snprintf(text, sizeof(text), "%s\n    \"%s\": %llu", i ? "," : "", numbers[i].name,
                       (unsigned long long)numbers[i].value);
        rc = fibril_http_write(req, text, (size_t)len);
    }
    return rc < 0 ? rc : fibril_http_write(req, "\n  }", 4);
}

static int write_array(struct fibril_http_req *req, const char *name, const uint64_t *values,
                       size_t count)
{
    char text[96];
    int len = snprintf(text, sizeof(text), ",\n  \"%s\": [", name);
    int rc = fibril_http_write(req, text, (size_t)len);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        len = snprintf(text, sizeof(text), "%s%llu", i ? ", " : "", (unsigned long long)values[i]);
        rc = fibril_http_write(req, text, (size_t)len);
    }
    return rc < 0 ? rc : fibril_http_write(req, "]", 1);
}

#define NUMBER(from, field)                                                                        \
    {                                                                                              \
#field, (from)->field                                                                      \
    }

static int write_server(struct fibril_http_req *req, const struct fibril_http_stats *s)
{
    const struct number numbers[] = {
        NUMBER(s, accepted),
        NUMBER(s, connections),
        NUMBER(s, idle),
        NUMBER(s, requests),
        NUMBER(s, in_flight),
        NUMBER(s, in_flight_max),
        {"status_1xx", s->status[1]},
        {"status_2xx", s->status[2]},
        {"status_3xx", s->status[3]},
        {"status_4xx", s->status[4]},
        {"status_5xx", s->status[5]},
        NUMBER(s, bytes_in),
        NUMBER(s, bytes_out),
        NUMBER(s, sends),
        NUMBER(s, receives),
        NUMBER(s, refused_head),
        NUMBER(s, refused_connections),
        NUMBER(s, refused_handlers),
        NUMBER(s, timeouts),
        NUMBER(s, accept_pauses),
        NUMBER(s, aborted),
        NUMBER(s, log_lost),
        NUMBER(s, buffer_bytes),
    };
    int rc = write_numbers(req, "server", numbers, sizeof(numbers) / sizeof(numbers[0]));

    return rc < 0 ? rc
                  : write_array(req, "latency_below_2_to_the_i_us", s->latency,
                                FIBRIL_HTTP_LATENCY_BUCKETS);
}

static int write_loop(struct fibril_http_req *req, const struct fibril_metrics *m)
{
    const struct number numbers[] = {
        NUMBER(m, switches),
        NUMBER(m, spawned),
        NUMBER(m, ended),
        NUMBER(m, fibrils),
        NUMBER(m, parks),
        NUMBER(m, parks_sleep),
        NUMBER(m, parks_io),
        NUMBER(m, parks_lock),
        NUMBER(m, parks_chan),
        NUMBER(m, parks_join),
        NUMBER(m, parks_offload),
        NUMBER(m, parks_other),
        NUMBER(m, yields),
        NUMBER(m, budget_yields),
        NUMBER(m, timeouts),
        NUMBER(m, cancels),
        NUMBER(m, remote_wakes),
        NUMBER(m, polls),
        NUMBER(m, poll_events),
        NUMBER(m, timers),
        NUMBER(m, stacks_mapped),
        NUMBER(m, stacks_cached),
        NUMBER(m, stacks_unguarded),
        NUMBER(m, copied_bytes),
        NUMBER(m, stalls),
    };
    int rc = write_numbers(req, "loop", numbers, sizeof(numbers) / sizeof(numbers[0]));

    return rc < 0 ? rc
                  : write_array(req, "run_queue_delay_below_64_times_2_to_the_i_ns", m->delay,
                                FIBRIL_DELAY_BUCKETS);
}

static int write_head(struct fibril_http_req *req, const struct site *site, const char *poller)
{
    char text[256];
    struct process_use use = process_look();
    int len =
        snprintf(text, sizeof(text),
                 "{\n  \"version\": \"%s\",\n  \"poller\": \"%s\",\n  \"memory_bytes\": %lld,\n"
                 "  \"os_threads\": %u,\n  \"memory_bytes_per_request_at_peak\": %lld,\n",
                 fibril_version(), poller, (long long)use.bytes, use.threads,
                 (long long)pulse_bytes_each(&site->pulse));

    return fibril_http_write(req, text, (size_t)len);
}

static int metrics(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    struct fibril_http_stats stats;
    struct fibril_metrics loop;

    fibril_http_server_stats(site->srv, &stats);
    fibril_metrics(NULL, &loop);
    fibril_http_header(req, "Content-Type", "application/json");
    fibril_http_header(req, "Cache-Control", "no-store");
    int rc = write_head(req, site, loop.poller);
    if (rc == 0) {
        rc = write_server(req, &stats);
    }
    if (rc == 0) {
        rc = fibril_http_write(req, ",\n", 2);
    }
    if (rc == 0) {
        rc = write_loop(req, &loop);
    }
    return rc < 0 ? rc : fibril_http_write(req, "\n}\n", 3);
}

/* ---- /load --------------------------------------------------------------- */

/* Another site's page may not set off a load here: a browser says where a POST comes from. */
static bool from_here(const struct fibril_http_req *req)
{
    const char *origin = fibril_http_header_get(req, "Origin");

    return !origin ||
           (strncmp(origin, "http://", 7) == 0 && strcmp(origin + 7, fibril_http_host(req)) == 0);
}

static int load(struct fibril_http_req *req, void *arg)
{
    struct site *site = arg;
    int count = number_of(req, "requests", 1, (int)site->load_max);
    char text[256];

    if (count < 0) {
        snprintf(text, sizeof(text), "requests is a whole number from 1 to %u.\n", site->load_max);
        return respond(req, 400, text);
    }
    if (!from_here(req)) {
        return respond(req, 403, "Only the demo's own page may do that.\n");
    }
    if (site->loading) {
        return respond(req, 409, "A load is running already.\n");
    }
    site->loading = true;
    int rc = site->load(site, (unsigned)count, text, sizeof(text));
    site->loading = false;
    return rc < 0 ? rc : fibril_http_respond(req, 200, "application/json", text, strlen(text));
}

/* ---- the server ---------------------------------------------------------- */

/* Only what is answered at once or sleeps to order says something about latency. */
static void on_access(void *arg, const struct fibril_http_access *access)
{
    struct site *site = arg;

    if (strncmp(access->target, "/slow", 5) == 0 || strncmp(access->target, "/hello", 6) == 0) {
        pulse_answer(&site->pulse, access->duration_ns);
    }
}

static int tick(void *arg)
{
    struct site *site = arg;
    int64_t next = fibril_now();

    do {
        pulse_tick(&site->pulse);
        next += PULSE_TICK_MS * 1000000LL;
        next = next < fibril_now() ? fibril_now() : next;
    } while (fibril_sleep_until(next) == 0);
    return 0;
}

static int add_routes(struct site *site)
{
    const struct {
        const char *method, *pattern;
        fibril_http_handler *handler;
    } routes[] = {
        {"GET", "/hello", hello},          {"GET", "/slow", slow},  {"GET", "/events", events},
        {"GET", "/metrics.json", metrics}, {"POST", "/load", load},
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(routes) / sizeof(routes[0]); i++) {
        rc = fibril_http_route(site->srv, routes[i].method, routes[i].pattern, routes[i].handler,
                               site);
    }
    for (const struct site_file *file = site_files; rc == 0 && file->path; file++) {
        rc = fibril_http_route(site->srv, "GET", file->path, page, (void *)(uintptr_t)file);
    }
    return rc;
}

int site_open(struct site *site, unsigned connections)
{
    struct fibril_http_opts opts = {
        .limits = {.connections_max = connections + 1000,
                   .handlers_max = connections + 1000,
                   .first_byte_ns = 60000000000},
        .stack = FIBRIL_STACK_COPIED,
        .on_access = on_access,
        .log_arg = site,
    };

    pulse_init(&site->pulse);
    int rc = fibril_http_server_new(&opts, &site->srv);
    return rc < 0 ? rc : add_routes(site);
}

int site_start(struct site *site)
{
    return fibril_spawn(tick, site, &(struct fibril_spawn_opts){.name = "figures"}, &site->ticker);
}

void site_close(struct site *site)
{
    if (site->ticker) {
        fibril_cancel(site->ticker);
        fibril_join(site->ticker, FIBRIL_FOREVER, NULL);
        site->ticker = NULL;
    }
    fibril_http_server_free(site->srv);
    site->srv = NULL;
}
