/* SPDX-License-Identifier: MIT */
/*
 * The way out: bytes gather in one buffer per connection and leave in one send, those of several
 * pipelined responses together.
 *
 * What must not happen is that a finished response waits for a handler that sleeps. So whoever
 * starts a handler while earlier responses are unsent puts the connection on the lane's list
 * `held`; the lane's flusher fibril stands in the run queue then, and when it runs before the
 * handler has ended, the handler has parked, and the flusher sends. A pipelined burst of quick
 * handlers is over before that and leaves in one send.
 *
 * An error is remembered in conn->error and repeats; nothing is sent after it.
 */
#ifndef FIBRIL_HTTP_OUT_H
#define FIBRIL_HTTP_OUT_H

#include "http/conn.h"

/* Returns `bytes` (at most FIBRIL__HTTP_BUFFER) of room at the end of the buffer, sending what is
 * in it if need be, or NULL with conn->error set. The caller writes there without parking and adds
 * to out_len. MAY PARK. */
char *fibril__http_out_room(struct fibril__http_conn *conn, size_t bytes);

/* Sends what is buffered. 0 or -errno. MAY PARK. */
int fibril__http_out_flush(struct fibril__http_conn *conn);

/* Sends what is buffered and iov[1 .. n) right behind it; iov[0] is for the buffer, and all of it
 * changes. MAY PARK. */
int fibril__http_out_vector(struct fibril__http_conn *conn, struct iovec *iov, int n);

/* Sends `len` bytes of a file from `offset` on, after what is buffered. MAY PARK. */
int fibril__http_out_file(struct fibril__http_conn *conn, int fd, uint64_t offset, uint64_t len);

/* Around a handler that starts with earlier responses unsent. */
void fibril__http_out_hold(struct fibril__http_conn *conn);
void fibril__http_out_release(struct fibril__http_conn *conn);

/* What the flusher of a lane runs until it is cancelled. */
int fibril__http_out_flusher(void *arg);

#endif
