/* SPDX-License-Identifier: MIT */
/*
 * What is particular to the compiler; nothing else tests for one.
 */
#ifndef FIBRIL_BASE_COMPILER_H
#define FIBRIL_BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* The object that holds `member` at address `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBRIL_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBRIL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBRIL_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBRIL_TSAN 1
#endif
#ifndef FIBRIL_ASAN
#define FIBRIL_ASAN 0
#endif
#ifndef FIBRIL_TSAN
#define FIBRIL_TSAN 0
#endif
#ifndef FIBRIL_HARD
#define FIBRIL_HARD 0
#endif

#define NO_ASAN __attribute__((no_sanitize_address))

/* Tells the processor that this is a spin loop. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The stack pointer, or an address a little above it. */
static ALWAYS_INLINE char *stack_pointer(void)
{
#if defined(__x86_64__)
    char *sp;
    __asm__ volatile("movq %%rsp, %0" : "=r"(sp));
    return sp;
#elif defined(__aarch64__)
    char *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
#else
    return __builtin_frame_address(0);
#endif
}

#endif
