/* SPDX-License-Identifier: MIT */
/*
 * Writing response heads and chunk framing into a buffer of fixed size, refusing what would split a
 * response.
 *
 * Invariant: a call either appends all of its bytes or fails and leaves the buffer as it was. So a
 * caller may try, flush on -ENOBUFS, and try again. A growing buffer was rejected: the writer would
 * then own memory and could fail in a third way.
 */
#ifndef FIBRIL_HTTP_ENCODE_H
#define FIBRIL_HTTP_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "http/span.h"

struct fibril__http_out {
    char *ptr;
    size_t len;   /* bytes written */
    size_t bytes; /* bytes there are */
};

/* Room for the longest line of fibril__http_put_chunk_head(). */
#define FIBRIL__HTTP_CHUNK_HEAD_BYTES 18

/*
 * "HTTP/1.1 200 OK\r\n". An empty reason becomes the registered phrase. -EINVAL for a status
 * outside of 100 to 999 or a reason with a control byte in it other than HTAB; -ENOBUFS here and
 * below when it does not fit.
 */
int fibril__http_put_status(struct fibril__http_out *out, int status, struct fibril__span reason);

/* "Name: value\r\n". -EINVAL unless the name is a token and the value free of CR, LF, NUL and other
 * controls but HTAB. */
int fibril__http_put_field(struct fibril__http_out *out, struct fibril__span name,
                           struct fibril__span value);

/* "Name: 123\r\n". */
int fibril__http_put_field_number(struct fibril__http_out *out, struct fibril__span name,
                                  uint64_t value);

/* "\r\n": the end of a head or of trailers. */
int fibril__http_put_end(struct fibril__http_out *out);

/* "1a2b\r\n"; the data and another "\r\n" follow. -EINVAL for 0, which would end the body. */
int fibril__http_put_chunk_head(struct fibril__http_out *out, uint64_t bytes);

/* "0\r\n": trailer fields may follow, and fibril__http_put_end() must. */
int fibril__http_put_last_chunk(struct fibril__http_out *out);

/* Bytes as they are; for text the program itself made and checked. */
int fibril__http_put_raw(struct fibril__http_out *out, struct fibril__span bytes);

#endif
