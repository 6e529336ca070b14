/* SPDX-License-Identifier: MIT */
/*
 * Messages with Python objects in them. Arguments lie in the message as the call of the handler
 * wants them, so that no tuple is made and nothing is copied on the way.
 */
#include "actor_py.h"

#include "base/alloc.h"

#include <stddef.h>

PyObject *fibril__py_hooks[HOOKS];
void *_Atomic fibril__py_mail_dead;

/* ---- references that end where there is no GIL ---- */

struct dead {
    struct dead *next;
    PyObject *object;
};

void fibril__py_mail_drain_slow(void)
{
    struct dead *d = atomic_exchange(&fibril__py_mail_dead, NULL);
    while (d) {
        struct dead *next = d->next;
        Py_DECREF(d->object);
        fibril__free(d);
        d = next;
    }
}

static int drain_later(void *unused)
{
    (void)unused;
    fibril__py_mail_drain();
    return 0;
}

/* Without memory for the list the object lives on: that is a leak, and no crash. */
void fibril__py_release_later(PyObject *object)
{
    struct dead *d = object && !fibril__py_is_shut() ? fibril__alloc(sizeof *d) : NULL;
    if (!d) {
        return;
    }
    d->object = object;
    void *head = atomic_load(&fibril__py_mail_dead);
    do {
        d->next = head;
    } while (!atomic_compare_exchange_weak(&fibril__py_mail_dead, &head, d));
    if (!d->next) {
        Py_AddPendingCall(drain_later, NULL); /* when it cannot, the next who sends does it */
    }
}

/* ---- kinds of messages ---- */

static void destroy_mail(void *data, size_t size)
{
    (void)size;
    struct mail *mail = data;
    fibril__py_release_later(mail->name);
    fibril__py_release_later(mail->names);
    for (size_t i = 0; i < mail->n; i++) {
        fibril__py_release_later(mail->args[i]);
    }
}

const struct fibril_message_type fibril__py_mail_type = {.name = "Python call",
                                                         .destroy = destroy_mail};

static void destroy_value(void *data, size_t size)
{
    (void)size;
    fibril__py_release_later(*(PyObject **)data);
}

const struct fibril_message_type fibril__py_value_type = {.name = "Python value",
                                                          .destroy = destroy_value};

struct box {
    _Atomic uint32_t refs;
    PyObject *object;
};

static void destroy_box(void *data, size_t size)
{
    (void)size;
    struct box *box = *(struct box **)data;
    if (box && atomic_fetch_sub(&box->refs, 1) == 1) {
        fibril__py_release_later(box->object);
        fibril__free(box);
    }
}

static int copy_box(void *data, size_t size)
{
    (void)size;
    atomic_fetch_add(&(*(struct box **)data)->refs, 1);
    return 0;
}

const struct fibril_message_type fibril__py_box_type = {
    .name = "Python object", .destroy = destroy_box, .copy = copy_box};

/* ---- making ---- */

int fibril__py_mail_new(uint64_t tag, PyObject *name, PyObject *const *args, size_t n,
                        PyObject *names, struct fibril_message **ret_message)
{
    int rc = fibril_message_new(tag, offsetof(struct mail, args) + n * sizeof *args,
                                &fibril__py_mail_type, ret_message);
    if (rc < 0) {
        return rc;
    }
    struct mail *mail = fibril_message_data(*ret_message);
    mail->name = Py_XNewRef(name);
    mail->names = Py_XNewRef(names);
    mail->n = n;
    for (size_t i = 0; i < n; i++) {
        mail->args[i] = Py_NewRef(args[i]);
    }
    return 0;
}

int fibril__py_mail_value(uint64_t tag, PyObject *value, struct fibril_message **ret_message)
{
    int rc = fibril_message_new(tag, sizeof value, &fibril__py_value_type, ret_message);
    if (rc < 0) {
        Py_DECREF(value);
        return rc;
    }
    *(PyObject **)fibril_message_data(*ret_message) = value;
    return 0;
}

int fibril__py_mail_box(PyObject *object, struct fibril_message **ret_message)
{
    struct box *box = fibril__alloc(sizeof *box);
    int rc =
        box ? fibril_message_new(MAIL_BOX, sizeof box, &fibril__py_box_type, ret_message) : -ENOMEM;
    if (rc < 0) {
        fibril__free(box);
        return rc;
    }
    *box = (struct box){.refs = 1, .object = Py_NewRef(object)};
    *(struct box **)fibril_message_data(*ret_message) = box;
    return 0;
}

/* ---- taking apart ---- */

PyObject *fibril__py_mail_take(struct fibril_message *m)
{
    PyObject **at = fibril_message_data(m);
    PyObject *value = *at;
    *at = NULL;
    fibril_message_free(m);
    return value;
}

void fibril__py_mail_free(struct fibril_message *m)
{
    if (m->type == &fibril__py_mail_type) {
        struct mail *mail = fibril_message_data(m);
        Py_CLEAR(mail->name);
        Py_CLEAR(mail->names);
        size_t n = mail->n;
        mail->n = 0;
        for (size_t i = 0; i < n; i++) {
            Py_DECREF(mail->args[i]);
        }
    }
    fibril_message_free(m);
    fibril__py_mail_drain();
}

