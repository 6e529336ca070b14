/* SPDX-License-Identifier: MIT */
/* See thread_rig.h. */
#include "thread_rig.h"

static const struct fibril_opts loop_opts = {.deadlock = FIBRIL_DEADLOCK_RETURN};

static int run(void *arg)
{
    void (*const *body)(void) = arg;
    struct fibril_posix_opts opts = {.threads = FIBRIL_POSIX_THREADS_NONE};
    ASSERT_OK(fibril_posix_install(&opts));
    (*body)();
    ASSERT_OK(fibril_posix_uninstall());
    return 0;
}

void rig_run(void (*body)(void))
{
    static void (*kept)(void);
    kept = body;
    ASSERT_EQ(fibril_run(&loop_opts, run, &kept), 0);
}

pthread_t rig_go(void *(*start)(void *), void *arg)
{
    pthread_t thread;
    ASSERT_EQ(fibril_posix_pthread_create(&thread, NULL, start, arg), 0);
    return thread;
}

void *rig_end(pthread_t thread)
{
    void *result;
    ASSERT_EQ(fibril_posix_pthread_join(thread, &result), 0);
    return result;
}

void rig_settle(void)
{
    for (int i = 0; i < 200; i++) {
        fibril_yield();
    }
}

static pthread_t foreign[RIG_FOREIGN_MAX];
static unsigned foreign_len;

void rig_foreign(unsigned n, void *(*fn)(void *), void *arg)
{
    for (unsigned i = 0; i < n; i++) {
        ASSERT_LT(foreign_len, RIG_FOREIGN_MAX);
        ASSERT_EQ(pthread_create(&foreign[foreign_len++], NULL, fn, arg), 0);
    }
}

void rig_foreign_end(void)
{
    while (foreign_len > 0) {
        ASSERT_EQ(fibril_posix_pthread_join(foreign[--foreign_len], NULL), 0);
    }
}

struct timespec rig_time(clockid_t clock, int ms)
{
    struct timespec t;
    ASSERT_OK(clock_gettime(clock, &t));
    int64_t ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + (int64_t)ms * RIG_MS;
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}
