/* SPDX-License-Identifier: MIT */
/*
 * The switch for every other machine, and for testing that nothing relies on the assembly:
 * swapcontext, which also makes a system call for the signal mask. A saved state is the ucontext_t
 * in a frame of the stack that it describes, so that copying the stack copies it too; glibc's holds
 * no pointer into itself that matters after the copy is back in its old place.
 */
#include "arch/switch.h"

#include "base/assert.h"

#include <stdint.h>
#include <string.h>
#include <ucontext.h>

/* swapcontext's frames lie below the ucontext_t, which lies in ours. */
enum { BELOW = 512 };

const unsigned fibril__arch_frame_bytes = sizeof(ucontext_t) + 3 * BELOW;

struct via {
    void *(*fn)(void *arg);
    void *arg;
};

static void *sp_of(const ucontext_t *state)
{
    return (void *)((uintptr_t)state - BELOW);
}

static ucontext_t *state_of(void *sp)
{
    return (ucontext_t *)(void *)((char *)sp + BELOW);
}

NOINLINE void fibril__arch_switch(void **ret_sp, void *sp)
{
    ucontext_t here;
    *ret_sp = sp_of(&here);
    FIBRIL_ASSERT(swapcontext(&here, state_of(sp)) == 0);
}

static void run_via(unsigned high, unsigned low)
{
    struct via *via = (struct via *)(((uintptr_t)high << 32) | low);
    void *sp = via->fn(via->arg);
    setcontext(state_of(sp));
    fibril__panic("setcontext failed");
}

static void run_start(unsigned high, unsigned low)
{
    struct via *entry = (struct via *)(((uintptr_t)high << 32) | low);
    fibril__context_ended(entry->arg, fibril__context_entry(entry->arg));
}

static void prepare(ucontext_t *state, char *bottom, size_t bytes, void (*run)(unsigned, unsigned),
                    struct via *via)
{
    FIBRIL_ASSERT(getcontext(state) == 0);
    state->uc_link = NULL;
    state->uc_stack.ss_sp = bottom;
    state->uc_stack.ss_size = bytes;
    uintptr_t p = (uintptr_t)via;
    makecontext(state, (void (*)(void))run, 2, (unsigned)(p >> 32), (unsigned)p);
}

NOINLINE void fibril__arch_switch_via(void **ret_sp, void *via_top, void *(*fn)(void *arg),
                                      void *arg)
{
    /* What runs in between must not lie on the stack that is left: it is about to be overwritten.
     */
    char *top = via_top;
    struct via *via = (struct via *)(void *)(top - sizeof *via);
    ucontext_t *between = (ucontext_t *)(void *)((char *)via - sizeof *between);
    between = (ucontext_t *)((uintptr_t)between & ~(uintptr_t)63);
    *via = (struct via){fn, arg};
    prepare(between, (char *)between - 16384, 16384, run_via, via);
    ucontext_t here;
    *ret_sp = sp_of(&here);
    FIBRIL_ASSERT(swapcontext(&here, between) == 0);
}

void *fibril__arch_make(void *top, void *context)
{
    struct via *via = (struct via *)(void *)((char *)top - sizeof *via);
    ucontext_t *state = (ucontext_t *)(((uintptr_t)via - sizeof *state) & ~(uintptr_t)63);
    *via = (struct via){NULL, context};
    char *bottom = (char *)state - 8192;
    prepare(state, bottom, 8192, run_start, via);
    return sp_of(state);
}
