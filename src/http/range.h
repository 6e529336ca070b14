/* SPDX-License-Identifier: MIT */
/*
 * Ranges and the conditions of RFC 9110, sections 13 and 14: what part of a representation, and
 * whether at all.
 *
 * Invariant: a field that does not parse never makes a response wrong, only complete: a broken
 * Range is as if absent, and a broken condition is reported so that the caller picks the safe side.
 */
#ifndef FIBRIL_HTTP_RANGE_H
#define FIBRIL_HTTP_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/span.h"

struct fibril__http_range {
    uint64_t first;
    uint64_t last; /* included */
};

/*
 * Reads a Range field against a representation of `size` bytes. Returns the number of ranges to
 * send, in the order asked for; 0 for "send everything" (not in bytes, malformed, more than
 * ranges_max, or more bytes in sum than there are, which only overlaps can be); -ERANGE for 416:
 * well formed, but nothing of it exists.
 */
int fibril__http_range_parse(struct fibril__span value, uint64_t size,
                             struct fibril__http_range *ranges, size_t ranges_max);

/* True for a well-formed entity tag, quotes and an optional W/ included. */
bool fibril__http_etag_valid(struct fibril__span tag);

/*
 * Whether `etag` (empty: there is none) is among the tags of an If-Match or If-None-Match field: 1
 * or 0, -EINVAL when the field is malformed. `*` matches always. If-None-Match compares weakly,
 * If-Match strongly, where a weak tag equals none.
 */
int fibril__http_etag_match(struct fibril__span list, struct fibril__span etag, bool weak);

/*
 * Whether an If-Range field (a tag or a date) allows a Range to be honoured for a representation
 * with this tag (empty: none) and this last modification (negative: unknown). Tags compare
 * strongly, dates exactly; malformed means no.
 */
bool fibril__http_if_range(struct fibril__span value, struct fibril__span etag,
                           int64_t last_modified, int64_t now);

#endif
