/* SPDX-License-Identifier: MIT */
/*
 * Messages to and from other processes: pickles, with the numbers of the actors that they mention
 * beside them. What is sent is pickled here, with the GIL, before the core gets it, so that what
 * cannot be pickled is the sender's exception, and so that whoever sends it on (a timer, a fibril
 * of the core) needs no GIL. What comes stays bytes until an actor takes it: the fibril that reads
 * a connection is no Python fibril.
 *
 * Another process can write any tag: a tag says what the data are only if the type does too.
 *
 * Rejected: encode of struct mail itself. It would run on fibrils without a thread state, and the
 * mailbox of what waits to be sent would count pointers instead of bytes.
 */
#include "actor_py.h"

#include <fibril/node.h>

#include "base/compiler.h"

#include <stddef.h>
#include <string.h>

enum { MENTIONS_MAX = 1024, BYTES_MAX = 64 << 20 };

bool fibril__py_nodes;

/* What nodes.py tells. */
enum { PACK, UNPACK, BROKEN, ERROR, NODE_HOOKS };
static PyObject *hooks[NODE_HOOKS];

struct pickled {
    PyObject *object; /* what was read of it; NULL: nothing yet */
    uint64_t n;
    uint64_t actors[]; /* numbers of this process; the bytes follow */
};

static const char *bytes_of(const struct pickled *d)
{
    return (const char *)(d->actors + d->n);
}

static size_t length_of(const struct pickled *d, size_t size)
{
    return size - offsetof(struct pickled, actors) - d->n * sizeof *d->actors;
}

/* ---- the type, without the GIL ---- */

static void destroy(void *data, size_t size)
{
    (void)size;
    fibril__py_release_later(((struct pickled *)data)->object);
}

static int copy(void *data, size_t size)
{
    (void)size;
    ((struct pickled *)data)->object = NULL;
    return 0;
}

static int encode(const void *data, size_t size, struct fibril_wire *w)
{
    const struct pickled *d = data;
    uint8_t n[2] = {(uint8_t)d->n, (uint8_t)(d->n >> 8)};
    int rc = fibril_wire_put(w, n, sizeof n);
    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        rc = fibril_wire_put_actor(w, d->actors[i]);
    }
    return rc == 0 ? fibril_wire_put(w, bytes_of(d), length_of(d, size)) : rc;
}

static bool is_pickles(uint64_t tag)
{
    switch (tag) {
    case MAIL_METHOD:
    case MAIL_STREAM:
    case MAIL_OBJECT:
    case MAIL_REPLACE:
    case MAIL_VALUE:
    case MAIL_ERROR:
    case MAIL_REFUSED: return true;
    default: return false;
    }
}

static int make(uint64_t tag, size_t n, size_t len, struct fibril_message **ret_message);

static int decode(struct fibril_wire *w, uint64_t tag, const struct fibril_message_type *type,
                  struct fibril_message **ret_message)
{
    enum { MENTION = 4 }; /* bytes */
    uint8_t head[2];
    struct fibril_message *m;
    (void)type;
    int rc = is_pickles(tag) ? fibril_wire_get(w, head, sizeof head) : -EBADMSG;
    size_t n = rc == 0 ? (size_t)head[0] | (size_t)head[1] << 8 : 0;
    if (rc < 0 || n > MENTIONS_MAX || fibril_wire_left(w) < n * MENTION) {
        return -EBADMSG;
    }
    size_t len = fibril_wire_left(w) - n * MENTION;
    rc = make(tag, n, len, &m);
    if (rc < 0) {
        return rc;
    }
    struct pickled *d = fibril_message_data(m);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = fibril_wire_get_actor(w, &d->actors[i]);
    }
    rc = rc == 0 ? fibril_wire_get(w, (char *)(d->actors + n), len) : rc;
    if (rc < 0) {
        fibril_message_free(m);
        return rc;
    }
    *ret_message = m;
    return 0;
}

