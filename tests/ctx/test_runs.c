/* SPDX-License-Identifier: MIT */
/*
 * Run stacks by themselves: who gets which, and what they leave behind.
 */
#include "ctx/runs.h"

#include "base/alloc.h"
#include "test.h"

#include <string.h>

enum { BYTES = 64 << 10 };

static struct fibril__runs runs;

TEST(each_has_one_to_itself_while_there_are_free_ones)
{
    fibril__runs_init(&runs, BYTES);
    for (int i = 0; i < FIBRIL__RUN_STACKS; i++) {
        ASSERT_EQ(fibril__runs_take(&runs), i);
        ASSERT_LE(runs.len, (unsigned)i + FIBRIL__RUN_GROUP); /* mapped as they are needed */
    }
    fibril__runs_fini(&runs);
}

TEST(the_one_given_back_last_is_taken_first)
{
    fibril__runs_init(&runs, BYTES);
    for (int i = 0; i < FIBRIL__RUN_GROUP; i++) {
        fibril__runs_take(&runs);
    }
    fibril__runs_give(&runs, 2);
    fibril__runs_give(&runs, 5);
    ASSERT_EQ(fibril__runs_take(&runs), 5);
    ASSERT_EQ(fibril__runs_take(&runs), 2);
    ASSERT_EQ(runs.len, FIBRIL__RUN_GROUP);
    fibril__runs_fini(&runs);
}

TEST(when_all_are_taken_the_first_group_is_shared_in_turn)
{
    fibril__runs_init(&runs, BYTES);
    for (int i = 0; i < FIBRIL__RUN_STACKS; i++) {
        fibril__runs_take(&runs);
    }
    for (int i = 0; i < 3 * FIBRIL__RUN_GROUP; i++) {
        ASSERT_EQ(fibril__runs_take(&runs), i % FIBRIL__RUN_GROUP);
    }
    for (int i = 0; i < 3; i++) { /* one that is shared is free when all have left it */
        fibril__runs_give(&runs, 4);
        ASSERT_EQ(runs.free_len, 0);
    }
    fibril__runs_give(&runs, 4);
    ASSERT_EQ(fibril__runs_take(&runs), 4);
    fibril__runs_fini(&runs);
}

TEST(without_memory_for_more_they_are_shared)
{
    fibril__runs_init(&runs, BYTES);
    fibril__alloc_fail_after(0);
    ASSERT_EQ(fibril__runs_take(&runs), -1);
    fibril__alloc_fail_after(1);
    for (int i = 0; i < 2 * FIBRIL__RUN_GROUP; i++) {
        ASSERT_EQ(fibril__runs_take(&runs), i % FIBRIL__RUN_GROUP);
    }
    fibril__alloc_fail_after(-1);
    ASSERT_EQ(runs.len, FIBRIL__RUN_GROUP);
    fibril__runs_fini(&runs);
}

TEST(stacks_and_their_guards_are_told_apart)
{
    fibril__runs_init(&runs, BYTES);
    ASSERT(!fibril__runs_hold(&runs, &runs));
    for (int i = 0; i < FIBRIL__RUN_STACKS; i++) {
        const struct fibril__run_stack *run = &runs.at[fibril__runs_take(&runs)];
        ASSERT_EQ(run->top - run->low, BYTES);
        ASSERT(fibril__runs_hold(&runs, run->low) && fibril__runs_hold(&runs, run->top - 1));
        ASSERT(fibril__runs_guard(&runs, run->low - 1));
        ASSERT(!fibril__runs_guard(&runs, run->low) && !fibril__runs_guard(&runs, run->top - 1));
    }
    ASSERT(!fibril__runs_hold(&runs, &runs));
    fibril__runs_fini(&runs);
}

TEST(trimming_gives_back_what_deep_calls_of_those_that_have_left_touched)
{
    fibril__runs_init(&runs, BYTES);
    int kept = fibril__runs_take(&runs), left = fibril__runs_take(&runs);
    memset(runs.at[kept].low, 1, BYTES);
    memset(runs.at[left].low, 1, BYTES);
    fibril__runs_give(&runs, (unsigned)left);
    fibril__runs_trim(&runs);
    ASSERT_EQ(runs.at[kept].low[0], 1);
    ASSERT_EQ(runs.at[left].low[0], 0);
    ASSERT_EQ(runs.at[left].top[-1], 1); /* what the next one uses at once */
    runs.at[left].low[0] = 2;
    fibril__runs_trim(&runs); /* nobody has been there since */
    ASSERT_EQ(runs.at[left].low[0], 2);
    fibril__runs_fini(&runs);
}
