/* SPDX-License-Identifier: MIT */
/*
 * URI paths. Normalisation works in place on the decoded bytes with one reader and one writer; the
 * writer never overtakes the reader, which is what makes in == out safe, and it never goes back
 * past the first slash.
 */
#include "http/uri.h"

#include <errno.h>

#include "http/token.h"

int fibril__http_percent_decode(struct fibril__span in, bool plus_is_space, char *out,
                                size_t out_bytes, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = in.len - i >= 3 ? fibril__hex_value(in.ptr[i + 1]) : -1;
            int low = in.len - i >= 3 ? fibril__hex_value(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return -EINVAL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0') {
            return -EINVAL;
        }
        if (len == out_bytes) {
            return -ENOBUFS;
        }
        out[len++] = c;
    }
    *ret_len = len;
    return 0;
}

/* Drops the last segment of out[0 .. len), which ends in a slash; 0 when there is none to drop. */
static size_t parent(const char *out, size_t len)
{
    if (len <= 1) {
        return 0;
    }
    len--;
    while (out[len - 1] != '/') {
        len--;
    }
    return len;
}

/* path[0 .. len) begins with a slash. Returns the new length, 0 when the path climbs above its
 * root. */
static size_t resolve_segments(char *path, size_t len)
{
    size_t from = 1;
    size_t to = 1;
    while (from < len) {
        const char *slash = memchr(path + from, '/', len - from);
        size_t segment = slash != NULL ? (size_t)(slash - path) - from : len - from;
        const char *at = path + from;
        if (segment == 2 && at[0] == '.' && at[1] == '.') {
            to = parent(path, to);
            if (to == 0) {
                return 0;
            }
        } else if (segment > 0 && !(segment == 1 && at[0] == '.')) {
            memmove(path + to, at, segment);
            to += segment;
            if (slash != NULL) {
                path[to++] = '/';
            }
        }
        from += segment + 1;
    }
    return to;
}

int fibril__http_path_normalise(struct fibril__span path, char *out, size_t out_bytes,
                                size_t *ret_len)
{
    size_t len = 0;
    if (path.len == 0 || path.ptr[0] != '/') {
        return -EINVAL;
    }
    int rc = fibril__http_percent_decode(path, false, out, out_bytes, &len);
    if (rc != 0) {
        return rc;
    }
    len = resolve_segments(out, len);
    if (len == 0) {
        return -EINVAL;
    }
    *ret_len = len;
    return 0;
}

bool fibril__http_query_next(struct fibril__span *query, struct fibril__span *ret_name,
                             struct fibril__span *ret_value)
{
    while (query->len > 0) {
        const char *start = query->ptr;
        const char *amp = memchr(start, '&', query->len);
        size_t len = amp != NULL ? (size_t)(amp - start) : query->len;
        size_t step = amp != NULL ? len + 1 : len;
        query->ptr += step;
        query->len -= step;
        if (len == 0) {
            continue;
        }
        const char *equals = memchr(start, '=', len);
        size_t name = equals != NULL ? (size_t)(equals - start) : len;
        *ret_name = (struct fibril__span){start, name};
        *ret_value = (struct fibril__span){NULL, 0};
        if (equals != NULL) {
            *ret_value = (struct fibril__span){equals + 1, len - name - 1};
        }
        return true;
    }
    return false;
}
