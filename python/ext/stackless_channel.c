/* SPDX-License-Identifier: MIT */
/*
 * Channels: a value goes from a tasklet that sends to one that receives, without a buffer; whoever
 * comes first waits. Those that wait stand in a queue, all senders or all receivers.
 */
#include "stackless_core.h"

#include <structmember.h>

PyTypeObject *fibril__slp_channel;
PyObject *fibril__slp_channel_hook;

enum { RECEIVE = -1, SEND = 1 };

static struct channel *channel_of(PyObject *o)
{
    return (struct channel *)o;
}

/* ---- the callback ---- */

static NOINLINE int call_hook(struct world *w, struct channel *c, struct tasklet *t, int direction,
                              bool blocks)
{
    if (w->schedlock) {
        PyErr_SetString(PyExc_RuntimeError, "Recursive channel call due to callbacks!");
        return -1;
    }
    PyObject *hook = Py_NewRef(fibril__slp_channel_hook);
    w->schedlock = 1;
    PyObject *result = PyObject_CallFunction(hook, "OOii", (PyObject *)c, object_of(t),
                                             direction == SEND, (int)blocks);
    w->schedlock = 0;
    if (!result) {
        PyErr_WriteUnraisable(hook);
    }
    Py_XDECREF(result);
    Py_DECREF(hook);
    return 0;
}

static inline int notify(struct world *w, struct channel *c, struct tasklet *t, int direction,
                         bool blocks)
{
    return UNLIKELY(fibril__slp_channel_hook) ? call_hook(w, c, t, direction, blocks) : 0;
}

/* ---- the one operation ---- */

/* What was to be sent is dropped when the operation has failed. */
static void take_back(struct tasklet *self)
{
    tasklet_set_value(self, Py_NewRef(Py_None));
}

static NOINLINE PyObject *refuse(struct tasklet *self, PyObject *type, const char *text)
{
    take_back(self);
    PyErr_SetString(type, text);
    return NULL;
}

static inline void swap_values(struct tasklet *a, struct tasklet *b)
{
    PyObject *value = a->value;
    a->value = b->value;
    b->value = value;
}

/* Puts the partner, whose reference the caller has, where it belongs; returns who runs now. */
static struct tasklet *order(struct world *w, const struct channel *c, struct tasklet *self,
                             struct tasklet *partner, int direction)
{
    if (c->schedule_all) {
        fibril__slp_ring_append(w, partner);
        return self->next;
    }
    if (c->preference == -direction) {
        fibril__slp_ring_follow(w, partner);
        return partner;
    }
    fibril__slp_ring_append(w, partner);
    return self;
}

/* Back to how it was before meet(). */
static void unmeet(struct world *w, struct channel *c, struct tasklet *self,
                   struct tasklet *partner, int direction)
{
    swap_values(self, partner);
    if (partner->place == AT_RING) {
        fibril__slp_ring_remove(w, partner);
    }
    w->current = self;
    partner->place = AT_QUEUE;
    partner->blocked = (int8_t)-direction;
    partner->channel = c;
    partner->prev = NULL;
    partner->next = c->head;
    *(c->head ? &c->head->prev : &c->tail) = partner;
    c->head = partner;
    c->balance -= direction;
}

/* A partner of another thread becomes runnable there, and this one goes on. */
static PyObject *meet_elsewhere(struct world *w, struct tasklet *self, struct tasklet *partner)
{
    (void)w;
    fibril__slp_ring_append(partner->world, partner);
    fibril__slp_world_nudge(partner->world);
    PyObject *value = self->value;
    self->value = Py_NewRef(Py_None);
    return fibril__slp_is_bomb(value) ? fibril__slp_bomb_explode(value) : value;
}

/* Somebody waits. */
static NOINLINE PyObject *meet(struct world *w, struct channel *c, struct tasklet *self,
                               int direction)
{
    struct tasklet *partner = c->head;
    if (UNLIKELY(!partner->world->ts)) {
        return refuse(self, PyExc_RuntimeError, "tasklet has no thread");
    }
    fibril__slp_queue_remove(partner);
    swap_values(self, partner);
    if (UNLIKELY(partner->world != w)) {
        return meet_elsewhere(w, self, partner);
    }
    struct tasklet *next = order(w, c, self, partner, direction);
    PyObject *result = fibril__slp_go(w, self, next);
    if (UNLIKELY(!result) && w->refused) {
        unmeet(w, c, self, partner, direction);
        take_back(self);
    }
    return result;
}

