/* SPDX-License-Identifier: MIT */
/*
 * Signal handlers. The kernel is given a function of ours that calls the program's, so that
 *   - covered calls in a handler are the real ones: it may have interrupted the scheduler;
 *   - the wait of the main fibril ends with EINTR afterwards, as that of the thread which the
 *     kernel would have chosen: a note goes to the loop, which ends it between two fibrils.
 *     A wait that has begun after the handler ran is not meant.
 *
 * The program sees its own handler wherever it asks (sigaction).
 *
 * A handler may run on any OS thread of the process: only where there is a loop is anybody woken.
 * Signals that a thread brings upon itself (SIGSEGV, SIGPIPE, ...) interrupt nobody.
 *
 * The mask is that of the OS thread, and so of all its fibrils. A handler may leave by siglongjmp
 * and never come back to where covered calls are switched on again: so a covered call that finds
 * them off looks whether the handler's frame is still there. (siglongjmp itself is not covered:
 * libc has one for many purposes.)
 *
 * Only atomics and the thread's own words are touched in a handler.
 */
#include "posix/process_calls.h"

#include "posix/thread.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

typedef void handler_fn(int signo, siginfo_t *info, void *context);

/* What the program has asked for. Handlers of one argument are called with three, which the
 * machines at hand do not mind. */
static struct {
    handler_fn *_Atomic handler;
    _Atomic int flags;
} wanted[_NSIG];

/* What belongs to an OS thread with a loop. */
static __thread struct {
    struct fibril_post post;
    _Atomic bool posted;
    _Atomic unsigned count;          /* handlers that have run */
    _Atomic bool no_restart;         /* one of those not yet told had no SA_RESTART */
    _Atomic bool last_restart;       /* the last one had it */
    bool restart;                    /* all that were told last had it */
    int depth;                       /* handlers under way */
    const volatile uintptr_t *token; /* in the frame of the outermost one, with this value: */
    uintptr_t token_value;
    uintptr_t alt_low, alt_high; /* the signal stack that it is on; 0: on its fibril's */
    const struct fibril *fibril; /* which it interrupted */
    bool directed;               /* the signal is for a certain fibril */
    _Atomic uint64_t wait;       /* which wait of the main fibril is to end, 0: none */
    _Atomic bool suspension;     /* those in sigsuspend are to be woken */
    bool has_list;
    struct fibril__list suspended;
} here __attribute__((tls_model("initial-exec")));

bool fibril__posix_restart(void)
{
    return here.restart;
}

bool fibril__signal_inside(void)
{
    return here.depth > 0;
}

bool fibril__signal_hit(unsigned *count, bool *ret_restart)
{
    unsigned now = atomic_load(&here.count);
    bool hit = now != *count && fibril_current() == fibril__thread_main();
    *count = now;
    *ret_restart = atomic_load(&here.last_restart);
    return hit;
}

unsigned fibril__signal_count(void)
{
    return atomic_load(&here.count);
}

/* ---- telling the fibrils ---- */

static void wake_suspended(void)
{
    struct fibril__link *l;
    while ((l = fibril__list_pop(&here.suspended))) {
        fibril_embed_interrupt(CONTAINER_OF(l, struct fibril__suspended, link)->fibril);
    }
}

/* On the loop. */
static void tell(struct fibril_post *p)
{
    (void)p;
    atomic_store(&here.posted, false);
    here.restart = !atomic_exchange(&here.no_restart, false);
    uint64_t wait = atomic_exchange(&here.wait, 0);
    struct fibril *main = fibril__thread_main();
    if (main && wait && fibril_embed_wait(main) == wait) {
        fibril_embed_interrupt(main);
    }
    if (atomic_exchange(&here.suspension, false)) {
        wake_suspended();
    }
}

void fibril__signal_suspend(struct fibril__suspended *s)
{
    if (!here.has_list) {
        fibril__list_init(&here.suspended);
        here.has_list = true;
    }
    s->fibril = fibril_current();
    fibril__list_push(&here.suspended, &s->link);
}

void fibril__signal_resume(struct fibril__suspended *s)
{
    fibril__link_remove(&s->link);
}

void fibril__signal_forked(void)
{
    memset(&here.post, 0, sizeof here.post);
    atomic_store(&here.posted, false);
    atomic_store(&here.wait, 0);
    atomic_store(&here.suspension, false);
    here.has_list = false;
}

/* ---- in the handler ---- */

static bool is_ones_own(int signo)
{
    switch (signo) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGPIPE:
    case SIGABRT:
    case SIGURG: return true;
    default: return false;
    }
}

