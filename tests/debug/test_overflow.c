/* SPDX-License-Identifier: MIT */
/*
 * Stack overflows are reported and abort; other faults stay what they are.
 */
#include <fibril/embed.h>
#include <fibril/fibril.h>

#include "base/compiler.h"
#include "seeing.h"
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

FIBRIL_API int endless_recursion(int n);

/* Frames smaller than a page cannot step over the guard. */
__attribute__((noinline)) int endless_recursion(int n)
{
    volatile char frame[512];
    frame[0] = (char)n;
    frame[1] = n ? (char)endless_recursion(n + 1) : 0;
    return frame[0] + frame[1];
}

static int overflow(void *arg)
{
    (void)arg;
    return endless_recursion(1);
}

static int spawn_overflow(void *arg)
{
    return fibril_spawn(overflow, NULL, arg, NULL);
}

TEST(overflow_of_an_own_stack_says_size_and_place)
{
    struct fibril_spawn_opts opts = {.name = "greedy", .stack_bytes = 64 << 10};
    EXPECT_ABORT(fibril_run(NULL, spawn_overflow, &opts),
                 "\"greedy\" has used up its 65536 bytes, ");
    EXPECT_ABORT(fibril_run(NULL, spawn_overflow, &opts), "    endless_recursion+0x");
}

TEST(overflow_of_a_copied_stack_says_size_and_place)
{
    struct fibril_opts run = {.run_stack_bytes = 128 << 10};
    struct fibril_spawn_opts opts = {.name = "greedy", .stack = FIBRIL_STACK_COPIED};
    EXPECT_ABORT(fibril_run(&run, spawn_overflow, &opts),
                 "\"greedy\" has used up its 131072 bytes (copied stack)");
    EXPECT_ABORT(fibril_run(&run, spawn_overflow, &opts), "    endless_recursion+0x");
}

static int overflow_on_other_loop(void *arg)
{
    struct fibril_spawn_opts opts = *(struct fibril_spawn_opts *)arg;
    ASSERT_OK(fibril_loop_start(NULL, &opts.loop));
    ASSERT_OK(fibril_spawn(overflow, NULL, &opts, NULL));
    return fibril_loop_stop(opts.loop);
}

TEST(overflow_on_a_started_loop_is_reported)
{
    struct fibril_spawn_opts opts = {.name = "far greedy"};
    EXPECT_ABORT(fibril_run(NULL, overflow_on_other_loop, &opts),
                 "\"far greedy\" has used up its ");
    opts.stack = FIBRIL_STACK_COPIED;
    EXPECT_ABORT(fibril_run(NULL, overflow_on_other_loop, &opts),
                 "\"far greedy\" has used up its ");
}

/* ---- reserves ---- */

static struct {
    bool answer; /* of the hook */
    int full, relieved;
    int deepest;
} seen;

static volatile bool turn_back;

static bool on_overflow(struct fibril *f, bool full)
{
    ASSERT(f == fibril_current());
    seen.full += full;
    seen.relieved += !full;
    turn_back = full;
    return seen.answer;
}

__attribute__((noinline)) static int recursion_that_turns_back(int n)
{
    volatile char frame[512];
    frame[0] = (char)n;
    seen.deepest = n > seen.deepest ? n : seen.deepest;
    frame[1] = turn_back ? 0 : (char)recursion_that_turns_back(n + 1);
    return frame[0] + frame[1];
}

static int fill_the_stack(void *arg)
{
    int *rounds = arg;
    for (int i = 1; i <= *rounds; i++) {
        turn_back = false;
        recursion_that_turns_back(1);
        ASSERT_EQ(seen.full, i);
        fibril_yield();
        ASSERT_EQ(seen.relieved, i);
    }
    return 0;
}

static int many_fill_their_stacks(void *arg)
{
    struct fibril_spawn_opts opts = {.stack_bytes = 128 << 10};
    seen.answer = true;
    fibril_embed_on_overflow(on_overflow);
    for (int i = 0; i < 10; i++) {
        struct fibril *f;
        seen.full = seen.relieved = 0;
        ASSERT_OK(fibril_spawn(fill_the_stack, arg, &opts, &f));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    }
    return 0;
}

TEST(overflow_of_a_stack_with_a_reserve_lets_the_fibril_turn_back_again_and_again)
{
    int rounds = 5;
    ASSERT_OK(fibril_run(NULL, many_fill_their_stacks, &rounds));
}

