/* SPDX-License-Identifier: MIT */
/*
 * The type `greenlet`. It is a static type, of the size and layout that the C interface fixes,
 * because extensions embed it in types of their own and find it through the capsule.
 */
#include "greenlet_core.h"

#include <structmember.h>

PyObject *fibril__green_error, *fibril__green_exit;
bool fibril__green_own_stacks;

/* ---- making ---- */

static PyObject *alloc(PyTypeObject *type)
{
    if (type->tp_flags & Py_TPFLAGS_IS_ABSTRACT) { /* object knows what to say */
        PyObject *none = PyTuple_New(0);
        PyObject *o = none ? PyBaseObject_Type.tp_new(type, none, NULL) : NULL;
        Py_XDECREF(none);
        return o;
    }
    struct green *g = PyObject_Calloc(1, sizeof *g);
    PyGreenlet *self = g ? (PyGreenlet *)type->tp_alloc(type, 0) : NULL;
    if (!self) {
        PyObject_Free(g);
        return g ? NULL : PyErr_NoMemory();
    }
    g->own_stack = fibril__green_own_stacks;
    g->self = self;
    self->pimpl = g;
    return (PyObject *)self;
}

PyGreenlet *fibril__green_new(void)
{
    return (PyGreenlet *)alloc(&fibril__green_type);
}

static PyObject *green_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct green_thread *t = fibril__green_thread();
    PyGreenlet *self = t ? (PyGreenlet *)alloc(type) : NULL;
    if (self) {
        green_of(self)->parent = (PyGreenlet *)Py_NewRef((PyObject *)t->current);
    }
    return (PyObject *)self;
}

static int set_run(PyGreenlet *self, PyObject *run, void *unused)
{
    struct green *g = green_of(self);
    if (g->main) {
        PyErr_SetString(PyExc_AttributeError, "main greenlets have no run attribute");
        return -1;
    }
    if (g->state != GREEN_NEW) {
        PyErr_SetString(PyExc_AttributeError, "run cannot be set after the start of the greenlet");
        return -1;
    }
    Py_XSETREF(g->run, Py_XNewRef(run));
    return 0;
}

static int green_init(PyGreenlet *self, PyObject *args, PyObject *kwargs)
{
    PyObject *run = NULL, *parent = NULL;
    static char *names[] = {"run", "parent", NULL};
    if (!kwargs && PyTuple_GET_SIZE(args) <= 2) {
        run = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
        parent = PyTuple_GET_SIZE(args) > 1 ? PyTuple_GET_ITEM(args, 1) : NULL;
    } else if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:greenlet", names, &run, &parent)) {
        return -1;
    }
    if (run && set_run(self, run, NULL) < 0) {
        return -1;
    }
    return parent && parent != Py_None ? fibril__green_set_parent(self, parent, NULL) : 0;
}

/* What PyFunction does for functions: no tuple, no dict. Only for the exact type. */
static PyObject *green_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                                  PyObject *names)
{
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    if (n > 2 || (names && PyTuple_GET_SIZE(names) > 0)) {
        PyObject *tuple = PyTuple_New(n);
        PyObject *dict = tuple ? PyDict_New() : NULL;
        for (Py_ssize_t i = 0; dict && i < n; i++) {
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        }
        for (Py_ssize_t i = 0; dict && names && i < PyTuple_GET_SIZE(names); i++) {
            if (PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), args[n + i]) < 0) {
                Py_CLEAR(dict);
            }
        }
        PyObject *self = dict ? green_new((PyTypeObject *)type, tuple, dict) : NULL;
        if (self && green_init((PyGreenlet *)self, tuple, dict) < 0) {
            Py_CLEAR(self);
        }
        Py_XDECREF(tuple);
        Py_XDECREF(dict);
        return self;
    }
    PyObject *o = green_new((PyTypeObject *)type, NULL, NULL);
    if (o && n > 0) {
        green_of((PyGreenlet *)o)->run = Py_NewRef(args[0]);
    }
    if (o && n > 1 && args[1] != Py_None &&
        fibril__green_set_parent((PyGreenlet *)o, args[1], NULL) < 0) {
        Py_CLEAR(o);
    }
    return o;
}