/* Whether there is a wait to be ended; notes which. */
static bool sees_waits(void)
{
    const struct fibril *main = fibril__thread_main();
    uint64_t wait = main ? fibril_embed_wait(main) : 0;
    bool suspended = here.has_list && !fibril__list_empty(&here.suspended);
    if (wait) {
        atomic_store(&here.wait, wait);
    }
    if (suspended) {
        atomic_store(&here.suspension, true);
    }
    return wait || suspended;
}

static void note(int signo, int flags)
{
    if (is_ones_own(signo)) {
        return;
    }
    struct fibril_loop *loop = fibril_loop_current();
    bool wakes = loop && !here.directed && sees_waits();
    atomic_store(&here.last_restart, (flags & SA_RESTART) != 0);
    atomic_fetch_add(&here.count, 1);
    if ((wakes || here.directed) && !(flags & SA_RESTART)) {
        atomic_store(&here.no_restart, true);
    }
    if (wakes && !atomic_exchange(&here.posted, true)) {
        here.post.fn = tell;
        fibril_embed_post(loop, &here.post);
    }
}

/* Who stands higher than the handler did, or on another stack, has left it; and so has who stands
 * lower, once other frames have come over its own. (Which AddressSanitizer takes for a mistake; it
 * also keeps frames elsewhere.) */
__attribute__((no_sanitize_address)) static bool is_left(uintptr_t sp)
{
    bool elsewhere =
        here.alt_low ? sp < here.alt_low || sp >= here.alt_high : fibril_current() != here.fibril;
    return elsewhere || sp > (uintptr_t)here.token || *here.token != here.token_value;
}

bool fibril__signal_left(void)
{
    if (!is_left((uintptr_t)__builtin_frame_address(0))) {
        return false;
    }
    here.depth = 0;
    fibril__posix_mode = FIBRIL__POSIX_LOOP;
    return true;
}

static void note_frame(volatile uintptr_t *token)
{
    stack_t stack;
    bool alt = sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK);
    here.token = token;
    *token = here.token_value += UINT64_C(0x9e3779b97f4a7c15);
    here.alt_low = alt ? (uintptr_t)stack.ss_sp : 0;
    here.alt_high = alt ? (uintptr_t)stack.ss_sp + stack.ss_size : 0;
    here.fibril = fibril_current();
}

/* What covered calls are in a handler that begins where they were `before`. */
static int mode_inside(int before, volatile uintptr_t *token)
{
    if (before == FIBRIL__POSIX_HANDLER && is_left((uintptr_t)token)) {
        here.depth = 0;
        before = FIBRIL__POSIX_LOOP;
    }
    if (before == FIBRIL__POSIX_LOOP) {
        note_frame(token);
        return FIBRIL__POSIX_HANDLER;
    }
    return before == FIBRIL__POSIX_HANDLER ? before : FIBRIL__POSIX_REAL;
}

__attribute__((no_sanitize_address)) static void on_signal(int signo, siginfo_t *info,
                                                           void *context)
{
    int saved_errno = errno, saved_mode = fibril__posix_mode;
    bool shares = saved_mode == FIBRIL__POSIX_VFORK && fibril__vfork_child();
    handler_fn *handler = atomic_load(&wanted[signo].handler);
    int flags = atomic_load(&wanted[signo].flags);
    volatile uintptr_t token = 0;
    fibril__posix_mode = mode_inside(saved_mode, &token);
    here.depth++;
    if (handler) {
        handler(signo, info, context);
    }
    here.depth--;
    token = 0;
    fibril__posix_mode = saved_mode;
    if (!shares) {
        note(signo, flags);
    }
    errno = saved_errno;
}

/* ---- sigaction ---- */

static bool is_handler(const struct sigaction *a)
{
    return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN && a->sa_handler != SIG_ERR;
}

static bool is_ours(const struct sigaction *a)
{
    return a->sa_sigaction == on_signal;
}

/* What the kernel is to be given for what the program wants. */
static struct sigaction wrapped(const struct sigaction *a)
{
    struct sigaction w = *a;
    w.sa_sigaction = on_signal;
    w.sa_flags |= SA_SIGINFO;
    return w;
}

/* What the program gave, from what the kernel has. */
static void unwrap(struct sigaction *a, handler_fn *handler, int flags)
{
    if (is_ours(a)) {
        a->sa_sigaction = handler;
        a->sa_flags = (a->sa_flags & ~SA_SIGINFO) | (flags & SA_SIGINFO);
    }
}

