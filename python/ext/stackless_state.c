/* SPDX-License-Identifier: MIT */
/*
 * What a tasklet is given and what it shows: functions and arguments, its thread, flags, places.
 */
#include "stackless_core.h"

/* ---- binding ---- */

static int fail(const char *text)
{
    PyErr_SetString(PyExc_RuntimeError, text);
    return -1;
}

/* Of a call without arguments only the function is kept. */
static PyObject *call_of(PyObject *fn, PyObject *args, PyObject *kwargs)
{
    bool bare = PyTuple_GET_SIZE(args) == 0 && !kwargs && PyVectorcall_Function(fn) &&
                !PyTuple_CheckExact(fn);
    return bare ? Py_NewRef(fn) : PyTuple_Pack(3, fn, args, kwargs ? kwargs : Py_None);
}

static int set_up(struct tasklet *t, PyObject *args, PyObject *kwargs)
{
    if (!t->world->ts) {
        return fail("tasklet has no thread");
    }
    if (!t->value || t->value == Py_None) {
        return fail("the tasklet was not bound to a function");
    }
    PyObject *call = call_of(t->value, args, kwargs);
    PyObject *context =
        fibril__pystate_context(PyThreadState_Get()) ? PyContext_CopyCurrent() : NULL;
    if (!call || PyErr_Occurred()) {
        Py_XDECREF(call);
        Py_XDECREF(context);
        return -1;
    }
    if (!t->slice.context) {
        t->slice.context = context;
    } else {
        Py_XDECREF(context);
    }
    Py_XSETREF(t->call, call);
    t->begun = t->ended = false;
    tasklet_set_value(t, Py_NewRef(Py_None));
    return 0;
}

static int check_bind(const struct tasklet *t, PyObject *fn, bool plain)
{
    if (fn && !PyCallable_Check(fn)) {
        PyErr_SetString(PyExc_TypeError, "tasklet function must be a callable or None");
        return -1;
    }
    if (t->world->ts && t->world->current == t && t->world->turn == t) {
        return fail("can't (re)bind the current tasklet");
    }
    if (t->place != AT_NONE) {
        return fail("tasklet is scheduled");
    }
    if (t->main && plain) {
        return fail("can't unbind the main tasklet");
    }
    if (t->begun && !t->ended) {
        return fail("tasklet has C state on its stack");
    }
    return 0;
}

static PyObject *or_null(PyObject *o)
{
    return o == Py_None ? NULL : o;
}

int fibril__slp_bind_to(struct tasklet *t, PyObject *fn, PyObject *args, PyObject *kwargs)
{
    fn = or_null(fn);
    args = or_null(args);
    kwargs = or_null(kwargs);
    if (check_bind(t, fn, !args && !kwargs) < 0) {
        return -1;
    }
    Py_CLEAR(t->call);
    if (!args && !kwargs) {
        tasklet_set_value(t, Py_NewRef(fn ? fn : Py_None));
        return 0;
    }
    PyObject *before = NULL, *all = args ? PySequence_Tuple(args) : PyTuple_New(0);
    if (!all) {
        return -1;
    }
    if (fn) {
        before = t->value;
        t->value = Py_NewRef(fn);
    }
    int rc = set_up(t, all, kwargs);
    Py_DECREF(all);
    if (rc < 0 && before) {
        tasklet_set_value(t, before);
    } else {
        Py_XDECREF(before);
    }
    return rc;
}

