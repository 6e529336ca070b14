/* SPDX-License-Identifier: MIT */
/*
 * Nested contexts: on OS threads without a loop, in fibrils, on copied and on own stacks.
 */
#include "sched/nest.h"

#include <fibril/fibril.h>

#include "base/alloc.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { KIB = 1024, MANY = 3 * FIBRIL__RUN_STACKS, ROUNDS = 20 };

static const struct fibril__nest_opts opts = {.run_bytes = 256 * KIB, .own_bytes = 64 * KIB};

struct routine {
    struct fibril__nested nested;
    struct fibril__nested *back; /* who goes on when it has ended */
    int seed, turns;
    bool ended;
};

/* Leaves marks on its stack, as much of it as its seed says, and looks at them each time it is
 * back. */
static struct fibril__nested *mark_and_leave(struct fibril__nested *self)
{
    struct routine *r = CONTAINER_OF(self, struct routine, nested);
    size_t bytes = 64 + (size_t)r->seed % 7 * 3000;
    volatile char *frame = __builtin_alloca(bytes);
    for (size_t i = 0; i < bytes; i += 8) {
        frame[i] = (char)((int)i + r->seed);
    }
    for (; r->turns < ROUNDS; r->turns++) {
        ASSERT_OK(fibril__nest_switch(self->nest, r->back));
        for (size_t i = 0; i < bytes; i += 8) {
            ASSERT_EQ(frame[i], (char)((int)i + r->seed));
        }
        if (fibril_current()) {
            fibril_yield();
        }
    }
    r->ended = true;
    return r->back;
}

static void make(struct fibril__nest *n, struct fibril__nested *base, struct routine *r, int seed,
                 bool own)
{
    *r = (struct routine){.back = base, .seed = seed};
    ASSERT_OK(own ? fibril__nested_own(n, &r->nested) : fibril__nested_copied(n, &r->nested));
}

static void take_turns(int seed, bool own)
{
    struct fibril__nested base;
    struct fibril__nest *n;
    static _Thread_local struct routine on_thread[MANY];
    struct routine here[MANY], *routines = fibril_current() ? here : on_thread;
    ASSERT_OK(fibril__nest_new(&opts, mark_and_leave, &base, &n));
    for (int i = 0; i < MANY; i++) {
        make(n, &base, &routines[i], seed + i, own);
    }
    for (int round = 0; round <= ROUNDS; round++) {
        for (int i = 0; i < MANY; i++) {
            ASSERT_OK(fibril__nest_switch(n, &routines[i].nested));
            ASSERT(n->current == &base);
        }
    }
    for (int i = 0; i < MANY; i++) {
        ASSERT(routines[i].ended);
    }
    fibril__nest_free(n);
}

TEST(contexts_keep_their_stacks_on_a_thread_without_a_loop)
{
    take_turns(1, false);
    take_turns(2, true);
}

static void *on_thread(void *arg)
{
    take_turns((int)(intptr_t)arg, false);
    return NULL;
}

TEST(each_thread_has_a_nest_of_its_own)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(pthread_create(&threads[i], NULL, on_thread, (void *)(intptr_t)(100 * i)), 0);
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    }
}

static int in_fibril(void *arg)
{
    take_turns((int)(intptr_t)arg, (intptr_t)arg % 2);
    return 0;
}

static int several_fibrils(void *arg)
{
    (void)arg;
    for (intptr_t i = 0; i < 10; i++) {
        ASSERT_OK(fibril_spawn(in_fibril, (void *)(i * 31), NULL, NULL));
    }
    take_turns(7, false);
    return 0;
}

TEST(a_fibril_that_parks_in_a_nested_context_goes_on_there)
{
    ASSERT_OK(fibril_run(NULL, several_fibrils, NULL));
}

static int on_copied_stack(void *arg)
{
    struct fibril__nested base;
    struct fibril__nest *n;
    (void)arg;
    ASSERT_ERR(fibril__nest_new(&opts, mark_and_leave, &base, &n), -ENOTSUP);
    return 0;
}

