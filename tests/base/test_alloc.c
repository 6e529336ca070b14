/* SPDX-License-Identifier: MIT */
/*
 * The allocator of everything: it gives, counts, and fails exactly when it is told to, which all
 * allocation failure tests stand on.
 */
#include "test.h"

#include "base/alloc.h"

#include <string.h>

TEST(zeroed_memory_is_zero)
{
    static const char zeros[4000];
    char *p = fibril__alloc_zero(sizeof(zeros));
    ASSERT(p);
    ASSERT_MEM(p, zeros, sizeof(zeros));
    fibril__free(p);
}

TEST(a_copy_of_a_string_is_the_string)
{
    char *copy = fibril__strdup("fibril");
    ASSERT_STR(copy, "fibril");
    fibril__free(copy);
}

TEST(resizing_keeps_the_content)
{
    char *p = fibril__alloc(4);
    ASSERT(p);
    memcpy(p, "abc", 4);
    p = fibril__realloc(p, 100000);
    ASSERT_STR(p, "abc");
    fibril__free(p);
}

TEST(what_lives_is_counted)
{
    int64_t before = fibril__alloc_live();
    void *a = fibril__alloc(1);
    void *b = fibril__alloc_zero(1);
    void *c = fibril__strdup("c");
    a = fibril__realloc(a, 100);
    void *d = fibril__realloc(NULL, 10);
    ASSERT_EQ(fibril__alloc_live(), before + 4);
    fibril__free(a);
    fibril__free(b);
    fibril__free(c);
    fibril__free(d);
    fibril__free(NULL);
    ASSERT_EQ(fibril__alloc_live(), before);
}

TEST(it_fails_after_as_many_as_it_was_told_and_on)
{
    fibril__alloc_fail_after(2);
    void *a = fibril__alloc(1);
    void *b = fibril__alloc(1);
    ASSERT(a && b);
    ASSERT(!fibril__alloc(1));
    ASSERT(!fibril__alloc_zero(1));
    ASSERT(!fibril__strdup("x"));
    ASSERT(fibril__alloc_refuse());
    fibril__alloc_fail_after(-1);
    ASSERT(!fibril__alloc_refuse());
    void *c = fibril__alloc(1);
    ASSERT(c);
    fibril__free(a);
    fibril__free(b);
    fibril__free(c);
}

TEST(a_mapping_counts_as_one_allocation)
{
    fibril__alloc_fail_after(1);
    ASSERT(!fibril__alloc_refuse());
    ASSERT(!fibril__alloc(1));
    fibril__alloc_fail_after(-1);
}

TEST(a_failed_resize_leaves_the_old_memory)
{
    char *p = fibril__strdup("still here");
    fibril__alloc_fail_after(0);
    ASSERT(!fibril__realloc(p, 1000));
    fibril__alloc_fail_after(-1);
    ASSERT_STR(p, "still here");
    fibril__free(p);
}
