/* SPDX-License-Identifier: MIT */
/*
 * How a thread that is a fibril ends early: pthread_exit and pthread_cancel. The stack is unwound
 * down to the thread's first frame: C++ destructors and handlers of cleanup attributes run, and C's
 * pthread_cleanup_push handlers, which the compiler registers here, when their frame is reached.
 */
#include "posix/calls.h"
#include "posix/thread.h"

#include "base/list.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

static struct fibril__thread *self_or_abort(void)
{
    struct fibril__thread *t = fibril__thread_self();
    if (!t) {
        abort(); /* no memory for the record of a thread that wants to end */
    }
    return t;
}

/* ---- halting ---- */

bool (*fibril__posix_halted)(void);

NORETURN void fibril__thread_halt(void)
{
    struct fibril__thread *t = self_or_abort();
    fibril_shield_begin();
    for (;;) {
        fibril_waker_wait(fibril_waker_in(&t->waker), FIBRIL_FOREVER);
    }
}

/* ---- unwinding ---- */

/* A registered handler whose buffer lies below the frame that is about to be left has its turn. */
static void run_cleanup_below(struct fibril__thread *t, uintptr_t frame)
{
    __pthread_unwind_buf_t *buf = t->cleanups;
    if (buf && (uintptr_t)buf < frame) {
        t->cleanups = buf->__pad[0];
        void *jump = buf->__cancel_jmp_buf; /* as much of a jump buffer as there is without a mask
                                             */
        __asm__("" : "+r"(jump));
        siglongjmp(jump, 1);
    }
}

static _Unwind_Reason_Code stop(int version, _Unwind_Action actions, _Unwind_Exception_Class cls,
                                struct _Unwind_Exception *exception,
                                struct _Unwind_Context *context, void *arg)
{
    struct fibril__thread *t = arg;
    bool last = (actions & _UA_END_OF_STACK) != 0;
    uintptr_t frame = last ? UINTPTR_MAX : _Unwind_GetCFA(context);
    run_cleanup_below(t, frame);
    if (last || frame >= (uintptr_t)t->exit_frame) {
        __builtin_longjmp(t->exit_jump, 1);
    }
    return _URC_NO_REASON;
}

/* A handler that catches everything must throw it on: a thread that ends cannot be kept. */
static void swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *exception)
{
    (void)reason;
    (void)exception;
    static const char text[] = "fibril: the end of a thread was caught and not thrown on\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    abort();
}

/* The exception object lies in the thread's first frame: those above it are reused by the very
 * destructors and handlers that run meanwhile. */
static NORETURN void unwind(struct fibril__thread *t)
{
    memset(t->exit_exception, 0, sizeof *t->exit_exception);
    t->exit_exception->exception_cleanup = swallowed;
    _Unwind_ForcedUnwind(t->exit_exception, stop, t);
    run_cleanup_below(t, UINTPTR_MAX); /* no unwind tables: at least these */
    __builtin_longjmp(t->exit_jump, 1);
}

NOINLINE void fibril__thread_run(struct fibril__thread *t)
{
    void *jump[5];
    struct _Unwind_Exception exception;
    if (__builtin_setjmp(jump) == 0) {
        t->exit_jump = jump;
        t->exit_exception = &exception;
        t->exit_frame = __builtin_frame_address(0);
        t->result = t->start(t->arg);
    }
    t->exit_jump = NULL;
    t->cancel_state = PTHREAD_CANCEL_DISABLE; /* destructors of its values are not disturbed */
    fibril_cancel_clear();
}

NORETURN void fibril__thread_exit(void *result)
{
    struct fibril__thread *t = self_or_abort();
    if (t->main) { /* the process ends with its last thread */
        fibril__thread_wait_for_all();
        exit(EXIT_SUCCESS);
    }
    if (fibril__thread_is_halted()) {
        fibril__thread_halt();
    }
    if (!t->exit_jump) {
        abort(); /* a fibril that no pthread_create made cannot leave its function from inside */
    }
    t->result = result;
    t->cancel_state = PTHREAD_CANCEL_DISABLE;
    fibril_cancel_clear();
    unwind(t);
}

NORETURN void fibril_posix_pthread_exit(void *result)
{
    if (!fibril__on_loop()) {
        pthread_exit(result);
    }
    fibril__thread_exit(result);
}

/* ---- what pthread_cleanup_push compiles to in C ---- */

void fibril_posix___pthread_register_cancel(__pthread_unwind_buf_t *buf)
{
    if (!fibril__on_loop()) {
        __pthread_register_cancel(buf);
        return;
    }
    struct fibril__thread *t = self_or_abort();
    buf->__pad[0] = t->cleanups;
    t->cleanups = buf;
}

void fibril_posix___pthread_unregister_cancel(__pthread_unwind_buf_t *buf)
{
    if (!fibril__on_loop()) {
        __pthread_unregister_cancel(buf);
        return;
    }
    self_or_abort()->cleanups = buf->__pad[0];
}

