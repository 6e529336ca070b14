/* SPDX-License-Identifier: MIT */
/*
 * Contexts: a stack and where its execution stopped. The only caller of the machine switch and the
 * only home of the sanitizer hooks (context.c).
 *
 * Own stack: the context keeps its stack as long as it lives. Copied stack: a context is bound to
 * one of the loop's run stacks (runs.h) and always runs there, at the same addresses. The last one
 * to run on it stays there (it is the resident) until another needs the place; then its live bytes,
 * from its stack pointer up, are copied to a piece of exactly that size. So a hundred that
 * alternate are not copied at all, and of many a parked one costs its live bytes. The piece is
 * reserved before the context parks, because a switch cannot fail.
 */
#ifndef FIBRIL_CTX_CONTEXT_H
#define FIBRIL_CTX_CONTEXT_H

#include "arch/switch.h"
#include "base/compiler.h"
#include "ctx/copies.h"
#include "ctx/runs.h"
#include "ctx/slots.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fibril__policy {
    FIBRIL__OWN = 0,
    FIBRIL__THREAD, /* the stack of the OS thread that adopted the loop */
    FIBRIL__COPIED,
    FIBRIL__UNGUARDED, /* own, but without a guard page: looked at when it parks */
    FIBRIL__OPENED,    /* own, with its reserve opened: the same */
};

struct fibril__context {
    void *sp; /* where it stopped, while it is not running; NULL: a copied one that has not begun */
    void *saved;          /* copied: the piece for its live bytes, or NULL */
    uint32_t saved_bytes; /* size of that piece */
    uint16_t high_water;  /* copied: most live bytes so far, in grains of 16 (saturates) */
    uint8_t policy;
    uint8_t log2; /* own: size of the stack slot; copied: number of its run stack */
#if FIBRIL_ASAN
    void *asan_fake; /* ASan's fake stack while it is not running */
    const void *low; /* bounds of the stack, for ASan */
    size_t bytes;
#endif
#if FIBRIL_TSAN
    void *tsan; /* TSan's fiber */
#endif
};

/* What the contexts of one loop share. */
struct fibril__machine {
    struct fibril__runs runs;
    struct fibril__copies copies;
    struct fibril__context *incoming; /* for the copying */
    uintptr_t tag;                    /* added to the pointer that a copied context is begun with */
    void (*overflowed)(struct fibril__context *c); /* an unguarded stack has overflowed; does not
                                                      return */
    void (*relieved)(struct fibril__context *c); /* an opened one has shrunk; its reserve is closed
                                                  */
#if FIBRIL_TSAN
    void *tsan_dead; /* fiber of the context that ended last: freed once it is left */
#endif
};

/* Whether c has a stack slot of its own. */
static inline bool fibril__context_is_own(const struct fibril__context *c)
{
    return c->policy != FIBRIL__THREAD && c->policy != FIBRIL__COPIED;
}

static inline bool fibril__context_is_copied(const struct fibril__context *c)
{
    return c->policy == FIBRIL__COPIED;
}

/* Each context runs fibril__context_entry (arch/switch.h). */
void fibril__machine_init(struct fibril__machine *m, size_t run_bytes,
                          void (*overflowed)(struct fibril__context *c));
void fibril__machine_fini(struct fibril__machine *m);

/* Makes c the context of the calling OS thread's own stack. */
void fibril__context_thread(struct fibril__context *c);

/* Makes a context on the stack [low, top) of its own; top is 16-byte aligned. Cannot fail. */
static inline void fibril__context_own(struct fibril__context *c, void *low, void *top,
                                       uint8_t log2);
void fibril__context_own_hooked(struct fibril__context *c, void *low, void *top);

/* Makes a context with a copied stack. Returns 0 or -ENOMEM (the run stack is mapped on first use).
 */
int fibril__context_copied(struct fibril__machine *m, struct fibril__context *c);

/* Reserves memory to keep the running context's live bytes when it parks from the caller's frame.
 * Own stacks need none. Returns false if there is no memory. Must be called from the function that
 * calls fibril__context_switch. */
static ALWAYS_INLINE bool fibril__context_reserve(struct fibril__machine *m,
                                                  struct fibril__context *c);

/* Leaves the running context `from` and continues `to`. Returns when somebody switches back. */
static ALWAYS_INLINE void fibril__context_switch(struct fibril__machine *m,
                                                 struct fibril__context *from,
                                                 struct fibril__context *to);

/* The same for a context that has ended: it is never continued, and its stack may be reused at
 * once. */
static ALWAYS_INLINE void fibril__context_switch_last(struct fibril__machine *m,
                                                      struct fibril__context *from,
                                                      struct fibril__context *to);

/* First thing that a new context calls. */
static inline void fibril__context_begin(struct fibril__machine *m, struct fibril__context *c);
void fibril__context_begin_hooked(struct fibril__machine *m, struct fibril__context *c);

/* Frees what c holds besides its stack; it is not running, or will not be after the next switch. */
static inline void fibril__context_fini(struct fibril__machine *m, struct fibril__context *c);
void fibril__context_fini_copied(struct fibril__machine *m, struct fibril__context *c);

/* Nobody will ever return through the frames on the stack [low, low + bytes): for ASan. */
void fibril__context_forget(void *low, size_t bytes);

