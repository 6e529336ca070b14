/* SPDX-License-Identifier: MIT */
/*
 * What every micro benchmark measures with, fibril's own and the C and C++ peers alike: processor
 * time of the process (it stays steady when other work shares the machine, wall time does not),
 * memory as the kernel counts it (resident pages plus the page tables that hold them; a widely
 * spaced stack costs both), and one JSON line per figure, which run.py collects.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Processor time of the process so far, in nanoseconds, user and system. */
static inline int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t wall_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Resident memory plus page tables of process `pid` (0: this one), in bytes; -1 if it is not there.
 */
static inline int64_t memory_bytes(int pid)
{
    char path[64], line[256];
    long kb, sum = 0;
    int found = 0;
    FILE *f;

    if (pid) {
        snprintf(path, sizeof(path), "/proc/%d/status", pid);
    } else {
        snprintf(path, sizeof(path), "/proc/self/status");
    }
    f = fopen(path, "r");
    if (!f) {
        return -1;
    }
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "VmRSS: %ld", &kb) == 1 || sscanf(line, "VmPTE: %ld", &kb) == 1) {
            sum += kb;
            found++;
        }
    }
    fclose(f);
    return found == 2 ? (int64_t)sum * 1024 : -1;
}

/* Prints one figure. */
static inline void row(const char *what, const char *metric, double value)
{
    printf("{\"case\": \"%s\", \"metric\": \"%s\", \"value\": %.3f}\n", what, metric, value);
    fflush(stdout);
}

/* The same, for the figure at n threads. */
static inline void row_at(long n, const char *metric, double value)
{
    char what[32];
    snprintf(what, sizeof(what), "%ld", n);
    row(what, metric, value);
}

/* A sleep of 100 to 1,099 ms. Every program draws from this sequence (a linear congruential
 * generator), so all of them sleep alike. */
static inline int64_t next_sleep_ms(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(100 + (*state >> 33) % 1000);
}

enum {
    SLEEP_ROUNDS = 4,        /* sleeps of each sleeper */
    STACK_BYTES = 64 * 1024, /* of C and C++ peers that let one choose */
};

/* What the command line `PROG BENCH [N]` asks for. */
static inline long count_arg(int argc, char **argv, long otherwise)
{
    return argc > 2 ? strtol(argv[2], NULL, 10) : otherwise;
}

#endif
