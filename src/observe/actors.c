/* SPDX-License-Identifier: MIT */
/*
 * Pages of actors. A pass over the table, on an OS thread of the pool, sums up, dates what has been
 * taken since the last pass, and keeps the rows of the page; then their loops fill them in. A pass
 * reads three lines of memory per actor and writes one word: 100,000 take some milliseconds, none
 * of which is a loop's.
 */
#include "observe/observe.h"

#include "actor/look.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "debug/look.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_MAX = 4096, PART = 1024, PARTS = 1 << 16 };

#define RATE_MIN_NS INT64_C(500000000) /* between two looks that a rate is taken from */

/* What the last look saw of the actor at a place. */
struct seen {
    uint32_t generation;
    uint32_t received; /* its low bits */
    float per_second;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the below; on pool threads only */
static struct seen *seen[PARTS];
static int64_t seen_ns; /* when all of them were last looked at */

/* ---- the pass ---- */

struct pass {
    struct fibril_observe_query query;
    struct fibril__top top;
    struct fibril_observed_sum sum;
    bool retake; /* take rates anew */
    double seconds;
};

static struct seen *seen_at(uint32_t place)
{
    struct seen **part = &seen[place / PART];
    if (!*part) {
        *part = fibril__alloc_zero(PART * sizeof **part);
    }
    return *part ? &(*part)[place % PART] : NULL;
}

static double rate_of(const struct pass *p, uint32_t place, const struct fibril__figures *f)
{
    struct seen *s = seen_at(place);
    uint32_t generation = (uint32_t)(f->actor >> 32), received = (uint32_t)f->received;
    if (!s) {
        return 0;
    }
    if (s->generation != generation) {
        *s = (struct seen){generation, received, 0};
    } else if (p->retake) {
        s->per_second = (float)((double)(received - s->received) / p->seconds);
        s->received = received;
    }
    return (double)s->per_second;
}

static double key_of(const struct pass *p, const struct fibril__figures *f, double rate)
{
    switch (p->query.sort) {
    case FIBRIL_SORT_WAITING: return f->waiting;
    case FIBRIL_SORT_OLDEST: return f->waiting;
    case FIBRIL_SORT_BYTES: return (double)f->bytes;
    case FIBRIL_SORT_RATE: return rate;
    case FIBRIL_SORT_RECEIVED: return (double)f->received;
    case FIBRIL_SORT_CPU: return (double)fibril__cpu_of(f->fibril, f->loop);
    case FIBRIL_SORT_SINCE: return f->fibril ? -(double)fibril__look_since(f->fibril) : 0;
    default: return (double)f->actor;
    }
}

static void take(struct pass *p, uint32_t place, const struct fibril__figures *f)
{
    double rate = rate_of(p, place, f);
    p->sum.actors++;
    p->sum.supervisors += f->supervises;
    p->sum.waiting += f->waiting;
    p->sum.waiting_bytes += f->bytes;
    p->sum.received += f->received;
    p->sum.per_second += rate;
    if (!p->query.supervisors || f->supervises) {
        struct fibril__top_row row = {key_of(p, f, rate), f->actor, f->loop, 0};
        memcpy(&row.more, &rate, sizeof rate);
        fibril__top_add(&p->top, &row);
    }
}

/* On a thread of the pool. */
static int pass(void *arg)
{
    struct pass *p = arg;
    pthread_mutex_lock(&lock);
    int64_t now_ns = fibril__clock_now();
    p->retake = now_ns - seen_ns >= RATE_MIN_NS;
    p->seconds = (double)(now_ns - seen_ns) / 1e9;
    seen_ns = p->retake ? now_ns : seen_ns;
    uint32_t room = fibril__actors_room();
    struct fibril__figures f;
    for (uint32_t place = 0; place < room; place++) {
        if (fibril__actor_figures(place, &f)) {
            take(p, place, &f);
        }
    }
    pthread_mutex_unlock(&lock);
    fibril__top_sort(&p->top);
    return 0;
}

/* ---- by age ---- */

struct ages {
    unsigned n;
    struct fibril__top_row rows[OLDEST_MAX];
};

static void fill_ages(void *data)
{
    struct ages *a = data;
    for (unsigned i = 0; i < a->n; i++) {
        a->rows[i].key = (double)fibril__actor_oldest(a->rows[i].id);
    }
}

/* Replaces the keys, lengths, by ages: p keeps more rows than the page has. */
static int order_by_age(struct pass *p)
{
    struct ages *a = fibril__alloc(sizeof *a);
    struct fibril__top by_age;
    int rc = fibril__top_init(&by_age, p->top.len, p->query.descending);
    for (unsigned loop = 0; a && rc == 0 && loop < FIBRIL__OBSERVE_LOOPS; loop++) {
        a->n = 0;
        for (size_t i = 0; i < p->top.len; i++) {
            if (p->top.rows[i].value == loop) {
                a->rows[a->n] = p->top.rows[i];
                a->rows[a->n++].key = 0;
            }
        }
        rc = a->n ? fibril__ask(loop, fill_ages, a, sizeof *a) : 0;
        rc = rc == -ETIMEDOUT || rc == -ESRCH ? 0 : rc;
        for (unsigned i = 0; i < a->n; i++) {
            fibril__top_add(&by_age, &a->rows[i]);
        }
    }
    fibril__free(a);
    if (!a || rc < 0) {
        fibril__top_fini(&by_age);
        return rc < 0 ? rc : -ENOMEM;
    }
    fibril__top_sort(&by_age);
    fibril__top_fini(&p->top);
    p->top = by_age;
    return 0;
}

/* ---- filling in ---- */

enum { BATCH = 64 };

struct batch {
    unsigned n;
    struct fibril_observed_actor rows[BATCH];
    size_t places[BATCH]; /* of the page */
};

static void fill_one(struct fibril_observed_actor *row)
{
    const struct fibril *f;
    struct fibril_observed_fibril of;
    row->answered = fibril__actor_look(row, &f);
    if (!row->answered) {
        return;
    }
    if (!fibril__actor_called(row->actor, row->function, sizeof row->function)) {
        fibril__look_code(fibril__actor_code(row->actor), row->function, sizeof row->function);
    }
    if (f && fibril__look_fibril(f, fibril_id(f), &of)) {
        row->fibril = of.fibril;
        row->since_ns = of.since_ns;
        row->memory += of.stack_bytes;
        row->cpu_ns = of.cpu_ns;
        memcpy(row->state, of.state, sizeof row->state);
        if (!*row->name) {
            memcpy(row->name, of.name, sizeof row->name);
        }
    } else {
        snprintf(row->state, sizeof row->state, "%s",
                 fibril__actor_idle(row->actor) ? "waits: mailbox" : "not begun");
    }
}

static void fill_batch(void *data)
{
    struct batch *b = data;
    for (unsigned i = 0; i < b->n; i++) {
        fill_one(&b->rows[i]);
    }
}

static int flush(struct batch *b, unsigned loop, struct fibril_observed_actor *rows)
{
    int rc = b->n ? fibril__ask(loop, fill_batch, b, sizeof *b) : 0;
    for (unsigned i = 0; i < b->n; i++) {
        rows[b->places[i]] = b->rows[i];
    }
    b->n = 0;
    return rc == -ETIMEDOUT || rc == -ESRCH ? 0 : rc;
}

static int fill_loop(struct batch *b, unsigned loop, struct fibril_observed_actor *rows, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (rows[i].loop == loop) {
            b->places[b->n] = i;
            b->rows[b->n++] = rows[i];
        }
        if (b->n == BATCH || i == n - 1) {
            rc = flush(b, loop, rows);
        }
    }
    return rc;
}

