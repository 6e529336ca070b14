/* SPDX-License-Identifier: MIT */
/*
 * Frames of Python made of data, which pystate_frames.c has read. They are written to the data
 * stack of the running context, the outermost lowest, as calls would have put them there, and then
 * linked below the frame of a function that has been called by a function: when that one returns,
 * the interpreter goes on in the innermost copy as it does in any caller, and frees each as it
 * returns.
 *
 * Invariant: copies are linked only where no C code runs between the two functions; that is checked
 * when they are linked. Rejected: to call the interpreter's main function for each frame, innermost
 * first, and to hand on results. It leaves clearing a frame to us, which has no exported function,
 * and a level of the C stack to each frame.
 */
#include "pyframe.h"

#include <stddef.h>
#include <string.h>

#if !FIBRIL_PY_PORTABLE

const bool fibril__pyframes_possible = true;

enum {
    SPECIALS = offsetof(struct fibril__pyframe, localsplus) / sizeof(PyObject *),
    CHUNK_BYTES = 16 << 10, /* CPython's own size */
    MARGIN_WORDS = 64,      /* room for the function that links them */
    MARGIN_CALLS = 50,
};

/* ---- what has changed ---- */

/* Gives f the place of a call, and what it returns to. */
static void set_place(struct fibril__pyframe *f, PyCodeObject *code, int instr, int next, int count)
{
#if PY_VERSION_HEX < 0x030d0000
    (void)instr;
    f->instr = fibril__pyframe_units(code) + next - 1;
#else
    f->instr = fibril__pyframe_units(code) + instr;
#endif
#if PY_VERSION_HEX < 0x030c0000
    f->is_entry = false;
#elif PY_VERSION_HEX < 0x030d0000
    f->return_offset = 0;
#else
    f->return_offset = (uint16_t)(next - instr);
#endif
#if PY_VERSION_HEX < 0x030e0000
    f->stacktop = count;
#else
    f->stackpointer = f->localsplus + count;
    f->visited = 0;
#endif
}

#if PY_VERSION_HEX < 0x030e0000

static bool is_value(PyObject *o, PyObject *null)
{
    (void)o, (void)null;
    return true;
}

static PyObject *reference_to(PyObject *o, PyObject *null)
{
    return o == null ? NULL : Py_NewRef(o);
}

static void release(PyObject *ref)
{
    Py_XDECREF(ref);
}

#else

/* A number is (null, number), which no program has. */
static bool is_number(PyObject *o, PyObject *null)
{
    return PyTuple_CheckExact(o) && PyTuple_GET_SIZE(o) == 2 && PyTuple_GET_ITEM(o, 0) == null;
}

static bool is_value(PyObject *o, PyObject *null)
{
    int overflows = 0;
    if (is_number(o, null) && PyLong_CheckExact(PyTuple_GET_ITEM(o, 1))) {
        PyLong_AsLongAndOverflow(PyTuple_GET_ITEM(o, 1), &overflows);
        return !overflows;
    }
    return !is_number(o, null);
}

static uintptr_t reference_to(PyObject *o, PyObject *null)
{
    if (o == null) {
        return FIBRIL__PYREF_NULL;
    }
    if (is_number(o, null)) {
        long n = PyLong_AsLong(PyTuple_GET_ITEM(o, 1));
        return (uintptr_t)n << 2 | FIBRIL__PYREF_NUMBER;
    }
    return (uintptr_t)Py_NewRef(o) | (_Py_IsImmortal(o) ? 1 : 0);
}

static void release(uintptr_t ref)
{
    if (!(ref & 3)) {
        Py_DECREF((PyObject *)ref);
    }
}

#endif

/* ---- writing ---- */

struct record {
    PyFunctionObject *func;
    PyCodeObject *code;
    PyObject *values;
    int instr, next, words;
};

