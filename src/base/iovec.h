/* SPDX-License-Identifier: MIT */
/* The rules of the kernel for vectors, for all who take one. */
#ifndef FIBRIL_BASE_IOVEC_H
#define FIBRIL_BASE_IOVEC_H

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/uio.h>

/* Sums the lengths up; -EINVAL where the kernel says so too. */
static inline int fibril__iovec_bytes(const struct iovec *iov, int n, size_t *ret_bytes)
{
    if (n < 0 || n > IOV_MAX) {
        return -EINVAL;
    }
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len > (size_t)SSIZE_MAX - bytes) {
            return -EINVAL;
        }
        bytes += iov[i].iov_len;
    }
    *ret_bytes = bytes;
    return 0;
}

#endif
