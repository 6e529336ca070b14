/* SPDX-License-Identifier: MIT */
/*
 * See slots.h. Regions are never unmapped: the table only grows, so readers in signal handlers and
 * other threads need no lock. A slot whose loop has ended goes to the spare list of its size.
 */
#include "ctx/slots.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef FIBRIL_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#define UNDER_VALGRIND RUNNING_ON_VALGRIND /* it complains of calls that it does not know */
#else
#define UNDER_VALGRIND false
#endif

/* Linux 6.15; a number that older ones know for no descriptor. */
#ifndef PIDFD_SELF
#define PIDFD_SELF (-10000)
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum {
    REGIONS_MAX = 4096,
    REGION_BYTES_MIN = 64 << 20,
    SLOTS_PER_REGION_MIN = 8,
    MAP_COUNT_SHARE = 2, /* guards by mprotect use at most 1/2 of vm.max_map_count */
    MAP_COUNT_DEFAULT = 65530,
    RESERVE_LOG2_MIN = 17,  /* smaller stacks have none */
    RESERVE_SHARE = 4,      /* of the slot, at most */
    RESERVE_MAX = 64 << 10, /* bytes */
    RESERVE_STEPS = 4,
    GIVEN_TOGETHER = 64,
};

struct fibril__slot_counts fibril__slot_counts;

static struct fibril__region *regions[REGIONS_MAX];
static _Atomic unsigned region_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fibril__region *newest[2][FIBRIL__SLOT_LOG2_MAX + 1];
static struct fibril__slot_cache spare[2][FIBRIL__SLOT_LOG2_MAX + 1];
static size_t page_bytes;
static enum { GUARD_UNKNOWN, GUARD_MADVISE, GUARD_MPROTECT } guard_way;
static uint64_t guards_left;
static bool want_reserve;
/* Set before the first unguarded slot is handed out; below it no check is needed. */
_Atomic bool fibril__slots_some_unguarded;

static const uint64_t unguarded_mark = 0x6c69726269666e75u;

const struct fibril__region *fibril__region_at(unsigned i)
{
    return i < atomic_load_explicit(&region_count, memory_order_acquire) ? regions[i] : NULL;
}

const struct fibril__region *fibril__region_of(const void *p)
{
    const struct fibril__region *r;
    for (unsigned i = 0; (r = fibril__region_at(i)); i++) {
        if ((const char *)p >= r->base && (const char *)p < r->base + r->bytes) {
            return r;
        }
    }
    return NULL;
}

/* ---- guards ---- */

static uint64_t max_map_count(void)
{
    uint64_t n = MAP_COUNT_DEFAULT;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    if (f) {
        unsigned long long v;
        if (fscanf(f, "%llu", &v) == 1) {
            n = v;
        }
        fclose(f);
    }
    return n;
}

/* Emulators take advice that they do not know for done. The kernel refuses to read a guarded page.
 */
static bool guard_holds(const char *page)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return true; /* no descriptors left to ask with */
    }
    bool holds = write(ends[1], page, 1) < 0;
    close(ends[0]);
    close(ends[1]);
    return holds;
}

static void choose_guard_way(char *page)
{
    if (getenv("FIBRIL_GUARD_MPROTECT") == NULL &&
        madvise(page, page_bytes, MADV_GUARD_INSTALL) == 0 && guard_holds(page)) {
        guard_way = GUARD_MADVISE;
        return;
    }
    guard_way = GUARD_MPROTECT;
    /* Each guard splits one mapping into three. */
    guards_left = max_map_count() / MAP_COUNT_SHARE / 2;
}

static bool guard(char *page, size_t bytes)
{
    if (guard_way == GUARD_UNKNOWN) {
        choose_guard_way(page);
    }
    if (guard_way == GUARD_MADVISE && madvise(page, bytes, MADV_GUARD_INSTALL) == 0) {
        return true;
    }
    if (guard_way == GUARD_MPROTECT && guards_left > 0 && mprotect(page, bytes, PROT_NONE) == 0) {
        guards_left--;
        return true;
    }
    guard_way = GUARD_MPROTECT; /* once refused, every later stack is unguarded */
    guards_left = 0;
    return false;
}

