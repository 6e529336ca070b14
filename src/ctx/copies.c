/* SPDX-License-Identifier: MIT */
/* See copies.h. */
#include "ctx/copies.h"

#include "base/alloc.h"

#include <string.h>

enum { CHUNK_BYTES = 64 << 10 };

static int new_chunk(struct fibril__copies *c)
{
    if (c->chunk_len == c->chunk_cap) {
        uint32_t cap = c->chunk_cap ? c->chunk_cap * 2 : 16;
        void **chunks = fibril__realloc(c->chunks, cap * sizeof *chunks);
        if (!chunks) {
            return -1;
        }
        c->chunks = chunks;
        c->chunk_cap = cap;
    }
    char *chunk = fibril__alloc(CHUNK_BYTES);
    if (!chunk) {
        return -1;
    }
    c->chunks[c->chunk_len++] = chunk;
    c->cut = chunk;
    c->cut_end = chunk + CHUNK_BYTES;
    return 0;
}

/* The rest of a chunk that is too small for this size is kept as a piece of its own size. */
static void *cut(struct fibril__copies *c, uint32_t bytes)
{
    size_t rest = (size_t)(c->cut_end - c->cut);
    if (rest < bytes) {
        if (rest > 0) {
            *(void **)(void *)c->cut = c->free[rest / FIBRIL__COPY_GRAIN - 1];
            c->free[rest / FIBRIL__COPY_GRAIN - 1] = c->cut;
            c->cut = c->cut_end;
        }
        if (new_chunk(c) != 0) {
            return NULL;
        }
    }
    void *p = c->cut;
    c->cut += bytes;
    return p;
}

void *fibril__copy_take(struct fibril__copies *c, uint32_t bytes)
{
    uint32_t class = bytes / FIBRIL__COPY_GRAIN - 1;
    void *p;
    if (class >= FIBRIL__COPY_CLASSES) {
        p = fibril__alloc(bytes);
    } else if (c->free[class]) {
        p = c->free[class];
        c->free[class] = *(void **)p;
    } else {
        p = cut(c, bytes);
    }
    if (p) {
        c->bytes += bytes;
    }
    return p;
}

void fibril__copy_give(struct fibril__copies *c, void *piece, uint32_t bytes)
{
    uint32_t class = bytes / FIBRIL__COPY_GRAIN - 1;
    c->bytes -= bytes;
    if (class >= FIBRIL__COPY_CLASSES) {
        fibril__free(piece);
        return;
    }
    *(void **)piece = c->free[class];
    c->free[class] = piece;
}

void fibril__copies_fini(struct fibril__copies *c)
{
    for (uint32_t i = 0; i < c->chunk_len; i++) {
        fibril__free(c->chunks[i]);
    }
    fibril__free(c->chunks);
    memset(c, 0, sizeof *c);
}
