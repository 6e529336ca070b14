/* SPDX-License-Identifier: MIT */
/*
 * The tasklet type: what runs, stops and ends tasklets. Attributes and setting up are in
 * stackless_state.c.
 */
#include "stackless_core.h"

#include <structmember.h>

PyTypeObject *fibril__slp_tasklet;
PyObject *fibril__slp_exit;

static PyObject *fail(PyObject *type, const char *text)
{
    PyErr_SetString(type, text);
    return NULL;
}

/* ---- insert, remove ---- */

int fibril__slp_insert(struct tasklet *t)
{
    if (t->blocked) {
        PyErr_SetString(PyExc_RuntimeError, "You cannot run a blocked tasklet");
        return -1;
    }
    if (t->place != AT_NONE) {
        return 0;
    }
    if (!t->world->ts) {
        PyErr_SetString(PyExc_RuntimeError, "Target thread isn't initialized");
        return -1;
    }
    if (!tasklet_alive(t)) {
        PyErr_SetString(PyExc_RuntimeError, "You cannot run an unbound(dead) tasklet");
        return -1;
    }
    Py_INCREF(t);
    fibril__slp_ring_append(t->world, t);
    if (t->world->ts != PyThreadState_Get()) {
        fibril__slp_world_nudge(t->world);
    }
    return 0;
}

PyDoc_STRVAR(insert_doc, "insert()\n--\n\nPuts the tasklet at the end of the runnable ones.");

static PyObject *insert(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fibril__slp_world() && fibril__slp_insert(tasklet_of(self)) == 0 ? Py_NewRef(self)
                                                                            : NULL;
}

PyDoc_STRVAR(remove_doc, "remove()\n--\n\nTakes the tasklet out of the runnable ones.");

static PyObject *remove_tasklet(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    if (!fibril__slp_world()) {
        return NULL;
    }
    if (t->place == AT_QUEUE) {
        return fail(PyExc_RuntimeError, "You cannot remove a blocked tasklet.");
    }
    if (t->world->ts && t == t->world->current && t->world->turn == t) {
        return fail(PyExc_RuntimeError, "The current tasklet cannot be removed.");
    }
    if (t->place == AT_RING) {
        fibril__slp_ring_remove(t->world, t);
        Py_DECREF(t);
    }
    return Py_NewRef(self);
}

/* ---- run, switch ---- */

/* Of another thread: it goes on there, after the one that runs now. */
static PyObject *run_there(struct tasklet *t)
{
    if (!t->world->ts) {
        return fail(PyExc_RuntimeError, "tasklet has no thread");
    }
    struct world *there = t->world;
    bool was_free = t->place == AT_NONE;
    if (fibril__slp_insert(t) < 0) {
        return NULL;
    }
    if (was_free && there->current != t) {
        fibril__slp_ring_remove(there, t);
        (there->turn ? fibril__slp_ring_follow : fibril__slp_ring_first)(there, t);
    }
    fibril__slp_world_nudge(there);
    Py_RETURN_NONE;
}

static PyObject *run_here(struct world *w, struct tasklet *t, bool remove)
{
    struct tasklet *prev = w->current;
    bool was_free = t->place == AT_NONE;
    if (fibril__slp_insert(t) < 0) {
        return NULL;
    }
    bool removed = remove && prev != t;
    if (removed) {
        fibril__slp_ring_remove(w, prev);
        w->dead = prev;
    }
    PyObject *result = fibril__slp_go(w, prev, t);
    if (!result && w->refused) {
        if (removed) {
            w->dead = NULL;
            fibril__slp_ring_first(w, prev);
        }
        if (was_free && t->place == AT_RING) {
            fibril__slp_ring_remove(w, t);
            Py_DECREF(t);
        }
    }
    return result;
}

PyDoc_STRVAR(run_doc, "run()\n--\n\nRuns the tasklet now; the caller stays runnable.");

static PyObject *run_tasklet(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    struct world *w = fibril__slp_world();
    if (!w) {
        return NULL;
    }
    return t->world == w ? run_here(w, t, false) : run_there(t);
}

