/* SPDX-License-Identifier: MIT */
/*
 * Tests of what fibrils share, each run twice: BOTH(name) makes name_own and name_copied, whose
 * body runs as a fibril with that kind of stack and whose helpers spawn fibrils of the same kind.
 * What several fibrils look at is static, since a copied stack is not there while its fibril is
 * parked.
 *
 * Order of arrival is made by go_parked(), which returns when the new fibril waits: it holds under
 * any order of the run queue, the hard flavour's included.
 */
#ifndef FIBRIL_TESTS_SYNC_BOTH_H
#define FIBRIL_TESTS_SYNC_BOTH_H

#include <fibril/fibril.h>

#include "base/alloc.h"
#include "sched/fibril.h"
#include "test.h"

#include <errno.h>

#define BOTH(test_name)                                                                            \
    static void both_body_##test_name(void);                                                       \
    TEST(test_name##_own)                                                                          \
    {                                                                                              \
        both_run(FIBRIL_STACK_OWN, both_body_##test_name);                                         \
    }                                                                                              \
    TEST(test_name##_copied)                                                                       \
    {                                                                                              \
        both_run(FIBRIL_STACK_COPIED, both_body_##test_name);                                      \
    }                                                                                              \
    static void both_body_##test_name(void)

enum { MS = 1000000, TURNS_MAX = 100000 };

/* Runs body in a runtime, as a fibril with such a stack. */
void both_run(enum fibril_stack stack, void (*body)(void));

/* Spawns a fibril with the stack under test; end() joins it and returns its result. */
struct fibril *go(fibril_fn *fn, void *arg);
struct fibril *go_on(struct fibril_loop *loop, fibril_fn *fn, void *arg);
int end(struct fibril *f);

/* Waits until f, of the same loop, is parked; go_parked spawns it first. */
void until_parked(const struct fibril *f);
struct fibril *go_parked(fibril_fn *fn, void *arg);

/* A log of small numbers. */
void note(int what);
int noted(size_t i);
size_t notes(void);

/* What a loop-less thread of the process does, to its end. */
void on_os_thread(void *(*fn)(void *), void *arg);

/* An integer as a fibril's argument, and back. */
static inline void *as_arg(intptr_t n)
{
    return (void *)n;
}

static inline int as_int(const void *arg)
{
    return (int)(intptr_t)arg;
}

#endif
