/* SPDX-License-Identifier: MIT */
/*
 * See alloc.h. Counting costs one relaxed atomic add per call; whatever is hot in fibril has a pool
 * of its own and does not come here.
 */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t live;
static _Atomic int64_t left = -1;

int fibril__alloc_refuse(void)
{
    int64_t n = atomic_load_explicit(&left, memory_order_relaxed);
    while (n >= 0) {
        if (n == 0) {
            return 1;
        }
        if (atomic_compare_exchange_weak(&left, &n, n - 1)) {
            return 0;
        }
    }
    return 0;
}

static void *counted(void *p)
{
    if (p) {
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    }
    return p;
}

void *fibril__alloc(size_t bytes)
{
    return fibril__alloc_refuse() ? NULL : counted(malloc(bytes ? bytes : 1));
}

void *fibril__alloc_zero(size_t bytes)
{
    return fibril__alloc_refuse() ? NULL : counted(calloc(1, bytes ? bytes : 1));
}

void *fibril__realloc(void *p, size_t bytes)
{
    if (!p) {
        return fibril__alloc(bytes);
    }
    return fibril__alloc_refuse() ? NULL : realloc(p, bytes ? bytes : 1);
}

void fibril__free(void *p)
{
    if (p) {
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
        free(p);
    }
}

char *fibril__strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = fibril__alloc(n);
    return copy ? memcpy(copy, s, n) : NULL;
}

void fibril__alloc_fail_after(int64_t n)
{
    atomic_store(&left, n);
}

int64_t fibril__alloc_live(void)
{
    return atomic_load_explicit(&live, memory_order_relaxed);
}
