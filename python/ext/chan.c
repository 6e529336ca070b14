/* SPDX-License-Identifier: MIT */
/*
 * Channel: the core's channel with references as elements. A send or receive that needs no wait
 * keeps the GIL. Who sends gives a reference away exactly when the core has taken the element.
 */
#include "chan.h"

#include <structmember.h>

struct transfer {
    struct fibril_chan *chan;
    PyObject *value;
};

static int send_op(void *arg, int64_t deadline_ns)
{
    struct transfer *t = arg;
    return fibril_chan_send(t->chan, &t->value, deadline_ns);
}

static int recv_op(void *arg, int64_t deadline_ns)
{
    struct transfer *t = arg;
    return fibril_chan_recv(t->chan, &t->value, deadline_ns);
}

static int try_send_op(void *arg, int64_t deadline_ns)
{
    struct transfer *t = arg;
    (void)deadline_ns;
    return fibril_chan_try_send(t->chan, &t->value);
}

static int try_recv_op(void *arg, int64_t deadline_ns)
{
    struct transfer *t = arg;
    (void)deadline_ns;
    return fibril_chan_try_recv(t->chan, &t->value);
}

static int close_op(void *arg, int64_t deadline_ns)
{
    struct transfer *t = arg;
    (void)deadline_ns;
    return fibril_chan_close(t->chan);
}

/* First without a wait; then op, if that would need one or this is no fibril. */
static int transfer(struct transfer *t, int (*now)(void *arg, int64_t deadline_ns),
                    fibril__py_op *op, PyObject *timeout)
{
    int64_t deadline_ns;
    int rc = now(t, 0);
    if (rc != -EAGAIN && rc != -EPERM) {
        return rc;
    }
    return fibril__py_deadline(timeout, &deadline_ns) ? fibril__py_wait(op, t, deadline_ns) : 1;
}

/* The only argument beyond `positional` ones is timeout, by position or name. */
static bool timeout_of(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t positional,
                       PyObject **ret_timeout)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    *ret_timeout = Py_None;
    if (n + named == positional && named == 0) {
        return true;
    }
    bool by_name = named == 1 && n == positional &&
                   PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") == 0;
    if (!by_name && (named > 0 || n != positional + 1)) {
        PyErr_Format(PyExc_TypeError, "%zd argument(s) and timeout=None are expected", positional);
        return false;
    }
    *ret_timeout = args[positional];
    return true;
}

static PyObject *none_or_raise(int rc)
{
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    Py_RETURN_NONE;
}

/* ---- methods ---- */

PyDoc_STRVAR(
    send_doc,
    "send(value, timeout=None)\n--\n\n"
    "Sends value; waits while the channel is full, or, without a capacity, until somebody\n"
    "receives. timeout: seconds. Raises TimeoutError, ChannelClosed, Cancelled: then the\n"
    "value has not been taken.");

static PyObject *chan_send(struct channel *c, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout;
    if (!timeout_of(args, n, names, 1, &timeout)) {
        return NULL;
    }
    struct transfer t = {c->chan, Py_NewRef(args[0])};
    int rc = transfer(&t, try_send_op, send_op, timeout);
    if (rc != 0) {
        Py_DECREF(args[0]);
    }
    return none_or_raise(rc);
}

PyDoc_STRVAR(recv_doc, "recv(timeout=None)\n--\n\n"
                       "Receives the next value, waiting for it. timeout: seconds. Raises\n"
                       "TimeoutError, ChannelClosed when it is closed and empty, Cancelled.");

static PyObject *chan_recv(struct channel *c, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout;
    if (!timeout_of(args, n, names, 0, &timeout)) {
        return NULL;
    }
    struct transfer t = {c->chan, NULL};
    int rc = transfer(&t, try_recv_op, recv_op, timeout);
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    return t.value;
}

/* An operation that never waits, made by a fibril for an OS thread. */
static int at_once(struct transfer *t, fibril__py_op *op)
{
    return fibril_current() ? op(t, 0) : fibril__py_wait(op, t, FIBRIL_FOREVER);
}

PyDoc_STRVAR(try_send_doc, "try_send(value, /)\n--\n\nSends value if that needs no wait; returns "
                           "whether it did. Raises ChannelClosed.");

static PyObject *chan_try_send(struct channel *c, PyObject *value)
{
    struct transfer t = {c->chan, Py_NewRef(value)};
    int rc = at_once(&t, try_send_op);
    if (rc != 0) {
        Py_DECREF(value);
    }
    return rc == -EAGAIN ? Py_NewRef(Py_False) : rc == 0 ? Py_NewRef(Py_True) : none_or_raise(rc);
}

PyDoc_STRVAR(
    try_recv_doc,
    "try_recv(default=None, /)\n--\n\nReceives a value if that needs no wait, else returns "
    "default. Raises ChannelClosed.");

static PyObject *chan_try_recv(struct channel *c, PyObject *const *args, Py_ssize_t n)
{
    if (n > 1) {
        PyErr_SetString(PyExc_TypeError, "try_recv takes at most one argument");
        return NULL;
    }
    struct transfer t = {c->chan, NULL};
    int rc = at_once(&t, try_recv_op);
    if (rc == -EAGAIN) {
        return Py_NewRef(n > 0 ? args[0] : Py_None);
    }
    return rc == 0 ? t.value : none_or_raise(rc);
}

