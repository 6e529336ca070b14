/* SPDX-License-Identifier: MIT */
/*
 * What every fuzz target shares: a property check that survives NDEBUG, and input copied so that
 * its end is the end of an allocation (AddressSanitizer then sees a read of one byte too many).
 */
#ifndef FIBRIL_FUZZ_H
#define FIBRIL_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: property does not hold: %s\n", __FILE__, __LINE__, #x);        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The caller frees it. Never NULL, also for no bytes. */
static inline char *fuzz_copy(const void *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    REQUIRE(copy != NULL);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

#endif
