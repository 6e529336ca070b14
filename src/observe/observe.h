/* SPDX-License-Identifier: MIT */
/*
 * What the files of the observer share. This floor is the top of the house: it looks into the
 * actors and the debug floor through their look.h, and into nothing else; the server above is used
 * by its public header.
 */
#ifndef FIBRIL_OBSERVE_OBSERVE_H
#define FIBRIL_OBSERVE_OBSERVE_H

#include <fibril/observe.h>

/* ---- ask.c ---- */

enum { FIBRIL__OBSERVE_LOOPS = 256 };

/* Calls fn(data) on the loop of that number, between two fibrils, with a copy of `bytes` bytes, and
 * copies them back. MAY PARK. -ESRCH: no such loop; -ETIMEDOUT: it is busy, fn may still come, with
 * the copy; -ENOMEM, -EPERM, -ECANCELED. */
int fibril__ask(unsigned number, void (*fn)(void *data), void *data, size_t bytes);

/* ---- top.c: the best rows of many, in memory for the page only ---- */

struct fibril__top_row {
    double key;
    uint64_t id;
    uint64_t value; /* the caller's */
    uint64_t more;
};

struct fibril__top {
    struct fibril__top_row *rows; /* a heap, the worst of those kept on top */
    size_t len, max;
    bool descending;
};

/* Keeps at most `max` rows. 0 or -ENOMEM. */
int fibril__top_init(struct fibril__top *t, size_t max, bool descending);
void fibril__top_add(struct fibril__top *t, const struct fibril__top_row *row);
/* Puts the rows in order, the first one first. */
void fibril__top_sort(struct fibril__top *t);
void fibril__top_fini(struct fibril__top *t);

/* Whether the query can be answered with n rows. 0 or -EINVAL. */
int fibril__query_check(const struct fibril_observe_query *q, size_t n);

/* ---- text.c: text that grows ---- */

struct fibril__sheet {
    char *text; /* ends with a NUL once something was added */
    size_t len, room;
    int error; /* -ENOMEM: all that was added since is lost */
};

void fibril__sheet_text(struct fibril__sheet *o, const char *text);
void fibril__sheet_format(struct fibril__sheet *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As a string of JSON, with its quotes. What is not UTF-8 becomes question marks. */
void fibril__sheet_json(struct fibril__sheet *o, const char *text);
void fibril__sheet_fini(struct fibril__sheet *o);

/* ---- json.c, metrics.c ---- */

enum fibril__view { FIBRIL__VIEW_ACTORS, FIBRIL__VIEW_FIBRILS, FIBRIL__VIEW_TREE };

enum { FIBRIL__PAGE_MAX = 500 };

struct fibril__view_query {
    enum fibril__view view;
    struct fibril_observe_query query;
    unsigned count;      /* rows, up to FIBRIL__PAGE_MAX */
    uint64_t supervisor; /* of the tree: whose children; 0: the supervisors */
    bool watch;          /* text: again and again */
};

/* Writes what the query asks for, and the loops. MAY PARK. 0 or -errno. */
int fibril__json_write(struct fibril__sheet *o, const struct fibril__view_query *q);

/* Reads `key=value` of a query string; what is wrong with it goes to `wrong`. 0 or -EINVAL. */
int fibril__query_set(struct fibril__view_query *q, const char *key, const char *value, char *wrong,
                      size_t size);

/* ---- environment.c ---- */

/* See sched/hooks.h, which names it weakly: who wants it in a program that is linked statically
 * names it here. */
void fibril__observe_loop_started(struct fibril_loop *loop);

/* ---- table.c ---- */

enum { FIBRIL__TREE_DEPTH_MAX = 16 };

/* Of a loop, when a watcher looked last; all zero: never. */
struct fibril__last_look {
    int64_t time_ns, cpu_ns;
    uint64_t switches;
    uint64_t delay[FIBRIL_DELAY_BUCKETS];
};

/* Writes the loops and what the query asks for as text; last: one per loop, brought up to date. MAY
 * PARK. 0 or -errno. */
int fibril__table_write(struct fibril__sheet *o, const struct fibril__view_query *q,
                        struct fibril__last_look *last);

/* Writes the text format of Prometheus, version 0.0.4. MAY PARK. 0 or -errno. */
int fibril__metrics_write(struct fibril__sheet *o);

#endif