/* Nobody does. */
static NOINLINE bool enqueue(struct channel *c, struct tasklet *self, int direction)
{
    if (UNLIKELY(self->block_trap)) {
        refuse(self, PyExc_RuntimeError, "this tasklet does not like to be blocked.");
        return false;
    }
    if (UNLIKELY(c->closing)) {
        refuse(self, PyExc_ValueError, "Send/receive operation on a closed channel");
        return false;
    }
    fibril__slp_ring_remove(self->world, self);
    fibril__slp_queue_append(c, self, direction);
    return true;
}

static NOINLINE PyObject *undo_wait(struct tasklet *self)
{
    if (self->world->refused) {
        fibril__slp_queue_remove(self);
        fibril__slp_ring_first(self->world, self);
        take_back(self);
    }
    return NULL;
}

/* Small: what it keeps in registers is on each parked stack. That is `self`. */
static NOINLINE PyObject *wait(struct channel *c, struct tasklet *self, int direction,
                               uint32_t stopped)
{
    self->stopped = stopped;
    if (UNLIKELY(!enqueue(c, self, direction))) {
        return NULL;
    }
    PyObject *result = fibril__slp_go_noted(self->world, self, self->world->current);
    return LIKELY(result) ? result : undo_wait(self);
}

static inline bool meets(const struct channel *c, int direction)
{
    return direction == SEND ? c->balance < 0 : c->balance > 0;
}

/* With a callback, or for one that had something in its tempval. */
static NOINLINE PyObject *act_slowly(struct world *w, struct channel *c, PyObject *value,
                                     int direction, uint32_t stopped)
{
    struct tasklet *self = w->current;
    PyObject *before = self->value;
    self->value = value;
    PyObject *result = NULL;
    if (notify(w, c, self, direction, !meets(c, direction)) == 0) {
        result =
            meets(c, direction) ? meet(w, c, self, direction) : wait(c, self, direction, stopped);
    }
    tasklet_set_value(self, before);
    return result;
}

/* Takes `value`. What it returns: what was received; for a sender None. Holds no references to the
 * channel and the running tasklet: whoever called has the one, the ring the other; on a suspended
 * stack they would hide from the garbage collector. Nothing is left to do here afterwards, so that
 * a parked stack has no frame of this function. */
static PyObject *act(struct channel *c, PyObject *value, int direction, uint32_t stopped)
{
    struct world *w = fibril__slp_world();
    if (UNLIKELY(!w)) {
        Py_DECREF(value);
        return NULL;
    }
    struct tasklet *self = w->current;
    if (UNLIKELY(self->value != Py_None || fibril__slp_channel_hook)) {
        return act_slowly(w, c, value, direction, stopped);
    }
    Py_DECREF(Py_None);
    self->value = value;
    return meets(c, direction) ? meet(w, c, self, direction) : wait(c, self, direction, stopped);
}

/* ---- methods ---- */

static NOINLINE PyObject *wrong_count(const char *text, Py_ssize_t n)
{
    return PyErr_Format(PyExc_TypeError, text, n);
}

PyDoc_STRVAR(send_doc, "send(value)\n--\n\nSends a value; waits until somebody receives.");

static PyObject *py_send(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (UNLIKELY(n != 1)) {
        return wrong_count("send() takes exactly one argument (%zd given)", n);
    }
    return act(channel_of(self), Py_NewRef(args[0]), SEND, fibril__pycall_end(args, n));
}

PyDoc_STRVAR(receive_doc, "receive()\n--\n\nReceives a value; waits until somebody sends.");

static PyObject *py_receive(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (UNLIKELY(n != 0)) {
        return wrong_count("receive() takes no arguments (%zd given)", n);
    }
    return act(channel_of(self), Py_NewRef(Py_None), RECEIVE, fibril__pycall_end(args, n));
}

