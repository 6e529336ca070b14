/* SPDX-License-Identifier: MIT */
/*
 * Children of a supervisor: the copies of their specifications, and how each sort is started.
 */
#ifndef FIBRIL_ACTOR_CHILD_H
#define FIBRIL_ACTOR_CHILD_H

#include <fibril/supervisor.h>

#include "base/list.h"
#include "base/map.h"

struct fibril__tree;

/* A child, running or not. */
struct fibril__child {
    struct fibril__map_node by_actor; /* first; while it runs */
    struct fibril__link link;         /* in the order of starting */
    struct fibril_child_spec spec;    /* copies; spec.supervisor is NULL, `tree` instead */
    struct fibril__tree *tree;
    uint64_t actor; /* 0: does not run */
    uint64_t restarts;
    bool due; /* is to be started when the pause is over */
};

/* A copy of a supervisor's specification. */
struct fibril__tree {
    struct fibril_supervisor_spec spec; /* without the children */
    char *name;
    struct fibril__list children;
    struct fibril__map running;    /* those that run, by actor; its supervisor's */
    struct fibril__child *pattern; /* SIMPLE */
};

/* Copies and checks. 0, -EINVAL, -EEXIST (two of one id), -ENOMEM. */
int fibril__tree_new(const struct fibril_supervisor_spec *spec, struct fibril__tree **ret_tree);
void fibril__tree_free(struct fibril__tree *tree);
int fibril__child_new(const struct fibril_child_spec *spec, bool simple,
                      struct fibril__child **ret_child);
/* Another child of that pattern. */
int fibril__child_of(const struct fibril__child *pattern, void *arg,
                     struct fibril__child **ret_child);
void fibril__child_free(struct fibril__child *c);
struct fibril__child *fibril__child_find(const struct fibril__list *children, const char *id);

/* Starts c, linked to the caller. MAY PARK (supervisors). Returns 0 with c->actor set, or why not.
 */
int fibril__child_start(struct fibril__child *c);

/* What a supervisor runs, its argument a tree, which it frees. */
int fibril__supervise(void *arg);

/* Starts a supervisor of the tree, which is taken in every case, and waits for its children. */
int fibril__tree_start(struct fibril__tree *tree, const struct fibril_actor_opts *opts,
                       uint64_t *ret_actor);

/* How long c may take to end; -1 for ever, FIBRIL_SHUTDOWN_KILL is not among them. */
int64_t fibril__child_patience(const struct fibril__child *c);

/* What a supervisor is asked, in the tags of calls. */
enum {
    FIBRIL__ASK_READY = 100, /* its children have been started; has no data */
    FIBRIL__ASK_ADD,         /* a struct fibril__child * */
    FIBRIL__ASK_ADD_SIMPLE,  /* the argument */
    FIBRIL__ASK_END,         /* the id, a string */
    FIBRIL__ASK_END_ACTOR,   /* the number */
    FIBRIL__ASK_RESTART,
    FIBRIL__ASK_REMOVE,
    FIBRIL__ASK_CHILDREN,
    FIBRIL__START_DUE, /* a timer of its own */
};
#define FIBRIL__ASK(what) (UINT64_C(1) << 63 | (uint64_t)(what))

#endif
