/* SPDX-License-Identifier: MIT */
/*
 * The options of the simulation as text: "loss=0.01,latency_us=50..2000". One table of keys; a
 * mistake is named with the key and what would be right, because a typo that silently simulates
 * nothing is worse than no simulation.
 */
#include "poll/poll_sim.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value { RATE, SPAN_US, NUMBER };

struct key {
    const char *name;
    enum value value;
    size_t at;         /* where in the config; of a span its minimum, the maximum follows */
    size_t bytes;      /* of a number: 4 or 8 */
    uint64_t min, max; /* of a number */
};

#define AT(field) offsetof(struct fibril__sim_config, field)
#define SIZE(field) sizeof(((struct fibril__sim_config *)0)->field)

static const struct key keys[] = {
    {"seed", NUMBER, AT(seed), SIZE(seed), 0, UINT64_MAX},
    {"latency_us", SPAN_US, AT(latency_min_ns), 0, 0, 0},
    {"local_us", SPAN_US, AT(local_min_ns), 0, 0, 0},
    {"tick_ns", NUMBER, AT(tick_ns), SIZE(tick_ns), 1, 1000000000},
    {"loss", RATE, AT(loss), 0, 0, 0},
    {"reorder", RATE, AT(reorder), 0, 0, 0},
    {"reset", RATE, AT(reset), 0, 0, 0},
    {"refuse", RATE, AT(refuse), 0, 0, 0},
    {"partial", RATE, AT(partial), 0, 0, 0},
    {"defer", RATE, AT(defer), 0, 0, 0},
    {"slow_cancel", RATE, AT(slow_cancel), 0, 0, 0},
    {"buffer", NUMBER, AT(buffer_bytes), SIZE(buffer_bytes), 1, 1u << 30},
    {"pipe", NUMBER, AT(pipe_bytes), SIZE(pipe_bytes), 4096, 1u << 30},
    {"fds", NUMBER, AT(fds), SIZE(fds), 1, 1u << 24},
};

static const struct fibril__sim_config *configured;

void fibril__sim_configure(const struct fibril__sim_config *config)
{
    configured = config;
}

void fibril__sim_defaults(struct fibril__sim_config *ret_config)
{
    if (configured) {
        *ret_config = *configured;
        return;
    }
    *ret_config = (struct fibril__sim_config){
        .seed = 1,
        .latency_min_ns = 50000,
        .latency_max_ns = 2000000,
        .local_min_ns = 0,
        .local_max_ns = 20000,
        .tick_ns = 100,
        .defer = UINT64_C(1) << 31,
        .slow_cancel = UINT64_C(1) << 30,
        .buffer_bytes = 65536,
        .pipe_bytes = 65536,
        .fds = 1u << 20,
    };
}

static bool parse_rate(const char *text, void *field)
{
    char *end;
    double rate = strtod(text, &end);
    if (end == text || *end || !(rate >= 0 && rate <= 1)) {
        return false;
    }
    uint64_t parts = (uint64_t)(rate * 4294967296.0);
    memcpy(field, &parts, sizeof parts);
    return true;
}

static bool parse_u64(const char **text, uint64_t *ret_number)
{
    char *end;
    if (**text < '0' || **text > '9') {
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(*text, &end, 0);
    *text = end;
    *ret_number = number;
    return errno == 0;
}

/* "A..B", or "A" for A..A. */
static bool parse_span(const char *text, void *field)
{
    const uint64_t most = UINT64_C(3600000000); /* an hour */
    uint64_t min, max;
    if (!parse_u64(&text, &min)) {
        return false;
    }
    max = min;
    if (strncmp(text, "..", 2) == 0) {
        text += 2;
        if (!parse_u64(&text, &max)) {
            return false;
        }
    }
    if (*text || min > max || max > most) {
        return false;
    }
    int64_t both[2] = {(int64_t)min * 1000, (int64_t)max * 1000};
    memcpy(field, both, sizeof both);
    return true;
}

static bool parse_number(const struct key *key, const char *text, void *field)
{
    uint64_t number;
    if (!parse_u64(&text, &number) || *text || number < key->min || number > key->max) {
        return false;
    }
    uint32_t narrow = (uint32_t)number;
    memcpy(field, key->bytes == 4 ? (void *)&narrow : (void *)&number, key->bytes);
    return true;
}

static int wrong_value(const struct key *key, const char *value, char *ret_error, size_t size)
{
    switch (key->value) {
    case RATE:
        snprintf(ret_error, size, "%s=%s: a rate from 0 to 1 is wanted", key->name, value);
        break;
    case SPAN_US:
        snprintf(ret_error, size,
                 "%s=%s: microseconds are wanted, as 50 or 50..2000, an hour at most", key->name,
                 value);
        break;
    case NUMBER:
        snprintf(ret_error, size, "%s=%s: a number from %llu to %llu is wanted", key->name, value,
                 (unsigned long long)key->min, (unsigned long long)key->max);
        break;
    }
    return -EINVAL;
}

static int unknown_key(const char *name, char *ret_error, size_t size)
{
    int used = snprintf(ret_error, size, "%s: no such option; there are", name);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && used > 0 && (size_t)used < size; i++) {
        used += snprintf(ret_error + used, size - (size_t)used, " %s", keys[i].name);
    }
    return -EINVAL;
}

/* One "key=value", in a buffer that may be written to. */
static int parse_pair(char *pair, struct fibril__sim_config *config, char *ret_error, size_t size)
{
    char *value = strchr(pair, '=');
    if (!value) {
        snprintf(ret_error, size, "%s: key=value is wanted", pair);
        return -EINVAL;
    }
    *value++ = '\0';
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct key *key = &keys[i];
        if (strcmp(key->name, pair) != 0) {
            continue;
        }
        void *field = (char *)config + key->at;
        bool good = key->value == RATE      ? parse_rate(value, field)
                    : key->value == SPAN_US ? parse_span(value, field)
                                            : parse_number(key, value, field);
        return good ? 0 : wrong_value(key, value, ret_error, size);
    }
    return unknown_key(pair, ret_error, size);
}

int fibril__sim_parse(const char *text, struct fibril__sim_config *config, char *ret_error,
                      size_t error_size)
{
    char pair[128];
    while (text && *text) {
        size_t len = strcspn(text, ",");
        if (len == 0 || len >= sizeof pair) {
            snprintf(ret_error, error_size, "\"%.40s\": key=value is wanted", text);
            return -EINVAL;
        }
        memcpy(pair, text, len);
        pair[len] = '\0';
        int rc = parse_pair(pair, config, ret_error, error_size);
        if (rc < 0) {
            return rc;
        }
        text += len;
        if (*text == ',' && !*++text) {
            snprintf(ret_error, error_size, "the text ends with a comma");
            return -EINVAL;
        }
    }
    return 0;
}
