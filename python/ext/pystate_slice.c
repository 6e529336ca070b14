/* SPDX-License-Identifier: MIT */
/*
 * The fields of a thread state that belong to a context, when several share it. A context of ours
 * has its outermost exception item and, on 3.11 and 3.12, its outermost cframe in memory of ours,
 * so that a switch exchanges pointers and copies no items.
 *
 * Invariant: while a context does not run, nothing here reads its C stack. The innermost frame is
 * therefore kept in the slice, although CPython 3.11 and 3.12 keep it in a cframe on that stack.
 *
 * Not exchanged: the exception being raised (none is, at a switch), hooks of tracing and profiling,
 * threading.local and the like, which are the thread's.
 */
#include "pyframe.h"

#include <string.h>

#if !FIBRIL_PY_PORTABLE

const bool fibril__pyslice_possible = true;

/* ---- what has changed its name ---- */

#if PY_VERSION_HEX < 0x030c0000
#define LIMIT(ts) ((ts)->recursion_limit)
#else
#define LIMIT(ts) ((ts)->py_recursion_limit)
#endif

#if PY_VERSION_HEX < 0x030c0000
#define TRASH(ts) ((ts)->trash_delete_nesting)
#elif PY_VERSION_HEX < 0x030d0000
#define TRASH(ts) ((ts)->trash.delete_nesting)
#endif

/* What CPython calls C_RECURSION_LIMIT differs between builds; differences are all that counts. */
enum { C_DEPTH_BASE = 1 << 20 };

/* ---- pieces ---- */

static inline void save_frame(struct fibril__pyslice *s, const PyThreadState *ts)
{
#if FIBRIL__HAS_CFRAME
    s->cframe = ts->cframe;
    s->frame = ts->cframe->current_frame;
#else
    s->frame = ts->current_frame;
#endif
}

/* Tracing may have been switched on or off meanwhile. */
static inline void load_frame(const struct fibril__pyslice *s, PyThreadState *ts)
{
#if FIBRIL__HAS_CFRAME
    ts->cframe = s->cframe;
#if PY_VERSION_HEX < 0x030c0000
    ts->cframe->use_tracing = ts->c_tracefunc || ts->c_profilefunc ? 255 : 0;
#endif
#else
    ts->current_frame = s->frame;
#endif
}

#if PY_VERSION_HEX >= 0x030e0000
/* How 3.14's private thread state begins. There is a public call for this, but to put back the
 * bounds of a thread's own stack that asks the system each time. */
struct private_state {
    PyThreadState public;
    Py_ssize_t refcount;
    uintptr_t c_stack[3]; /* top, soft limit, hard limit */
};

static inline uintptr_t *c_stack_of(PyThreadState *ts)
{
    return ((struct private_state *)(void *)ts)->c_stack;
}
#endif

void fibril__pyslice_on_stack(PyThreadState *ts, const void *low, size_t bytes)
{
#if PY_VERSION_HEX >= 0x030e0000
    c_stack_of(ts)[0] = (uintptr_t)low + bytes;
    c_stack_of(ts)[1] = (uintptr_t)low + FIBRIL__PYSLICE_STACK_LEFT;
    c_stack_of(ts)[2] = (uintptr_t)low + FIBRIL__PYSLICE_STACK_LEFT / 2;
#else
    (void)ts, (void)low, (void)bytes;
#endif
}

int fibril__pyslice_depth(const PyThreadState *ts)
{
    return LIMIT(ts) - FIBRIL__REMAINING(ts);
}

int fibril__pyslice_c_depth(const PyThreadState *ts)
{
#if FIBRIL__HAS_C_DEPTH
    return C_DEPTH_BASE - ts->c_recursion_remaining;
#else
    (void)ts;
    return 0;
#endif
}

static inline void save_counts(struct fibril__pyslice *s, PyThreadState *ts)
{
    s->depth = LIMIT(ts) - FIBRIL__REMAINING(ts);
    s->tracing = (int16_t)ts->tracing;
#if FIBRIL__HAS_C_DEPTH
    s->c_depth = C_DEPTH_BASE - ts->c_recursion_remaining;
#endif
#if PY_VERSION_HEX < 0x030d0000
    s->trash = (int16_t)TRASH(ts);
#else
    s->later = ts->delete_later;
    ts->delete_later = NULL;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    s->executor = ts->current_executor;
    memcpy(s->c_stack, c_stack_of(ts), sizeof s->c_stack);
#endif
}

