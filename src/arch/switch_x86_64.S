/* SPDX-License-Identifier: MIT */
/*
 * The switch for x86-64, System V ABI (section 3.2.1: rbx, rbp, r12-r15 and the stack pointer
 * belong to the caller; so do the control bits of MXCSR and the x87 control word, see switch.h).
 * Built with -fcf-protection=none: there is no shadow stack to switch.
 *
 * A saved state is, at sp, the address to continue at; what lies above is that code's own
 * business. So states made here, by the inline switch of switch_x86_64.h and by fibril__arch_make
 * continue each other.
 */
#ifdef FIBRIL_SWITCH_FPU
#define FPU_BYTES 8
#else
#define FPU_BYTES 0
#endif

    .text

.macro push_reg reg
    pushq %\reg
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \reg, 0
.endm

.macro pop_reg reg
    popq %\reg
    .cfi_adjust_cfa_offset -8
    .cfi_restore \reg
.endm

.macro save_state
    push_reg rbp                    /* frame pointer, if the compiler keeps one */
    push_reg rbx
    push_reg r12
    push_reg r13
    push_reg r14
    push_reg r15
#if FPU_BYTES
    subq $FPU_BYTES, %rsp
    .cfi_adjust_cfa_offset FPU_BYTES
    stmxcsr (%rsp)                  /* SSE control and status */
    fnstcw 4(%rsp)                  /* x87 control word */
#endif
    leaq 1f(%rip), %rax
    pushq %rax                      /* continue at 1 */
    .cfi_adjust_cfa_offset 8
    movq %rsp, (%rdi)
.endm

.macro load_state
    popq %rax                       /* a jump: nobody called what is continued */
    .cfi_adjust_cfa_offset -8
    jmpq *%rax
1:
#if FPU_BYTES
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $FPU_BYTES, %rsp
    .cfi_adjust_cfa_offset -FPU_BYTES
#endif
    pop_reg r15
    pop_reg r14
    pop_reg r13
    pop_reg r12
    pop_reg rbx
    pop_reg rbp
    retq                            /* called mostly from one place: well predicted */
.endm

    .globl fibril__arch_switch
    .hidden fibril__arch_switch
    .type fibril__arch_switch, @function
    .p2align 4
/* rdi = where to store sp, rsi = the sp to continue at */
fibril__arch_switch:
    .cfi_startproc
    save_state
    movq %rsi, %rsp                 /* who continues here has the layout of the CFI */
    load_state
    .cfi_endproc
    .size fibril__arch_switch, . - fibril__arch_switch

    .globl fibril__arch_switch_via
    .hidden fibril__arch_switch_via
    .type fibril__arch_switch_via, @function
    .p2align 4
/* rdi = where to store sp, rsi = top of the stack in between, rdx = fn, rcx = arg */
fibril__arch_switch_via:
    .cfi_startproc
    save_state
    movq %rsi, %rsp                 /* 16-byte aligned, as a call needs it */
    movq %rcx, %rdi
    callq *%rdx                     /* may overwrite the stack that was left */
    movq %rax, %rsp
    load_state
    .cfi_endproc
    .size fibril__arch_switch_via, . - fibril__arch_switch_via

    .type start, @function
    .p2align 4
/* on the stack, from fibril__arch_make: the context, and a word unused */
start:
    .cfi_startproc
    .cfi_undefined rip              /* unwinders end here */
    movq (%rsp), %rdi
    xorl %ebp, %ebp                 /* the end of the chain of frames */
    callq fibril__context_entry
    movq (%rsp), %rdi
    movl %eax, %esi
    pushq $0                        /* aligned as after a call */
    jmp fibril__context_ended
    .cfi_endproc
    .size start, . - start

    .globl fibril__arch_make
    .hidden fibril__arch_make
    .type fibril__arch_make, @function
    .p2align 4
fibril__arch_make:                  /* rdi = top, rsi = context */
    .cfi_startproc
    leaq start(%rip), %rax
    movq %rax, -24(%rdi)
    movq %rsi, -16(%rdi)
    leaq -24(%rdi), %rax            /* start then calls with an aligned sp */
    retq
    .cfi_endproc
    .size fibril__arch_make, . - fibril__arch_make

/* What a visit continues at: the stack is that of a stopped context, its saved state lies just
 * above, and the word on top of that state is where it stopped: a return address. An unwinder
 * that comes here finds a call from there. The frame pointer of a state of the inline kind is its
 * second word; in the other kind the CFI there knows better. */
    .type visitor, @function
    .p2align 4
visitor:
    .cfi_startproc
    movq 8(%rsp), %rbp
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    movq %rsp, %rbp
    .cfi_def_cfa_register rbp
    .cfi_offset rbp, -16
    andq $-16, %rsp
    callq fibril__context_visited
    ud2                             /* it does not return */
    .cfi_endproc
    .size visitor, . - visitor

    .globl fibril__arch_visit
    .hidden fibril__arch_visit
    .type fibril__arch_visit, @function
    .p2align 4
fibril__arch_visit:                 /* rdi = sp of a saved state */
    .cfi_startproc
    leaq visitor(%rip), %rax
    movq %rax, -8(%rdi)
    leaq -8(%rdi), %rax
    retq
    .cfi_endproc
    .size fibril__arch_visit, . - fibril__arch_visit

    .section .rodata
    .globl fibril__arch_frame_bytes
    .hidden fibril__arch_frame_bytes
    .type fibril__arch_frame_bytes, @object
    .p2align 2
fibril__arch_frame_bytes:
    .long 64 + FPU_BYTES
    .size fibril__arch_frame_bytes, 4

    .section .note.GNU-stack, "", @progbits
