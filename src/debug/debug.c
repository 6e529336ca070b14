/* SPDX-License-Identifier: MIT */
/*
 * What the scheduler asks of this floor when a loop starts and ends (sched/hooks.h), and
 * backtraces.
 *
 * Reports are made on a signal stack: the stack that a report is about may be full.
 */
#include "debug/debug.h"

#include "base/alloc.h"
#include "debug/describe.h"
#include "sched/current.h"
#include "sched/hooks.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>

enum { SIGNAL_STACK_BYTES = 64 << 10, FRAMES_MAX = 48 };

void fibril__backtrace_write(int fd, int skip)
{
    void *frames[FRAMES_MAX];
    int n = backtrace(frames, FRAMES_MAX);
    struct fibril__text t = {.len = 0};
    for (int i = skip; i < n; i++) {
        fibril__text_str(&t, "    ");
        /* A return address may be the first byte of the next function: look up the call. */
        fibril__text_code(&t, (char *)frames[i] - 1);
        fibril__text_str(&t, "\n");
        fibril__text_flush(&t, fd);
    }
}

/* ---- signal stacks ---- */

static int signal_stack_begin(struct fibril_loop *loop)
{
    stack_t old;
    if (sigaltstack(NULL, &old) != 0 || !(old.ss_flags & SS_DISABLE)) {
        return 0; /* a sanitizer, or the program, has given this thread one */
    }
    loop->signal_stack = fibril__alloc(SIGNAL_STACK_BYTES);
    if (!loop->signal_stack) {
        return -ENOMEM;
    }
    stack_t stack = {.ss_sp = loop->signal_stack, .ss_size = SIGNAL_STACK_BYTES};
    return sigaltstack(&stack, NULL) == 0 ? 0 : -errno;
}

static void signal_stack_end(struct fibril_loop *loop)
{
    if (loop->signal_stack) {
        stack_t none = {.ss_flags = SS_DISABLE};
        sigaltstack(&none, NULL);
        fibril__free(loop->signal_stack);
        loop->signal_stack = NULL;
    }
}

/* ---- hooks ---- */

int fibril__debug_loop_started(struct fibril_loop *loop)
{
    void *frame;
    backtrace(&frame, 1); /* loads the unwinder now: not in a signal handler, on a small stack */
    int rc = signal_stack_begin(loop);
    if (rc < 0) {
        return rc;
    }
    fibril__overflow_install();
    if (!loop->opts.no_sigquit_dump) {
        fibril__sigquit_install();
    }
    rc = fibril__stall_watch(loop);
    if (rc < 0) {
        signal_stack_end(loop);
    }
    return rc;
}

int fibril__debug_loop_forked(struct fibril_loop *loop)
{
    fibril__sigquit_forked();
    fibril__stall_forked();
    return fibril__stall_watch(loop);
}

void fibril__debug_loop_ending(struct fibril_loop *loop)
{
    fibril__stall_unwatch(loop);
    signal_stack_end(loop);
}