const struct fibril_message_type fibril__py_pickled_type = {.name = "fibril.python.pickle",
                                                            .destroy = destroy,
                                                            .copy = copy,
                                                            .encode = encode,
                                                            .decode = decode};

static int make(uint64_t tag, size_t n, size_t len, struct fibril_message **ret_message)
{
    int rc = fibril_message_new(tag, offsetof(struct pickled, actors) + n * sizeof(uint64_t) + len,
                                &fibril__py_pickled_type, ret_message);
    if (rc == 0) {
        struct pickled *d = fibril_message_data(*ret_message);
        d->object = NULL;
        d->n = n;
    }
    return rc;
}

bool fibril__py_mail_is_sound(const struct fibril_message *m)
{
    switch (m->tag) {
    case MAIL_METHOD:
    case MAIL_STREAM:
    case MAIL_OBJECT:
    case MAIL_REPLACE: return m->type == &fibril__py_mail_type;
    case MAIL_VALUE:
    case MAIL_ERROR:
    case MAIL_REFUSED: return m->type == &fibril__py_value_type;
    case MAIL_BOX: return m->type == &fibril__py_box_type;
    case MAIL_IDLE: return m->size == sizeof(uint64_t);
    case FIBRIL_TAG_DOWN:
    case FIBRIL_TAG_EXIT: return m->kind == FIBRIL_MESSAGE_SIGNAL;
    case FIBRIL_TAG_DEAD_LETTER: return m->type && m->type != &fibril__py_pickled_type;
    default: return true;
    }
}

/* ---- pickling ---- */

bool fibril__py_is_away(uint64_t actor)
{
    unsigned number;
    const struct fibril__actor *a = fibril__py_nodes ? fibril__actor_find(actor, &number) : NULL;
    return a && fibril__is_remote(a);
}

/* What is pickled for m. */
static PyObject *contents(struct fibril_message *m)
{
    if (m->type != &fibril__py_mail_type) {
        PyObject *object = fibril__py_mail_decode(m);
        return m->tag == MAIL_BOX && object ? Py_BuildValue("OO(N)", Py_None, Py_None, object)
                                            : object;
    }
    const struct mail *mail = fibril_message_data(m);
    PyObject *args = PyTuple_New((Py_ssize_t)mail->n);
    for (size_t i = 0; args && i < mail->n; i++) {
        PyTuple_SET_ITEM(args, (Py_ssize_t)i, Py_NewRef(mail->args[i]));
    }
    return args ? Py_BuildValue("OON", mail->name ? mail->name : Py_None,
                                mail->names ? mail->names : Py_None, args)
                : NULL;
}

static uint64_t tag_of(const struct fibril_message *m)
{
    return m->tag == MAIL_BOX ? MAIL_OBJECT : m->tag;
}

/* The pickle, as bytes, and a tuple of numbers. */
static PyObject *pack(uint64_t to, struct fibril_message *m)
{
    PyObject *what = contents(m);
    PyObject *handle = what ? fibril__py_actor_handle(to) : NULL;
    PyObject *packed = handle ? PyObject_CallFunction(hooks[PACK], "INO",
                                                      (unsigned)(tag_of(m) & 0xff), handle, what)
                              : NULL;
    Py_XDECREF(what);
    return packed;
}

static struct fibril_message *pickle(uint64_t to, struct fibril_message *m)
{
    struct fibril_message *made = NULL;
    const char *bytes;
    Py_ssize_t len;
    PyObject *actors, *packed = pack(to, m);
    if (packed && PyArg_ParseTuple(packed, "y#O!", &bytes, &len, &PyTuple_Type, &actors)) {
        size_t n = (size_t)PyTuple_GET_SIZE(actors);
        if (make(tag_of(m), n, (size_t)len, &made) < 0) {
            PyErr_NoMemory();
        } else {
            struct pickled *d = fibril_message_data(made);
            for (size_t i = 0; i < n; i++) {
                d->actors[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(actors, (Py_ssize_t)i));
            }
            memcpy(d->actors + n, bytes, (size_t)len);
            made->from = m->from;
            made->kind = m->kind;
        }
    }
    Py_XDECREF(packed);
    return made;
}

