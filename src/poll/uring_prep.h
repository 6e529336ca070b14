/* SPDX-License-Identifier: MIT */
/*
 * Turning operations into entries of the ring, and the results of polls back.
 */
#ifndef FIBRIL_POLL_URING_PREP_H
#define FIBRIL_POLL_URING_PREP_H

#include "poll/poll.h"
#include "poll/uring.h"

#include <stdbool.h>

/* Fills a zeroed entry for op (not FORGET, nor vectors), user_data excepted. `drained`: nothing is
 * there to be received, so the kernel need not look before it waits. */
void fibril__uring_prep(struct io_uring_sqe *sqe, const struct fibril__op *op, bool drained);

/* Fills a zeroed entry that waits until fd is ready for `events`. */
void fibril__uring_prep_poll(struct io_uring_sqe *sqe, int fd, short events);

/* The result of a POLL operation whose entry ended with `res`. */
int64_t fibril__uring_poll_result(const struct fibril__op *op, int32_t res);

#endif
