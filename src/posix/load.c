/* SPDX-License-Identifier: MIT */
/*
 * Objects that are loaded later, and functions that are asked for by name.
 *
 * dlopen and dlsym depend on who calls them (search paths, "the next object"), so libc's own are
 * jumped to with the caller's return address in place. New objects are covered when a symbol of
 * theirs is asked for, which comes before they can be called; those that came otherwise, at the
 * next dlopen, dlsym or pthread_create. Where the answer of dlsym would be a function of libc that
 * is covered, it is the covered one.
 *
 * Import tables are rewritten under the loader's own lock only: another thread may be in the middle
 * of relocating an object. libc has no call that takes that lock for others, but holds it while
 * dlsym calls the resolver of an indirect function, so we look up one of our own.
 */
#include "posix/layer.h"

#include "posix/install.h"

#include <dlfcn.h>
#include <string.h>

/* ---- under the loader's lock ---- */

static __thread struct {
    void (*fn)(void *arg);
    void *arg;
} errand;

static void nothing(void)
{
}

__attribute__((used)) static void (*resolve(void))(void)
{
    if (errand.fn) {
        void (*fn)(void *arg) = errand.fn;
        errand.fn = NULL;
        fn(errand.arg);
    }
    return nothing;
}

FIBRIL_API void fibril__loader_locked(void) __attribute__((ifunc("resolve")));

/* The object that this code is in; NULL if the loader does not know it by name. */
static void *own_object(void)
{
    Dl_info info;
    bool known = dladdr((const void *)(uintptr_t)nothing, &info) && info.dli_fname;
    return known ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

/* A program that has this code in itself, and does not export it, goes without the lock. */
void fibril__loader_run(void (*fn)(void *arg), void *arg)
{
    void *object = own_object();
    errand.fn = fn;
    errand.arg = arg;
    if (object) {
        (void)dlsym(object, "fibril__loader_locked");
        dlclose(object);
    }
    if (errand.fn) {
        errand.fn = NULL;
        fn(arg);
    }
}

/* ---- functions asked for by name ---- */

static bool is_in_libc(const void *address)
{
    Dl_info libc, info;
    return dladdr((const void *)(uintptr_t)strlen, &libc) && dladdr(address, &info) &&
           info.dli_fbase == libc.dli_fbase;
}

/* What dlsym is to answer if it is not for libc's to say. */
void *fibril__load_find(void *handle, const char *name, const char *version);
__attribute__((used)) void *fibril__load_find(void *handle, const char *name, const char *version)
{
    fibril__load_look();
    void *ours = handle == RTLD_NEXT ? NULL : fibril__call_asked(name, version);
    const void *real = ours ? dlsym(handle, name) : NULL;
    return real && is_in_libc(real) ? ours : NULL;
}

/* ---- calls that see who makes them ---- */

void *fibril__real_dlopen = (void *)(uintptr_t)dlopen;
void *fibril__real_dlsym = (void *)(uintptr_t)dlsym;
void *fibril__real_dlvsym = (void *)(uintptr_t)dlvsym;

/* Each saves the argument registers, makes the call `first`, returns what that did unless it is
 * NULL, and jumps to libc's otherwise. */
#if defined(__x86_64__)
#define JUMP(name, first)                                                                          \
    __asm__(".text\n"                                                                              \
            ".p2align 4\n"                                                                         \
            ".hidden fibril_posix_" #name "\n"                                                     \
            ".globl fibril_posix_" #name "\n"                                                      \
            ".type fibril_posix_" #name ", @function\n"                                            \
            "fibril_posix_" #name ":\n"                                                            \
            ".cfi_startproc\n"                                                                     \
            "push %rdi\n.cfi_adjust_cfa_offset 8\n"                                                \
            "push %rsi\n.cfi_adjust_cfa_offset 8\n"                                                \
            "push %rdx\n.cfi_adjust_cfa_offset 8\n" first "pop %rdx\n.cfi_adjust_cfa_offset -8\n"  \
            "pop %rsi\n.cfi_adjust_cfa_offset -8\n"                                                \
            "pop %rdi\n.cfi_adjust_cfa_offset -8\n"                                                \
            "test %rax, %rax\n"                                                                    \
            "jnz 1f\n"                                                                             \
            "jmp *fibril__real_" #name "(%rip)\n"                                                  \
            "1: ret\n"                                                                             \
            ".cfi_endproc\n"                                                                       \
            ".size fibril_posix_" #name ", . - fibril_posix_" #name "\n")
#define LOOK "call fibril__load_look\nxor %eax, %eax\n"
#define FIND "xor %edx, %edx\ncall fibril__load_find\n"
#define FIND_AT "call fibril__load_find\n"
#elif defined(__aarch64__)
#define JUMP(name, first)                                                                          \
    __asm__(".text\n"                                                                              \
            ".p2align 4\n"                                                                         \
            ".hidden fibril_posix_" #name "\n"                                                     \
            ".globl fibril_posix_" #name "\n"                                                      \
            ".type fibril_posix_" #name ", %function\n"                                            \
            "fibril_posix_" #name ":\n"                                                            \
            ".cfi_startproc\n"                                                                     \
            "stp x0, x1, [sp, #-32]!\n.cfi_adjust_cfa_offset 32\n"                                 \
            "stp x2, x30, [sp, #16]\n.cfi_offset 30, -8\n" first "mov x17, x0\n"                   \
            "ldp x2, x30, [sp, #16]\n.cfi_restore 30\n"                                            \
            "ldp x0, x1, [sp], #32\n.cfi_adjust_cfa_offset -32\n"                                  \
            "cbnz x17, 1f\n"                                                                       \
            "adrp x16, fibril__real_" #name "\n"                                                   \
            "ldr x16, [x16, #:lo12:fibril__real_" #name "]\n"                                      \
            "br x16\n"                                                                             \
            "1: mov x0, x17\n"                                                                     \
            "ret\n"                                                                                \
            ".cfi_endproc\n"                                                                       \
            ".size fibril_posix_" #name ", . - fibril_posix_" #name "\n")
#define LOOK "bl fibril__load_look\nmov x0, #0\n"
#define FIND "mov x2, #0\nbl fibril__load_find\n"
#define FIND_AT "bl fibril__load_find\n"
#else
#define JUMP(name, first) struct fibril__nothing
#endif

JUMP(dlopen, LOOK);
JUMP(dlsym, FIND);
JUMP(dlvsym, FIND_AT);

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