static inline void load_counts(struct fibril__pyslice *s, PyThreadState *ts)
{
    FIBRIL__REMAINING(ts) = LIMIT(ts) - s->depth;
    ts->tracing = s->tracing;
#if FIBRIL__HAS_C_DEPTH
    ts->c_recursion_remaining = C_DEPTH_BASE - s->c_depth;
#endif
#if PY_VERSION_HEX < 0x030d0000
    TRASH(ts) = s->trash;
#else
    ts->delete_later = s->later;
    s->later = NULL;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    ts->current_executor = s->executor;
    memcpy(c_stack_of(ts), s->c_stack, sizeof s->c_stack);
#endif
}

/* A new number tells contextvars that what they remember is another context's. */
static inline void load_context(struct fibril__pyslice *s, PyThreadState *ts)
{
    ts->context = s->context;
    s->context = NULL;
    ts->context_ver++;
}

int fibril__pystate_trash(const PyThreadState *ts)
{
#ifdef TRASH
    return TRASH(ts);
#else
    (void)ts;
    return -1;
#endif
}

/* ---- switching ---- */

static inline void save(struct fibril__pyslice *s, PyThreadState *ts)
{
    save_frame(s, ts);
    s->chunk = ts->datastack_chunk;
    s->top = ts->datastack_top;
    s->limit = ts->datastack_limit;
    s->exc_info = ts->exc_info;
    s->context = ts->context;
    save_counts(s, ts);
}

static inline void load(struct fibril__pyslice *s, PyThreadState *ts)
{
    load_frame(s, ts);
    ts->datastack_chunk = s->chunk;
    ts->datastack_top = s->top;
    ts->datastack_limit = s->limit;
    ts->exc_info = s->exc_info;
    load_context(s, ts);
    load_counts(s, ts);
}

void fibril__pyslice_save(struct fibril__pyslice *s, PyThreadState *ts)
{
    save(s, ts);
}

void fibril__pyslice_load(struct fibril__pyslice *s, PyThreadState *ts)
{
    load(s, ts);
}

void fibril__pyslice_exchange(struct fibril__pyslice *from, struct fibril__pyslice *to,
                              PyThreadState *ts)
{
    save(from, ts);
    load(to, ts);
}

/* The outermost cframe comes first in the memory, the chunk after it; the first element of a root
 * chunk stays unused, by that CPython knows never to free it. */
struct head {
#if FIBRIL__HAS_CFRAME
    _PyCFrame outermost;
#endif
    _PyStackChunk chunk;
};
_Static_assert(sizeof(struct head) <= FIBRIL__PYSLICE_HEAD, "the head of the lent memory");

void fibril__pyslice_fresh(struct fibril__pyslice *s, PyThreadState *ts, void *memory, size_t bytes)
{
    struct head *head = memory;
#if FIBRIL__HAS_CFRAME
    head->outermost = (_PyCFrame){.current_frame = NULL, .previous = NULL};
    s->cframe = &head->outermost;
#endif
    s->frame = NULL;
    load_frame(s, ts);
    head->chunk.previous = NULL;
    head->chunk.size = bytes - offsetof(struct head, chunk);
    head->chunk.top = 0;
    ts->datastack_chunk = &head->chunk;
    ts->datastack_top = &head->chunk.data[1];
    ts->datastack_limit = (PyObject **)(void *)((char *)memory + bytes);
    s->exc = (_PyErr_StackItem){.exc_value = NULL, .previous_item = NULL};
    ts->exc_info = &s->exc;
    load_context(s, ts);
    ts->tracing = 0;
#if PY_VERSION_HEX < 0x030d0000
    TRASH(ts) = 0;
#else
    ts->delete_later = NULL;
#endif
#if PY_VERSION_HEX >= 0x030e0000
    ts->current_executor = NULL;
#endif
}

void fibril__pyslice_ended(struct fibril__pyslice *s, PyThreadState *ts)
{
    s->context = ts->context;
    ts->context = NULL;
    s->frame = NULL;
    s->chunk = NULL;
}

#endif
