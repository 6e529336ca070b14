/* SPDX-License-Identifier: MIT */
/*
 * The kernel's monotonic clock. Loops ask their poller instead, which may run in virtual time.
 */
#ifndef FIBRIL_BASE_CLOCK_H
#define FIBRIL_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC. Async-signal-safe. */
int64_t fibril__clock_now(void);

#endif
