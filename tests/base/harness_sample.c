/* SPDX-License-Identifier: MIT */
/*
 * Tests of which most are meant to fail: test_harness.c runs this program and reads what the
 * harness says of each. It is not itself declared as a test.
 */
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST(passes)
{
    ASSERT(1);
    ASSERT_EQ(2, 2u);
    ASSERT_STR("fibril", "fibril");
    ASSERT_MEM("abc", "abd", 2);
    ASSERT_OK(3);
    ASSERT_ERR(-110, -110);
    puts("this line must not appear among the TAP lines");
}

TEST(compares)
{
    ASSERT_EQ(1 + 1, 3);
}

TEST(compares_text)
{
    ASSERT_STR("one", "two");
}

TEST(wants_success)
{
    ASSERT_OK(-12);
}

TEST(wants_an_error)
{
    ASSERT_ERR(0, -110);
}

TEST(skips)
{
    SKIP("no such # kernel");
}

TEST(crashes)
{
    raise(SIGKILL);
}

TEST(exits)
{
    exit(3);
}

TEST_WITHIN(hangs, 1)
{
    signal(SIGQUIT, SIG_IGN);
    if (fork() == 0) {
        signal(SIGQUIT, SIG_IGN);
    }
    for (;;) {
        pause();
    }
}

static void die_saying(const char *text)
{
    fprintf(stderr, "%s\n", text);
    abort();
}

TEST(dies_as_expected)
{
    EXPECT_ABORT(die_saying("stack overflow in fibril 7"), "overflow in fibril");
}

TEST(dies_saying_something_else)
{
    EXPECT_ABORT(die_saying("out of luck"), "overflow");
}

TEST(lives_on)
{
    EXPECT_ABORT(fputs("overflow", stderr), "overflow");
}

TEST(says_a_lot_and_dies)
{
    EXPECT_ABORT(
        {
            for (int i = 0; i < 10000; i++) {
                fputs("more than a pipe and the buffer hold\n", stderr);
            }
            abort();
        },
        "more than");
}
