/* SPDX-License-Identifier: MIT */
/*
 * Processor time of fibrils, counted while somebody observes. A hook on the switch reads the clock
 * and charges the slice that ends to the fibril that ran. The figures are in a table per loop and
 * not in the fibrils, which have no room for what is hardly ever wanted: a small hash of the
 * busiest, in which a newcomer takes the place of the least of its neighbours.
 *
 * A fibril that parks last polls, and sleeps, on its own stack. So a slice in which the loop slept
 * is not what the clock says but what is left of the OS thread's processor time, whose clock is
 * slow and read only then.
 *
 * Only the loop writes its table; others read figures one by one.
 */
#include "debug/look.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "sched/current.h"

#include <errno.h>
#include <time.h>

enum { ENTRIES_LOG2 = 14, ENTRIES = 1 << ENTRIES_LOG2, WINDOW = 8 };

struct entry {
    const struct fibril *_Atomic fibril;
    uint64_t id;
    _Atomic int64_t ns;
};

struct table {
    void (*earlier)(struct fibril *from, struct fibril *to);
    int64_t mark_ns;    /* when the present slice began */
    uint64_t sleeps;    /* of the loop, by then */
    int64_t thread_ns;  /* the OS thread's processor time when last read ... */
    int64_t charged_ns; /* ... and what has been charged of it since */
    struct entry entries[ENTRIES + WINDOW];
};

/* By number of the loop; kept when the loop ends, for the next of that number. Release when made.
 */
static struct table *_Atomic tables[FIBRIL__LOOPS_MAX];

static size_t place_of(const struct fibril *f)
{
    return ((uintptr_t)f >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - ENTRIES_LOG2);
}

static struct entry *entry_for(struct table *t, const struct fibril *f)
{
    struct entry *e = &t->entries[place_of(f)], *least = e;
    for (unsigned i = 0; i < WINDOW; i++, e++) {
        const struct fibril *have = atomic_load_explicit(&e->fibril, memory_order_relaxed);
        if (have == f) {
            least = e;
            break;
        }
        if (atomic_load_explicit(&e->ns, memory_order_relaxed) <
            atomic_load_explicit(&least->ns, memory_order_relaxed)) {
            least = e;
        }
    }
    if (least->id != f->id) { /* another, or another in the same record */
        atomic_store_explicit(&least->ns, 0, memory_order_relaxed);
        atomic_store_explicit(&least->fibril, f, memory_order_relaxed);
        least->id = f->id;
    }
    return least;
}

static int64_t thread_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* What the slice that ends now has used. */
static int64_t slice(struct table *t, struct fibril_loop *loop)
{
    int64_t now_ns = fibril__clock_now(), ns = now_ns - t->mark_ns;
    uint64_t sleeps = atomic_load_explicit(&loop->sleeps, memory_order_relaxed);
    t->mark_ns = now_ns;
    if (sleeps == t->sleeps) {
        t->charged_ns += ns;
        return ns;
    }
    int64_t thread_ns = thread_now();
    int64_t left_ns = thread_ns - t->thread_ns - t->charged_ns;
    t->sleeps = sleeps;
    t->thread_ns = thread_ns;
    t->charged_ns = 0;
    return left_ns < 0 ? 0 : left_ns < ns ? left_ns : ns;
}

/* `from` is NULL when it has ended: then there is nobody to charge. */
static void on_switch(struct fibril *from, struct fibril *to)
{
    struct fibril_loop *loop = fibril__loop;
    struct table *t = atomic_load_explicit(&tables[loop->index], memory_order_relaxed);
    int64_t used_ns = slice(t, loop);
    if (from) {
        struct entry *e = entry_for(t, from);
        int64_t ns = atomic_load_explicit(&e->ns, memory_order_relaxed);
        atomic_store_explicit(&e->ns, ns + used_ns, memory_order_relaxed);
    }
    if (t->earlier) {
        t->earlier(from, to);
    }
}

int fibril__cpu_count(bool on)
{
    struct fibril_loop *loop = fibril__loop;
    struct table *t = atomic_load_explicit(&tables[loop->index], memory_order_relaxed);
    if (!on) {
        if (loop->on_switch == on_switch) {
            loop->on_switch = t->earlier;
        }
        return 0;
    }
    if (!t) {
        t = fibril__alloc_zero(sizeof *t);
        if (!t) {
            return -ENOMEM;
        }
        atomic_store_explicit(&tables[loop->index], t, memory_order_release);
    }
    if (loop->on_switch != on_switch) {
        t->earlier = loop->on_switch;
        t->mark_ns = fibril__clock_now();
        t->sleeps = atomic_load_explicit(&loop->sleeps, memory_order_relaxed);
        t->thread_ns = thread_now();
        t->charged_ns = 0;
        loop->on_switch = on_switch;
    }
    return 0;
}

int64_t fibril__cpu_of(const struct fibril *f, unsigned loop)
{
    struct table *t = f && loop < FIBRIL__LOOPS_MAX
                          ? atomic_load_explicit(&tables[loop], memory_order_acquire)
                          : NULL;
    struct entry *e = t ? &t->entries[place_of(f)] : NULL;
    for (unsigned i = 0; e && i < WINDOW; i++, e++) {
        if (atomic_load_explicit(&e->fibril, memory_order_relaxed) == f) {
            return atomic_load_explicit(&e->ns, memory_order_relaxed);
        }
    }
    return 0;
}
