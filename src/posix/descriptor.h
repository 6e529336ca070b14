/* SPDX-License-Identifier: MIT */
/*
 * What the covered calls ask of a descriptor: whether it blocks, how long, and what it seems to be.
 *
 * A covered call makes the system call first, in a form that cannot block; only when that says
 * EAGAIN does it ask for O_NONBLOCK and for timeouts. So where data is there nothing is asked.
 *
 * What a number seems to be is a guess that outlives the descriptor when somebody closes it behind
 * our back (fclose, a raw system call). It therefore only says which form of the call to try first;
 * nothing that may block rests on it without a look at the descriptor itself.
 */
#ifndef FIBRIL_POSIX_DESCRIPTOR_H
#define FIBRIL_POSIX_DESCRIPTOR_H

#include "posix/layer.h"

#include <stdatomic.h>

enum fibril__guess {
    FIBRIL__GUESS_NONE = 0,
    FIBRIL__GUESS_SOCKET, /* asked with MSG_DONTWAIT */
    FIBRIL__GUESS_NOWAIT, /* another stream that understands RWF_NOWAIT */
    FIBRIL__GUESS_PIPE,   /* one that does not, and is to be asked by poll(2) first: a pipe, */
    FIBRIL__GUESS_DEVICE, /* a terminal or other character device, */
    FIBRIL__GUESS_PLAIN,  /* or what writes at once whatever it takes: eventfd, files in memory */
    FIBRIL__GUESS_FILE,   /* regular file or disk */
    FIBRIL__GUESS_SYNC,   /* one of which each write goes to the disk */
};

enum {
    FIBRIL__GUESSES = 1 << 16, /* higher numbers are looked at each time */
    FIBRIL__GUESS_MASK = 7,    /* in the upper bits: */
    FIBRIL__EXPECT_ONE = 8,    /* receives that are expected to wait, as the last one did */
    FIBRIL__EXPECT_MOST = 16 * FIBRIL__EXPECT_ONE,
};
extern _Atomic uint8_t fibril__guesses[FIBRIL__GUESSES];

static inline enum fibril__guess fibril__fd_guess(int fd)
{
    return LIKELY((unsigned)fd < FIBRIL__GUESSES)
               ? atomic_load_explicit(&fibril__guesses[fd], memory_order_relaxed) &
                     FIBRIL__GUESS_MASK
               : FIBRIL__GUESS_NONE;
}

/* A receive had to wait: so will the next ones, and to try first would be in vain. */
static inline void fibril__fd_expect_wait(int fd)
{
    if (LIKELY((unsigned)fd < FIBRIL__GUESSES)) {
        uint8_t now = atomic_load_explicit(&fibril__guesses[fd], memory_order_relaxed);
        atomic_store_explicit(&fibril__guesses[fd],
                              (uint8_t)((now & FIBRIL__GUESS_MASK) | FIBRIL__EXPECT_MOST),
                              memory_order_relaxed);
    }
}

/* Whether that is to be expected; now and then it is not, to see whether it has changed. */
static inline bool fibril__fd_expects_wait(int fd)
{
    uint8_t now = LIKELY((unsigned)fd < FIBRIL__GUESSES)
                      ? atomic_load_explicit(&fibril__guesses[fd], memory_order_relaxed)
                      : 0;
    if (now < FIBRIL__EXPECT_ONE) {
        return false;
    }
    atomic_store_explicit(&fibril__guesses[fd], (uint8_t)(now - FIBRIL__EXPECT_ONE),
                          memory_order_relaxed);
    return true;
}

/* fd names another file from now on. */
static inline void fibril__fd_unguess(int fd)
{
    if (LIKELY((unsigned)fd < FIBRIL__GUESSES)) {
        atomic_store_explicit(&fibril__guesses[fd], FIBRIL__GUESS_NONE, memory_order_relaxed);
    }
}

static inline bool fibril__guess_is_file(enum fibril__guess guess)
{
    return guess >= FIBRIL__GUESS_FILE;
}

/* Looks at fd and remembers what it is. `nowait`: RWF_NOWAIT has not been refused. */
enum fibril__guess fibril__fd_look(int fd, bool nowait);

/* A call has made descriptor fd (or failed, fd < 0): what was known under that number goes. Returns
 * fd. May park; errno is kept. */
int fibril__fd_born(int fd);

/* Whether O_NONBLOCK is not set. */
bool fibril__fd_blocks(int fd);

/* The deadline that SO_RCVTIMEO or SO_SNDTIMEO sets for a call that begins to wait now. */
int64_t fibril__fd_deadline(int fd, int option);

/* Somebody sets such an option. */
void fibril__fd_timeouts_exist(void);

/* Waits until fd is ready for `events`. A wait without a deadline goes on after handlers that have
 * SA_RESTART. Returns 0, -ETIMEDOUT, -EBADF (closed meanwhile), -EINTR, -ECANCELED. MAY PARK. */
int fibril__fd_await(int fd, short events, int64_t deadline_ns);

/* The same for a socket's timeout, which shows as -EAGAIN. */
int fibril__fd_await_socket(int fd, short events, int64_t deadline_ns);

/* Sleeps a little, each time longer (*nap_ns begins with 0): for what nothing announces. Returns 0,
 * or how the wait is to end. MAY PARK. */
int fibril__nap(int64_t *nap_ns);

/* Whether a fibril call that came to rc is to be made again. */
static inline bool fibril__fd_again(int64_t rc, int64_t deadline_ns)
{
    return UNLIKELY(rc == -EINTR) && deadline_ns == FIBRIL_FOREVER && fibril__posix_restart();
}

#endif
