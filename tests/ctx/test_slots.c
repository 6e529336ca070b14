/* SPDX-License-Identifier: MIT */
/* Slots: sizes, alignment, reuse, trimming, guards, and finding the region of an address. */
#include "ctx/slots.h"

#include "base/alloc.h"
#include "test.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct fibril__slot_cache cache;

TEST(every_size_is_aligned_and_writable)
{
    for (uint8_t log2 = FIBRIL__SLOT_LOG2_MIN; log2 <= 27; log2++) {
        bool stacks = log2 >= FIBRIL__STACK_LOG2_MIN;
        size_t bytes = (size_t)1 << log2;
        fibril__slot_cache_init(&cache, log2, stacks);
        char *a = fibril__slot_take(&cache), *b = fibril__slot_take(&cache);
        ASSERT(a && b);
        ASSERT_EQ((uintptr_t)a % bytes, 0);
        ASSERT_GE(a < b ? b - a : a - b, (ptrdiff_t)bytes);
        a[bytes - 1] = 1;
        a[stacks ? sysconf(_SC_PAGESIZE) : 0] = 1;
        const struct fibril__region *r = fibril__region_of(a + bytes / 2);
        ASSERT(r);
        ASSERT_EQ(r->log2, log2);
        ASSERT_EQ(r->stacks, stacks);
        ASSERT_LE((uintptr_t)r->base, (uintptr_t)a);
        ASSERT(!stacks || !fibril__slot_unguarded(a));
        fibril__slot_give(&cache, a);
        fibril__slot_give(&cache, b);
        fibril__slot_cache_fini(&cache);
    }
}

TEST(last_given_is_first_taken)
{
    fibril__slot_cache_init(&cache, FIBRIL__STACK_LOG2_MIN, true);
    void *a = fibril__slot_take(&cache), *b = fibril__slot_take(&cache);
    fibril__slot_give(&cache, a);
    fibril__slot_give(&cache, b);
#if !FIBRIL_HARD
    ASSERT_EQ((uintptr_t)fibril__slot_take(&cache), (uintptr_t)b);
    ASSERT_EQ((uintptr_t)fibril__slot_take(&cache), (uintptr_t)a);
    fibril__slot_give(&cache, a);
    fibril__slot_give(&cache, b);
#endif
    fibril__slot_cache_fini(&cache);
}

TEST(slots_of_a_loop_that_ended_go_to_the_next)
{
    fibril__slot_cache_init(&cache, FIBRIL__STACK_LOG2_MIN, true);
    void *a = fibril__slot_take(&cache);
    fibril__slot_give(&cache, a);
    fibril__slot_cache_fini(&cache);
    fibril__slot_cache_init(&cache, FIBRIL__STACK_LOG2_MIN, true);
    ASSERT_EQ((uintptr_t)fibril__slot_take(&cache), (uintptr_t)a);
    fibril__slot_give(&cache, a);
    fibril__slot_cache_fini(&cache);
}

/* ---- giving pages back ---- */

static bool is_resident(void *page)
{
    unsigned char vec = 0;
    ASSERT_OK(mincore(page, 1, &vec));
    return vec & 1;
}

TEST(trim_gives_back_what_was_not_needed_since_the_last)
{
    enum { SLOTS = 8 };
    char *slot[SLOTS];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)1 << 16;
    fibril__slot_cache_init(&cache, 16, true);
    for (int i = 0; i < SLOTS; i++) {
        slot[i] = fibril__slot_take(&cache);
        slot[i][bytes - 1] = 1;
    }
    for (int i = 0; i < SLOTS; i++) {
        fibril__slot_give(&cache, slot[i]);
    }
    char *last_page = slot[0] + bytes - page;
    fibril__slot_cache_trim(&cache);
    ASSERT(is_resident(last_page)); /* they were needed until now */
    fibril__slot_cache_trim(&cache);
    for (int i = 0; i < SLOTS; i++) {
        ASSERT(!is_resident(slot[i] + bytes - page));
    }
    slot[0][bytes - 1] = 2; /* and are usable as before */
    fibril__slot_cache_fini(&cache);
}

TEST(touched_pages_are_counted_from_the_top)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)1 << 17;
    fibril__slot_cache_init(&cache, 17, true);
    char *slot = fibril__slot_take(&cache), *low = slot + page, *high = slot + bytes;
    madvise(low, bytes - page, MADV_DONTNEED);
    ASSERT_EQ(fibril__slot_touched(low, high), 0);
    for (size_t n = 1; n <= 5; n++) {
        high[-(ptrdiff_t)(n * page)] = 1;
        ASSERT_EQ(fibril__slot_touched(low, high), n * page);
    }
    fibril__slot_give(&cache, slot);
    fibril__slot_cache_fini(&cache);
}

/* ---- guards ---- */

static sigjmp_buf escape;

static void on_segv(int signo)
{
    siglongjmp(escape, signo);
}

static bool faults(volatile char *p)
{
    if (sigsetjmp(escape, 1) != 0) {
        return true;
    }
    *p = 1;
    return false;
}

static void look_at_guard(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    fibril__slot_cache_init(&cache, 16, true);
    signal(SIGSEGV, on_segv);
    char *slot = fibril__slot_take(&cache);
    ASSERT(faults(slot));
    ASSERT(faults(slot + page - 1));
    ASSERT(!faults(slot + page));
    /* Giving pages back takes nothing from the guard. */
    fibril__slot_give(&cache, slot);
    fibril__slot_cache_trim(&cache);
    fibril__slot_cache_trim(&cache);
    ASSERT(faults(slot + page - 1));
    ASSERT(!faults(slot + page));
    signal(SIGSEGV, SIG_DFL);
    fibril__slot_cache_fini(&cache);
}

TEST(guard_page_faults)
{
    look_at_guard();
}

TEST(guard_page_by_mprotect_faults)
{
    setenv("FIBRIL_GUARD_MPROTECT", "1", 1);
    look_at_guard();
}

/* ---- finding ---- */

TEST(addresses_elsewhere_are_in_no_region)
{
    int here = 0;
    ASSERT(!fibril__region_of(&here));
    ASSERT(!fibril__region_of(NULL));
    ASSERT(!fibril__region_at(0));
}

TEST(slots_survive_want_of_memory)
{
    fibril__slot_cache_init(&cache, FIBRIL__STACK_LOG2_MIN, true);
    void *slot = NULL;
    for (int64_t n = 0; !slot; n++) {
        fibril__alloc_fail_after(n);
        slot = fibril__slot_take(&cache);
        fibril__alloc_fail_after(-1);
        ASSERT_LT(n, 20);
    }
    fibril__slot_give(&cache, slot);
    fibril__slot_cache_fini(&cache);
}
