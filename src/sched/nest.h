/* SPDX-License-Identifier: MIT */
/*
 * Nests: several contexts that take turns within one fibril, or within an OS thread without a loop.
 * They are what greenlets and tasklets stand on. A nested context is no fibril: errno, keys, name,
 * cancellation are those of the fibril around it, and when it waits, that fibril parks, whole, and
 * goes on in it. A nest has run stacks of its own, so what another fibril does meanwhile never
 * moves what lies on them; a pool shared by the fibrils of a loop would evict the current context
 * of a parked one.
 *
 * The caller keeps a struct fibril__nested in each object that has a context. The base is the stack
 * that the nest was made on: it is never copied. A nest and its contexts belong to the fibril or OS
 * thread that made it; nothing here is thread-safe, and nothing parks.
 */
#ifndef FIBRIL_SCHED_NEST_H
#define FIBRIL_SCHED_NEST_H

#include "base/compiler.h"
#include "ctx/context.h"

struct fibril__nest;

struct fibril__nested {
    struct fibril__context ctx;
    struct fibril__nest *nest;
};

/* What each context of a nest runs, once, on its stack. Returns who goes on when it has ended. */
typedef struct fibril__nested *fibril__nest_fn(struct fibril__nested *self);

struct fibril__nest {
    struct fibril__machine machine;
    struct fibril__slot_cache own; /* stacks of contexts that do not want a copied one */
    fibril__nest_fn *run;
    struct fibril__nested *current;
    struct fibril__nested *next_current; /* who goes on after the one that ends */
    struct fibril__nest *newer;          /* the list of all, for reports of overflows */
};

struct fibril__nest_opts {
    size_t run_bytes; /* of each of the run stacks that copied ones share */
    size_t own_bytes; /* of own stacks; a power of two */
};

/* Makes the calling stack the base of a new nest. Returns 0, -ENOMEM, or -ENOTSUP on a fibril whose
 * own stack is a copied one: its bytes would have two keepers. */
int fibril__nest_new(const struct fibril__nest_opts *opts, fibril__nest_fn *run,
                     struct fibril__nested *base, struct fibril__nest **ret_nest);

/* Frees it. The base is current, and the others have ended or been dropped. */
void fibril__nest_free(struct fibril__nest *n);

/* Makes a context; it begins when it is first switched to. Returns 0 or -ENOMEM. */
int fibril__nested_copied(struct fibril__nest *n, struct fibril__nested *c);
int fibril__nested_own(struct fibril__nest *n, struct fibril__nested *c);

/* Frees the stack of c, which has begun or not, does not run, and never will again. */
void fibril__nested_drop(struct fibril__nested *c);

/* Leaves the current context for `to`; returns when somebody switches back. Returns 0, or -ENOMEM
 * at once when the bytes of the caller could not be kept. */
int fibril__nest_switch(struct fibril__nest *n, struct fibril__nested *to);

/* Bytes that c, which does not run, occupies elsewhere than on a stack. */
static inline size_t fibril__nested_saved(const struct fibril__nested *c)
{
    return c->ctx.policy == FIBRIL__COPIED && c->ctx.saved ? c->ctx.saved_bytes : 0;
}

/* Where the byte at p of the stack of c, which does not run, is now. */
static inline void *fibril__nested_at(const struct fibril__nested *c, void *p)
{
    return fibril__context_at(&c->nest->machine, &c->ctx, p);
}

/* The low end of the stack of c; ret_bytes: its size. */
static inline void *fibril__nested_stack(const struct fibril__nested *c, size_t *ret_bytes)
{
    if (c->ctx.policy == FIBRIL__COPIED) {
        return fibril__context_run_stack(&c->nest->machine, &c->ctx, ret_bytes);
    }
    *ret_bytes = (size_t)1 << c->ctx.log2;
    return c->ctx.saved;
}

/* Whether p lies on one of the stacks that the copied contexts of n share. */
bool fibril__nest_shares(const struct fibril__nest *n, const void *p);

/* Whether the page of a nest's guard holds `address`; ret_bytes: the size of the stack above it.
 * Async-signal-safe. */
bool fibril__nest_guards(const void *address, size_t *ret_bytes);

/* How the machine's entry and end (arch/switch.h) tell nested contexts from fibrils: by the lowest
 * bit of the pointer they get. */
enum { FIBRIL__NESTED_TAG = 1 };
int fibril__nested_entry(void *tagged);
NORETURN void fibril__nested_ended(void *tagged);

#endif
