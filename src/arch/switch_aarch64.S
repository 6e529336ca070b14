/* SPDX-License-Identifier: MIT */
/*
 * The switch for aarch64, AAPCS64 (section 6.1.1: x19-x28, x29 and sp belong to the caller; 6.1.2:
 * d8-d15, the low halves). x30 is the return address.
 *
 * A saved state, from sp upwards: x19..x28, x29, x30, d8..d15, fpcr, one word unused: 176 bytes.
 */
    .text

.macro save_state
    sub sp, sp, #176
    .cfi_adjust_cfa_offset 176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    .cfi_rel_offset x29, 80
    .cfi_rel_offset x30, 88
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
#ifdef FIBRIL_SWITCH_FPU
    mrs x9, fpcr
    str x9, [sp, #160]
#endif
.endm

.macro load_state
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
#ifdef FIBRIL_SWITCH_FPU
    ldr x9, [sp, #160]
    msr fpcr, x9
#endif
    add sp, sp, #176
    .cfi_adjust_cfa_offset -176
    .cfi_restore x29
    .cfi_restore x30
    br x30                          /* not ret: the return predictor does not know this address */
.endm

    .globl fibril__arch_switch
    .hidden fibril__arch_switch
    .type fibril__arch_switch, %function
    .p2align 4
fibril__arch_switch:                /* x0 = where to store sp, x1 = the sp to continue at */
    .cfi_startproc
    save_state
    mov x9, sp
    str x9, [x0]
    mov sp, x1                      /* same layout on both stacks: the CFI stays right */
    load_state
    .cfi_endproc
    .size fibril__arch_switch, . - fibril__arch_switch

    .globl fibril__arch_switch_via
    .hidden fibril__arch_switch_via
    .type fibril__arch_switch_via, %function
    .p2align 4
/* x0 = where to store sp, x1 = top of the stack in between, x2 = fn, x3 = arg */
fibril__arch_switch_via:
    .cfi_startproc
    save_state
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    mov x0, x3
    blr x2                          /* may overwrite the stack that was left */
    mov sp, x0
    load_state
    .cfi_endproc
    .size fibril__arch_switch_via, . - fibril__arch_switch_via

    .type start, %function
    .p2align 4
start:                              /* x19 = the context, from fibril__arch_make */
    .cfi_startproc
    .cfi_undefined x30              /* unwinders end here */
    mov x0, x19
    bl fibril__context_entry
    mov w1, w0
    mov x0, x19
    b fibril__context_ended
    .cfi_endproc
    .size start, . - start

    .globl fibril__arch_make
    .hidden fibril__arch_make
    .type fibril__arch_make, %function
    .p2align 4
fibril__arch_make:                  /* x0 = top, x1 = context */
    .cfi_startproc
    sub x0, x0, #176
    str x1, [x0, #0]                /* x19 */
    adr x9, start
    stp xzr, x9, [x0, #80]          /* x29: the end of the chain of frames; x30 */
    mrs x9, fpcr
    str x9, [x0, #160]
    ret
    .cfi_endproc
    .size fibril__arch_make, . - fibril__arch_make

/* What a visit continues at: sp is that of a stopped context, whose saved state lies just above. To
 * an unwinder this is the frame of fibril__arch_switch there, and the call comes from where the
 * context stopped. */
    .type visitor, %function
    .p2align 4
visitor:
    .cfi_startproc
    .cfi_def_cfa_offset 176
    .cfi_rel_offset x19, 0
    .cfi_rel_offset x20, 8
    .cfi_rel_offset x21, 16
    .cfi_rel_offset x22, 24
    .cfi_rel_offset x23, 32
    .cfi_rel_offset x24, 40
    .cfi_rel_offset x25, 48
    .cfi_rel_offset x26, 56
    .cfi_rel_offset x27, 64
    .cfi_rel_offset x28, 72
    .cfi_rel_offset x29, 80
    .cfi_rel_offset x30, 88
    nop                             /* an unwinder looks at the byte before a return address */
    bl fibril__context_visited
    brk #1                          /* it does not return */
    .cfi_endproc
    .size visitor, . - visitor

    .globl fibril__arch_visit
    .hidden fibril__arch_visit
    .type fibril__arch_visit, %function
    .p2align 4
fibril__arch_visit:                 /* x0 = sp of a saved state */
    .cfi_startproc
    ldr x9, [x0, #80]
    ldr x10, [x0, #160]
    adr x11, visitor
    sub x0, x0, #176
    stp x9, x11, [x0, #80]          /* x29, x30; of the others nobody knows the value */
    str x10, [x0, #160]             /* fpcr */
    ret
    .cfi_endproc
    .size fibril__arch_visit, . - fibril__arch_visit

    .section .rodata
    .globl fibril__arch_frame_bytes
    .hidden fibril__arch_frame_bytes
    .type fibril__arch_frame_bytes, %object
    .p2align 2
fibril__arch_frame_bytes:
    .word 176
    .size fibril__arch_frame_bytes, 4

    .section .note.GNU-stack, "", %progbits
