/* SPDX-License-Identifier: MIT */
/*
 * Greenlets that nobody refers to any more. One that is suspended gets GreenletExit, so that its
 * finally clauses run; for that it is alive again for a moment, and may stay so. Another thread's
 * is left to that thread, which kills it when it next looks at its greenlets.
 */
#include "greenlet_core.h"

/* ---- killing ---- */

/* In another thread than that of g, which is alive. */
static void leave_to_thread(struct green *g)
{
    struct green_thread *t = g->thread;
    if (!t->doomed && !(t->doomed = PyList_New(0))) {
        PyErr_Clear();
        return;
    }
    if (PyList_Append(t->doomed, (PyObject *)g->self) < 0) {
        PyErr_Clear();
    }
}

/* Its end comes back to the caller, whoever is its parent. */
static void kill_here(struct green_thread *t, struct green *g)
{
    PyGreenlet *parent = g->parent;
    g->parent = (PyGreenlet *)Py_NewRef((PyObject *)t->current);
    PyErr_SetString(fibril__green_exit, "nothing refers to the greenlet any more");
    PyObject *result = fibril__green_throw(t, g);
    if (!result) {
        PyErr_WriteUnraisable((PyObject *)g->self);
    }
    Py_XDECREF(result);
    Py_XSETREF(g->parent, parent);
}

static void kill(struct green *g)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!g->thread->ts || fibril__green_ends()) {
        fibril__green_abandon(g);
    } else if (g->thread->ts == fibril__pystate_current()) {
        kill_here(g->thread, g);
    } else {
        leave_to_thread(g);
    }
    PyErr_Restore(type, value, traceback);
}

/* ---- for the collector ---- */

int fibril__green_traverse(PyObject *self, visitproc visit, void *arg)
{
    PyGreenlet *o = (PyGreenlet *)self;
    struct green *g = green_of(o);
    Py_VISIT(o->dict);
    if (!g) {
        return 0;
    }
    Py_VISIT(g->parent);
    Py_VISIT(g->run);
    Py_VISIT(g->kwargs);
    if (g->thread && g->thread->ts && g->thread->current == o) {
        return 0; /* what is in its slice is stale */
    }
    if (g->main || g->state != GREEN_ACTIVE) {
        Py_VISIT(g->slice.context);
        return 0;
    }
    return fibril__pyslice_traverse(&g->slice, green_at, &g->nested, NULL, visit, arg);
}

/* A suspended one was not to be killed: it keeps what it may still need. */
int fibril__green_clear(PyObject *self)
{
    PyGreenlet *o = (PyGreenlet *)self;
    struct green *g = green_of(o);
    Py_CLEAR(o->dict);
    if (g->state != GREEN_ACTIVE) {
        Py_CLEAR(g->parent);
        Py_CLEAR(g->run);
        fibril__pyslice_clear(&g->slice);
    }
    return 0;
}

void fibril__green_finalize(PyObject *self)
{
    struct green *g = green_of((PyGreenlet *)self);
    if (g && g->state == GREEN_ACTIVE && !g->main) {
        kill(g);
    }
}

/* ---- the last reference ---- */

static void complain(PyObject *self)
{
    PyObject *file = PySys_GetObject("stderr");
    Py_XINCREF(file);
    if (file && file != Py_None) {
        PyFile_WriteString("GreenletExit did not kill ", file);
        PyFile_WriteObject(self, file, 0);
        PyFile_WriteString("\n", file);
        PyErr_Clear();
    }
    Py_XDECREF(file);
}

/* Kills g, to which nothing refers. False: something does again. */
static bool kill_last(struct green *g)
{
    PyObject *self = (PyObject *)g->self;
    Py_SET_REFCNT(self, 1);
    kill(g);
    if (Py_REFCNT(self) == 1 && g->state == GREEN_ACTIVE) {
        Py_INCREF(self); /* it stays for ever */
        complain(self);
    }
    Py_ssize_t refs = Py_REFCNT(self) - 1;
    Py_SET_REFCNT(self, refs);
    if (refs == 0) {
        return true;
    }
    if (PyType_HasFeature(Py_TYPE(self), Py_TPFLAGS_HEAPTYPE)) {
        Py_INCREF(Py_TYPE(self)); /* whoever deallocates a subclass gives it up afterwards */
    }
    PyObject_GC_Track(self);
    return false;
}

static void free_rest(struct green *g)
{
    if (g->frames) { /* it has left its stack for ever while it ended */
        fibril__nested_drop(&g->nested);
        PyObject_Free(g->frames);
    }
    Py_CLEAR(g->parent);
    Py_CLEAR(g->run);
    Py_CLEAR(g->kwargs);
    fibril__pyslice_clear(&g->slice);
    fibril__green_mains -= g->main;
    if (g->thread) {
        fibril__green_thread_release(g->thread);
    }
    PyObject_Free(g);
}

void fibril__green_dealloc(PyObject *self)
{
    PyGreenlet *o = (PyGreenlet *)self;
    struct green *g = green_of(o);
    PyObject_GC_UnTrack(self);
    if (g && g->state == GREEN_ACTIVE && !g->main && !kill_last(g)) {
        return;
    }
    if (o->weakreflist) {
        PyObject_ClearWeakRefs(self);
    }
    Py_CLEAR(o->dict);
    if (g) {
        o->pimpl = NULL;
        free_rest(g);
    }
    Py_TYPE(self)->tp_free(self);
}
