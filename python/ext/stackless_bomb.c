/* SPDX-License-Identifier: MIT */
/*
 * Bombs: an exception as a value, which goes off in the tasklet that receives it.
 */
#include "stackless_core.h"

#include <structmember.h>

struct bomb {
    PyObject_HEAD PyObject *type, *value, *traceback; /* NULL: not set */
};

PyTypeObject *fibril__slp_bomb;

/* ---- making ---- */

static PyObject *make(PyObject *type, PyObject *value, PyObject *traceback)
{
    struct bomb *b = PyObject_GC_New(struct bomb, fibril__slp_bomb);
    if (!b) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return NULL;
    }
    b->type = type;
    b->value = value;
    b->traceback = traceback;
    PyObject_GC_Track(b);
    return (PyObject *)b;
}

PyObject *fibril__slp_bomb_current(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value) { /* what has been thrown to one outside makes an instance of another class */
        Py_SETREF(type, Py_NewRef((PyObject *)Py_TYPE(value)));
    }
    return make(type, value, traceback);
}

PyObject *fibril__slp_bomb_class(PyObject *klass, PyObject *args)
{
    if (!PyExceptionClass_Check(klass)) {
        if (PyExceptionInstance_Check(klass) && PyTuple_GET_SIZE(args) == 0) {
            return make(Py_NewRef((PyObject *)Py_TYPE(klass)), Py_NewRef(klass), NULL);
        }
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes derived from BaseException");
        return NULL;
    }
    PyObject *value = PyObject_Call(klass, args, NULL);
    if (!value) {
        return NULL;
    }
    return make(Py_NewRef((PyObject *)Py_TYPE(value)), value, NULL);
}

static PyObject *or_null(PyObject *o)
{
    return o == Py_None ? NULL : Py_XNewRef(o);
}

/* As the `raise` statement with three parts did. */
PyObject *fibril__slp_bomb_throw(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (traceback && traceback != Py_None && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return NULL;
    }
    if (PyExceptionClass_Check(type)) {
        PyObject *t = Py_NewRef(type), *v = or_null(value), *tb = or_null(traceback);
        PyErr_NormalizeException(&t, &v, &tb);
        if (tb && PyException_SetTraceback(v, tb) < 0) {
            PyErr_Clear();
        }
        return make(t, v, tb);
    }
    if (!PyExceptionInstance_Check(type)) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes, or instances, not %s",
                     Py_TYPE(type)->tp_name);
        return NULL;
    }
    if (value && value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
        return NULL;
    }
    PyObject *tb =
        traceback && traceback != Py_None ? Py_NewRef(traceback) : PyException_GetTraceback(type);
    return make(Py_NewRef((PyObject *)Py_TYPE(type)), Py_NewRef(type), tb);
}

PyObject *fibril__slp_bomb_explode(PyObject *bomb)
{
    struct bomb *b = (struct bomb *)bomb;
    PyErr_Restore(Py_XNewRef(b->type), Py_XNewRef(b->value), Py_XNewRef(b->traceback));
    Py_DECREF(bomb);
    return NULL;
}

bool fibril__slp_bomb_is_exit(PyObject *bomb)
{
    const struct bomb *b = (const struct bomb *)bomb;
    return b->type && PyErr_GivenExceptionMatches(b->type, fibril__slp_exit);
}

/* ---- the type ---- */

static PyObject *new_bomb(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"type", "value", "traceback", NULL};
    PyObject *t = NULL, *v = NULL, *tb = NULL, *inside = NULL;
    (void)type;
    if (PyTuple_GET_SIZE(args) == 1 && PyTuple_Check(PyTuple_GET_ITEM(args, 0))) {
        args = inside = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    }
    int ok = PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:bomb", names, &t, &v, &tb);
    if (ok && t && t != Py_None && !PyExceptionClass_Check(t)) {
        PyErr_SetString(PyExc_TypeError, "type must be an exception class or None");
        ok = 0;
    }
    if (ok && tb && tb != Py_None && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError, "traceback must be a traceback or None");
        ok = 0;
    }
    PyObject *b = ok ? make(or_null(t), or_null(v), or_null(tb)) : NULL;
    Py_XDECREF(inside);
    return b;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    struct bomb *b = (struct bomb *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(b->type);
    Py_VISIT(b->value);
    Py_VISIT(b->traceback);
    return 0;
}

static int clear(PyObject *self)
{
    struct bomb *b = (struct bomb *)self;
    Py_CLEAR(b->type);
    Py_CLEAR(b->value);
    Py_CLEAR(b->traceback);
    return 0;
}

static PyObject *reduce(PyObject *self, PyObject *unused)
{
    struct bomb *b = (struct bomb *)self;
    (void)unused;
    return Py_BuildValue("O(OO)", Py_TYPE(self), b->type ? b->type : Py_None,
                         b->value ? b->value : Py_None);
}

static PyMemberDef members[] = {
    {"type", T_OBJECT, offsetof(struct bomb, type), READONLY, "the exception's class"},
    {"value", T_OBJECT, offsetof(struct bomb, value), READONLY, "the exception"},
    {"traceback", T_OBJECT, offsetof(struct bomb, traceback), READONLY, "its traceback, or None"},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef methods[] = {
    {"__reduce__", reduce, METH_NOARGS, "for pickle; the traceback is left out"},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(bomb_doc, "bomb(type=None, value=None, traceback=None)\n--\n\n"
                       "An exception as a value: the tasklet that receives it raises it.");

static PyType_Slot slots[] = {{Py_tp_new, new_bomb},
                              {Py_tp_dealloc, fibril__py_dealloc},
                              {Py_tp_traverse, traverse},
                              {Py_tp_clear, clear},
                              {Py_tp_members, members},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, (void *)(uintptr_t)bomb_doc},
                              {0, NULL}};

static PyType_Spec spec = {.name = "stackless.bomb",
                           .basicsize = sizeof(struct bomb),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                           .slots = slots};

int fibril__slp_bomb_init(PyObject *module)
{
    return fibril__slp_add_type(module, &spec, "_stackless_bomb", &fibril__slp_bomb);
}
