/* SPDX-License-Identifier: MIT */
/*
 * Mutexes of the program, waited for by fibrils. They stay real ones of libc: a fibril takes one by
 * a real try and waits in the table of addresses, so foreign OS threads and libc itself may use the
 * same mutex.
 */
#ifndef FIBRIL_POSIX_MUTEX_H
#define FIBRIL_POSIX_MUTEX_H

#include "posix/address.h"

/* Locks m for the calling fibril: 0 or an error number (ETIMEDOUT, EDEADLK, EOWNERDEAD, ...).
 * Cancellation does not end it. MAY PARK. */
int fibril__mutex_lock(pthread_mutex_t *m, int64_t deadline_ns);

/* Unlocks it and wakes who waits for it: 0 or EPERM. Never parks. */
int fibril__mutex_unlock(pthread_mutex_t *m);

#endif
