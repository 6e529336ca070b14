/* SPDX-License-Identifier: MIT */
/*
 * See context.h. Every switch goes through here, so the hooks that tell ASan, TSan and valgrind
 * about stacks stand in one place:
 *   - ASan is told before and after each switch, with the bounds of the stack that is entered; at
 * the last switch of a context its fake stack is dropped. Copied frames keep their poisoned red
 * zones in the shadow of the run stack, so that shadow is cleared whenever another context moves
 * in.
 *   - TSan has a fiber per context and is told immediately before the jump, in the function that
 * jumps.
 *   - valgrind knows own stacks from slots.c and the run stack from here, and is told what is
 * copied into it.
 */
#include "ctx/context.h"

#include "arch/switch.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "ctx/slots.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#ifdef FIBRIL_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#endif
#if FIBRIL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if FIBRIL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum {
    GONE = -1, /* bytes saved of one that has left its run stack for good */
#if FIBRIL_ASAN || FIBRIL_TSAN
    SWITCH_SLACK = 1024, /* the hooks keep fibril__context_switch from being a tail call */
#else
    SWITCH_SLACK = 0,
#endif
};

/* ---- sanitizer hooks ---- */

#if FIBRIL_ASAN
static void asan_bounds(struct fibril__context *c, const void *low, size_t bytes)
{
    c->asan_fake = NULL;
    c->low = low;
    c->bytes = bytes;
}
static ALWAYS_INLINE void asan_leave(void **fake, const struct fibril__context *to)
{
    __sanitizer_start_switch_fiber(fake, to->low, to->bytes);
}
static ALWAYS_INLINE void asan_arrive(const struct fibril__context *c)
{
    __sanitizer_finish_switch_fiber(c->asan_fake, NULL, NULL);
}
#else
#define asan_bounds(c, low, bytes) ((void)(low), (void)(bytes))
#define asan_leave(fake, to) ((void)0)
#define asan_arrive(c) ((void)0)
#endif

#if FIBRIL_TSAN
#define tsan_create(c) ((c)->tsan = __tsan_create_fiber(0))
#define tsan_adopt(c) ((c)->tsan = __tsan_get_current_fiber())
#define tsan_go(to) __tsan_switch_to_fiber((to)->tsan, 0)
static void tsan_reap(struct fibril__machine *m)
{
    if (m->tsan_dead) {
        __tsan_destroy_fiber(m->tsan_dead);
        m->tsan_dead = NULL;
    }
}
#else
#define tsan_create(c) ((void)0)
#define tsan_adopt(c) ((void)0)
#define tsan_go(to) ((void)0)
#define tsan_reap(m) ((void)0)
#endif

/* ---- the machine ---- */

void fibril__machine_init(struct fibril__machine *m, size_t run_bytes,
                          void (*overflowed)(struct fibril__context *c))
{
    *m = (struct fibril__machine){.overflowed = overflowed};
    fibril__runs_init(&m->runs, run_bytes);
}

void fibril__machine_fini(struct fibril__machine *m)
{
    fibril__runs_fini(&m->runs);
    fibril__copies_fini(&m->copies);
    *m = (struct fibril__machine){0};
}

/* ---- making contexts ---- */

void fibril__context_thread(struct fibril__context *c)
{
    *c = (struct fibril__context){.policy = FIBRIL__THREAD};
#if FIBRIL_ASAN
    pthread_attr_t attr;
    void *low = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &low, &bytes);
        pthread_attr_destroy(&attr);
    }
    asan_bounds(c, low, bytes);
#endif
    tsan_adopt(c);
}

void fibril__context_own_hooked(struct fibril__context *c, void *low, void *top)
{
    asan_bounds(c, low, (size_t)((char *)top - (char *)low));
    tsan_create(c);
}

int fibril__context_copied(struct fibril__machine *m, struct fibril__context *c)
{
    int run = fibril__runs_take(&m->runs);
    if (run < 0) {
        return -1;
    }
    *c = (struct fibril__context){.policy = FIBRIL__COPIED, .log2 = (uint8_t)run};
    asan_bounds(c, m->runs.at[run].low, m->runs.bytes);
    tsan_create(c);
    return 0;
}

void fibril__context_forget(void *low, size_t bytes)
{
#if FIBRIL_ASAN
    ASAN_UNPOISON_MEMORY_REGION(low, bytes);
#else
    (void)low;
    (void)bytes;
#endif
}

void fibril__context_begin_hooked(struct fibril__machine *m, struct fibril__context *c)
{
    (void)m;
    (void)c;
    asan_arrive(c);
    tsan_reap(m);
}

