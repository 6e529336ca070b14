/* SPDX-License-Identifier: MIT */
/*
 * Streams: calls with many replies, each of which is sent when it is there. A stream is the
 * opener's own, as the mailbox that its replies are counted in.
 */
#include "actor_py.h"

struct stream {
    PyObject_HEAD struct fibril_stream *stream; /* NULL: closed */
    uint64_t owner; /* with whose end it ends, if it is not closed before */
    uint64_t id;
    PyObject *method;
};

static PyTypeObject *stream_type;

enum { INTERRUPTED = 2 };

struct opening {
    uint64_t id;
    struct fibril_message *m;
    struct fibril_stream *stream;
};

static int open_op(void *arg, int64_t deadline_ns)
{
    struct opening *o = arg;
    int rc = fibril_stream_open(o->id, o->m, deadline_ns, &o->stream);
    return rc == -EINTR ? INTERRUPTED : rc; /* o->m is no more */
}

const char fibril__py_handle_stream_doc[] =
    PyDoc_STR("stream(handler, /, *args, timeout=None, **kwargs)\n--\n\n"
              "Calls a handler that returns an iterable, perhaps by being a generator, and returns "
              "an\niterator over its values, each of which is sent when it is there. A reader that "
              "is slower\nthan the actor makes it wait. timeout: for the start. Errors as of call, "
              "also from the\niterator.");

PyObject *fibril__py_handle_stream(struct actor_handle *h, PyObject *const *args, Py_ssize_t n,
                                   PyObject *names)
{
    int64_t deadline_ns;
    if (!fibril_current()) {
        return fibril__py_raise(-EPERM);
    }
    struct opening o = {.id = h->id,
                        .m = fibril__py_method_message(MAIL_STREAM, args, n, names, &deadline_ns)};
    if (!o.m) {
        return NULL;
    }
    if (!fibril__py_mail_carry(h->id, &o.m)) {
        fibril__py_mail_free(o.m);
        return NULL;
    }
    struct stream *s = (struct stream *)stream_type->tp_alloc(stream_type, 0);
    int rc = s ? fibril__py_wait(open_op, &o, deadline_ns) : -ENOMEM;
    if (rc == INTERRUPTED) {
        rc = fibril__py_interrupted() ? -EINTR : 1;
    }
    if (rc != 0) {
        Py_XDECREF(s);
        return rc < 0 ? fibril__py_actor_raise(h->id, rc) : NULL;
    }
    s->stream = o.stream;
    s->owner = fibril_actor_self();
    s->id = h->id;
    s->method = Py_NewRef(args[0]);
    return (PyObject *)s;
}

struct next {
    struct fibril_stream *stream;
    struct fibril_message *m;
};

static int next_op(void *arg, int64_t deadline_ns)
{
    struct next *n = arg;
    return fibril_stream_next(n->stream, deadline_ns, &n->m);
}

static bool is_mine(const struct stream *s)
{
    const struct fibril__actor *a = fibril__actor_self();
    return a && a->id == s->owner;
}

static PyObject *stream_next(struct stream *s, int64_t deadline_ns)
{
    struct next n = {s->stream, NULL};
    if (!is_mine(s)) {
        PyErr_SetString(PyExc_RuntimeError, "a stream is read by the actor that opened it");
        return NULL;
    }
    int rc = s->stream ? fibril__py_wait(next_op, &n, deadline_ns) : -ENODATA;
    if (rc == 0) {
        return fibril__py_answer(s->id, s->method, n.m);
    }
    return rc < 0 && rc != -ENODATA ? fibril__py_actor_raise(s->id, rc) : NULL;
}

static PyObject *stream_iternext(struct stream *s)
{
    return stream_next(s, FIBRIL_FOREVER);
}

/* In other hands it is left to the end of who opened it. */
static void shut(struct stream *s)
{
    struct fibril_stream *stream = is_mine(s) ? s->stream : NULL;
    s->stream = NULL;
    fibril_stream_close(stream);
    fibril__py_mail_drain();
}

static PyObject *stream_close(struct stream *s, PyObject *unused)
{
    shut(s);
    Py_RETURN_NONE;
}

static void stream_dealloc(struct stream *s)
{
    PyTypeObject *type = Py_TYPE(s);
    shut(s);
    Py_XDECREF(s->method);
    type->tp_free(s);
    Py_DECREF(type);
}

static PyMethodDef stream_methods[] = {
    {"close", (PyCFunction)stream_close, METH_NOARGS,
     "close()\n--\n\nEnds it; replies that come later are dropped."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot stream_slots[] = {{Py_tp_doc, "The replies to a call that has many."},
                                     {Py_tp_dealloc, stream_dealloc},
                                     {Py_tp_iter, PyObject_SelfIter},
                                     {Py_tp_iternext, stream_iternext},
                                     {Py_tp_methods, stream_methods},
                                     {0, NULL}};

static PyType_Spec stream_spec = {"fibril.actors.Stream", sizeof(struct stream), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                  stream_slots};

int fibril__py_actor_stream_init(PyObject *module)
{
    stream_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec, NULL);
    return stream_type ? 0 : -1;
}
