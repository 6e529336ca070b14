/* SPDX-License-Identifier: MIT */
/*
 * The heap of deadlines against a plain array that is searched: whatever is inserted, removed and
 * popped in whatever order, the smallest key comes out and every node knows where it is.
 */
#include "test.h"

#include "base/alloc.h"
#include "base/heap.h"

#include <errno.h>
#include <string.h>

enum { NODES = 300 };

struct model {
    struct fibril__heap heap;
    struct fibril__heap_node nodes[NODES];
    int64_t keys[NODES];
    bool in[NODES];
    uint64_t random;
};

static uint32_t draw(struct model *m, uint32_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % below;
}

static void model_init(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof(*m));
    m->random = seed;
    for (int i = 0; i < NODES; i++) {
        m->nodes[i].index = FIBRIL__HEAP_OUT;
    }
}

static int64_t model_min(const struct model *m)
{
    int64_t min = INT64_MAX;
    for (int i = 0; i < NODES; i++) {
        min = m->in[i] && m->keys[i] < min ? m->keys[i] : min;
    }
    return min;
}

static void check_places(const struct model *m)
{
    uint32_t count = 0;
    for (int i = 0; i < NODES; i++) {
        if (m->in[i]) {
            count++;
            uint32_t number = m->nodes[i].index;
            ASSERT_LT(number, m->heap.numbers);
            ASSERT_EQ(m->heap.nodes[number], &m->nodes[i]);
            ASSERT_LT(m->heap.places[number], m->heap.len);
            ASSERT_EQ(m->heap.entries[m->heap.places[number]].number, number);
            ASSERT_EQ(m->heap.entries[m->heap.places[number]].key, m->keys[i]);
        } else {
            ASSERT_EQ(m->nodes[i].index, FIBRIL__HEAP_OUT);
        }
    }
    ASSERT_EQ(m->heap.len, count);
}

static void insert(struct model *m, uint32_t i)
{
    m->keys[i] = (int64_t)draw(m, 50) - 10; /* few values: many are equal */
    m->in[i] = true;
    ASSERT_OK(fibril__heap_reserve(&m->heap));
    fibril__heap_insert(&m->heap, &m->nodes[i], m->keys[i]);
}

static void pop(struct model *m)
{
    int64_t min = model_min(m);
    struct fibril__heap_node *node = fibril__heap_pop(&m->heap);
    long i = node - m->nodes;
    ASSERT(m->in[i]);
    ASSERT_EQ(m->keys[i], min);
    m->in[i] = false;
}

static void step(struct model *m)
{
    uint32_t i = draw(m, NODES);
    uint32_t what = draw(m, 4);
    if (what == 0 && m->heap.len) {
        pop(m);
    } else if (!m->in[i]) {
        insert(m, i);
    } else if (what == 1) {
        fibril__heap_remove(&m->heap, &m->nodes[i]);
        m->in[i] = false;
    }
    ASSERT_EQ(fibril__heap_min(&m->heap), model_min(m));
}

TEST(random_use_agrees_with_a_searched_array)
{
    static struct model m;
    int steps = test_is_long() ? 200000 : test_is_slow() ? 2000 : 20000;
    model_init(&m, 42);
    for (int i = 0; i < steps; i++) {
        step(&m);
        if (i % 64 == 0) {
            check_places(&m);
        }
    }
    check_places(&m);
    fibril__heap_fini(&m.heap);
}

TEST(everything_comes_out_in_order)
{
    static struct model m;
    model_init(&m, 7);
    for (uint32_t i = 0; i < NODES; i++) {
        insert(&m, i);
    }
    while (m.heap.len) {
        pop(&m);
    }
    ASSERT_EQ(fibril__heap_min(&m.heap), INT64_MAX);
    check_places(&m);
    fibril__heap_fini(&m.heap);
}

static unsigned due_in(const struct model *m, int64_t until)
{
    unsigned due = 0;
    for (int i = 0; i < NODES; i++) {
        due += m->in[i] && m->keys[i] <= until;
    }
    return due;
}

TEST(prefetching_finds_all_that_are_due_up_to_32)
{
    struct model m;
    model_init(&m, 5);
    ASSERT_EQ(fibril__heap_prefetch(&m.heap, INT64_MAX), 0);
    for (uint32_t i = 0; i < NODES; i++) {
        insert(&m, i);
    }
    for (int64_t until = -11; until < 40; until++) {
        unsigned due = due_in(&m, until);
        ASSERT_EQ(fibril__heap_prefetch(&m.heap, until), due < 32 ? due : 32);
    }
    fibril__heap_fini(&m.heap);
}

TEST(removing_what_is_out_is_nothing)
{
    static struct model m;
    model_init(&m, 1);
    insert(&m, 3);
    fibril__heap_remove(&m.heap, &m.nodes[4]);
    check_places(&m);
    fibril__heap_fini(&m.heap);
}

TEST(reserving_fails_cleanly_without_memory)
{
    static struct model m;
    model_init(&m, 1);
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril__heap_reserve(&m.heap), -ENOMEM);
    fibril__alloc_fail_after(-1);
    insert(&m, 0);
    /* Growing fails just so, and what is inside stays. */
    while (m.heap.len < m.heap.cap) {
        insert(&m, m.heap.len);
    }
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril__heap_reserve(&m.heap), -ENOMEM);
    fibril__alloc_fail_after(-1);
    check_places(&m);
    fibril__heap_fini(&m.heap);
    ASSERT_EQ(fibril__alloc_live(), 0);
}
