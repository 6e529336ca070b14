/* SPDX-License-Identifier: MIT */
/*
 * What a condition needs of a mutex: to leave it however often it is locked, and to come back to
 * that.
 */
#ifndef FIBRIL_SYNC_MUTEX_H
#define FIBRIL_SYNC_MUTEX_H

#include "sync/waiters.h"

/* Unlocks m, which the caller owns, altogether and returns how often it was locked. */
unsigned fibril__mutex_leave(struct fibril_mutex *m);

/* Locks m `depth` deep, whatever it takes: shielded, without a deadline. Returns 0, or -EDEADLK
 * where the runtime reports a deadlock that way (m is then not locked). */
int fibril__mutex_return(struct fibril_mutex *m, unsigned depth);

#endif
