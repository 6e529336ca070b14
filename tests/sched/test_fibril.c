/* SPDX-License-Identifier: MIT */
/*
 * Spawning, running in order, joining, detaching, yielding. Each property for both stack policies.
 */
#include <fibril/io.h>

#include "base/compiler.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const enum fibril_stack policies[] = {FIBRIL_STACK_OWN, FIBRIL_STACK_COPIED};

static char trace[256];
static size_t trace_len;

static void note(char c)
{
    trace[trace_len++] = c;
    trace[trace_len] = 0;
}

static int run_both(fibril_fn *fn)
{
    for (size_t i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.stack = policies[i]};
        trace_len = 0;
        int rc = fibril_run(NULL, fn, &opts);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int return_seven(void *arg)
{
    (void)arg;
    return 7;
}

static int note_name_thrice(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note(*(char *)arg);
        fibril_yield();
    }
    return 0;
}

/* ---- run and join ---- */

static int main_returns_five(void *arg)
{
    (void)arg;
    return 5;
}

TEST(run_returns_what_main_returned)
{
    ASSERT_EQ(fibril_run(NULL, main_returns_five, NULL), 5);
}

static int join_gets_result(void *arg)
{
    struct fibril *f;
    int result = 0;
    ASSERT_OK(fibril_spawn(return_seven, NULL, arg, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 7);
    return 0;
}

TEST(join_stores_the_result)
{
    ASSERT_EQ(run_both(join_gets_result), 0);
}

static int join_after_end(void *arg)
{
    struct fibril *f;
    int result = 0;
    ASSERT_OK(fibril_spawn(return_seven, NULL, arg, &f));
    fibril_yield();
    ASSERT_OK(fibril_join(f, 0, &result));
    ASSERT_EQ(result, 7);
    return 0;
}

TEST(join_of_an_ended_fibril_needs_no_wait)
{
    ASSERT_EQ(run_both(join_after_end), 0);
}

static int join_times_out(void *arg)
{
    struct fibril *f;
    ASSERT_OK(fibril_spawn(return_seven, NULL, arg, &f));
    ASSERT_ERR(fibril_join(f, 0, NULL), -ETIMEDOUT);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    return 0;
}

TEST(handle_stays_valid_when_join_times_out)
{
    ASSERT_EQ(run_both(join_times_out), 0);
}

static int join_self(void *arg)
{
    (void)arg;
    ASSERT_ERR(fibril_join(fibril_current(), FIBRIL_FOREVER, NULL), -EDEADLK);
    return 0;
}

TEST(joining_oneself_is_refused)
{
    ASSERT_EQ(run_both(join_self), 0);
}

static int set_flag(void *arg)
{
    fibril_yield();
    *(bool *)arg = true;
    return 0;
}

static bool ran;

static int leave_one(void *arg)
{
    return fibril_spawn(set_flag, &ran, arg, NULL);
}

TEST(run_waits_for_detached_fibrils)
{
    for (size_t i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.stack = policies[i]};
        ran = false;
        ASSERT_OK(fibril_run(NULL, leave_one, &opts));
        ASSERT(ran);
    }
}

static int wait_for_ever(void *arg)
{
    *(int *)arg = fibril_sleep_until(FIBRIL_FOREVER);
    return 0;
}

static int daemon_result;

static int leave_daemon(void *arg)
{
    struct fibril_spawn_opts opts = *(struct fibril_spawn_opts *)arg;
    opts.daemon = true;
    ASSERT_OK(fibril_spawn(wait_for_ever, &daemon_result, &opts, NULL));
    return fibril_yield();
}

TEST(daemons_are_cancelled_when_the_loop_ends)
{
    for (size_t i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.stack = policies[i]};
        daemon_result = 0;
        ASSERT_OK(fibril_run(NULL, leave_daemon, &opts));
        ASSERT_EQ(daemon_result, -ECANCELED);
    }
}

/* What a daemon starts on its way out. */
static int start_another(void *arg)
{
    ASSERT_ERR(fibril_sleep_until(FIBRIL_FOREVER), -ECANCELED);
    ASSERT_OK(fibril_spawn(wait_for_ever, &daemon_result, arg, NULL));
    return 0;
}

static int leave_starter(void *arg)
{
    ASSERT_OK(fibril_spawn(start_another, arg, arg, NULL));
    return fibril_yield();
}

TEST(daemons_that_begin_when_the_loop_ends_are_cancelled_too)
{
    for (size_t i = 0; i < 2; i++) {
        struct fibril_spawn_opts opts = {.stack = policies[i], .daemon = true};
        daemon_result = 0;
        ASSERT_OK(fibril_run(NULL, leave_starter, &opts));
        ASSERT_EQ(daemon_result, -ECANCELED);
    }
}

static int detach_running(void *arg)
{
    struct fibril *f;
    ASSERT_OK(fibril_spawn(set_flag, &ran, arg, &f));
    fibril_detach(f);
    fibril_detach(NULL);
    return 0;
}

TEST(detached_fibril_runs_to_its_end)
{
    ran = false;
    ASSERT_EQ(run_both(detach_running), 0);
    ASSERT(ran);
}

/* ---- order ---- */

static int three_take_turns(void *arg)
{
    ASSERT_OK(fibril_spawn(note_name_thrice, "a", arg, NULL));
    ASSERT_OK(fibril_spawn(note_name_thrice, "b", arg, NULL));
    ASSERT_OK(fibril_spawn(note_name_thrice, "c", arg, NULL));
    for (int i = 0; i < 4; i++) {
        fibril_yield();
    }
    return 0;
}

