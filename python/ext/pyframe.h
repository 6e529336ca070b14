/* SPDX-License-Identifier: MIT */
/*
 * What the interpreter keeps for each call of a Python function, as far as it concerns us: the one
 * place that knows the layout, for the files that follow frames (pystate_frames.c) and for the
 * debugger (pystate_layout.c). Not in any public header of CPython's, so to be looked at again for
 * each version.
 */
#ifndef FIBRIL_PY_PYFRAME_H
#define FIBRIL_PY_PYFRAME_H

#include "pystate.h"

#include <stddef.h>

/* The thread state leads to the innermost frame by way of a cframe on the C stack. */
#define FIBRIL__HAS_CFRAME (PY_VERSION_HEX < 0x030d0000)

/* Localsplus are the variables of the function; above them is its stack, whose height only the
 * interpreter knows while it runs. Instr is the instruction that it is at, or was at last. */
struct fibril__pyframe {
#if PY_VERSION_HEX < 0x030c0000
    PyObject *func, *globals, *builtins, *locals, *code, *object;
    struct fibril__pyframe *previous;
    void *instr;
    int stacktop;
    bool is_entry;
    char owner;
    PyObject *localsplus[1];
#elif PY_VERSION_HEX < 0x030e0000
    PyObject *code;
    struct fibril__pyframe *previous;
    PyObject *func, *globals, *builtins, *locals, *object;
    void *instr;
    int stacktop;
    uint16_t return_offset;
    char owner;
    PyObject *localsplus[1];
#else
    uintptr_t code;
    struct fibril__pyframe *previous;
    uintptr_t func;
    PyObject *globals, *builtins, *locals, *object;
    void *instr, *stackpointer;
    uint16_t return_offset;
    char owner;
    uint8_t visited;
    uintptr_t localsplus[1];
#endif
};

/* Other frames are the interpreter's own. */
enum { FIBRIL__OWNED_BY_THREAD = 0, FIBRIL__OWNED_BY_GENERATOR = 1 };

static inline bool fibril__pyframe_of_python(const struct fibril__pyframe *f)
{
    return f->owner == FIBRIL__OWNED_BY_THREAD || f->owner == FIBRIL__OWNED_BY_GENERATOR;
}

/* Borrowed. */
static inline PyCodeObject *fibril__pyframe_code(const struct fibril__pyframe *f)
{
    return (PyCodeObject *)((uintptr_t)f->code & ~(uintptr_t)3); /* 3.14 marks the borrowed */
}

/* The innermost frame of the thread state, of whatever kind. */
static inline struct fibril__pyframe *fibril__pyframe_top(const PyThreadState *ts)
{
#if FIBRIL__HAS_CFRAME
    return (struct fibril__pyframe *)(void *)ts->cframe->current_frame;
#else
    return (struct fibril__pyframe *)(void *)ts->current_frame;
#endif
}

#if !FIBRIL_PY_PORTABLE

/* Calls of Python that are left until RecursionError. */
#if PY_VERSION_HEX < 0x030c0000
#define FIBRIL__REMAINING(ts) ((ts)->recursion_remaining)
#else
#define FIBRIL__REMAINING(ts) ((ts)->py_recursion_remaining)
#endif

/* From 3.14 on a frame's references are tagged: 0 counted; 1 not counted, since borrowed or to
 * something immortal, and so is NULL; 3 a number, no object. */
#if PY_VERSION_HEX < 0x030e0000
static inline PyObject *fibril__pyref_object(PyObject *ref)
{
    return ref;
}
#else
enum { FIBRIL__PYREF_NULL = 1, FIBRIL__PYREF_NUMBER = 3 };
static inline PyObject *fibril__pyref_object(uintptr_t ref)
{
    return (ref & 3) == FIBRIL__PYREF_NUMBER ? NULL : (PyObject *)(ref & ~(uintptr_t)3);
}
#endif

/* Its instructions, of two bytes each. */
static inline uint16_t *fibril__pyframe_units(PyCodeObject *code)
{
    return (uint16_t *)(void *)code->co_code_adaptive;
}

/* Variables and stack entries in use. Before 3.14 that is written down only for calls of Python. */
static inline int fibril__pyframe_used(const struct fibril__pyframe *f)
{
#if PY_VERSION_HEX < 0x030e0000
    return f->stacktop;
#else
    return f->stackpointer ? (int)((uintptr_t *)f->stackpointer - f->localsplus) : -1;
#endif
}

/* The first frame of Python's at f or below it. On 3.12 and later there is another kind where C
 * code has called Python: it lies on the C stack, which may be elsewhere now (pystate_frames.c). */
struct fibril__pyframe *fibril__pyframe_first(struct fibril__pyframe *f, fibril__pyslice_at *at,
                                              void *arg);

/* Whether C code called it: on 3.12 and later something of the interpreter's lies between. */
static inline bool fibril__pyframe_is_entry(struct fibril__pyframe *f, fibril__pyslice_at *at,
                                            void *arg)
{
#if PY_VERSION_HEX < 0x030c0000
    (void)at, (void)arg;
    return f->is_entry;
#else
    return fibril__pyframe_first(f->previous, at, arg) != f->previous;
#endif
}

#endif

#endif
