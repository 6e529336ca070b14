/* SPDX-License-Identifier: MIT */
/*
 * The other half of pystate.c: the fields of a thread state that belong to a context, when several
 * share it. A context of ours has its outermost exception item and, on 3.11 and 3.12, its outermost
 * cframe in memory of ours, so that a switch exchanges pointers and copies no items.
 *
 * Invariant: while a context does not run, nothing here reads its C stack. The innermost frame is
 * therefore kept in the slice, although CPython 3.11 and 3.12 keep it in a cframe on that stack.
 *
 * Not exchanged: the exception being raised (none is, at a switch), hooks of tracing and profiling,
 * threading.local and the like, which are the thread's.
 */
#include "pystate.h"

#include <stddef.h>
#include <string.h>

#if !FIBRIL_PY_PORTABLE

#define HAS_CFRAME (PY_VERSION_HEX < 0x030d0000)
#define HAS_C_DEPTH (PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000)

const bool fibril__pyslice_possible = true;

/* ---- what has changed its name ---- */

#if PY_VERSION_HEX < 0x030c0000
#define LIMIT(ts) ((ts)->recursion_limit)
#define REMAINING(ts) ((ts)->recursion_remaining)
#else
#define LIMIT(ts) ((ts)->py_recursion_limit)
#define REMAINING(ts) ((ts)->py_recursion_remaining)
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
#if HAS_CFRAME
    s->cframe = ts->cframe;
    s->frame = ts->cframe->current_frame;
#else
    s->frame = ts->current_frame;
#endif
}

