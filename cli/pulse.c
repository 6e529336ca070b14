/* SPDX-License-Identifier: MIT */
/*
 * Latencies go into buckets whose width grows with the value (16 to each factor of two), one set
 * for the present second; when the second is over two percentiles of it are kept. The server's own
 * histogram has one bucket to each factor of two: right for counting, too coarse for a curve.
 *
 * Memory per request is what the process grew by since before its first load, at the largest
 * number of requests in flight so far. After a load the process still holds what it cached for
 * reuse: dividing that by fewer requests would say too much, and counting a second load from
 * there would say next to nothing.
 */
#include "pulse.h"

#include <string.h>

enum { FEWEST = 100 };

void pulse_init(struct pulse *pulse)
{
    memset(pulse, 0, sizeof(*pulse));
    pulse->began_ns = fibril_now();
}

void pulse_begin_peak(struct pulse *pulse)
{
    struct process_use use = process_look();

    pulse->peak = pulse->in_flight;
    pulse->threads = use.threads;
    if (!pulse->idle_bytes) {
        pulse->idle_bytes = use.bytes;
    }
}

void pulse_enter(struct pulse *pulse)
{
    pulse->in_flight++;
    if (pulse->in_flight > pulse->peak) {
        pulse->peak = pulse->in_flight;
    }
}

void pulse_leave(struct pulse *pulse)
{
    pulse->in_flight--;
}

/* Values below 16 have a bucket each; above, the four bits behind the leading one choose it. */
static unsigned bucket_of(uint64_t us)
{
    if (us < PULSE_SUB_BUCKETS) {
        return (unsigned)us;
    }
    unsigned shift = 59 - (unsigned)__builtin_clzll(us);
    unsigned bucket = (shift + 1) * PULSE_SUB_BUCKETS + (unsigned)((us >> shift) & 15);
    return bucket < PULSE_BUCKETS ? bucket : PULSE_BUCKETS - 1;
}

/* The middle of a bucket, in milliseconds. */
static double value_of(unsigned bucket)
{
    unsigned shift = bucket / PULSE_SUB_BUCKETS;

    if (shift == 0) {
        return (double)bucket / 1e3;
    }
    double width = (double)(1u << (shift - 1));
    return (PULSE_SUB_BUCKETS + bucket % PULSE_SUB_BUCKETS + 0.5) * width / 1e3;
}

static double percentile(const struct pulse_second *second, double part)
{
    uint32_t wanted = (uint32_t)(part * (second->count - 1)) + 1, seen = 0;

    for (unsigned i = 0; i < PULSE_BUCKETS; i++) {
        seen += second->buckets[i];
        if (seen >= wanted) {
            return value_of(i);
        }
    }
    return 0;
}

void pulse_answer(struct pulse *pulse, int64_t duration_ns)
{
    pulse->answered++;
    pulse->now.count++;
    pulse->now.buckets[bucket_of((uint64_t)duration_ns / 1000)]++;
}

static void end_second(struct pulse *pulse)
{
    struct pulse_point *point = &pulse->points[pulse->second % PULSE_SECONDS];

    memset(point, 0, sizeof(*point));
    if (pulse->now.count) {
        point->count = pulse->now.count;
        point->p50_ms = percentile(&pulse->now, 0.50);
        point->p99_ms = percentile(&pulse->now, 0.99);
        memset(&pulse->now, 0, sizeof(pulse->now));
    }
    pulse->second++;
}

static void look_at_memory(struct pulse *pulse)
{
    if (pulse->in_flight < FEWEST || pulse->in_flight < pulse->peak_at) {
        return;
    }
    struct process_use use = process_look();
    if (pulse->in_flight > pulse->peak_at || use.bytes > pulse->peak_bytes) {
        pulse->peak_bytes = use.bytes;
    }
    pulse->peak_at = pulse->in_flight;
    pulse->threads = use.threads > pulse->threads ? use.threads : pulse->threads;
}

void pulse_tick(struct pulse *pulse)
{
    enum { RECENT = sizeof(pulse->recent) / sizeof(pulse->recent[0]) };
    uint64_t second = (uint64_t)((fibril_now() - pulse->began_ns) / 1000000000);
    uint64_t *before = &pulse->recent[pulse->tick++ % RECENT];

    pulse->per_second = (unsigned)(pulse->answered - *before);
    *before = pulse->answered;
    /* A loop that was held up for minutes makes up for the last one of them. */
    if (second > pulse->second + PULSE_SECONDS) {
        pulse->second = second - PULSE_SECONDS;
    }
    while (pulse->second < second) {
        end_second(pulse);
    }
    look_at_memory(pulse);
}

int64_t pulse_bytes_each(const struct pulse *pulse)
{
    if (pulse->peak_at < FEWEST) {
        return 0;
    }
    return (pulse->peak_bytes - pulse->idle_bytes) / pulse->peak_at;
}
