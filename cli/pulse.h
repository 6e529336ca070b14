/* SPDX-License-Identifier: MIT */
/*
 * The figures of the demo site: how many requests are in flight, how many are answered a second,
 * how long they take, and what one of them costs in memory. Of one loop; nothing here is locked.
 */
#ifndef FIBRIL_CLI_PULSE_H
#define FIBRIL_CLI_PULSE_H

#include "process.h"

#include <fibril/http.h>

enum {
    PULSE_SECONDS = 60,
    PULSE_TICKS = 5,        /* looks per published figure */
    PULSE_TICK_MS = 50,     /* so it is published four times a second */
    PULSE_SUB_BUCKETS = 16, /* per factor of two: a percentile is right within 6 % */
    PULSE_BUCKETS = 27 * PULSE_SUB_BUCKETS,
};

/* One second of answers by the microseconds they took. */
struct pulse_second {
    uint32_t count;
    uint32_t buckets[PULSE_BUCKETS];
};

/* A second as the chart shows it; all zero when nothing was answered in it. */
struct pulse_point {
    uint32_t count;
    double p50_ms, p99_ms;
};

struct pulse {
    unsigned in_flight; /* requests whose handler runs now, event streams not counted */
    unsigned peak;      /* most of them since pulse_begin_peak */
    unsigned threads;   /* OS threads at the peak */
    int64_t idle_bytes; /* of the process, at the first pulse_begin_peak */
    int64_t peak_bytes; /* most, while as many as peak_at were in flight */
    unsigned peak_at;
    uint64_t answered;
    unsigned per_second;
    uint64_t second;                          /* the number of the present second, from 0 */
    struct pulse_point points[PULSE_SECONDS]; /* complete seconds, at their number modulo */
    struct pulse_second now;
    uint64_t recent[1000 / PULSE_TICK_MS]; /* answered, at the last ticks */
    unsigned tick;
    int64_t began_ns;
};

/* Touches all of its memory, so that none of it is taken for a request's later. */
void pulse_init(struct pulse *pulse);

/* Begins to look for a peak anew. The first time, the process is idle: its memory is taken for what
 * it uses without requests. */
void pulse_begin_peak(struct pulse *pulse);

/* Counts a request in and out. */
void pulse_enter(struct pulse *pulse);
void pulse_leave(struct pulse *pulse);

/* Counts an answer. */
void pulse_answer(struct pulse *pulse, int64_t duration_ns);

/* Looks at the process; to be called every PULSE_TICK_MS. */
void pulse_tick(struct pulse *pulse);

/* User memory per request in flight, in bytes, at the largest peak so far; 0 while fewer than 100
 * were. */
int64_t pulse_bytes_each(const struct pulse *pulse);

#endif
