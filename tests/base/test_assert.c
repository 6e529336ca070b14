/* SPDX-License-Identifier: MIT */
/*
 * A broken invariant ends the process at once and says which and where.
 */
#include "test.h"

#include "base/assert.h"
#include "base/clock.h"

TEST(a_panic_says_its_text_and_aborts)
{
    EXPECT_ABORT(fibril__panic("the sky falls"), "fibril: the sky falls");
}

TEST(a_formatted_panic_is_formatted)
{
    EXPECT_ABORT(fibril__panicf("fibril %d of %s", 7, "main"), "fibril: fibril 7 of main");
}

TEST(a_broken_invariant_names_itself_and_its_place)
{
    volatile int two = 2;
    EXPECT_ABORT(FIBRIL_ASSERT(two == 3), "two == 3");
    EXPECT_ABORT(FIBRIL_ASSERT(two == 3), "test_assert.c:");
    FIBRIL_ASSERT(two == 2);
}

TEST(the_clock_does_not_go_back)
{
    int64_t last = fibril__clock_now();
    for (int i = 0; i < 10000; i++) {
        int64_t now = fibril__clock_now();
        ASSERT_GE(now, last);
        last = now;
    }
}
