/* SPDX-License-Identifier: MIT */
/*
 * The descriptors of a select: one poll operation each. When one is over it claims the select, as a
 * channel's other side would; once the select is over they are cancelled, and whoever leaves waits
 * for those that the kernel still holds, since they lie in the record.
 */
#include "sync/select.h"

#include "sched/loop.h"
#include "sched/users.h"

#include <poll.h>

void fibril__select_fd_fired(struct fibril_case *c, int64_t result)
{
    if (result >= 0 && (result & POLLNVAL)) {
        result = -EBADF;
    }
    c->ret_events = result < 0 ? 0 : (short)result;
    c->result = result < 0 ? (int)result : 0;
}

/* Asks the kernel. An operation would not do: io_uring tells what is ready only at the next turn of
 * the loop, so a channel that is always ready would starve the descriptors. */
bool fibril__select_try_fd(struct fibril_case *c, bool simulated)
{
    if (c->fd < 0) {
        fibril__select_fd_fired(c, -EBADF);
        return true;
    }
    struct pollfd p = {.fd = c->fd, .events = c->events};
    if (simulated || poll(&p, 1, /* timeout= */ 0) <= 0) {
        return false;
    }
    fibril__select_fd_fired(c, p.revents);
    return true;
}

/* An operation is over. While the select is open this may win it; while it drains the last one ends
 * the wait. */
static void fd_done(struct fibril__op *op)
{
    struct fibril__select_fd *w = CONTAINER_OF(op, struct fibril__select_fd, op);
    struct fibril__select_record *r = w->record;
    w->started = false;
    r->pending--;
    if (r->draining) {
        if (r->pending == 0) {
            fibril__wake(r->select.fibril, r->outcome);
        }
    } else if (fibril__select_claim(&r->select)) {
        r->won_fd = w;
        fibril__wake(r->select.fibril, 0);
    }
}

void fibril__select_start_fds(struct fibril__select_record *r, const struct fibril_case *cases,
                              size_t n, size_t start)
{
    struct fibril__poller *poller = fibril__loop->poller;
    for (size_t k = 0, i = start; k < n && !r->won_fd; k++) {
        if (cases[i].op == FIBRIL_CASE_FD) {
            struct fibril__select_fd *w = &r->fds[r->fd_count++];
            *w = (struct fibril__select_fd){.record = r, .index = i};
            w->op = (struct fibril__op){.done = fd_done,
                                        .fd = cases[i].fd,
                                        .kind = FIBRIL__OP_POLL,
                                        .events = cases[i].events};
            w->op.result = fibril__users_enter(cases[i].fd);
            if (w->op.result < 0 || poller->ops->start(poller, &w->op) == 1) {
                r->won_fd = w;
            } else {
                w->started = true;
                r->pending++;
            }
        }
        i = i + 1 == n ? 0 : i + 1;
    }
}

size_t fibril__select_cancel_fds(struct fibril__select_record *r)
{
    struct fibril__poller *poller = fibril__loop->poller;
    for (size_t i = 0; i < r->fd_count; i++) {
        struct fibril__select_fd *w = &r->fds[i];
        if (w->started && poller->ops->cancel(poller, &w->op) == 1) {
            w->started = false;
            r->pending--;
        }
    }
    return r->pending;
}
