/* SPDX-License-Identifier: MIT */
/*
 * What the tests of processes, signals and names share. They call fibril_posix_NAME directly,
 * without an installation; the body is the main fibril of a loop that the layer takes for its own.
 * The build runs each program once per poller.
 */
#ifndef FIBRIL_TESTS_POSIX_PROCESS_RIG_H
#define FIBRIL_TESTS_POSIX_PROCESS_RIG_H

#include "posix/process_calls.h"
#include "posix/thread.h"
#include "test.h"

#define PROCESS_TEST(name)                                                                         \
    static int body_##name(void *arg);                                                             \
    TEST(name)                                                                                     \
    {                                                                                              \
        process_run(body_##name);                                                                  \
    }                                                                                              \
    static int body_##name(void *arg)

enum { PROCESS_WELL = 42 }; /* what a child exits with */

void process_run(fibril_fn *body);

/* Starts a fibril that counts up every half millisecond until it is stopped: who blocks the OS
 * thread is found out. */
struct process_clock {
    struct fibril *fibril;
    int ticks;
    bool stop;
};
void process_clock_start(struct process_clock *c);
int process_clock_stop(struct process_clock *c);

/* Really forks; the child sleeps so long, really, and exits with PROCESS_WELL. */
int process_child(int ms);

/* Starts a fibril. */
struct fibril *process_start(fibril_fn *fn, void *arg);

#define ASSERT_ERRNO(call, number)                                                                 \
    do {                                                                                           \
        errno = 0;                                                                                 \
        ASSERT_EQ((call), -1);                                                                     \
        ASSERT_EQ(errno, (number));                                                                \
    } while (0)

#endif