/* Calls fn(arg) on the stack of c, which is not running, below its frames and as if called from
 * where it stopped, so that backtrace(3) shows them; then the running context `self` goes on.
 * Returns false where that is not to be had: no room, a context that has not begun, under
 * sanitizers, machines without it. */
extern const char *const fibril__context_visit_refusal; /* why this build never can, or NULL */
bool fibril__context_visit(struct fibril__machine *m, struct fibril__context *self,
                           struct fibril__context *c, void (*fn)(void *arg), void *arg);

/* Tells memcheck that [low, high), which lies below stack pointers, is about to be read and written
 * on purpose. */
void fibril__context_expose(void *low, const void *high);

/* Where the byte at p of the stack of c, which is not running, is now. */
void *fibril__context_at(const struct fibril__machine *m, const struct fibril__context *c, void *p);

/* The stack that c, a copied one, runs on; ret_bytes: its size. */
static inline void *fibril__context_run_stack(const struct fibril__machine *m,
                                              const struct fibril__context *c, size_t *ret_bytes)
{
    *ret_bytes = m->runs.bytes;
    return m->runs.at[c->log2].low;
}

/* Whether p lies on one of the stacks that copied ones share. */
static inline bool fibril__machine_shares(const struct fibril__machine *m, const void *p)
{
    return fibril__runs_hold(&m->runs, p);
}

/* The switches with the sanitizers' hooks around them. */
void fibril__context_switch_hooked(struct fibril__machine *m, struct fibril__context *from,
                                   struct fibril__context *to);
void fibril__context_switch_last_hooked(struct fibril__machine *m, struct fibril__context *from,
                                        struct fibril__context *to);

/* Runs on the copying stack of machine `arg`: makes its incoming the resident and returns where to
 * continue it. */
void *fibril__context_move_in(void *arg);

static inline void fibril__context_own(struct fibril__context *c, void *low, void *top,
                                       uint8_t log2)
{
    *c = (struct fibril__context){
        .policy = UNLIKELY(fibril__slot_unguarded(low)) ? FIBRIL__UNGUARDED : FIBRIL__OWN,
        .log2 = log2};
    if (FIBRIL_ASAN || FIBRIL_TSAN) {
        fibril__context_own_hooked(c, low, top);
    }
    c->sp = fibril__arch_make(top, c);
}

static inline void fibril__context_begin(struct fibril__machine *m, struct fibril__context *c)
{
    if (FIBRIL_ASAN || FIBRIL_TSAN) {
        fibril__context_begin_hooked(m, c);
    }
}

static inline void fibril__context_fini(struct fibril__machine *m, struct fibril__context *c)
{
    if (c->policy == FIBRIL__COPIED) {
        fibril__context_fini_copied(m, c);
    }
}

static inline bool fibril__context_in_place(const struct fibril__machine *m,
                                            const struct fibril__context *c)
{
    return c->policy != FIBRIL__COPIED || m->runs.at[c->log2].resident == c;
}

static ALWAYS_INLINE void fibril__context_jump(struct fibril__machine *m, void **ret_sp,
                                               struct fibril__context *to)
{
    if (LIKELY(fibril__context_in_place(m, to))) {
        fibril__arch_switch_inline(ret_sp, to->sp);
    } else {
        m->incoming = to;
        fibril__arch_switch_via_inline(ret_sp, m->runs.via_top, fibril__context_move_in, m);
    }
}

static ALWAYS_INLINE void fibril__context_switch(struct fibril__machine *m,
                                                 struct fibril__context *from,
                                                 struct fibril__context *to)
{
#if FIBRIL_ASAN || FIBRIL_TSAN
    fibril__context_switch_hooked(m, from, to);
#else
    fibril__context_jump(m, &from->sp, to);
#endif
}

/* Inline, so that nothing is called that does not return: see fibril__context_ended. */
static ALWAYS_INLINE void fibril__context_switch_last(struct fibril__machine *m,
                                                      struct fibril__context *from,
                                                      struct fibril__context *to)
{
#if FIBRIL_ASAN || FIBRIL_TSAN
    fibril__context_switch_last_hooked(m, from, to);
#else
    fibril__context_jump(m, &from->sp, to);
#endif
    __builtin_unreachable();
}

bool fibril__context_reserve_slow(struct fibril__machine *m, struct fibril__context *c, char *sp);

static ALWAYS_INLINE bool fibril__context_reserve(struct fibril__machine *m,
                                                  struct fibril__context *c)
{
    if (LIKELY(c->policy <= FIBRIL__THREAD)) {
        return true;
    }
    char *sp = stack_pointer();
#if !FIBRIL_ASAN && !FIBRIL_TSAN
    if (LIKELY(c->policy == FIBRIL__COPIED)) {
        /* As when it parked last. */
        size_t live = (size_t)(m->runs.at[c->log2].top - sp) + FIBRIL_ARCH_INLINE_BYTES;
        if (LIKELY(fibril__copy_round(live) == c->saved_bytes &&
                   live / FIBRIL__COPY_GRAIN <= c->high_water)) {
            return true;
        }
    }
#endif
    return fibril__context_reserve_slow(m, c, sp);
}

#endif