/* The caller of a call, as (number, number); None for a message that is none. */
static PyObject *caller_of(const struct fibril_message *m)
{
    struct fibril_from from = fibril_message_from(m);
    if (m->kind != FIBRIL_MESSAGE_CALL) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue("KK", (unsigned long long)from.actor, (unsigned long long)from.ref);
}

static PyObject *keywords_of(const struct mail *mail, size_t placed)
{
    PyObject *kwargs = PyDict_New();
    for (size_t i = placed; kwargs && i < mail->n; i++) {
        PyObject *name = PyTuple_GET_ITEM(mail->names, (Py_ssize_t)(i - placed));
        if (PyDict_SetItem(kwargs, name, mail->args[i]) < 0) {
            Py_CLEAR(kwargs);
        }
    }
    return kwargs;
}

static PyObject *decode_method(struct fibril_message *m)
{
    const struct mail *mail = fibril_message_data(m);
    size_t placed = mail->n - (mail->names ? (size_t)PyTuple_GET_SIZE(mail->names) : 0);
    PyObject *args = PyTuple_New((Py_ssize_t)placed);
    PyObject *kwargs = args ? keywords_of(mail, placed) : NULL;
    PyObject *caller = kwargs ? caller_of(m) : NULL;
    PyObject *result = NULL;
    for (size_t i = 0; args && i < placed; i++) {
        PyTuple_SET_ITEM(args, (Py_ssize_t)i, Py_NewRef(mail->args[i]));
    }
    if (caller) {
        const char *kind = m->tag == MAIL_STREAM            ? "stream"
                           : m->kind == FIBRIL_MESSAGE_CALL ? "call"
                                                            : "cast";
        result = PyObject_CallFunction(fibril__py_hooks[HOOK_REQUEST], "sOOOO", kind, mail->name,
                                       args, kwargs, caller);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(caller);
    return result;
}

static PyObject *decode_signal(struct fibril_message *m)
{
    const struct fibril_signal *s = fibril_message_data(m);
    PyObject *actor = fibril__py_actor_handle(s->actor), *result = NULL;
    PyObject *reason =
        actor ? PyObject_CallFunction(fibril__py_hooks[HOOK_REASON], "i", s->reason) : NULL;
    if (reason && m->tag == FIBRIL_TAG_DOWN) {
        result = PyObject_CallFunction(fibril__py_hooks[HOOK_DOWN], "OKO", actor,
                                       (unsigned long long)s->ref, reason);
    } else if (reason) {
        result = PyObject_CallFunction(fibril__py_hooks[HOOK_EXIT], "OO", actor, reason);
    }
    Py_XDECREF(reason);
    Py_XDECREF(actor);
    return result;
}

static PyObject *decode_letter(struct fibril_message *m)
{
    const struct fibril_dead_letter *letter = fibril_message_data(m);
    PyObject *to = fibril__py_actor_handle(letter->to);
    PyObject *inner = to && letter->letter ? fibril__py_mail_decode(letter->letter) : NULL;
    if (to && letter->letter && !inner) { /* it came from another process, and cannot be read */
        inner = fibril__py_take_exception();
    }
    PyObject *result =
        inner ? PyObject_CallFunction(fibril__py_hooks[HOOK_LETTER], "OO", to, inner) : NULL;
    Py_XDECREF(inner);
    Py_XDECREF(to);
    return result;
}

static PyObject *decode_foreign(struct fibril_message *m)
{
    PyObject *caller = caller_of(m);
    PyObject *result =
        caller ? PyObject_CallFunction(fibril__py_hooks[HOOK_FOREIGN], "Ky#O",
                                       (unsigned long long)m->tag, (char *)fibril_message_data(m),
                                       (Py_ssize_t)m->size, caller)
               : NULL;
    Py_XDECREF(caller);
    return result;
}

static PyObject *decode_pickled(struct fibril_message *m)
{
    struct fibril_message *read = fibril__py_mail_read(m);
    PyObject *what = read ? fibril__py_mail_decode(read) : NULL;
    if (read) {
        fibril__py_mail_free(read);
    }
    return what;
}

PyObject *fibril__py_mail_decode(struct fibril_message *m)
{
    if (UNLIKELY(m->type == &fibril__py_pickled_type)) {
        return decode_pickled(m);
    }
    if (UNLIKELY(!fibril__py_mail_is_sound(m))) {
        return decode_foreign(m);
    }
    switch (m->tag) {
    case MAIL_OBJECT: return Py_NewRef(((struct mail *)fibril_message_data(m))->args[0]);
    case MAIL_BOX: return Py_NewRef((*(struct box **)fibril_message_data(m))->object);
    case MAIL_METHOD:
    case MAIL_STREAM: return decode_method(m);
    case MAIL_VALUE:
    case MAIL_ERROR:
    case MAIL_REFUSED: return Py_NewRef(*(PyObject **)fibril_message_data(m));
    case FIBRIL_TAG_DOWN:
    case FIBRIL_TAG_EXIT: return decode_signal(m);
    case FIBRIL_TAG_DEAD_LETTER: return decode_letter(m);
    default: return decode_foreign(m);
    }
}
