/* SPDX-License-Identifier: MIT */
/*
 * Sleeping. A sleep that a signal ends tells how much was left, and is never begun again
 * (signal(7)). One that fibril_cancel ends is over, and succeeds: callers answer every error that a
 * sleep can have by sleeping on, which the cancelled fibril could not; but those of a language
 * runtime that raises an exception fail. Clocks that count processor
 * time are left to the kernel, on a thread of the pool.
 */
#include "base/alloc.h"
#include "posix/io_calls.h"
#include "posix/thread.h"

enum { NS_PER_S = 1000000000, NS_PER_US = 1000 };

/* What becomes of a cancellation; that of pthread_cancel ends the thread. */
static int over_for(int rc, const void *caller)
{
    if (rc == -ECANCELED) {
        fibril__thread_heed_cancel();
        bool raises = fibril__posix_on_cancelled && fibril__posix_on_cancelled(caller);
        rc = raises ? rc : 0;
    }
    return rc;
}

static int over(int rc)
{
    return over_for(rc, NULL);
}

static int64_t left_of(int64_t deadline_ns)
{
    int64_t left = deadline_ns - fibril_now();
    return left > 0 ? left : 0;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

/* ---- relative -------------------------------------------------------------------------------- */

unsigned fibril_posix_sleep(unsigned seconds)
{
    if (!fibril__on_loop()) {
        return sleep(seconds);
    }
    int saved = errno;
    int64_t deadline_ns = fibril_after((int64_t)seconds * NS_PER_S);
    int rc = over(fibril_sleep_until(deadline_ns));
    errno = saved;
    return rc < 0 ? (unsigned)((left_of(deadline_ns) + NS_PER_S - 1) / NS_PER_S) : 0;
}

int fibril_posix_usleep(useconds_t us)
{
    if (!fibril__on_loop()) {
        return usleep(us);
    }
    int saved = errno;
    return (int)fibril__posix_result(over(fibril_sleep((int64_t)us * NS_PER_US)), saved);
}

static int sleep_in(const struct timespec *in, struct timespec *left)
{
    int64_t deadline_ns;
    int rc = fibril__deadline_in(in, &deadline_ns);
    rc = rc < 0 ? rc : over(fibril_sleep_until(deadline_ns));
    if (rc == -EINTR && left) {
        *left = timespec_of(left_of(deadline_ns));
    }
    return rc;
}

int fibril_posix_nanosleep(const struct timespec *in, struct timespec *left)
{
    if (!fibril__on_loop()) {
        return nanosleep(in, left);
    }
    int saved = errno;
    return (int)fibril__posix_result(sleep_in(in, left), saved);
}

/* ---- on a clock ------------------------------------------------------------------------------ */

struct clocked {
    clockid_t clock;
    int flags;
    struct timespec time;
};

static int sleep_really(void *arg)
{
    struct clocked *c = arg;
    return -clock_nanosleep(c->clock, c->flags, &c->time, NULL);
}

static int sleep_in_pool(clockid_t clock, int flags, const struct timespec *time)
{
    struct clocked *c = fibril__alloc(sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    *c = (struct clocked){.clock = clock, .flags = flags, .time = *time};
    int rc = fibril_offload(sleep_really, c, FIBRIL_FOREVER);
    fibril__free(c);
    return rc;
}

static bool runs_with_time(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
           clock == CLOCK_TAI;
}

static int sleep_at(clockid_t clock, const struct timespec *at, const void *caller)
{
    int64_t deadline_ns;
    if (at->tv_sec < 0) {
        return -EINVAL;
    }
    int rc = fibril__deadline_at(clock, at, &deadline_ns);
    return rc < 0 ? rc : over_for(fibril_sleep_until(deadline_ns), caller);
}

int fibril_posix_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                 struct timespec *left)
{
    bool counts_process = clock == CLOCK_PROCESS_CPUTIME_ID;
    if (!fibril__on_loop() || !(runs_with_time(clock) || counts_process)) {
        return clock_nanosleep(clock, flags, time, left);
    }
    int saved = errno, rc;
    if (counts_process) {
        rc = sleep_in_pool(clock, flags, time);
    } else if (flags & TIMER_ABSTIME) {
        rc = sleep_at(clock, time, __builtin_return_address(0));
    } else {
        rc = sleep_in(time, left);
    }
    return fibril__posix_error(rc, saved);
}

int fibril_posix_sched_yield(void)
{
    if (!fibril__on_loop()) {
        return sched_yield();
    }
    int saved = errno;
    if (!fibril_embed_next()) {
        sched_yield(); /* whom the caller waits for may be an OS thread */
    }
    fibril_yield();
    errno = saved;
    return 0;
}

const struct fibril__call fibril__calls_sleep[] = {
    FIBRIL__CALL(sleep),
    FIBRIL__CALL(usleep),
    FIBRIL__CALL(nanosleep),
    FIBRIL__CALL_AS(__nanosleep, nanosleep),
    FIBRIL__CALL(clock_nanosleep),
    FIBRIL__CALL(sched_yield),
    FIBRIL__CALL_AS(__sched_yield, sched_yield),
    {NULL, NULL, false, NULL},
};