void fibril__context_fini_copied(struct fibril__machine *m, struct fibril__context *c)
{
    if (c->saved_bytes == (uint32_t)GONE) {
        return;
    }
    if (m->runs.at[c->log2].resident == c) {
        m->runs.at[c->log2].resident = NULL;
    }
    fibril__runs_give(&m->runs, c->log2);
    if (c->saved) {
        fibril__copy_give(&m->copies, c->saved, c->saved_bytes);
        c->saved = NULL;
    }
    c->saved_bytes = (uint32_t)GONE;
}

/* ---- copying ---- */

typedef long long grain __attribute__((vector_size(FIBRIL__COPY_GRAIN), may_alias));

/* Copies whole grains; both ends are aligned. Not memcpy: under ASan that would complain of the red
 * zones of frames. */
#if FIBRIL_ASAN
NO_ASAN static NOINLINE
#else
static ALWAYS_INLINE
#endif
    void
    copy_grains(void *to, const void *from, size_t bytes)
{
    grain *t = to;
    const grain *f = from;
    size_t n = bytes / sizeof(grain);
    for (; n >= 4; n -= 4, t += 4, f += 4) {
        grain a = f[0], b = f[1], c = f[2], d = f[3];
        t[0] = a, t[1] = b, t[2] = c, t[3] = d;
    }
    for (; n > 0; n--) {
        *t++ = *f++;
    }
}

static bool resize_piece(struct fibril__machine *m, struct fibril__context *c, size_t live)
{
    uint32_t bytes = fibril__copy_round(live);
    if (c->saved && c->saved_bytes == bytes) {
        return true;
    }
    void *p = fibril__copy_take(&m->copies, bytes);
    if (!p) {
        return c->saved && c->saved_bytes >= bytes;
    }
    if (c->saved) {
        fibril__copy_give(&m->copies, c->saved, c->saved_bytes);
    }
    c->saved = p;
    c->saved_bytes = bytes;
    return true;
}

/* With a nested context the stack pointer is elsewhere: then nothing is known. */
static void relieve(struct fibril__machine *m, struct fibril__context *c, const char *sp)
{
    enum { ENOUGH = 8 << 10 };
    uintptr_t slot = (uintptr_t)c & ~(((uintptr_t)1 << c->log2) - 1);
    const char *top =
        (const char *)slot + sysconf(_SC_PAGESIZE) + fibril__slot_reserve((const void *)slot);
    if (sp > top + ENOUGH && sp < (const char *)c) {
        fibril__slot_reserve_close((char *)slot);
        c->policy = FIBRIL__OWN;
        m->relieved(c);
    }
}

bool fibril__context_reserve_slow(struct fibril__machine *m, struct fibril__context *c, char *sp)
{
    if (c->policy == FIBRIL__UNGUARDED) {
        /* The context lies in its slot; the stack pointer may have left it. */
        uintptr_t slot = (uintptr_t)c & ~(((uintptr_t)1 << c->log2) - 1);
        if (!fibril__slot_mark_intact((void *)slot)) {
            m->overflowed(c);
        }
        return true;
    }
    if (c->policy == FIBRIL__OPENED) {
        relieve(m, c, sp);
        return true;
    }
    const struct fibril__run_stack *run = &m->runs.at[c->log2];
    size_t live = (size_t)(run->top - sp) + FIBRIL_ARCH_INLINE_BYTES + SWITCH_SLACK;
    FIBRIL_ASSERT(sp > run->low && sp <= run->top);
    size_t grains = live / FIBRIL__COPY_GRAIN;
    if (UNLIKELY(grains > c->high_water)) {
        c->high_water = (uint16_t)(grains < UINT16_MAX ? grains : UINT16_MAX);
    }
    return resize_piece(m, c, live);
}

static char *live_low(const struct fibril__context *c)
{
    return (char *)((uintptr_t)c->sp & ~(uintptr_t)(FIBRIL__COPY_GRAIN - 1));
}

/* Moves the resident's live bytes into its piece. */
static void evict(struct fibril__machine *m, const struct fibril__run_stack *run)
{
    struct fibril__context *c = run->resident;
    size_t live = (size_t)(run->top - live_low(c));
    if (UNLIKELY(live > c->saved_bytes) && !resize_piece(m, c, live)) {
        fibril__panic("no memory to park a copied stack, and its reserve was too small");
    }
    copy_grains((char *)c->saved, live_low(c), live);
}

void *fibril__context_move_in(void *arg)
{
    struct fibril__machine *m = arg;
    struct fibril__context *c = m->incoming;
    struct fibril__run_stack *run = &m->runs.at[c->log2];
    if (run->resident) {
        evict(m, run);
    }
    run->resident = c;
#if FIBRIL_ASAN
    __asan_unpoison_memory_region(run->low, m->runs.bytes);
#endif
    if (!c->sp) {
        return fibril__arch_make(run->top, (char *)c + m->tag);
    }
    char *low = live_low(c);
#ifdef FIBRIL_HAVE_VALGRIND
    /* What the last one popped may not be written, memcheck thinks. */
    (void)VALGRIND_MAKE_MEM_UNDEFINED(low, run->top - low);
#endif
    copy_grains(low, c->saved, (size_t)(run->top - low));
    return c->sp;
}

