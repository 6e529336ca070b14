/* SPDX-License-Identifier: MIT */
/*
 * The machine switch: one implementation per architecture, chosen by the build. It saves what the
 * ABI says a called function must preserve, and nothing else; the compiler has saved the rest
 * around the call. The x87 and SSE control words (fpcr on aarch64) belong to that set too, but
 * hardly any program changes them: they are switched only under -Dswitch_fpu=true, because that
 * costs about a nanosecond.
 *
 * Only ctx/context.[ch] may call these.
 */
#ifndef FIBRIL_ARCH_SWITCH_H
#define FIBRIL_ARCH_SWITCH_H

#include "base/compiler.h"

/* Given by the build. */
#ifndef FIBRIL_SWITCH_ASM
#define FIBRIL_SWITCH_ASM 0
#endif
#ifndef FIBRIL_SWITCH_INLINE
#define FIBRIL_SWITCH_INLINE 0
#endif

/* Saves the caller's state on its stack, stores where in *ret_sp, and continues the state saved at
 * sp. */
void fibril__arch_switch(void **ret_sp, void *sp);

/* Likewise, but first runs fn(arg) on the stack whose top is `via`, and continues the state that fn
 * returns. fn may overwrite the caller's stack. */
void fibril__arch_switch_via(void **ret_sp, void *via, void *(*fn)(void *arg), void *arg);

/* Builds, below top (16-byte aligned), a state that calls fibril__context_entry(context) when
 * continued, and with what that returns jumps to fibril__context_ended. Returns what to give to
 * fibril__arch_switch. */
void *fibril__arch_make(void *top, void *context);

/* What every context runs, and its end: given by the scheduler. The end is jumped to, not called: a
 * call that never returns leaves an entry in the processor's stack of return addresses, and the
 * next three returns of whoever runs then would be mispredicted. */
int fibril__context_entry(void *context);
__attribute__((noreturn)) void fibril__context_ended(void *context, int result);

/* How far below the caller's stack pointer these save at most. */
extern const unsigned fibril__arch_frame_bytes;

#if (defined(__x86_64__) || defined(__aarch64__)) && FIBRIL_SWITCH_ASM
#define FIBRIL_ARCH_HAS_VISIT 1
/* Builds, below the state saved at sp, one that calls fibril__context_visited as if from where that
 * state stopped. The saved state stays as it is. */
void *fibril__arch_visit(void *sp);
void fibril__context_visited(void); /* context.c */
#endif

/* FIBRIL_SWITCH_INLINE is given by the build where the architecture has an inline form and the
 * callers are optimised. */
#if FIBRIL_SWITCH_INLINE && defined(__OPTIMIZE__) && !FIBRIL_ASAN && !FIBRIL_TSAN
#include "arch/switch_x86_64.h"
#else
#define FIBRIL_ARCH_INLINE_BYTES fibril__arch_frame_bytes
static ALWAYS_INLINE void fibril__arch_switch_inline(void **ret_sp, void *sp)
{
    fibril__arch_switch(ret_sp, sp);
}
static ALWAYS_INLINE void fibril__arch_switch_via_inline(void **ret_sp, void *via,
                                                         void *(*fn)(void *arg), void *arg)
{
    fibril__arch_switch_via(ret_sp, via, fn, arg);
}
#endif

#endif
