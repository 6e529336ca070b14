/* SPDX-License-Identifier: MIT */
/*
 * Which loops have ever used a descriptor, and what sort of thing it is: one 64-bit word per
 * descriptor number, for the whole process. A descriptor may be closed only when no poller holds
 * anything of it; asking every loop at every close would make closing cost more than the
 * connection, and a lock per call would be worse. The word is set by the first operation of a loop
 * on a descriptor, and only read by the later ones.
 *
 *   bits 0..57  loop number i has used it     58  some loop with a higher number has
 *   bits 59..60 its sort, 0 while unknown     63  being closed: whoever comes gets -EBADF
 *
 * The table is made of chunks that live for ever; a chunk is 32 KiB for 4,096 numbers.
 */
#ifndef FIBRIL_SCHED_USERS_H
#define FIBRIL_SCHED_USERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fibril__fd_sort {
    FIBRIL__FD_UNKNOWN = 0,
    FIBRIL__FD_SOCKET,
    FIBRIL__FD_STREAM, /* pipe, terminal, eventfd, ...: can be waited for */
    FIBRIL__FD_FILE,   /* regular file, directory or disk: is always ready */
};

enum {
    FIBRIL__USERS_LOOPS = 58, /* loops with a bit of their own */
    FIBRIL__USERS_SORT_SHIFT = 59,
};
#define FIBRIL__USERS_REST (UINT64_C(1) << 58)
#define FIBRIL__USERS_CLOSING (UINT64_C(1) << 63)

/* From here on numbers are simulated ones: of one loop, and of no sort. */
#define FIBRIL__FD_SIMULATED (1 << 28)

/* Returns the word of fd, or NULL: no memory, or no such number. */
_Atomic uint64_t *fibril__users_word(int fd);

/* The same without making a word: NULL if no loop has used a number near fd. Async-signal-safe. */
_Atomic uint64_t *fibril__users_known(int fd);

/* The lowest number from first to last that has been used and not forgotten, -1 for none. */
int fibril__users_next(int first, int last);

/* Says that the calling loop is about to start an operation on fd. Returns 0, -EBADF (negative, or
 * being closed) or -ENOMEM. Whoever starts an operation without op.c calls this before. */
int fibril__users_enter(int fd);

/* Returns the sort of fd, or -EBADF, -ENOMEM. A listening TCP socket is given TCP_NODELAY when
 * first seen, which those it accepts inherit: one call per listener, not one per connection. */
int fibril__users_sort(int fd);

/* In the child of a fork: no loop has used anything yet. Sorts stay known. */
void fibril__users_forked(void);

/* Returns the bit of loop number i. */
static inline uint64_t fibril__users_bit(unsigned i)
{
    return i < FIBRIL__USERS_LOOPS ? UINT64_C(1) << i : FIBRIL__USERS_REST;
}

#endif
