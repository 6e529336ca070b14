/* SPDX-License-Identifier: MIT */
/*
 * The Python frames of a context that does not run: followed for f_back and gr_frame, given up with
 * a context that never runs again, and read as data. For the garbage collector: pystate_traverse.c.
 *
 * Invariant: an address on the C stack of such a context is read through the caller's `at`, since
 * the bytes may be elsewhere. Only 3.12 and later have frames there.
 */
#include "pyframe.h"

#include <string.h>

#if !FIBRIL_PY_PORTABLE

struct fibril__pyframe *fibril__pyframe_first(struct fibril__pyframe *f, fibril__pyslice_at *at,
                                              void *arg)
{
#if PY_VERSION_HEX >= 0x030c0000
    while (f) {
        const struct fibril__pyframe *here = at ? at(arg, f) : f;
        if (fibril__pyframe_of_python(here)) {
            break;
        }
        f = here->previous;
    }
#else
    (void)at, (void)arg;
#endif
    return f;
}

static struct fibril__pyframe *innermost(const struct fibril__pyslice *s, fibril__pyslice_at *at,
                                         void *arg)
{
    return fibril__pyframe_first((struct fibril__pyframe *)(void *)s->frame, at, arg);
}

static struct fibril__pyframe *below(const struct fibril__pyframe *f, fibril__pyslice_at *at,
                                     void *arg)
{
    return fibril__pyframe_first(f->previous, at, arg);
}

/* ---- abandoned ones ---- */

static void free_beyond(_PyStackChunk *chunk)
{
    PyObjectArenaAllocator arenas;
    PyObject_GetArenaAllocator(&arenas);
    while (chunk && chunk->previous) {
        _PyStackChunk *previous = chunk->previous;
        arenas.free(arenas.ctx, chunk, chunk->size);
        chunk = previous;
    }
}

/* Frames that stay are linked without what lies on the C stack, which goes. */
bool fibril__pyslice_abandon(struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg)
{
    bool seen = false;
    for (struct fibril__pyframe *f = innermost(s, at, arg); f; f = below(f, at, arg)) {
        f->previous = below(f, at, arg);
        seen = seen || f->object;
    }
    if (seen) {
        return false;
    }
    free_beyond(s->chunk);
    s->chunk = NULL;
    s->frame = NULL;
    s->exc_info = &s->exc;
    return true;
}

size_t fibril__pyslice_beyond(const struct fibril__pyslice *s)
{
    size_t bytes = 0;
    for (const _PyStackChunk *c = s->chunk; c && c->previous; c = c->previous) {
        bytes += c->size;
    }
    return bytes;
}

/* ---- looking at them ---- */

/* CPython makes frame objects for what it takes for the running context; that may collect garbage,
 * and Python must not run in a context that is not there. */
static PyObject *object_of(struct _PyInterpreterFrame *f, PyThreadState *ts)
{
    int collects = PyGC_Disable();
#if FIBRIL__HAS_CFRAME
    _PyCFrame *running = ts->cframe;
    _PyCFrame pretended = {.current_frame = f, .previous = running};
    ts->cframe = &pretended;
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(ts);
    ts->cframe = running;
#else
    struct _PyInterpreterFrame *running = ts->current_frame;
    ts->current_frame = f;
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(ts);
    ts->current_frame = running;
#endif
    if (collects) {
        PyGC_Enable();
    }
    return frame;
}

PyObject *fibril__pyslice_frame(struct fibril__pyslice *s, PyThreadState *ts)
{
    return s->frame ? object_of(s->frame, ts) : NULL;
}

/* What begins a frame object. */
struct frame_object {
    PyObject_HEAD PyObject *back;
    struct fibril__pyframe *frame;
};

const void *fibril__pyframe_below(PyObject *frame)
{
    const struct fibril__pyframe *f = ((struct frame_object *)(void *)frame)->frame;
    return f ? f->previous : NULL;
}

bool fibril__pyframe_runs(PyObject *frame, const PyThreadState *ts)
{
    const struct fibril__pyframe *f = fibril__pyframe_top(ts);
    while (f && f != ((struct frame_object *)(void *)frame)->frame) {
        f = f->previous;
    }
    return f;
}

bool fibril__pyslice_back(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                          PyObject *frame, PyThreadState *ts, PyObject **ret_back)
{
    for (struct fibril__pyframe *f = innermost(s, at, arg); f; f = below(f, at, arg)) {
        if (f == ((struct frame_object *)(void *)frame)->frame) {
            struct fibril__pyframe *next = below(f, at, arg);
            *ret_back = next ? object_of((struct _PyInterpreterFrame *)(void *)next, ts)
                             : Py_NewRef(Py_None);
            return true;
        }
    }
    return false;
}

getter fibril__pyframe_on_back(getter fn)
{
    getter old = NULL;
#if PY_VERSION_HEX >= 0x030c0000
    for (PyGetSetDef *d = PyFrame_Type.tp_getset; d && d->name; d++) {
        if (strcmp(d->name, "f_back") == 0) {
            old = d->get;
            d->get = fn;
        }
    }
#else
    (void)fn;
#endif
    return old;
}

