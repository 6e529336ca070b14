/* SPDX-License-Identifier: MIT */
/*
 * What any fibril can do as an actor, and to others: numbers, exit signals, links, monitors, ends,
 * state. fibril.actors makes methods and functions of it.
 */
#include "actor_py.h"

#include <fibril/server.h>

#include <string.h>

/* ---- numbers and signals ---- */

static PyObject *py_self(PyObject *module, PyObject *unused)
{
    return fibril__py_actor_handle(fibril_actor_self());
}

static PyObject *py_exit(PyObject *module, PyObject *args)
{
    unsigned long long id;
    int reason;
    return PyArg_ParseTuple(args, "Ki", &id, &reason)
               ? fibril__py_none(fibril_actor_exit(id, reason))
               : NULL;
}

static PyObject *py_link(PyObject *module, PyObject *args)
{
    unsigned long long id;
    int on;
    if (!PyArg_ParseTuple(args, "Kp", &id, &on)) {
        return NULL;
    }
    return fibril__py_none(on ? fibril_actor_link(id) : fibril_actor_unlink(id));
}

static PyObject *py_monitor(PyObject *module, PyObject *args)
{
    unsigned long long id;
    uint64_t ref = 0;
    if (!PyArg_ParseTuple(args, "K", &id)) {
        return NULL;
    }
    int rc = fibril_actor_monitor(id, &ref);
    return rc < 0 ? fibril__py_raise(rc) : PyLong_FromUnsignedLongLong(ref);
}

static PyObject *py_demonitor(PyObject *module, PyObject *args)
{
    unsigned long long ref;
    return PyArg_ParseTuple(args, "K", &ref) ? PyBool_FromLong(fibril_actor_demonitor(ref) == 0)
                                             : NULL;
}

static PyObject *py_trap(PyObject *module, PyObject *on)
{
    int trap = PyObject_IsTrue(on);
    if (trap < 0 || !fibril_actor_self()) {
        return trap < 0 ? NULL : fibril__py_raise(fibril_current() ? -ENOMEM : -EPERM);
    }
    return PyBool_FromLong(fibril_actor_trap_exits(trap));
}

static PyObject *py_set_mailbox(PyObject *module, PyObject *args)
{
    struct fibril_mailbox box = {0};
    unsigned overflow;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "InI", &box.messages, &bytes, &overflow)) {
        return NULL;
    }
    box.bytes = (size_t)bytes;
    box.overflow = overflow;
    return fibril__py_none(fibril_actor_set_mailbox(&box));
}

/* ---- counts, dead letters, the end ---- */

static PyObject *py_counts(PyObject *module, PyObject *unused)
{
    struct fibril_actor_counts c;
    fibril_actor_counts(&c);
    return Py_BuildValue("{sKsKsKsKsKsK}", "spawned", (unsigned long long)c.spawned, "ended",
                         (unsigned long long)c.ended, "crashed", (unsigned long long)c.crashed,
                         "dead_letters", (unsigned long long)c.dead_letters, "dropped",
                         (unsigned long long)c.dropped, "late_replies",
                         (unsigned long long)c.late_replies);
}

static PyObject *py_dead_letters_to(PyObject *module, PyObject *args)
{
    unsigned long long id;
    if (!PyArg_ParseTuple(args, "K", &id)) {
        return NULL;
    }
    fibril_actor_dead_letters_to(id);
    Py_RETURN_NONE;
}

static PyObject *py_waiting(PyObject *module, PyObject *unused)
{
    return PyLong_FromSize_t(fibril_actor_waiting());
}

/* Waits for an end: a call whose message is none. */
static int join_op(void *arg, int64_t deadline_ns)
{
    uint64_t id = *(uint64_t *)arg;
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril_message *none_comes = NULL;
    if (!a) {
        return -ENOMEM;
    }
    if (!fibril_actor_alive(id)) {
        return 0;
    }
    fibril__call_expect(a);
    int rc = fibril__call_await(a, id, deadline_ns);
    rc = fibril__call_close(a, rc, &none_comes);
    return rc == -EPIPE || rc == -ESRCH ? 0 : rc;
}

static PyObject *py_join(PyObject *module, PyObject *args)
{
    unsigned long long id;
    uint64_t actor;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "KO", &id, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    const struct fibril__actor *self = fibril__actor_self();
    if (self && self->id == id) {
        return fibril__py_actor_raise(id, -EDEADLK);
    }
    actor = id;
    int rc = fibril__py_wait(join_op, &actor, deadline_ns);
    return rc <= 0 ? fibril__py_none(rc) : NULL;
}

/* ---- all of them ---- */

