/* SPDX-License-Identifier: MIT */
/*
 * The logs. Access lines gather in a buffer of the lane and are written by a fibril of their own,
 * at least once a second: a request never waits for the log. When the log takes nothing and both
 * buffers are full, lines are dropped and counted. Errors are rare and written at once.
 *
 * What peers sent is escaped: no line of theirs can pose as one of ours.
 */
#ifndef FIBRIL_HTTP_LOG_H
#define FIBRIL_HTTP_LOG_H

#include <fibril/http.h>

struct fibril__http_lane;
struct fibril_http_req;

enum { FIBRIL__HTTP_LOG_BYTES = 65536 };

struct fibril__http_log_buffer {
    char *filling, *writing;    /* NULL until first used */
    size_t len;                 /* bytes in `filling` */
    struct fibril_event *event; /* there is something to write */
    struct fibril *writer;
};

/* Starts the writer of a lane if the server has an access log. */
int fibril__http_log_start(struct fibril__http_lane *lane);

/* Has the rest written and ends the writer. MAY PARK. */
void fibril__http_log_stop(struct fibril__http_lane *lane);

/* Notes an answered request; NULL for req when its head was refused. Never parks. */
void fibril__http_log_access(struct fibril__http_lane *lane,
                             const struct fibril_http_access *access);

/* Writes "time fibril: text" to the error log and calls on_error. */
void fibril__http_log_error(struct fibril_http_server *srv, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Formats one access line with its newline into `out`; returns its length, 0 when it does not fit.
 */
size_t fibril__http_log_format(enum fibril_http_log format, const struct fibril_http_access *access,
                               const char *time_text, char *out, size_t size);

#endif