static int parse(PyObject *item, PyObject *null, struct record *r)
{
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "O!iiO!", &PyFunction_Type, &r->func,
                                                  &r->instr, &r->next, &PyTuple_Type, &r->values)) {
        return -1;
    }
    r->code = (PyCodeObject *)r->func->func_code;
    int variables = r->code->co_nlocalsplus, stack = r->code->co_stacksize;
    Py_ssize_t n = PyTuple_GET_SIZE(r->values);
    bool fits = n >= variables && n <= variables + stack - 1 && r->instr >= 0 &&
                r->next > r->instr && r->next < Py_SIZE(r->code) &&
                r->code->co_flags & CO_OPTIMIZED;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        fits = is_value(PyTuple_GET_ITEM(r->values, i), null);
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "no frame of that function");
        return -1;
    }
#if PY_VERSION_HEX < 0x030c0000
    r->words = SPECIALS + variables + stack;
#else
    r->words = r->code->co_framesize;
    if (r->words != SPECIALS + variables + stack) {
        PyErr_SetString(PyExc_RuntimeError, "this interpreter's frames are not those that the "
                                            "extension was compiled for");
        return -1;
    }
#endif
    return 0;
}

/* Words that all of them take; -1 with an exception. */
static Py_ssize_t measure(PyObject *frames, PyObject *null)
{
    Py_ssize_t words = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        struct record r;
        if (parse(PyList_GET_ITEM(frames, i), null, &r) < 0) {
            return -1;
        }
        words += r.words;
    }
    return words;
}

/* Room on the data stack, in a chunk of its own where the current one is too small: that goes when
 * the outermost frame does, which stands first in it. */
static PyObject **reserve(PyThreadState *ts, Py_ssize_t words)
{
    PyObject **at = ts->datastack_top;
    if (words + MARGIN_WORDS >= ts->datastack_limit - at) {
        size_t bytes = CHUNK_BYTES;
        while (bytes < ((size_t)words + MARGIN_WORDS) * sizeof *at + sizeof(_PyStackChunk)) {
            bytes *= 2;
        }
        PyObjectArenaAllocator arenas;
        PyObject_GetArenaAllocator(&arenas);
        _PyStackChunk *chunk = arenas.alloc(arenas.ctx, bytes);
        if (!chunk) {
            PyErr_NoMemory();
            return NULL;
        }
        ts->datastack_chunk->top = (size_t)(at - ts->datastack_chunk->data);
        chunk->previous = ts->datastack_chunk;
        chunk->size = bytes;
        chunk->top = 0;
        ts->datastack_chunk = chunk;
        ts->datastack_limit = (PyObject **)(void *)((char *)chunk + bytes);
        at = chunk->data;
    }
    ts->datastack_top = at + words;
    return at;
}

static void fill(struct fibril__pyframe *f, const struct record *r, PyObject *null)
{
    int count = (int)PyTuple_GET_SIZE(r->values);
    f->func = reference_to((PyObject *)r->func, null);
    f->globals = r->func->func_globals;
    f->builtins = r->func->func_builtins;
    f->locals = NULL;
    f->code = reference_to((PyObject *)r->code, null);
    f->object = NULL;
    f->owner = FIBRIL__OWNED_BY_THREAD;
    set_place(f, r->code, r->instr, r->next, count);
    for (int i = 0; i < count; i++) {
        f->localsplus[i] = reference_to(PyTuple_GET_ITEM(r->values, i), null);
    }
}

int fibril__pyframes_push(struct fibril__pyframes *p, PyThreadState *ts, PyObject *frames,
                          PyObject *null)
{
    Py_ssize_t words = measure(frames, null);
    if (words < 0) {
        return -1;
    }
    if (FIBRIL__REMAINING(ts) < PyList_GET_SIZE(frames) + MARGIN_CALLS) {
        PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded");
        return -1;
    }
    p->chunk = ts->datastack_chunk;
    p->top = ts->datastack_top;
    p->limit = ts->datastack_limit;
    PyObject **at = reserve(ts, words);
    if (!at) {
        return -1;
    }
    p->base = fibril__pyframe_top(ts);
    p->first = (struct fibril__pyframe *)(void *)at;
    struct fibril__pyframe *below = p->base;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        struct record r;
        parse(PyList_GET_ITEM(frames, i), null, &r);
        struct fibril__pyframe *f = (struct fibril__pyframe *)(void *)at;
        fill(f, &r, null);
        f->previous = below;
        below = f;
        at += r.words;
    }
    p->last = below;
    p->count = (int)PyList_GET_SIZE(frames);
    return 0;
}

