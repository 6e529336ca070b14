/* SPDX-License-Identifier: MIT */
/*
 * Switching. All that may run Python comes before a switch or after it: finding out who is to go on
 * may look up `run`, so what is carried stays with the caller until that is known. From then on
 * until the other has arrived nothing is allocated, freed or called but the switch itself.
 *
 * The greenlet that is current is owned by its thread. Whoever arrives owns the one that left, and
 * lets it go when the carried value is safe: that may be its last reference, and kill it.
 */
#include "greenlet_core.h"

/* ---- what is carried ---- */

static void drop(struct carry *c)
{
    Py_CLEAR(c->value);
    Py_CLEAR(c->kwargs);
}

/* The result of a switch. */
static PyObject *unpack_all(struct carry *c)
{
    PyObject *args = c->value, *kwargs = c->kwargs, *result;
    if (kwargs && PyDict_GET_SIZE(kwargs) > 0) {
        result = PyTuple_GET_SIZE(args) == 0 ? Py_NewRef(kwargs) : PyTuple_Pack(2, args, kwargs);
    } else {
        bool one = PyTuple_GET_SIZE(args) == 1;
        result = Py_NewRef(one ? PyTuple_GET_ITEM(args, 0) : args);
    }
    Py_DECREF(args);
    Py_XDECREF(kwargs);
    return result;
}

static inline PyObject *unpack(struct carry *c)
{
    return c->value && c->all ? unpack_all(c) : c->value;
}

/* ---- may it be switched to ---- */

/* The thread to which g belongs, or will. NULL: none, its parents have been collected. */
static struct green_thread *thread_of(const struct green *g)
{
    while (g && !g->thread) {
        g = g->parent ? green_of(g->parent) : NULL;
    }
    return g ? g->thread : NULL;
}

static NOINLINE bool refuse(struct green_thread *t, const struct green *g)
{
    struct green_thread *other = thread_of(g);
    if (other == t) {
        return false;
    }
    if (!other) {
        PyErr_SetString(fibril__green_error, "cannot switch to a garbage collected greenlet");
    } else if (!other->ts) {
        PyErr_SetString(fibril__green_error,
                        "cannot switch to a different thread (which happens to have exited)");
    } else {
        PyErr_Format(fibril__green_error,
                     "Cannot switch to a different thread\n\tCurrent:  %R\n\tExpected: %R", t->main,
                     other->main);
    }
    return true;
}

/* ---- beginning ---- */