PyDoc_STRVAR(switch_doc, "switch()\n--\n\nRuns the tasklet now, and pauses the caller.");

static PyObject *switch_tasklet(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct tasklet *t = tasklet_of(self);
    struct world *w = fibril__slp_world();
    if (!w) {
        return NULL;
    }
    if (t->world != w) {
        return fail(PyExc_RuntimeError,
                    t->world->ts ? "can't switch to a different thread." : "tasklet has no thread");
    }
    return run_here(w, t, true);
}

/* ---- throwing ---- */

/* TaskletExit to one that has not begun, or has ended, is all there is to do. */
static PyObject *throw_to_dead(struct tasklet *t, PyObject *bomb)
{
    bool exits = fibril__slp_bomb_is_exit(bomb);
    Py_DECREF(bomb);
    if (!exits) {
        return fail(PyExc_RuntimeError,
                    t->world->ts ? "You cannot throw to a dead tasklet" : "tasklet has no thread");
    }
    Py_RETURN_NONE;
}

static PyObject *throw_later(struct tasklet *t, PyObject *bomb)
{
    if (!t->world->ts) {
        Py_DECREF(bomb);
        return fail(PyExc_RuntimeError, "Target thread isn't initialised");
    }
    tasklet_set_value(t, bomb);
    if (t->place == AT_QUEUE) {
        fibril__slp_queue_remove(t);
        fibril__slp_ring_append(t->world, t);
        fibril__slp_world_nudge(t->world);
    } else if (fibril__slp_insert(t) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* One whose wait cannot be ended at once hears of it when the wait has. */
static PyObject *throw_out(struct world *w, struct tasklet *t, bool pending, PyObject *bomb)
{
    int rc = fibril__slp_throw_out(t, bomb);
    if (rc < 0) {
        return NULL;
    }
    if (rc == 0 || pending || t->world != w) {
        Py_RETURN_NONE;
    }
    return fibril__slp_go(w, w->current, t);
}

PyObject *fibril__slp_throw_bomb(struct world *w, struct tasklet *t, bool pending, PyObject *bomb)
{
    if (t == fibril__slp_running(w)) {
        return fibril__slp_bomb_explode(bomb);
    }
    if (!tasklet_alive(t)) {
        return throw_to_dead(t, bomb);
    }
    if (t->away) {
        return throw_out(w, t, pending, bomb);
    }
    if (pending) {
        return throw_later(t, bomb);
    }
    struct tasklet *prev = w->current;
    PyObject *before = t->value;
    t->value = bomb;
    PyObject *result = fibril__slp_go(w, prev, t);
    if (!result && w->refused) {
        t->value = before;
        Py_DECREF(bomb);
    } else {
        Py_XDECREF(before);
    }
    return result;
}

PyDoc_STRVAR(throw_doc,
             "throw(exc, val=None, tb=None, pending=False)\n--\n\n"
             "Raises an exception in the tasklet: now, or with pending=True when it runs next.");

static PyObject *throw_tasklet(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"exc", "val", "tb", "pending", NULL};
    PyObject *exc, *val = Py_None, *tb = Py_None;
    int pending = 0;
    struct world *w = fibril__slp_world();
    if (!w || !PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOp:throw", names, &exc, &val, &tb,
                                           &pending)) {
        return NULL;
    }
    PyObject *bomb = fibril__slp_bomb_throw(exc, val, tb);
    if (bomb && !tasklet_of(self)->world->ts) {
        Py_DECREF(bomb);
        return fail(PyExc_RuntimeError, "tasklet has no thread");
    }
    return bomb ? fibril__slp_throw_bomb(w, tasklet_of(self), pending, bomb) : NULL;
}

PyDoc_STRVAR(raise_doc, "raise_exception(exc_class, *args)\n--\n\n"
                        "Raises exc_class(*args) in the tasklet, now.");

static PyObject *raise_exception(PyObject *self, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1) {
        return fail(PyExc_TypeError, "raise_exception() takes at least 1 argument");
    }
    struct world *w = fibril__slp_world();
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    PyObject *bomb = rest ? fibril__slp_bomb_class(PyTuple_GET_ITEM(args, 0), rest) : NULL;
    Py_XDECREF(rest);
    return w && bomb ? fibril__slp_throw_bomb(w, tasklet_of(self), false, bomb) : NULL;
}

