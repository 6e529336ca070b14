/* SPDX-License-Identifier: MIT */
/*
 * What is observed as text for a terminal: a line per loop, then the rows of the query in columns.
 * Loads and delays are of the time since the last look of the same watcher.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    NS_PER_MS = 1000000,
    US_PER_S = 1000000,
    NAME_COLUMNS = 24,
    FIGURE = 32,
    STATE_COLUMNS = 30
};

/* ---- figures that fit a column ---- */

/* "-" for nothing, "340 ns", "12.3 ms", "4.0 s", "2.5 h": at most seven bytes. */
static const char *time_text(int64_t ns, char *text)
{
    static const struct {
        double ns;
        const char *unit;
    } units[] = {{86400e9, "d"}, {3600e9, "h"}, {60e9, "min"},
                 {1e9, "s"},     {1e6, "ms"},   {1e3, "us"}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        if ((double)ns >= units[i].ns) {
            double n = (double)ns / units[i].ns;
            snprintf(text, FIGURE, n < 100 ? "%.1f %s" : "%.0f %s", n, units[i].unit);
            return text;
        }
    }
    if (ns == 0) {
        return "-";
    }
    snprintf(text, FIGURE, "%lld ns", (long long)ns);
    return text;
}

/* "512", "12.3k", "4.0M". */
static const char *bytes_text(uint64_t bytes, char *text)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    double n = (double)bytes;
    unsigned i = 0;
    while (n >= 1024 && i + 1 < sizeof units / sizeof *units) {
        n /= 1024;
        i++;
    }
    snprintf(text, FIGURE, i > 0 && n < 100 ? "%.1f%s" : "%.0f%s", n, units[i]);
    return text;
}

/* Text in a column: what is not printable ASCII becomes question marks, what is too long is cut. */
static void put(struct fibril__sheet *o, const char *text, unsigned width, bool padded)
{
    char cell[128];
    unsigned n = 0;
    for (; text[n] && n < width && n < sizeof cell - 1; n++) {
        cell[n] = text[n] >= ' ' && text[n] < 0x7f ? text[n] : '?';
    }
    if (text[n] && n > 0) {
        cell[n - 1] = '~';
    }
    cell[n] = '\0';
    fibril__sheet_text(o, " ");
    fibril__sheet_text(o, cell);
    if (padded) {
        fibril__sheet_format(o, "%*s", (int)(width - n), "");
    }
}

static void column(struct fibril__sheet *o, const char *text, unsigned width)
{
    put(o, text, width, /* padded= */ true);
}

static void last_column(struct fibril__sheet *o, const char *text, unsigned width)
{
    put(o, text, width, /* padded= */ false);
    fibril__sheet_text(o, "\n");
}

static void right(struct fibril__sheet *o, const char *text, int width)
{
    fibril__sheet_format(o, " %*s", width, text);
}

/* ---- loops ---- */

/* The delay below which nine of ten were since the last look, in nanoseconds; 0: there were none.
 */
static uint64_t delay_of_most(const struct fibril_metrics *now, const uint64_t *before)
{
    uint64_t sum = 0, seen = 0;
    for (unsigned i = 0; i < FIBRIL_DELAY_BUCKETS; i++) {
        sum += now->delay[i] - before[i];
    }
    for (unsigned i = 0; sum && i < FIBRIL_DELAY_BUCKETS; i++) {
        seen += now->delay[i] - before[i];
        if (seen * 10 >= sum * 9) {
            return UINT64_C(64) << i;
        }
    }
    return 0;
}

static void write_loop(struct fibril__sheet *o, const struct fibril_observed_loop *l,
                       struct fibril__last_look *last)
{
    char delay[FIGURE];
    fibril__sheet_format(o, "loop %u", l->loop);
    if (!l->answered) {
        fibril__sheet_text(o, "  busy: it has not answered for 100 ms\n");
        return;
    }
    const struct fibril_metrics *m = &l->metrics;
    double span = (double)(l->time_ns - last->time_ns);
    uint64_t most_ns = delay_of_most(m, last->delay);
    fibril__sheet_format(o, "  %s", m->poller);
    if (last->time_ns && span > 0) {
        fibril__sheet_format(o, "  load %.0f%%  %.0f switches/s",
                             (double)(l->cpu_ns - last->cpu_ns) * 100 / span,
                             (double)(m->switches - last->switches) * 1e9 / span);
    }
    fibril__sheet_format(o, "  %llu fibrils  %u%s ready  run-queue delay %s\n",
                         (unsigned long long)m->fibrils, l->run_queue, l->run_queue_more ? "+" : "",
                         time_text((int64_t)most_ns, delay));
    *last = (struct fibril__last_look){
        .time_ns = l->time_ns, .cpu_ns = l->cpu_ns, .switches = m->switches};
    memcpy(last->delay, m->delay, sizeof last->delay);
}

