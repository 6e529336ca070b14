/* SPDX-License-Identifier: MIT */
/*
 * What a poller knows about each descriptor: one record of a cache line, found by number. Records
 * live in chunks that never move and are freed with the table only, so a pointer to one stays good
 * across callbacks; a number that was never used costs a part of a chunk at most. Rejected: a hash
 * table, because descriptors are small dense numbers already.
 */
#ifndef FIBRIL_POLL_FD_TABLE_H
#define FIBRIL_POLL_FD_TABLE_H

#include "base/compiler.h"
#include "base/list.h"
#include "poll/poll.h"

/* What kind of file a descriptor names, as far as it matters for waiting. */
enum fibril__fd_kind {
    FIBRIL__KIND_UNKNOWN, /* not looked at yet */
    FIBRIL__KIND_TCP,     /* a byte stream in which a short read or write means drained or full */
    FIBRIL__KIND_SOCKET,  /* any other socket: message boundaries may cut a read short */
    FIBRIL__KIND_PIPE,    /* a byte stream that is no socket */
    FIBRIL__KIND_FILE,    /* always ready: regular files, directories */
    FIBRIL__KIND_OTHER,   /* terminals, event counters, other devices */
};

enum fibril__fd_flag {
    FIBRIL__FD_REGISTERED = 1 << 0, /* epoll: the kernel tells us of edges */
    FIBRIL__FD_READABLE = 1 << 1,   /* a read may succeed; only clear if one surely cannot */
    FIBRIL__FD_WRITABLE = 1 << 2,
    FIBRIL__FD_BLOCKING = 1 << 3, /* O_NONBLOCK was not set when we looked */
    FIBRIL__FD_ENDING = 1 << 4, /* hang-up, error or urgent data was seen: short reads prove nothing
                                 */
    FIBRIL__FD_ARMED = 1 << 6,  /* uring: a lasting poll reports edges for readers */
    FIBRIL__FD_URGENT = 1 << 7, /* uring: maybe urgent data, at whose mark reads stop short */
    FIBRIL__FD_DRAINED = 1 << 5, /* a receive left nothing behind, as far as we know */
};

struct fibril__fd_record {
    struct fibril__list readers;  /* first in, first out; uring: the first is in the ring */
    struct fibril__list writers;  /* the same for the other direction */
    struct fibril__list watchers; /* POLL operations; uring: also those on files, and FORGET */
    uint32_t generation;          /* counts up with each FORGET, so that stale events can be told */
    uint8_t kind;                 /* enum fibril__fd_kind */
    uint8_t flags;                /* enum fibril__fd_flag */
    uint8_t reads;                /* uring: how many have begun by themselves */
    uint8_t forgetting;           /* uring: no more operations until FORGET is over */
};

struct fibril__fd_table {
    struct fibril__fd_record **chunks;
    uint32_t count; /* of chunk pointers; those not needed yet are NULL */
};

enum { FIBRIL__FD_CHUNK_BITS = 8 };

void fibril__fd_table_fini(struct fibril__fd_table *t);

/* Makes the chunk of a number. Returns the record, or NULL when out of memory; fd is not negative.
 */
struct fibril__fd_record *fibril__fd_table_grow(struct fibril__fd_table *t, int fd);

/* The record of a number, or NULL if there is none yet or the number is negative. */
static inline struct fibril__fd_record *fibril__fd_table_peek(const struct fibril__fd_table *t,
                                                              int fd)
{
    uint32_t chunk = (uint32_t)fd >> FIBRIL__FD_CHUNK_BITS;
    if (UNLIKELY(chunk >= t->count || !t->chunks[chunk])) {
        return NULL;
    }
    return &t->chunks[chunk][(uint32_t)fd & ((1u << FIBRIL__FD_CHUNK_BITS) - 1)];
}

/* The record of a number, which is made if need be; NULL when out of memory. fd is not negative. */
static inline struct fibril__fd_record *fibril__fd_table_get(struct fibril__fd_table *t, int fd)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(t, fd);
    return LIKELY(r != NULL) ? r : fibril__fd_table_grow(t, fd);
}

/* Looks at the descriptor once and stores its kind and whether it blocks. Returns 0 or -EBADF. */
int fibril__fd_classify(struct fibril__fd_record *r, int fd);

/* The same for what is known to be a socket: one call less, and whether it blocks is not asked. */
void fibril__fd_classify_socket(struct fibril__fd_record *r, int fd);

/* Forgets what is known; the lists are empty or their operations are somewhere else already. */
static inline void fibril__fd_record_reset(struct fibril__fd_record *r)
{
    r->generation++;
    r->kind = FIBRIL__KIND_UNKNOWN;
    r->flags = 0;
    r->reads = 0;
    r->forgetting = 0;
}

static inline bool fibril__fd_is_socket(const struct fibril__fd_record *r)
{
    return r->kind == FIBRIL__KIND_TCP || r->kind == FIBRIL__KIND_SOCKET;
}

/* Whether fewer bytes than asked for mean that there was no more. */
static inline bool fibril__fd_is_stream(const struct fibril__fd_record *r)
{
    return (r->kind == FIBRIL__KIND_TCP || r->kind == FIBRIL__KIND_PIPE) &&
           !(r->flags & FIBRIL__FD_ENDING);
}

#endif
