/* SPDX-License-Identifier: MIT */
/*
 * What comes later, or by name: deferred replies, timers, names and topics.
 */
#include "actor_py.h"

#include <fibril/server.h>

/* ---- what only actors of classes have ---- */

static struct pyactor *class_actor(void)
{
    struct pyactor *o = fibril__py_actor_self();
    if (!o) {
        PyErr_SetString(PyExc_RuntimeError, "only for actors of a class, in their own handlers");
    }
    return o;
}

static PyObject *py_stop_self(PyObject *module, PyObject *reason)
{
    struct pyactor *o = class_actor();
    int number = (int)PyLong_AsLong(reason);
    if (!o || PyErr_Occurred()) {
        return NULL;
    }
    o->stopping = true;
    o->reason = number;
    Py_RETURN_NONE;
}

static PyObject *py_defer(PyObject *module, PyObject *unused)
{
    struct pyactor *o = class_actor();
    if (!o) {
        return NULL;
    }
    if (!o->from.actor) {
        Py_RETURN_NONE;
    }
    o->deferred = true;
    return Py_BuildValue("KK", (unsigned long long)o->from.actor, (unsigned long long)o->from.ref);
}

static PyObject *py_set_idle(PyObject *module, PyObject *seconds)
{
    struct pyactor *o = class_actor();
    double s = o && seconds != Py_None ? PyFloat_AsDouble(seconds) : 0;
    if (!o || PyErr_Occurred()) {
        return NULL;
    }
    if (!(s >= 0 && s < 9e9)) {
        PyErr_SetString(PyExc_ValueError, "an impossible number of seconds");
        return NULL;
    }
    o->idle_ns = (int64_t)(s * 1e9);
    Py_RETURN_NONE;
}

/* ---- replies that come later ---- */

static PyObject *py_reply(PyObject *module, PyObject *args)
{
    struct fibril_from from;
    PyObject *value;
    struct fibril_message *m;
    int failed;
    unsigned long long actor, ref;
    if (!PyArg_ParseTuple(args, "KKOp", &actor, &ref, &value, &failed)) {
        return NULL;
    }
    from = (struct fibril_from){actor, ref};
    int rc = fibril__py_mail_value(failed ? MAIL_REFUSED : MAIL_VALUE, Py_NewRef(value), &m);
    if (rc == 0 && !fibril__py_mail_carry(actor, &m)) {
        fibril__py_mail_free(m);
        return NULL;
    }
    if (rc == 0) {
        fibril_actor_reply(from, m);
    }
    return fibril__py_none(rc);
}

static PyObject *py_reply_bytes(PyObject *module, PyObject *args)
{
    const char *data;
    Py_ssize_t size;
    unsigned long long actor, ref;
    if (!PyArg_ParseTuple(args, "KKy#", &actor, &ref, &data, &size)) {
        return NULL;
    }
    return fibril__py_none(
        fibril_server_reply((struct fibril_from){actor, ref}, data, (size_t)size));
}

/* To a caller in C, where a handler's exception says nothing. */
static PyObject *py_refuse(PyObject *module, PyObject *args)
{
    unsigned long long actor, ref;
    int error;
    if (!PyArg_ParseTuple(args, "KKi", &actor, &ref, &error)) {
        return NULL;
    }
    fibril_actor_refuse((struct fibril_from){actor, ref}, -error);
    Py_RETURN_NONE;
}

/* What the caller had taken and found nobody to handle. */
static PyObject *py_dead_letter(PyObject *module, PyObject *message)
{
    struct fibril_message *m;
    if (fibril__py_mail_new(MAIL_OBJECT, NULL, &message, 1, NULL, &m) < 0) {
        return PyErr_NoMemory();
    }
    fibril__dead_letter(fibril_actor_self(), m);
    Py_RETURN_NONE;
}

struct giving {
    struct fibril_from from;
    struct fibril_message *m;
};

