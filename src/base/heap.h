/* SPDX-License-Identifier: MIT */
/*
 * A 4-ary min-heap of deadlines. Whoever waits is known in the heap by a number, and where that
 * number stands is kept in a dense array of its own: an entry moves about nine times on its way out
 * among 100,000, and writing its place into the waiter's record each time cost nine cache and TLB
 * misses. The four children of an entry share a cache line. A binary heap has twice the levels; a
 * timer wheel would round to ticks.
 */
#ifndef FIBRIL_BASE_HEAP_H
#define FIBRIL_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whoever waits in the heap keeps its number here; FIBRIL__HEAP_OUT while it is in none. */
struct fibril__heap_node {
    uint32_t index;
};

#define FIBRIL__HEAP_OUT UINT32_MAX

struct fibril__heap_entry {
    int64_t key;
    uint32_t number;
};

struct fibril__heap {
    struct fibril__heap_entry *entries; /* entries[1..4], [5..8], ... are cache lines */
    uint32_t *places;                   /* by number: index in entries, or the next free number */
    struct fibril__heap_node **nodes;   /* by number */
    void *memory;                       /* what entries lie in */
    uint32_t len, cap;
    uint32_t free_number; /* first of the list of numbers used before */
    uint32_t numbers;     /* numbers ever used */
};

void fibril__heap_fini(struct fibril__heap *h);

/* Makes room for `wanted` entries in all. Returns 0 or -ENOMEM. */
int fibril__heap_room(struct fibril__heap *h, uint64_t wanted);

/* Makes room for one more than now. Separate from the insertion, so that a caller can fail before
 * it has changed anything. */
static inline int fibril__heap_reserve(struct fibril__heap *h)
{
    return h->len < h->cap ? 0 : fibril__heap_room(h, (uint64_t)h->len + 1);
}

/* Inserts n, which is in no heap, into room that was reserved. Equal keys leave in no particular
 * order. */
void fibril__heap_insert(struct fibril__heap *h, struct fibril__heap_node *n, int64_t key);

/* Removes n; a no-op if it is out. */
void fibril__heap_remove(struct fibril__heap *h, struct fibril__heap_node *n);

/* The smallest key, INT64_MAX when empty. */
static inline int64_t fibril__heap_min(const struct fibril__heap *h)
{
    return h->len ? h->entries[0].key : INT64_MAX;
}

/* Removes all entries at once. The nodes are told that they are out only if `tell` is set: else
 * they must not be used again. */
void fibril__heap_clear(struct fibril__heap *h, bool tell);

/* Asks the machine for the nodes of entries that are due, up to 32 whose keys are not beyond
 * `until`, so that their cache and TLB misses are served side by side. Returns how many, at least
 * one if the smallest is due. */
unsigned fibril__heap_prefetch(const struct fibril__heap *h, int64_t until);

/* Removes and returns the node with the smallest key; the heap is not empty. */
struct fibril__heap_node *fibril__heap_pop(struct fibril__heap *h);

#endif