static int write_loops(struct fibril__sheet *o, struct fibril__last_look *last)
{
    struct fibril_observed_loop *rows = fibril__alloc(FIBRIL__OBSERVE_LOOPS * sizeof *rows);
    int n = rows ? fibril_observe_loops(rows, FIBRIL__OBSERVE_LOOPS) : -ENOMEM;
    for (int i = 0; i < n; i++) {
        write_loop(o, &rows[i], &last[rows[i].loop % FIBRIL__OBSERVE_LOOPS]);
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

/* ---- rows ---- */

static void write_actor(struct fibril__sheet *o, const struct fibril_observed_actor *a)
{
    char number[FIGURE], text[FIGURE];
    snprintf(number, sizeof number, "%llu", (unsigned long long)a->actor);
    right(o, number, 12);
    column(o, *a->name ? a->name : a->function, NAME_COLUMNS);
    fibril__sheet_format(o, " %7llu", (unsigned long long)a->waiting);
    right(o, time_text(a->oldest_ns, text), 8);
    fibril__sheet_format(o, " %9.1f", a->per_second);
    right(o, bytes_text(a->memory, text), 7);
    fibril__sheet_format(o, " %5llu", (unsigned long long)a->restarts);
    right(o, time_text(a->cpu_ns, text), 8);
    right(o, time_text(a->since_ns, text), 8);
    last_column(o, a->answered ? a->state : "(busy)", STATE_COLUMNS);
}

static int write_actors(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    struct fibril_observed_sum sum;
    char text[FIGURE];
    struct fibril_observed_actor *rows = fibril__alloc((q->count + 1) * sizeof *rows);
    int n = rows ? fibril_observe_actors(&q->query, rows, q->count, &sum) : -ENOMEM;
    if (n >= 0) {
        fibril__sheet_format(
            o, "%llu actors, %llu of them supervisors; %llu messages (%s) wait, %.1f/s taken\n\n",
            (unsigned long long)sum.actors, (unsigned long long)sum.supervisors,
            (unsigned long long)sum.waiting, bytes_text(sum.waiting_bytes, text), sum.per_second);
        fibril__sheet_format(o, " %12s %-*s %7s %8s %9s %7s %5s %8s %8s %s\n", "ACTOR",
                             NAME_COLUMNS, "NAME", "WAITING", "OLDEST", "MSG/S", "MEMORY", "AGAIN",
                             "CPU", "SINCE", "STATE");
    }
    for (int i = 0; i < n; i++) {
        write_actor(o, &rows[i]);
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

static void write_fibril(struct fibril__sheet *o, const struct fibril_observed_fibril *f)
{
    char text[FIGURE];
    fibril__sheet_format(o, " %12llu", (unsigned long long)f->fibril);
    column(o, *f->name ? f->name : f->site, NAME_COLUMNS);
    right(o, bytes_text(f->stack_bytes, text), 7);
    right(o, time_text(f->cpu_ns, text), 8);
    right(o, time_text(f->since_ns, text), 8);
    last_column(o, f->answered ? f->state : "(busy, or just ended)", 2 * STATE_COLUMNS);
}

static int write_fibrils(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    size_t total = 0;
    struct fibril_observed_fibril *rows = fibril__alloc((q->count + 1) * sizeof *rows);
    int n = rows ? fibril_observe_fibrils(&q->query, rows, q->count, &total) : -ENOMEM;
    fibril__sheet_format(o, "%zu fibrils\n\n %12s %-*s %7s %8s %8s %s\n", total, "FIBRIL",
                         NAME_COLUMNS, "NAME", "STACK", "CPU", "SINCE", "STATE");
    for (int i = 0; i < n; i++) {
        write_fibril(o, &rows[i]);
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

/* ---- the tree ---- */

static int write_tree(struct fibril__sheet *o, uint64_t supervisor, unsigned depth, unsigned *left)
{
    size_t total = 0;
    unsigned room = *left;
    struct fibril_observed_child *rows = fibril__alloc((room + 1) * sizeof *rows);
    int n = rows ? fibril_observe_children(supervisor, 0, rows, room, &total) : -ENOMEM;
    for (int i = 0; i<n && * left> 0; i++) {
        const struct fibril_observed_child *c = &rows[i];
        fibril__sheet_format(o, "%*s", (int)(2 * depth + 1), "");
        column(o, *c->id ? c->id : "-", NAME_COLUMNS);
        fibril__sheet_format(o, c->actor ? " %llu" : " (does not run)",
                             (unsigned long long)c->actor);
        fibril__sheet_format(o, c->restarts ? "  restarted %llu times\n" : "\n",
                             (unsigned long long)c->restarts);
        (*left)--;
        if (c->supervises && c->actor && depth < FIBRIL__TREE_DEPTH_MAX) {
            write_tree(o, c->actor, depth + 1, left);
        }
    }
    if (n >= 0 && total > (size_t)n) {
        fibril__sheet_format(o, "%*s(%zu more)\n", (int)(2 * depth + 2), "", total - (size_t)n);
    }
    fibril__free(rows);
    return n == -ESRCH || n == -ETIMEDOUT ? 0 : n < 0 ? n : 0; /* it may just have ended */
}

/* Every supervisor that nobody supervises, with what is below it. */
static int write_trees(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    struct fibril_observe_query tops = {.supervisors = true};
    unsigned left = q->count;
    struct fibril_observed_actor *rows = fibril__alloc((FIBRIL__PAGE_MAX + 1) * sizeof *rows);
    int n = rows ? fibril_observe_actors(&tops, rows, FIBRIL__PAGE_MAX, NULL) : -ENOMEM;
    int rc = n < 0 ? n : 0;
    if (n == 0) {
        fibril__sheet_text(o, "nobody supervises\n");
    }
    for (int i = 0; rc == 0 && i < n && left > 0; i++) {
        if (rows[i].supervisor == 0) {
            column(o, *rows[i].name ? rows[i].name : "supervisor", NAME_COLUMNS);
            fibril__sheet_format(o, " %llu\n", (unsigned long long)rows[i].actor);
            left--;
            rc = write_tree(o, rows[i].actor, 1, &left);
        }
    }
    fibril__free(rows);
    return rc;
}

int fibril__table_write(struct fibril__sheet *o, const struct fibril__view_query *q,
                        struct fibril__last_look *last)
{
    int rc = write_loops(o, last);
    if (rc == 0) {
        rc = q->view == FIBRIL__VIEW_FIBRILS  ? write_fibrils(o, q)
             : q->view == FIBRIL__VIEW_ACTORS ? write_actors(o, q)
                                              : write_trees(o, q);
    }
    return rc < 0 ? rc : o->error;
}