/* What g is to run: its attribute, which a subclass may define and which may run Python. */
static PyObject *find_run(struct green *g)
{
    if (Py_IS_TYPE((PyObject *)g->self, &fibril__green_type) && !g->self->dict && g->run) {
        return Py_NewRef(g->run);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *run = PyObject_GetAttrString((PyObject *)g->self, "run");
    if (run) {
        PyErr_Restore(type, value, traceback);
        return run;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return NULL;
}

static void enlist(struct green *g, struct green_thread *t)
{
    g->next = t->active;
    g->link = &t->active;
    if (g->next) {
        g->next->link = &g->next;
    }
    t->active = g;
}

static void delist(struct green *g)
{
    if (g->link) {
        *g->link = g->next;
        if (g->next) {
            g->next->link = g->link;
        }
        g->next = NULL;
        g->link = NULL;
    }
}

/* Gives g, which is NEW, a stack and frames. */
static int begin(struct green_thread *t, struct green *g)
{
    struct fibril__nest *n = fibril__green_nest(t);
    if (!n) {
        return -1;
    }
    g->frames = PyObject_Malloc(GREEN_FRAMES);
    if (!g->frames || (g->own_stack ? fibril__nested_own(n, &g->nested)
                                    : fibril__nested_copied(n, &g->nested)) < 0) {
        PyObject_Free(g->frames);
        g->frames = NULL;
        PyErr_NoMemory();
        return -1;
    }
    g->thread = t;
    t->refs++;
    g->state = GREEN_ACTIVE;
    enlist(g, t);
    return 0;
}

static void end(struct green *g)
{
    g->state = GREEN_DEAD;
    delist(g);
    PyObject_Free(g->frames);
    g->frames = NULL;
}

/* Frames that somebody has a frame object of stay for ever. */
void fibril__green_abandon(struct green *g)
{
    if (g->state == GREEN_ACTIVE && !g->main) {
        if (!fibril__pyslice_abandon(&g->slice, green_at, &g->nested)) {
            g->frames = NULL;
        }
        fibril__nested_drop(&g->nested);
        end(g);
    }
}

/* ---- who goes on ---- */

/* The greenlet that a switch to g leads to, ACTIVE or current: g, or the first of its parents that
 * is not dead; one that has not begun does so. NULL with an exception. */
static NOINLINE struct green *find_slow(struct green_thread *t, struct green *g)
{
    for (;;) {
        if (refuse(t, g)) {
            return NULL;
        }
        if (g->state == GREEN_ACTIVE) {
            return g;
        }
        if (g->state == GREEN_DEAD) {
            g = g->parent ? green_of(g->parent) : green_of(t->main);
            continue;
        }
        PyObject *run = find_run(g);
        if (!run || refuse(t, g)) {
            Py_XDECREF(run);
            return NULL;
        }
        if (g->state != GREEN_NEW) { /* looking for `run` has begun it */
            Py_DECREF(run);
            continue;
        }
        if (begin(t, g) < 0) {
            Py_DECREF(run);
            return NULL;
        }
        t->spare = g->run; /* letting it go may run Python */
        g->run = run;
        return g;
    }
}

static inline struct green *find(struct green_thread *t, struct green *g)
{
    return LIKELY(g->state == GREEN_ACTIVE && g->thread == t) ? g : find_slow(t, g);
}

/* ---- arriving ---- */

/* In the greenlet that has been switched to. */
static inline struct carry arrive(struct green_thread *t)
{
    struct carry c = t->carry;
    PyGreenlet *origin = t->origin;
    t->carry = (struct carry){0};
    t->origin = NULL;
    if (UNLIKELY(t->trace)) {
        fibril__green_trace(t, &c, origin);
    }
    Py_DECREF(origin);
    return c;
}

/* ---- switching ---- */

static inline void depart(struct green_thread *t, struct green *to, struct carry c)
{
    t->carry = c;
    t->origin = t->current;
    t->current = (PyGreenlet *)Py_NewRef((PyObject *)to->self);
}

static void come_back(struct green_thread *t)
{
    drop(&t->carry);
    Py_DECREF(t->current);
    t->current = t->origin;
    t->origin = NULL;
    PyErr_NoMemory();
}

/* Goes to `to`, which is not current, and whoever comes back here continues. This frame lies on the
 * stack of every suspended greenlet, so it is kept small. */
static inline int jump(struct green_thread *t, struct green *to)
{
    struct green *from = green_of(t->origin);
    PyThreadState *ts = t->ts;
    fibril__pyslice_save(&from->slice, ts);
    int rc = fibril__nest_switch(t->nest, &to->nested);
    fibril__pyslice_load(&from->slice, ts);
    return rc;
}

static NOINLINE PyObject *land(struct green_thread *t, int rc)
{
    if (UNLIKELY(rc < 0)) {
        come_back(t);
        return NULL;
    }
    struct carry c = arrive(t);
    return unpack(&c);
}

PyObject *fibril__green_jump(struct green_thread *t, struct green *g, PyObject *value)
{
    depart(t, g, (struct carry){.value = value});
    return land(t, jump(t, g));
}

PyObject *fibril__green_switch(struct green_thread *t, struct green *g, struct carry c)
{
    struct green *to = find(t, g);
    if (UNLIKELY(!to)) {
        drop(&c);
        return NULL;
    }
    if (UNLIKELY(to == green_of(t->current))) {
        return unpack(&c);
    }
    depart(t, to, c);
    return land(t, jump(t, to));
}

/* ---- running ---- */

/* A greenlet that ends by GreenletExit returns it. */
static void settle(struct carry *c)
{
    if (!c->value && PyErr_ExceptionMatches(fibril__green_exit)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        c->value = value ? value : Py_NewRef(Py_None);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
}

/* Where g's result goes: to the first of its parents that can be switched to. An exception that
 * comes up on the way takes the place of the result. */
static struct green *find_heir(struct green_thread *t, struct green *g, struct carry *c)
{
    PyGreenlet *parent = (PyGreenlet *)Py_XNewRef((PyObject *)g->parent);
    struct green *to = NULL;
    while (parent && !to) {
        to = find(t, green_of(parent));
        if (!to) {
            drop(c);
            Py_SETREF(parent, (PyGreenlet *)Py_XNewRef((PyObject *)green_of(parent)->parent));
        }
    }
    Py_XDECREF(parent); /* to, if it is another, is kept by the chain of its children */
    return to ? to : green_of(t->main);
}

/* What g is called with: a tuple and maybe keywords, or one value; NULL: an exception is set. */
static NOINLINE PyObject *arguments(struct green *g)
{
    struct green_thread *t = g->thread;
    fibril__pyslice_fresh(&g->slice, t->ts, g->frames, GREEN_FRAMES);
    size_t bytes;
    const void *low = fibril__nested_stack(&g->nested, &bytes);
    fibril__pyslice_on_stack(t->ts, low, bytes);
    PyObject *spare = t->spare;
    t->spare = NULL;
    struct carry c = arrive(t);
    Py_XDECREF(spare);
    g->kwargs = c.kwargs;
    g->all = c.all;
    return c.value;
}

static NOINLINE struct fibril__nested *conclude(struct green *g, PyObject *value, PyObject *args)
{
    struct green_thread *t = g->thread;
    struct carry result = {.value = value};
    Py_XDECREF(args);
    Py_CLEAR(g->kwargs);
    Py_CLEAR(g->run);
    settle(&result);
    g->state = GREEN_DEAD;
    struct green *to = find_heir(t, g, &result);
    fibril__pyslice_ended(&g->slice, t->ts);
    end(g);
    depart(t, to, result);
    return &to->nested;
}

/* The whole life of g on its own stack. This frame too is kept small. */
struct fibril__nested *fibril__green_run(struct fibril__nested *nested)
{
    struct green *g = CONTAINER_OF(nested, struct green, nested);
    PyObject *args = arguments(g), *result = NULL;
    if (args) {
        result =
            g->all ? PyObject_Call(g->run, args, g->kwargs) : PyObject_CallOneArg(g->run, args);
    }
    return conclude(g, result, args);
}

/* ---- throwing ---- */

PyObject *fibril__green_throw(struct green_thread *t, struct green *g)
{
    struct carry c = {0};
    if (g->state == GREEN_DEAD) {
        settle(&c);
    }
    return fibril__green_switch(t, g, c);
}

static int restore_instance(PyObject *instance, PyObject *value, PyObject *traceback)
{
    if (value && value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
        return -1;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(instance)), Py_NewRef(instance),
                  Py_XNewRef(traceback));
    return 0;
}

static int restore_class(PyObject *type, PyObject *value, PyObject *traceback)
{
    Py_INCREF(type);
    value = value == Py_None ? NULL : Py_XNewRef(value);
    Py_XINCREF(traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback && PyException_SetTraceback(value, traceback) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
    return 0;
}

int fibril__green_restore(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (traceback == Py_None) {
        traceback = NULL;
    } else if (traceback && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback object");
        return -1;
    }
    if (PyExceptionClass_Check(type)) {
        return restore_class(type, value, traceback);
    }
    if (PyExceptionInstance_Check(type)) {
        return restore_instance(type, value, traceback);
    }
    PyErr_Format(PyExc_TypeError, "exceptions must be classes, or instances, not %s",
                 Py_TYPE(type)->tp_name);
    return -1;
}
