/* SPDX-License-Identifier: MIT */
/*
 * Paths and queries of request targets: percent decoding, dot segments, name=value pairs.
 *
 * A path is decoded first and its segments are resolved after that, so `%2e%2e` and `%2f` cannot
 * smuggle a step past the check. The price: an encoded slash is a slash. A path that climbs above
 * its root is an error, not clamped as RFC 3986 would have it: no client that means well sends one.
 */
#ifndef FIBRIL_HTTP_URI_H
#define FIBRIL_HTTP_URI_H

#include <stddef.h>

#include "http/span.h"

/*
 * Decodes %XX into `out`; with plus_is_space, as in forms, `+` is a space. The output is never
 * longer than the input and may be written over it. -EINVAL for an incomplete or non-hexadecimal
 * escape and for %00, -ENOBUFS when it does not fit.
 */
int fibril__http_percent_decode(struct fibril__span in, bool plus_is_space, char *out,
                                size_t out_bytes, size_t *ret_len);

/*
 * Decodes and normalises an absolute path: no `.`, `..` or empty segment is left; a trailing slash
 * stays, and comes of a trailing dot segment. `out` may be the path itself. Errors as above;
 * -EINVAL also for a path that does not begin with a slash or that climbs above its root.
 */
int fibril__http_path_normalise(struct fibril__span path, char *out, size_t out_bytes,
                                size_t *ret_len);

/*
 * Cuts the next pair off a query: *query advances, both spans are still encoded; a pair without `=`
 * has a value with ptr NULL. Empty pairs are skipped. False when none is left.
 */
bool fibril__http_query_next(struct fibril__span *query, struct fibril__span *ret_name,
                             struct fibril__span *ret_value);

#endif