PyDoc_STRVAR(close_doc, "close()\n--\n\n"
                        "Closes the channel: no more sends; what is buffered can be received.");

static PyObject *chan_close(struct channel *c, PyObject *unused)
{
    struct transfer t = {c->chan, NULL};
    int rc = c->closed ? 0 : at_once(&t, close_op);
    c->closed = c->closed || rc == 0;
    return none_or_raise(rc == -EPIPE ? 0 : rc);
}

static PyObject *chan_next(struct channel *c)
{
    struct transfer t = {c->chan, NULL};
    int rc = transfer(&t, try_recv_op, recv_op, Py_None);
    if (rc == 0) {
        return t.value;
    }
    return rc == -EPIPE || rc > 0 ? NULL : fibril__py_raise(rc);
}

static Py_ssize_t chan_len(struct channel *c)
{
    return (Py_ssize_t)fibril_chan_len(c->chan);
}

/* A channel without anything in it is no false value. */
static int chan_bool(struct channel *c)
{
    (void)c;
    return 1;
}

/* ---- the object itself ---- */

static PyObject *chan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:Channel", names, &capacity)) {
        return NULL;
    }
    if (capacity < 0) {
        PyErr_SetString(PyExc_ValueError, "a capacity is below zero");
        return NULL;
    }
    struct channel *c = (struct channel *)type->tp_alloc(type, 0);
    if (!c) {
        return NULL;
    }
    c->capacity = capacity;
    int rc = fibril_chan_new(sizeof(PyObject *), (size_t)capacity, 0, &c->chan);
    if (rc < 0) {
        Py_DECREF(c);
        return rc == -EINVAL ? PyErr_Format(PyExc_ValueError, "a capacity of %zd", capacity)
                             : fibril__py_raise(rc);
    }
    return (PyObject *)c;
}

static void drain(struct fibril_chan *chan)
{
    PyObject *value;
    while (fibril_chan_try_recv(chan, &value) == 0) {
        Py_DECREF(value);
    }
    fibril_chan_free(chan);
}

/* On behalf of an OS thread that dropped the last reference. */
static int drain_here(void *arg)
{
    struct pyfibril self = {0};
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    if (fibril__py_begin(&self, frames, sizeof frames) == 0) {
        drain(arg);
        fibril__py_end(&self);
    }
    return 0;
}

static void chan_dealloc(struct channel *c)
{
    PyTypeObject *type = Py_TYPE(c);
    if (c->weak) {
        PyObject_ClearWeakRefs((PyObject *)c);
    }
    if (c->chan && (fibril_current() || fibril_chan_len(c->chan) == 0)) {
        drain(c->chan);
    } else if (c->chan && fibril__py.loop) {
        const struct fibril_spawn_opts opts = {.loop = fibril__py.loop, .daemon = true};
        fibril_spawn(drain_here, c->chan, &opts, NULL);
    }
    type->tp_free(c);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)(void (*)(void))chan_send, METH_FASTCALL | METH_KEYWORDS, send_doc},
    {"recv", (PyCFunction)(void (*)(void))chan_recv, METH_FASTCALL | METH_KEYWORDS, recv_doc},
    {"try_send", (PyCFunction)chan_try_send, METH_O, try_send_doc},
    {"try_recv", (PyCFunction)(void (*)(void))chan_try_recv, METH_FASTCALL, try_recv_doc},
    {"close", (PyCFunction)chan_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {
    {"capacity", T_PYSSIZET, offsetof(struct channel, capacity), READONLY,
     "How many values it buffers (int)."},
    {"closed", T_BOOL, offsetof(struct channel, closed), READONLY, "Whether it is closed (bool)."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct channel, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

PyDoc_STRVAR(type_doc,
             "Channel(capacity=0)\n--\n\n"
             "Hands values from fibril to fibril, first in, first out. With capacity 0 each send\n"
             "meets its recv. Iterating receives until it is closed. len() is what is buffered.\n"
             "Works across OS threads too.");

static PyType_Slot type_slots[] = {{Py_tp_doc, (void *)(uintptr_t)type_doc},
                                   {Py_tp_new, chan_new},
                                   {Py_tp_dealloc, chan_dealloc},
                                   {Py_tp_iter, PyObject_SelfIter},
                                   {Py_tp_iternext, chan_next},
                                   {Py_sq_length, chan_len},
                                   {Py_nb_bool, chan_bool},
                                   {Py_tp_methods, methods},
                                   {Py_tp_members, members},
                                   {0, NULL}};

static PyType_Spec type_spec = {.name = "fibril.Channel",
                                .basicsize = sizeof(struct channel),
                                .flags = Py_TPFLAGS_DEFAULT,
                                .slots = type_slots};

int fibril__py_chan_init(PyObject *module)
{
    if (!fibril__py.channel_type) {
        fibril__py.channel_type = (PyTypeObject *)PyType_FromSpec(&type_spec);
    }
    if (!fibril__py.channel_type || PyModule_AddType(module, fibril__py.channel_type) < 0) {
        return -1;
    }
    return fibril__py_select_init(module);
}
