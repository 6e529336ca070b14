/* SPDX-License-Identifier: MIT */
/*
 * Pages of fibrils, and the figures of loops. As with actors a pass off the loops finds the rows of
 * the page, and their loops fill them in.
 */
#include "observe/observe.h"

#include "actor/look.h"
#include "base/alloc.h"
#include "debug/look.h"

#include <fibril/embed.h>

#include <errno.h>
#include <string.h>

struct pass {
    struct fibril_observe_query query;
    struct fibril__top top;
    size_t total;
};

static void take(const struct fibril__glance *g, void *arg)
{
    struct pass *p = arg;
    double key = (double)g->id;
    if (p->query.sort == FIBRIL_SORT_CPU) {
        key = (double)fibril__cpu_of(g->fibril, g->loop);
    } else if (p->query.sort == FIBRIL_SORT_SINCE) {
        key = -(double)g->since_ns;
    }
    p->total++;
    struct fibril__top_row row = {key, g->id, (uintptr_t)g->fibril, g->loop};
    fibril__top_add(&p->top, &row);
}

/* On a thread of the pool. */
static int pass(void *arg)
{
    struct pass *p = arg;
    fibril__look_each(take, p);
    fibril__top_sort(&p->top);
    return 0;
}

/* ---- filling in ---- */

enum { BATCH = 64 };

struct batch {
    unsigned n;
    size_t places[BATCH];
    const struct fibril *fibrils[BATCH];
    struct fibril_observed_fibril rows[BATCH];
};

static void fill_batch(void *data)
{
    struct batch *b = data;
    for (unsigned i = 0; i < b->n; i++) {
        fibril__look_fibril(b->fibrils[i], b->rows[i].fibril, &b->rows[i]);
    }
}

static int flush(struct batch *b, unsigned loop, struct fibril_observed_fibril *rows)
{
    int rc = b->n ? fibril__ask(loop, fill_batch, b, sizeof *b) : 0;
    for (unsigned i = 0; i < b->n; i++) {
        rows[b->places[i]] = b->rows[i];
    }
    b->n = 0;
    return rc == -ETIMEDOUT || rc == -ESRCH ? 0 : rc;
}

static int fill(const struct fibril__top_row *from, struct fibril_observed_fibril *rows, size_t n)
{
    bool wanted[FIBRIL__OBSERVE_LOOPS] = {false};
    struct batch *b = fibril__alloc_zero(sizeof *b);
    int rc = b ? 0 : -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        wanted[rows[i].loop % FIBRIL__OBSERVE_LOOPS] = true;
    }
    for (unsigned loop = 0; rc == 0 && loop < FIBRIL__OBSERVE_LOOPS; loop++) {
        for (size_t i = 0; wanted[loop] && i < n && rc == 0; i++) {
            if (rows[i].loop == loop) {
                b->places[b->n] = i;
                b->fibrils[b->n] = (const struct fibril *)(uintptr_t)from[i].value;
                b->rows[b->n++] = rows[i];
            }
            if (b->n == BATCH || i == n - 1) {
                rc = flush(b, loop, rows);
            }
        }
    }
    fibril__free(b);
    return rc;
}

static int begin_rows(const struct pass *p, struct fibril_observed_fibril *rows, size_t n)
{
    size_t len = p->top.len > p->query.skip ? p->top.len - p->query.skip : 0;
    len = len < n ? len : n;
    const struct fibril__top_row *from = p->top.rows + (len ? p->query.skip : 0);
    int64_t now_ns = fibril_now();
    for (size_t i = 0; i < len; i++) {
        unsigned loop = (unsigned)from[i].more;
        const struct fibril *f = (const struct fibril *)(uintptr_t)from[i].value;
        rows[i] = (struct fibril_observed_fibril){
            .fibril = from[i].id, .loop = loop, .cpu_ns = fibril__cpu_of(f, loop)};
        if (p->query.sort == FIBRIL_SORT_SINCE) {
            rows[i].since_ns = now_ns + (int64_t)from[i].key;
        }
    }
    int rc = fill(from, rows, len);
    return rc < 0 ? rc : (int)len;
}

