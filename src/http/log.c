/* SPDX-License-Identifier: MIT */
/*
 * See log.h. Lines are put together by hand, for printf would cost more than the rest of a small
 * request. Times are UTC: local time would need the C library's time zone machinery once a second
 * and a reader who knows where the machine stands.
 */
#include "http/log.h"

#include "base/alloc.h"
#include "http/lane.h"
#include "http/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16384, ERROR_MAX_BYTES = 1024, FLUSH_NS = 1000000000 };

/* ---- lines ----------------------------------------------------------------------------------- */

/* A line in the making: once it does not fit, everything else is ignored. */
struct line {
    char *at, *end;
    bool full;
};

static void put_bytes(struct line *l, const char *bytes, size_t len)
{
    if (l->full || (size_t)(l->end - l->at) < len) {
        l->full = true;
        return;
    }
    memcpy(l->at, bytes, len);
    l->at += len;
}

static void put(struct line *l, const char *text)
{
    put_bytes(l, text, strlen(text));
}

static void put_number(struct line *l, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    put_bytes(l, digits + at, sizeof(digits) - at);
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The text of a peer: quotes, backslashes, controls and eight-bit bytes become escapes, \xHH or,
 * for JSON, \u00HH. */
static void put_escaped(struct line *l, const char *text, const char *escape)
{
    static const char hex[] = "0123456789abcdef";
    for (const char *at = text; *at;) {
        size_t plain = 0;
        while (is_plain((unsigned char)at[plain])) {
            plain++;
        }
        put_bytes(l, at, plain);
        at += plain;
        if (*at) {
            unsigned char c = (unsigned char)*at++;
            char digits[2] = {hex[c >> 4], hex[c & 15]};
            put(l, escape);
            put_bytes(l, digits, 2);
        }
    }
}

static void put_quoted(struct line *l, const char *text)
{
    put(l, "\"");
    put_escaped(l, *text ? text : "-", "\\x");
    put(l, "\"");
}

/* PEER - - [TIME] "METHOD TARGET HTTP/1.1" STATUS BYTES "REFERER" "AGENT" MICROSECONDS */
static void put_combined(struct line *l, const struct fibril_http_access *a, const char *time_text)
{
    put(l, a->peer);
    put(l, " - - [");
    put(l, time_text);
    put(l, " +0000] \"");
    put_escaped(l, *a->method ? a->method : "-", "\\x");
    if (*a->method) {
        put(l, " ");
        put_escaped(l, a->target, "\\x");
        put(l, a->version_minor ? " HTTP/1.1" : " HTTP/1.0");
    }
    put(l, "\" ");
    put_number(l, (uint64_t)a->status);
    put(l, " ");
    put_number(l, a->body_bytes);
    put(l, " ");
    put_quoted(l, a->referer);
    put(l, " ");
    put_quoted(l, a->user_agent);
    put(l, " ");
    put_number(l, (uint64_t)a->duration_ns / 1000);
    put(l, "\n");
}

static void put_member(struct line *l, const char *name, const char *text)
{
    put(l, name);
    put_escaped(l, text, "\\u00");
    put(l, "\"");
}

static void put_json(struct line *l, const struct fibril_http_access *a)
{
    put(l, "{\"time\":");
    put_number(l, (uint64_t)a->time_s);
    put_member(l, ",\"peer\":\"", a->peer);
    put_member(l, ",\"method\":\"", a->method);
    put_member(l, ",\"target\":\"", a->target);
    put(l, a->version_minor ? ",\"version\":\"1.1\"" : ",\"version\":\"1.0\"");
    put(l, ",\"status\":");
    put_number(l, (uint64_t)a->status);
    put(l, ",\"bytes\":");
    put_number(l, a->body_bytes);
    put(l, ",\"us\":");
    put_number(l, (uint64_t)a->duration_ns / 1000);
    put_member(l, ",\"referer\":\"", a->referer);
    put_member(l, ",\"user_agent\":\"", a->user_agent);
    put(l, "}\n");
}

size_t fibril__http_log_format(enum fibril_http_log format, const struct fibril_http_access *access,
                               const char *time_text, char *out, size_t size)
{
    struct line l = {.at = out, .end = out + size};
    if (format == FIBRIL_HTTP_LOG_JSON) {
        put_json(&l, access);
    } else {
        put_combined(&l, access, time_text);
    }
    return l.full ? 0 : (size_t)(l.at - out);
}

/* ---- access ---------------------------------------------------------------------------------- */

static size_t append(struct fibril__http_lane *lane, const struct fibril_http_access *access)
{
    struct fibril__http_log_buffer *log = &lane->log;
    return fibril__http_log_format(lane->srv->access_log, access, lane->log_time,
                                   log->filling + log->len, FIBRIL__HTTP_LOG_BYTES - log->len);
}

void fibril__http_log_access(struct fibril__http_lane *lane,
                             const struct fibril_http_access *access)
{
    struct fibril_http_server *srv = lane->srv;
    if (srv->on_access) {
        srv->on_access(srv->log_arg, access);
    }
    struct fibril__http_log_buffer *log = &lane->log;
    if (srv->access_log == FIBRIL_HTTP_LOG_NONE || !log->filling) {
        return;
    }
    size_t len = append(lane, access);
    if (len == 0) {
        FIBRIL__COUNT(lane, log_lost, 1);
    }
    log->len += len;
    if (len == 0 || log->len > FIBRIL__HTTP_LOG_BYTES - LINE_MAX_BYTES) {
        fibril_event_set(log->event);
    }
}

static int write_out(struct fibril__http_lane *lane)
{
    struct fibril__http_log_buffer *log = &lane->log;
    if (log->len == 0) {
        return 0;
    }
    char *full = log->filling;
    size_t len = log->len;
    log->filling = log->writing;
    log->writing = full;
    log->len = 0;
    ssize_t rc = fibril_write_all(lane->srv->access_log_fd, full, len, FIBRIL_FOREVER);
    return rc < 0 ? (int)rc : 0;
}

/* Ends when it is cancelled, with everything written. */
static int writer_main(void *arg)
{
    struct fibril__http_lane *lane = arg;
    while (!fibril_cancelled()) {
        fibril_event_reset(lane->log.event);
        fibril_event_wait(lane->log.event, fibril_after(FLUSH_NS));
        fibril_shield_begin(); /* half a line must not stay behind */
        if (write_out(lane) < 0) {
            FIBRIL__COUNT(lane, log_lost, 1);
        }
        fibril_shield_end();
    }
    return 0;
}

int fibril__http_log_start(struct fibril__http_lane *lane)
{
    struct fibril__http_log_buffer *log = &lane->log;
    if (lane->srv->access_log == FIBRIL_HTTP_LOG_NONE) {
        return 0;
    }
    log->filling = fibril__alloc(FIBRIL__HTTP_LOG_BYTES);
    log->writing = fibril__alloc(FIBRIL__HTTP_LOG_BYTES);
    int rc = log->filling && log->writing ? fibril_event_new(0, &log->event) : -ENOMEM;
    if (rc == 0) {
        struct fibril_spawn_opts opts = {.name = "http access log", .daemon = lane->srv->daemon};
        rc = fibril_spawn(writer_main, lane, &opts, &log->writer);
    }
    return rc;
}

void fibril__http_log_stop(struct fibril__http_lane *lane)
{
    struct fibril__http_log_buffer *log = &lane->log;
    if (log->writer) {
        fibril_cancel(log->writer);
        fibril_join(log->writer, FIBRIL_FOREVER, NULL);
    }
    fibril_event_free(log->event);
    fibril__free(log->filling);
    fibril__free(log->writing);
    *log = (struct fibril__http_log_buffer){.len = 0};
}

/* ---- errors ---------------------------------------------------------------------------------- */

void fibril__http_log_error(struct fibril_http_server *srv, const char *format, ...)
{
    char text[ERROR_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (srv->on_error) {
        srv->on_error(srv->log_arg, text);
    }
    if (srv->error_log_fd < 0) {
        return;
    }
    char line[ERROR_MAX_BYTES + 64];
    int len = snprintf(line, sizeof(line), "fibril http: %s\n", text);
    if (len > 0) {
        /* Straight to the kernel: short, rare, and possible where a fibril may not park. */
        ssize_t ignored = write(srv->error_log_fd, line, (size_t)len);
        (void)ignored;
    }
}
