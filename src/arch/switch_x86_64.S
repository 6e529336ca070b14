/* SPDX-License-Identifier: MIT */
/*
 * The switch for x86-64, System V ABI (section 3.2.1: rbx, rbp, r12-r15 and the stack pointer belong to the
 * caller; so do the control bits of MXCSR and the x87 control word, see switch.h). Built with
 * -fcf-protection=none: there is no shadow stack to switch.
 *
 * A saved state, from sp upwards:
 *     [fpu words]  r15  r14  r13  r12  rbx  rbp  return address
 */
#ifdef FIBRIL_SWITCH_FPU
#define FPU_BYTES 8
#else
#define FPU_BYTES 0
#endif

    .text

.macro save_state
    pushq %rbp                      /* frame pointer, if the compiler keeps one */
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15, 0
#if FPU_BYTES
    subq $FPU_BYTES, %rsp
    .cfi_adjust_cfa_offset FPU_BYTES
    stmxcsr (%rsp)                  /* SSE control and status */
    fnstcw 4(%rsp)                  /* x87 control word */
#endif
.endm

.macro load_state
#if FPU_BYTES
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $FPU_BYTES, %rsp
    .cfi_adjust_cfa_offset -FPU_BYTES
#endif
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    popq %rcx                       /* return address: a jump, as ret would always mispredict */
    .cfi_adjust_cfa_offset -8
    .cfi_register rip, rcx
    jmpq *%rcx
.endm

    .globl fibril__arch_switch
    .hidden fibril__arch_switch
    .type fibril__arch_switch, @function
    .p2align 4
fibril__arch_switch:                /* rdi = where to store sp, rsi = the sp to continue at */
    .cfi_startproc
    save_state
    movq %rsp, (%rdi)
    movq %rsi, %rsp                 /* same layout on both stacks: the CFI stays right */
    load_state
    .cfi_endproc
    .size fibril__arch_switch, . - fibril__arch_switch

    .globl fibril__arch_switch_via
    .hidden fibril__arch_switch_via
    .type fibril__arch_switch_via, @function
    .p2align 4
fibril__arch_switch_via:            /* rdi = where to store sp, rsi = top of the stack in between, rdx = fn, rcx = arg */
    .cfi_startproc
    save_state
    movq %rsp, (%rdi)
    movq %rsi, %rsp                 /* 16-byte aligned, as a call needs it */
    movq %rcx, %rdi
    callq *%rdx                     /* may overwrite the stack that was left */
    movq %rax, %rsp
    load_state
    .cfi_endproc
    .size fibril__arch_switch_via, . - fibril__arch_switch_via

    .type start, @function
    .p2align 4
start:                              /* r12 = entry, r13 = its argument, from fibril__arch_make */
    .cfi_startproc
    .cfi_undefined rip              /* unwinders end here */
    movq %r13, %rdi
    callq *%r12
    ud2                             /* entry does not return */
    .cfi_endproc
    .size start, . - start

    .globl fibril__arch_make
    .hidden fibril__arch_make
    .type fibril__arch_make, @function
    .p2align 4
fibril__arch_make:                  /* rdi = top, rsi = entry, rdx = arg */
    .cfi_startproc
    leaq -(56 + FPU_BYTES)(%rdi), %rax /* start then runs with sp = top, aligned */
#if FPU_BYTES
    stmxcsr (%rax)
    fnstcw 4(%rax)
#endif
    movq %rdx, (FPU_BYTES + 16)(%rax)  /* r13 */
    movq %rsi, (FPU_BYTES + 24)(%rax)  /* r12 */
    xorl %ecx, %ecx
    movq %rcx, (FPU_BYTES + 40)(%rax)  /* rbp: the end of the chain of frames */
    leaq start(%rip), %rcx
    movq %rcx, (FPU_BYTES + 48)(%rax)  /* return address */
    retq
    .cfi_endproc
    .size fibril__arch_make, . - fibril__arch_make

    .section .rodata
    .globl fibril__arch_frame_bytes
    .hidden fibril__arch_frame_bytes
    .type fibril__arch_frame_bytes, @object
    .p2align 2
fibril__arch_frame_bytes:
    .long 56 + FPU_BYTES
    .size fibril__arch_frame_bytes, 4

    .section .note.GNU-stack, "", @progbits
