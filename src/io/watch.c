/* SPDX-License-Identifier: MIT */
/*
 * Watches of embed.h: a poll operation and a timer in the caller's record, and no fibril.
 *
 *   start -> WAITING -- ready, closed --> fn        (done)
 *               |------ deadline: poller lets go -> fn -ETIMEDOUT; kernel holds it -> LEAVING
 *               |------ stop: poller lets go -> IDLE, 0; kernel holds it -> LEAVING, -EINPROGRESS
 *         -> READY: over at once; a timer that is due calls fn from the loop
 *   LEAVING -- done --> fn with the reason, or with what came first
 */
#include <fibril/embed.h>

#include "io/op.h"
#include "sched/users.h"
#include "sched/timer.h"

#include <poll.h>

enum state { IDLE = 0, WAITING, READY, LEAVING };

/* What is in opaque_. */
struct inner {
    struct fibril__op op;
    struct fibril__timer timer;
    int32_t why; /* LEAVING: why */
    uint32_t state;
    uint32_t forks; /* the loop's at the start: a watch of the parent's is none of the child's */
};

_Static_assert(sizeof(struct inner) <= sizeof(((struct fibril_watch *)0)->opaque_),
               "a watch has too little room");

static struct inner *inner_of(struct fibril_watch *w)
{
    return (struct inner *)(void *)w->opaque_;
}

static struct fibril_watch *watch_of(struct inner *in)
{
    return CONTAINER_OF((uint64_t(*)[16])(void *)in, struct fibril_watch, opaque_);
}

/* The record may be gone, or started again, when this returns. */
static void call(struct inner *in, int64_t result)
{
    struct fibril_watch *w = watch_of(in);
    if (result == -EPERM) { /* a file, which epoll refuses and poll(2) calls ready */
        result = in->op.events & (POLLIN | POLLOUT);
    }
    in->state = IDLE;
    fibril__timer_stop(&in->timer);
    w->fn(w, (int)result);
}

static void done(struct fibril__op *op)
{
    struct inner *in = CONTAINER_OF(op, struct inner, op);
    call(in, fibril__io_result(op, in->why));
}

static int cancel(struct inner *in)
{
    struct fibril__poller *p = fibril__loop->poller;
    return p->ops->cancel(p, &in->op);
}

static void fire(struct fibril__timer *t)
{
    struct inner *in = CONTAINER_OF(t, struct inner, timer);
    if (in->state == READY) {
        call(in, in->op.result);
    } else if (in->state == WAITING && cancel(in)) {
        call(in, -ETIMEDOUT);
    } else if (in->state == WAITING) {
        in->state = LEAVING;
        in->why = -ETIMEDOUT;
    }
}

int fibril_watch_start(struct fibril_watch *w, int fd, short events, int64_t deadline_ns,
                       void (*fn)(struct fibril_watch *w, int result))
{
    if (!fibril__loop) {
        return -EPERM;
    }
    struct inner *in = inner_of(w);
    int rc = fibril__users_enter(fd);
    bool closed = rc == -EBADF;
    if (rc < 0 && !closed) {
        return rc;
    }
    *in = (struct inner){.op = {.kind = FIBRIL__OP_POLL, .fd = fd, .events = events, .done = done}};
    in->op.flags = events & POLLPRI ? 0 : FIBRIL__POLL_TRUSTS;
    fibril__timer_init(&in->timer, fire);
    in->forks = fibril__loop->forks;
    w->fn = fn;
    if (deadline_ns != FIBRIL_FOREVER) {
        rc = fibril__timer_start(&in->timer, deadline_ns);
        if (rc < 0) {
            return rc;
        }
    }
    struct fibril__poller *p = fibril__loop->poller;
    in->state = WAITING;
    in->op.result = -EBADF;
    if (!closed && !p->ops->start(p, &in->op)) {
        return 0;
    }
    in->state = READY;
    return fibril__timer_start(&in->timer, fibril__loop->now_ns) < 0 ? -ENOMEM : 0;
}

int fibril_watch_stop(struct fibril_watch *w)
{
    struct inner *in = inner_of(w);
    if (UNLIKELY(in->forks != fibril__loop->forks)) {
        in->state = IDLE;
        return 0;
    }
    if (in->state == LEAVING) {
        return -EINPROGRESS;
    }
    fibril__timer_stop(&in->timer);
    if (in->state == WAITING && !cancel(in)) {
        in->state = LEAVING;
        in->why = -ECANCELED;
        return -EINPROGRESS;
    }
    in->state = IDLE;
    return 0;
}