PyObject *fibril__slp_bind(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"func", "args", "kwargs", NULL};
    PyObject *fn = Py_None, *a = Py_None, *k = Py_None;
    if (!fibril__slp_world() ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:bind", names, &fn, &a, &k) ||
        fibril__slp_bind_to(tasklet_of(self), fn, a, k) < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

PyObject *fibril__slp_setup(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct tasklet *t = tasklet_of(self);
    if (!fibril__slp_world()) {
        return NULL;
    }
    if (tasklet_alive(t)) {
        fail("tasklet is alive");
        return NULL;
    }
    if (set_up(t, args, kwargs) < 0 || fibril__slp_insert(t) < 0) {
        return NULL;
    }
    fibril__slp_ring_hide(t);
    return Py_NewRef(self);
}

/* ---- threads ---- */

PyObject *fibril__slp_bind_thread(PyObject *self, PyObject *args)
{
    long id = -1;
    struct tasklet *t = tasklet_of(self);
    struct world *here = fibril__slp_world(), *to;
    PyObject *number = NULL;
    if (!here || !PyArg_ParseTuple(args, "|O:bind_thread", &number)) {
        return NULL;
    }
    if (number) {
        id = (long)PyLong_AsUnsignedLongMask(number);
        if (id == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (id == -1 && t->world == here) {
        Py_RETURN_NONE;
    }
    if (t->place == AT_RING || t->place == AT_OUT) {
        fail("can't (re)bind a runnable tasklet");
        return NULL;
    }
    if (t->begun && !t->ended) {
        fail("tasklet has C state on its stack");
        return NULL;
    }
    for (to = id == -1 ? here : fibril__slp_worlds(); to && id != -1; to = to->next_world) {
        if (to->thread_id == (unsigned long)id) {
            break;
        }
    }
    if (!to) {
        PyErr_SetString(PyExc_ValueError, "bad thread");
        return NULL;
    }
    bool ended = t->ended;
    fibril__slp_abandon(t); /* the stack it may have been given is of the old one's loop */
    t->ended = ended;
    to->refs++;
    fibril__slp_world_unref(t->world);
    t->world = to;
    Py_RETURN_NONE;
}

static PyObject *get_thread_id(PyObject *self, void *unused)
{
    (void)unused;
    const struct world *w = tasklet_of(self)->world;
    return w->ts ? PyLong_FromUnsignedLong(w->thread_id) : PyLong_FromLong(-1);
}

/* ---- flags ---- */

static int flag_of(PyObject *o, const char *text)
{
    if (!PyLong_Check(o)) {
        PyErr_SetString(PyExc_TypeError, text);
        return -1;
    }
    return PyObject_IsTrue(o);
}

PyObject *fibril__slp_set_atomic(PyObject *self, PyObject *flag)
{
    int to = flag_of(flag, "set_atomic needs exactly one bool or integer");
    bool was = tasklet_of(self)->atomic;
    if (to < 0) {
        return NULL;
    }
    tasklet_of(self)->atomic = to;
    return PyBool_FromLong(was);
}

PyObject *fibril__slp_set_ignore_nesting(PyObject *self, PyObject *flag)
{
    int to = flag_of(flag, "set_ignore_nesting needs exactly one bool or integer");
    bool was = tasklet_of(self)->ignore_nesting;
    if (to < 0) {
        return NULL;
    }
    tasklet_of(self)->ignore_nesting = to;
    return PyBool_FromLong(was);
}

static int set_block_trap(PyObject *self, PyObject *flag, void *unused)
{
    (void)unused;
    int to = flag ? flag_of(flag, "block_trap must be set to a bool or integer") : 0;
    if (to >= 0) {
        tasklet_of(self)->block_trap = to;
    }
    return to < 0 ? -1 : 0;
}

PyObject *fibril__slp_set_context(PyObject *self, PyObject *context)
{
    struct tasklet *t = tasklet_of(self);
    if (!PyContext_CheckExact(context)) {
        PyErr_SetString(PyExc_TypeError, "set_context needs a contextvars.Context");
        return NULL;
    }
    if (t->world->turn == t) {
        fail("set_context: the tasklet is running");
        return NULL;
    }
    Py_XSETREF(t->slice.context, Py_NewRef(context));
    return Py_NewRef(self);
}

/* ---- attributes ---- */

#define FLAG(name, expression)                                                                     \
    static PyObject *get_##name(PyObject *self, void *unused)                                      \
    {                                                                                              \
        const struct tasklet *t = tasklet_of(self);                                                \
        (void)unused;                                                                              \
        return PyBool_FromLong(expression);                                                        \
    }

static bool is_current(const struct tasklet *t)
{
    return t->world->ts && t->world->turn == t;
}

FLAG(alive, tasklet_alive(t))
FLAG(paused, tasklet_alive(t) && t->place == AT_NONE)
FLAG(blocked, t->blocked != 0)
FLAG(scheduled, t->place != AT_NONE)
FLAG(atomic, t->atomic)
FLAG(ignore_nesting, t->ignore_nesting)
FLAG(block_trap, t->block_trap)
FLAG(is_main, t->main)
FLAG(is_current, is_current(t))

static PyObject *get_restorable(PyObject *self, void *unused)
{
    (void)unused;
    int rc = fibril__slp_restorable(tasklet_of(self));
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *or_none(struct tasklet *t)
{
    return Py_NewRef(t ? object_of(t) : Py_None);
}

static PyObject *get_next(PyObject *self, void *unused)
{
    (void)unused;
    return or_none(tasklet_of(self)->next);
}

static PyObject *get_prev(PyObject *self, void *unused)
{
    (void)unused;
    return or_none(tasklet_of(self)->prev);
}

static PyObject *get_channel(PyObject *self, void *unused)
{
    (void)unused;
    const struct tasklet *t = tasklet_of(self);
    return Py_NewRef(t->place == AT_QUEUE ? (PyObject *)t->channel : Py_None);
}

static PyObject *get_frame(PyObject *self, void *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    PyObject *frame = NULL;
    if (is_current(t)) {
        frame = (PyObject *)PyThreadState_GetFrame(t->world->ts);
    } else if (t->begun && !t->ended && t->world->ts && t->world->ts == PyThreadState_Get()) {
        frame = fibril__pyslice_frame(&t->slice, t->world->ts);
    }
    if (!frame && PyErr_Occurred()) {
        return NULL;
    }
    return frame ? frame : Py_NewRef(Py_None);
}

static PyObject *get_recursion_depth(PyObject *self, void *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    if (is_current(t)) {
        return PyLong_FromLong(fibril__pyslice_depth(t->world->ts));
    }
    return PyLong_FromLong(t->begun && !t->ended ? t->slice.depth : 0);
}

static PyObject *get_nesting_level(PyObject *self, void *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    int level = 0;
    if (is_current(t)) {
        level = fibril__pystate_nesting(t->world->ts);
    } else if (t->begun && !t->ended && t->world->ts) {
        level = fibril__pyslice_nesting(&t->slice, fibril__slp_at, t);
    }
    return PyLong_FromLong(level);
}

static PyObject *get_value(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *value = tasklet_of(self)->value;
    return Py_NewRef(!value ? Py_None : value == TASKLET_ITSELF ? self : value);
}

static int set_value(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    tasklet_set_value(tasklet_of(self), Py_NewRef(value ? value : Py_None));
    return 0;
}

PyGetSetDef fibril__slp_tasklet_attributes[] = {
    {"alive", get_alive, NULL, "has something to run that has not ended", NULL},
    {"paused", get_paused, NULL, "alive, and neither runnable nor blocked", NULL},
    {"blocked", get_blocked, NULL, "waits in a channel", NULL},
    {"scheduled", get_scheduled, NULL, "runnable, or blocked, or waiting for I/O", NULL},
    {"atomic", get_atomic, NULL, "run() may not interrupt it", NULL},
    {"ignore_nesting", get_ignore_nesting, NULL, "run() may interrupt it at any depth", NULL},
    {"block_trap", get_block_trap, set_block_trap, "blocking in a channel is an error", NULL},
    {"is_main", get_is_main, NULL, "the main one of its thread", NULL},
    {"is_current", get_is_current, NULL, "the running one of its thread", NULL},
    {"restorable", get_restorable, NULL, "can be pickled and go on elsewhere", NULL},
    {"next", get_next, NULL, "the next one in the ring or queue, or None", NULL},
    {"prev", get_prev, NULL, "the previous one in the ring or queue, or None", NULL},
    {"_channel", get_channel, NULL, "the channel in which it is blocked, or None", NULL},
    {"frame", get_frame, NULL, "its innermost Python frame, or None", NULL},
    {"thread_id", get_thread_id, NULL, "its thread's identity, -1 if that has ended", NULL},
    {"recursion_depth", get_recursion_depth, NULL, "Python calls under way", NULL},
    {"nesting_level", get_nesting_level, NULL,
     "loops of the interpreter that C code has started in it", NULL},
    {"tempval", get_value, set_value, "what it goes on with", NULL},
    {NULL, NULL, NULL, NULL, NULL}};