/* ---- linking ---- */

int fibril__pyframes_link(struct fibril__pyframes *p, PyThreadState *ts, PyObject *handled)
{
    struct fibril__pyframe *linker = fibril__pyframe_top(ts);
    if (!p->count || p->linked || fibril__pyframe_is_entry(linker, NULL, NULL) ||
        linker->previous != p->base) {
        PyErr_SetString(PyExc_RuntimeError, "frames cannot be continued where a debugger, or other "
                                            "C code, calls Python functions its own way");
        return -1;
    }
    linker->previous = p->last;
    FIBRIL__REMAINING(ts) -= p->count;
    PyObject *before = ts->exc_info->exc_value;
    ts->exc_info->exc_value = handled;
    p->linked = true;
    Py_XDECREF(before);
    return 0;
}

PyObject *fibril__pyframes_leave_loop(struct fibril__pyframes *p, int again)
{
    struct fibril__pyframe *f = p->last;
    PyCodeObject *code = fibril__pyframe_code(f);
    int count = fibril__pyframe_used(f) - 1;
    PyObject *nothing =
        p->linked && again >= 0 && again < Py_SIZE(code) && count >= code->co_nlocalsplus
            ? PyTuple_New(0)
            : NULL;
    PyObject *result = nothing ? PyObject_GetIter(nothing) : NULL;
    Py_XDECREF(nothing);
    if (result) {
        release(f->localsplus[count]);
        set_place(f, code, again, again, count);
    }
    return result;
}

static void forget(const struct fibril__pyframe *f)
{
    for (int i = fibril__pyframe_used(f); i-- > 0;) {
        release(f->localsplus[i]);
    }
    release(f->func);
    release(f->code);
}

void fibril__pyframes_drop(struct fibril__pyframes *p, PyThreadState *ts)
{
    if (!p->count || p->linked) {
        return;
    }
    for (const struct fibril__pyframe *f = p->last; f != p->base; f = f->previous) {
        forget(f);
    }
    if (ts->datastack_chunk != p->chunk) {
        PyObjectArenaAllocator arenas;
        PyObject_GetArenaAllocator(&arenas);
        arenas.free(arenas.ctx, ts->datastack_chunk, ts->datastack_chunk->size);
    }
    ts->datastack_chunk = p->chunk;
    ts->datastack_top = p->top;
    ts->datastack_limit = p->limit;
    p->count = 0;
}

#else

const bool fibril__pyframes_possible = false;

bool fibril__pyslice_describe(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                              unsigned n, struct fibril__pyframe_info *ret_frame)
{
    (void)s, (void)at, (void)arg, (void)n, (void)ret_frame;
    return false;
}

PyObject *fibril__pyslice_values(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                                 unsigned n, int count, PyObject *null)
{
    (void)s, (void)at, (void)arg, (void)n, (void)count, (void)null;
    PyErr_SetString(PyExc_NotImplementedError, "frames cannot be read by this build");
    return NULL;
}

uintptr_t fibril__pyslice_address(const struct fibril__pyslice *s, fibril__pyslice_at *at,
                                  void *arg, unsigned n, int i)
{
    (void)s, (void)at, (void)arg, (void)n, (void)i;
    return 0;
}

int fibril__pyframes_push(struct fibril__pyframes *p, PyThreadState *ts, PyObject *frames,
                          PyObject *null)
{
    (void)p, (void)ts, (void)frames, (void)null;
    PyErr_SetString(PyExc_NotImplementedError, "frames cannot be continued by this build");
    return -1;
}

int fibril__pyframes_link(struct fibril__pyframes *p, PyThreadState *ts, PyObject *handled)
{
    (void)p, (void)ts, (void)handled;
    return -1;
}

PyObject *fibril__pyframes_leave_loop(struct fibril__pyframes *p, int again)
{
    (void)p, (void)again;
    return NULL;
}

void fibril__pyframes_drop(struct fibril__pyframes *p, PyThreadState *ts)
{
    (void)p, (void)ts;
}

#endif
