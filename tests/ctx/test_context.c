/* SPDX-License-Identifier: MIT */
/*
 * Contexts by themselves, without the scheduler: this program gives what every context runs, and
 * how it ends.
 */
#include "ctx/context.h"

#include "base/alloc.h"
#include "base/list.h"
#include "ctx/slots.h"
#include "test.h"

#include <alloca.h>
#include <execinfo.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_BYTES = 256 << 10, OWN_LOG2 = 16, EVICTED_MAX = 3 * FIBRIL__RUN_STACKS };

/* A context that passes to and fro with the main one. */
struct routine {
    struct fibril__context ctx;
    int (*fn)(struct routine *self);
    size_t bytes;
    int turn, result;
    bool ended;
    void *slot;
};

static struct fibril__machine machine;
static struct fibril__context thread_context;
static struct fibril__slot_cache slots;

int fibril__context_entry(void *context)
{
    struct routine *self = CONTAINER_OF((struct fibril__context *)context, struct routine, ctx);
    fibril__context_begin(&machine, &self->ctx);
    return self->fn(self);
}

void fibril__context_ended(void *context, int result)
{
    struct routine *self = CONTAINER_OF((struct fibril__context *)context, struct routine, ctx);
    self->result = result;
    self->ended = true;
    fibril__context_fini(&machine, &self->ctx);
    fibril__context_switch_last(&machine, &self->ctx, &thread_context);
    __builtin_unreachable();
}

static void overflowed(struct fibril__context *c)
{
    (void)c;
    abort();
}

static void begin(void)
{
    fibril__machine_init(&machine, RUN_BYTES, overflowed);
    fibril__context_thread(&thread_context);
    fibril__slot_cache_init(&slots, OWN_LOG2, true);
}

static void end(void)
{
    fibril__machine_fini(&machine);
    fibril__slot_cache_fini(&slots);
    ASSERT_EQ(machine.copies.bytes, 0);
}

static void make_copied(struct routine *r, int (*fn)(struct routine *self), size_t bytes)
{
    *r = (struct routine){.fn = fn, .bytes = bytes};
    ASSERT_OK(fibril__context_copied(&machine, &r->ctx));
}

static void make_own(struct routine *r, int (*fn)(struct routine *self))
{
    *r = (struct routine){.fn = fn, .slot = fibril__slot_take(&slots)};
    ASSERT(r->slot);
    fibril__context_own(&r->ctx, r->slot, (char *)r->slot + ((size_t)1 << OWN_LOG2), OWN_LOG2);
}

static NOINLINE void go_on(struct routine *r)
{
    fibril__context_switch(&machine, &thread_context, &r->ctx);
}

static NOINLINE void go_back(struct routine *self)
{
    ASSERT(fibril__context_reserve(&machine, &self->ctx));
    fibril__context_switch(&machine, &self->ctx, &thread_context);
}

static void free_own(struct routine *r)
{
    fibril__slot_give(&slots, r->slot);
}

/* ---- own stacks ---- */

static int count_turns(struct routine *self)
{
    for (int i = 1; i <= 1000; i++) {
        self->turn = i;
        go_back(self);
    }
    return 42;
}

TEST(own_stacks_take_turns)
{
    struct routine a, b;
    begin();
    make_own(&a, count_turns);
    make_own(&b, count_turns);
    for (int i = 1; i <= 1000; i++) {
        go_on(&a);
        go_on(&b);
        ASSERT_EQ(a.turn, i);
        ASSERT_EQ(b.turn, i);
    }
    go_on(&a);
    go_on(&b);
    ASSERT(a.ended && b.ended);
    ASSERT_EQ(a.result, 42);
    free_own(&a);
    free_own(&b);
    end();
}

static int look_at_alignment(struct routine *self)
{
    struct wide {
        _Alignas(16) char bytes[16];
    } here;
    self->turn = (uintptr_t)&here % 16 == 0;
    return 0;
}

TEST(stacks_are_aligned_as_the_abi_says)
{
    struct routine own, copied;
    begin();
    make_own(&own, look_at_alignment);
    make_copied(&copied, look_at_alignment, 0);
    go_on(&own);
    go_on(&copied);
    ASSERT_EQ(own.turn, 1);
    ASSERT_EQ(copied.turn, 1);
    free_own(&own);
    end();
}

