/* SPDX-License-Identifier: MIT */
/*
 * Random scripts against a model. A script is a run of one loop in the simulation: a few players
 * (fibrils of both stack policies) do operations that a source of choices dictates, and a model of
 * plain arrays says what each result may be. The source is a seed (tests/sim/test_script.c) or the
 * bytes of a fuzzer (fuzz/fuzz_sched.c).
 *
 * What is checked: each element that a channel took arrives once, in the order of its sender, and
 * none that it refused; an operation fails with -ETIMEDOUT only after its deadline and with
 * -ECANCELED only when cancelled; who is cancelled cannot wait; locks have the owners that the
 * model says, and are handed on first come, first served; semaphores give what they got; a join
 * gives the result, after the end; a barrier lets whole parties through; scopes outlive nobody;
 * time never runs back; and no stack changes while its fibril is parked.
 *
 * A broken rule prints what and where, and the call script_failed, which never returns.
 */
#ifndef FIBRIL_TESTS_SIM_SCRIPT_H
#define FIBRIL_TESTS_SIM_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct script {
    const uint8_t *bytes; /* choices, or NULL: drawn from the seed */
    size_t len;
    uint64_t seed; /* also that of the simulation */
    bool print;    /* every operation and its result to stderr */
};

struct script_result {
    uint64_t hash;
    int64_t virtual_ns; /* how much time went by */
    uint64_t operations, switches;
    uint64_t timeouts, cancels; /* operations that ended so: scripts that never see one test little
                                 */
};

/* Runs it. Whatever it breaks ends in script_failed. */
void script_run(const struct script *script, struct script_result *ret_result);

/* The caller's: says which script it was. */
_Noreturn void script_failed(const struct script *script, const char *file, int line,
                             const char *what);

#endif
