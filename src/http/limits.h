/* SPDX-License-Identifier: MIT */
/*
 * How much of what a peer may make the server hold or read, in one struct so that a listener can
 * have its own. Sizes count bytes without the CRLF that ends a line, except head_bytes and
 * trailer_bytes, which count everything up to and with the empty line. Zero means zero: start from
 * FIBRIL__HTTP_LIMITS_DEFAULT.
 */
#ifndef FIBRIL_HTTP_LIMITS_H
#define FIBRIL_HTTP_LIMITS_H

#include <stddef.h>
#include <stdint.h>

struct fibril__http_limits {
    size_t request_line_bytes;   /* beyond it: 414 */
    size_t field_bytes;          /* one field line, name to value: 431 */
    size_t head_bytes;           /* request line and all fields: 431 */
    size_t fields_max;           /* field lines in a head: 431 */
    size_t trailer_bytes;        /* the whole trailer section: 431 */
    size_t trailers_max;         /* field lines in it: 431 */
    size_t chunk_ext_bytes;      /* extensions of one chunk: 400 */
    size_t chunk_exts_bytes;     /* extensions of one body: 400 */
    size_t chunk_overhead_bytes; /* framing bytes allowed whatever the data: beyond it ... */
    size_t chunk_overhead_ratio; /* ... this many framing bytes a data byte: 400 */
    uint64_t body_bytes;         /* the server's to check: 413 */
};

#define FIBRIL__HTTP_LIMITS_DEFAULT                                                                \
    {                                                                                              \
        .request_line_bytes = 8192, .field_bytes = 8192, .head_bytes = 32768, .fields_max = 100,   \
        .trailer_bytes = 8192, .trailers_max = 32, .chunk_ext_bytes = 256,                         \
        .chunk_exts_bytes = 4096, .chunk_overhead_bytes = 16384, .chunk_overhead_ratio = 8,        \
        .body_bytes = 1048576,                                                                     \
    }

#endif
