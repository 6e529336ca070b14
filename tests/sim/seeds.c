/* SPDX-License-Identifier: MIT */
/* See seeds.h. */
#include "seeds.h"

#include "base/alloc.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 1000, SEEDS_LONG = 10000, SEEDS_VALGRIND = 100, BATCH = 100, BATCH_SECONDS = 60 };

/* What all processes see. */
struct progress {
    uint64_t seed;
    char what[256];
    struct script_result sum;
    uint64_t hashes[SEEDS_LONG];
};

static struct progress *progress;

_Noreturn void script_failed(const struct script *script, const char *file, int line,
                             const char *what)
{
    fprintf(stderr, "%s:%d: seed %llu: broken: %s\n", file, line, (unsigned long long)script->seed,
            what);
    if (progress) {
        snprintf(progress->what, sizeof progress->what, "%s:%d: %s", file, line, what);
    }
    abort();
}

/* Plays a seed twice: the second run must be the first again. */
static struct script_result play_twice(const struct seeds *seeds, uint64_t seed, bool print)
{
    struct script script = {.seed = seed, .print = print};
    struct script_result first, second;
    seeds->run(&script, &first);
    int64_t live = fibril__alloc_live(); /* what the process keeps from now on is made by its first
                                            run */
    script.print = false;
    seeds->run(&script, &second);
    if (memcmp(&first, &second, sizeof first) != 0) {
        script_failed(&script, __FILE__, __LINE__, "the same seed gives the same run");
    }
    if (fibril__alloc_live() != live) {
        script_failed(&script, __FILE__, __LINE__, "nothing is leaked");
    }
    return first;
}

static void play_batch(const struct seeds *seeds, uint64_t first, uint64_t n)
{
    struct script_result *sum = &progress->sum;
    for (uint64_t seed = first; seed < first + n; seed++) {
        progress->seed = seed;
        struct script_result r = play_twice(seeds, seed, false);
        progress->hashes[seed - 1] = r.hash;
        sum->operations += r.operations;
        sum->switches += r.switches;
        sum->timeouts += r.timeouts;
        sum->cancels += r.cancels;
        sum->virtual_ns += r.virtual_ns / 1000000000;
    }
}

static void report(const struct seeds *seeds, int status)
{
    fprintf(stderr, "seed %llu failed; to play it again:\n    FIBRIL_SIM_SEED=%llu %s %s\n",
            (unsigned long long)progress->seed, (unsigned long long)progress->seed,
            program_invocation_name, seeds->test);
    const char *how =
        WIFSIGNALED(status) ? WTERMSIG(status) == SIGALRM ? "hangs" : "crashes" : "ends";
    test_fail(__FILE__, __LINE__, "FIBRIL_SIM_SEED=%llu %s %s", (unsigned long long)progress->seed,
              how, progress->what);
}

static void run_batch(const struct seeds *seeds, uint64_t first, uint64_t n)
{
    pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        alarm(BATCH_SECONDS * (test_is_slow() ? 20 : 1));
        play_batch(seeds, first, n);
        exit(EXIT_SUCCESS);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        ASSERT_EQ(errno, EINTR);
    }
    if (status != 0) {
        report(seeds, status);
    }
}

static void play_named(const struct seeds *seeds, const char *text)
{
    struct script_result r = play_twice(seeds, strtoull(text, NULL, 0), true);
    fprintf(stderr, "hash %016llx, %llu operations, %llu switches, %lld ns\n",
            (unsigned long long)r.hash, (unsigned long long)r.operations,
            (unsigned long long)r.switches, (long long)r.virtual_ns);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Schedules differ, and scripts see the things that they are for. */
static void check_whole(const struct seeds *seeds, uint64_t n)
{
    qsort(progress->hashes, n, sizeof progress->hashes[0], by_value);
    for (uint64_t i = 1; i < n; i++) {
        ASSERT(progress->hashes[i] != progress->hashes[i - 1]);
    }
    const struct script_result *sum = &progress->sum;
    fprintf(stderr, "%llu seeds: %llu operations, %llu timeouts, %llu cancellations, %lld s\n",
            (unsigned long long)n, (unsigned long long)sum->operations,
            (unsigned long long)sum->timeouts, (unsigned long long)sum->cancels,
            (long long)sum->virtual_ns);
    ASSERT_GT(sum->operations, n * seeds->operations);
    ASSERT_GT(sum->timeouts, n * seeds->timeouts);
    ASSERT_GT(sum->cancels, n * seeds->cancels);
}

void seeds_play(const struct seeds *seeds)
{
    const char *named = getenv("FIBRIL_SIM_SEED");
    uint64_t n = test_is_long() ? SEEDS_LONG : test_is_valgrind() ? SEEDS_VALGRIND : SEEDS;
    if (named) {
        play_named(seeds, named);
        return;
    }
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(progress != MAP_FAILED);
    for (uint64_t seed = 1; seed <= n; seed += BATCH) {
        run_batch(seeds, seed, BATCH);
    }
    check_whole(seeds, n);
}
