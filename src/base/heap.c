/* SPDX-License-Identifier: MIT */
/* See heap.h. */
#include "base/heap.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { ARITY = 4, CAP_MIN = 64, LINE = 64, PREFETCH = 32 };

void fibril__heap_fini(struct fibril__heap *h)
{
    fibril__free(h->memory);
    fibril__free(h->places);
    fibril__free(h->nodes);
    *h = (struct fibril__heap){0};
}

/* Moves the entries to memory in which entries[1] begins a cache line. */
static bool grow_entries(struct fibril__heap *h, uint32_t cap)
{
    char *memory = fibril__alloc(cap * sizeof(*h->entries) + 2 * LINE);
    if (!memory) {
        return false;
    }
    uintptr_t line = ((uintptr_t)memory + sizeof(*h->entries) + LINE - 1) & ~(uintptr_t)(LINE - 1);
    struct fibril__heap_entry *entries = (struct fibril__heap_entry *)line - 1;
    if (h->len > 0) {
        memcpy(entries, h->entries, h->len * sizeof(*entries));
    }
    fibril__free(h->memory);
    h->memory = memory;
    h->entries = entries;
    return true;
}

static bool grow(struct fibril__heap *h, uint32_t cap)
{
    uint32_t *places = fibril__realloc(h->places, cap * sizeof(*places));
    if (!places) {
        return false;
    }
    h->places = places;
    struct fibril__heap_node **nodes = fibril__realloc(h->nodes, cap * sizeof(*nodes));
    if (!nodes) {
        return false;
    }
    h->nodes = nodes;
    return grow_entries(h, cap);
}

int fibril__heap_room(struct fibril__heap *h, uint64_t wanted)
{
    uint64_t cap = h->cap ? h->cap : CAP_MIN;
    while (cap < wanted) {
        cap *= 2;
    }
    if (cap == h->cap) {
        return 0;
    }
    if (cap > UINT32_MAX || !grow(h, (uint32_t)cap)) {
        return -ENOMEM;
    }
    h->cap = (uint32_t)cap;
    return 0;
}

/* There are at most as many numbers as there have ever been entries at once. */
static uint32_t take_number(struct fibril__heap *h, struct fibril__heap_node *n)
{
    uint32_t number = h->numbers;
    if (h->len < h->numbers) {
        number = h->free_number;
        h->free_number = h->places[number];
    } else {
        h->numbers++;
    }
    h->nodes[number] = n;
    n->index = number;
    return number;
}

static inline void place(struct fibril__heap *h, uint32_t i, struct fibril__heap_entry e)
{
    h->entries[i] = e;
    h->places[e.number] = i;
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
    uint32_t number = take_number(h, n);
    sift_up(h, h->len++, (struct fibril__heap_entry){key, number});
}

/* Takes the entry at i out and fills its place with the last one. */
static void take_out(struct fibril__heap *h, uint32_t i)
{
    uint32_t number = h->entries[i].number;
    h->nodes[number]->index = FIBRIL__HEAP_OUT;
    h->places[number] = h->free_number;
    h->free_number = number;
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

void fibril__heap_remove(struct fibril__heap *h, struct fibril__heap_node *n)
{
    if (n->index == FIBRIL__HEAP_OUT) {
        return;
    }
    FIBRIL_ASSERT(n->index < h->numbers && h->nodes[n->index] == n);
    take_out(h, h->places[n->index]);
}

void fibril__heap_clear(struct fibril__heap *h, bool tell)
{
    for (uint32_t i = 0; tell && i < h->len; i++) {
        h->nodes[h->entries[i].number]->index = FIBRIL__HEAP_OUT;
    }
    h->len = h->numbers = h->free_number = 0;
}

/* Whoever is due has a parent that is: they are a tree at the top, walked here level by level. */
unsigned fibril__heap_prefetch(const struct fibril__heap *h, int64_t until)
{
    uint32_t found[PREFETCH];
    unsigned n = 0;
    if (h->len > 0 && h->entries[0].key <= until) {
        found[n++] = 0;
    }
    for (unsigned next = 0; next < n; next++) {
        __builtin_prefetch(h->nodes[h->entries[found[next]].number], 1);
        uint32_t first = found[next] * ARITY + 1;
        for (uint32_t i = first; i < first + ARITY && i < h->len && n < PREFETCH; i++) {
            if (h->entries[i].key <= until) {
                found[n++] = i;
            }
        }
    }
    return n;
}

struct fibril__heap_node *fibril__heap_pop(struct fibril__heap *h)
{
    struct fibril__heap_node *n = h->nodes[h->entries[0].number];
    take_out(h, 0);
    return n;
}
