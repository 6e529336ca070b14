/* SPDX-License-Identifier: MIT */
/*
 * Stacks: sizes, guards, high-water marks, reuse, and the numbers that must fit.
 */
#include <fibril/fibril.h>

#include "base/compiler.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIB = 1024 };

static int use_stack(void *arg)
{
    size_t bytes = (uintptr_t)arg;
    volatile char *frame = __builtin_alloca(bytes);
    for (size_t i = 0; i < bytes; i += 512) {
        frame[i] = (char)i;
    }
    fibril_yield();
    for (size_t i = 0; i < bytes; i += 512) {
        ASSERT_EQ(frame[i], (char)i);
    }
    return 0;
}

static int sizes(void *arg)
{
    (void)arg;
    static const size_t stacks[] = {32 * KIB, 64 * KIB, 100 * KIB, 1024 * KIB, 8192 * KIB};
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++) {
        struct fibril_spawn_opts opts = {.stack_bytes = stacks[i]};
        ASSERT_OK(fibril_spawn(use_stack, (void *)(stacks[i] / 4), &opts, NULL));
    }
    struct fibril_spawn_opts huge = {.stack_bytes = (size_t)1 << 40};
    ASSERT_ERR(fibril_spawn(use_stack, NULL, &huge, NULL), -EINVAL);
    return 0;
}

TEST(each_fibril_may_have_a_size_of_its_own)
{
    ASSERT_OK(fibril_run(NULL, sizes, NULL));
}

static int copied_sizes(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    for (uintptr_t bytes = 16; bytes < 200 * KIB; bytes *= 3) {
        ASSERT_OK(fibril_spawn(use_stack, (void *)bytes, &opts, NULL));
    }
    return 0;
}

TEST(copied_stacks_of_any_depth_keep_their_bytes)
{
    ASSERT_OK(fibril_run(NULL, copied_sizes, NULL));
}

/* ---- high-water marks ---- */

static size_t used;

static int report_use(void *arg)
{
    use_stack(arg);
    used = fibril_stack_used(fibril_current());
    return 0;
}

static int measured(void *arg)
{
    for (uintptr_t bytes = 512; bytes <= 32 * KIB; bytes *= 2) {
        struct fibril *f;
        ASSERT_OK(fibril_spawn(report_use, (void *)bytes, arg, &f));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
        ASSERT_GE(used, bytes);
        ASSERT_LE(used, bytes + 24 * KIB); /* sanitizers have large frames, the
                                              loader binds names on the caller's stack */
    }
    struct fibril_site sites[4];
    ASSERT_EQ(fibril_sites(sites, 4), 1);
    ASSERT_EQ(sites[0].spawned, 7);
    ASSERT_GE(sites[0].stack_used_max, 32 * KIB);
    return 0;
}

TEST(high_water_mark_is_exact_when_measured)
{
#if FIBRIL_ASAN
    SKIP("ASan keeps frames elsewhere");
#endif
    struct fibril_opts opts = {.measure_stacks = true};
    ASSERT_OK(fibril_run(&opts, measured, NULL));
}

static int pages(void *arg)
{
    struct fibril *f;
    ASSERT_OK(fibril_spawn(report_use, (void *)(uintptr_t)(40 * KIB), arg, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    ASSERT_GE(used, 40 * KIB);
    return 0;
}

TEST(high_water_mark_is_known_by_pages_otherwise)
{
    ASSERT_OK(fibril_run(NULL, pages, NULL));
}

static int copied_mark(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    struct fibril *f;
    ASSERT_OK(fibril_spawn(report_use, (void *)(uintptr_t)(20 * KIB), &opts, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    ASSERT_GE(used, 20 * KIB);
    ASSERT_LE(used, 44 * KIB);
    return 0;
}

TEST(high_water_mark_of_a_copied_stack_is_its_largest_reserve)
{
    ASSERT_OK(fibril_run(NULL, copied_mark, NULL));
}

/* ---- overflow ---- */

__attribute__((noinline)) static int recurse(int n)
{
    volatile char frame[1024];
    frame[0] = (char)n;
    frame[1] = n ? (char)recurse(n + 1) : 0;
    return frame[0] + frame[1];
}

static int overflow(void *arg)
{
    (void)arg;
    return recurse(1);
}

static int spawn_overflow(void *arg)
{
    struct fibril_spawn_opts opts = *(struct fibril_spawn_opts *)arg;
    opts.name = "greedy";
    return fibril_spawn(overflow, NULL, &opts, NULL);
}

TEST(overflow_of_an_own_stack_names_the_fibril)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_OWN};
    EXPECT_ABORT(fibril_run(NULL, spawn_overflow, &opts), "\"greedy\"");
}

TEST(overflow_of_a_copied_stack_names_the_fibril)
{
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED};
    EXPECT_ABORT(fibril_run(NULL, spawn_overflow, &opts), "\"greedy\"");
}

/* ---- many ---- */

static int sleep_for_ever(void *arg)
{
    (void)arg;
    fibril_sleep_until(FIBRIL_FOREVER);
    return 0;
}

static int hundred_thousand(void *arg)
{
    int n = test_is_slow() ? 2000 : 100000;
    struct fibril_spawn_opts opts = {.stack = *(enum fibril_stack *)arg, .daemon = true};
    for (int i = 0; i < n; i++) {
        ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, &opts, NULL));
    }
    fibril_yield();
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(NULL, &m));
    ASSERT_EQ(m.fibrils, n + 1);
    return 0;
}