static int fill(struct fibril_observed_actor *rows, size_t n)
{
    bool wanted[FIBRIL__OBSERVE_LOOPS] = {false};
    struct batch *b = fibril__alloc(sizeof *b);
    int rc = b ? 0 : -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        wanted[rows[i].loop % FIBRIL__OBSERVE_LOOPS] = true;
    }
    for (unsigned loop = 0; rc == 0 && loop < FIBRIL__OBSERVE_LOOPS; loop++) {
        if (wanted[loop]) {
            b->n = 0;
            rc = fill_loop(b, loop, rows, n);
        }
    }
    fibril__free(b);
    return rc;
}

/* ---- the call ---- */

static size_t begin_rows(const struct pass *p, struct fibril_observed_actor *rows, size_t n)
{
    size_t len = p->top.len > p->query.skip ? p->top.len - p->query.skip : 0;
    len = len < n ? len : n;
    for (size_t i = 0; i < len; i++) {
        const struct fibril__top_row *from = &p->top.rows[p->query.skip + i];
        rows[i] = (struct fibril_observed_actor){.actor = from->id, .loop = (unsigned)from->value};
        memcpy(&rows[i].per_second, &from->more, sizeof from->more);
    }
    return len;
}

int fibril_observe_actors(const struct fibril_observe_query *query,
                          struct fibril_observed_actor *ret_rows, size_t n,
                          struct fibril_observed_sum *ret_sum)
{
    int rc = fibril__query_check(query, n);
    if (rc < 0 || !fibril_current()) {
        return rc < 0 ? rc : -EPERM;
    }
    struct pass *p = fibril__alloc_zero(sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    bool by_age = query->sort == FIBRIL_SORT_OLDEST;
    size_t keep = by_age ? OLDEST_MAX : query->skip + n;
    p->query = *query;
    fibril__mail_redate(fibril_now());
    rc = fibril__top_init(&p->top, keep, by_age || query->descending);
    rc = rc == 0 ? fibril_offload(pass, p, FIBRIL_FOREVER) : rc;
    if (rc == 0 && by_age) {
        rc = order_by_age(p);
    }
    if (rc == 0) {
        size_t len = begin_rows(p, ret_rows, n);
        rc = fill(ret_rows, len);
        rc = rc < 0 ? rc : (int)len;
        if (ret_sum) {
            *ret_sum = p->sum;
        }
    }
    fibril__top_fini(&p->top);
    fibril__free(p);
    return rc;
}