PyDoc_STRVAR(kill_doc, "kill(pending=False)\n--\n\nEnds the tasklet by TaskletExit.");

static PyObject *kill_tasklet(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pending", NULL};
    int pending = 0;
    struct world *w = fibril__slp_world();
    struct tasklet *t = tasklet_of(self);
    if (!w || !PyArg_ParseTupleAndKeywords(args, kwargs, "|p:kill", names, &pending)) {
        return NULL;
    }
    if (!t->world->ts) { /* it ended with its thread; what is left is its place */
        if (t->place == AT_QUEUE) {
            fibril__slp_queue_remove(t);
            Py_DECREF(t);
        }
        t->ended = true;
        Py_RETURN_NONE;
    }
    PyObject *bomb = fibril__slp_bomb_throw(fibril__slp_exit, NULL, NULL);
    return bomb ? fibril__slp_throw_bomb(w, t, pending, bomb) : NULL;
}

/* ---- the type ---- */

struct tasklet *fibril__slp_tasklet_new(PyTypeObject *type, struct world *w)
{
    struct tasklet *t = (struct tasklet *)type->tp_alloc(type, 0);
    if (t) {
        t->value = Py_NewRef(Py_None);
        t->world = w;
        w->refs++;
    }
    return t;
}

static PyObject *new_tasklet(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct world *w = fibril__slp_world();
    return w ? object_of(fibril__slp_tasklet_new(type, w)) : NULL;
}

static int init_tasklet(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"func", "args", "kwargs", NULL};
    PyObject *fn = Py_None, *a = Py_None, *k = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:tasklet", names, &fn, &a, &k)) {
        return -1;
    }
    if (fn == Py_None && a == Py_None && k == Py_None) {
        return 0;
    }
    return fibril__slp_bind_to(tasklet_of(self), fn, a, k);
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    struct tasklet *t = tasklet_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->value);
    Py_VISIT(t->call);
    if (t->main || !t->begun || t->ended || t->away || !t->world->ts || t->world->turn == t) {
        return 0; /* what is in the slice is stale, or elsewhere */
    }
    struct fibril__pycall call = {
        .self = t->place == AT_QUEUE ? (PyObject *)t->channel : fibril__slp_module,
        .end = t->stopped,
    };
    return fibril__pyslice_traverse(&t->slice, fibril__slp_at, t, &call, visit, arg);
}

static int clear(PyObject *self)
{
    struct tasklet *t = tasklet_of(self);
    if (!t->begun || t->ended) {
        Py_CLEAR(t->call);
    }
    if (!t->main) {
        tasklet_set_value(t, Py_NewRef(Py_None));
    }
    return 0;
}

/* One of another thread goes on there, to its end. */
static void end_there(struct tasklet *t)
{
    PyObject *bomb = fibril__slp_bomb_throw(fibril__slp_exit, NULL, NULL);
    PyObject *result = bomb ? throw_later(t, bomb) : NULL;
    if (!result) {
        PyErr_WriteUnraisable(object_of(t));
    }
    Py_XDECREF(result);
}

/* One that is suspended and that nobody can reach any more is killed: also one that waits in a
 * channel which only those can reach who wait there. */
