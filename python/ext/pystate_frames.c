/* SPDX-License-Identifier: MIT */
/*
 * The Python frames of a context that does not run: followed for the garbage collector, for f_back
 * and gr_frame, and given up with a context that never runs again.
 *
 * Invariant: an address on the C stack of such a context is read through the caller's `at`, since
 * the bytes may be elsewhere. Only 3.12 and later have frames there.
 */
#include "pyframe.h"

#include <string.h>

#if !FIBRIL_PY_PORTABLE

/* The first frame of Python's at f or below it. On 3.12 and later there is another kind where C
 * code has called Python: it lies on the C stack, which may be elsewhere now. */
static struct fibril__pyframe *first_of_python(struct fibril__pyframe *f, fibril__pyslice_at *at,
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

#define EACH_FRAME(f, s, at, arg)                                                                  \
    for (struct fibril__pyframe *f =                                                               \
             first_of_python((struct fibril__pyframe *)(void *)(s)->frame, at, arg);               \
         f; f = first_of_python(f->previous, at, arg))

#if PY_VERSION_HEX >= 0x030e0000
/* Tagged ones are borrowed, or no objects. */
static PyObject *counted(uintptr_t ref)
{
    return ref & 3 ? NULL : (PyObject *)ref;
}
#else
static PyObject *counted(PyObject *ref)
{
    return ref;
}
#endif

/* A generator visits its own frame. */
static int visit_frame(const struct fibril__pyframe *f, visitproc visit, void *arg)
{
    if (f->owner != FIBRIL__OWNED_BY_THREAD) {
        return 0;
    }
    Py_VISIT(f->object);
    Py_VISIT(f->locals);
    Py_VISIT(counted(f->func));
    Py_VISIT(counted(f->code));
    for (int i = 0; i < fibril__pyframe_code(f)->co_nlocalsplus; i++) {
        PyObject *o = counted(f->localsplus[i]);
        Py_VISIT(o);
    }
    return 0;
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
    EACH_FRAME(f, s, at, arg)
    {
        f->previous = first_of_python(f->previous, at, arg);
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
    EACH_FRAME(f, s, at, arg)
    {
        if (f == ((struct frame_object *)(void *)frame)->frame) {
            struct fibril__pyframe *next = first_of_python(f->previous, at, arg);
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
    EACH_FRAME(f, s, at, at_arg)
    {
        rc = rc ? rc : fn((PyObject *)fibril__pyframe_code(f), arg);
    }
    return rc;
}

int fibril__pyslice_traverse(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                             visitproc visit, void *arg)
{
    EACH_FRAME(f, s, at, at_arg)
    {
        int rc = visit_frame(f, visit, arg);
        if (rc) {
            return rc;
        }
    }
    Py_VISIT(s->context);
    Py_VISIT(s->exc.exc_value);
    return 0;
}

void fibril__pyslice_clear(struct fibril__pyslice *s)
{
    Py_CLEAR(s->context);
    Py_CLEAR(s->exc.exc_value);
}

#endif
