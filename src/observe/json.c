/* SPDX-License-Identifier: MIT */
/*
 * What is observed as JSON, and the query that says which rows. Times are nanoseconds, as in the
 * structures of observe.h, whose names the members bear; numbers of actors are strings, for they
 * are too long for a double.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const sorts[FIBRIL_SORTS] = {"id",   "waiting",  "bytes", "oldest",
                                                "rate", "received", "cpu",   "since"};

/* ---- the query ---- */

/* Plain digits, at most `max`. */
static bool number(const char *text, uint64_t max, uint64_t *ret_number)
{
    uint64_t n = 0;
    size_t len = strspn(text, "0123456789");
    for (const char *c = text; *c && len <= 20; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (*c < '0' || *c > '9' || n > (max - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *ret_number = n;
    return len > 0 && len <= 20;
}

/* The place of a word among others; -1: it is none of them. */
static int choice(const char *word, const char *const *of, int n)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(word, of[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *set(struct fibril__view_query *q, const char *key, const char *value)
{
    static const char *const views[] = {"actors", "fibrils", "tree"};
    static const char *const orders[] = {"asc", "desc"};
    uint64_t n;
    int i;
    if (strcmp(key, "view") == 0) {
        i = choice(value, views, 3);
        q->view = i < 0 ? q->view : (enum fibril__view)i;
        return i < 0 ? "wants actors, fibrils or tree" : NULL;
    }
    if (strcmp(key, "sort") == 0) {
        i = choice(value, sorts, FIBRIL_SORTS);
        q->query.sort = i < 0 ? q->query.sort : (enum fibril_observe_sort)i;
        return i < 0 ? "wants id, waiting, bytes, oldest, rate, received, cpu or since" : NULL;
    }
    if (strcmp(key, "order") == 0) {
        i = choice(value, orders, 2);
        q->query.descending = i == 1;
        return i < 0 ? "wants asc or desc" : NULL;
    }
    if (strcmp(key, "skip") == 0) {
        bool good = number(value, FIBRIL_OBSERVE_ROWS_MAX - FIBRIL__PAGE_MAX, &n);
        q->query.skip = good ? n : 0;
        return good ? NULL : "wants a number from 0 to 1048076";
    }
    if (strcmp(key, "count") == 0) {
        bool good = number(value, FIBRIL__PAGE_MAX, &n);
        q->count = good ? (unsigned)n : 0;
        return good ? NULL : "wants a number from 0 to 500";
    }
    if (strcmp(key, "supervisor") == 0) {
        return number(value, UINT64_MAX, &q->supervisor) ? NULL : "wants the number of an actor";
    }
    if (strcmp(key, "watch") == 0) {
        q->watch = strcmp(value, "1") == 0;
        return q->watch ? NULL : "wants 1";
    }
    return "is unknown: there are view, sort, order, skip, count, supervisor and watch";
}

int fibril__query_set(struct fibril__view_query *q, const char *key, const char *value, char *wrong,
                      size_t size)
{
    const char *why = set(q, key, value);
    if (why) {
        snprintf(wrong, size, "%s %s, not '%s'\n", key, why, value);
    }
    return why ? -EINVAL : 0;
}

/* ---- rows ---- */

static const char *boolean(bool b)
{
    return b ? "true" : "false";
}

static void member(struct fibril__sheet *o, const char *name, const char *text)
{
    fibril__sheet_format(o, ",\"%s\":", name);
    fibril__sheet_json(o, text);
}

static void whole(struct fibril__sheet *o, const char *name, uint64_t n)
{
    fibril__sheet_format(o, ",\"%s\":%llu", name, (unsigned long long)n);
}

static void signed_whole(struct fibril__sheet *o, const char *name, int64_t n)
{
    fibril__sheet_format(o, ",\"%s\":%lld", name, (long long)n);
}

static void write_actor(struct fibril__sheet *o, const struct fibril_observed_actor *a)
{
    fibril__sheet_format(o, "{\"actor\":\"%llu\",\"fibril\":%llu,\"supervisor\":\"%llu\"",
                         (unsigned long long)a->actor, (unsigned long long)a->fibril,
                         (unsigned long long)a->supervisor);
    member(o, "name", a->name);
    member(o, "function", a->function);
    member(o, "state", a->state);
    signed_whole(o, "since_ns", a->since_ns);
    whole(o, "waiting", a->waiting);
    whole(o, "waiting_bytes", a->waiting_bytes);
    signed_whole(o, "oldest_ns", a->oldest_ns);
    whole(o, "received", a->received);
    fibril__sheet_format(o, ",\"per_second\":%.1f", a->per_second);
    whole(o, "memory", a->memory);
    whole(o, "restarts", a->restarts);
    signed_whole(o, "cpu_ns", a->cpu_ns);
    whole(o, "children", a->children);
    whole(o, "loop", a->loop);
    fibril__sheet_format(o, ",\"supervises\":%s,\"traps_exits\":%s,\"exiting\":%s,\"answered\":%s}",
                         boolean(a->supervises), boolean(a->traps_exits), boolean(a->exiting),
                         boolean(a->answered));
}

static void write_fibril(struct fibril__sheet *o, const struct fibril_observed_fibril *f)
{
    fibril__sheet_format(o, "{\"fibril\":%llu", (unsigned long long)f->fibril);
    member(o, "name", f->name);
    member(o, "state", f->state);
    member(o, "site", f->site);
    signed_whole(o, "since_ns", f->since_ns);
    whole(o, "stack_bytes", f->stack_bytes);
    signed_whole(o, "cpu_ns", f->cpu_ns);
    whole(o, "loop", f->loop);
    fibril__sheet_format(o, ",\"daemon\":%s,\"answered\":%s}", boolean(f->daemon),
                         boolean(f->answered));
}

static void write_loop(struct fibril__sheet *o, const struct fibril_observed_loop *l)
{
    const struct fibril_metrics *m = &l->metrics;
    fibril__sheet_format(o, "{\"loop\":%u,\"answered\":%s", l->loop, boolean(l->answered));
    if (l->answered) {
        member(o, "poller", m->poller);
        whole(o, "run_queue", l->run_queue);
        signed_whole(o, "time_ns", l->time_ns);
        signed_whole(o, "cpu_ns", l->cpu_ns);
        whole(o, "fibrils", m->fibrils);
        whole(o, "switches", m->switches);
        whole(o, "polls", m->polls);
        whole(o, "stalls", m->stalls);
        whole(o, "delay_sum_ns", l->delay_sum_ns);
        fibril__sheet_text(o, ",\"delay\":[");
        for (unsigned i = 0; i < FIBRIL_DELAY_BUCKETS; i++) {
            fibril__sheet_format(o, "%s%llu", i ? "," : "", (unsigned long long)m->delay[i]);
        }
        fibril__sheet_text(o, "]");
    }
    fibril__sheet_text(o, "}");
}

/* ---- views ---- */

static int write_loops(struct fibril__sheet *o)
{
    struct fibril_observed_loop *rows = fibril__alloc(FIBRIL__OBSERVE_LOOPS * sizeof *rows);
    int n = rows ? fibril_observe_loops(rows, FIBRIL__OBSERVE_LOOPS) : -ENOMEM;
    fibril__sheet_format(o, "{\"time_ns\":%lld,\"loops\":[", (long long)fibril_now());
    for (int i = 0; i < n; i++) {
        fibril__sheet_text(o, i ? ",\n" : "\n");
        write_loop(o, &rows[i]);
    }
    fibril__sheet_text(o, "]");
    fibril__free(rows);
    return n < 0 ? n : 0;
}

static int write_actors(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    struct fibril_observed_sum sum;
    struct fibril_observed_actor *rows = fibril__alloc((q->count + 1) * sizeof *rows);
    int n = rows ? fibril_observe_actors(&q->query, rows, q->count, &sum) : -ENOMEM;
    if (n >= 0) {
        fibril__sheet_format(
            o,
            ",\"actors\":%llu,\"supervisors\":%llu,\"waiting\":%llu,"
            "\"waiting_bytes\":%llu,\"per_second\":%.1f,\"total\":%llu,\"rows\":[",
            (unsigned long long)sum.actors, (unsigned long long)sum.supervisors,
            (unsigned long long)sum.waiting, (unsigned long long)sum.waiting_bytes, sum.per_second,
            (unsigned long long)(q->query.supervisors ? sum.supervisors : sum.actors));
    }
    for (int i = 0; i < n; i++) {
        fibril__sheet_text(o, i ? ",\n" : "\n");
        write_actor(o, &rows[i]);
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

static int write_fibrils(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    size_t total = 0;
    struct fibril_observed_fibril *rows = fibril__alloc((q->count + 1) * sizeof *rows);
    int n = rows ? fibril_observe_fibrils(&q->query, rows, q->count, &total) : -ENOMEM;
    fibril__sheet_format(o, ",\"total\":%zu,\"rows\":[", total);
    for (int i = 0; i < n; i++) {
        fibril__sheet_text(o, i ? ",\n" : "\n");
        write_fibril(o, &rows[i]);
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

static int write_children(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    size_t total = 0;
    struct fibril_observed_child *rows = fibril__alloc((q->count + 1) * sizeof *rows);
    int n = rows ? fibril_observe_children(q->supervisor, q->query.skip, rows, q->count, &total)
                 : -ENOMEM;
    fibril__sheet_format(o, ",\"total\":%zu,\"rows\":[", total);
    for (int i = 0; i < n; i++) {
        fibril__sheet_format(o, "%s{\"actor\":\"%llu\"", i ? ",\n" : "\n",
                             (unsigned long long)rows[i].actor);
        member(o, "id", rows[i].id);
        whole(o, "restarts", rows[i].restarts);
        fibril__sheet_format(o, ",\"supervises\":%s}", boolean(rows[i].supervises));
    }
    fibril__free(rows);
    return n < 0 ? n : 0;
}

int fibril__json_write(struct fibril__sheet *o, const struct fibril__view_query *q)
{
    struct fibril__view_query supervisors = *q;
    supervisors.query.supervisors = true;
    int rc = write_loops(o);
    if (rc == 0) {
        rc = q->view == FIBRIL__VIEW_FIBRILS  ? write_fibrils(o, q)
             : q->view == FIBRIL__VIEW_ACTORS ? write_actors(o, q)
             : q->supervisor                  ? write_children(o, q)
                                              : write_actors(o, &supervisors);
    }
    fibril__sheet_text(o, "]}\n");
    return rc < 0 ? rc : o->error;
}
