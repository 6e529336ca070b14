/* SPDX-License-Identifier: MIT */
/*
 * Waking a poller from anywhere: a state word, and an event counter that is written at most once
 * per sleep.
 *
 *   AWAKE --sleep()--> ASLEEP --send() writes the counter--> WOKEN --awake(), taken()--> AWAKE
 *   AWAKE --send(), nothing is written--> WOKEN: the next sleep() is refused
 *
 * send() is the release side, sleep(), awake() and taken() the acquire side: what the sender did
 * before is seen after. A write may come late, after the sleeper woke by itself: one wait too many
 * that returns early inside the poller.
 */
#ifndef FIBRIL_POLL_WAKEUP_H
#define FIBRIL_POLL_WAKEUP_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FIBRIL__AWAKE, FIBRIL__ASLEEP, FIBRIL__WOKEN };

struct fibril__wakeup {
    _Atomic int state;
    int fd; /* eventfd; edge-triggered or multishot users never read it */
};

static inline int fibril__wakeup_open(struct fibril__wakeup *w)
{
    atomic_init(&w->state, FIBRIL__AWAKE);
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->fd < 0 ? -errno : 0;
}

static inline void fibril__wakeup_close(struct fibril__wakeup *w)
{
    close(w->fd);
}

/* Any thread, async-signal-safe: errno is kept. */
static inline void fibril__wakeup_send(struct fibril__wakeup *w)
{
    if (atomic_exchange(&w->state, FIBRIL__WOKEN) == FIBRIL__ASLEEP) {
        int saved = errno;
        uint64_t one = 1;
        ssize_t n = write(w->fd, &one, sizeof(one)); /* a counter that is full wakes as well */
        (void)n;
        errno = saved;
    }
}

/* Before sleeping. Returns whether to sleep; otherwise the wake-up has been taken. */
static inline bool fibril__wakeup_sleep(struct fibril__wakeup *w)
{
    int expected = FIBRIL__AWAKE;
    if (atomic_compare_exchange_strong(&w->state, &expected, FIBRIL__ASLEEP)) {
        return true;
    }
    atomic_store(&w->state, FIBRIL__AWAKE);
    return false;
}

/* After sleeping. Returns whether somebody sent. */
static inline bool fibril__wakeup_awake(struct fibril__wakeup *w)
{
    return atomic_exchange(&w->state, FIBRIL__AWAKE) == FIBRIL__WOKEN;
}

/* Without sleeping: takes a wake-up, if there is one. */
static inline bool fibril__wakeup_taken(struct fibril__wakeup *w)
{
    return atomic_load_explicit(&w->state, memory_order_relaxed) == FIBRIL__WOKEN &&
           fibril__wakeup_awake(w);
}

#endif