static bool append_actor(PyObject *list, uint64_t id)
{
    const struct fibril__actor *a = fibril__actor_here(id);
    const struct pyactor *o = a && a->fn == fibril__py_actor_fn ? a->arg : NULL;
    if (!o || !o->instance) {
        return true;
    }
    PyObject *handle = fibril__py_actor_handle(id);
    PyObject *item = handle ? PyTuple_Pack(2, handle, Py_TYPE(o->instance)) : NULL;
    int rc = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(handle);
    Py_XDECREF(item);
    return rc == 0;
}

static PyObject *py_list(PyObject *module, PyObject *unused)
{
    enum { BATCH = 256 };
    uint64_t ids[BATCH], after = 0;
    PyObject *list = PyList_New(0);
    size_t n = BATCH;
    while (list && n == BATCH) {
        n = fibril_actor_list(after, ids, BATCH);
        for (size_t i = 0; list && i < n; i++) {
            after = ids[i];
            if (!append_actor(list, ids[i])) {
                Py_CLEAR(list);
            }
        }
    }
    return list;
}

static PyObject *py_is_class(PyObject *module, PyObject *args)
{
    unsigned long long id;
    unsigned number;
    if (!PyArg_ParseTuple(args, "K", &id)) {
        return NULL;
    }
    const struct fibril__actor *a = fibril__actor_find(id, &number);
    return PyBool_FromLong(a && a->fn == fibril__py_actor_fn);
}

struct stopping {
    uint64_t id;
    int reason;
};

static int stop_op(void *arg, int64_t deadline_ns)
{
    struct stopping *s = arg;
    return fibril_server_stop(s->id, s->reason, deadline_ns);
}

/* Returns whether it was there to be stopped. */
static PyObject *py_stop(PyObject *module, PyObject *args)
{
    struct stopping s;
    unsigned long long id;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "KiO", &id, &s.reason, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    s.id = id;
    int rc = fibril__py_wait_once(stop_op, &s, deadline_ns);
    if (rc == 0 || rc == -ESRCH) {
        return PyBool_FromLong(rc == 0);
    }
    return rc < 0 ? fibril__py_actor_raise(id, rc) : NULL;
}

struct status {
    uint64_t id;
    char text[1024];
};

static int status_op(void *arg, int64_t deadline_ns)
{
    struct status *s = arg;
    return fibril_server_status(s->id, s->text, sizeof s->text, deadline_ns);
}

static PyObject *py_status(PyObject *module, PyObject *args)
{
    struct status s = {0};
    unsigned long long id;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "KO", &id, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    s.id = id;
    int rc = fibril__py_wait_once(status_op, &s, deadline_ns);
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(id, rc) : NULL;
    }
    return PyUnicode_DecodeUTF8(s.text, (Py_ssize_t)strlen(s.text), "ignore");
}

#define IN_PLACE "\n--\n\nSee fibril.actors."
static PyMethodDef functions[] = {
    {"_actor_self", py_self, METH_NOARGS, "_actor_self()" IN_PLACE},
    {"_actor_exit", py_exit, METH_VARARGS, "_actor_exit(id, reason)" IN_PLACE},
    {"_actor_link", py_link, METH_VARARGS, "_actor_link(id, on)" IN_PLACE},
    {"_actor_monitor", py_monitor, METH_VARARGS, "_actor_monitor(id)" IN_PLACE},
    {"_actor_demonitor", py_demonitor, METH_VARARGS, "_actor_demonitor(ref)" IN_PLACE},
    {"_actor_trap", py_trap, METH_O, "_actor_trap(on)" IN_PLACE},
    {"_actor_set_mailbox", py_set_mailbox, METH_VARARGS,
     "_actor_set_mailbox(messages, bytes, overflow)" IN_PLACE},
    {"_actor_counts", py_counts, METH_NOARGS, "_actor_counts()" IN_PLACE},
    {"_actor_dead_letters_to", py_dead_letters_to, METH_VARARGS,
     "_actor_dead_letters_to(id)" IN_PLACE},
    {"_actor_waiting", py_waiting, METH_NOARGS, "_actor_waiting()" IN_PLACE},
    {"_actor_stop", py_stop, METH_VARARGS, "_actor_stop(id, reason, timeout)" IN_PLACE},
    {"_actor_join", py_join, METH_VARARGS, "_actor_join(id, timeout)" IN_PLACE},
    {"_actor_list", py_list, METH_NOARGS, "_actor_list()" IN_PLACE},
    {"_actor_is_class", py_is_class, METH_VARARGS, "_actor_is_class(id)" IN_PLACE},
    {"_actor_status", py_status, METH_VARARGS, "_actor_status(id, timeout)" IN_PLACE},
    {NULL, NULL, 0, NULL}};

int fibril__py_actor_life_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
