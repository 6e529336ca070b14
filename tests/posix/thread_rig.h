/* SPDX-License-Identifier: MIT */
/*
 * Tests of threads and locks call the covered functions by their own names (posix/calls.h), so that
 * libc's are at hand too, for the foreign OS threads. Each body runs as the main fibril of a loop
 * on which the layer is installed.
 */
#ifndef FIBRIL_TESTS_POSIX_THREAD_RIG_H
#define FIBRIL_TESTS_POSIX_THREAD_RIG_H

#include "posix/calls.h"
#include "posix/thread.h"
#include "test.h"

#include <fibril/fibril.h>

enum { RIG_MS = 1000000 };

/* Runs body on a loop with the layer; a deadlock that is found is returned by the waits. */
void rig_run(void (*body)(void));

/* As TEST, with such a loop. */
#define ON_LOOP(name)                                                                              \
    static void on_loop_##name(void);                                                              \
    TEST_WITHIN(name, 60)                                                                          \
    {                                                                                              \
        rig_run(on_loop_##name);                                                                   \
    }                                                                                              \
    static void on_loop_##name(void)

/* A thread that is a fibril of this loop; rig_end joins it and returns its result. */
pthread_t rig_go(void *(*start)(void *), void *arg);
void *rig_end(pthread_t thread);

/* Lets all others run until they park, many times over. */
void rig_settle(void);

/* Runs fn(arg) on n OS threads without a loop; rig_foreign_end waits for all. */
enum { RIG_FOREIGN_MAX = 8 };
void rig_foreign(unsigned n, void *(*fn)(void *), void *arg);
void rig_foreign_end(void);

/* An absolute time that lies ms milliseconds from now (in the past if negative). */
struct timespec rig_time(clockid_t clock, int ms);

/* Numbers from a seed. */
static inline uint32_t rig_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

#endif
