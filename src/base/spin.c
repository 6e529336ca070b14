/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a spin lock. Reads until the lock looks free, so that the holder's cache line is left
 * alone, and offers the processor to others now and then: with fewer processors than loops the
 * holder may not be running.
 */
#include "base/spin.h"

#include <sched.h>

enum { ROUNDS_PER_OFFER = 128 };

void fibril__spin_wait(struct fibril__spin *s)
{
    unsigned rounds = 0;
    do {
        while (__atomic_load_n(&s->held, __ATOMIC_RELAXED)) {
            fibril__turn_spin();
            if (++rounds % ROUNDS_PER_OFFER) {
                cpu_relax();
            } else {
                sched_yield();
            }
        }
    } while (__atomic_exchange_n(&s->held, 1, __ATOMIC_ACQUIRE));
}
