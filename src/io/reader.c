/* SPDX-License-Identifier: MIT */
/*
 * A buffer in front of a descriptor, for protocols with delimiters. The bytes in [start, end) are
 * read and not yet handed out; of these the first `seen` were searched in vain, so each byte is
 * looked at once, however small the pieces are in which it comes.
 */
#include <fibril/io.h>

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

struct fibril_reader {
    int fd;
    size_t bytes; /* size of the buffer */
    size_t start, end, seen;
    char buffer[];
};

int fibril_reader_new(int fd, size_t bytes, struct fibril_reader **ret_reader)
{
    if (bytes == 0 || bytes > SIZE_MAX / 2) {
        return -EINVAL;
    }
    struct fibril_reader *r = fibril__alloc(sizeof(*r) + bytes);
    if (!r) {
        return -ENOMEM;
    }
    *r = (struct fibril_reader){.fd = fd, .bytes = bytes};
    *ret_reader = r;
    return 0;
}

void fibril_reader_free(struct fibril_reader *r)
{
    fibril__free(r);
}

/* Reads more behind what is there; there is room, if need be after moving it to the front. */
static ssize_t fill(struct fibril_reader *r, int64_t deadline_ns)
{
    if (r->start == r->end) {
        r->start = r->end = 0;
    } else if (r->end == r->bytes) {
        memmove(r->buffer, r->buffer + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    ssize_t n = fibril_read(r->fd, r->buffer + r->end, r->bytes - r->end, deadline_ns);
    r->end += n > 0 ? (size_t)n : 0;
    return n;
}

/* Hands out the first len bytes. */
static ssize_t take(struct fibril_reader *r, size_t len, const char **ret_span)
{
    *ret_span = r->buffer + r->start;
    r->start += len;
    r->seen = 0;
    return (ssize_t)len;
}

/* The length up to and with the delimiter, 0 if it is not there yet. */
static size_t find(struct fibril_reader *r, const void *delim, size_t delim_len)
{
    size_t have = r->end - r->start;
    size_t from = r->seen < have ? r->seen : have;
    const char *begin = r->buffer + r->start;
    const char *hit = memmem(begin + from, have - from, delim, delim_len);
    if (hit) {
        return (size_t)(hit - begin) + delim_len;
    }
    r->seen = have >= delim_len ? have - delim_len + 1 : 0; /* its beginning may be at the end */
    return 0;
}

ssize_t fibril_read_until(struct fibril_reader *r, const void *delim, size_t delim_len,
                          const char **ret_span, int64_t deadline_ns)
{
    if (delim_len == 0) {
        return -EINVAL;
    }
    r->seen = 0; /* the delimiter may be another one than last time */
    for (;;) {
        size_t len = find(r, delim, delim_len);
        if (len) {
            return take(r, len, ret_span);
        }
        if (r->end - r->start == r->bytes) {
            return -EMSGSIZE;
        }
        ssize_t n = fill(r, deadline_ns);
        if (n < 0) {
            return n;
        }
        if (n == 0) {
            return r->start == r->end ? 0 : -EPIPE;
        }
    }
}

ssize_t fibril_reader_read_all(struct fibril_reader *r, void *buf, size_t len, int64_t deadline_ns)
{
    size_t have = r->end - r->start;
    size_t n = have < len ? have : len;
    memcpy(buf, r->buffer + r->start, n);
    r->start += n;
    r->seen = 0;
    if (n == len) {
        return (ssize_t)len;
    }
    ssize_t rest = fibril_read_all(r->fd, (char *)buf + n, len - n, deadline_ns);
    return rest < 0 ? rest : (ssize_t)len;
}