/* ---- switching ---- */

static PyObject *no_arguments; /* the empty tuple */

static PyObject *tuple_of(PyObject *const *items, Py_ssize_t n)
{
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple && i < n; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(items[i]));
    }
    return tuple;
}

static bool pack(struct carry *c, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    c->all = true;
    c->value = tuple_of(args, n);
    if (!c->value || !names || PyTuple_GET_SIZE(names) == 0) {
        return c->value != NULL;
    }
    c->kwargs = PyDict_New();
    for (Py_ssize_t i = 0; c->kwargs && i < PyTuple_GET_SIZE(names); i++) {
        if (PyDict_SetItem(c->kwargs, PyTuple_GET_ITEM(names, i), args[n + i]) < 0) {
            Py_CLEAR(c->kwargs);
        }
    }
    if (!c->kwargs) {
        Py_CLEAR(c->value);
    }
    return c->kwargs != NULL;
}

PyDoc_STRVAR(switch_doc,
             "switch(*args, **kwargs)\n--\n\n"
             "Goes on in this greenlet, until something switches back here, and returns what is\n"
             "brought along then. The greenlet gets the arguments: those of its function if it\n"
             "has not begun, else as the result of the switch by which it left: the one argument,\n"
             "a tuple of several, a dict of keywords, or a pair of both. In the place of a\n"
             "greenlet that is dead its parent gets them.");

static NOINLINE PyObject *switch_slowly(PyGreenlet *self, PyObject *const *args, Py_ssize_t n,
                                        PyObject *names)
{
    struct green_thread *t = fibril__green_thread();
    struct carry c = {0};
    if (!t) {
        return NULL;
    }
    if (n == 1 && !names) {
        c.value = Py_NewRef(args[0]);
    } else if (!pack(&c, args, n, names)) {
        return NULL;
    }
    return fibril__green_switch(t, green_of(self), c);
}

/* No frame of this is on the stack while the greenlet is suspended. No arguments are as good as an
 * empty tuple as the only one, to a greenlet that has begun. */
static PyObject *green_switch(PyGreenlet *self, PyObject *const *args, Py_ssize_t n,
                              PyObject *names)
{
    struct green_thread *t = fibril__green_last;
    struct green *g = green_of(self);
    if (UNLIKELY(n > 1 || names || !t || t->ts != PyThreadState_Get() || t->doomed ||
                 g->thread != t || g->state != GREEN_ACTIVE || t->current == self)) {
        return switch_slowly(self, args, n, names);
    }
    return fibril__green_jump(t, g, Py_NewRef(n == 1 ? args[0] : no_arguments));
}

PyDoc_STRVAR(throw_doc, "throw(type=GreenletExit, value=None, traceback=None, /)\n--\n\n"
                        "Goes on in this greenlet as switch does, and raises the exception there.");

static PyObject *green_throw(PyGreenlet *self, PyObject *args)
{
    PyObject *type = fibril__green_exit, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "|OOO:throw", &type, &value, &traceback)) {
        return NULL;
    }
    struct green_thread *t = fibril__green_thread();
    if (!t || fibril__green_restore(type, value, traceback) < 0) {
        return NULL;
    }
    return fibril__green_throw(t, green_of(self));
}

static PyObject *green_getstate(PyGreenlet *self, PyObject *unused)
{
    return PyErr_Format(PyExc_TypeError, "cannot serialize '%s' object", Py_TYPE(self)->tp_name);
}

/* ---- attributes ---- */

static bool is_running(const struct green *g)
{
    return g->thread && g->thread->ts && g->thread->current == g->self;
}

static bool is_dead(struct green *g)
{
    if (g->state == GREEN_ACTIVE && !g->thread->ts) {
        fibril__green_abandon(g);
        return true;
    }
    return g->state == GREEN_DEAD;
}

static int green_bool(PyGreenlet *self)
{
    return green_of(self)->state == GREEN_ACTIVE && !is_dead(green_of(self));
}

static PyObject *get_dead(PyGreenlet *self, void *unused)
{
    return PyBool_FromLong(is_dead(green_of(self)));
}

