/* SPDX-License-Identifier: MIT */
/*
 * One try of an operation that cannot block, whatever O_NONBLOCK says: sockets are asked with
 * MSG_DONTWAIT, blocking descriptors of other kinds are asked by poll(2) first. epoll lives on
 * this; io_uring tries sends so.
 */
#ifndef FIBRIL_POLL_ATTEMPT_H
#define FIBRIL_POLL_ATTEMPT_H

#include "poll/fd_table.h"
#include "poll/poll.h"

#include <poll.h>

static inline bool fibril__op_writes(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_SEND || op->kind == FIBRIL__OP_SENDMSG ||
           op->kind == FIBRIL__OP_WRITE || op->kind == FIBRIL__OP_WRITEV ||
           op->kind == FIBRIL__OP_CONNECT;
}

/* Whether op->len is a number of bytes, and the result how many were moved. */
static inline bool fibril__op_counts_bytes(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_RECV || op->kind == FIBRIL__OP_SEND ||
           op->kind == FIBRIL__OP_READ || op->kind == FIBRIL__OP_WRITE;
}

static inline bool fibril__op_is_empty(const struct fibril__op *op)
{
    return op->len == 0 && fibril__op_counts_bytes(op);
}

/* Whether op is a poll for what only arriving bytes, or their end, can bring. */
static inline bool fibril__op_awaits_bytes(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_POLL && (op->events & POLLIN) &&
           !(op->events & ~(POLLIN | POLLRDHUP));
}

/* Whether the result of a byte transfer shows that the next one would block. */
static inline bool fibril__attempt_was_short(const struct fibril__fd_record *r,
                                             const struct fibril__op *op, int64_t result)
{
    return result > 0 && (uint64_t)result < op->len && fibril__op_counts_bytes(op) &&
           fibril__fd_is_stream(r) && !(op->flags & (MSG_PEEK | MSG_OOB)) &&
           (r->kind == FIBRIL__KIND_TCP || !(r->flags & FIBRIL__FD_BLOCKING));
}

/* Tries op, and looks at the descriptor if it has to. Returns its result; -EAGAIN if it would
 * block; -EINPROGRESS if a connection has begun. FORGET and operations on files are not asked for.
 */
int64_t fibril__attempt(struct fibril__fd_record *r, struct fibril__op *op);

/* What a connection that was in progress has come to: 0, -errno, or -EAGAIN if it still is. */
int fibril__attempt_connected(int fd);

/* poll(2) without waiting: the events, 0 for none, or -errno (-EBADF for POLLNVAL). */
int fibril__attempt_poll(int fd, short events);

#endif
