/* SPDX-License-Identifier: MIT */
/*
 * The one way to wait. Whoever wants to wait links the running fibril (its `link`, or nodes of its
 * own) wherever its waker will look, and calls fibril__park. Whoever ends the wait unlinks it and
 * calls fibril__wake. A wait ends exactly once: with the waker's result, or, through kind->abort,
 * with -ETIMEDOUT, -ECANCELED or -ENOMEM. Who unlinks first wins; the other side finds nothing and
 * does nothing.
 *
 * Objects that are shared between loops guard their lists by a spin lock of their own; abort takes
 * it too, so the rule above is all that cross-loop races need.
 */
#ifndef FIBRIL_SCHED_WAIT_H
#define FIBRIL_SCHED_WAIT_H

#include "sched/fibril.h"

enum fibril__reason { /* for the counters of fibril_metrics */
                      FIBRIL__BY_SLEEP,
                      FIBRIL__BY_IO,
                      FIBRIL__BY_LOCK,
                      FIBRIL__BY_CHAN,
                      FIBRIL__BY_JOIN,
                      FIBRIL__BY_OFFLOAD,
                      FIBRIL__BY_OTHER,
                      FIBRIL__REASONS
};

struct fibril__wait_kind {
    const char *name; /* "mutex", "channel send", ...: shown in dumps */
    enum fibril__reason reason;
    bool of_file; /* for a file on a disk: it comes soon, and without anybody's doing */

    /* Unlinks f, which is parked in such a wait on the calling loop (or about to park). Returns
     * true if the wait is over: it then ends with `error`; false if it cannot be ended now: a
     * wake-up is, or will be, on its way (an operation that the kernel still holds). error is
     * -ETIMEDOUT, -ECANCELED, -EINTR or -ENOMEM. Must not park. */
    bool (*abort)(struct fibril *f, int error);

    /* Returns the fibril that f waits for, NULL if unknown. NULL: never known. For deadlock
     * reports. */
    struct fibril *(*blocker)(const struct fibril *f);

    /* Returns the descriptor that f waits on. NULL: the kind waits on none. For dumps. */
    int (*fd)(const struct fibril *f);

    /* Returns a name that says more than `name`. NULL: there is none. For dumps. */
    const char *(*called)(const struct fibril *f);
};

/* Parks the running fibril, which its waker can already find, until fibril__wake or an abort, and
 * returns how the wait ended. f->wait_data is left as the caller set it before. A deadline in the
 * past, or a pending cancellation, aborts at once without a switch. */
int64_t fibril__park(const struct fibril__wait_kind *kind, void *wait_on, int64_t deadline_ns);

/* Ends the wait of f, which the caller has just unlinked, with `result`: f goes to the end of its
 * loop's run queue. Any OS thread. Unless f is of the calling loop, f must not be touched
 * afterwards. */
void fibril__wake(struct fibril *f, int64_t result);

/* Counts an operation of the running fibril that needed no wait; when its budget is used up,
 * yields. Call it last. */
void fibril__spend(void);

/* See current.h for fibril__self() and fibril__stack_stays(). */

/* Where the byte at address p of parked fibril f's stack is now (copied stacks are elsewhere while
 * parked). p outside its stack is returned as it is. Only on f's own loop. */
void *fibril__stack_at(struct fibril *f, void *p);

#endif