/* ---- copied stacks ---- */

static unsigned char pattern(const struct routine *r, size_t i)
{
    return (unsigned char)((uintptr_t)r / 64 + i * 7 + i / 251);
}

/* Fills so many bytes of its stack, and finds them as they were after each turn. */
static int keep_bytes(struct routine *self)
{
    volatile unsigned char *frame = alloca(self->bytes);
    for (size_t i = 0; i < self->bytes; i++) {
        frame[i] = pattern(self, i);
    }
    for (int turn = 0; turn < 3; turn++) {
        self->turn = turn;
        go_back(self);
        for (size_t i = 0; i < self->bytes; i++) {
            if (frame[i] != pattern(self, i)) {
                return -1;
            }
        }
    }
    return 1;
}

/* Another one that runs on the same run stack as `r`; those made on the way there take the others.
 */
static void make_rival(struct routine *r, struct routine *rival)
{
    do {
        make_copied(rival, keep_bytes, r->bytes);
    } while (rival->ctx.log2 != r->ctx.log2);
}

static void take_turns(size_t bytes)
{
    struct routine a, b;
    make_copied(&a, keep_bytes, bytes);
    make_rival(&a, &b);
    while (!a.ended) {
        go_on(&a);
        ASSERT(a.ended || machine.runs.at[a.ctx.log2].resident == &a.ctx);
        go_on(&b);
    }
    ASSERT(b.ended);
    ASSERT_EQ(a.result, 1);
    ASSERT_EQ(b.result, 1);
    ASSERT_EQ(machine.copies.bytes, 0);
}

TEST(copied_stacks_keep_their_bytes_at_every_size)
{
    begin();
    for (size_t bytes = 1; bytes <= 300; bytes++) {
        take_turns(bytes);
    }
    for (size_t bytes = 512; bytes <= RUN_BYTES / 2; bytes *= 2) {
        take_turns(bytes - 1);
        take_turns(bytes);
        take_turns(bytes + 1);
    }
    take_turns(RUN_BYTES - (16 << 10)); /* all but what frames need, those of sanitizers too */
    end();
}

TEST(copied_stacks_are_kept_to_the_grain)
{
    struct routine a, b;
    begin();
    make_copied(&a, keep_bytes, 1000);
    make_rival(&a, &b);
    go_on(&a);
    ASSERT_EQ(machine.copies.bytes, a.ctx.saved_bytes);
    ASSERT_EQ(a.ctx.saved_bytes % FIBRIL__COPY_GRAIN, 0);
    size_t live = (size_t)(machine.runs.at[a.ctx.log2].top - (char *)a.ctx.sp);
    ASSERT_GE(a.ctx.saved_bytes, live);
    ASSERT_LT(a.ctx.saved_bytes, live + 4096);
    if (!test_is_slow()) {
        ASSERT_LE(a.ctx.saved_bytes, live + 256 + fibril__arch_frame_bytes); /* the reserve is made
                                                                                a little above the
                                                                                switch */
    }
    go_on(&b);
    ASSERT_GE(a.ctx.high_water * FIBRIL__COPY_GRAIN, live);
    ASSERT_LE(a.ctx.high_water * FIBRIL__COPY_GRAIN, a.ctx.saved_bytes);
    fibril__context_fini(&machine, &a.ctx);
    fibril__context_fini(&machine, &b.ctx);
    end();
}

TEST(last_one_to_run_stays_in_place)
{
    static struct routine r[EVICTED_MAX];
    begin();
    for (int i = 0; i < EVICTED_MAX; i++) {
        make_copied(&r[i], keep_bytes, (size_t)(100 + i));
        go_on(&r[i]);
        ASSERT(fibril__context_in_place(&machine, &r[i].ctx));
    }
    /* Those that came while there were free ones are alone there; of the others each run stack
     * that they share holds the last that ran on it. */
    const int stacks = FIBRIL__RUN_STACKS; /* where it is one group, a constant would be remarked on
                                            */
    for (int i = 0; i < EVICTED_MAX; i++) {
        bool alone = i >= FIBRIL__RUN_GROUP && i < stacks;
        ASSERT_EQ(fibril__context_in_place(&machine, &r[i].ctx),
                  alone || i >= EVICTED_MAX - FIBRIL__RUN_GROUP);
    }
    go_on(&r[0]);
    ASSERT(fibril__context_in_place(&machine, &r[0].ctx));
    for (int i = EVICTED_MAX - 1; i >= 0; i--) {
        while (!r[i].ended) {
            go_on(&r[i]);
        }
        ASSERT_EQ(r[i].result, 1);
        ASSERT(!fibril__context_in_place(&machine, &r[i].ctx));
    }
    end();
}

