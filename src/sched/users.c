/* SPDX-License-Identifier: MIT */
/*
 * The table of users.h: a fixed array of pointers to chunks, filled by compare-and-swap. Chunks are
 * never freed, so a reader needs no protection; the pointers lie in untouched zero pages until
 * used.
 */
#include "sched/users.h"

#include "base/alloc.h"
#include "base/compiler.h"
#include "sched/current.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { CHUNK = 4096, CHUNKS = 1 << 15 };

static _Atomic(_Atomic uint64_t *) chunks[CHUNKS];

static _Atomic uint64_t *add_chunk(unsigned i)
{
    void *p = fibril__alloc_refuse() ? MAP_FAILED
                                     : mmap(NULL, CHUNK * sizeof(_Atomic uint64_t),
                                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                            /* fd= */ -1, 0);
    _Atomic uint64_t *made = p == MAP_FAILED ? NULL : p;
    _Atomic uint64_t *there = NULL;
    /* Release: the zeroes before the pointer; pairs with the acquire in fibril__users_word. */
    if (made && !atomic_compare_exchange_strong_explicit(
                    &chunks[i], &there, made, memory_order_acq_rel, memory_order_acquire)) {
        munmap(p, CHUNK * sizeof(_Atomic uint64_t));
        made = there;
    }
    return made;
}

_Atomic uint64_t *fibril__users_word(int fd)
{
    if (UNLIKELY(fd < 0 || fd >= CHUNK * CHUNKS)) {
        return NULL;
    }
    unsigned i = (unsigned)fd / CHUNK;
    _Atomic uint64_t *chunk = atomic_load_explicit(&chunks[i], memory_order_acquire);
    if (UNLIKELY(!chunk)) {
        chunk = add_chunk(i);
    }
    return chunk ? &chunk[(unsigned)fd % CHUNK] : NULL;
}

_Atomic uint64_t *fibril__users_known(int fd)
{
    if (fd < 0 || fd >= CHUNK * CHUNKS) {
        return NULL;
    }
    unsigned i = (unsigned)fd / CHUNK;
    _Atomic uint64_t *chunk = atomic_load_explicit(&chunks[i], memory_order_acquire);
    return chunk ? &chunk[(unsigned)fd % CHUNK] : NULL;
}

int fibril__users_next(int first, int last)
{
    const uint64_t users = FIBRIL__USERS_REST | (FIBRIL__USERS_REST - 1);
    int end = last < CHUNK * CHUNKS - 1 ? last : CHUNK * CHUNKS - 1;
    for (int fd = first < 0 ? 0 : first; fd <= end; fd++) {
        const _Atomic uint64_t *word = fibril__users_known(fd);
        if (!word) {
            fd |= CHUNK - 1;
        } else if (atomic_load_explicit(word, memory_order_relaxed) & users) {
            return fd;
        }
    }
    return -1;
}

int fibril__users_enter(int fd)
{
    if (UNLIKELY(fd < 0 || fd >= CHUNK * CHUNKS)) {
        return fd < FIBRIL__FD_SIMULATED ? -EBADF : 0;
    }
    _Atomic uint64_t *word = fibril__users_word(fd);
    if (UNLIKELY(!word)) {
        return -ENOMEM;
    }
    uint64_t bit = fibril__users_bit(fibril__loop->index);
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    if (UNLIKELY((now & (bit | FIBRIL__USERS_CLOSING)) != bit)) {
        now = atomic_fetch_or(word, bit);
    }
    return UNLIKELY(now & FIBRIL__USERS_CLOSING) ? -EBADF : 0;
}

/* Only here is the kernel asked what fd is: once in the life of a descriptor. */
static int find_sort(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return -EBADF;
    }
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) {
        return FIBRIL__FD_FILE;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return FIBRIL__FD_STREAM;
    }
    int listens = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof(listens)}) == 0 &&
        listens) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* not TCP: no matter */
    }
    return FIBRIL__FD_SOCKET;
}

int fibril__users_sort(int fd)
{
    if (UNLIKELY(fd >= FIBRIL__FD_SIMULATED)) {
        return FIBRIL__FD_UNKNOWN;
    }
    _Atomic uint64_t *word = fibril__users_word(fd);
    if (UNLIKELY(!word)) {
        return fd < 0 || fd >= CHUNK * CHUNKS ? -EBADF : -ENOMEM;
    }
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    int sort = (int)(now >> FIBRIL__USERS_SORT_SHIFT & 3);
    if (UNLIKELY(sort == FIBRIL__FD_UNKNOWN)) {
        sort = find_sort(fd);
        if (sort > 0) {
            atomic_fetch_or(word, (uint64_t)sort << FIBRIL__USERS_SORT_SHIFT);
        }
    }
    return sort;
}

static void clear_chunk(_Atomic uint64_t *chunk)
{
    const uint64_t sort = UINT64_C(3) << FIBRIL__USERS_SORT_SHIFT;
    for (unsigned i = 0; i < CHUNK; i++) {
        uint64_t now = atomic_load_explicit(&chunk[i], memory_order_relaxed);
        if (now & ~sort) { /* reading does not cost the child a copy of the page */
            atomic_store_explicit(&chunk[i], now & sort, memory_order_relaxed);
        }
    }
}

void fibril__users_forked(void)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        if (chunks[i]) {
            clear_chunk(chunks[i]);
        }
    }
}
