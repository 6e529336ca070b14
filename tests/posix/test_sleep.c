/* SPDX-License-Identifier: MIT */
/*
 * sleep, usleep, nanosleep, clock_nanosleep and sched_yield. No assertion on how long anything took
 * but that a sleep is not over before its time, by the clock it is measured with.
 */
#include "io_rig.h"

#include <time.h>

enum { LONG_S = 100 };

static struct timespec left;

static void sleep_it(struct rig_call *c)
{
    c->rc = (long)fibril_posix_sleep((unsigned)c->len);
}

static void usleep_it(struct rig_call *c)
{
    c->rc = fibril_posix_usleep((useconds_t)c->len * 1000000);
}

static void nanosleep_it(struct rig_call *c)
{
    struct timespec t = {.tv_sec = (time_t)c->len};
    c->rc = fibril_posix_nanosleep(&t, &left);
}

/* Returns the error itself, so errno stays as it was. */
static void clock_it(struct rig_call *c)
{
    struct timespec t = {.tv_sec = (time_t)c->len};
    c->rc = fibril_posix_clock_nanosleep(c->flags, 0, &t, &left);
}

static int64_t now_on(clockid_t clock)
{
    struct timespec t;
    ASSERT_OK(clock_gettime(clock, &t));
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

POSIX_TEST(no_sleep_is_over_before_its_time)
{
    int64_t start = now_on(CLOCK_MONOTONIC);
    struct timespec t = {.tv_nsec = 3000000};
    ASSERT_KEEPS_ERRNO(fibril_posix_nanosleep(&t, NULL), 0);
    ASSERT_GE(now_on(CLOCK_MONOTONIC) - start, 3000000);
    ASSERT_KEEPS_ERRNO(fibril_posix_usleep(2000), 0);
    ASSERT_GE(now_on(CLOCK_MONOTONIC) - start, 5000000);
    ASSERT_KEEPS_ERRNO(fibril_posix_clock_nanosleep(CLOCK_REALTIME, 0, &t, NULL), 0);
    ASSERT_GE(now_on(CLOCK_MONOTONIC) - start, 8000000);
    ASSERT_KEEPS_ERRNO(fibril_posix_sleep(0), 0);
    return 0;
}

POSIX_TEST(an_absolute_time_is_waited_for_on_each_clock)
{
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
    for (int i = 0; i < 4; i++) {
        int64_t at = now_on(clocks[i]) + 2000000;
        struct timespec t = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
        ASSERT_KEEPS_ERRNO(fibril_posix_clock_nanosleep(clocks[i], TIMER_ABSTIME, &t, NULL), 0);
        ASSERT_GE(now_on(clocks[i]), at - 100000); /* the realtime clocks may be slewed */
        t.tv_sec = 0;
        ASSERT_EQ(fibril_posix_clock_nanosleep(clocks[i], TIMER_ABSTIME, &t, NULL), 0);
    }
    return 0;
}

POSIX_TEST(mistakes_say_what_the_kernel_says)
{
    struct timespec bad = {.tv_nsec = 1000000000}, before = {.tv_sec = -1}, soon = {.tv_nsec = 1};
    ASSERT_ERRNO(fibril_posix_nanosleep(&bad, NULL), EINVAL);
    ASSERT_ERRNO(fibril_posix_nanosleep(&before, NULL), EINVAL);
    ASSERT_KEEPS_ERRNO(fibril_posix_clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &before, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &soon, NULL), EINVAL);
    ASSERT_EQ(fibril_posix_clock_nanosleep(12345, 0, &soon, NULL), EINVAL);
    return 0;
}

POSIX_TEST(others_run_while_one_sleeps)
{
    static struct rig_call calls[100];
    for (int i = 0; i < 100; i++) {
        calls[i] = (struct rig_call){.call = nanosleep_it, .len = LONG_S};
        rig_start(&calls[i]);
        ASSERT(!calls[i].over);
    }
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(fibril_cancel(calls[i].fibril));
        ASSERT_EQ(rig_end(&calls[i]), 0); /* a sleep that is cancelled is over */
    }
    return 0;
}

POSIX_TEST(an_interrupted_sleep_tells_what_is_left)
{
    static struct rig_call c;
    c = (struct rig_call){.call = nanosleep_it, .len = LONG_S};
    rig_interrupt_ends_it(&c);
    ASSERT_GE(left.tv_sec, LONG_S / 2);
    ASSERT_LE(left.tv_sec, LONG_S);
    c = (struct rig_call){.call = usleep_it, .len = LONG_S};
    rig_interrupt_ends_it(&c);
    c = (struct rig_call){.call = sleep_it, .len = LONG_S};
    rig_start(&c);
    fibril_embed_interrupt(c.fibril);
    ASSERT_GE(rig_end(&c), LONG_S / 2);
    c = (struct rig_call){.call = clock_it, .len = LONG_S, .flags = CLOCK_MONOTONIC};
    left.tv_sec = 0;
    rig_start(&c);
    fibril_embed_interrupt(c.fibril);
    ASSERT_EQ(rig_end(&c), EINTR);
    ASSERT_GE(left.tv_sec, LONG_S / 2);
    return 0;
}

static int yields_of_other;

static int count_yields(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        yields_of_other++;
        fibril_posix_sched_yield();
    }
    return 0;
}

POSIX_TEST(a_yield_lets_the_others_run)
{
    yields_of_other = 0;
    struct fibril *f = io_start(count_yields, NULL);
    for (int i = 1; i <= 10; i++) {
        ASSERT_KEEPS_ERRNO(fibril_posix_sched_yield(), 0);
#if !FIBRIL_HARD /* which turns the queue */
        ASSERT_EQ(yields_of_other, i);
#endif
    }
    ASSERT_EQ(io_end(f), 0);
    ASSERT_EQ(fibril_posix_sched_yield(), 0);
    return 0;
}
