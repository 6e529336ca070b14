/* SPDX-License-Identifier: MIT */
/*
 * See pool.h. A free piece holds the link to the next one in its own first bytes. How many are kept
 * is bounded per class, so that the memory of a rush goes back to the allocator after it.
 */
#include "http/pool.h"

#include "base/alloc.h"
#include "base/compiler.h"

enum {
    KEEP_BUFFERS = 128,   /* 1 MiB */
    KEEP_BYTES = 1 << 20, /* per class of blocks */
    KEEPS = FIBRIL_ASAN + FIBRIL_HARD == 0,
};

struct fibril__http_free {
    struct fibril__http_free *next;
};

static void hold(struct fibril__http_pool *pool, int64_t bytes)
{
    uint64_t held = __atomic_load_n(&pool->held, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->held, held + (uint64_t)bytes, __ATOMIC_RELAXED);
}

static void *take(struct fibril__http_free **list, unsigned *kept, size_t bytes)
{
    struct fibril__http_free *piece = *list;
    if (LIKELY(piece != NULL)) {
        *list = piece->next;
        (*kept)--;
        return piece;
    }
    return fibril__alloc(bytes);
}

static void give(struct fibril__http_free **list, unsigned *kept, unsigned keep, void *memory)
{
    if (!KEEPS || *kept >= keep) {
        fibril__free(memory);
        return;
    }
    struct fibril__http_free *piece = memory;
    piece->next = *list;
    *list = piece;
    (*kept)++;
}

static size_t class_of(size_t bytes)
{
    return (bytes + FIBRIL__HTTP_BLOCK - 1) / FIBRIL__HTTP_BLOCK;
}

void *fibril__http_buffer_take(struct fibril__http_pool *pool)
{
    void *buffer = take(&pool->buffers, &pool->buffers_kept, FIBRIL__HTTP_BUFFER);
    if (buffer) {
        hold(pool, FIBRIL__HTTP_BUFFER);
    }
    return buffer;
}

void fibril__http_buffer_give(struct fibril__http_pool *pool, void *buffer)
{
    hold(pool, -FIBRIL__HTTP_BUFFER);
    give(&pool->buffers, &pool->buffers_kept, KEEP_BUFFERS, buffer);
}

void *fibril__http_block_take(struct fibril__http_pool *pool, size_t bytes)
{
    size_t class = class_of(bytes);
    void *block =
        class <= FIBRIL__HTTP_CLASSES
            ? take(&pool->blocks[class], &pool->blocks_kept[class], class * FIBRIL__HTTP_BLOCK)
            : fibril__alloc(bytes);
    if (block) {
        hold(pool, (int64_t)(class * FIBRIL__HTTP_BLOCK));
    }
    return block;
}

void fibril__http_block_give(struct fibril__http_pool *pool, void *block, size_t bytes)
{
    if (!block) {
        return;
    }
    size_t class = class_of(bytes);
    hold(pool, -(int64_t)(class * FIBRIL__HTTP_BLOCK));
    if (class > FIBRIL__HTTP_CLASSES) {
        fibril__free(block);
        return;
    }
    unsigned keep = (unsigned)(KEEP_BYTES / (class * FIBRIL__HTTP_BLOCK));
    give(&pool->blocks[class], &pool->blocks_kept[class], keep, block);
}

static void free_list(struct fibril__http_free **list)
{
    while (*list) {
        struct fibril__http_free *piece = *list;
        *list = piece->next;
        fibril__free(piece);
    }
}

void fibril__http_pool_fini(struct fibril__http_pool *pool)
{
    free_list(&pool->buffers);
    for (size_t i = 0; i <= FIBRIL__HTTP_CLASSES; i++) {
        free_list(&pool->blocks[i]);
    }
}
