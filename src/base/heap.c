/* SPDX-License-Identifier: MIT */
/* See heap.h. */
#include "base/heap.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

enum { ARITY = 4, CAP_MIN = 64 };

void fibril__heap_fini(struct fibril__heap *h)
{
    fibril__free(h->entries);
    *h = (struct fibril__heap){0};
}

int fibril__heap_reserve(struct fibril__heap *h)
{
    if (LIKELY(h->len < h->cap)) {
        return 0;
    }
    if (h->cap > UINT32_MAX / 2) {
        return -ENOMEM;
    }
    uint32_t cap = h->cap ? h->cap * 2 : CAP_MIN;
    void *p = fibril__realloc(h->entries, cap * sizeof *h->entries);
    if (!p) {
        return -ENOMEM;
    }
    h->entries = p;
    h->cap = cap;
    return 0;
}

static inline void place(struct fibril__heap *h, uint32_t i, struct fibril__heap_entry e)
{
    h->entries[i] = e;
    e.node->index = i;
}

/* Both sifts carry the entry in a hole and write it once. */
static void sift_up(struct fibril__heap *h, uint32_t i, struct fibril__heap_entry e)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (h->entries[parent].key <= e.key) {
            break;
        }
        place(h, i, h->entries[parent]);
        i = parent;
    }
    place(h, i, e);
}

static uint32_t smallest_child(const struct fibril__heap *h, uint32_t first)
{
    uint32_t end = first + ARITY < h->len ? first + ARITY : h->len;
    uint32_t best = first;
    for (uint32_t i = first + 1; i < end; i++) {
        if (h->entries[i].key < h->entries[best].key) {
            best = i;
        }
    }
    return best;
}

static void sift_down(struct fibril__heap *h, uint32_t i, struct fibril__heap_entry e)
{
    for (;;) {
        uint32_t first = i * ARITY + 1;
        if (first >= h->len) {
            break;
        }
        uint32_t child = smallest_child(h, first);
        if (h->entries[child].key >= e.key) {
            break;
        }
        place(h, i, h->entries[child]);
        i = child;
    }
    place(h, i, e);
}

void fibril__heap_insert(struct fibril__heap *h, struct fibril__heap_node *n, int64_t key)
{
    FIBRIL_ASSERT(h->len < h->cap);
    FIBRIL_CHECK(n->index == FIBRIL__HEAP_OUT);
    sift_up(h, h->len++, (struct fibril__heap_entry){key, n});
}

void fibril__heap_remove(struct fibril__heap *h, struct fibril__heap_node *n)
{
    uint32_t i = n->index;
    if (i == FIBRIL__HEAP_OUT) {
        return;
    }
    FIBRIL_ASSERT(i < h->len && h->entries[i].node == n);
    n->index = FIBRIL__HEAP_OUT;
    struct fibril__heap_entry last = h->entries[--h->len];
    if (i == h->len) {
        return;
    }
    if (i > 0 && h->entries[(i - 1) / ARITY].key > last.key) {
        sift_up(h, i, last);
    } else {
        sift_down(h, i, last);
    }
}

struct fibril__heap_node *fibril__heap_pop(struct fibril__heap *h)
{
    struct fibril__heap_node *n = h->entries[0].node;
    fibril__heap_remove(h, n);
    return n;
}
