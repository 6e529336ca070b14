/* SPDX-License-Identifier: MIT */
/*
 * How a fibril gets and gives up its thread state. Invariant: a fibril's runtime word points to its
 * pyfibril from before it first runs Python until after it last did.
 */
#include "fibril_py.h"

const char fibril__py_owner;

struct fibril__py fibril__py;

/* A daemon that is still there when the interpreter is finalised must not touch it again, and the
 * process goes on without it. */
static void stop_here(void)
{
    struct fibril_waker *never;
    fibril_shield_begin();
    while (fibril_waker_new(&never) < 0) {
        fibril_yield();
    }
    for (;;) {
        fibril_waker_wait(never, FIBRIL_FOREVER);
    }
}

void fibril__py_enter_slow(struct pyfibril *p)
{
    if (fibril__py.ending && p->fibril != fibril__py.main && fibril__pystate_is_gone()) {
        stop_here();
    }
    PyEval_RestoreThread(p->tstate);
}

/* The caller cannot take what it may have been handed: the GIL is released like anybody's. */
static void drop_baton(void)
{
    if (fibril__py.kept) {
        fibril__py.kept = false;
        fibril__pystate_release();
    }
}

/* Tracemalloc and debug allocators take the GIL for a moment, in the name of a thread state that
 * the new fibril does not have yet: they would wait for what the baton keeps. */
static bool allocator_wants_gil(void)
{
    PyMemAllocatorEx raw;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    return raw.ctx != NULL;
}

static PyThreadState *make_state(void)
{
    if (allocator_wants_gil() || FIBRIL__PYSTATE_FIRST_TAKES_GIL) {
        drop_baton();
    }
    fibril__py.beginning = true;
    PyThreadState *ts = PyThreadState_New(fibril__py.interp);
    fibril__py.beginning = false;
    if (!ts) {
        drop_baton();
    }
    return ts;
}

/* CPython 3.14 raises RecursionError so much before the stack is full; the reserve has room for
 * that, and the stack can then be used whole. */
static void use_whole_stack(const struct pyfibril *p)
{
    size_t bytes, reserve;
    void *low;
    if (fibril_embed_stack(p->fibril, &low, &bytes, &reserve) == 0 &&
        reserve >= 2 * FIBRIL__PYSLICE_STACK_LEFT) {
        fibril__pyslice_on_stack(p->tstate, (char *)low - FIBRIL__PYSLICE_STACK_LEFT,
                                 bytes + FIBRIL__PYSLICE_STACK_LEFT);
    }
}

int fibril__py_begin(struct pyfibril *p, void *frames, size_t bytes)
{
    if (fibril__py.ending && fibril__pystate_is_gone()) {
        stop_here(); /* what made it begin was the main fibril's parking */
    }
    PyThreadState *ts = fibril__pystate_reuse();
    ts = ts ? ts : make_state();
    if (!ts) {
        return -ENOMEM;
    }
    fibril__pystate_lend_frames(ts, frames, bytes);
    p->fibril = fibril_current();
    p->tstate = ts;
    fibril__py_bind(p->fibril, p);
    fibril__py_enter(p);
    use_whole_stack(p);
    return 0;
}

/* Of a thread state that is kept nothing has to be given up but the GIL. */
static void leave_for_good(PyThreadState *ts)
{
    bool retired = fibril__pystate_retire(ts);
    if (fibril__py_next_takes()) {
        fibril__py.kept = retired || fibril__pystate_delete(ts);
    } else if (retired) {
        PyEval_SaveThread();
    } else {
        PyThreadState_DeleteCurrent();
    }
}

void fibril__py_end(struct pyfibril *p)
{
    PyThreadState *ts = p->tstate;
    if (p->handle) {
        fibril__py_handle_ended(p);
    }
    PyThreadState_Clear(ts);
    fibril__pystate_return_frames(ts);
    fibril__py_bind(p->fibril, NULL);
    leave_for_good(ts);
    p->tstate = NULL;
}

/* ---- threads that CPython made, and the main one ---- */

static void forget_adopted(void *arg)
{
    struct pyfibril *p = arg;
    fibril__py_bind(p->fibril, NULL);
    PyMem_RawFree(p);
}

/* The record lives until the fibril ends; its handle, if any, dies with the thread state: see
 * handle.c. */
struct pyfibril *fibril__py_self_slow(struct fibril *f)
{
    if (!f) {
        return NULL;
    }
    struct pyfibril *p = PyMem_RawCalloc(1, sizeof *p);
    if (!p || fibril_at_exit(forget_adopted, p) < 0) {
        PyMem_RawFree(p);
        PyErr_NoMemory();
        return NULL;
    }
    p->fibril = f;
    p->tstate = PyThreadState_Get();
    p->adopted = true;
    fibril__py_bind(f, p);
    return p;
}
