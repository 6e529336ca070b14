/* SPDX-License-Identifier: MIT */
/*
 * The offload pool: OS threads, for the whole process, that run what must block. It grows on demand
 * up to FIBRIL__POOL_MAX threads; one that has been idle for ten seconds ends. Jobs begin in the
 * order in which they came, except that slow ones (name lookups, which may hang for half a minute)
 * get at most half of the threads, so that files never wait for a dead name server.
 *
 * The threads block all signals: handlers run where the program expects them.
 */
#ifndef FIBRIL_IO_POOL_H
#define FIBRIL_IO_POOL_H

#include "base/list.h"

#include <fibril/fibril.h>

enum { FIBRIL__POOL_MAX = 64 };

struct fibril__job {
    struct fibril__link link;             /* the pool's while the job is queued */
    void (*run)(struct fibril__job *job); /* on a thread of the pool, for which it is gone then */
    int fd;                               /* the descriptor it uses, or -1 */
    bool slow;
};

/* Queues job. Returns 0, or -ENOMEM if there is no thread and none can be had. Any OS thread. */
int fibril__pool_submit(struct fibril__job *job);

/* Takes job back if it has not begun; returns whether it did. Any OS thread. */
bool fibril__pool_withdraw(struct fibril__job *job);

/* Runs fn(arg) on the pool for the calling fibril, as fibril_offload does; arg is not on a copied
 * stack. fd is a descriptor that fn uses, or -1. MAY PARK. */
int fibril__pool_call(fibril_fn *fn, void *arg, int fd, int64_t deadline_ns);

/* Ends all calls that use fd and have not begun, with -EBADF. Returns whether one has begun and is
 * not over. */
bool fibril__pool_forget(int fd);

/* How many threads there are now. */
unsigned fibril__pool_threads(void);

#endif