/* The new handler is there before the kernel can call it; a signal in between meets it early. */
int fibril_posix_sigaction(int signo, const struct sigaction *act, struct sigaction *ret_old)
{
    if (signo <= 0 || signo >= _NSIG || fibril__vfork_child()) {
        return sigaction(signo, act, ret_old);
    }
    handler_fn *handler = atomic_load(&wanted[signo].handler);
    int flags = atomic_load(&wanted[signo].flags);
    struct sigaction ours, old;
    bool wraps = act && is_handler(act) && !is_ours(act);
    if (wraps) {
        ours = wrapped(act);
        atomic_store(&wanted[signo].handler, act->sa_sigaction);
        atomic_store(&wanted[signo].flags, act->sa_flags);
    }
    int rc = sigaction(signo, wraps ? &ours : act, &old);
    if (rc == 0 && ret_old) {
        *ret_old = old;
        unwrap(ret_old, handler, flags);
    } else if (rc < 0 && wraps) {
        atomic_store(&wanted[signo].handler, handler);
        atomic_store(&wanted[signo].flags, flags);
    }
    return rc;
}

sighandler_t fibril_posix_signal(int signo, sighandler_t handler)
{
    struct sigaction old, act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    if (handler == SIG_ERR || signo <= 0 || signo >= _NSIG) {
        errno = EINVAL;
        return SIG_ERR;
    }
    sigemptyset(&act.sa_mask);
    sigaddset(&act.sa_mask, signo);
    return fibril_posix_sigaction(signo, &act, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* ---- the process's handlers as a whole ---- */

/* The runtime's own report stalls, overflows and dumps: they are written for where they run. */
static bool is_runtimes(int signo)
{
    return signo == SIGURG || signo == SIGSEGV || signo == SIGBUS || signo == SIGQUIT;
}

int fibril__signal_wrap_all(void)
{
    for (int signo = 1; signo < _NSIG; signo++) {
        struct sigaction old;
        if (is_runtimes(signo) || sigaction(signo, NULL, &old) != 0 || !is_handler(&old) ||
            is_ours(&old)) {
            continue;
        }
        fibril_posix_sigaction(signo, &old, NULL);
    }
    return fibril__fork_watch();
}

void fibril__signal_unwrap_all(void)
{
    for (int signo = 1; signo < _NSIG; signo++) {
        struct sigaction a;
        if (sigaction(signo, NULL, &a) == 0 && is_ours(&a)) {
            unwrap(&a, atomic_load(&wanted[signo].handler), atomic_load(&wanted[signo].flags));
            sigaction(signo, &a, NULL);
        }
    }
}

/* ---- signals to one thread ---- */

/* The handler runs here and now, on this OS thread, unless the signal is blocked; then the wait of
 * the fibril that it is for ends. */
static int kill_fibril(struct fibril *f, int signo, const siginfo_t *info)
{
    bool before = here.directed;
    unsigned count = atomic_load(&here.count);
    here.directed = true;
    int rc = info ? (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signo, info)
                  : (int)syscall(SYS_tgkill, getpid(), gettid(), signo);
    rc = rc < 0 ? errno : 0;
    here.directed = before;
    if (atomic_load(&here.count) != count) {
        here.restart = !atomic_exchange(&here.no_restart, false);
        fibril_embed_interrupt(f);
    }
    return rc;
}

static int kill_thread(pthread_t thread, int signo, const siginfo_t *info)
{
    int saved = errno;
    const struct fibril__thread *t = fibril__thread_of(thread);
    if (!t->fibril) {
        return ESRCH;
    }
    if (signo == 0) {
        return 0;
    }
    struct fibril_loop *loop = fibril_loop_of(t->fibril);
    int rc = loop == fibril_loop_current() ? kill_fibril(t->fibril, signo, info)
                                           : (kill(getpid(), signo) == 0 ? 0 : errno);
    errno = saved;
    return rc;
}

int fibril_posix_pthread_kill(pthread_t thread, int signo)
{
    return fibril__thread_of(thread) ? kill_thread(thread, signo, NULL)
                                     : pthread_kill(thread, signo);
}

int fibril_posix_pthread_sigqueue(pthread_t thread, int signo, const union sigval value)
{
    if (!fibril__thread_of(thread)) {
        return pthread_sigqueue(thread, signo, value);
    }
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signo;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value = value;
    return kill_thread(thread, signo, &info);
}

/* For the caller, which is not waiting: nobody is interrupted. */
int fibril_posix_raise(int signo)
{
    if (!fibril__on_loop()) {
        return raise(signo);
    }
    bool before = here.directed;
    here.directed = true;
    int rc = raise(signo);
    here.directed = before;
    return rc;
}