bool fibril__py_mail_carry_slow(uint64_t to, struct fibril_message **m)
{
    const struct fibril_message_type *type = (*m)->type;
    if ((type != &fibril__py_mail_type && type != &fibril__py_value_type &&
         type != &fibril__py_box_type) ||
        !fibril__py_is_away(to)) {
        return true;
    }
    struct fibril_message *made = pickle(to, *m);
    if (!made) {
        return false;
    }
    fibril__py_mail_free(*m);
    *m = made;
    return true;
}

int fibril__py_mail_reply(uint64_t to, uint64_t tag, PyObject *value,
                          struct fibril_message **ret_message)
{
    int rc = fibril__py_mail_value(tag, value, ret_message);
    if (rc < 0 || fibril__py_mail_carry(to, ret_message)) {
        return rc;
    }
    fibril__py_mail_free(*ret_message);
    rc = fibril__py_mail_value(MAIL_REFUSED, fibril__py_take_exception(), ret_message);
    if (rc == 0 && !fibril__py_mail_carry(to, ret_message)) {
        PyErr_Clear();
        fibril__py_mail_free(*ret_message);
        rc = -ENOMEM;
    }
    return rc;
}

/* ---- reading ---- */

static PyObject *unpack(struct fibril_message *m)
{
    const struct pickled *d = fibril_message_data(m);
    PyObject *actors = PyTuple_New((Py_ssize_t)d->n);
    for (size_t i = 0; actors && i < d->n; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(d->actors[i]);
        if (!number) {
            Py_CLEAR(actors);
            break;
        }
        PyTuple_SET_ITEM(actors, (Py_ssize_t)i, number);
    }
    return actors ? PyObject_CallFunction(hooks[UNPACK], "Iy#N", (unsigned)(m->tag & 0xff),
                                          bytes_of(d), (Py_ssize_t)length_of(d, m->size), actors)
                  : NULL;
}

/* The message that contents() were taken from; nodes.py has looked at them. */
static struct fibril_message *call_of(uint64_t tag, PyObject *what)
{
    struct fibril_message *made = NULL;
    PyObject *name, *names, *args;
    if (!PyArg_ParseTuple(what, "OOO!", &name, &names, &PyTuple_Type, &args)) {
        return NULL;
    }
    if (fibril__py_mail_new(tag, name == Py_None ? NULL : name, PySequence_Fast_ITEMS(args),
                            (size_t)PyTuple_GET_SIZE(args), names == Py_None ? NULL : names,
                            &made) < 0) {
        PyErr_NoMemory();
    }
    return made;
}

struct fibril_message *fibril__py_mail_read(struct fibril_message *m)
{
    struct fibril_message *made = NULL;
    struct pickled *d = fibril_message_data(m);
    if (!d->object) {
        d->object = unpack(m);
    }
    if (!d->object) {
        return NULL;
    }
    switch (m->tag) {
    case MAIL_VALUE:
    case MAIL_ERROR:
    case MAIL_REFUSED:
        if (fibril__py_mail_value(m->tag, Py_NewRef(d->object), &made) < 0) {
            PyErr_NoMemory();
        }
        break;
    default: made = call_of(m->tag, d->object);
    }
    if (made) {
        made->from = m->from;
        made->kind = m->kind;
        made->to = m->to;
    }
    return made;
}

