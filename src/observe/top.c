/* SPDX-License-Identifier: MIT */
/*
 * The first rows of many in some order, found in one pass with memory for the page and what comes
 * before it: a heap whose root is the row that would be left out next. Rows of one key come by
 * number, so that pages do not overlap.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>

/* Whether a comes before b. */
static bool before(bool descending, const struct fibril__top_row *a,
                   const struct fibril__top_row *b)
{
    if (a->key < b->key || a->key > b->key) {
        return (a->key < b->key) != descending;
    }
    return a->id < b->id;
}

int fibril__top_init(struct fibril__top *t, size_t max, bool descending)
{
    *t = (struct fibril__top){.max = max, .descending = descending};
    t->rows = fibril__alloc((max ? max : 1) * sizeof *t->rows);
    return t->rows ? 0 : -ENOMEM;
}

static void swap(struct fibril__top *t, size_t a, size_t b)
{
    struct fibril__top_row row = t->rows[a];
    t->rows[a] = t->rows[b];
    t->rows[b] = row;
}

static void rise(struct fibril__top *t, size_t i)
{
    while (i > 0 && before(t->descending, &t->rows[(i - 1) / 2], &t->rows[i])) {
        swap(t, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void sink(struct fibril__top *t, size_t i)
{
    for (;;) {
        size_t worst = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < t->len; child++) {
            if (before(t->descending, &t->rows[worst], &t->rows[child])) {
                worst = child;
            }
        }
        if (worst == i) {
            return;
        }
        swap(t, i, worst);
        i = worst;
    }
}

void fibril__top_add(struct fibril__top *t, const struct fibril__top_row *row)
{
    if (t->len < t->max) {
        t->rows[t->len] = *row;
        rise(t, t->len++);
    } else if (t->max > 0 && before(t->descending, row, &t->rows[0])) {
        t->rows[0] = *row;
        sink(t, 0);
    }
}

void fibril__top_sort(struct fibril__top *t)
{
    size_t len = t->len;
    while (t->len > 1) {
        swap(t, 0, --t->len);
        sink(t, 0);
    }
    t->len = len;
}

void fibril__top_fini(struct fibril__top *t)
{
    fibril__free(t->rows);
    t->rows = NULL;
}

int fibril__query_check(const struct fibril_observe_query *q, size_t n)
{
    bool good = (unsigned)q->sort < FIBRIL_SORTS && n <= FIBRIL_OBSERVE_ROWS_MAX &&
                q->skip <= FIBRIL_OBSERVE_ROWS_MAX - n;
    return good ? 0 : -EINVAL;
}