static int give_op(void *arg, int64_t deadline_ns)
{
    struct giving *g = arg;
    return fibril_stream_give(g->from, g->m, deadline_ns);
}

/* Returns whether somebody still reads. */
static PyObject *py_give(PyObject *module, PyObject *args)
{
    struct giving g = {0};
    PyObject *value;
    int last;
    unsigned long long actor, ref;
    if (!PyArg_ParseTuple(args, "KKOp", &actor, &ref, &value, &last)) {
        return NULL;
    }
    g.from = (struct fibril_from){actor, ref};
    int rc = last ? 0 : fibril__py_mail_value(MAIL_VALUE, Py_NewRef(value), &g.m);
    if (rc == 0 && g.m && !fibril__py_mail_carry(actor, &g.m)) {
        rc = 1;
    }
    rc = rc == 0 ? fibril__py_wait(give_op, &g, FIBRIL_FOREVER) : rc;
    if (rc != 0 && g.m) {
        fibril__py_mail_free(g.m);
    }
    if (rc == 0 || rc == -EPIPE) {
        return PyBool_FromLong(rc == 0);
    }
    return rc < 0 ? fibril__py_raise(rc) : NULL;
}

/* ---- timers ---- */

static PyObject *py_send_at(PyObject *module, PyObject *args)
{
    unsigned long long id;
    PyObject *object, *delay;
    double interval;
    int64_t deadline_ns;
    uint64_t timer;
    struct fibril_message *m;
    if (!PyArg_ParseTuple(args, "KOOd", &id, &object, &delay, &interval) ||
        !fibril__py_deadline(delay, &deadline_ns)) {
        return NULL;
    }
    if (!(interval >= 0 && interval < 9e9)) {
        PyErr_SetString(PyExc_ValueError, "an impossible number of seconds");
        return NULL;
    }
    int rc = fibril_current() ? fibril__py_mail_box(object, &m) : -EPERM;
    if (rc == 0 && !fibril__py_mail_carry(id, &m)) {
        fibril__py_mail_free(m);
        return NULL;
    }
    if (rc == 0) {
        rc = fibril_actor_send_at(id, m, deadline_ns, (int64_t)(interval * 1e9), &timer);
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    fibril__py_mail_drain();
    return rc < 0 ? fibril__py_raise(rc) : PyLong_FromUnsignedLongLong(timer);
}

static PyObject *py_cancel_timer(PyObject *module, PyObject *args)
{
    unsigned long long timer;
    if (!PyArg_ParseTuple(args, "K", &timer)) {
        return NULL;
    }
    int rc = fibril_current() ? fibril_actor_cancel_timer(timer) : -EPERM;
    fibril__py_mail_drain();
    return rc == 0 || rc == -ENOENT ? PyBool_FromLong(rc == 0) : fibril__py_raise(rc);
}

/* ---- names and topics ---- */

static PyObject *py_register(PyObject *module, PyObject *args)
{
    unsigned long long id;
    const char *name;
    if (!PyArg_ParseTuple(args, "Ks", &id, &name)) {
        return NULL;
    }
    int rc = fibril_actor_register(id, name);
    if (rc == -EEXIST) {
        return PyErr_Format(PyExc_ValueError, "'%s' is taken, or the actor has a name", name);
    }
    return rc == -ESRCH ? fibril__py_actor_raise(id, rc) : fibril__py_none(rc);
}

static PyObject *py_unregister(PyObject *module, PyObject *args)
{
    const char *name;
    return PyArg_ParseTuple(args, "s", &name) ? PyBool_FromLong(fibril_actor_unregister(name) == 0)
                                              : NULL;
}

static PyObject *py_whereis(PyObject *module, PyObject *args)
{
    const char *name;
    return PyArg_ParseTuple(args, "s", &name) ? fibril__py_actor_handle(fibril_actor_whereis(name))
                                              : NULL;
}

static PyObject *py_topic(PyObject *module, PyObject *args)
{
    const char *topic;
    unsigned long long id;
    int join;
    if (!PyArg_ParseTuple(args, "sKp", &topic, &id, &join)) {
        return NULL;
    }
    int rc = join ? fibril_topic_join(topic, id) : fibril_topic_leave(topic, id);
    if (rc == -ENOENT) {
        Py_RETURN_FALSE;
    }
    return rc == -ESRCH ? fibril__py_actor_raise(id, rc)
           : rc < 0     ? fibril__py_raise(rc)
                        : Py_NewRef(Py_True);
}

/* In memory of PyMem; NULL: there is none. */
static uint64_t *members_of(const char *topic, size_t *ret_n)
{
    size_t n = fibril_topic_members(topic, NULL, 0);
    uint64_t *ids = PyMem_Malloc((n + 1) * sizeof *ids);
    if (ids) {
        size_t now = fibril_topic_members(topic, ids, n);
        *ret_n = now < n ? now : n;
    }
    return ids;
}

static PyObject *py_members(PyObject *module, PyObject *args)
{
    const char *topic;
    size_t n;
    if (!PyArg_ParseTuple(args, "s", &topic)) {
        return NULL;
    }
    uint64_t *ids = members_of(topic, &n);
    if (!ids) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *handle = fibril__py_actor_handle(ids[i]);
        if (!handle) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, handle);
    }
    PyMem_Free(ids);
    return list;
}

