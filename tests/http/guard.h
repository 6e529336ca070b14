/* SPDX-License-Identifier: MIT */
/*
 * Bytes that end right before a page nobody may touch: reading one byte too many kills the test.
 * Reading before the first byte is not caught.
 */
#ifndef FIBRIL_TESTS_HTTP_GUARD_H
#define FIBRIL_TESTS_HTTP_GUARD_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

struct guard {
    char *map;
    size_t data_bytes; /* before the guard page */
};

static inline struct guard guard_new(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guard g = {NULL, (bytes + page - 1) / page * page};
    void *map =
        mmap(NULL, g.data_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(map != MAP_FAILED);
    g.map = map;
    ASSERT_EQ(mprotect(g.map + g.data_bytes, page, PROT_NONE), 0);
    return g;
}

/* A copy of the bytes whose end is the end of what may be read. */
static inline char *guard_put(struct guard *g, const void *bytes, size_t len)
{
    char *at = g->map + g->data_bytes - len;
    if (len > 0) {
        memcpy(at, bytes, len);
    }
    return at;
}

#endif
