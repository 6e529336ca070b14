/* SPDX-License-Identifier: MIT */
/*
 * fork, _Fork and vfork. The child of a fork has the calling fibril only, on a loop of its own
 * (sched/forked.c). That is done by a handler of pthread_atfork, so that it also happens where libc
 * forks by itself (daemon, forkpty), and the program's own handlers run once, as ever.
 *
 * The child of a vfork shares all memory with its parent, which stands still until the child has
 * called exec or _exit: so nothing may be changed in it, and nothing parked. Both see the same mode
 * word: it says VFORK until the parent, known by its pid, runs on. Calling vfork from C is
 * impossible, as the child would leave the caller's frame and destroy it: hence the jump.
 *
 * posix_spawn needs no cover: libc's own is such a vfork and waits for the exec only.
 */
#include "posix/process_calls.h"

#include "posix/address.h"
#include "posix/install.h"
#include "posix/thread.h"

#include <stdatomic.h>

/* ---- fork ---- */

/* If the loop cannot go on (no descriptors for a poller), covered calls are the real ones: the only
 * thread may as well block. In a signal handler the interrupted fibril stands in the middle of the
 * scheduler, and the child can but exec or exit. */
static void in_child(void)
{
    if (!fibril_current() || fibril__signal_inside()) {
        return;
    }
    int rc = fibril_embed_forked();
    fibril__address_forked();
    fibril__signal_forked();
    fibril__thread_forked();
    fibril__install_forked();
    if (rc < 0) {
        fibril__posix_mode = FIBRIL__POSIX_REAL;
    }
}

static void after_fork_child(void)
{
    if (fibril_posix_installed()) {
        in_child();
    }
}

static int watch_rc;

static void set_up(void)
{
    watch_rc = pthread_atfork(NULL, NULL, after_fork_child) == 0 ? 0 : -ENOMEM;
}

int fibril__fork_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
    return watch_rc;
}

pid_t fibril_posix_fork(void)
{
    int saved = errno;
    if (fibril__on_loop() && fibril__fork_watch() < 0) {
        errno = ENOMEM;
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0 && !fibril_posix_installed() && fibril__on_loop()) {
        in_child(); /* called by name, without an installation */
    }
    errno = pid < 0 ? errno : saved;
    return pid;
}

/* Runs no handlers. */
pid_t fibril_posix__Fork(void)
{
    bool on_loop = fibril__on_loop();
    pid_t pid = _Fork();
    if (pid == 0 && on_loop) {
        in_child();
    }
    return pid;
}

/* ---- vfork ---- */

static __thread pid_t vfork_owner;
static __thread int vfork_before; /* the mode that the parent goes on with */

/* Called by the code below. Also on OS threads without a loop: their child must be known too. */
void fibril__vfork_begin(void);
__attribute__((used)) void fibril__vfork_begin(void)
{
    if (fibril__posix_mode != FIBRIL__POSIX_VFORK || fibril__posix_vfork_over() ||
        fibril__posix_mode != FIBRIL__POSIX_VFORK) {
        vfork_owner = getpid();
        vfork_before = fibril__posix_mode;
        fibril__posix_mode = FIBRIL__POSIX_VFORK;
    }
}

bool fibril__posix_vfork_over(void)
{
    int saved = errno;
    if (getpid() != vfork_owner) {
        errno = saved;
        return false;
    }
    fibril__posix_mode = vfork_before;
    return vfork_before == FIBRIL__POSIX_LOOP;
}

bool fibril__vfork_child(void)
{
    return fibril__posix_mode == FIBRIL__POSIX_VFORK && !fibril__posix_vfork_over() &&
           fibril__posix_mode == FIBRIL__POSIX_VFORK;
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".hidden fibril__vfork_begin\n"
        ".globl fibril_posix_vfork\n"
        ".hidden fibril_posix_vfork\n"
        ".type fibril_posix_vfork, @function\n"
        "fibril_posix_vfork:\n"
        "    .cfi_startproc\n"
        "    subq $8, %rsp\n" /* calls are made with an aligned stack */
        "    .cfi_adjust_cfa_offset 8\n"
        "    call fibril__vfork_begin\n"
        "    addq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    jmp vfork@PLT\n"
        "    .cfi_endproc\n"
        ".size fibril_posix_vfork, . - fibril_posix_vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".hidden fibril__vfork_begin\n"
        ".globl fibril_posix_vfork\n"
        ".hidden fibril_posix_vfork\n"
        ".type fibril_posix_vfork, %function\n"
        "fibril_posix_vfork:\n"
        "    .cfi_startproc\n"
        "    stp x29, x30, [sp, #-16]!\n"
        "    .cfi_adjust_cfa_offset 16\n"
        "    .cfi_offset 29, -16\n"
        "    .cfi_offset 30, -8\n"
        "    bl fibril__vfork_begin\n"
        "    ldp x29, x30, [sp], #16\n"
        "    .cfi_adjust_cfa_offset -16\n"
        "    .cfi_restore 29\n"
        "    .cfi_restore 30\n"
        "    b vfork\n"
        "    .cfi_endproc\n"
        ".size fibril_posix_vfork, . - fibril_posix_vfork\n");
#else
/* A fork is a vfork that costs more. */
pid_t fibril_posix_vfork(void)
{
    return fibril_posix_fork();
}
#endif

const struct fibril__call fibril__calls_fork[] = {
    FIBRIL__CALL(fork),
    {"__fork", (void (*)(void))fibril_posix_fork, false, NULL},
    FIBRIL__CALL(_Fork),
    FIBRIL__CALL(vfork),
    {"__vfork", (void (*)(void))fibril_posix_vfork, false, NULL},
    {NULL, NULL, false, NULL},
};
