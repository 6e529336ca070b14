/* SPDX-License-Identifier: MIT */
/*
 * What the observer, above, asks about fibrils and loops. Looking goes two ways: on the loop of the
 * thing itself everything may be read; from any OS thread only records of fibrils, which lie in
 * slots that stay mapped, and only what is good for sorting.
 */
#ifndef FIBRIL_DEBUG_LOOK_H
#define FIBRIL_DEBUG_LOOK_H

#include <fibril/observe.h>

/* What is known of a fibril from outside. */
struct fibril__glance {
    const struct fibril *fibril;
    uint64_t id;
    int64_t since_ns; /* when */
    unsigned loop;
};

/* Calls fn for each fibril of the process. Any OS thread. */
void fibril__look_each(void (*fn)(const struct fibril__glance *g, void *arg), void *arg);

/* Reads when f, the fibril of a record that may be gone meanwhile, came into its state. */
int64_t fibril__look_since(const struct fibril *f);

/* Fills in what f is, if it still is the one of that number and of the calling loop; false: it is
 * not. */
bool fibril__look_fibril(const struct fibril *f, uint64_t id, struct fibril_observed_fibril *ret);

/* Fills in the row of the calling loop. */
void fibril__look_loop(struct fibril_observed_loop *ret);

/* The name of code at an address. */
void fibril__look_code(const void *address, char *text, size_t size);

/* ---- cpu.c: processor time of fibrils ---- */

/* Has the calling loop count it from now on, or no more. 0 or -ENOMEM. */
int fibril__cpu_count(bool on);
/* What has been counted for f by the loop of that number. Any OS thread; f may be gone. */
int64_t fibril__cpu_of(const struct fibril *f, unsigned loop);

#endif