void *fibril__context_at(const struct fibril__machine *m, const struct fibril__context *c, void *p)
{
    if (fibril__context_in_place(m, c)) {
        return p;
    }
    char *at = p;
    if (at >= m->runs.at[c->log2].top || at < (char *)c->sp) {
        return p;
    }
    return (char *)c->saved + (at - live_low(c));
}

/* ---- switching ---- */

#if FIBRIL_ASAN || FIBRIL_TSAN
NOINLINE void fibril__context_switch_hooked(struct fibril__machine *m, struct fibril__context *from,
                                            struct fibril__context *to)
{
#if FIBRIL_ASAN
    asan_leave(&from->asan_fake, to);
#endif
    tsan_go(to);
    fibril__context_jump(m, &from->sp, to);
    asan_arrive(from);
    tsan_reap(m);
}

NO_ASAN void fibril__context_switch_last_hooked(struct fibril__machine *m,
                                                struct fibril__context *from,
                                                struct fibril__context *to)
{
#if FIBRIL_ASAN
    asan_leave(NULL, to);
#endif
#if FIBRIL_TSAN
    m->tsan_dead = from->tsan;
#endif
    tsan_go(to);
    fibril__context_jump(m, &from->sp, to);
}
#endif

void fibril__context_expose(void *low, const void *high)
{
#ifdef FIBRIL_HAVE_VALGRIND
    (void)VALGRIND_MAKE_MEM_DEFINED(low, (const char *)high - (char *)low);
#else
    (void)low, (void)high;
#endif
}

/* ---- visiting ---- */

#if defined(FIBRIL_ARCH_HAS_VISIT) && !FIBRIL_ASAN && !FIBRIL_TSAN

const char *const fibril__context_visit_refusal = NULL;

enum { VISIT_ROOM = 12 << 10 }; /* what unwinding may use of the visited stack */

static struct visit {
    void (*fn)(void *arg);
    void *arg;
    struct fibril__machine *machine;
    struct fibril__context *self;
} visit;
static pthread_mutex_t visit_lock = PTHREAD_MUTEX_INITIALIZER;

/* On the visited stack, called by fibril__arch_visit. */
void fibril__context_visited(void)
{
    visit.fn(visit.arg);
    void *nowhere;
    fibril__context_jump(visit.machine, &nowhere, visit.self);
}

/* On the copying stack: as fibril__context_move_in, but continues in the visitor. */
static void *move_in_to_visit(void *arg)
{
    struct fibril__machine *m = arg;
    return fibril__arch_visit(fibril__context_move_in(m));
}

static bool room_for_visit(const struct fibril__machine *m, const struct fibril__context *c)
{
    char *sp = c->sp;
    if (!sp || c->policy == FIBRIL__THREAD) {
        return sp != NULL;
    }
    if (c->policy == FIBRIL__COPIED) {
        return sp - m->runs.at[c->log2].low > VISIT_ROOM;
    }
    size_t offset = (uintptr_t)sp & (((uintptr_t)1 << c->log2) - 1);
    return offset > VISIT_ROOM;
}

bool fibril__context_visit(struct fibril__machine *m, struct fibril__context *self,
                           struct fibril__context *c, void (*fn)(void *arg), void *arg)
{
    if (!room_for_visit(m, c) || !fibril__context_reserve(m, self)) {
        return false;
    }
    pthread_mutex_lock(&visit_lock);
    visit = (struct visit){fn, arg, m, self};
    if (fibril__context_in_place(m, c)) {
        fibril__arch_switch_inline(&self->sp, fibril__arch_visit(c->sp));
    } else {
        m->incoming = c;
        fibril__arch_switch_via_inline(&self->sp, m->runs.via_top, move_in_to_visit, m);
    }
    pthread_mutex_unlock(&visit_lock);
    return true;
}

#else

#ifdef FIBRIL_ARCH_HAS_VISIT
const char *const fibril__context_visit_refusal = "a sanitizer watches the stacks";

void fibril__context_visited(void)
{
    fibril__panic("nobody visits under sanitizers");
}
#else
const char *const fibril__context_visit_refusal = "ucontext leaves no frame to unwind from";
#endif

bool fibril__context_visit(struct fibril__machine *m, struct fibril__context *self,
                           struct fibril__context *c, void (*fn)(void *arg), void *arg)
{
    (void)m, (void)self, (void)c, (void)fn, (void)arg;
    return false;
}

#endif
