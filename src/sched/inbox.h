/* SPDX-License-Identifier: MIT */
/*
 * What other OS threads want of a loop: messages to run, and fibrils to make ready. A lock-free
 * stack that the loop takes whole and turns round, so both sides are one atomic operation and order
 * is kept per sender. A fibril is enqueued by its own link, with the low bit set: waking needs no
 * memory.
 */
#ifndef FIBRIL_SCHED_INBOX_H
#define FIBRIL_SCHED_INBOX_H

#include "base/list.h"

#include <stdatomic.h>
#include <stdint.h>

struct fibril;
struct fibril_loop;

struct fibril__message {
    struct fibril__link link;               /* the inbox's */
    void (*run)(struct fibril__message *m); /* on the loop, between fibrils; must not park; owns m
                                               from then on */
};

struct fibril__inbox {
    _Atomic uintptr_t head; /* newest first; release on push, acquire on take */
};

/* Sends m to the loop, which must not end before it has run. Any OS thread, async-signal-safe. */
void fibril__loop_send(struct fibril_loop *loop, struct fibril__message *m);

/* Sends m to loop number i, which may be ending: returns false, and leaves m to the caller, if
 * there is no such loop. What was sent is run even if the loop ends. */
bool fibril__loop_send_slot(unsigned i, struct fibril__message *m);

/* Makes f, which is in no list, ready on its loop, which is another one. Any OS thread. */
void fibril__loop_send_ready(struct fibril *f);

/* Waits until nobody is in the middle of sending to the loop, which is in no table any more. */
void fibril__inbox_fini(struct fibril_loop *loop);

/* Runs and readies all that has come. Returns whether there was anything. On the loop itself. */
bool fibril__inbox_drain(struct fibril_loop *loop);

#endif
