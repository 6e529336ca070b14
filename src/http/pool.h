/* SPDX-License-Identifier: MIT */
/*
 * Memory of one loop's connections: buffers that move bytes, and blocks for what lives as long as a
 * request or a connection. Both are kept last in first out, so that a loop that serves ten thousand
 * connections one after the other works in the same few warm pages.
 *
 * A pool belongs to one loop and knows no locks. In the flavours that hunt for misuse of memory
 * nothing is kept, so that their tools see every take and give.
 */
#ifndef FIBRIL_HTTP_POOL_H
#define FIBRIL_HTTP_POOL_H

#include <stddef.h>
#include <stdint.h>

enum {
    FIBRIL__HTTP_BUFFER = 8192, /* bytes of a buffer */
    FIBRIL__HTTP_BLOCK = 256,   /* blocks are multiples of it ... */
    FIBRIL__HTTP_CLASSES = 16,  /* ... up to so many; larger ones are not kept */
};

struct fibril__http_pool {
    struct fibril__http_free *buffers;
    struct fibril__http_free *blocks[FIBRIL__HTTP_CLASSES + 1];
    unsigned buffers_kept;
    unsigned blocks_kept[FIBRIL__HTTP_CLASSES + 1];
    uint64_t held; /* bytes that are out; read by other threads for the figures */
};

/* Returns a buffer of FIBRIL__HTTP_BUFFER bytes, or NULL. */
void *fibril__http_buffer_take(struct fibril__http_pool *pool);
void fibril__http_buffer_give(struct fibril__http_pool *pool, void *buffer);

/* Returns a block of at least `bytes`, or NULL; give wants the same number back. */
void *fibril__http_block_take(struct fibril__http_pool *pool, size_t bytes);
void fibril__http_block_give(struct fibril__http_pool *pool, void *block, size_t bytes);

/* Frees what is kept. Everything must have come back. */
void fibril__http_pool_fini(struct fibril__http_pool *pool);

#endif
