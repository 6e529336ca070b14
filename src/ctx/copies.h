/* SPDX-License-Identifier: MIT */
/*
 * Memory for the live bytes of parked copied stacks: exact to 16 bytes and without headers, since a
 * hundred thousand of them are kept. Freed pieces are reused for the same size only: the programs
 * that park that many park them in few places. Pieces over 2 KiB are allocated singly.
 */
#ifndef FIBRIL_CTX_COPIES_H
#define FIBRIL_CTX_COPIES_H

#include <stddef.h>
#include <stdint.h>

enum {
    FIBRIL__COPY_GRAIN = 16,
    FIBRIL__COPY_CLASSES = 128, /* up to 2 KiB */
};

struct fibril__copies {
    void *free[FIBRIL__COPY_CLASSES];
    void **chunks; /* what pieces were cut from, freed with the pool */
    uint32_t chunk_len, chunk_cap;
    char *cut, *cut_end; /* the rest of the newest chunk */
    uint64_t bytes;      /* handed out now */
};

/* Rounds a size up to what a piece of it takes. */
static inline uint32_t fibril__copy_round(size_t bytes)
{
    return (uint32_t)((bytes + FIBRIL__COPY_GRAIN - 1) & ~(size_t)(FIBRIL__COPY_GRAIN - 1));
}

/* Returns a piece of `bytes` (rounded as above, not 0), 16-byte aligned, or NULL. */
void *fibril__copy_take(struct fibril__copies *c, uint32_t bytes);

/* Gives a piece back; bytes as it was taken. */
void fibril__copy_give(struct fibril__copies *c, void *piece, uint32_t bytes);

void fibril__copies_fini(struct fibril__copies *c);

#endif
