/* SPDX-License-Identifier: MIT */
/*
 * Run stacks: where contexts with a copied stack run. A context is bound to one of them for life,
 * so that it always runs at the same addresses. As long as there are run stacks that nobody is
 * bound to, a new context gets one to itself, which was used last, and is never copied. When all
 * are taken, new ones share the first few, whose bytes stay in the processor's first cache. They
 * are mapped in groups, as they are needed: most machines need one.
 *
 * Rejected: a few for all. Of a hundred contexts in turn each switch then copies two stacks, which
 * takes as long as all the rest of it.
 */
#ifndef FIBRIL_CTX_RUNS_H
#define FIBRIL_CTX_RUNS_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fibril__context;

enum {
    FIBRIL__RUN_GROUP = 8, /* so many are mapped at once, and shared when all are taken */
    /* Sanitizers and the hard flavour are for finding faults: there more is copied. */
    FIBRIL__RUN_GROUPS = FIBRIL_ASAN || FIBRIL_TSAN || FIBRIL_HARD ? 1 : 16,
    FIBRIL__RUN_STACKS = FIBRIL__RUN_GROUP * FIBRIL__RUN_GROUPS,
};

struct fibril__run_stack {
    struct fibril__context *resident; /* whose bytes are on it, or NULL */
    char *low, *top;                  /* without its guard */
    uint32_t users;                   /* contexts that are bound to it */
    bool used;                        /* since the last trim */
};

struct fibril__runs {
    struct fibril__run_stack at[FIBRIL__RUN_STACKS];
    unsigned len;  /* so many are mapped */
    unsigned turn; /* which of the shared ones is next */
    size_t bytes;  /* of each */
    char *via_top; /* a small stack on which copying runs; comes with the first group */
    char *groups[FIBRIL__RUN_GROUPS]; /* their mappings */
    unsigned free_len;
    uint8_t free[FIBRIL__RUN_STACKS]; /* those without users; the end was used last */
};

void fibril__runs_init(struct fibril__runs *r, size_t bytes);
void fibril__runs_fini(struct fibril__runs *r);

/* Binds a context: the number of its run stack, or -1 without memory for the first group. */
int fibril__runs_take(struct fibril__runs *r);

/* A context that was bound to number i goes; the caller may still run on it until the next take. */
void fibril__runs_give(struct fibril__runs *r, unsigned i);

/* Of those that nobody is bound to, gives back the pages which only deep calls touch. */
void fibril__runs_trim(struct fibril__runs *r);

/* Whether p lies on one of them, or in the guard page below one. Async-signal-safe. */
bool fibril__runs_hold(const struct fibril__runs *r, const void *p);
bool fibril__runs_guard(const struct fibril__runs *r, const void *p);

#endif