bool fibril__slot_unguarded_slow(const void *slot)
{
    const struct fibril__region *r = fibril__region_of(slot);
    size_t i = (size_t)((const char *)slot - r->base) >> r->log2;
    return i >= atomic_load_explicit(&r->guarded, memory_order_relaxed);
}

bool fibril__slot_mark_intact(const void *slot)
{
    return *(const uint64_t *)slot == unguarded_mark;
}

/* ---- reserves ---- */

static size_t reserve_of(uint8_t log2)
{
    size_t share = ((size_t)1 << log2) / RESERVE_SHARE;
    return log2 < RESERVE_LOG2_MIN ? 0 : share < RESERVE_MAX ? share : RESERVE_MAX;
}

void fibril__slots_want_reserve(void)
{
    pthread_mutex_lock(&lock);
    want_reserve = true;
    pthread_mutex_unlock(&lock);
}

size_t fibril__slot_reserve(const void *slot)
{
    const struct fibril__region *r = fibril__region_of(slot);
    size_t i = (size_t)((const char *)slot - r->base) >> r->log2;
    bool has = i >= atomic_load_explicit(&r->narrow, memory_order_relaxed) &&
               i < atomic_load_explicit(&r->guarded, memory_order_relaxed);
    return has ? reserve_of(r->log2) : 0;
}

bool fibril__slot_reserve_open(char *slot, const char *address)
{
    char *low = slot + page_bytes;
    size_t bytes = fibril__slot_reserve(slot), step = bytes / RESERVE_STEPS;
    if (step == 0) {
        return false;
    }
    size_t at = (size_t)(address - low) / step * step;
    int rc = guard_way == GUARD_MADVISE ? madvise(low + at, bytes - at, MADV_GUARD_REMOVE)
                                        : mprotect(low + at, bytes - at, PROT_READ | PROT_WRITE);
    return rc == 0;
}

/* If the system refuses the reserve stays open: the guard page is never touched. */
void fibril__slot_reserve_close(char *slot)
{
    char *low = slot + page_bytes;
    size_t bytes = fibril__slot_reserve(slot);
    madvise(low, bytes, MADV_DONTNEED);
    if (guard_way != GUARD_MADVISE || madvise(low, bytes, MADV_GUARD_INSTALL) != 0) {
        mprotect(low, bytes, PROT_NONE);
    }
}

/* ---- regions ---- */

static size_t region_bytes_for(uint8_t log2)
{
    size_t bytes = REGION_BYTES_MIN;
    while (bytes < (size_t)SLOTS_PER_REGION_MIN << log2) {
        bytes *= 2;
    }
    return bytes;
}