static int spawn_copied(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts copied = {.stack = FIBRIL_STACK_COPIED};
    ASSERT_OK(fibril_spawn(on_copied_stack, NULL, &copied, NULL));
    return 0;
}

TEST(a_fibril_on_a_copied_stack_has_no_nest)
{
    ASSERT_OK(fibril_run(NULL, spawn_copied, NULL));
}

TEST(dropped_contexts_leave_nothing_behind)
{
    struct fibril__nested base;
    struct fibril__nest *n;
    struct routine routines[MANY];
    int64_t live = fibril__alloc_live();
    ASSERT_OK(fibril__nest_new(&opts, mark_and_leave, &base, &n));
    for (int i = 0; i < MANY; i++) {
        make(n, &base, &routines[i], i, i % 2);
        if (i % 3) {
            ASSERT_OK(fibril__nest_switch(n, &routines[i].nested));
        }
    }
    for (int i = 0; i < MANY; i++) {
        fibril__nested_drop(&routines[i].nested);
    }
    ASSERT_EQ(n->machine.copies.bytes, 0);
    fibril__nest_free(n);
    ASSERT_LE(fibril__alloc_live(), live + 3); /* tables of slots that the process keeps */
}

/* What cannot be kept stays where it is. */
static struct fibril__nested *leave_at_last(struct fibril__nested *self)
{
    struct routine *r = CONTAINER_OF(self, struct routine, nested);
    while (fibril__nest_switch(self->nest, r->back) == -ENOMEM) {
        ASSERT(self->nest->current == self);
        fibril__alloc_fail_after(-1);
    }
    return r->back;
}

TEST(every_allocation_may_fail)
{
    struct fibril__nested base;
    struct routine r;
    for (int64_t n_ok = 0;; n_ok++) {
        struct fibril__nest *n = NULL;
        fibril__alloc_fail_after(n_ok);
        int rc = fibril__nest_new(&opts, leave_at_last, &base, &n);
        r = (struct routine){.back = &base};
        rc = rc < 0 ? rc : fibril__nested_copied(n, &r.nested);
        rc = rc < 0 ? rc : fibril__nest_switch(n, &r.nested);
        fibril__alloc_fail_after(-1);
        if (rc == 0) {
            fibril__nested_drop(&r.nested);
            fibril__nest_free(n);
            return;
        }
        ASSERT_EQ(rc, -ENOMEM);
        fibril__nest_free(n);
        ASSERT_LT(n_ok, 20);
    }
}

/* AddressSanitizer would keep the mark elsewhere. */
__attribute__((no_sanitize_address)) static struct fibril__nested *
find_mark(struct fibril__nested *self)
{
    struct routine *r = CONTAINER_OF(self, struct routine, nested);
    int mark = r->seed;
    r->turns = (int)((char *)&mark - (char *)self->nest->machine.runs.at[self->ctx.log2].low);
    __asm__ volatile("" : : "r"(&mark) : "memory");
    ASSERT_OK(fibril__nest_switch(self->nest, r->back));
    return r->back;
}

TEST(bytes_of_a_stack_are_found_wherever_they_are)
{
    struct fibril__nested base;
    struct fibril__nest *n;
    static struct routine routines[MANY];
    ASSERT_OK(fibril__nest_new(&opts, find_mark, &base, &n));
    for (int i = 0; i < MANY; i++) {
        make(n, &base, &routines[i], 1000 + i, false);
        ASSERT_OK(fibril__nest_switch(n, &routines[i].nested));
    }
    for (int i = 0; i < MANY; i++) {
        char *was = n->machine.runs.at[routines[i].nested.ctx.log2].low + routines[i].turns;
        int mark;
        memcpy(&mark, fibril__nested_at(&routines[i].nested, was), sizeof mark);
        ASSERT_EQ(mark, 1000 + i);
        ASSERT(fibril__nest_shares(n, was));
    }
    ASSERT(!fibril__nest_shares(n, &base));
    for (int i = 0; i < MANY; i++) {
        fibril__nested_drop(&routines[i].nested);
    }
    fibril__nest_free(n);
}