static PyObject *get_run(PyGreenlet *self, void *unused)
{
    struct green *g = green_of(self);
    if (g->state != GREEN_NEW || !g->run) {
        PyErr_SetString(PyExc_AttributeError, "run");
        return NULL;
    }
    return Py_NewRef(g->run);
}

static PyObject *get_parent(PyGreenlet *self, void *unused)
{
    PyGreenlet *parent = green_of(self)->parent;
    return Py_NewRef(parent ? (PyObject *)parent : Py_None);
}

/* Where the parents of p end: a thread, or NULL. False with an exception if `self` is one. */
static bool follow(PyGreenlet *self, PyGreenlet *p, struct green_thread **ret_thread)
{
    *ret_thread = NULL;
    for (; p; p = green_of(p)->parent) {
        if (p == self) {
            PyErr_SetString(PyExc_ValueError, "cyclic parent chain");
            return false;
        }
        if (green_of(p)->thread) {
            *ret_thread = green_of(p)->thread;
        }
    }
    return true;
}

int fibril__green_set_parent(PyGreenlet *self, PyObject *parent, void *unused)
{
    struct green *g = green_of(self);
    struct green_thread *t;
    if (!parent) {
        PyErr_SetString(PyExc_AttributeError, "can't delete attribute");
        return -1;
    }
    if (g->main) {
        PyErr_SetString(PyExc_AttributeError, "cannot set the parent of a main greenlet");
        return -1;
    }
    if (!green_check(parent)) {
        PyErr_Format(PyExc_TypeError, "GreenletChecker: Expected any type of greenlet, not %s",
                     Py_TYPE(parent)->tp_name);
        return -1;
    }
    if (!follow(self, (PyGreenlet *)parent, &t)) {
        return -1;
    }
    if (!t || (g->thread && g->thread != t)) {
        PyErr_SetString(PyExc_ValueError, t ? "parent cannot be on a different thread"
                                            : "parent must not be garbage collected");
        return -1;
    }
    Py_XSETREF(g->parent, (PyGreenlet *)Py_NewRef(parent));
    return 0;
}

static PyObject *get_frame(PyGreenlet *self, void *unused)
{
    struct green *g = green_of(self);
    PyObject *frame = NULL;
    if (g->state == GREEN_ACTIVE && !is_running(g) && !is_dead(g)) {
        frame = fibril__pyslice_frame(&g->slice, PyThreadState_Get());
    }
    return frame || PyErr_Occurred() ? frame : Py_NewRef(Py_None);
}

/* ---- the context of contextvars ---- */

/* The field that holds it now. NULL with an exception. */
static PyObject **context_of(struct green *g, const char *what)
{
    if (!is_running(g)) {
        return &g->slice.context;
    }
    PyThreadState *ts = PyThreadState_Get();
    if (g->thread->ts == ts) {
        return &ts->context;
    }
    PyErr_Format(PyExc_ValueError,
                 "cannot %s context of a greenlet that is running in a different thread", what);
    return NULL;
}

static PyObject *get_context(PyGreenlet *self, void *unused)
{
    PyObject **context = context_of(green_of(self), "get");
    return context ? Py_NewRef(*context ? *context : Py_None) : NULL;
}

static int set_context(PyGreenlet *self, PyObject *value, void *unused)
{
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "can't delete context attribute");
        return -1;
    }
    if (value != Py_None && !PyContext_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "greenlet context must be a contextvars.Context or None");
        return -1;
    }
    PyObject **context = context_of(green_of(self), "set");
    if (!context) {
        return -1;
    }
    PyObject *old = *context;
    *context = value == Py_None ? NULL : Py_NewRef(value);
    PyThreadState_Get()->context_ver++;
    Py_XDECREF(old);
    return 0;
}

/* ---- stacks ---- */

static PyObject *get_saved(PyGreenlet *self, void *unused)
{
    struct green *g = green_of(self);
    bool counts = g->state == GREEN_ACTIVE && !g->main && !is_running(g);
    return PyLong_FromSize_t(counts ? fibril__nested_saved(&g->nested) : 0);
}

static PyObject *get_stack(PyGreenlet *self, void *unused)
{
    const struct green *g = green_of(self);
    return PyUnicode_FromString(g->main ? "thread" : g->own_stack ? "own" : "copied");
}