PyDoc_STRVAR(send_exception_doc, "send_exception(exc_class, *args)\n--\n\n"
                                 "Raises exc_class(*args) in the tasklet that receives.");

static PyObject *py_send_exception(PyObject *self, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "send_exception() takes at least 1 argument");
        return NULL;
    }
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    PyObject *bomb = rest ? fibril__slp_bomb_class(PyTuple_GET_ITEM(args, 0), rest) : NULL;
    Py_XDECREF(rest);
    return bomb ? act(channel_of(self), bomb, SEND, 0) : NULL;
}

PyDoc_STRVAR(send_throw_doc, "send_throw(exc, val=None, tb=None)\n--\n\n"
                             "Raises an exception in the tasklet that receives.");

static PyObject *py_send_throw(PyObject *self, PyObject *args)
{
    PyObject *exc, *val = Py_None, *tb = Py_None;
    if (!PyArg_ParseTuple(args, "O|OO:send_throw", &exc, &val, &tb)) {
        return NULL;
    }
    PyObject *bomb = fibril__slp_bomb_throw(exc, val, tb);
    return bomb ? act(channel_of(self), bomb, SEND, 0) : NULL;
}

PyDoc_STRVAR(send_sequence_doc, "send_sequence(iterable)\n--\n\n"
                                "Sends each item of it; returns how many.");

static PyObject *py_send_sequence(PyObject *self, PyObject *sequence)
{
    PyObject *items = PyObject_GetIter(sequence), *item;
    Py_ssize_t count = 0;
    if (!items) {
        return NULL;
    }
    while ((item = PyIter_Next(items))) {
        PyObject *sent = act(channel_of(self), item, SEND, 0);
        if (!sent) {
            break;
        }
        Py_DECREF(sent);
        count++;
    }
    Py_DECREF(items);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(count);
}

PyDoc_STRVAR(close_doc, "close()\n--\n\nFrom now on nobody new may wait in it.");

static PyObject *py_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    channel_of(self)->closing = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(open_doc, "open()\n--\n\nTakes close() back.");

static PyObject *py_open(PyObject *self, PyObject *unused)
{
    (void)unused;
    channel_of(self)->closing = false;
    Py_RETURN_NONE;
}

/* Ends when the channel is closed and empty. */
static PyObject *next_value(PyObject *self)
{
    struct channel *c = channel_of(self);
    if (c->closing && c->balance == 0) {
        return NULL;
    }
    return act(c, Py_NewRef(Py_None), RECEIVE, 0);
}

/* ---- pickling: those that wait go along ---- */

static PyObject *reduce(PyObject *self, PyObject *unused)
{
    struct channel *c = channel_of(self);
    (void)unused;
    PyObject *waiting = PyList_New(0);
    for (struct tasklet *t = c->head; waiting && t; t = t->next) {
        if (PyList_Append(waiting, object_of(t)) < 0) {
            Py_CLEAR(waiting);
        }
    }
    if (!waiting) {
        return NULL;
    }
    int flags = c->closing | c->schedule_all << 1 | (c->preference + 1) << 2;
    return Py_BuildValue("O()(iiN)", Py_TYPE(self), c->balance, flags, waiting);
}

static PyObject *set_state(PyObject *self, PyObject *state)
{
    struct channel *c = channel_of(self);
    int balance, flags;
    PyObject *waiting;
    if (!PyArg_ParseTuple(state, "iiO!:channel", &balance, &flags, &PyList_Type, &waiting)) {
        return NULL;
    }
    c->closing = flags & 1;
    c->schedule_all = flags >> 1 & 1;
    c->preference = (int8_t)((flags >> 2 & 3) - 1);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiting); i++) {
        PyObject *t = PyList_GET_ITEM(waiting, i);
        if (!PyObject_TypeCheck(t, fibril__slp_tasklet) || tasklet_of(t)->place != AT_NONE ||
            balance == 0) {
            PyErr_SetString(PyExc_ValueError, "no queue of tasklets");
            return NULL;
        }
        Py_INCREF(t);
        fibril__slp_queue_append(c, tasklet_of(t), balance > 0 ? SEND : RECEIVE);
    }
    return Py_NewRef(self);
}

/* ---- attributes ---- */

