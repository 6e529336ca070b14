/* SPDX-License-Identifier: MIT */
/* The pool of pieces: exact sizes, reuse, want of memory. */
#include "ctx/copies.h"

#include "base/alloc.h"
#include "test.h"

#include <string.h>

enum { LARGEST_CUT = FIBRIL__COPY_GRAIN * FIBRIL__COPY_CLASSES };

TEST(sizes_are_rounded_to_the_grain)
{
    ASSERT_EQ(fibril__copy_round(1), 16);
    ASSERT_EQ(fibril__copy_round(16), 16);
    ASSERT_EQ(fibril__copy_round(17), 32);
    ASSERT_EQ(fibril__copy_round(1 << 20), 1 << 20);
}

TEST(pieces_of_every_size_are_aligned_and_apart)
{
    struct fibril__copies pool = {.bytes = 0};
    static char *pieces[2 * FIBRIL__COPY_CLASSES];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2 * FIBRIL__COPY_CLASSES; i++) {
        uint32_t bytes = (i + 1) * FIBRIL__COPY_GRAIN;
        pieces[i] = fibril__copy_take(&pool, bytes);
        ASSERT(pieces[i]);
        ASSERT_EQ((uintptr_t)pieces[i] % FIBRIL__COPY_GRAIN, 0);
        memset(pieces[i], (int)i, bytes);
        sum += bytes;
        ASSERT_EQ(pool.bytes, sum);
    }
    for (uint32_t i = 0; i < 2 * FIBRIL__COPY_CLASSES; i++) {
        uint32_t bytes = (i + 1) * FIBRIL__COPY_GRAIN;
        for (uint32_t b = 0; b < bytes; b++) {
            ASSERT_EQ((unsigned char)pieces[i][b], (unsigned char)i);
        }
        fibril__copy_give(&pool, pieces[i], bytes);
    }
    ASSERT_EQ(pool.bytes, 0);
    fibril__copies_fini(&pool);
    ASSERT_EQ(fibril__alloc_live(), 0);
}

TEST(piece_given_back_is_the_next_of_its_size)
{
    struct fibril__copies pool = {.bytes = 0};
    void *a = fibril__copy_take(&pool, 208), *b = fibril__copy_take(&pool, 208);
    ASSERT_NE((uintptr_t)a, (uintptr_t)b);
    fibril__copy_give(&pool, a, 208);
    fibril__copy_give(&pool, b, 208);
    void *other = fibril__copy_take(&pool, 224);
    ASSERT(other != a && other != b);
    ASSERT_EQ((uintptr_t)fibril__copy_take(&pool, 208), (uintptr_t)b);
    ASSERT_EQ((uintptr_t)fibril__copy_take(&pool, 208), (uintptr_t)a);
    fibril__copies_fini(&pool);
}

TEST(many_pieces_cost_what_they_hold)
{
    struct fibril__copies pool = {.bytes = 0};
    enum { PIECES = 10000, BYTES = 240 };
    for (int i = 0; i < PIECES; i++) {
        ASSERT(fibril__copy_take(&pool, BYTES));
    }
    ASSERT_EQ(pool.bytes, PIECES * BYTES);
    ASSERT_LE(pool.chunk_len, PIECES * BYTES / (64 << 10) + 1);
    fibril__copies_fini(&pool);
}

TEST(pool_survives_want_of_memory)
{
    struct fibril__copies pool = {.bytes = 0};
    for (int64_t n = 0;; n++) {
        fibril__alloc_fail_after(n);
        void *small = fibril__copy_take(&pool, 48);
        void *large = fibril__copy_take(&pool, 2 * LARGEST_CUT);
        fibril__alloc_fail_after(-1);
        ASSERT_EQ(pool.bytes, (small ? 48u : 0u) + (large ? 2u * LARGEST_CUT : 0u));
        if (small) {
            fibril__copy_give(&pool, small, 48);
        }
        if (large) {
            fibril__copy_give(&pool, large, 2 * LARGEST_CUT);
        }
        if (small && large) {
            break;
        }
        ASSERT_LT(n, 10);
    }
    fibril__copies_fini(&pool);
    ASSERT_EQ(fibril__alloc_live(), 0);
}
