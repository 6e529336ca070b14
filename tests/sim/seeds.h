/* SPDX-License-Identifier: MIT */
/*
 * Scripts from seeds, each played twice. A process plays a batch of seeds and says in shared memory
 * which one it is at, so that a seed that crashes or hangs is named as well, with the command that
 * plays it again:
 *
 *     FIBRIL_SIM_SEED=N PROGRAM TEST
 *
 * plays that one seed in this process and prints each operation.
 */
#ifndef FIBRIL_TESTS_SIM_SEEDS_H
#define FIBRIL_TESTS_SIM_SEEDS_H

#include "script.h"

struct seeds {
    const char *test; /* its name */
    void (*run)(const struct script *script, struct script_result *ret_result);
    uint64_t operations; /* at least so many in a script, on average; and timeouts, cancellations */
    uint64_t timeouts, cancels;
};

/* Plays 1,000 seeds, 10,000 in the long runs, 100 under valgrind; fails the test if any breaks a
 * rule, two runs of one differ, two seeds do the same, or scripts see too little. */
void seeds_play(const struct seeds *seeds);

#endif