static PyObject *get_queue(PyObject *self, void *unused)
{
    (void)unused;
    struct tasklet *t = channel_of(self)->head;
    return Py_NewRef(t ? object_of(t) : Py_None);
}

static PyObject *get_closing(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(channel_of(self)->closing);
}

static PyObject *get_closed(PyObject *self, void *unused)
{
    (void)unused;
    const struct channel *c = channel_of(self);
    return PyBool_FromLong(c->closing && c->balance == 0);
}

static PyObject *get_preference(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(channel_of(self)->preference);
}

static int set_preference(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (!value || !PyLong_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "preference must be set to an integer");
        return -1;
    }
    long to = PyLong_AsLong(value);
    if (to == -1 && PyErr_Occurred()) {
        return -1;
    }
    channel_of(self)->preference = (int8_t)((to > 0) - (to < 0));
    return 0;
}

static PyObject *get_schedule_all(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(channel_of(self)->schedule_all);
}

static int set_schedule_all(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (!value || !PyLong_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "preference must be set to a bool or integer");
        return -1;
    }
    channel_of(self)->schedule_all = PyObject_IsTrue(value);
    return 0;
}

/* ---- the type ---- */

static PyObject *new_channel(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct channel *c = (struct channel *)type->tp_alloc(type, 0);
    if (c) {
        c->preference = RECEIVE;
    }
    return (PyObject *)c;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (struct tasklet *t = channel_of(self)->head; t; t = t->next) {
        Py_VISIT(t);
    }
    return 0;
}

/* Nobody can reach those that wait but through the channel: they are killed as they go. */
static int clear(PyObject *self)
{
    struct channel *c = channel_of(self);
    while (c->head) {
        struct tasklet *t = c->head;
        fibril__slp_queue_remove(t);
        Py_DECREF(t);
    }
    return 0;
}

static PyGetSetDef attributes[] = {
    {"queue", get_queue, NULL, "the first tasklet that waits, or None", NULL},
    {"closing", get_closing, NULL, "close() has been called", NULL},
    {"closed", get_closed, NULL, "closing, and nobody waits", NULL},
    {"preference", get_preference, set_preference,
     "who goes on when two have met: -1 the receiver, 1 the sender, 0 whoever came second", NULL},
    {"schedule_all", get_schedule_all, set_schedule_all, "whoever came second goes last", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef members[] = {
    {"balance", T_INT, offsetof(struct channel, balance), READONLY,
     "how many wait to send; below zero, to receive"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct channel, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

#define FASTCALL(fn) ((PyCFunction)(void (*)(void))(fn))

static PyMethodDef methods[] = {
    {"send", FASTCALL(py_send), METH_FASTCALL, send_doc},
    {"receive", FASTCALL(py_receive), METH_FASTCALL, receive_doc},
    {"send_exception", py_send_exception, METH_VARARGS, send_exception_doc},
    {"send_throw", py_send_throw, METH_VARARGS, send_throw_doc},
    {"send_sequence", py_send_sequence, METH_O, send_sequence_doc},
    {"close", py_close, METH_NOARGS, close_doc},
    {"open", py_open, METH_NOARGS, open_doc},
    {"__reduce__", reduce, METH_NOARGS, "for pickle"},
    {"__reduce_ex__", reduce, METH_O, "for pickle"},
    {"__setstate__", set_state, METH_O, "for pickle"},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(channel_doc, "channel()\n--\n\nHands values from tasklet to tasklet.");

static PyType_Slot slots[] = {{Py_tp_new, new_channel},
                              {Py_tp_dealloc, fibril__py_dealloc},
                              {Py_tp_traverse, traverse},
                              {Py_tp_clear, clear},
                              {Py_tp_iter, PyObject_SelfIter},
                              {Py_tp_iternext, next_value},
                              {Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_getset, attributes},
                              {Py_tp_doc, (void *)(uintptr_t)channel_doc},
                              {0, NULL}};

static PyType_Spec spec = {.name = "stackless.channel",
                           .basicsize = sizeof(struct channel),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                           .slots = slots};

int fibril__slp_channel_init(PyObject *module)
{
    return fibril__slp_add_type(module, &spec, "_stackless_channel", &fibril__slp_channel);
}
