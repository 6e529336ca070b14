/* SPDX-License-Identifier: MIT */
/*
 * Slots: equal pieces of large reserved regions, from which own stacks and the records of
 * copied-stack fibrils are taken. Address space is reserved, pages come when they are touched.
 * Since every fibril's record lies in a slot, all fibrils of the process can be found by walking
 * the regions: by a dump, by the overflow report in a signal handler, and by gdb in a core file.
 * That saves each fibril two list pointers.
 *
 * A slot's size is a power of two and its address a multiple of it. Stack slots have a guard page
 * at the low end, by MADV_GUARD_INSTALL (Linux 6.13: costs no mapping), else by mprotect while
 * vm.max_map_count leaves room; past that they are unguarded, which the counters show and each park
 * checks by a mark at the low end.
 *
 * Where somebody can make a fibril turn back that has used up its stack, larger stacks have a
 * reserve right above the guard page: guarded like it, and opened in steps when it is touched.
 */
#ifndef FIBRIL_CTX_SLOTS_H
#define FIBRIL_CTX_SLOTS_H

#include "base/compiler.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FIBRIL__SLOT_LOG2_MIN = 7,  /* records: 128 bytes */
    FIBRIL__SLOT_LOG2_MAX = 30, /* stacks: 1 GiB */
    FIBRIL__STACK_LOG2_MIN = 14,
};

struct fibril__region {
    char *base;
    size_t bytes;
    uint8_t log2;
    bool stacks;              /* slots are stacks, with guards */
    _Atomic uint32_t used;    /* slots handed out so far; the ones above have never been touched */
    _Atomic uint32_t guarded; /* the first so many stacks have a guard page, the later ones none */
    _Atomic uint32_t narrow;  /* the first so many stacks have no reserve */
    uint32_t count;           /* slots in all */
    struct fibril__region *next_same; /* an older region of the same kind and size */
};

/* The free slots of one loop and one size, last in first out. */
struct fibril__slot_cache {
    void **items;
    uint32_t len, cap;
    uint32_t released; /* items[0..released) have given their pages back */
    uint32_t taken;    /* slots that came through here: items has room for all of them */
    uint32_t len_min;  /* smallest len since the last trim: so many were not needed */
    uint8_t log2;
    bool stacks;
};

struct fibril__slot_counts {
    _Atomic uint64_t mapped, unguarded;
};
extern struct fibril__slot_counts fibril__slot_counts;

void fibril__slot_cache_init(struct fibril__slot_cache *c, uint8_t log2, bool stacks);

/* Gives the pages of all cached slots back and the slots to the process. */
void fibril__slot_cache_fini(struct fibril__slot_cache *c);

/* Takes a slot nobody has cached. NULL if the system refuses. */
void *fibril__slot_take_fresh(struct fibril__slot_cache *c);

/* The same, and makes sure that the cache can take it back whatever memory there will be then. */
void *fibril__slot_take_grow(struct fibril__slot_cache *c);

/* Takes a slot. Its content is undefined. NULL: out of memory. */
static inline void *fibril__slot_take(struct fibril__slot_cache *c)
{
#if !FIBRIL_HARD
    if (c->len > 0) {
        void *p = c->items[--c->len];
        if (c->len < c->len_min) {
            c->len_min = c->len;
            if (c->len < c->released) {
                c->released = c->len;
            }
        }
        return p;
    }
#endif
    return fibril__slot_take_grow(c);
}

/* Makes sure that the cache can take back a slot that was not taken from it. False: no memory. */
bool fibril__slot_adopt(struct fibril__slot_cache *c);

void fibril__slot_give_grow(struct fibril__slot_cache *c, void *slot);

/* Gives a slot back. The caller may still be running on it, until the next take. Never fails. */
static inline void fibril__slot_give(struct fibril__slot_cache *c, void *slot)
{
    if (c->len < c->cap) {
        c->items[c->len++] = slot;
    } else {
        fibril__slot_give_grow(c, slot);
    }
}

/* In the child of a fork, from a handler that may run before ours: nobody holds the lock. */
void fibril__slots_forked(void);

/* Gives the pages of n adjoining stack slots with guard pages back. False: the system refuses. */
bool fibril__slots_drop(char *first, size_t n, uint8_t log2);

/* Gives the pages of slots that were not needed since the last call back to the system. */
void fibril__slot_cache_trim(struct fibril__slot_cache *c);

/* The region that holds address p, or NULL. Async-signal-safe. */
const struct fibril__region *fibril__region_of(const void *p);

/* Region number i, NULL past the last. Async-signal-safe. */
const struct fibril__region *fibril__region_at(unsigned i);

/* Whether a stack slot lacks a guard page; it then begins with a mark, which an overflow destroys.
 */
bool fibril__slot_unguarded_slow(const void *slot);
extern _Atomic bool fibril__slots_some_unguarded;
static inline bool fibril__slot_unguarded(const void *slot)
{
    return UNLIKELY(atomic_load_explicit(&fibril__slots_some_unguarded, memory_order_relaxed)) &&
           fibril__slot_unguarded_slow(slot);
}
bool fibril__slot_mark_intact(const void *slot);

/* Makes a page of the caller's own mapping a guard, in the way that takes the fewest mappings.
 * False: the system refuses. */
bool fibril__page_guard(char *page);

/* Stacks that are mapped from now on have a reserve, if they are large enough. For good. */
void fibril__slots_want_reserve(void);

/* Bytes of the reserve above the guard page of a stack slot, opened or not; 0: it has none.
 * Async-signal-safe, as the next two. */
size_t fibril__slot_reserve(const void *slot);

/* Opens the reserve from its top down to the step that holds `address`, which is in it. False: the
 * system refuses. */
bool fibril__slot_reserve_open(char *slot, const char *address);

/* Closes what has been opened. */
void fibril__slot_reserve_close(char *slot);

/* Bytes of the stack slot [low, high) that have been touched, counted from high, by whole pages. */
size_t fibril__slot_touched(const char *low, const char *high);

#endif
