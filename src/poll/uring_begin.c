/* SPDX-License-Identifier: MIT */
/*
 * How an operation begins on io_uring. It is tried directly where that is likely to succeed: sends,
 * a receive when the last one left bytes. Else it goes into the ring as itself (sockets, files), or
 * as a poll (pipes, terminals, vectors), or waits for an edge of its descriptor's lasting poll,
 * which spares a busy one an entry for each read.
 */
#include "poll/uring_poller.h"

#include "poll/uring_prep.h"

#include <poll.h>

/* Whether a direct try is worth its system call. A receive is left to the ring unless bytes may be
 * there. */
static bool try_first(const struct fibril__fd_record *r, const struct fibril__op *op)
{
    switch (op->kind) {
    case FIBRIL__OP_SEND:
    case FIBRIL__OP_SENDMSG: return true;
    case FIBRIL__OP_RECV:
    case FIBRIL__OP_RECVMSG:
    case FIBRIL__OP_ACCEPT: return fibril__fd_has(r, FIBRIL__FD_READABLE);
    case FIBRIL__OP_READ:
    case FIBRIL__OP_READV:
        return fibril__uring_is_polled(r, op) &&
               (fibril__fd_has(r, FIBRIL__FD_READABLE) || !fibril__fd_has(r, FIBRIL__FD_ARMED));
    default: return fibril__uring_is_polled(r, op);
    }
}

int fibril__uring_ring(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                       struct fibril__op *op, enum fibril__uring_state state)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (UNLIKELY(!sqe)) {
        return -EAGAIN;
    }
    if (state == FIBRIL__URING_WATCHING) {
        fibril__uring_prep_poll(sqe, op->fd, fibril__op_writes(op) ? POLLOUT : POLLIN);
    } else {
        fibril__uring_prep(sqe, op, r && (r->flags & FIBRIL__FD_DRAINED));
    }
    sqe->user_data = (uintptr_t)op;
    fibril__uring_set_state(op, state);
    return 0;
}

/* A lasting poll, edge-triggered: one completion for each burst, and one at once if the descriptor
 * is ready. */
int fibril__uring_arm(struct fibril__uring_poller *p, struct fibril__fd_record *r, int fd)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (UNLIKELY(!sqe)) {
        return -EAGAIN;
    }
    if (r->kind == FIBRIL__KIND_UNKNOWN) {
        fibril__fd_classify_socket(r, fd); /* plain reads have it classified already */
    }
    fibril__uring_prep_poll(sqe, fd, POLLIN | POLLPRI | POLLRDHUP);
    sqe->len = IORING_POLL_ADD_MULTI;
    sqe->user_data = (uint64_t)(uint32_t)fd << FIBRIL__URING_DATA_SHIFT | FIBRIL__URING_DATA_EDGE;
    r->flags |= FIBRIL__FD_ARMED;
    return 0;
}

/* A read has to wait: for an edge, or by itself in the ring. */
static int wait_to_read(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                        struct fibril__op *op)
{
    if (!fibril__fd_has(r, FIBRIL__FD_ARMED)) {
        if (r->reads < FIBRIL__READS_BEFORE_ARMING) {
            r->reads++;
            return fibril__uring_ring(p, r, op,
                                      fibril__uring_is_polled(r, op) ? FIBRIL__URING_WATCHING
                                                                     : FIBRIL__URING_RINGING);
        }
        int rc = fibril__uring_arm(p, r, op->fd);
        if (rc < 0) {
            return rc;
        }
    }
    fibril__uring_set_state(op, FIBRIL__URING_AWAITING);
    return 0;
}

int fibril__uring_begin(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                        struct fibril__op *op)
{
    if (UNLIKELY(fibril__uring_is_plain(op) && r->kind == FIBRIL__KIND_UNKNOWN &&
                 op->kind < FIBRIL__OP_READV)) {
        int rc = fibril__fd_classify(r, op->fd);
        if (rc < 0) {
            return fibril__op_over(op, rc);
        }
    }
    if (try_first(r, op)) {
        int64_t result = fibril__attempt(r, op);
        fibril__uring_learn(r, op, result);
        if (result != -EAGAIN) {
            return fibril__op_over(op, result);
        }
    }
    int rc;
    if (fibril__op_writes(op) || (fibril__uring_is_plain(op) && !fibril__uring_is_polled(r, op))) {
        rc = fibril__uring_ring(p, r, op,
                                fibril__uring_is_polled(r, op) ? FIBRIL__URING_WATCHING
                                                               : FIBRIL__URING_RINGING);
    } else {
        rc = wait_to_read(p, r, op);
    }
    return rc < 0 ? fibril__op_over(op, -ENOMEM) : 0;
}

void fibril__uring_begin_next(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                              struct fibril__list *list)
{
    struct fibril__link *first;
    while ((first = fibril__list_first(list)) != NULL &&
           !fibril__uring_holds(fibril__op_of(first))) {
        if (fibril__uring_begin(p, r, fibril__op_of(first)) == 0) {
            return;
        }
        fibril__uring_finish(p, fibril__op_of(first), fibril__op_of(first)->result);
    }
}
