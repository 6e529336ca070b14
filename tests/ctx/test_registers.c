/* SPDX-License-Identifier: MIT */
/*
 * What the ABI says a call preserves is preserved across switches: registers, and, where the build
 * was told so, the control words of the floating-point units.
 */
#include <fibril/fibril.h>

#include "base/compiler.h"
#include "test.h"

#include <fenv.h>

enum { TURNS = 200 };

/* ---- integer registers ---- */

#if defined(__x86_64__)
/* Fills all that is callee-saved with values made of seed, yields, and returns how many are
 * different after it. */
int yield_with_registers(uint64_t seed);
__asm__(".text\n"
        ".type yield_with_registers, @function\n"
        "yield_with_registers:\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    pushq %rdi\n" /* seven words and the return address: aligned */
        "    leaq 1(%rdi), %rbx\n    leaq 2(%rdi), %rbp\n    leaq 3(%rdi), %r12\n"
        "    leaq 4(%rdi), %r13\n    leaq 5(%rdi), %r14\n    leaq 6(%rdi), %r15\n"
        "    call fibril_yield\n"
        "    movq (%rsp), %rdi\n"
        "    xorl %eax, %eax\n"
        "    leaq 1(%rdi), %rcx\n    cmpq %rcx, %rbx\n    setne %cl\n    addb %cl, %al\n"
        "    leaq 2(%rdi), %rcx\n    cmpq %rcx, %rbp\n    setne %cl\n    addb %cl, %al\n"
        "    leaq 3(%rdi), %rcx\n    cmpq %rcx, %r12\n    setne %cl\n    addb %cl, %al\n"
        "    leaq 4(%rdi), %rcx\n    cmpq %rcx, %r13\n    setne %cl\n    addb %cl, %al\n"
        "    leaq 5(%rdi), %rcx\n    cmpq %rcx, %r14\n    setne %cl\n    addb %cl, %al\n"
        "    leaq 6(%rdi), %rcx\n    cmpq %rcx, %r15\n    setne %cl\n    addb %cl, %al\n"
        "    popq %rdi\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbp\n    popq %rbx\n"
        "    ret\n"
        ".size yield_with_registers, . - yield_with_registers\n");

static int check_registers(void *arg)
{
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        ASSERT_EQ(yield_with_registers((uint64_t)(uintptr_t)arg * turn * 0x0101010101010101u), 0);
    }
    return 0;
}

static int spawn_checks(void *arg)
{
    (void)arg;
    for (uintptr_t i = 1; i <= 40; i++) {
        struct fibril_spawn_opts opts = {.stack = i % 2 ? FIBRIL_STACK_OWN : FIBRIL_STACK_COPIED};
        ASSERT_OK(fibril_spawn(check_registers, (void *)i, &opts, NULL));
    }
    return check_registers((void *)(uintptr_t)77);
}

TEST(callee_saved_registers_survive)
{
    ASSERT_OK(fibril_run(NULL, spawn_checks, NULL));
}
#endif

/* ---- floating point ---- */

static volatile double one = 1, three = 3;

/* Values that the compiler may keep in registers across the switch. */
static int sum_up(void *arg)
{
    double a = (double)(uintptr_t)arg, b = a / three;
    for (int turn = 0; turn < TURNS; turn++) {
        double before = a + b;
        ASSERT_OK(fibril_yield());
        ASSERT(a + b == before);
        a += one;
        b *= 1.01;
    }
    return 0;
}

static int spawn_sums(void *arg)
{
    for (uintptr_t i = 1; i <= 40; i++) {
        struct fibril_spawn_opts opts = {.stack = i % 2 ? FIBRIL_STACK_OWN : FIBRIL_STACK_COPIED};
        ASSERT_OK(fibril_spawn(sum_up, (void *)i, &opts, NULL));
    }
    return sum_up(arg);
}

TEST(floating_point_values_survive)
{
    ASSERT_OK(fibril_run(NULL, spawn_sums, (void *)(uintptr_t)99));
}

static int round_by(void *arg)
{
    int mode = (int)(uintptr_t)arg;
    ASSERT_EQ(fesetround(mode), 0);
    volatile double third = one / three;
    for (int turn = 0; turn < TURNS; turn++) {
        ASSERT_OK(fibril_yield());
        ASSERT_EQ(fegetround(), mode);
        ASSERT(one / three == third);
    }
    return 0;
}

static int spawn_modes(void *arg)
{
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
    (void)arg;
    for (unsigned i = 0; i < 12; i++) {
        struct fibril_spawn_opts opts = {.stack = i % 3 ? FIBRIL_STACK_OWN : FIBRIL_STACK_COPIED};
        ASSERT_OK(fibril_spawn(round_by, (void *)(uintptr_t)modes[i % 4], &opts, NULL));
    }
    return 0;
}

TEST(rounding_mode_is_the_fibril_s_own)
{
#ifndef FIBRIL_SWITCH_FPU
    SKIP("built without -Dswitch_fpu=true");
#endif
    ASSERT_OK(fibril_run(NULL, spawn_modes, NULL));
    ASSERT_EQ(fegetround(), FE_TONEAREST);
}