/* m cannot be read: it is reported, its caller is told, and it is gone. */
static void give_up(uint64_t self, struct fibril_message *m)
{
    struct fibril_message *answer;
    if (PyErr_ExceptionMatches(fibril__py.cancelled)) { /* told to end, in the middle of reading */
        PyErr_Clear();
        fibril__dead_letter(self, m);
        return;
    }
    PyObject *error = fibril__py_take_exception();
    PyObject *handle = fibril__py_actor_handle(self);
    PyObject *said =
        handle ? PyObject_CallFunctionObjArgs(hooks[BROKEN], handle, error, NULL) : NULL;
    if (!said) {
        PyErr_WriteUnraisable(error);
    }
    Py_XDECREF(handle);
    Py_XDECREF(said);
    if (m->kind != FIBRIL_MESSAGE_CALL) {
        Py_DECREF(error);
        fibril__dead_letter(self, m);
        return;
    }
    int rc = fibril__py_mail_reply(m->from.actor, MAIL_REFUSED, error, &answer);
    if (rc == 0) {
        fibril_actor_reply(m->from, answer);
    } else {
        fibril_actor_refuse(m->from, rc);
    }
    fibril__py_mail_free(m);
}

bool fibril__py_mail_open_slow(uint64_t self, struct fibril_message **m)
{
    struct fibril_message *made = fibril__py_mail_read(*m);
    if (!made) {
        give_up(self, *m);
        return false;
    }
    fibril__py_mail_free(*m);
    *m = made;
    return true;
}

/* ---- what goes to many ---- */

struct fanout {
    struct fibril_message *here, *away; /* for those of this process, and the others */
    uint64_t *actors;
    size_t n;
    int taken;
};

static int fan_out(void *arg, int64_t deadline_ns)
{
    struct fanout *f = arg;
    for (size_t i = 0; i < f->n; i++) {
        struct fibril_message *one;
        int rc = fibril_message_copy(fibril__py_is_away(f->actors[i]) ? f->away : f->here, &one);
        if (rc < 0) {
            return rc;
        }
        if (fibril_actor_send(f->actors[i], one, deadline_ns) < 0) {
            fibril_message_free(one);
        } else {
            f->taken++;
        }
    }
    return 0;
}

/* Pickles for the first that is away; afterwards nobody who is needs more. */
static bool prepare(struct fanout *f, PyObject *object)
{
    if (fibril__py_mail_box(object, &f->here) < 0) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; !f->away && i < f->n; i++) {
        if (fibril__py_is_away(f->actors[i])) {
            f->away = pickle(f->actors[i], f->here);
            if (!f->away) {
                return false;
            }
        }
    }
    return true;
}

int fibril__py_fan_out(uint64_t *actors, size_t n, PyObject *object, int64_t deadline_ns,
                       int *ret_taken)
{
    struct fanout f = {.actors = actors, .n = n};
    int rc = prepare(&f, object) ? fibril__py_wait(fan_out, &f, deadline_ns) : 1;
    *ret_taken = f.taken;
    if (f.here) {
        fibril__py_mail_free(f.here);
    }
    if (f.away) {
        fibril__py_mail_free(f.away);
    }
    return rc;
}

/* ---- setting up ---- */

PyObject *fibril__py_raise_unsent(int rc)
{
    const char *text = rc == -EMSGSIZE     ? "the message has more than 64 MiB"
                       : rc == -E2BIG      ? "the message mentions more than 1,024 actors"
                       : rc == -EOPNOTSUPP ? "the other process does not know messages of Python"
                                           : "the other process could not read the message";
    if (!hooks[ERROR]) {
        return fibril__py_raise(rc);
    }
    PyErr_SetString(hooks[ERROR], text);
    return NULL;
}

PyDoc_STRVAR(setup_doc, "_node_setup(hooks)\n--\n\nWhat fibril.nodes tells, in order.");

static PyObject *py_setup(PyObject *module, PyObject *all)
{
    if (!PyTuple_Check(all) || PyTuple_GET_SIZE(all) != NODE_HOOKS) {
        PyErr_SetString(PyExc_TypeError, "_node_setup takes a tuple of all");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < NODE_HOOKS; i++) {
        Py_XSETREF(hooks[i], Py_NewRef(PyTuple_GET_ITEM(all, i)));
    }
    int rc = fibril_message_type_register(&fibril__py_pickled_type);
    fibril__py_nodes = rc == 0;
    return fibril__py_none(rc);
}

static PyMethodDef functions[] = {{"_node_setup", py_setup, METH_O, setup_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_actor_pickle_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