static int set_stack(PyGreenlet *self, PyObject *value, void *unused)
{
    struct green *g = green_of(self);
    bool own =
        value && PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "own") == 0;
    if (!own && !(value && PyUnicode_Check(value) &&
                  PyUnicode_CompareWithASCIIString(value, "copied") == 0)) {
        PyErr_SetString(PyExc_ValueError, "gr_stack is 'copied' or 'own'");
        return -1;
    }
    if (g->state != GREEN_NEW) {
        PyErr_SetString(PyExc_AttributeError, "the greenlet has begun on its stack");
        return -1;
    }
    g->own_stack = own;
    return 0;
}

/* ---- for people ---- */

static PyObject *green_repr(PyGreenlet *self)
{
    struct green *g = green_of(self);
    const char *name = Py_TYPE(self)->tp_name;
    bool exited = g->thread && !g->thread->ts;
    if (is_dead(g)) {
        return PyUnicode_FromFormat("<%s object at %p (otid=%p) %sdead>", name, self, g->thread,
                                    exited ? "(thread exited) " : "");
    }
    bool here = is_running(g) && g->thread->ts == PyThreadState_Get();
    const char *where = exited      ? " (thread exited)"
                        : here      ? " current"
                        : g->thread ? " suspended"
                                    : "";
    return PyUnicode_FromFormat("<%s object at %p (otid=%p)%s%s%s%s>", name, self, g->thread, where,
                                g->state == GREEN_ACTIVE ? " active" : "",
                                g->state == GREEN_NEW ? " pending" : " started",
                                g->main ? " main" : "");
}

static PyMethodDef methods[] = {
    {"switch", (PyCFunction)(void (*)(void))green_switch, METH_FASTCALL | METH_KEYWORDS,
     switch_doc},
    {"throw", (PyCFunction)(void (*)(void))green_throw, METH_VARARGS, throw_doc},
    {"__getstate__", (PyCFunction)(void (*)(void))green_getstate, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef attributes[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"run", (getter)get_run, (setter)set_run, "The function, until the greenlet begins.", NULL},
    {"parent", (getter)get_parent, (setter)fibril__green_set_parent,
     "Who gets the result, or the exception.", NULL},
    {"dead", (getter)get_dead, NULL, "Whether it has ended.", NULL},
    {"gr_frame", (getter)get_frame, NULL, "The innermost frame while it is suspended.", NULL},
    {"gr_context", (getter)get_context, (setter)set_context, "Its contextvars.Context.", NULL},
    {"gr_stack", (getter)get_stack, (setter)set_stack,
     "'copied' or 'own'; 'thread' for main ones. Until the greenlet begins it can be set.", NULL},
    {"_stack_saved", (getter)get_saved, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyNumberMethods as_number = {.nb_bool = (inquiry)(void (*)(void))green_bool};

PyDoc_STRVAR(type_doc,
             "greenlet(run=None, parent=None)\n--\n\n"
             "A function that runs on a stack of its own and passes control by switch(). parent,\n"
             "the current greenlet unless given, gets its result.");

PyTypeObject fibril__green_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "greenlet.greenlet",
    .tp_basicsize = sizeof(PyGreenlet),
    .tp_dealloc = fibril__green_dealloc,
    .tp_repr = (reprfunc)(void (*)(void))green_repr,
    .tp_as_number = &as_number,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = type_doc,
    .tp_traverse = fibril__green_traverse,
    .tp_clear = fibril__green_clear,
    .tp_weaklistoffset = offsetof(PyGreenlet, weakreflist),
    .tp_methods = methods,
    .tp_getset = attributes,
    .tp_dictoffset = offsetof(PyGreenlet, dict),
    .tp_init = (initproc)(void (*)(void))green_init,
    .tp_alloc = PyType_GenericAlloc,
    .tp_new = green_new,
    .tp_free = PyObject_GC_Del,
    .tp_finalize = fibril__green_finalize,
    .tp_vectorcall = green_vectorcall,
};

int fibril__green_type_init(void)
{
    no_arguments = PyTuple_New(0);
    return no_arguments ? PyType_Ready(&fibril__green_type) : -1;
}