TEST(overflow_of_a_stack_with_a_reserve_by_mprotect_lets_the_fibril_turn_back)
{
    int rounds = 5;
    setenv("FIBRIL_GUARD_MPROTECT", "1", 1);
    ASSERT_OK(fibril_run(NULL, many_fill_their_stacks, &rounds));
}

static int leave_it_open(void *arg)
{
    turn_back = false;
    seen.deepest = 0;
    recursion_that_turns_back(1);
    *(int *)arg = seen.deepest;
    return 0;
}

/* One after the other they have the same stack. */
static int leave_it_open_twice(void *arg)
{
    struct fibril_spawn_opts opts = {.stack_bytes = 128 << 10};
    int deepest[2];
    (void)arg;
    seen.answer = true;
    fibril_embed_on_overflow(on_overflow);
    for (int i = 0; i < 2; i++) {
        struct fibril *f;
        ASSERT_OK(fibril_spawn(leave_it_open, &deepest[i], &opts, &f));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
        ASSERT_EQ(seen.full, i + 1);
    }
    ASSERT(deepest[1] < deepest[0] + 4 && deepest[0] < deepest[1] + 4);
    return 0;
}

TEST(overflow_closes_the_reserve_of_a_fibril_that_ends)
{
    ASSERT_OK(fibril_run(NULL, leave_it_open_twice, NULL));
}

static int overflow_with_hook(void *arg)
{
    fibril_embed_on_overflow(on_overflow);
    return spawn_overflow(arg);
}

TEST(overflow_of_the_reserve_too_is_reported)
{
    struct fibril_spawn_opts opts = {.name = "greedy", .stack_bytes = 128 << 10};
    seen.answer = true;
    EXPECT_ABORT(fibril_run(NULL, overflow_with_hook, &opts),
                 "\"greedy\" has used up its 131072 bytes, ");
}

TEST(overflow_whose_hook_knows_no_way_back_is_reported)
{
    struct fibril_spawn_opts opts = {.name = "greedy", .stack_bytes = 128 << 10};
    EXPECT_ABORT(fibril_run(NULL, overflow_with_hook, &opts),
                 "\"greedy\" has used up its 131072 bytes, ");
}

TEST(overflow_of_a_small_stack_has_no_reserve)
{
    struct fibril_spawn_opts opts = {.name = "greedy", .stack_bytes = 64 << 10};
    seen.answer = true;
    EXPECT_ABORT(fibril_run(NULL, overflow_with_hook, &opts),
                 "\"greedy\" has used up its 65536 bytes, ");
}

/* ---- other faults ---- */

static int *volatile nowhere;

static int touch_nowhere(void *arg)
{
    (void)arg;
    return *nowhere;
}

static int spawn_touch(void *arg)
{
    return fibril_spawn(touch_nowhere, arg, NULL, NULL);
}

static int send_segv(void *arg)
{
    (void)arg;
    return kill(getpid(), SIGSEGV);
}

/* Runs fn in a process of its own, with the handler installed before. Returns the wait status. */
static int outcome(fibril_fn *fn, void (*handler)(int))
{
    struct test_death death;
    if (test_death_begin(&death)) {
        signal(SIGSEGV, handler);
        fibril_run(NULL, fn, NULL);
        test_death_survived();
    }
    int status;
    ASSERT_EQ(waitpid(death.pid, &status, 0), death.pid);
    close(death.stderr_read);
    return status;
}

static void leave_by_seven(int signo)
{
    (void)signo;
    _exit(7);
}

TEST(null_pointer_is_an_ordinary_fault)
{
    if (FIBRIL_ASAN) {
        SKIP("ASan keeps the faults for itself");
    }
    int status = outcome(spawn_touch, SIG_DFL);
    ASSERT(WIFSIGNALED(status));
    ASSERT_EQ(WTERMSIG(status), SIGSEGV);
}

TEST(handler_installed_before_gets_the_faults_that_are_not_ours)
{
    if (FIBRIL_ASAN) {
        SKIP("ASan keeps the faults for itself");
    }
    int status = outcome(spawn_touch, leave_by_seven);
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 7);
}

TEST(signal_that_somebody_sends_reaches_the_earlier_handler)
{
    int status = outcome(send_segv, leave_by_seven);
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 7);
}
