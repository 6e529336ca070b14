/* SPDX-License-Identifier: MIT */
/*
 * Frames of Python as data: reading those of a context that does not run, and continuing copies of
 * them. Copies are written to the data stack of the running context, the outermost lowest, as calls
 * would have put them there, and then linked below the frame of a function that has been called by
 * a function: when that one returns, the interpreter goes on in the innermost copy as it does in
 * any caller, and frees each as it returns.
 *
 * Invariant: copies are linked only where no C code runs between the two functions; that is checked
 * when they are linked. Rejected: to call the interpreter's main function for each frame, innermost
 * first, and to hand on results. It leaves clearing a frame to us, which has no exported function,
 * and a level of the C stack to each frame.
 */
#include "pyframe.h"

#include <stddef.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030c0000 && !FIBRIL_PY_PORTABLE

const bool fibril__pyframes_possible = true;

enum {
    SPECIALS = offsetof(struct fibril__pyframe, localsplus) / sizeof(PyObject *),
    CHUNK_BYTES = 16 << 10, /* CPython's own size */
    MARGIN_WORDS = 64,      /* room for the function that links them */
    MARGIN_CALLS = 50,
};

static PyCodeObject *code_of(const struct fibril__pyframe *f)
{
    return (PyCodeObject *)f->code;
}

/* ---- reading ---- */

static struct fibril__pyframe *nth(const struct fibril__pyslice *s, unsigned n)
{
    struct fibril__pyframe *f = (struct fibril__pyframe *)(void *)s->frame;
    while (f && n--) {
        f = f->previous;
    }
    return f;
}

bool fibril__pyslice_describe(const struct fibril__pyslice *s, unsigned n,
                              struct fibril__pyframe_info *ret_frame)
{
    const struct fibril__pyframe *f = nth(s, n);
    if (!f) {
        return false;
    }
    *ret_frame = (struct fibril__pyframe_info){
        .func = f->func,
        .code = f->code,
        .instr = (int)((_Py_CODEUNIT *)f->instr - _PyCode_CODE(code_of(f))),
        .used = f->stacktop,
        .entry = f->is_entry,
        .plain = f->owner == FIBRIL__OWNED_BY_THREAD && !f->locals && f->func,
    };
    return true;
}

PyObject *fibril__pyslice_values(const struct fibril__pyslice *s, unsigned n, int count,
                                 PyObject *null)
{
    const struct fibril__pyframe *f = nth(s, n);
    if (!f || count < 0 || count > code_of(f)->co_nlocalsplus + code_of(f)->co_stacksize) {
        PyErr_SetString(PyExc_ValueError, "no such frame");
        return NULL;
    }
    PyObject *values = PyTuple_New(count);
    for (int i = 0; values && i < count; i++) {
        PyTuple_SET_ITEM(values, i, Py_NewRef(f->localsplus[i] ? f->localsplus[i] : null));
    }
    return values;
}

/* ---- writing ---- */

struct record {
    PyFunctionObject *func;
    PyCodeObject *code;
    PyObject *values;
    int instr, words;
};

static int parse(PyObject *item, struct record *r)
{
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "O!iO!", &PyFunction_Type, &r->func,
                                                  &r->instr, &PyTuple_Type, &r->values)) {
        return -1;
    }
    r->code = (PyCodeObject *)r->func->func_code;
    int variables = r->code->co_nlocalsplus, stack = r->code->co_stacksize;
    Py_ssize_t n = PyTuple_GET_SIZE(r->values);
    bool fits = n >= variables && n <= variables + stack - 1 && r->instr >= 0 &&
                r->instr < Py_SIZE(r->code) - 1;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "no frame of that function");
        return -1;
    }
    r->words = SPECIALS + variables + stack;
    return 0;
}

/* Words that all of them take; -1 with an exception. */
static Py_ssize_t measure(PyObject *frames)
{
    Py_ssize_t words = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        struct record r;
        if (parse(PyList_GET_ITEM(frames, i), &r) < 0) {
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
    f->func = Py_NewRef((PyObject *)r->func);
    f->globals = r->func->func_globals;
    f->builtins = r->func->func_builtins;
    f->locals = NULL;
    f->code = Py_NewRef((PyObject *)r->code);
    f->object = NULL;
    f->instr = _PyCode_CODE(r->code) + r->instr;
    f->stacktop = (int)PyTuple_GET_SIZE(r->values);
    f->is_entry = false;
    f->owner = FIBRIL__OWNED_BY_THREAD;
    for (int i = 0; i < f->stacktop; i++) {
        PyObject *o = PyTuple_GET_ITEM(r->values, i);
        f->localsplus[i] = o == null ? NULL : Py_NewRef(o);
    }
}

int fibril__pyframes_push(struct fibril__pyframes *p, PyThreadState *ts, PyObject *frames,
                          PyObject *null)
{
    Py_ssize_t words = measure(frames);
    if (words < 0) {
        return -1;
    }
    if (ts->recursion_remaining < PyList_GET_SIZE(frames) + MARGIN_CALLS) {
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
    p->base = (struct fibril__pyframe *)(void *)ts->cframe->current_frame;
    p->first = (struct fibril__pyframe *)(void *)at;
    struct fibril__pyframe *below = p->base;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frames); i++) {
        struct record r;
        parse(PyList_GET_ITEM(frames, i), &r);
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
    struct fibril__pyframe *linker = (struct fibril__pyframe *)(void *)ts->cframe->current_frame;
    if (!p->count || p->linked || linker->is_entry || linker->previous != p->base) {
        PyErr_SetString(PyExc_RuntimeError, "frames cannot be continued where a debugger, or other "
                                            "C code, calls Python functions its own way");
        return -1;
    }
    linker->previous = p->last;
    ts->recursion_remaining -= p->count;
    PyObject *before = ts->exc_info->exc_value;
    ts->exc_info->exc_value = handled;
    p->linked = true;
    Py_XDECREF(before);
    return 0;
}

static void forget(const struct fibril__pyframe *f)
{
    for (int i = 0; i < f->stacktop; i++) {
        Py_XDECREF(f->localsplus[i]);
    }
    Py_DECREF(f->func);
    Py_DECREF(f->code);
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

bool fibril__pyslice_describe(const struct fibril__pyslice *s, unsigned n,
                              struct fibril__pyframe_info *ret_frame)
{
    (void)s, (void)n, (void)ret_frame;
    return false;
}

PyObject *fibril__pyslice_values(const struct fibril__pyslice *s, unsigned n, int count,
                                 PyObject *null)
{
    (void)s, (void)n, (void)count, (void)null;
    PyErr_SetString(PyExc_NotImplementedError, "frames cannot be read on this version");
    return NULL;
}

int fibril__pyframes_push(struct fibril__pyframes *p, PyThreadState *ts, PyObject *frames,
                          PyObject *null)
{
    (void)p, (void)ts, (void)frames, (void)null;
    PyErr_SetString(PyExc_NotImplementedError, "frames cannot be continued on this version");
    return -1;
}

int fibril__pyframes_link(struct fibril__pyframes *p, PyThreadState *ts, PyObject *handled)
{
    (void)p, (void)ts, (void)handled;
    return -1;
}

void fibril__pyframes_drop(struct fibril__pyframes *p, PyThreadState *ts)
{
    (void)p, (void)ts;
}

#endif
