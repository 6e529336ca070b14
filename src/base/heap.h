/* SPDX-License-Identifier: MIT */
/*
 * A 4-ary min-heap of deadlines in one dense array. Keys lie beside the pointers, so sifting
 * touches no fibril until it moves an entry, and then only to store its index: a wake-up among a
 * million sleepers reads about ten cache lines. A binary heap has twice the levels; a timer wheel
 * would round to ticks.
 */
#ifndef FIBRIL_BASE_HEAP_H
#define FIBRIL_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Whoever waits in the heap keeps its index here; FIBRIL__HEAP_OUT while it is in none. */
struct fibril__heap_node {
    uint32_t index;
};

#define FIBRIL__HEAP_OUT UINT32_MAX

struct fibril__heap_entry {
    int64_t key;
    struct fibril__heap_node *node;
};

struct fibril__heap {
    struct fibril__heap_entry *entries;
    uint32_t len, cap;
};

void fibril__heap_fini(struct fibril__heap *h);

/* Makes room for one more than now. Returns 0 or -ENOMEM. Separate from the insertion, so that a
 * caller can fail before it has changed anything. */
int fibril__heap_reserve(struct fibril__heap *h);

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

/* Removes and returns the node with the smallest key; the heap is not empty. */
struct fibril__heap_node *fibril__heap_pop(struct fibril__heap *h);

#endif
