/* SPDX-License-Identifier: MIT */
/*
 * One table ties each key to its field, so the keys, their help and their defaults cannot differ
 * from what the library does: defaults are asked of the library, not written down again. Zero means
 * "the default" in the library, so it is refused here instead of doing the opposite of what the
 * user meant.
 */
#include "limits.h"

#include <fibril/http.h>

#include <stdio.h>
#include <string.h>

enum unit { BYTES_SIZE, BYTES_64, COUNT, SECONDS };

struct limit {
    const char *key;
    enum unit unit;
    size_t offset;
    const char *help;
};

#define LIMIT(key, unit, field, help)                                                              \
    {                                                                                              \
        key, unit, offsetof(struct fibril_http_limits, field), help                                \
    }

static const struct limit limits[] = {
    LIMIT("request_line_bytes", BYTES_SIZE, request_line_bytes, "request line; more: 414"),
    LIMIT("field_bytes", BYTES_SIZE, field_bytes, "one header line; more: 431"),
    LIMIT("head_bytes", BYTES_SIZE, head_bytes, "request line and headers; more: 431"),
    LIMIT("fields_max", COUNT, fields_max, "header lines; more: 431"),
    LIMIT("trailer_bytes", BYTES_SIZE, trailer_bytes, "trailers of a chunked body"),
    LIMIT("trailers_max", COUNT, trailers_max, "trailer lines"),
    LIMIT("body_bytes", BYTES_64, body_bytes, "request body; more: 413"),
    LIMIT("drain_bytes", BYTES_SIZE, drain_bytes, "of an unread body, read to go on"),
    LIMIT("first_byte_s", SECONDS, first_byte_ns, "from accept to the first byte"),
    LIMIT("head_s", SECONDS, head_ns, "from its first byte to its end; late: 408"),
    LIMIT("body_idle_s", SECONDS, body_idle_ns, "between two bytes of a body; late: 408"),
    LIMIT("body_rate", BYTES_64, body_rate, "bytes a second at least; slower: 408"),
    LIMIT("write_idle_s", SECONDS, write_idle_ns, "in which the peer takes nothing"),
    LIMIT("keep_alive_s", SECONDS, keep_alive_ns, "idle connection (as --keep-alive)"),
    LIMIT("linger_s", SECONDS, linger_ns, "of reading on after a refusal"),
    LIMIT("requests_max", COUNT, requests_max, "on one connection"),
    LIMIT("connection_age_s", SECONDS, connection_age_ns, "of a connection"),
    LIMIT("connections_max", COUNT, connections_max, "at once; more: 503"),
    LIMIT("per_address_max", COUNT, per_address_max, "connections of one address"),
    LIMIT("handlers_max", COUNT, handlers_max, "requests at once; more: 503"),
    LIMIT("retry_after_s", COUNT, retry_after_s, "told in a 503, whole seconds"),
};

enum { LIMITS = sizeof(limits) / sizeof(limits[0]) };

static const struct limit *find(const char *key, size_t len)
{
    for (size_t i = 0; i < LIMITS; i++) {
        if (strlen(limits[i].key) == len && memcmp(limits[i].key, key, len) == 0) {
            return &limits[i];
        }
    }
    return NULL;
}

static const char *set_bytes(const struct limit *limit, const char *value, void *field)
{
    uint64_t bytes;

    if (!option_parse_bytes(value, &bytes)) {
        return option_wants("wants bytes in %s, like 65536 or 64k", limit->key);
    }
    if (limit->unit == BYTES_64) {
        *(uint64_t *)field = bytes;
    } else {
        *(size_t *)field = (size_t)bytes;
    }
    return NULL;
}

static const char *set_one(const struct limit *limit, const char *value, void *to)
{
    void *field = (char *)to + limit->offset;
    uint64_t count;

    switch (limit->unit) {
    case BYTES_SIZE:
    case BYTES_64: return set_bytes(limit, value, field);
    case COUNT:
        if (!option_parse_number(value, 1, 1e9, &count)) {
            return option_wants("wants a number from 1 to 1000000000 in %s", limit->key);
        }
        *(unsigned *)field = (unsigned)count;
        return NULL;
    case SECONDS:
        if (!option_parse_seconds(value, 0.001, 31536000, field)) {
            return option_wants("wants seconds from 0.001 to 31536000, or none, in %s", limit->key);
        }
        return NULL;
    }
    return NULL;
}

const char *option_limits(const struct option *option, const char *value, void *field)
{
    (void)option;
    for (const char *at = value; *at;) {
        char text[64];
        size_t len = strcspn(at, ",");
        size_t key = strcspn(at, "=,");
        const struct limit *limit = find(at, key);

        if (!limit) {
            return option_wants("knows no limit '%.*s'", (int)(key < 64 ? key : 64), at);
        }
        if (key == len || len - key > sizeof(text)) {
            return option_wants("wants %s=VALUE", limit->key);
        }
        memcpy(text, at + key + 1, len - key - 1);
        text[len - key - 1] = 0;
        const char *wrong = set_one(limit, text, field);
        if (wrong) {
            return wrong;
        }
        at += len + (at[len] == ',');
    }
    return *value ? NULL : option_wants("wants key=value,...");
}

static void describe_default(const struct limit *limit, const struct fibril_http_limits *from,
                             char *text, size_t size)
{
    const void *field = (const char *)from + limit->offset;
    uint64_t number = limit->unit == COUNT        ? *(const unsigned *)field
                      : limit->unit == BYTES_SIZE ? *(const size_t *)field
                                                  : *(const uint64_t *)field;

    if (limit->unit == SECONDS) {
        snprintf(text, size, "%g", (double)number / 1e9);
    } else if (number == 0) {
        snprintf(text, size, "no limit");
    } else {
        snprintf(text, size, "%llu", (unsigned long long)number);
    }
}

void limits_describe(char *text, size_t size)
{
    struct fibril_http_limits defaults;
    size_t len = 0;

    fibril_http_limits_default(&defaults);
    for (size_t i = 0; i < LIMITS; i++) {
        char value[32];
        describe_default(&limits[i], &defaults, value, sizeof(value));
        len += (size_t)snprintf(text + len, size - len, "  %-20s %-10s %s\n", limits[i].key, value,
                                limits[i].help);
        if (len >= size) {
            break;
        }
    }
}
