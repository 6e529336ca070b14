/* SPDX-License-Identifier: MIT */
/*
 * Several OS threads that run in strict turns, so that what they do to each other follows from a
 * seed. One of them, the one whose turn it is, runs; the others stand still. At each point where
 * what another thread does could matter (before and after a spin lock, around each step of sending
 * to an inbox, before a loop sleeps) the seed says whether, and to whom, the turn passes.
 *
 * The members share one virtual clock, which moves only when all of them rest, to the earliest
 * moment that one of them rests until; or by what a member says it took.
 *
 * Off (fibril__turns_on is false) a point is a load and a branch that is never taken. Rejected:
 * loops as coroutines of one OS thread, since every thread-local of the library and of libc would
 * have to be swapped, and what is tested would be another program.
 */
#ifndef FIBRIL_BASE_TURNS_H
#define FIBRIL_BASE_TURNS_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

extern bool fibril__turns_on; /* changes only while the process has one member, or none */

/* Begins: the caller is the first member and has the turn. The clock stands at start_ns. */
void fibril__turns_begin(uint64_t seed, int64_t start_ns);

/* Ends, when all other members are gone. Returns a hash of who had which turn when, and of what was
 * noted. */
uint64_t fibril__turns_end(void);

/* A place for an OS thread that the caller is about to start; -1 when off or not a member. That
 * thread enters first of all, and leaves as its last act: whoever waits for it by pthread_join
 * waits here first, until it is gone. -1 does nothing. */
int fibril__turns_add(void);
void fibril__turns_enter(int member);
void fibril__turns_leave(void);
void fibril__turns_await(int member);

/* The caller's place, or -1. */
int fibril__turns_self(void);

/* The variable that follows the clock while the caller has the turn, or NULL. */
void fibril__turns_follow(int64_t *clock);

/* The clock has come to now_ns, as the caller, who has the turn, says. */
void fibril__turns_pass(int64_t now_ns);

/* Rests until then, or until somebody wakes this member. Wakes one that rests or not; any thread.
 */
void fibril__turns_rest(int64_t until_ns);
void fibril__turns_wake(int member);

/* Puts a value into the hash. */
void fibril__turns_note(uint64_t value);

/* Out of line: the turn may pass; it passes, if there is anybody else to have it. */
void fibril__turns_may_pass(void);
void fibril__turns_give(void);

static inline void fibril__turn_point(void)
{
    if (UNLIKELY(fibril__turns_on)) {
        fibril__turns_may_pass();
    }
}

/* In a loop that spins until another thread has done something. */
static inline void fibril__turn_spin(void)
{
    if (UNLIKELY(fibril__turns_on)) {
        fibril__turns_give();
    }
}

#endif
