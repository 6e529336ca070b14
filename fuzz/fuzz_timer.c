/* SPDX-License-Identifier: MIT */
/*
 * The heap of deadlines against a sorted array. Bytes: an operation and its arguments, one after
 * the other. Properties: the heap's smallest key is the array's; what is popped has it; every node
 * knows its place; what is removed is out; a refused growth changes nothing.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/heap.h"
#include "fuzz.h"

enum { NODES = 256 };

struct model {
    struct fibril__heap heap;
    struct fibril__heap_node nodes[NODES];
    int64_t keys[NODES];   /* by node */
    uint8_t sorted[NODES]; /* the nodes that are in, smallest key first */
    size_t len;
};

/* Keys that are close, far, equal, and at the ends of what there is. */
static int64_t key_of(uint8_t byte)
{
    static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX, 0};
    return byte >= 248 ? ends[byte - 248] : byte >= 200 ? (int64_t)byte << 40 : byte / 3;
}

static void insert(struct model *m, uint8_t node, int64_t key, int refuse)
{
    struct fibril__heap before = m->heap;
    if (m->nodes[node].index != FIBRIL__HEAP_OUT) {
        return;
    }
    fibril__alloc_fail_after(refuse ? 0 : -1);
    int rc = fibril__heap_reserve(&m->heap);
    fibril__alloc_fail_after(-1);
    REQUIRE(rc == 0 || (rc == -ENOMEM && refuse && before.len == before.cap));
    if (rc < 0) {
        REQUIRE(memcmp(&before, &m->heap, sizeof before) == 0);
        return;
    }
    fibril__heap_insert(&m->heap, &m->nodes[node], key);
    m->keys[node] = key;
    size_t at = m->len++;
    for (; at > 0 && m->keys[m->sorted[at - 1]] > key; at--) {
        m->sorted[at] = m->sorted[at - 1];
    }
    m->sorted[at] = node;
}

static void forget(struct model *m, uint8_t node)
{
    size_t at = 0;
    while (at < m->len && m->sorted[at] != node) {
        at++;
    }
    if (at < m->len) {
        memmove(&m->sorted[at], &m->sorted[at + 1], m->len - at - 1);
        m->len--;
    }
}

static void pop(struct model *m)
{
    if (m->len == 0) {
        return;
    }
    struct fibril__heap_node *n = fibril__heap_pop(&m->heap);
    REQUIRE(n >= m->nodes && n < m->nodes + NODES);
    uint8_t node = (uint8_t)(n - m->nodes);
    REQUIRE(m->keys[node] == m->keys[m->sorted[0]]); /* among equal keys any may be first */
    REQUIRE(n->index == FIBRIL__HEAP_OUT);
    forget(m, node);
}

static void check(const struct model *m)
{
    REQUIRE(m->heap.len == m->len);
    REQUIRE(fibril__heap_min(&m->heap) == (m->len ? m->keys[m->sorted[0]] : INT64_MAX));
    for (size_t i = 0; i < m->len; i++) {
        const struct fibril__heap_node *n = &m->nodes[m->sorted[i]];
        REQUIRE(n->index < m->heap.numbers);
        REQUIRE(m->heap.nodes[n->index] == n);
        const struct fibril__heap_entry *e = &m->heap.entries[m->heap.places[n->index]];
        REQUIRE(e->number == n->index);
        REQUIRE(e->key == m->keys[m->sorted[i]]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;
    int64_t live = fibril__alloc_live();
    memset(&m, 0, sizeof m);
    for (size_t i = 0; i < NODES; i++) {
        m.nodes[i].index = FIBRIL__HEAP_OUT;
    }
    for (size_t i = 0; i + 2 < size; i += 3) {
        uint8_t node = data[i + 1];
        switch (data[i] % 8) {
        case 0:
        case 1: pop(&m); break;
        case 2:
            fibril__heap_remove(&m.heap, &m.nodes[node]);
            REQUIRE(m.nodes[node].index == FIBRIL__HEAP_OUT);
            forget(&m, node);
            break;
        default: insert(&m, node, key_of(data[i + 2]), data[i] % 8 == 3);
        }
        check(&m);
    }
    while (m.len) {
        pop(&m);
        check(&m);
    }
    fibril__heap_fini(&m.heap);
    REQUIRE(fibril__alloc_live() == live);
    return 0;
}
