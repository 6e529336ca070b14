/* SPDX-License-Identifier: MIT */
/*
 * The figures of loops and the sums over actors for Prometheus, in its text format 0.0.4. Single
 * actors are not among them: a series for each would drown the server that collects them.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <fibril/actor.h>

#include <errno.h>
#include <stddef.h>

struct metric {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in struct fibril_metrics */
};

#define OF(field) offsetof(struct fibril_metrics, field)

static const struct metric metrics[] = {
    {"fibril_loop_fibrils", "gauge", "Fibrils of the loop, its main one included.", OF(fibrils)},
    {"fibril_loop_switches_total", "counter", "Switches between fibrils.", OF(switches)},
    {"fibril_loop_spawned_total", "counter", "Fibrils spawned.", OF(spawned)},
    {"fibril_loop_ended_total", "counter", "Fibrils that have ended.", OF(ended)},
    {"fibril_loop_parks_total", "counter", "Waits begun.", OF(parks)},
    {"fibril_loop_timeouts_total", "counter", "Waits that reached their deadline.", OF(timeouts)},
    {"fibril_loop_cancels_total", "counter", "Waits that were cancelled.", OF(cancels)},
    {"fibril_loop_remote_wakes_total", "counter", "Wake-ups from other OS threads.",
     OF(remote_wakes)},
    {"fibril_loop_polls_total", "counter", "Calls of the poller.", OF(polls)},
    {"fibril_loop_poll_events_total", "counter", "What they brought.", OF(poll_events)},
    {"fibril_loop_timers", "gauge", "Deadlines and timers under way.", OF(timers)},
    {"fibril_loop_stalls_total", "counter", "Fibrils reported for keeping the loop.", OF(stalls)},
};

static void head(struct fibril__sheet *o, const char *name, const char *type, const char *help)
{
    fibril__sheet_format(o, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_simple(struct fibril__sheet *o, const char *name, const char *type,
                         const char *help, uint64_t value)
{
    head(o, name, type, help);
    fibril__sheet_format(o, "%s %llu\n", name, (unsigned long long)value);
}

static void write_table(struct fibril__sheet *o, const struct fibril_observed_loop *rows, int n)
{
    for (size_t k = 0; k < sizeof metrics / sizeof metrics[0]; k++) {
        const struct metric *m = &metrics[k];
        head(o, m->name, m->type, m->help);
        for (int i = 0; i < n; i++) {
            if (rows[i].answered) {
                const char *at = (const char *)&rows[i].metrics + m->offset;
                fibril__sheet_format(o, "%s{loop=\"%u\"} %llu\n", m->name, rows[i].loop,
                                     (unsigned long long)*(const uint64_t *)(const void *)at);
            }
        }
    }
}

/* Buckets of the delay count what is below 64 * 2^i ns; the last one has no bound. */
static void write_delay(struct fibril__sheet *o, const struct fibril_observed_loop *row)
{
    static const char name[] = "fibril_loop_run_queue_delay_seconds";
    uint64_t sum = 0;
    for (unsigned i = 0; i < FIBRIL_DELAY_BUCKETS; i++) {
        sum += row->metrics.delay[i];
        fibril__sheet_format(o, "%s_bucket{loop=\"%u\",le=\"", name, row->loop);
        if (i == FIBRIL_DELAY_BUCKETS - 1) {
            fibril__sheet_text(o, "+Inf");
        } else {
            fibril__sheet_format(o, "%.9g", (double)(UINT64_C(64) << i) / 1e9);
        }
        fibril__sheet_format(o, "\"} %llu\n", (unsigned long long)sum);
    }
    fibril__sheet_format(o, "%s_sum{loop=\"%u\"} %.9f\n%s_count{loop=\"%u\"} %llu\n", name,
                         row->loop, (double)row->delay_sum_ns / 1e9, name, row->loop,
                         (unsigned long long)sum);
}

static void write_loops(struct fibril__sheet *o, const struct fibril_observed_loop *rows, int n)
{
    head(o, "fibril_loop_up", "gauge", "Whether the loop answered within 100 ms.");
    for (int i = 0; i < n; i++) {
        fibril__sheet_format(o, "fibril_loop_up{loop=\"%u\"} %d\n", rows[i].loop, rows[i].answered);
    }
    head(o, "fibril_loop_run_queue", "gauge", "Fibrils that are ready, 4096 at most.");
    for (int i = 0; i < n; i++) {
        if (rows[i].answered) {
            fibril__sheet_format(o, "fibril_loop_run_queue{loop=\"%u\"} %u\n", rows[i].loop,
                                 rows[i].run_queue);
        }
    }
    head(o, "fibril_loop_cpu_seconds_total", "counter", "Processor time of the loop's OS thread.");
    for (int i = 0; i < n; i++) {
        if (rows[i].answered) {
            fibril__sheet_format(o, "fibril_loop_cpu_seconds_total{loop=\"%u\"} %.9f\n",
                                 rows[i].loop, (double)rows[i].cpu_ns / 1e9);
        }
    }
    head(o, "fibril_loop_run_queue_delay_seconds", "histogram",
         "How long ready fibrils waited for the loop, at one switch in 64.");
    for (int i = 0; i < n; i++) {
        if (rows[i].answered) {
            write_delay(o, &rows[i]);
        }
    }
    write_table(o, rows, n);
}

static int write_actors(struct fibril__sheet *o)
{
    struct fibril_observe_query query = {0};
    struct fibril_observed_actor none;
    struct fibril_observed_sum sum;
    struct fibril_actor_counts c;
    int rc = fibril_observe_actors(&query, &none, 0, &sum);
    fibril_actor_counts(&c);
    if (rc < 0) {
        return rc;
    }
    write_simple(o, "fibril_actors", "gauge", "Actors alive.", sum.actors);
    write_simple(o, "fibril_supervisors", "gauge", "Supervisors among them.", sum.supervisors);
    write_simple(o, "fibril_mailbox_messages", "gauge", "Messages waiting.", sum.waiting);
    write_simple(o, "fibril_mailbox_bytes", "gauge", "Their bytes.", sum.waiting_bytes);
    write_simple(o, "fibril_actors_spawned_total", "counter", "Actors spawned.", c.spawned);
    write_simple(o, "fibril_actors_ended_total", "counter", "Actors that have ended.", c.ended);
    write_simple(o, "fibril_actors_crashed_total", "counter", "Actors that failed.", c.crashed);
    write_simple(o, "fibril_dead_letters_total", "counter", "Messages that reached nobody.",
                 c.dead_letters);
    write_simple(o, "fibril_messages_dropped_total", "counter", "Messages that found no room.",
                 c.dropped);
    write_simple(o, "fibril_late_replies_total", "counter", "Replies after the caller's deadline.",
                 c.late_replies);
    return 0;
}

int fibril__metrics_write(struct fibril__sheet *o)
{
    struct fibril_observed_loop *rows = fibril__alloc(FIBRIL__OBSERVE_LOOPS * sizeof *rows);
    int n = rows ? fibril_observe_loops(rows, FIBRIL__OBSERVE_LOOPS) : -ENOMEM;
    if (n >= 0) {
        write_loops(o, rows, n);
    }
    fibril__free(rows);
    int rc = n < 0 ? n : write_actors(o);
    return rc < 0 ? rc : o->error;
}
