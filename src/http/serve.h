/* SPDX-License-Identifier: MIT */
/*
 * What a request fibril does, from the first byte to the last:
 *
 *     receive the head -> parse -> find the route -> handler -> end the response -> next
 *
 * "next" is a new fibril when more has been received already, else the connection goes idle; either
 * way this fibril ends, so nothing of a request (local values, a cancellation) reaches the one
 * after it.
 */
#ifndef FIBRIL_HTTP_SERVE_H
#define FIBRIL_HTTP_SERVE_H

struct fibril__http_lane;

/* Runs on a fibril of its own; the argument is the connection. */
int fibril__http_serve(void *arg);

/* Frees the lane's spare parsers. */
void fibril__http_scratch_fini(struct fibril__http_lane *lane);

#endif
