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

/* Tries op, and looks at the descriptor if it has to. Returns its result; -EAGAIN if it would
 * block; -EINPROGRESS if a connection has begun. FORGET and operations on files are not asked for.
 */
int64_t fibril__attempt(struct fibril__fd_record *r, struct fibril__op *op);

/* What a connection that was in progress has come to: 0, -errno, or -EAGAIN if it still is. */
int fibril__attempt_connected(int fd);

/* poll(2) without waiting: the events, 0 for none, or -errno (-EBADF for POLLNVAL). */
int fibril__attempt_poll(int fd, short events);

#endif