static void finalize(PyObject *self)
{
    struct tasklet *t = tasklet_of(self);
    if (!t->begun || t->ended || t->main || (t->place != AT_NONE && t->place != AT_QUEUE)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct world *w = t->world->ts == PyThreadState_Get() ? fibril__slp_world() : NULL;
    if (w && w->current && w->current == w->turn) {
        int trap = w->switch_trap;
        w->switch_trap = 0;
        PyObject *bomb = fibril__slp_bomb_throw(fibril__slp_exit, NULL, NULL);
        PyObject *result = bomb ? fibril__slp_throw_bomb(w, t, false, bomb) : NULL;
        w->switch_trap = trap;
        if (!result) {
            PyErr_WriteUnraisable(self);
        }
        Py_XDECREF(result);
    } else if (t->world->ts && t->world->ts != PyThreadState_Get()) {
        end_there(t);
    }
    PyErr_Restore(type, value, traceback);
}

static void dealloc(PyObject *self)
{
    struct tasklet *t = tasklet_of(self);
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (t->weakrefs) {
        PyObject_ClearWeakRefs(self);
    }
    if (t->live) { /* perhaps by the garbage collector in another thread */
        fibril__slp_abandon(t);
    }
    Py_CLEAR(t->call);
    Py_CLEAR(t->value);
    fibril__pyslice_clear(&t->slice);
    if (t->world) {
        fibril__slp_world_unref(t->world);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"insert", insert, METH_NOARGS, insert_doc},
    {"remove", remove_tasklet, METH_NOARGS, remove_doc},
    {"run", run_tasklet, METH_NOARGS, run_doc},
    {"switch", switch_tasklet, METH_NOARGS, switch_doc},
    {"throw", (PyCFunction)(void (*)(void))throw_tasklet, METH_VARARGS | METH_KEYWORDS, throw_doc},
    {"raise_exception", raise_exception, METH_VARARGS, raise_doc},
    {"kill", (PyCFunction)(void (*)(void))kill_tasklet, METH_VARARGS | METH_KEYWORDS, kill_doc},
    {"bind", (PyCFunction)(void (*)(void))fibril__slp_bind, METH_VARARGS | METH_KEYWORDS,
     "bind(func=None, args=None, kwargs=None)\n--\n\nMakes func what the tasklet will run."},
    {"setup", (PyCFunction)(void (*)(void))fibril__slp_setup, METH_VARARGS | METH_KEYWORDS,
     "setup(*args, **kwargs)\n--\n\nGives the function its arguments and makes it runnable."},
    {"bind_thread", fibril__slp_bind_thread, METH_VARARGS,
     "bind_thread(thread_id=-1)\n--\n\nMakes it another thread's; -1: the caller's."},
    {"set_atomic", fibril__slp_set_atomic, METH_O,
     "set_atomic(flag)\n--\n\nWhether run() may interrupt it: no if True. Returns the old flag."},
    {"set_ignore_nesting", fibril__slp_set_ignore_nesting, METH_O,
     "set_ignore_nesting(flag)\n--\n\nReturns the old flag."},
    {"set_context", fibril__slp_set_context, METH_O,
     "set_context(context)\n--\n\nThe contextvars.Context in which it goes on."},
    {"__reduce__", fibril__slp_reduce, METH_NOARGS, "for pickle"},
    {"__reduce_ex__", fibril__slp_reduce, METH_O, "for pickle"},
    {"__setstate__", fibril__slp_setstate, METH_O, "for pickle"},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(tasklet_doc, "tasklet(func=None, args=None, kwargs=None)\n--\n\n"
                          "A green thread. Calling it gives func its arguments and makes it "
                          "runnable; with args or\nkwargs given here it is set up but not "
                          "runnable yet.");

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct tasklet, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, new_tasklet},
                              {Py_tp_init, init_tasklet},
                              {Py_tp_call, fibril__slp_setup},
                              {Py_tp_dealloc, dealloc},
                              {Py_tp_finalize, finalize},
                              {Py_tp_traverse, traverse},
                              {Py_tp_clear, clear},
                              {Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_getset, fibril__slp_tasklet_attributes},
                              {Py_tp_doc, (void *)(uintptr_t)tasklet_doc},
                              {0, NULL}};

static PyType_Spec spec = {.name = "stackless.tasklet",
                           .basicsize = sizeof(struct tasklet),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                           .slots = slots};

int fibril__slp_tasklet_init(PyObject *module)
{
    fibril__slp_exit = PyErr_NewExceptionWithDoc(
        "stackless.TaskletExit", "Ends a tasklet silently.", PyExc_SystemExit, NULL);
    if (!fibril__slp_exit ||
        fibril__slp_add_type(module, &spec, "_stackless_tasklet", &fibril__slp_tasklet) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "_stackless_TaskletExit", fibril__slp_exit);
}
