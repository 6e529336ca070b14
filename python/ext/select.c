/* SPDX-License-Identifier: MIT */
/*
 * select over channels and descriptors. A case is a Channel (receive), a tuple (Channel, value)
 * (send), or a tuple (fd, events).
 */
#include "chan.h"

enum { CASES_MAX = 1024 };

struct selection {
    struct fibril_case *cases;
    PyObject **values; /* sent, or received; each case's elem points into it */
    size_t n;
    int index; /* out */
};

static bool is_channel(PyObject *o)
{
    return Py_IS_TYPE(o, fibril__py.channel_type);
}

static bool fill_fd(struct fibril_case *c, PyObject *tuple)
{
    long fd = PyLong_AsLong(PyTuple_GET_ITEM(tuple, 0));
    long events = PyLong_AsLong(PyTuple_GET_ITEM(tuple, 1));
    if (PyErr_Occurred()) {
        return false;
    }
    if (fd < 0 || fd > INT32_MAX || events <= 0 || events > INT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "a descriptor or its events are out of range");
        return false;
    }
    *c = (struct fibril_case){.op = FIBRIL_CASE_FD, .fd = (int)fd, .events = (short)events};
    return true;
}

static bool fill(struct fibril_case *c, PyObject **value, PyObject *what)
{
    if (is_channel(what)) {
        *c = (struct fibril_case){
            .op = FIBRIL_CASE_RECV, .chan = ((struct channel *)what)->chan, .elem = value};
        return true;
    }
    bool pair = PyTuple_Check(what) && PyTuple_GET_SIZE(what) == 2;
    if (pair && is_channel(PyTuple_GET_ITEM(what, 0))) {
        *value = PyTuple_GET_ITEM(what, 1);
        *c = (struct fibril_case){.op = FIBRIL_CASE_SEND,
                                  .chan = ((struct channel *)PyTuple_GET_ITEM(what, 0))->chan,
                                  .elem = value};
        return true;
    }
    if (pair && PyLong_Check(PyTuple_GET_ITEM(what, 0)) &&
        PyLong_Check(PyTuple_GET_ITEM(what, 1))) {
        return fill_fd(c, what);
    }
    PyErr_SetString(PyExc_TypeError,
                    "a case is a Channel, a tuple (Channel, value) or a tuple (fd, events)");
    return false;
}

static int select_op(void *arg, int64_t deadline_ns)
{
    struct selection *s = arg;
    s->index = fibril_select(s->cases, s->n, deadline_ns);
    return s->index < 0 ? s->index : 0;
}

static PyObject *chosen(const struct selection *s)
{
    const struct fibril_case *c = &s->cases[s->index];
    if (c->result < 0) {
        return fibril__py_raise(c->result);
    }
    if (c->op == FIBRIL_CASE_FD) {
        return Py_BuildValue("(ii)", s->index, c->ret_events);
    }
    if (c->op == FIBRIL_CASE_RECV) {
        return Py_BuildValue("(iN)", s->index, s->values[s->index]);
    }
    return Py_BuildValue("(iO)", s->index, Py_None);
}

/* The receiver of a sent value owns a reference: each sender holds one while it waits, and those
 * that did not send drop theirs. */
static PyObject *wait_for_one(struct selection *s, int64_t deadline_ns)
{
    for (size_t i = 0; i < s->n; i++) {
        Py_XINCREF(s->values[i]);
    }
    s->index = -1;
    int rc = fibril__py_wait(select_op, s, deadline_ns);
    for (size_t i = 0; i < s->n; i++) {
        const struct fibril_case *c = &s->cases[i];
        bool sent = rc == 0 && (int)i == s->index && c->result == 0;
        if (c->op == FIBRIL_CASE_SEND && !sent) {
            Py_DECREF(s->values[i]);
        }
    }
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    return chosen(s);
}

static PyObject *select_from(PyObject *const *args, Py_ssize_t n, int64_t deadline_ns)
{
    struct selection s = {.cases = PyMem_Calloc((size_t)n + 1, sizeof *s.cases),
                          .values = PyMem_Calloc((size_t)n + 1, sizeof *s.values),
                          .n = (size_t)n};
    bool ok = s.cases && s.values;
    if (!ok) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; ok && i < n; i++) {
        ok = fill(&s.cases[i], &s.values[i], args[i]);
    }
    PyObject *result = ok ? wait_for_one(&s, deadline_ns) : NULL;
    PyMem_Free(s.cases);
    PyMem_Free(s.values);
    return result;
}

PyDoc_STRVAR(
    select_doc,
    "select(*cases, timeout=None)\n--\n\n"
    "Waits for the first of the cases, carries it out and returns (index, value). A case\n"
    "is a Channel (receive: value is what came), a tuple (Channel, value) (send: value is\n"
    "None) or a tuple (fd, events) (value is the events of poll that hold). If several\n"
    "can go at once the choice rotates.\n\n"
    "timeout: seconds. Raises TimeoutError, ChannelClosed when the channel of the chosen\n"
    "case is closed, Cancelled, OSError for a bad descriptor.");

static PyObject *py_select(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (named > 1 || (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0),
                                                                     "timeout") != 0)) {
        PyErr_SetString(PyExc_TypeError, "select knows the keyword timeout only");
        return NULL;
    }
    if (n > CASES_MAX) {
        PyErr_Format(PyExc_ValueError, "%zd cases, %d at most", n, CASES_MAX);
        return NULL;
    }
    int64_t deadline_ns;
    if (!fibril__py_deadline(named ? args[n] : NULL, &deadline_ns)) {
        return NULL;
    }
    return select_from(args, n, deadline_ns);
}

static PyMethodDef functions[] = {
    {"select", (PyCFunction)(void (*)(void))py_select, METH_FASTCALL | METH_KEYWORDS, select_doc},
    {NULL, NULL, 0, NULL}};

int fibril__py_select_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
