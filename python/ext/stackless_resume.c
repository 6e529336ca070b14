/* SPDX-License-Identifier: MIT */
/*
 * What fibril/_stackless_pickle.py is made of: the frames of a suspended tasklet, and how copies of
 * them go on in another one. That module knows what the frames mean; this one keeps to what is safe
 * to read.
 */
#include "stackless_core.h"

PyObject *fibril__slp_resume;

static const char capsule_name[] = "fibril.stackless.frames";

/* ---- reading ---- */

static struct tasklet *suspended(PyObject *o)
{
    struct tasklet *t = tasklet_of(o);
    if (!PyObject_TypeCheck(o, fibril__slp_tasklet)) {
        PyErr_SetString(PyExc_TypeError, "no tasklet");
        return NULL;
    }
    bool readable = t->begun && !t->ended && !t->main && t->world->ts && t->world->turn != t;
    if (!readable || t->away || t->interrupted) {
        PyErr_SetString(PyExc_ValueError, t->away ? "it waits, or has waited, for something outside"
                                          : readable ? "it was interrupted by run(timeout)"
                                                     : "it is not suspended");
        return NULL;
    }
    return t;
}

static PyObject *describe(const struct fibril__pyframe_info *f)
{
    return Py_BuildValue("OOiiiOO", f->func ? f->func : Py_None, f->code, f->instr, f->next,
                         f->used, f->entry ? Py_True : Py_False, f->plain ? Py_True : Py_False);
}

/* (function that the tasklet was given, exception being handled, [frame, ...]) */
static PyObject *py_frames(PyObject *module, PyObject *o)
{
    (void)module;
    struct tasklet *t = suspended(o);
    PyObject *frames = t ? PyList_New(0) : NULL;
    struct fibril__pyframe_info f;
    for (unsigned n = 0; frames && fibril__pyslice_describe(&t->slice, fibril__slp_at, t, n, &f);
         n++) {
        PyObject *item = describe(&f);
        if (!item || PyList_Append(frames, item) < 0) {
            Py_CLEAR(frames);
        }
        Py_XDECREF(item);
    }
    if (!frames) {
        return NULL;
    }
    PyObject *handled = t->slice.exc.exc_value, *function = t->call ? t->call : Py_None;
    if (PyTuple_CheckExact(function)) {
        function = PyTuple_GET_ITEM(function, 0);
    }
    return Py_BuildValue("OON", function, handled ? handled : Py_None, frames);
}

static PyObject *py_values(PyObject *module, PyObject *args)
{
    PyObject *o, *null;
    int n, count;
    (void)module;
    if (!PyArg_ParseTuple(args, "OiiO", &o, &n, &count, &null)) {
        return NULL;
    }
    struct tasklet *t = suspended(o);
    return t && n >= 0
               ? fibril__pyslice_values(&t->slice, fibril__slp_at, t, (unsigned)n, count, null)
               : NULL;
}

static PyObject *py_address(PyObject *module, PyObject *args)
{
    PyObject *o;
    int n, i;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oii", &o, &n, &i)) {
        return NULL;
    }
    struct tasklet *t = suspended(o);
    return t ? PyLong_FromSize_t(
                   fibril__pyslice_address(&t->slice, fibril__slp_at, t, (unsigned)n, i))
             : NULL;
}

/* ---- continuing: see fibril__pyframes_push ---- */

static void free_frames(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, capsule_name));
}

static PyObject *py_frames_new(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct fibril__pyframes *p = PyMem_Calloc(1, sizeof *p);
    PyObject *capsule = p ? PyCapsule_New(p, capsule_name, free_frames) : PyErr_NoMemory();
    if (!capsule) {
        PyMem_Free(p);
    }
    return capsule;
}

static PyObject *py_frames_push(PyObject *module, PyObject *args)
{
    PyObject *capsule, *frames, *null;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!O", &capsule, &PyList_Type, &frames, &null)) {
        return NULL;
    }
    struct fibril__pyframes *p = PyCapsule_GetPointer(capsule, capsule_name);
    if (!p || p->count || PyList_GET_SIZE(frames) == 0) {
        PyErr_SetString(PyExc_ValueError, "no frames, or frames already");
        return NULL;
    }
    return fibril__pyframes_push(p, PyThreadState_Get(), frames, null) < 0 ? NULL
                                                                           : Py_NewRef(Py_None);
}

/* Returns, or raises, what the tasklet goes on with. `again`: where the innermost frame waits in a
 * loop, which StopIteration ends; else -1. */
static PyObject *py_frames_link(PyObject *module, PyObject *args)
{
    PyObject *capsule, *handled;
    int again;
    (void)module;
    struct world *w = fibril__slp_world();
    if (!w || !PyArg_ParseTuple(args, "OOi", &capsule, &handled, &again)) {
        return NULL;
    }
    struct fibril__pyframes *p = PyCapsule_GetPointer(capsule, capsule_name);
    PyObject *exception = handled == Py_None ? NULL : Py_NewRef(handled);
    if (!p || fibril__pyframes_link(p, w->ts, exception) < 0) {
        Py_XDECREF(exception);
        return NULL;
    }
    PyObject *result = fibril__slp_claim(w->current);
    if (!result && again >= 0 && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
        result = fibril__pyframes_leave_loop(p, again);
    }
    return result;
}

static PyObject *py_frames_drop(PyObject *module, PyObject *capsule)
{
    (void)module;
    struct fibril__pyframes *p = PyCapsule_GetPointer(capsule, capsule_name);
    if (!p) {
        return NULL;
    }
    fibril__pyframes_drop(p, PyThreadState_Get());
    Py_RETURN_NONE;
}

static PyObject *py_set_resume(PyObject *module, PyObject *function)
{
    (void)module;
    Py_XSETREF(fibril__slp_resume, Py_NewRef(function));
    return PyBool_FromLong(fibril__pyframes_possible);
}

static PyMethodDef functions[] = {{"_tasklet_frames", py_frames, METH_O, NULL},
                                  {"_tasklet_values", py_values, METH_VARARGS, NULL},
                                  {"_tasklet_address", py_address, METH_VARARGS, NULL},
                                  {"_frames_new", py_frames_new, METH_NOARGS, NULL},
                                  {"_frames_push", py_frames_push, METH_VARARGS, NULL},
                                  {"_frames_link", py_frames_link, METH_VARARGS, NULL},
                                  {"_frames_drop", py_frames_drop, METH_O, NULL},
                                  {"_frames_resume", py_set_resume, METH_O, NULL},
                                  {NULL, NULL, 0, NULL}};

int fibril__slp_resume_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