/* Tracing may have been switched on or off meanwhile. */
static inline void load_frame(const struct fibril__pyslice *s, PyThreadState *ts)
{
#if HAS_CFRAME
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

enum { C_STACK_MARGIN = 2048 * sizeof(void *) };

static inline uintptr_t *c_stack_of(PyThreadState *ts)
{
    return ((struct private_state *)(void *)ts)->c_stack;
}
#endif

void fibril__pyslice_on_stack(PyThreadState *ts, const void *low, size_t bytes)
{
#if PY_VERSION_HEX >= 0x030e0000
    c_stack_of(ts)[0] = (uintptr_t)low + bytes;
    c_stack_of(ts)[1] = (uintptr_t)low + 2 * C_STACK_MARGIN;
    c_stack_of(ts)[2] = (uintptr_t)low + C_STACK_MARGIN;
#else
    (void)ts, (void)low, (void)bytes;
#endif
}

static inline void save_counts(struct fibril__pyslice *s, PyThreadState *ts)
{
    s->depth = LIMIT(ts) - REMAINING(ts);
    s->tracing = ts->tracing;
#if HAS_C_DEPTH
    s->c_depth = C_DEPTH_BASE - ts->c_recursion_remaining;
#endif
#if PY_VERSION_HEX < 0x030d0000
    s->trash = TRASH(ts);
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
    REMAINING(ts) = LIMIT(ts) - s->depth;
    ts->tracing = s->tracing;
#if HAS_C_DEPTH
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

/* ---- frames ---- */

/* As far as it concerns us. Localsplus are the variables of the function; above them is its stack,
 * whose height only the interpreter knows while it runs. */
struct frame {
#if PY_VERSION_HEX < 0x030c0000
    PyObject *func, *globals, *builtins, *locals, *code, *object;
    struct frame *previous;
    void *instr;
    int stacktop;
    bool is_entry;
    char owner;
    PyObject *localsplus[1];
#elif PY_VERSION_HEX < 0x030e0000
    PyObject *code;
    struct frame *previous;
    PyObject *func, *globals, *builtins, *locals, *object;
    void *instr;
    int stacktop;
    uint16_t return_offset;
    char owner;
    PyObject *localsplus[1];
#else
    uintptr_t code;
    struct frame *previous;
    uintptr_t func;
    PyObject *globals, *builtins, *locals, *object;
    void *instr, *stackpointer;
    uint16_t return_offset;
    char owner;
    uint8_t visited;
    uintptr_t localsplus[1];
#endif
};

enum { OWNED_BY_THREAD = 0, OWNED_BY_GENERATOR = 1 }; /* others: the interpreter's own */

/* The first frame of Python's at f or below it. On 3.12 and later there is another kind where C
 * code has called Python: it lies on the C stack, which may be elsewhere now. */
static struct frame *first_of_python(struct frame *f, fibril__pyslice_at *at, void *arg)
{
#if PY_VERSION_HEX >= 0x030c0000
    while (f) {
        const struct frame *here = at ? at(arg, f) : f;
        if (here->owner == OWNED_BY_THREAD || here->owner == OWNED_BY_GENERATOR) {
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
    for (struct frame *f = first_of_python((struct frame *)(void *)(s)->frame, at, arg); f;        \
         f = first_of_python(f->previous, at, arg))

#if PY_VERSION_HEX >= 0x030e0000
/* Tagged ones are borrowed, or no objects. */
static PyObject *counted(uintptr_t ref)
{
    return ref & 3 ? NULL : (PyObject *)ref;
}
static PyCodeObject *code_of(const struct frame *f)
{
    return (PyCodeObject *)(f->code & ~(uintptr_t)3);
}
#else
static PyObject *counted(PyObject *ref)
{
    return ref;
}
static PyCodeObject *code_of(const struct frame *f)
{
    return (PyCodeObject *)f->code;
}
#endif

/* A generator visits its own frame. */
static int visit_frame(const struct frame *f, visitproc visit, void *arg)
{
    if (f->owner != OWNED_BY_THREAD) {
        return 0;
    }
    Py_VISIT(f->object);
    Py_VISIT(f->locals);
    Py_VISIT(counted(f->func));
    Py_VISIT(counted(f->code));
    for (int i = 0; i < code_of(f)->co_nlocalsplus; i++) {
        PyObject *o = counted(f->localsplus[i]);
        Py_VISIT(o);
    }
    return 0;
}

/* ---- switching ---- */

void fibril__pyslice_save(struct fibril__pyslice *s, PyThreadState *ts)
{
    save_frame(s, ts);
    s->chunk = ts->datastack_chunk;
    s->top = ts->datastack_top;
    s->limit = ts->datastack_limit;
    s->exc_info = ts->exc_info;
    s->context = ts->context;
    save_counts(s, ts);
}

void fibril__pyslice_load(struct fibril__pyslice *s, PyThreadState *ts)
{
    load_frame(s, ts);
    ts->datastack_chunk = s->chunk;
    ts->datastack_top = s->top;
    ts->datastack_limit = s->limit;
    ts->exc_info = s->exc_info;
    load_context(s, ts);
    load_counts(s, ts);
}

/* The outermost cframe comes first in the memory, the chunk after it; the first element of a root
 * chunk stays unused, by that CPython knows never to free it. */
struct head {
#if HAS_CFRAME
    _PyCFrame outermost;
#endif
    _PyStackChunk chunk;
};
_Static_assert(sizeof(struct head) <= FIBRIL__PYSLICE_HEAD, "the head of the lent memory");

void fibril__pyslice_fresh(struct fibril__pyslice *s, PyThreadState *ts, void *memory, size_t bytes)
{
    struct head *head = memory;
#if HAS_CFRAME
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
#if HAS_CFRAME
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
    struct frame *frame;
};

const void *fibril__pyframe_below(PyObject *frame)
{
    const struct frame *f = ((struct frame_object *)(void *)frame)->frame;
    return f ? f->previous : NULL;
}

bool fibril__pyslice_back(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                          PyObject *frame, PyThreadState *ts, PyObject **ret_back)
{
    EACH_FRAME(f, s, at, arg)
    {
        if (f == ((struct frame_object *)(void *)frame)->frame) {
            struct frame *next = first_of_python(f->previous, at, arg);
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

#else

const bool fibril__pyslice_possible = false;

int fibril__pystate_trash(const PyThreadState *ts)
{
    (void)ts;
    return -1;
}

void fibril__pyslice_save(struct fibril__pyslice *s, PyThreadState *ts)
{
    (void)s, (void)ts;
}

void fibril__pyslice_load(struct fibril__pyslice *s, PyThreadState *ts)
{
    (void)s, (void)ts;
}

void fibril__pyslice_fresh(struct fibril__pyslice *s, PyThreadState *ts, void *memory, size_t bytes)
{
    (void)s, (void)ts, (void)memory, (void)bytes;
}

void fibril__pyslice_on_stack(PyThreadState *ts, const void *low, size_t bytes)
{
    (void)ts, (void)low, (void)bytes;
}

void fibril__pyslice_ended(struct fibril__pyslice *s, PyThreadState *ts)
{
    (void)s, (void)ts;
}

bool fibril__pyslice_abandon(struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg)
{
    (void)s, (void)at, (void)arg;
    return true;
}

size_t fibril__pyslice_beyond(const struct fibril__pyslice *s)
{
    (void)s;
    return 0;
}

PyObject *fibril__pyslice_frame(struct fibril__pyslice *s, PyThreadState *ts)
{
    (void)s, (void)ts;
    return NULL;
}

int fibril__pyslice_traverse(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                             visitproc visit, void *arg)
{
    (void)s, (void)at, (void)at_arg, (void)visit, (void)arg;
    return 0;
}

void fibril__pyslice_clear(struct fibril__pyslice *s)
{
    (void)s;
}

const void *fibril__pyframe_below(PyObject *frame)
{
    (void)frame;
    return NULL;
}

bool fibril__pyslice_back(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                          PyObject *frame, PyThreadState *ts, PyObject **ret_back)
{
    (void)s, (void)at, (void)arg, (void)frame, (void)ts, (void)ret_back;
    return false;
}

getter fibril__pyframe_on_back(getter fn)
{
    (void)fn;
    return NULL;
}

#endif
