/* SPDX-License-Identifier: MIT */
/*
 * See runs.h. A group is one mapping: a guard and a run stack, again and again; the first ends with
 * a guard and the stack for copying, which an overflow of a run stack cannot reach.
 */
#include "ctx/runs.h"

#include "base/alloc.h"
#include "ctx/slots.h"

#include <sys/mman.h>
#include <unistd.h>

#ifdef FIBRIL_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#endif

enum {
    VIA_BYTES = 32 << 10,
    KEPT_BYTES = 16 << 10, /* of a run stack that nobody needs: the part that is used at once */
};

void fibril__runs_init(struct fibril__runs *r, size_t bytes)
{
    *r = (struct fibril__runs){.bytes = bytes};
}

/* ---- mapping ---- */

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t group_bytes(const struct fibril__runs *r, unsigned group)
{
    size_t page = page_bytes();
    size_t via = group == 0 ? page + VIA_BYTES : 0;
    return FIBRIL__RUN_GROUP * (page + r->bytes) + via;
}

static void register_stack(const char *low, const char *top)
{
#ifdef FIBRIL_HAVE_VALGRIND
    (void)VALGRIND_STACK_REGISTER(low, top);
#else
    (void)low, (void)top;
#endif
}

static bool guard_group(const struct fibril__runs *r, unsigned group, char *p)
{
    bool guarded = true;
    for (unsigned i = 0; i < FIBRIL__RUN_GROUP + (group == 0); i++) {
        guarded = guarded && fibril__page_guard(p + i * (page_bytes() + r->bytes));
    }
    return guarded;
}

/* Their numbers are free in such an order that the lowest is taken first. */
static void add_group(struct fibril__runs *r, unsigned group, char *p)
{
    size_t page = page_bytes();
    r->groups[group] = p;
    for (unsigned i = 0; i < FIBRIL__RUN_GROUP; i++, p += page + r->bytes) {
        struct fibril__run_stack *run = &r->at[r->len + i];
        run->low = p + page;
        run->top = p + page + r->bytes;
        register_stack(run->low, run->top);
        r->free[r->free_len++] = (uint8_t)(r->len + FIBRIL__RUN_GROUP - 1 - i);
    }
    r->len += FIBRIL__RUN_GROUP;
    if (group == 0) {
        r->via_top = p + page + VIA_BYTES;
        register_stack(p + page, r->via_top);
    }
}

static bool map_group(struct fibril__runs *r)
{
    unsigned group = r->len / FIBRIL__RUN_GROUP;
    if (group == FIBRIL__RUN_GROUPS || fibril__alloc_refuse()) {
        return false;
    }
    size_t bytes = group_bytes(r, group);
    char *p = mmap(/* addr= */ NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    if (!guard_group(r, group, p)) {
        munmap(p, bytes);
        return false;
    }
    add_group(r, group, p);
    return true;
}

void fibril__runs_fini(struct fibril__runs *r)
{
    for (unsigned group = 0; group * FIBRIL__RUN_GROUP < r->len; group++) {
        munmap(r->groups[group], group_bytes(r, group));
    }
    *r = (struct fibril__runs){0};
}

/* ---- who runs where ---- */

int fibril__runs_take(struct fibril__runs *r)
{
    unsigned i;
    if (r->free_len > 0 || map_group(r)) {
        i = r->free[--r->free_len];
    } else if (r->len > 0) {
        i = r->turn++ % FIBRIL__RUN_GROUP;
    } else {
        return -1;
    }
    r->at[i].users++;
    r->at[i].used = true;
    return (int)i;
}

void fibril__runs_give(struct fibril__runs *r, unsigned i)
{
    if (--r->at[i].users == 0) {
        r->free[r->free_len++] = (uint8_t)i;
    }
}

void fibril__runs_trim(struct fibril__runs *r)
{
    for (unsigned i = 0; i < r->free_len; i++) {
        struct fibril__run_stack *run = &r->at[r->free[i]];
        if (run->used && r->bytes > KEPT_BYTES) {
            madvise(run->low, r->bytes - KEPT_BYTES, MADV_DONTNEED);
        }
        run->used = false;
    }
}

/* ---- looking ---- */

bool fibril__runs_hold(const struct fibril__runs *r, const void *p)
{
    const char *at = p;
    for (unsigned i = 0; i < r->len; i += FIBRIL__RUN_GROUP) {
        if (at >= r->at[i].low && at < r->at[i + FIBRIL__RUN_GROUP - 1].top) {
            return true;
        }
    }
    return false;
}

bool fibril__runs_guard(const struct fibril__runs *r, const void *p)
{
    const char *at = p;
    size_t page = page_bytes();
    for (unsigned i = 0; i < r->len; i++) {
        if (at < r->at[i].low && at >= r->at[i].low - page) {
            return true;
        }
    }
    return false;
}
