/* SPDX-License-Identifier: MIT */
/*
 * An intrusive doubly linked list with a head: no allocation, removal without knowing the list.
 */
#ifndef FIBRIL_BASE_LIST_H
#define FIBRIL_BASE_LIST_H

#include "base/compiler.h"

#include <stdbool.h>

struct fibril__link {
    struct fibril__link *next, *prev; /* both NULL while in no list; queues linked one way use next
                                         only */
};

/* A list is a link that is its own neighbour when empty. */
struct fibril__list {
    struct fibril__link head;
};

static inline void fibril__list_init(struct fibril__list *l)
{
    l->head.next = l->head.prev = &l->head;
}

static inline bool fibril__list_empty(const struct fibril__list *l)
{
    return l->head.next == &l->head;
}

static inline void fibril__list_push(struct fibril__list *l, struct fibril__link *n)
{
    n->next = &l->head;
    n->prev = l->head.prev;
    l->head.prev->next = n; /* NOLINT(clang-analyzer-core.NullDereference): a head has neighbours */
    l->head.prev = n;
}

static inline bool fibril__link_in_list(const struct fibril__link *n)
{
    return n->prev != NULL;
}

/* Removes n from its list; a no-op if it is in none. */
static inline void fibril__link_remove(struct fibril__link *n)
{
    if (n->prev) {
        n->next->prev = n->prev;
        n->prev->next = n->next;
        n->next = n->prev = NULL;
    }
}

static inline struct fibril__link *fibril__list_first(const struct fibril__list *l)
{
    return l->head.next == &l->head ? NULL : l->head.next;
}

static inline struct fibril__link *fibril__list_pop(struct fibril__list *l)
{
    struct fibril__link *n = fibril__list_first(l);
    if (n) {
        fibril__link_remove(n);
    }
    return n;
}

#endif