TEST(ready_fibrils_run_first_in_first_out)
{
#if FIBRIL_HARD
    SKIP("the hard flavour shuffles the run queue");
#endif
    ASSERT_EQ(run_both(three_take_turns), 0);
    ASSERT_STR(trace, "abcabcabc");
}

static int spawn_does_not_switch(void *arg)
{
    note('1');
    ASSERT_OK(fibril_spawn(note_name_thrice, "x", arg, NULL));
    note('2');
    return 0;
}

TEST(spawn_does_not_run_the_new_fibril_at_once)
{
    ASSERT_EQ(run_both(spawn_does_not_switch), 0);
    ASSERT_STR(trace, "12xxx");
}

static int yield_alone(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

TEST(yield_of_the_only_fibril_returns)
{
    ASSERT_EQ(run_both(yield_alone), 0);
}

/* ---- many and mixed ---- */

enum { MANY = 2000 };

static int add_up(void *arg)
{
    int sum = 0;
    for (int i = 0; i < 5; i++) {
        sum += i;
        fibril_yield();
    }
    *(long *)arg += sum;
    return sum;
}

static int mix_policies(void *arg)
{
    (void)arg;
    static struct fibril *all[MANY];
    long total = 0;
    for (int i = 0; i < MANY; i++) {
        struct fibril_spawn_opts opts = {.stack = policies[i % 3 == 0]};
        ASSERT_OK(fibril_spawn(add_up, &total, &opts, &all[i]));
    }
    for (int i = 0; i < MANY; i++) {
        int result;
        ASSERT_OK(fibril_join(all[i], FIBRIL_FOREVER, &result));
        ASSERT_EQ(result, 10);
    }
    ASSERT_EQ(total, 10L * MANY);
    return 0;
}

TEST(policies_mix_on_one_loop)
{
    ASSERT_OK(fibril_run(NULL, mix_policies, NULL));
}

static int depth_of(int n)
{
    volatile char frame[100];
    memset((char *)(uintptr_t)frame, n, sizeof frame);
    if (n > 0) {
        int below = depth_of(n - 1);
        ASSERT_EQ(frame[99], (char)n);
        return below + 1;
    }
    fibril_yield();
    return 0;
}

static int go_deep(void *arg)
{
    int n = *(int *)arg;
    ASSERT_EQ(depth_of(n), n);
    fibril_yield();
    ASSERT_EQ(depth_of(n / 2), n / 2);
    return 0;
}

static int deep_and_shallow(void *arg)
{
    static int depths[] = {3, 200, 17, 90, 1, 150};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        ASSERT_OK(fibril_spawn(go_deep, &depths[i], arg, NULL));
    }
    return 0;
}

TEST(frames_survive_other_fibrils_at_every_depth)
{
    ASSERT_EQ(run_both(deep_and_shallow), 0);
}

/* ---- misuse ---- */

TEST(spawn_outside_a_loop_is_refused)
{
    struct fibril *f;
    ASSERT_ERR(fibril_spawn(return_seven, NULL, NULL, &f), -EPERM);
    ASSERT_EQ(fibril_current(), NULL);
    ASSERT_ERR(fibril_yield(), -EPERM);
}

static int run_again(void *arg)
{
    (void)arg;
    return fibril_run(NULL, return_seven, NULL);
}

TEST(run_inside_a_loop_is_refused)
{
    ASSERT_ERR(fibril_run(NULL, run_again, NULL), -EBUSY);
}

static int copied_with_size(void *arg)
{
    (void)arg;
    struct fibril_spawn_opts opts = {.stack = FIBRIL_STACK_COPIED, .stack_bytes = 4096};
    return fibril_spawn(return_seven, NULL, &opts, NULL);
}

TEST(copied_stack_takes_no_size)
{
    ASSERT_ERR(fibril_run(NULL, copied_with_size, NULL), -EINVAL);
}

static int yield_in_nopark(void *arg)
{
    (void)arg;
    fibril_nopark_begin();
    fibril_sleep(1000000);
    return 0;
}

TEST(parking_in_a_nopark_region_aborts)
{
    EXPECT_ABORT(fibril_run(NULL, yield_in_nopark, NULL), "non-parking");
}

TEST(unknown_poller_is_refused)
{
    struct fibril_opts opts = {.poller = "kqueue"};
    ASSERT_ERR(fibril_run(&opts, return_seven, NULL), -EINVAL);
}

/* ---- budget ---- */

static int io_that_never_waits(void *arg)
{
    bool *stop = arg;
    int fds[2];
    char c = 'x';
    ASSERT_OK(fibril_pipe(fds));
    for (int n = 0; !*stop; n++) {
        ASSERT_LT(n, 10000);
        ASSERT_EQ(fibril_write(fds[1], &c, 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(fibril_read(fds[0], &c, 1, FIBRIL_FOREVER), 1);
    }
    ASSERT_OK(fibril_close(fds[0]));
    ASSERT_OK(fibril_close(fds[1]));
    return 0;
}

static int budget_main(void *arg)
{
    static bool stop;
    stop = false;
    ASSERT_OK(fibril_spawn(io_that_never_waits, &stop, arg, NULL));
    fibril_yield();
    stop = true; /* we are back although it never had to wait */
    return 0;
}

TEST(fibril_that_never_waits_goes_to_the_back_of_the_queue)
{
    ASSERT_EQ(run_both(budget_main), 0);
}