TEST_WITHIN(hundred_thousand_guarded_stacks_fit_the_map_count, 120)
{
    enum fibril_stack stack = FIBRIL_STACK_OWN;
    ASSERT_OK(fibril_run(NULL, hundred_thousand, &stack));
}

TEST_WITHIN(hundred_thousand_copied_stacks, 120)
{
    enum fibril_stack stack = FIBRIL_STACK_COPIED;
    ASSERT_OK(fibril_run(NULL, hundred_thousand, &stack));
}

static int unguarded_overflow(void *arg)
{
    int n = 40000; /* past what mprotect can guard */
    (void)arg;
    struct fibril_spawn_opts opts = {.daemon = true, .stack_bytes = 16 * KIB};
    for (int i = 0; i < n; i++) {
        ASSERT_OK(fibril_spawn(sleep_for_ever, NULL, &opts, NULL));
    }
    struct fibril_metrics m;
    ASSERT_OK(fibril_metrics(NULL, &m));
    ASSERT_GT(m.stacks_unguarded, 0);
    ASSERT_LT(m.stacks_unguarded, (uint64_t)n);
    return 0;
}

TEST_WITHIN(without_light_guards_stacks_past_the_map_count_are_counted, 120)
{
    if (test_is_slow()) {
        SKIP("tens of thousands of mappings under a checker");
    }
    setenv("FIBRIL_GUARD_MPROTECT", "1", 1);
    ASSERT_OK(fibril_run(NULL, unguarded_overflow, NULL));
}

static int spill_over(void *arg)
{
    (void)arg;
    volatile char *frame = __builtin_alloca(16 * KIB);
    for (size_t i = 0; i < 16 * KIB; i++) {
        frame[i] = 1;
    }
    fibril_yield();
    return 0;
}

static int spill_unguarded(void *arg)
{
    unguarded_overflow(arg);
    struct fibril_spawn_opts opts = {.stack_bytes = 16 * KIB, .name = "spiller"};
    return fibril_spawn(spill_over, NULL, &opts, NULL);
}

TEST_WITHIN(overflow_of_an_unguarded_stack_is_found_when_it_parks, 120)
{
    if (test_is_slow()) {
        SKIP("tens of thousands of mappings under a checker");
    }
    setenv("FIBRIL_GUARD_MPROTECT", "1", 1);
    EXPECT_ABORT(fibril_run(NULL, spill_unguarded, NULL), "\"spiller\"");
}

/* ---- giving back ---- */

static long resident_kib(void)
{
    long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = atol(line + 6);
        }
    }
    fclose(f);
    return kib;
}

static int touch(void *arg)
{
    use_stack((void *)(uintptr_t)(64 * KIB));
    return fibril_sleep_until(*(int64_t *)arg);
}

static int burst(void *arg)
{
    (void)arg;
    int64_t deadline_ns = fibril_after(10000000);
    long before = resident_kib();
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_spawn(touch, &deadline_ns, NULL, NULL));
    }
    ASSERT_OK(fibril_sleep_until(deadline_ns + 10000000));
    long after_burst = resident_kib();
    ASSERT_GT(after_burst - before, 50000);
    /* Two trims, a second apart: nobody needed them in between. */
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_sleep(700000000));
    }
    ASSERT_LT(resident_kib() - before, 20000);
    return 0;
}

TEST(pages_of_long_unused_stacks_are_given_back)
{
    if (test_is_slow()) {
        SKIP("the checker's own memory hides ours");
    }
    struct fibril_opts opts = {.poller = "sim"}; /* seconds pass at once */
    ASSERT_OK(fibril_run(&opts, burst, NULL));
}
