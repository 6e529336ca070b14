/* SPDX-License-Identifier: MIT */
/*
 * Tasklets as data: a tasklet that has not begun, or has ended, is its function, arguments and
 * flags. One that is suspended cannot be pickled: see docs/stackless.md for why.
 */
#include "stackless_core.h"

static PyObject *pickling_error(const char *text, PyObject *what)
{
    PyObject *module = PyImport_ImportModule("pickle");
    PyObject *type = module ? PyObject_GetAttrString(module, "PicklingError") : NULL;
    if (type) {
        PyErr_Format(type, "%s: %R", text, what);
    }
    Py_XDECREF(type);
    Py_XDECREF(module);
    return NULL;
}

PyObject *fibril__slp_reduce(PyObject *self, PyObject *unused)
{
    struct tasklet *t = tasklet_of(self);
    (void)unused;
    if (t->main || t->world->current == t) {
        PyErr_SetString(PyExc_RuntimeError, "You cannot __reduce__ the tasklet which is current.");
        return NULL;
    }
    if (t->begun && !t->ended) {
        return pickling_error("a tasklet that has begun cannot be pickled", self);
    }
    int flags =
        t->atomic | t->ignore_nesting << 1 | t->block_trap << 2 | (t->place == AT_RING) << 3;
    return Py_BuildValue("O()(iOO)", Py_TYPE(self), flags, t->value, t->call ? t->call : Py_None);
}

PyObject *fibril__slp_setstate(PyObject *self, PyObject *state)
{
    struct tasklet *t = tasklet_of(self);
    int flags;
    PyObject *value, *call;
    if (!PyArg_ParseTuple(state, "iOO:tasklet", &flags, &value, &call)) {
        return NULL;
    }
    if (tasklet_alive(t)) {
        PyErr_SetString(PyExc_RuntimeError, "tasklet is alive");
        return NULL;
    }
    if (call != Py_None && (!PyTuple_CheckExact(call) || PyTuple_GET_SIZE(call) != 3 ||
                            !PyTuple_Check(PyTuple_GET_ITEM(call, 1)))) {
        PyErr_SetString(PyExc_TypeError, "no call of a tasklet");
        return NULL;
    }
    t->atomic = flags & 1;
    t->ignore_nesting = flags >> 1 & 1;
    t->block_trap = flags >> 2 & 1;
    tasklet_set_value(t, Py_NewRef(value));
    Py_XSETREF(t->call, call == Py_None ? NULL : Py_NewRef(call));
    t->ended = false;
    if (flags >> 3 & 1 && t->call && fibril__slp_insert(t) < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}
