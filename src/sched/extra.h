/* SPDX-License-Identifier: MIT */
/*
 * What few fibrils need, allocated on first use: a name, local values, exit handlers, membership in
 * a scope.
 */
#ifndef FIBRIL_SCHED_EXTRA_H
#define FIBRIL_SCHED_EXTRA_H

#include "sched/fibril.h"

enum { FIBRIL__KEYS_MAX = 64 };

struct fibril__exit_handler {
    struct fibril__exit_handler *next;
    void (*fn)(void *arg);
    void *arg;
};

struct fibril__extra {
    char *name;
    void **locals;                      /* FIBRIL__KEYS_MAX of them, or NULL */
    struct fibril__exit_handler *exits; /* newest first */
    struct fibril *owner;               /* set in scopes */
    struct fibril_scope *scope;         /* the scope that waits for this fibril, or NULL */
    struct fibril__link in_scope;
};

/* Returns f's extra part, made if need be; NULL: no memory. */
struct fibril__extra *fibril__extra(struct fibril *f);

/* Runs the exit handlers and the destructors of local values of the running fibril, which is about
 * to end. May park. */
void fibril__extra_run_exits(struct fibril *self);

/* In the child of a fork: nobody is in the middle of making a key. */
void fibril__extra_forked(void);

/* Frees f's extra part. */
void fibril__extra_free(struct fibril *f);

/* Takes f, which has gone without ending, out of its scope. */
void fibril__scope_forget(struct fibril *f);

/* Tells the scope of f, if it has one, that it ended with `result`. */
void fibril__scope_ended(struct fibril *f, int result);

#endif