static PyObject *py_publish(PyObject *module, PyObject *args)
{
    const char *topic;
    PyObject *object, *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "sOO", &topic, &object, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    int taken = 0;
    size_t n;
    uint64_t *ids = members_of(topic, &n);
    int rc = ids ? fibril__py_fan_out(ids, n, object, deadline_ns, &taken) : -ENOMEM;
    PyMem_Free(ids);
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    return PyLong_FromLong(taken);
}

#define IN_PLACE "\n--\n\nSee fibril.actors."
static PyMethodDef functions[] = {
    {"_actor_stop_self", py_stop_self, METH_O, "_actor_stop_self(reason)" IN_PLACE},
    {"_actor_defer", py_defer, METH_NOARGS, "_actor_defer()" IN_PLACE},
    {"_actor_set_idle", py_set_idle, METH_O, "_actor_set_idle(seconds)" IN_PLACE},
    {"_actor_reply", py_reply, METH_VARARGS, "_actor_reply(actor, ref, value, failed)" IN_PLACE},
    {"_actor_reply_bytes", py_reply_bytes, METH_VARARGS,
     "_actor_reply_bytes(actor, ref, data)" IN_PLACE},
    {"_actor_refuse", py_refuse, METH_VARARGS, "_actor_refuse(actor, ref, errno)" IN_PLACE},
    {"_actor_dead_letter", py_dead_letter, METH_O, "_actor_dead_letter(message)" IN_PLACE},
    {"_actor_give", py_give, METH_VARARGS, "_actor_give(actor, ref, value, last)" IN_PLACE},
    {"_actor_send_at", py_send_at, METH_VARARGS,
     "_actor_send_at(id, message, delay, interval)" IN_PLACE},
    {"_actor_cancel_timer", py_cancel_timer, METH_VARARGS, "_actor_cancel_timer(timer)" IN_PLACE},
    {"_actor_register", py_register, METH_VARARGS, "_actor_register(id, name)" IN_PLACE},
    {"_actor_unregister", py_unregister, METH_VARARGS, "_actor_unregister(name)" IN_PLACE},
    {"_actor_whereis", py_whereis, METH_VARARGS, "_actor_whereis(name)" IN_PLACE},
    {"_actor_topic", py_topic, METH_VARARGS, "_actor_topic(topic, id, join)" IN_PLACE},
    {"_actor_members", py_members, METH_VARARGS, "_actor_members(topic)" IN_PLACE},
    {"_actor_publish", py_publish, METH_VARARGS,
     "_actor_publish(topic, message, timeout)" IN_PLACE},
    {NULL, NULL, 0, NULL}};

int fibril__py_actor_later_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
