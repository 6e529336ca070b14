/* SPDX-License-Identifier: MIT */
/*
 * In place of pystate_slice.c and pystate_frames.c where only the public API is used: contexts
 * cannot share a thread state, fibril__pyslice_possible says so, and none of the others is ever
 * called.
 */
#include "pystate.h"

#if FIBRIL_PY_PORTABLE

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

void fibril__pyslice_exchange(struct fibril__pyslice *from, struct fibril__pyslice *to,
                              PyThreadState *ts)
{
    (void)from, (void)to, (void)ts;
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
                             const struct fibril__pycall *call, visitproc visit, void *arg)
{
    (void)s, (void)at, (void)at_arg, (void)call, (void)visit, (void)arg;
    return 0;
}

void fibril__pyslice_clear(struct fibril__pyslice *s)
{
    (void)s;
}

int fibril__pyslice_depth(const PyThreadState *ts)
{
    (void)ts;
    return 0;
}

int fibril__pyslice_c_depth(const PyThreadState *ts)
{
    (void)ts;
    return 0;
}

int fibril__pyslice_nesting(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg)
{
    (void)s, (void)at, (void)arg;
    return 0;
}

int fibril__pystate_nesting(const PyThreadState *ts)
{
    (void)ts;
    return 0;
}

bool fibril__pyframe_runs(PyObject *frame, const PyThreadState *ts)
{
    (void)frame, (void)ts;
    return true;
}

int fibril__pyslice_codes(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                          int (*fn)(PyObject *code, void *arg), void *arg)
{
    (void)s, (void)at, (void)at_arg, (void)fn, (void)arg;
    return 0;
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
