/* SPDX-License-Identifier: MIT */
/*
 * The switch for x86-64 as inline assembly: everything but the stack and frame pointers is declared
 * lost, so the compiler saves just what is live around it, once, instead of every callee-saved
 * register in each of two functions. Used by optimised builds; the others, and FIBRIL_SWITCH_FPU,
 * call the function in switch_x86_64.S. The two continue each other's states. Callers are built
 * with -mno-red-zone and -fomit-frame-pointer, which the pushes and their CFI rely on.
 */
#ifndef FIBRIL_ARCH_SWITCH_X86_64_H
#define FIBRIL_ARCH_SWITCH_X86_64_H

/* How far below the stack pointer the inline forms save: rbp and where to continue. */
#define FIBRIL_ARCH_INLINE_BYTES 16

/* Everything that a switch may change. */
#define FIBRIL_ARCH_CLOBBERS                                                                       \
    "rax", "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",    \
        "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7", "cc",   \
        "memory"

#define FIBRIL_ARCH_SAVE                                                                           \
    "pushq %%rbp\n\t"                                                                              \
    ".cfi_adjust_cfa_offset 8\n\t"                                                                 \
    "leaq 1f(%%rip), %%rax\n\t"                                                                    \
    "pushq %%rax\n\t"                                                                              \
    ".cfi_adjust_cfa_offset 8\n\t"                                                                 \
    "movq %%rsp, (%%rdi)\n\t"

#define FIBRIL_ARCH_CONTINUE                                                                       \
    "popq %%rax\n\t"                                                                               \
    ".cfi_adjust_cfa_offset -8\n\t"                                                                \
    "jmpq *%%rax\n"                                                                                \
    "1:\n\t"                                                                                       \
    "popq %%rbp\n\t"                                                                               \
    ".cfi_adjust_cfa_offset -8"

static ALWAYS_INLINE void fibril__arch_switch_inline(void **ret_sp, void *sp)
{
    __asm__ volatile(FIBRIL_ARCH_SAVE "movq %%rsi, %%rsp\n\t" FIBRIL_ARCH_CONTINUE
                     : "+D"(ret_sp), "+S"(sp)
                     :
                     : "rcx", "rdx", FIBRIL_ARCH_CLOBBERS);
}

static ALWAYS_INLINE void fibril__arch_switch_via_inline(void **ret_sp, void *via,
                                                         void *(*fn)(void *arg), void *arg)
{
    __asm__ volatile(FIBRIL_ARCH_SAVE "movq %%rsi, %%rsp\n\t"
                                      "movq %%rcx, %%rdi\n\t"
                                      "callq *%%rdx\n\t"
                                      "movq %%rax, %%rsp\n\t" FIBRIL_ARCH_CONTINUE
                     : "+D"(ret_sp), "+S"(via), "+d"(fn), "+c"(arg)
                     :
                     : FIBRIL_ARCH_CLOBBERS);
}

#endif
