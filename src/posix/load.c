/* SPDX-License-Identifier: MIT */
/*
 * Objects that are loaded later. dlopen and dlsym depend on who calls them (search paths, "the next
 * object"), so libc's own are jumped to with the caller's return address in place. New objects are
 * covered when a symbol of theirs is asked for, which comes before they can be called; those that
 * came otherwise, at the next dlopen, dlsym or pthread_create.
 */
#include "posix/layer.h"

#include "posix/install.h"
#include "posix/layer.h"

#include <dlfcn.h>

void *fibril__real_dlopen = (void *)(uintptr_t)dlopen;
void *fibril__real_dlsym = (void *)(uintptr_t)dlsym;
void *fibril__real_dlvsym = (void *)(uintptr_t)dlvsym;

/* Each saves the argument registers, looks for new objects, and jumps to libc's. */
#if defined(__x86_64__)
#define JUMP(name)                                                                                 \
    __asm__(".text\n"                                                                              \
            ".p2align 4\n"                                                                         \
            ".hidden fibril_posix_" #name "\n"                                                     \
            ".globl fibril_posix_" #name "\n"                                                      \
            ".type fibril_posix_" #name ", @function\n"                                            \
            "fibril_posix_" #name ":\n"                                                            \
            ".cfi_startproc\n"                                                                     \
            "push %rdi\n.cfi_adjust_cfa_offset 8\n"                                                \
            "push %rsi\n.cfi_adjust_cfa_offset 8\n"                                                \
            "push %rdx\n.cfi_adjust_cfa_offset 8\n"                                                \
            "call fibril__load_look\n"                                                             \
            "pop %rdx\n.cfi_adjust_cfa_offset -8\n"                                                \
            "pop %rsi\n.cfi_adjust_cfa_offset -8\n"                                                \
            "pop %rdi\n.cfi_adjust_cfa_offset -8\n"                                                \
            "jmp *fibril__real_" #name "(%rip)\n"                                                  \
            ".cfi_endproc\n"                                                                       \
            ".size fibril_posix_" #name ", . - fibril_posix_" #name "\n")
#elif defined(__aarch64__)
#define JUMP(name)                                                                                 \
    __asm__(".text\n"                                                                              \
            ".p2align 4\n"                                                                         \
            ".hidden fibril_posix_" #name "\n"                                                     \
            ".globl fibril_posix_" #name "\n"                                                      \
            ".type fibril_posix_" #name ", %function\n"                                            \
            "fibril_posix_" #name ":\n"                                                            \
            ".cfi_startproc\n"                                                                     \
            "stp x0, x1, [sp, #-32]!\n.cfi_adjust_cfa_offset 32\n"                                 \
            "stp x2, x30, [sp, #16]\n.cfi_offset 30, -8\n"                                         \
            "bl fibril__load_look\n"                                                               \
            "ldp x2, x30, [sp, #16]\n.cfi_restore 30\n"                                            \
            "ldp x0, x1, [sp], #32\n.cfi_adjust_cfa_offset -32\n"                                  \
            "adrp x16, fibril__real_" #name "\n"                                                   \
            "ldr x16, [x16, #:lo12:fibril__real_" #name "]\n"                                      \
            "br x16\n"                                                                             \
            ".cfi_endproc\n"                                                                       \
            ".size fibril_posix_" #name ", . - fibril_posix_" #name "\n")
#else
#define JUMP(name) struct fibril__nothing
#endif

JUMP(dlopen);
JUMP(dlsym);
JUMP(dlvsym);

void *fibril_posix_dlopen(const char *path, int flags);
void *fibril_posix_dlsym(void *handle, const char *name);
void *fibril_posix_dlvsym(void *handle, const char *name, const char *version);

int fibril_posix_dlclose(void *handle);

int fibril_posix_dlclose(void *handle)
{
    int rc = dlclose(handle);
    fibril__load_look();
    return rc;
}

const struct fibril__call fibril__calls_load[] = {
#if defined(__x86_64__) || defined(__aarch64__)
    FIBRIL__CALL(dlopen),  FIBRIL__CALL(dlsym),       FIBRIL__CALL(dlvsym),
#endif
    FIBRIL__CALL(dlclose), {NULL, NULL, false, NULL},
};
