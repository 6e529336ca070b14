/* SPDX-License-Identifier: MIT */
/*
 * The table of spawn sites of a loop, under fibril_opts.measure_stacks.
 */
#ifndef FIBRIL_SCHED_SITES_H
#define FIBRIL_SCHED_SITES_H

#include <fibril/fibril.h>

enum { FIBRIL__SITES_LOG2 = 9, FIBRIL__SITES_MAX = 1 << FIBRIL__SITES_LOG2 };

struct fibril__sites {
    struct fibril_site entries[FIBRIL__SITES_MAX];
};

int fibril__sites_new(struct fibril__sites **ret_sites);

#endif