/* Maps `bytes` at a multiple of `align` by mapping more and cutting the ends off. */
static char *map_aligned(size_t bytes, size_t align)
{
    size_t all = bytes + align;
    char *p = mmap(/* addr= */ NULL, all, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    size_t head = (align - ((uintptr_t)p & (align - 1))) & (align - 1);
    if (head) {
        munmap(p, head);
    }
    if (align - head) {
        munmap(p + head + bytes, align - head);
    }
    return p + head;
}

static struct fibril__region *region_new(uint8_t log2, bool stacks)
{
    unsigned n = atomic_load_explicit(&region_count, memory_order_relaxed);
    struct fibril__region *r = n < REGIONS_MAX ? fibril__alloc_zero(sizeof *r) : NULL;
    if (!r) {
        return NULL;
    }
    size_t slot = (size_t)1 << log2;
    r->bytes = region_bytes_for(log2);
    r->base = map_aligned(r->bytes, slot > page_bytes ? slot : page_bytes);
    if (!r->base) {
        fibril__free(r);
        return NULL;
    }
    /* One huge page would back sixteen stacks and more that touch a page each. */
    madvise(r->base, r->bytes, MADV_NOHUGEPAGE);
    r->log2 = log2;
    r->stacks = stacks;
    r->count = (uint32_t)(r->bytes >> log2);
    r->next_same = newest[stacks][log2];
    newest[stacks][log2] = r;
    regions[n] = r;
    atomic_store_explicit(&region_count, n + 1, memory_order_release);
    return r;
}

static void prepare_stack(struct fibril__region *r, char *slot, uint8_t log2)
{
    size_t reserve = want_reserve ? reserve_of(log2) : 0;
    if (guard(slot, page_bytes + reserve)) {
        atomic_fetch_add(&r->guarded, 1);
        atomic_fetch_add(&r->narrow, reserve == 0);
    } else {
        *(uint64_t *)(void *)slot = unguarded_mark;
        atomic_store(&fibril__slots_some_unguarded, true);
        atomic_fetch_add(&fibril__slot_counts.unguarded, 1);
    }
#ifdef FIBRIL_HAVE_VALGRIND
    (void)VALGRIND_STACK_REGISTER(slot + page_bytes, slot + ((size_t)1 << log2));
#else
    (void)log2;
#endif
}

/* Makes room in the list for n slots in all. */
static bool reserve(struct fibril__slot_cache *c, uint32_t n)
{
    if (n <= c->cap) {
        return true;
    }
    uint32_t cap = c->cap ? c->cap * 2 : 64;
    cap = cap > n ? cap : n;
    void **items = fibril__realloc(c->items, cap * sizeof *items);
    if (!items) {
        return false;
    }
    c->items = items;
    c->cap = cap;
    return true;
}

static void *carve(uint8_t log2, bool stacks)
{
    struct fibril__region *r = newest[stacks][log2];
    if (!r || atomic_load_explicit(&r->used, memory_order_relaxed) == r->count) {
        r = region_new(log2, stacks);
        if (!r) {
            return NULL;
        }
    }
    uint32_t i = atomic_load_explicit(&r->used, memory_order_relaxed);
    char *slot = r->base + ((size_t)i << log2);
    if (stacks) {
        prepare_stack(r, slot, log2);
        atomic_fetch_add(&fibril__slot_counts.mapped, 1);
    }
    atomic_store_explicit(&r->used, i + 1, memory_order_release);
    return slot;
}

/* A fork must not find the table half changed, nor the lock held by a thread that stays behind. */
static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void after_fork_child(void)
{
    pthread_mutex_init(&lock, NULL);
}

void fibril__slots_forked(void)
{
    after_fork_child();
}

/* Under the lock. */
static void set_up(void)
{
    if (!page_bytes) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        pthread_atfork(before_fork, after_fork, after_fork_child);
    }
}

bool fibril__page_guard(char *page)
{
    pthread_mutex_lock(&lock);
    set_up();
    bool guarded = guard(page, page_bytes);
    pthread_mutex_unlock(&lock);
    return guarded || mprotect(page, page_bytes, PROT_NONE) == 0;
}

void *fibril__slot_take_fresh(struct fibril__slot_cache *c)
{
    if (fibril__alloc_refuse()) {
        return NULL;
    }
    pthread_mutex_lock(&lock);
    set_up();
    struct fibril__slot_cache *s = &spare[c->stacks][c->log2];
    void *slot = NULL;
    if (s->len > 0) {
        slot = s->items[--s->len];
    } else if (reserve(s, s->taken + 1)) {
        slot = carve(c->log2, c->stacks);
        s->taken += slot != NULL;
    }
    pthread_mutex_unlock(&lock);
    return slot;
}

void *fibril__slot_take_grow(struct fibril__slot_cache *c)
{
    void *slot = reserve(c, c->taken + 1) ? fibril__slot_take_fresh(c) : NULL;
    c->taken += slot != NULL;
    return slot;
}

