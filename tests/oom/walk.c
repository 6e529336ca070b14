/* SPDX-License-Identifier: MIT */
/* See walk.h. */
#include "walk.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { POINTS_MAX = 5000 };

const struct fibril_opts walk_simulated = {.poller = "sim", .seed = 7};
const struct fibril_opts walk_real = {.poller = NULL};

/* Runs it with every number of granted allocations until it succeeds; returns how often it failed.
 */
static int walk_once(fibril_fn *scenario, const struct fibril_opts *opts, bool warm)
{
    for (int n = 0; n < POINTS_MAX; n++) {
        int64_t live = fibril__alloc_live();
        fibril__alloc_fail_after(n);
        int rc = fibril_run(opts, scenario, NULL);
        fibril__alloc_fail_after(-1);
        if (warm && fibril__alloc_live() != live) {
            test_fail(__FILE__, __LINE__,
                      "%lld allocations left after the one that failed was number %d",
                      (long long)(fibril__alloc_live() - live), n);
        }
        if (rc == 0) {
            return n;
        }
        if (rc != -ENOMEM) {
            test_fail(__FILE__, __LINE__, "%d (%s) when allocation number %d failed", rc,
                      strerror(-rc), n);
        }
    }
    test_fail(__FILE__, __LINE__, "no success within %d allocations", POINTS_MAX);
}

void walk(fibril_fn *scenario, const struct fibril_opts *opts, int points_min)
{
    int cold = walk_once(scenario, opts, false);
    int warm = walk_once(scenario, opts, true);
    fprintf(stderr, "%d points cold, %d warm\n", cold, warm);
    ASSERT_GE(warm, points_min);
    ASSERT_GE(cold, warm);
}

void grant(void)
{
    fibril__alloc_fail_after(-1);
}