int fibril_observe_fibrils(const struct fibril_observe_query *query,
                           struct fibril_observed_fibril *ret_rows, size_t n, size_t *ret_total)
{
    int rc = fibril__query_check(query, n);
    bool sorts = query->sort == FIBRIL_SORT_ID || query->sort == FIBRIL_SORT_CPU ||
                 query->sort == FIBRIL_SORT_SINCE;
    if (rc < 0 || !sorts || query->supervisors) {
        return -EINVAL;
    }
    if (!fibril_current()) {
        return -EPERM;
    }
    struct pass *p = fibril__alloc_zero(sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    p->query = *query;
    rc = fibril__top_init(&p->top, query->skip + n, query->descending);
    rc = rc == 0 ? fibril_offload(pass, p, FIBRIL_FOREVER) : rc;
    rc = rc == 0 ? begin_rows(p, ret_rows, n) : rc;
    if (rc >= 0 && ret_total) {
        *ret_total = p->total;
    }
    fibril__top_fini(&p->top);
    fibril__free(p);
    return rc;
}

/* ---- children ---- */

struct children {
    uint64_t supervisor;
    size_t skip, n, total;
    int rc;
    struct fibril_observed_child rows[];
};

static void fill_children(void *data)
{
    struct children *c = data;
    c->rc = fibril__actor_children(c->supervisor, c->skip, c->rows, c->n, &c->total);
}

int fibril_observe_children(uint64_t supervisor, size_t skip,
                            struct fibril_observed_child *ret_rows, size_t n, size_t *ret_total)
{
    struct fibril__figures f;
    if (n > FIBRIL_OBSERVE_ROWS_MAX || !fibril__actor_figures((uint32_t)supervisor, &f) ||
        f.actor != supervisor || !f.supervises) {
        return n > FIBRIL_OBSERVE_ROWS_MAX ? -EINVAL : -ESRCH;
    }
    size_t bytes = sizeof(struct children) + n * sizeof *ret_rows;
    struct children *c = fibril__alloc_zero(bytes);
    if (!c) {
        return -ENOMEM;
    }
    c->supervisor = supervisor;
    c->skip = skip;
    c->n = n;
    int rc = fibril__ask(f.loop, fill_children, c, bytes);
    rc = rc == 0 ? c->rc : rc;
    if (rc >= 0) {
        memcpy(ret_rows, c->rows, (size_t)rc * sizeof *ret_rows);
        if (ret_total) {
            *ret_total = c->total;
        }
    }
    fibril__free(c);
    return rc;
}

/* ---- loops ---- */

static void fill_loop(void *data)
{
    fibril__look_loop(data);
}

int fibril_observe_loops(struct fibril_observed_loop *ret_rows, size_t n)
{
    size_t len = 0;
    if (!fibril_current()) {
        return -EPERM;
    }
    for (unsigned number = 0; number < FIBRIL__OBSERVE_LOOPS && len < n; number++) {
        struct fibril_observed_loop row = {.loop = number};
        int rc = fibril__ask(number, fill_loop, &row, sizeof row);
        if (rc == 0 || rc == -ETIMEDOUT) {
            ret_rows[len++] = row;
        } else if (rc != -ESRCH) {
            return rc;
        }
    }
    return (int)len;
}

struct counting {
    bool on;
    int rc;
};

static void count_here(void *data)
{
    struct counting *c = data;
    c->rc = fibril__cpu_count(c->on);
}

int fibril_observe_cpu(bool on)
{
    fibril__mail_date(on ? fibril_now() : 0);
    int rc = fibril_current() ? 0 : -EPERM;
    for (unsigned number = 0; rc == 0 && number < FIBRIL__OBSERVE_LOOPS; number++) {
        struct counting c = {.on = on};
        rc = fibril__ask(number, count_here, &c, sizeof c);
        rc = rc == -ESRCH || rc == -ETIMEDOUT ? 0 : rc == 0 ? c.rc : rc;
    }
    return rc;
}
