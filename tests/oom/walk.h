/* SPDX-License-Identifier: MIT */
/*
 * Runs a scenario with 0, 1, 2, ... allocations granted, and all later ones refused, until it
 * succeeds. Each time it must say -ENOMEM and nothing else, and what it had made must be gone.
 * Cold: from the first run of a process on, when the tables that it keeps are made; warm: after a
 * run that succeeded, when a single allocation that stays is a leak.
 */
#ifndef FIBRIL_TESTS_OOM_WALK_H
#define FIBRIL_TESTS_OOM_WALK_H

#include "test.h"

#include <fibril/fibril.h>

extern const struct fibril_opts walk_simulated;
extern const struct fibril_opts walk_real; /* $FIBRIL_POLLER */

/* There have to be at least points_min allocations that can fail. */
void walk(fibril_fn *scenario, const struct fibril_opts *opts, int points_min);

/* Memory is there again, for an end in good order. */
void grant(void);

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_rc_ = (int)(call);                                                                 \
        if (try_rc_ < 0) {                                                                         \
            rc = try_rc_;                                                                          \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

#endif