static unsigned char *shown;

static int show_byte(struct routine *self)
{
    volatile unsigned char byte = 77;
    shown = (unsigned char *)(uintptr_t)&byte;
    go_back(self);
    return byte;
}

TEST(byte_of_a_parked_stack_is_found_where_it_is)
{
    struct routine a, b;
    begin();
    make_copied(&a, show_byte, 0);
    make_rival(&a, &b);
    go_on(&a);
#if FIBRIL_ASAN
    SKIP("ASan keeps locals elsewhere");
#endif
    ASSERT_EQ((uintptr_t)fibril__context_at(&machine, &a.ctx, shown), (uintptr_t)shown);
    go_on(&b);
    unsigned char *moved = fibril__context_at(&machine, &a.ctx, shown);
    ASSERT_NE((uintptr_t)moved, (uintptr_t)shown);
    ASSERT_EQ(*moved, 77);
    *moved = 78;
    go_on(&a);
    ASSERT_EQ(a.result, 78);
    fibril__context_fini(&machine, &b.ctx);
    end();
}

/* ---- out of memory ---- */

static int grow(struct routine *self)
{
    fibril__alloc_fail_after(0);
    self->turn = fibril__context_reserve(&machine, &self->ctx);
    fibril__alloc_fail_after(-1);
    return 0;
}

TEST(reserve_fails_without_memory)
{
    struct routine a;
    begin();
    make_copied(&a, grow, 0);
    a.turn = -1;
    go_on(&a);
    ASSERT_EQ(a.turn, 0);
    ASSERT(a.ended);
    end();
}

TEST(no_run_stack_without_memory)
{
    struct routine a = {.turn = 0};
    begin();
    fibril__alloc_fail_after(0);
    ASSERT_LT(fibril__context_copied(&machine, &a.ctx), 0);
    fibril__alloc_fail_after(-1);
    ASSERT_OK(fibril__context_copied(&machine, &a.ctx));
    end();
}

/* ---- visits ---- */

static void *frames[32];
static int frame_count;

static void walk(void *arg)
{
    (void)arg;
    frame_count = backtrace(frames, 32);
}

static bool walked_through(const void *fn)
{
    for (int i = 0; i < frame_count; i++) {
        size_t offset = (size_t)((char *)frames[i] - (const char *)fn);
        if (offset < 400) {
            return true;
        }
    }
    return false;
}

static void visit(struct routine *r, bool expected)
{
    frame_count = 0;
    ASSERT_EQ(fibril__context_visit(&machine, &thread_context, &r->ctx, walk, NULL), expected);
    ASSERT_EQ(walked_through((const void *)(uintptr_t)r->fn), expected);
}

TEST(visitor_sees_the_frames_of_a_stopped_stack)
{
    struct routine own, a, b, fresh;
    begin();
    make_own(&own, count_turns);
    make_copied(&a, keep_bytes, 2000);
    make_rival(&a, &b);
    make_copied(&fresh, keep_bytes, 10);
    go_on(&own);
    go_on(&a);
    go_on(&b);
    if (!fibril__context_visit(&machine, &thread_context, &own.ctx, walk, NULL)) {
        fibril__context_fini(&machine, &a.ctx);
        fibril__context_fini(&machine, &b.ctx);
        free_own(&own);
        end();
        SKIP("no visits on this machine, or under a sanitizer");
    }
    visit(&own, true);
    visit(&a, true); /* moves it in */
    visit(&b, true);
    visit(&b, true);
    visit(&fresh, false); /* it has no frames yet */
    while (!a.ended || !b.ended || !own.ended) {
        struct routine *all[] = {&a, &b, &own};
        for (int i = 0; i < 3; i++) {
            if (!all[i]->ended) {
                go_on(all[i]);
            }
        }
    }
    ASSERT_EQ(a.result, 1);
    ASSERT_EQ(b.result, 1);
    ASSERT_EQ(own.result, 42);
    free_own(&own);
    end();
}
