/* SPDX-License-Identifier: MIT */
/*
 * How much stack fibrils use. Copied stacks know their largest copy. Own stacks are measured by the
 * pages they have touched, which a reused stack inherits from earlier owners; under
 * fibril_opts.measure_stacks the pages that are there are painted before a fibril starts, so that
 * the mark is exact to a word, and each spawn site keeps the largest.
 */
#include "base/alloc.h"
#include "sched/current.h"
#include "sched/record.h"
#include "sched/sites.h"

#include <string.h>
#include <unistd.h>

#ifdef FIBRIL_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#endif

static const uint64_t paint = 0xa5a5a5a5a5a5a5a5u;

/* The part of an own stack that has pages, without the guard and without the frames that a new
 * context has. */
static void painted_part(const struct fibril *f, uint64_t **ret_low, uint64_t **ret_high)
{
    char *slot = fibril__slot_of(f);
    char *page_top = slot + ((size_t)1 << f->ctx.log2);
    size_t touched = fibril__slot_touched(slot + sysconf(_SC_PAGESIZE), page_top);
    *ret_low = (uint64_t *)(void *)(page_top - touched);
    *ret_high = (uint64_t *)(uintptr_t)f;
    fibril__context_expose(*ret_low, *ret_high);
#ifdef FIBRIL_HAVE_VALGRIND
    /* Below the stack pointer nobody has any business, memcheck thinks. */
    (void)VALGRIND_MAKE_MEM_DEFINED(*ret_low, touched);
#endif
}

NO_ASAN void fibril__stack_paint(struct fibril *f)
{
    if (f->ctx.policy == FIBRIL__THREAD || f->ctx.policy == FIBRIL__COPIED) {
        return;
    }
    uint64_t *low, *high;
    painted_part(f, &low, &high);
    for (uint64_t *p = low; p < (uint64_t *)f->ctx.sp && p < high; p++) {
        *p = paint;
    }
}

NO_ASAN static size_t own_used(const struct fibril *f, bool painted)
{
    uint64_t *low, *high;
    painted_part(f, &low, &high);
    while (painted && low < high && *low == paint) {
        low++;
    }
    return low < high ? (size_t)((char *)high - (char *)low) : 0;
}

size_t fibril_stack_used(const struct fibril *f)
{
    switch (f->ctx.policy) {
    case FIBRIL__COPIED: return f->ctx.high_water * (size_t)FIBRIL__COPY_GRAIN;
    case FIBRIL__OWN:
    case FIBRIL__OPENED:
    case FIBRIL__UNGUARDED: return own_used(f, f->loop->sites != NULL);
    default: return 0;
    }
}

/* ---- spawn sites ---- */

int fibril__sites_new(struct fibril__sites **ret_sites)
{
    *ret_sites = fibril__alloc_zero(sizeof **ret_sites);
    return *ret_sites ? 0 : -1;
}

static struct fibril_site *slot_for(struct fibril__sites *s, const void *address)
{
    size_t i = ((uintptr_t)address >> 2) * 0x9e3779b97f4a7c15u >> (64 - FIBRIL__SITES_LOG2);
    for (size_t n = 0; n < FIBRIL__SITES_MAX; n++, i = (i + 1) % FIBRIL__SITES_MAX) {
        if (!s->entries[i].address || s->entries[i].address == address) {
            s->entries[i].address = address;
            return &s->entries[i];
        }
    }
    return NULL; /* more sites than entries: the later ones are not kept */
}

void fibril__stack_measure(struct fibril *f)
{
    struct fibril_site *site = slot_for(f->loop->sites, fibril__site(f));
    if (site) {
        size_t used = fibril_stack_used(f);
        site->spawned++;
        site->stack_used_max = used > site->stack_used_max ? used : site->stack_used_max;
    }
}

size_t fibril_sites(struct fibril_site *ret_sites, size_t n)
{
    const struct fibril__sites *s = fibril__loop ? fibril__loop->sites : NULL;
    size_t found = 0;
    for (size_t i = 0; s && i < FIBRIL__SITES_MAX && found < n; i++) {
        if (s->entries[i].address) {
            ret_sites[found++] = s->entries[i];
        }
    }
    return found;
}
