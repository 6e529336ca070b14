/* SPDX-License-Identifier: MIT */
/*
 * Talking to actors: call, cast, send. What needs no wait keeps the GIL; a call sends with the GIL,
 * so that the worker that answers is known to be next when the caller parks, and takes it over.
 */
#include "actor_py.h"

#include "base/compiler.h"

/* ---- sending ---- */

struct sending {
    uint64_t id;
    struct fibril_message *m;
    uint8_t kind;
};

static int send_op(void *arg, int64_t deadline_ns)
{
    struct sending *s = arg;
    return fibril__actor_send_as(s->id, s->m, s->kind, deadline_ns);
}

int fibril__py_actor_send(uint64_t id, struct fibril_message *m, uint8_t kind, int64_t deadline_ns)
{
    fibril__py_mail_drain();
    int rc = LIKELY(fibril__py_mail_carry(id, &m))
                 ? fibril__actor_send_as(id, m, kind, FIBRIL__NEVER_PARK)
                 : 1;
    if (UNLIKELY(rc == -ETIMEDOUT || (rc == -EAGAIN && !fibril_current()))) {
        struct sending s = {id, m, kind};
        rc = fibril__py_wait(send_op, &s, deadline_ns);
    }
    if (rc != 0) {
        fibril__py_mail_free(m);
    }
    return rc;
}

/* Splits timeout=... off the keywords. The names that are left, borrowed or NULL for none; *ret_n
 * counts the arguments that are left, which may be moved to `room`. */
struct arguments {
    PyObject *const *args;
    size_t n;
    PyObject *names; /* a reference */
    int64_t deadline_ns;
    PyObject *moved[32];
};

static bool drop_timeout(struct arguments *a, PyObject *names, Py_ssize_t at)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    size_t placed = a->n - (size_t)count, to = 0;
    if (!fibril__py_deadline(a->args[placed + (size_t)at], &a->deadline_ns)) {
        return false;
    }
    if (at == count - 1) { /* the usual way: it comes last */
        a->names = count > 1 ? PyTuple_GetSlice(names, 0, count - 1) : NULL;
        a->n--;
        return count == 1 || a->names;
    }
    if (a->n > sizeof a->moved / sizeof *a->moved) {
        PyErr_SetString(PyExc_TypeError, "timeout must come last of so many arguments");
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (i != placed + (size_t)at) {
            a->moved[to++] = a->args[i];
        }
    }
    PyObject *list = PySequence_List(names);
    if (list && PySequence_DelItem(list, at) == 0) {
        a->names = PyList_AsTuple(list);
    }
    Py_XDECREF(list);
    a->args = a->moved;
    a->n--;
    return a->names != NULL;
}

/* args without the name of the method. */
static bool parse(struct arguments *a, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    a->args = args + 1;
    a->n = (size_t)n - 1 + (names ? (size_t)PyTuple_GET_SIZE(names) : 0);
    a->deadline_ns = FIBRIL_FOREVER;
    a->names = NULL;
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), "timeout") == 0) {
            return drop_timeout(a, names, i);
        }
    }
    a->names = Py_XNewRef(names);
    return true;
}

struct fibril_message *fibril__py_method_message(uint64_t tag, PyObject *const *args, Py_ssize_t n,
                                                 PyObject *names, int64_t *ret_deadline_ns)
{
    struct arguments a;
    struct fibril_message *m = NULL;
    PyObject *name = n > 0 ? fibril__py_method_name(args[0]) : NULL;
    if (!name) {
        if (n == 0) {
            PyErr_SetString(PyExc_TypeError, "the name of a handler is missing");
        }
        return NULL;
    }
    if (parse(&a, args, n, names) && fibril__py_mail_new(tag, name, a.args, a.n, a.names, &m) < 0) {
        PyErr_NoMemory();
    }
    Py_XDECREF(a.names);
    *ret_deadline_ns = a.deadline_ns;
    return m;
}

PyDoc_STRVAR(cast_doc,
             "cast(handler, /, *args, timeout=None, **kwargs)\n--\n\n"
             "Has the actor call its on_HANDLER(*args, **kwargs), and does not wait for it.\n\n"
             "handler: the name without on_ (str), or the method itself. timeout: seconds to wait\n"
             "for room in a full mailbox that makes senders wait. An actor that has ended is no\n"
             "error: the message is a dead letter. Raises TimeoutError, MailboxFull, Cancelled.");

