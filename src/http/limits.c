/* SPDX-License-Identifier: MIT */
/*
 * The limits a server has when nobody sets any. One place for the figures: docs/http.md repeats
 * them and a test compares. Zero in a field means the default because an options struct is mostly
 * zero.
 */
#include "http/limits.h"

#include "http/server.h"

enum { SECOND = 1000000000 };

static const struct fibril_http_limits defaults = {
    .request_line_bytes = 8192,
    .field_bytes = 8192,
    .head_bytes = 32768,
    .fields_max = 100,
    .trailer_bytes = 8192,
    .trailers_max = 32,
    .body_bytes = 1048576,
    .drain_bytes = 65536,
    .first_byte_ns = 10LL * SECOND,
    .head_ns = 10LL * SECOND,
    .body_idle_ns = 30LL * SECOND,
    .body_rate = 500,
    .write_idle_ns = 30LL * SECOND,
    .keep_alive_ns = 65LL * SECOND,
    .linger_ns = 2LL * SECOND,
    .requests_max = 100000,
    .connection_age_ns = 3600LL * SECOND,
    .connections_max = 100000,
    .per_address_max = 0,
    .handlers_max = 50000,
    .retry_after_s = 1,
};

void fibril_http_limits_default(struct fibril_http_limits *ret_limits)
{
    *ret_limits = defaults;
}

#define COMPLETE(field)                                                                            \
    if (limits->field == 0) {                                                                      \
        limits->field = defaults.field;                                                            \
    }

void fibril__http_limits_complete(struct fibril_http_limits *limits)
{
    COMPLETE(request_line_bytes)
    COMPLETE(field_bytes)
    COMPLETE(head_bytes)
    COMPLETE(fields_max)
    COMPLETE(trailer_bytes)
    COMPLETE(trailers_max)
    COMPLETE(body_bytes)
    COMPLETE(drain_bytes)
    COMPLETE(first_byte_ns)
    COMPLETE(head_ns)
    COMPLETE(body_idle_ns)
    COMPLETE(body_rate)
    COMPLETE(write_idle_ns)
    COMPLETE(keep_alive_ns)
    COMPLETE(linger_ns)
    COMPLETE(requests_max)
    COMPLETE(connection_age_ns)
    COMPLETE(connections_max)
    COMPLETE(handlers_max)
    COMPLETE(retry_after_s)
}

void fibril__http_limits_translate(const struct fibril_http_limits *limits,
                                   struct fibril__http_limits *ret_limits)
{
    *ret_limits = (struct fibril__http_limits)FIBRIL__HTTP_LIMITS_DEFAULT;
    ret_limits->request_line_bytes = limits->request_line_bytes;
    ret_limits->field_bytes = limits->field_bytes;
    ret_limits->head_bytes = limits->head_bytes;
    ret_limits->fields_max = limits->fields_max;
    ret_limits->trailer_bytes = limits->trailer_bytes;
    ret_limits->trailers_max = limits->trailers_max;
    ret_limits->body_bytes = limits->body_bytes;
}
