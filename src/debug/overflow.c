/* SPDX-License-Identifier: MIT */
/*
 * Stack overflow: the guard page below an own stack or below a run stack was touched. Nothing is
 * corrupted yet, and nothing can go on: reports whose stack it was and where, and aborts. Unless an
 * embedder can make the fibril turn back, and its stack has a reserve: then that is opened, and the
 * instruction is tried again.
 */
#include "debug/debug.h"

#include "debug/describe.h"
#include "sched/current.h"
#include "sched/hooks.h"
#include "sched/nest.h"
#include "sched/record.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct sigaction old_segv, old_bus;

static size_t stack_bytes(const struct fibril *f)
{
    return fibril__context_is_copied(&f->ctx) ? f->loop->machine.runs.bytes
                                              : (size_t)1 << f->ctx.log2;
}

NORETURN void fibril__debug_overflow(struct fibril *f)
{
    struct fibril__text t = {.len = 0};
    fibril__text_str(&t, "fibril: stack overflow: ");
    fibril__text_fibril(&t, f);
    fibril__text_str(&t, " has used up its ");
    fibril__text_dec(&t, stack_bytes(f));
    fibril__text_str(&t, fibril__context_is_copied(&f->ctx) ? " bytes (copied stack)" : " bytes");
    fibril__text_str(&t, ", spawned at ");
    fibril__text_code(&t, fibril__site(f));
    fibril__text_str(&t, "\n");
    fibril__text_flush(&t, STDERR_FILENO);
    fibril__backtrace_write(STDERR_FILENO, 1);
    abort();
}

/* Whose guard page, or reserve, is at `address`, or NULL. */
static struct fibril *owner_of_guard(const char *address, bool *ret_in_reserve)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *ret_in_reserve = false;
    struct fibril_loop *loop = fibril__loop;
    if (!loop) {
        return NULL;
    }
    if (fibril__runs_guard(&loop->machine.runs, address)) {
        return loop->current;
    }
    const struct fibril__region *r = fibril__region_of(address);
    if (!r || !r->stacks) {
        return NULL;
    }
    char *slot = (char *)((uintptr_t)address & ~(((uintptr_t)1 << r->log2) - 1));
    struct fibril *f = fibril__record_in(slot, r->log2);
    *ret_in_reserve = address >= slot + page;
    bool guarded = address < slot + page + fibril__slot_reserve(slot);
    return guarded && f == loop->current ? f : NULL;
}

/* Whether f may go on, into its reserve, which is at `address`. */
static bool go_on(struct fibril *f, const char *address)
{
    bool opened = fibril__embed_overflow(f, /* full= */ true) &&
                  fibril__slot_reserve_open(fibril__slot_of(f), address);
    if (opened) {
        f->ctx.policy = FIBRIL__OPENED;
    }
    return opened;
}

/* A nested context of the running fibril, maybe, has used up its stack. */
static void report_nested(const void *address)
{
    size_t bytes;
    if (!fibril__loop || !fibril__nest_guards(address, &bytes)) {
        return;
    }
    struct fibril__text t = {.len = 0};
    fibril__text_str(&t, "fibril: stack overflow: a greenlet or tasklet of ");
    fibril__text_fibril(&t, fibril__loop->current);
    fibril__text_str(&t, " has used up its ");
    fibril__text_dec(&t, bytes);
    fibril__text_str(&t, " bytes\n");
    fibril__text_flush(&t, STDERR_FILENO);
    fibril__backtrace_write(STDERR_FILENO, 1);
    abort();
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)context;
    bool in_reserve;
    struct fibril *f = owner_of_guard(info->si_addr, &in_reserve);
    if (f && in_reserve && go_on(f, info->si_addr)) {
        return;
    }
    if (f) {
        fibril__debug_overflow(f);
    }
    report_nested(info->si_addr);
    /* Not ours: the earlier handler gets the fault, which happens again when we return. */
    sigaction(signo, signo == SIGSEGV ? &old_segv : &old_bus, NULL);
    if (info->si_code <= 0) {
        raise(signo); /* somebody sent it: nothing happens again by itself */
    }
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &old_segv);
    sigaction(SIGBUS, &action, &old_bus);
}

void fibril__overflow_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
}