static PyObject *handle_cast(struct actor_handle *h, PyObject *const *args, Py_ssize_t n,
                             PyObject *names)
{
    int64_t deadline_ns;
    struct fibril_message *m = fibril__py_method_message(MAIL_METHOD, args, n, names, &deadline_ns);
    if (!m) {
        return NULL;
    }
    int rc = fibril__py_actor_send(h->id, m, FIBRIL_MESSAGE_CAST, deadline_ns);
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(h->id, rc) : NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(send_doc, "send(message, /, timeout=None)\n--\n\n"
                       "Sends any object, which arrives at on_message or in receive(). Otherwise "
                       "as cast.");

static PyObject *handle_send(struct actor_handle *h, PyObject *const *args, Py_ssize_t n,
                             PyObject *names)
{
    int64_t deadline_ns = FIBRIL_FOREVER;
    struct fibril_message *m;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n < 1 || n + named > 2 ||
        (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)) {
        PyErr_SetString(PyExc_TypeError, "send takes a message, and timeout");
        return NULL;
    }
    if (n + named == 2 && !fibril__py_deadline(args[1], &deadline_ns)) {
        return NULL;
    }
    if (fibril__py_mail_new(MAIL_OBJECT, NULL, args, 1, NULL, &m) < 0) {
        return PyErr_NoMemory();
    }
    int rc = fibril__py_actor_send(h->id, m, FIBRIL_MESSAGE_PLAIN, deadline_ns);
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(h->id, rc) : NULL;
    }
    Py_RETURN_NONE;
}

/* ---- calling ---- */

PyObject *fibril__py_answer(uint64_t id, PyObject *method, struct fibril_message *m)
{
    if (LIKELY(m->tag == MAIL_VALUE && m->type == &fibril__py_value_type)) {
        return fibril__py_mail_take(m);
    }
    if (m->type == &fibril__py_pickled_type) {
        struct fibril_message *read = fibril__py_mail_read(m);
        fibril__py_mail_free(m);
        return read ? fibril__py_answer(id, method, read) : NULL;
    }
    if (m->type != &fibril__py_value_type || (m->tag != MAIL_ERROR && m->tag != MAIL_REFUSED)) {
        PyObject *bytes = PyBytes_FromStringAndSize(fibril_message_data(m), (Py_ssize_t)m->size);
        fibril_message_free(m);
        return bytes;
    }
    bool refused = m->tag == MAIL_REFUSED;
    PyObject *error = fibril__py_mail_take(m);
    if (!refused) {
        PyObject *handle = fibril__py_actor_handle(id);
        PyObject *raised = handle ? PyObject_CallFunctionObjArgs(fibril__py_hooks[HOOK_RAISED],
                                                                 handle, method, error, NULL)
                                  : NULL;
        Py_XDECREF(handle);
        Py_SETREF(error, raised);
    }
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(error);
    return NULL;
}

/* Sends with the GIL, if that needs no wait, and waits without. m is taken. */
static int call_here(struct fibril__actor *a, struct pyfibril *p, uint64_t id,
                     struct fibril_message *m, int64_t deadline_ns,
                     struct fibril_message **ret_reply)
{
    m->from = fibril__call_expect(a);
    int rc = fibril__call_tie(a, id); /* before it can reply and end */
    if (UNLIKELY(rc < 0)) {
        fibril__py_mail_free(m);
    } else {
        rc = fibril__py_actor_send(id, m, FIBRIL_MESSAGE_CALL, deadline_ns);
    }
    if (UNLIKELY(rc != 0)) {
        fibril__call_give_up(a);
        return rc;
    }
    do {
        fibril__py_leave(p);
        rc = fibril__call_await(a, id, deadline_ns);
        fibril__py_enter(p);
        if (UNLIKELY(rc == -EINTR && !fibril__py_interrupted())) {
            rc = 1;
        }
    } while (rc == -EINTR);
    int closed = fibril__call_close(a, rc, ret_reply);
    if (rc == 1 && closed == 0) { /* it came, but the signal's exception goes first */
        fibril__py_mail_free(*ret_reply);
    }
    return rc == 1 ? 1 : closed;
}

struct errand {
    uint64_t id;
    struct fibril_message *m, *reply;
};

/* For OS threads without a loop. */
static int call_op(void *arg, int64_t deadline_ns)
{
    struct errand *e = arg;
    return fibril_actor_call(e->id, e->m, deadline_ns, &e->reply);
}