int fibril__pyslice_codes(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                          int (*fn)(PyObject *code, void *arg), void *arg)
{
    int rc = 0;
    for (struct fibril__pyframe *f = innermost(s, at, at_arg); f; f = below(f, at, at_arg)) {
        rc = rc ? rc : fn((PyObject *)fibril__pyframe_code(f), arg);
    }
    return rc;
}

/* Frames that C code called, without the outermost. */
static int nesting(struct fibril__pyframe *f, fibril__pyslice_at *at, void *arg)
{
    int entries = 0;
    for (f = fibril__pyframe_first(f, at, arg); f; f = below(f, at, arg)) {
        entries += fibril__pyframe_is_entry(f, at, arg);
    }
    return entries > 0 ? entries - 1 : 0;
}

int fibril__pyslice_nesting(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg)
{
    return nesting((struct fibril__pyframe *)(void *)s->frame, at, arg);
}

int fibril__pystate_nesting(const PyThreadState *ts)
{
    return nesting(fibril__pyframe_top(ts), NULL, NULL);
}

/* ---- as data ---- */

/* The code unit it is at: while it calls C code, the instruction that does. */
static int position(const struct fibril__pyframe *f)
{
    return (int)((uint16_t *)f->instr - fibril__pyframe_units(fibril__pyframe_code(f)));
}

/* The one it goes on with when the Python function returns that it has called. */
static int after_call(const struct fibril__pyframe *f)
{
#if PY_VERSION_HEX < 0x030c0000
    return position(f) + 1;
#elif PY_VERSION_HEX < 0x030d0000
    return position(f) + 1 + f->return_offset;
#else
    return position(f) + f->return_offset;
#endif
}

#if PY_VERSION_HEX < 0x030e0000
static PyObject *object_at(const struct fibril__pyframe *f, int i, PyObject *null)
{
    return Py_NewRef(f->localsplus[i] ? f->localsplus[i] : null);
}
#else
/* A number is (null, number), which no program has. */
static PyObject *object_at(const struct fibril__pyframe *f, int i, PyObject *null)
{
    uintptr_t ref = f->localsplus[i];
    if ((ref & 3) == FIBRIL__PYREF_NUMBER) {
        return Py_BuildValue("(On)", null, (Py_ssize_t)ref >> 2);
    }
    PyObject *o = fibril__pyref_object(ref);
    return Py_NewRef(o ? o : null);
}
#endif

static struct fibril__pyframe *nth(const struct fibril__pyslice *s, fibril__pyslice_at *at,
                                   void *arg, unsigned n)
{
    struct fibril__pyframe *f = innermost(s, at, arg);
    while (f && n--) {
        f = below(f, at, arg);
    }
    return f;
}

bool fibril__pyslice_describe(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                              unsigned n, struct fibril__pyframe_info *ret_frame)
{
    struct fibril__pyframe *f = nth(s, at, arg, n);
    if (!f) {
        return false;
    }
    PyCodeObject *code = fibril__pyframe_code(f);
    PyObject *func = fibril__pyref_object(f->func);
    bool is_function = func && PyFunction_Check(func) && code->co_flags & CO_OPTIMIZED;
    *ret_frame = (struct fibril__pyframe_info){
        .func = func,
        .code = (PyObject *)code,
        .instr = position(f),
        .next = after_call(f),
        .used = fibril__pyframe_used(f),
        .entry = fibril__pyframe_is_entry(f, at, arg),
        .plain = f->owner == FIBRIL__OWNED_BY_THREAD && is_function,
    };
    return true;
}

PyObject *fibril__pyslice_values(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                                 unsigned n, int count, PyObject *null)
{
    const struct fibril__pyframe *f = nth(s, at, arg, n);
    const PyCodeObject *code = f ? fibril__pyframe_code(f) : NULL;
    if (!f || count < 0 || count > code->co_nlocalsplus + code->co_stacksize) {
        PyErr_SetString(PyExc_ValueError, "no such frame");
        return NULL;
    }
    PyObject *values = PyTuple_New(count);
    for (int i = 0; values && i < count; i++) {
        PyObject *o = object_at(f, i, null);
        if (o) {
            PyTuple_SET_ITEM(values, i, o);
        } else {
            Py_CLEAR(values);
        }
    }
    return values;
}

uintptr_t fibril__pyslice_address(const struct fibril__pyslice *s, fibril__pyslice_at *at,
                                  void *arg, unsigned n, int i)
{
    const struct fibril__pyframe *f = nth(s, at, arg, n);
    const PyCodeObject *code = f ? fibril__pyframe_code(f) : NULL;
    bool there = f && i >= 0 && i < code->co_nlocalsplus + code->co_stacksize;
    return there ? (uintptr_t)fibril__pyref_object(f->localsplus[i]) : 0;
}

#endif