NORETURN void fibril_posix___pthread_unwind_next(__pthread_unwind_buf_t *buf)
{
    if (!fibril__on_loop()) {
        __pthread_unwind_next(buf);
    }
    unwind(self_or_abort());
}

/* ---- cancelling ---- */

bool fibril__posix_cancel_ends = true;

/* A loop that ends cancels its threads without pthread_cancel: they end all the same. */
void fibril__thread_heed_cancel(void)
{
    struct fibril__thread *t = fibril__thread_self();
    bool wanted = t && t->exit_jump &&
                  (t->cancel_wanted || (fibril__posix_cancel_ends && fibril_cancelled()));
    if (wanted && t->cancel_state == PTHREAD_CANCEL_ENABLE) {
        fibril__thread_exit(PTHREAD_CANCELED);
    }
}

static void cancel_here(struct fibril__thread *t)
{
    if (t->fibril && t->cancel_state == PTHREAD_CANCEL_ENABLE) {
        fibril_cancel(t->fibril);
    }
}

/* On the thread's loop, between two fibrils. */
static void cancel_arrives(struct fibril_post *post)
{
    struct fibril__thread *t = CONTAINER_OF(post, struct fibril__thread, cancel_post);
    atomic_store(&t->cancel_posted, false);
    cancel_here(t);
    fibril__thread_unpin(t);
}

/* From another OS thread. Whether the thread has ended, and whether it may be cancelled now, only
 * its own loop can say: so the wish goes there. The loop stays while somebody is posting, as the
 * end of the thread waits for that. */
static void cancel_there(struct fibril__thread *t)
{
    atomic_fetch_add(&t->pins, 1);
    atomic_fetch_add(&t->posting, 1);
    bool ended = atomic_load(&t->life) & FIBRIL__LIFE_ENDED;
    if (!ended && !atomic_exchange(&t->cancel_posted, true)) {
        atomic_fetch_add(&t->pins, 1);
        t->cancel_post.fn = cancel_arrives;
        fibril_embed_post(t->loop, &t->cancel_post);
    }
    atomic_fetch_sub(&t->posting, 1);
    fibril__thread_unpin(t);
}

int fibril_posix_pthread_cancel(pthread_t thread)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_cancel(thread);
    }
    if (atomic_load(&t->life) & FIBRIL__LIFE_ENDED) {
        return ESRCH;
    }
    atomic_store(&t->cancel_wanted, true);
    if (fibril_loop_current() == t->loop) {
        cancel_here(t);
    } else {
        cancel_there(t);
    }
    return 0;
}

int fibril_posix_pthread_setcancelstate(int state, int *ret_old)
{
    struct fibril__thread *t = fibril__on_loop() ? fibril__thread_self() : NULL;
    if (!t || t->main) {
        return pthread_setcancelstate(state, ret_old);
    }
    if (state != PTHREAD_CANCEL_ENABLE && state != PTHREAD_CANCEL_DISABLE) {
        return EINVAL;
    }
    if (ret_old) {
        *ret_old = t->cancel_state;
    }
    t->cancel_state = (uint8_t)state;
    if (t->cancel_wanted && state == PTHREAD_CANCEL_ENABLE) {
        fibril_cancel(t->fibril); /* its next wait ends */
    } else if (t->cancel_wanted) {
        fibril_cancel_clear();
    }
    return 0;
}

/* Deferred is all there is: a fibril can be cancelled only where it parks. */
int fibril_posix_pthread_setcanceltype(int type, int *ret_old)
{
    struct fibril__thread *t = fibril__on_loop() ? fibril__thread_self() : NULL;
    if (!t || t->main) {
        return pthread_setcanceltype(type, ret_old);
    }
    if (type != PTHREAD_CANCEL_DEFERRED && type != PTHREAD_CANCEL_ASYNCHRONOUS) {
        return EINVAL;
    }
    if (ret_old) {
        *ret_old = t->cancel_type;
    }
    t->cancel_type = (uint8_t)type;
    return 0;
}

void fibril_posix_pthread_testcancel(void)
{
    if (!fibril__on_loop()) {
        pthread_testcancel();
        return;
    }
    fibril__thread_heed_cancel();
}

const struct fibril__call fibril__calls_exit[] = {
    FIBRIL__CALL(pthread_exit),
    FIBRIL__CALL(pthread_cancel),
    FIBRIL__CALL(pthread_setcancelstate),
    FIBRIL__CALL(pthread_setcanceltype),
    FIBRIL__CALL(pthread_testcancel),
    FIBRIL__CALL(__pthread_register_cancel),
    FIBRIL__CALL(__pthread_unregister_cancel),
    FIBRIL__CALL(__pthread_unwind_next),
    {NULL, NULL, false, NULL},
};
