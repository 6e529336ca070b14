/* SPDX-License-Identifier: MIT */
/*
 * See turns.h. All state is under one lock; each member sleeps on a condition of its own, so that a
 * turn wakes one OS thread. A member that has been given a place and has not entered yet may be
 * given the turn: everybody waits until it comes, and so it does not matter how long its start
 * takes.
 */
#include "base/turns.h"

#include "base/assert.h"

#include <pthread.h>

enum { MEMBERS = 32, NOBODY = -1 };

/* Of four points that could pass the turn, one does. */
enum { KEEP_MASK = 3 };

struct member {
    pthread_cond_t turn;
    int64_t until_ns; /* does not run before; INT64_MIN: it runs */
    int64_t *clock;
    bool gone;
};

static struct {
    pthread_mutex_t lock;
    struct member members[MEMBERS];
    int count;
    int now; /* who has the turn */
    int64_t now_ns;
    uint64_t random, hash;
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool fibril__turns_on;
static _Thread_local int self = NOBODY;

/* ---- chance and trace ------------------------------------------------------------------------ */

static uint64_t draw(void)
{
    uint64_t z = turns.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void mix(uint64_t value)
{
    turns.hash = (turns.hash ^ value) * UINT64_C(0x100000001b3);
    turns.hash ^= turns.hash >> 29;
}

void fibril__turns_note(uint64_t value)
{
    if (fibril__turns_on && self != NOBODY) {
        mix(value);
    }
}

/* ---- whose turn it is; under the lock -------------------------------------------------------- */

static bool may_run(const struct member *m)
{
    return !m->gone && m->until_ns <= turns.now_ns;
}

static unsigned count_runnable(int but)
{
    unsigned n = 0;
    for (int i = 0; i < turns.count; i++) {
        n += i != but && may_run(&turns.members[i]);
    }
    return n;
}

static int nth_runnable(uint64_t n, int but)
{
    for (int i = 0; i < turns.count; i++) {
        if (i != but && may_run(&turns.members[i]) && n-- == 0) {
            return i;
        }
    }
    return NOBODY;
}

/* When nobody runs, the clock goes on to the first who will. */
static void let_time_pass(void)
{
    int64_t first_ns = INT64_MAX;
    for (int i = 0; i < turns.count; i++) {
        const struct member *m = &turns.members[i];
        if (!m->gone && m->until_ns < first_ns) {
            first_ns = m->until_ns;
        }
    }
    if (first_ns == INT64_MAX) {
        fibril__panic("simulated loops: all wait, and nothing is to come");
    }
    turns.now_ns = first_ns;
}

/* Gives the turn to one of those who may run, `but` excepted, unless it is the only one. */
static void pass_turn(int but)
{
    unsigned n = count_runnable(but);
    if (n == 0 && count_runnable(NOBODY) == 0) {
        let_time_pass();
    }
    n = n ? n : count_runnable(but = NOBODY);
    int next = nth_runnable(draw() % n, but);
    turns.members[next].until_ns = INT64_MIN;
    turns.now = next;
    mix(((uint64_t)turns.now_ns << 5) + (uint64_t)next);
    if (next != self) {
        pthread_cond_signal(&turns.members[next].turn);
    }
}

static void wait_for_turn(void)
{
    struct member *m = &turns.members[self];
    while (turns.now != self) {
        pthread_cond_wait(&m->turn, &turns.lock);
    }
    if (m->clock && *m->clock < turns.now_ns) {
        *m->clock = turns.now_ns;
    }
}

static void pass_and_wait(int but)
{
    pthread_mutex_lock(&turns.lock);
    pass_turn(but);
    wait_for_turn();
    pthread_mutex_unlock(&turns.lock);
}

/* ---- points ---------------------------------------------------------------------------------- */

void fibril__turns_may_pass(void)
{
    if (self != NOBODY && (draw() & KEEP_MASK) == 0) {
        pass_and_wait(NOBODY);
    }
}

void fibril__turns_give(void)
{
    if (self != NOBODY) {
        pass_and_wait(self);
    }
}

void fibril__turns_rest(int64_t until_ns)
{
    turns.members[self].until_ns = until_ns;
    pass_and_wait(NOBODY);
}

void fibril__turns_wake(int member)
{
    pthread_mutex_lock(&turns.lock);
    turns.members[member].until_ns = INT64_MIN;
    pthread_mutex_unlock(&turns.lock);
}

void fibril__turns_pass(int64_t now_ns)
{
    if (now_ns > turns.now_ns) {
        turns.now_ns = now_ns;
    }
}

void fibril__turns_follow(int64_t *clock)
{
    if (self == NOBODY) {
        return;
    }
    turns.members[self].clock = clock;
    if (clock) {
        *clock = turns.now_ns;
    }
}

/* ---- members --------------------------------------------------------------------------------- */

int fibril__turns_self(void)
{
    return fibril__turns_on ? self : NOBODY;
}

static int add(void)
{
    FIBRIL_ASSERT(turns.count < MEMBERS);
    struct member *m = &turns.members[turns.count];
    *m = (struct member){.until_ns = INT64_MIN};
    pthread_cond_init(&m->turn, NULL);
    return turns.count++;
}

int fibril__turns_add(void)
{
    if (!fibril__turns_on || self == NOBODY) {
        return NOBODY;
    }
    pthread_mutex_lock(&turns.lock);
    int member = add();
    pthread_mutex_unlock(&turns.lock);
    return member;
}

void fibril__turns_enter(int member)
{
    if (member == NOBODY) {
        return;
    }
    pthread_mutex_lock(&turns.lock);
    self = member;
    wait_for_turn();
    pthread_mutex_unlock(&turns.lock);
}

void fibril__turns_leave(void)
{
    if (!fibril__turns_on || self == NOBODY) {
        return;
    }
    pthread_mutex_lock(&turns.lock);
    turns.members[self].gone = true;
    pass_turn(NOBODY);
    self = NOBODY;
    pthread_mutex_unlock(&turns.lock);
}

void fibril__turns_await(int member)
{
    while (member != NOBODY && !turns.members[member].gone) {
        fibril__turns_give();
    }
}

void fibril__turns_begin(uint64_t seed, int64_t start_ns)
{
    FIBRIL_ASSERT(!fibril__turns_on && self == NOBODY);
    turns.random = seed ^ UINT64_C(0x7475726e73);
    turns.hash = UINT64_C(0xcbf29ce484222325) ^ seed;
    turns.now_ns = start_ns;
    turns.count = 0;
    self = turns.now = add();
    fibril__turns_on = true;
}

uint64_t fibril__turns_end(void)
{
    FIBRIL_ASSERT(fibril__turns_on && self == turns.now);
    for (int i = 0; i < turns.count; i++) {
        FIBRIL_ASSERT(i == self || turns.members[i].gone);
        pthread_cond_destroy(&turns.members[i].turn);
    }
    fibril__turns_on = false;
    self = NOBODY;
    return turns.hash;
}