bool fibril__slot_adopt(struct fibril__slot_cache *c)
{
    bool room = reserve(c, c->taken + 1);
    c->taken += room;
    return room;
}

/* ---- caches ---- */

void fibril__slot_cache_init(struct fibril__slot_cache *c, uint8_t log2, bool stacks)
{
    FIBRIL_ASSERT(log2 >= FIBRIL__SLOT_LOG2_MIN && log2 <= FIBRIL__SLOT_LOG2_MAX);
    *c = (struct fibril__slot_cache){.log2 = log2, .stacks = stacks};
}

/* Room was made when the slot was taken or adopted. */
static void push(struct fibril__slot_cache *c, void *slot)
{
    if (reserve(c, c->len + 1)) {
        c->items[c->len++] = slot;
    }
}

void fibril__slot_give_grow(struct fibril__slot_cache *c, void *slot)
{
    push(c, slot);
}

/* Gives the pages of many stacks back in one call, which flushes the TLB once (Linux 6.16; before,
 * it spares the calls only). Returns false where that is not to be had. */
static bool give_together(const struct iovec *stacks, unsigned n)
{
    static _Atomic bool refused;
    if (atomic_load_explicit(&refused, memory_order_relaxed) || UNDER_VALGRIND) {
        return false;
    }
    long done = syscall(SYS_process_madvise, PIDFD_SELF, stacks, n, MADV_DONTNEED, 0);
    bool whole = done >= 0 && (size_t)done == n * stacks->iov_len;
    if (!whole) {
        atomic_store_explicit(&refused, true, memory_order_relaxed);
    }
    return whole;
}

static void give_pages_back(const struct iovec *stacks, unsigned n)
{
    if (n > 0 && !give_together(stacks, n)) {
        for (unsigned i = 0; i < n; i++) {
            madvise(stacks[i].iov_base, stacks[i].iov_len, MADV_DONTNEED);
        }
    }
}

/* Guard pages in between stay what they are. */
bool fibril__slots_drop(char *first, size_t n, uint8_t log2)
{
    return madvise(first + page_bytes, (n << log2) - page_bytes, MADV_DONTNEED) == 0;
}

void fibril__slot_cache_trim(struct fibril__slot_cache *c)
{
    struct iovec stacks[GIVEN_TOGETHER];
    unsigned n = 0;
    while (c->stacks && c->released < c->len_min) {
        /* The first page holds the guard, or the mark that there is none. */
        stacks[n++] = (struct iovec){.iov_base = (char *)c->items[c->released++] + page_bytes,
                                     .iov_len = ((size_t)1 << c->log2) - page_bytes};
        if (n == GIVEN_TOGETHER) {
            give_pages_back(stacks, n);
            n = 0;
        }
    }
    give_pages_back(stacks, n);
    c->len_min = c->len;
}

void fibril__slot_cache_fini(struct fibril__slot_cache *c)
{
    c->len_min = c->len;
    fibril__slot_cache_trim(c);
    pthread_mutex_lock(&lock);
    struct fibril__slot_cache *s = &spare[c->stacks][c->log2];
    s->log2 = c->log2;
    s->stacks = c->stacks;
    for (uint32_t i = 0; i < c->len; i++) {
        push(s, c->items[i]);
    }
    pthread_mutex_unlock(&lock);
    fibril__free(c->items);
    *c = (struct fibril__slot_cache){.log2 = c->log2, .stacks = c->stacks};
}

size_t fibril__slot_touched(const char *low, const char *high)
{
    size_t pages = (size_t)(high - low) / page_bytes;
    for (size_t i = 1; i <= pages; i++) {
        unsigned char vec;
        if (mincore((void *)(uintptr_t)(high - i * page_bytes), page_bytes, &vec) != 0 ||
            !(vec & 1)) {
            return (i - 1) * page_bytes;
        }
    }
    return pages * page_bytes;
}
