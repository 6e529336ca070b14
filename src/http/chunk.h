/* SPDX-License-Identifier: MIT */
/*
 * The decoder of chunked bodies: a walk over the received bytes that points out the runs of data.
 * It copies nothing and keeps no bytes; framing may be cut anywhere.
 *
 *     while ((rc = fibril__http_chunk_next(&c, at, left, &used, &data)) == FIBRIL__HTTP_CHUNK_DATA)
 * { use data; at += used; left -= used;
 *     }
 *     at += used; left -= used;                  (also after -EAGAIN: keep what is left in front of
 * new bytes)
 *
 * The trailer section is parsed whole, like a head: while it is incomplete its bytes are not used
 * up (*ret_used 0) and must be offered again with more behind them, at most limits->trailer_bytes.
 * Framing, routing and authentication fields in it are dropped.
 *
 * Invariant: the data and the outcome depend on the bytes alone, not on the cuts. A decoder that
 * rewrites the buffer in place was rejected: it moves every byte of a body to save the caller a
 * loop.
 */
#ifndef FIBRIL_HTTP_CHUNK_H
#define FIBRIL_HTTP_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "http/field.h"
#include "http/limits.h"
#include "http/parse.h"
#include "http/span.h"

enum {
    FIBRIL__HTTP_CHUNK_END = 0,  /* the body is complete, trailers included */
    FIBRIL__HTTP_CHUNK_DATA = 1, /* ret_data holds the next bytes of it */
};

struct fibril__http_chunk {
    uint64_t total;     /* data bytes pointed out so far */
    size_t field_count; /* trailers kept, at the end */
    const char *why;    /* after a refusal */
    /* The rest is private. */
    const struct fibril__http_limits *limits;
    struct fibril__http_parser trailer; /* its fields array is the caller's */
    uint64_t left;                      /* data bytes missing from the chunk at hand */
    uint64_t announced;                 /* sum of all sizes read */
    uint64_t overhead;                  /* framing bytes so far */
    uint64_t size;                      /* of the size line at hand, as far as read */
    size_t ext;                         /* extension bytes of this chunk */
    size_t exts;                        /* ... and of all */
    int result;                         /* 0 or a status once there is an outcome, else -EAGAIN */
    uint8_t digits;                     /* hexadecimal digits of the size at hand */
    uint8_t step;                       /* enum step of chunk.c */
};

/*
 * `fields` gets the trailers, whose spans point into the bytes of the last call. More of them than
 * fields_count or limits->trailers_max are refused with 431; with a count of 0 that means any.
 */
void fibril__http_chunk_init(struct fibril__http_chunk *c, const struct fibril__http_limits *limits,
                             struct fibril__http_field *fields, size_t fields_count);

/*
 * Decodes from buf[0 .. len). Returns FIBRIL__HTTP_CHUNK_DATA with one run of data,
 * FIBRIL__HTTP_CHUNK_END, -EAGAIN when the bytes are used up, or the status to answer: 400, 431
 * (trailers). *ret_used bytes are done with in each case but a refusal; *ret_data is written for
 * DATA only, and points into buf.
 */
int fibril__http_chunk_next(struct fibril__http_chunk *c, const char *buf, size_t len,
                            size_t *ret_used, struct fibril__span *ret_data);

#endif
