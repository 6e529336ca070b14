/* SPDX-License-Identifier: MIT */
/*
 * An intrusive hash map from 64-bit numbers: chains in a table that doubles. Several nodes may have
 * the same key. Room is made before a node is inserted, so that a caller can fail before it has
 * changed anything; a table that cannot grow goes on with longer chains.
 */
#ifndef FIBRIL_BASE_MAP_H
#define FIBRIL_BASE_MAP_H

#include "base/alloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fibril__map_node {
    struct fibril__map_node *next;
    uint64_t key;
};

/* All zero is an empty map. */
struct fibril__map {
    struct fibril__map_node **buckets;
    size_t n, count;
};

static inline struct fibril__map_node **fibril__map_bucket(const struct fibril__map *map,
                                                           uint64_t key)
{
    return &map->buckets[(size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (map->n - 1)];
}

/* Makes room for one more. Returns 0 or -ENOMEM. */
static inline int fibril__map_reserve(struct fibril__map *map)
{
    enum { BUCKETS_MIN = 16 };
    if (map->count < map->n) {
        return 0;
    }
    struct fibril__map old = *map;
    map->n = old.n ? 2 * old.n : BUCKETS_MIN;
    map->buckets = (struct fibril__map_node **)fibril__alloc_zero(map->n * sizeof *map->buckets);
    if (!map->buckets) {
        *map = old;
        return old.n ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < old.n; i++) {
        for (struct fibril__map_node *node = old.buckets[i], *next; node; node = next) {
            struct fibril__map_node **bucket = fibril__map_bucket(map, node->key);
            next = node->next;
            node->next = *bucket;
            *bucket = node;
        }
    }
    fibril__free((void *)old.buckets);
    return 0;
}

/* Inserts a node into room that was made. */
static inline void fibril__map_insert(struct fibril__map *map, struct fibril__map_node *node,
                                      uint64_t key)
{
    struct fibril__map_node **bucket = fibril__map_bucket(map, key);
    node->key = key;
    node->next = *bucket;
    *bucket = node;
    map->count++;
}

/* Returns a node with this key, NULL if there is none. */
static inline struct fibril__map_node *fibril__map_find(const struct fibril__map *map, uint64_t key)
{
    struct fibril__map_node *node = map->n ? *fibril__map_bucket(map, key) : NULL;
    while (node && node->key != key) {
        node = node->next;
    }
    return node;
}

/* Removes a node that is in the map. */
static inline void fibril__map_remove(struct fibril__map *map, struct fibril__map_node *node)
{
    struct fibril__map_node **at = fibril__map_bucket(map, node->key);
    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
    map->count--;
}

/* Frees the table. */
static inline void fibril__map_fini(struct fibril__map *map)
{
    fibril__free((void *)map->buckets);
    *map = (struct fibril__map){NULL, 0, 0};
}

#endif
