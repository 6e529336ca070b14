/* SPDX-License-Identifier: MIT */
/*
 * What the Python frames of a context that does not run hold, for the garbage collector: their
 * variables, and what lies on their value stacks as far as the height of those is certain. A
 * reference that is not shown is a leak, at worst; one that is shown and not there, or twice, is a
 * crash. So:
 *   - of a frame that has called a Python function without C code in between, the interpreter has
 *     noted the height, and what the function took is no more among it;
 *   - the innermost frame has called a C function. If that is a METH_FASTCALL one, its arguments
 *     are the top of the value stack, and stay there until it returns. That they are is looked up:
 *     what was called lies right below them. From 3.14 on the height is noted, too;
 *   - of all others, only the variables.
 * Rejected: to find the height in the code, as pickling does. What C code was called with may have
 * been freed by then.
 */
#include "pyframe.h"

#if !FIBRIL_PY_PORTABLE

#if PY_VERSION_HEX >= 0x030e0000
typedef uintptr_t slot;
/* Tagged ones are borrowed, or no objects. */
static PyObject *counted(slot ref)
{
    return ref & 3 ? NULL : (PyObject *)ref;
}
#else
typedef PyObject *slot;
static PyObject *counted(slot ref)
{
    return ref;
}
#endif

/* ---- how high the stack is ---- */

static const slot *stack_of(const struct fibril__pyframe *f)
{
    return f->localsplus + fibril__pyframe_code(f)->co_nlocalsplus;
}

/* The slot is below `end`, so what is there is alive. */
static bool calls_method_of(const slot *callable, PyObject *self)
{
    PyObject *fn = fibril__pyref_object(*callable);
    return fn && PyCFunction_CheckExact(fn) && PyCFunction_GET_SELF(fn) == self;
}

/* A method of self was called with the `n` slots below `end`: self and a descriptor lie below them,
 * or a bound method, on one side or the other of an unused slot. */
static bool was_called(const slot *low, const slot *end, int n, PyObject *self)
{
    const slot *args = end - n;
    if (args - low < 2) {
        return false;
    }
    PyObject *upper = fibril__pyref_object(args[-1]), *lower = fibril__pyref_object(args[-2]);
    if (upper == self && lower && Py_IS_TYPE(lower, &PyMethodDescr_Type)) {
        return true;
    }
    return upper ? calls_method_of(&args[-1], self) : calls_method_of(&args[-2], self);
}

static const slot *end_of_call(const struct fibril__pyframe *f, const struct fibril__pycall *call)
{
    const slot *low = stack_of(f), *end;
    unsigned size = (unsigned)fibril__pyframe_code(f)->co_stacksize;
    if (!call || !call->end) {
        return low;
    }
#if PY_VERSION_HEX >= 0x030e0000
    end = f->stackpointer ? (const slot *)f->stackpointer : low;
    if (end < low || end > low + size) {
        return low;
    }
#else
    uint32_t used = (uint32_t)(call->end - fibril__pycall_end(low, 0));
    if (used > size) {
        return low;
    }
    end = low + used;
#endif
    bool sure = was_called(low, end, 0, call->self) || was_called(low, end, 1, call->self);
    return sure ? end : low;
}

/* Of one that has called a Python function. */
static const slot *noted_end(const struct fibril__pyframe *f)
{
    const slot *low = stack_of(f);
    int used = fibril__pyframe_used(f);
    const PyCodeObject *code = fibril__pyframe_code(f);
    bool known = used > code->co_nlocalsplus && used <= code->co_nlocalsplus + code->co_stacksize;
    return known ? f->localsplus + used : low;
}

/* ---- visiting ---- */

static int visit_slots(const slot *from, const slot *to, visitproc visit, void *arg)
{
    for (; from < to; from++) {
        PyObject *o = counted(*from);
        Py_VISIT(o);
    }
    return 0;
}

/* A generator visits its own frame. */
static int visit_frame(const struct fibril__pyframe *f, const slot *end, visitproc visit, void *arg)
{
    if (f->owner != FIBRIL__OWNED_BY_THREAD) {
        return 0;
    }
    Py_VISIT(f->object);
    Py_VISIT(f->locals);
    Py_VISIT(counted(f->func));
    Py_VISIT(counted(f->code));
    return visit_slots(f->localsplus, end, visit, arg);
}

int fibril__pyslice_traverse(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                             const struct fibril__pycall *call, visitproc visit, void *arg)
{
    struct fibril__pyframe *f = (struct fibril__pyframe *)(void *)s->frame;
    f = fibril__pyframe_first(f, at, at_arg);
    const slot *end = f ? end_of_call(f, call) : NULL;
    while (f) {
        int rc = visit_frame(f, end, visit, arg);
        if (rc) {
            return rc;
        }
        bool by_c = fibril__pyframe_is_entry(f, at, at_arg);
        f = fibril__pyframe_first(f->previous, at, at_arg);
        end = !f ? NULL : by_c ? stack_of(f) : noted_end(f);
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
