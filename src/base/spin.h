/* SPDX-License-Identifier: MIT */
/*
 * The lock of a FIBRIL_SHARED object's few words and lists. It is taken only when the object is
 * shared: for all others it is one predictable branch and no atomic instruction. Nobody parks,
 * allocates, wakes or copies a large element while holding one, and whoever needs several takes
 * them in the order in which they were made.
 *
 * Rejected: a futex. A loop that sleeps in the kernel stops all its fibrils, and the sections are a
 * few dozen instructions; after some rounds the spinner offers its processor, which is all that a
 * preempted holder needs.
 */
#ifndef FIBRIL_BASE_SPIN_H
#define FIBRIL_BASE_SPIN_H

#include "base/compiler.h"
#include "base/turns.h"

#include <stdbool.h>

struct fibril__spin {
    bool shared;        /* set once, when the object is made */
    unsigned char held; /* exchange acquires, pairs with the release store of unlock */
};

/* Spins until s is free and takes it: the contended case. */
void fibril__spin_wait(struct fibril__spin *s);

static inline void fibril__spin_lock(struct fibril__spin *s)
{
    if (UNLIKELY(s->shared)) {
        fibril__turn_point();
        if (__atomic_exchange_n(&s->held, 1, __ATOMIC_ACQUIRE)) {
            fibril__spin_wait(s);
        }
        fibril__turn_point();
    }
}

static inline void fibril__spin_unlock(struct fibril__spin *s)
{
    if (UNLIKELY(s->shared)) {
        __atomic_store_n(&s->held, 0, __ATOMIC_RELEASE);
        fibril__turn_point();
    }
}

#endif