static int call(uint64_t id, struct fibril_message *m, int64_t deadline_ns,
                struct fibril_message **ret_reply)
{
    struct pyfibril *p = fibril__py_self();
    struct fibril__actor *a = p ? fibril__actor_attach() : NULL;
    int rc = 0;
    if (UNLIKELY(!fibril__py_mail_carry(id, &m))) { /* may call on its own: before this one begins
                                                     */
        fibril__py_mail_free(m);
        return 1;
    }
    if (UNLIKELY(!p)) {
        struct errand e = {id, m, NULL};
        rc = fibril__py_wait(call_op, &e, deadline_ns);
        *ret_reply = e.reply;
        return rc;
    }
    if (UNLIKELY(!a)) {
        rc = -ENOMEM;
    } else if (UNLIKELY(a->id == id)) {
        rc = -EDEADLK;
    }
    if (rc < 0) {
        fibril__py_mail_free(m);
        return rc;
    }
    return call_here(a, p, id, m, deadline_ns, ret_reply);
}

PyDoc_STRVAR(
    call_doc,
    "call(handler, /, *args, timeout=None, **kwargs)\n--\n\n"
    "Has the actor call its on_HANDLER(*args, **kwargs), and returns what that returned.\n"
    "\nhandler: the name without on_ (str), or the method itself. timeout: seconds (int "
    "or\nfloat), None for ever; a reply that comes later is dropped.\n\n"
    "Raises TimeoutError; ActorFailed, from its exception, if the handler raised one (and\n"
    "so ended the actor); what the handler refused with; ActorEnded if the actor has ended\n"
    "or ends without a reply; MailboxFull; Deadlock for calling oneself; Cancelled.");

static PyObject *handle_call(struct actor_handle *h, PyObject *const *args, Py_ssize_t n,
                             PyObject *names)
{
    int64_t deadline_ns;
    uint64_t id = h->id;
    struct fibril_message *reply,
        *m = fibril__py_method_message(MAIL_METHOD, args, n, names, &deadline_ns);
    if (!m) {
        return NULL;
    }
    int rc = call(id, m, deadline_ns, &reply);
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(id, rc) : NULL;
    }
    return fibril__py_answer(id, args[0], reply);
}

/* ---- replacing ---- */

PyDoc_STRVAR(replace_doc, "_replace(new_class, /, timeout=None)\n--\n\nSee ActorHandle.replace.");

static PyObject *handle_replace(struct actor_handle *h, PyObject *args)
{
    PyObject *type, *timeout = Py_None;
    int64_t deadline_ns;
    struct fibril_message *m, *reply;
    if (!PyArg_ParseTuple(args, "O|O:_replace", &type, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    if (fibril__py_mail_new(MAIL_REPLACE, NULL, &type, 1, NULL, &m) < 0) {
        return PyErr_NoMemory();
    }
    int rc = call(h->id, m, deadline_ns, &reply);
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(h->id, rc) : NULL;
    }
    return fibril__py_answer(h->id, Py_None, reply);
}

/* ---- C's messages ---- */

PyDoc_STRVAR(foreign_doc, "_foreign(kind, tag, data, timeout)\n--\n\nSee ActorHandle.call_bytes.");

static PyObject *handle_foreign(struct actor_handle *h, PyObject *args)
{
    const char *data;
    Py_ssize_t size;
    unsigned kind;
    unsigned long long tag;
    PyObject *timeout;
    int64_t deadline_ns;
    struct fibril_message *m, *reply;
    if (!PyArg_ParseTuple(args, "IKy#O:_foreign", &kind, &tag, &data, &size, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    int rc = tag >> 63 ? -EINVAL : fibril_message_of(tag, data, (size_t)size, &m);
    if (rc == 0 && kind == FIBRIL_MESSAGE_CALL) {
        rc = call(h->id, m, deadline_ns, &reply);
        if (rc == 0) {
            return fibril__py_answer(h->id, Py_None, reply);
        }
    } else if (rc == 0) {
        rc = fibril__py_actor_send(h->id, m, (uint8_t)kind, deadline_ns);
    }
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(h->id, rc) : NULL;
    }
    Py_RETURN_NONE;
}

#define FAST(fn) (PyCFunction)(void (*)(void))(fn), METH_FASTCALL | METH_KEYWORDS
PyMethodDef fibril__py_talk_methods[] = {
    {"call", FAST(handle_call), call_doc},
    {"cast", FAST(handle_cast), cast_doc},
    {"stream", FAST(fibril__py_handle_stream), fibril__py_handle_stream_doc},
    {"send", FAST(handle_send), send_doc},
    {"_replace", (PyCFunction)handle_replace, METH_VARARGS, replace_doc},
    {"_foreign", (PyCFunction)handle_foreign, METH_VARARGS, foreign_doc},
    {NULL, NULL, 0, NULL}};
