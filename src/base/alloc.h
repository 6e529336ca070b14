/* SPDX-License-Identifier: MIT */
/*
 * The only caller of malloc. Every allocation can fail, and in tests is made to:
 * fibril__alloc_fail_after(n) lets n more succeed and fails all later ones, so a test can walk a
 * scenario through every failure point.
 */
#ifndef FIBRIL_BASE_ALLOC_H
#define FIBRIL_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* Returns `bytes` of memory, undefined or zeroed, or NULL. Thread-safe. */
void *fibril__alloc(size_t bytes);
void *fibril__alloc_zero(size_t bytes);

/* Resizes as realloc does; on NULL the old memory stays valid. */
void *fibril__realloc(void *p, size_t bytes);

/* Frees; NULL is ignored. */
void fibril__free(void *p);

/* Returns a copy of the string, or NULL. */
char *fibril__strdup(const char *s);

/* Says whether the next allocation that does not go through malloc (a mapping) is to fail: it
 * counts as one. */
int fibril__alloc_refuse(void);

/* Lets n more allocations of the process succeed and fails the later ones; -1 ends the failing. */
void fibril__alloc_fail_after(int64_t n);

/* How many allocations are live; for leak checks in tests. */
int64_t fibril__alloc_live(void);

#endif
