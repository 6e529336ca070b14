/* SPDX-License-Identifier: MIT */
/*
 * Tasklets as data: its call (function, arguments), what it goes on with, flags and the channel in
 * which it waits. One that is suspended is a call of fibril/_stackless_pickle.py's resume(), with
 * its frames as the argument; so one that was loaded is as good as one that was just set up. See
 * docs/stackless-pickling.md.
 */
#include "stackless_core.h"

/* What the module with the frames' meaning says to function(a, b); b may be NULL. */
static PyObject *ask(const char *function, PyObject *a, PyObject *b)
{
    PyObject *module = PyImport_ImportModule("fibril._stackless_pickle");
    PyObject *fn = module ? PyObject_GetAttrString(module, function) : NULL;
    PyObject *result = fn ? PyObject_CallFunctionObjArgs(fn, a, b, NULL) : NULL;
    Py_XDECREF(fn);
    Py_XDECREF(module);
    return result;
}

static bool is_suspended(const struct tasklet *t)
{
    return t->begun && !t->ended;
}

int fibril__slp_restorable(struct tasklet *t)
{
    if (t->main || !is_suspended(t)) {
        return !t->main;
    }
    PyObject *obstacle = ask("obstacle", object_of(t), NULL);
    int restorable = obstacle == Py_None;
    Py_XDECREF(obstacle);
    return obstacle ? restorable : -1;
}

static PyObject *unstarted(const struct tasklet *t)
{
    bool bare = t->call && !PyTuple_CheckExact(t->call);
    PyObject *call = bare ? Py_BuildValue("(O()O)", t->call, Py_None) : t->call;
    PyObject *result = bare && !call ? NULL : ask("unstarted", t->value, call ? call : Py_None);
    if (bare) {
        Py_XDECREF(call);
    }
    return result;
}

PyObject *fibril__slp_reduce(PyObject *self, PyObject *unused)
{
    struct tasklet *t = tasklet_of(self);
    (void)unused;
    if (t->main || t->world->current == t) {
        PyErr_SetString(PyExc_RuntimeError, "You cannot __reduce__ the tasklet which is current.");
        return NULL;
    }
    int flags =
        t->atomic | t->ignore_nesting << 1 | t->block_trap << 2 | (t->place == AT_RING) << 3;
    PyObject *both = is_suspended(t) ? ask("suspended", self, t->value) : unstarted(t);
    if (!both) {
        return NULL;
    }
    PyObject *value = PyTuple_GET_ITEM(both, 0), *call = PyTuple_GET_ITEM(both, 1);
    PyObject *channel = t->place == AT_QUEUE ? (PyObject *)t->channel : Py_None;
    PyObject *result = Py_BuildValue("O()(iOOO)", Py_TYPE(self), flags, value, call, channel);
    Py_DECREF(both);
    return result;
}

/* A channel puts those that wait in it into its queue itself: perhaps it has already. */
PyObject *fibril__slp_setstate(PyObject *self, PyObject *state)
{
    struct tasklet *t = tasklet_of(self);
    int flags;
    PyObject *value, *call, *channel = NULL;
    if (!PyArg_ParseTuple(state, "iOO|O:tasklet", &flags, &value, &call, &channel)) {
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
