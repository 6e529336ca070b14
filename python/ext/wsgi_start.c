/* SPDX-License-Identifier: MIT */
/*
 * start_response and the write() that it returns. Status and headers are checked and encoded when
 * they are given, so that a mistake shows its place in the application; they can be replaced until
 * the first bytes of the body take them along.
 */
#include "wsgi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <strings.h>

struct responder {
    PyObject ob_base;
    vectorcallfunc call;
    struct fibril__wsgi_request *request; /* NULL when it is over */
    PyObject *write;                      /* what start_response returns; NULL: not made yet */
};

static PyTypeObject *responder_type;

/* Headers that are not the application's, or that need a look. */
enum header { ORDINARY, HOP_BY_HOP, CONNECTION, OWN, LENGTH };
static const struct {
    const char *name;
    size_t len;
    enum header kind;
} special[] = {
    {"connection", 10, CONNECTION},
    {"content-length", 14, LENGTH},
    {"date", 4, OWN},
    {"server", 6, OWN},
    {"keep-alive", 10, HOP_BY_HOP},
    {"proxy-authenticate", 18, HOP_BY_HOP},
    {"proxy-authorization", 19, HOP_BY_HOP},
    {"te", 2, HOP_BY_HOP},
    {"trailer", 7, HOP_BY_HOP},
    {"transfer-encoding", 17, HOP_BY_HOP},
    {"upgrade", 7, HOP_BY_HOP},
};

static enum header kind_of(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (special[i].len == len && strcasecmp(name, special[i].name) == 0) {
            return special[i].kind;
        }
    }
    return ORDINARY;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* The bytes of a native string (PEP 3333: characters up to U+00FF), ended by a NUL. */
static const char *native(PyObject *text, const char *what)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %.100s", what, Py_TYPE(text)->tp_name);
        return NULL;
    }
    if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s has characters beyond latin-1: %R", what, text);
        return NULL;
    }
    const char *bytes = (const char *)PyUnicode_1BYTE_DATA(text);
    if (strlen(bytes) != (size_t)PyUnicode_GET_LENGTH(text)) {
        PyErr_Format(PyExc_ValueError, "%s has a zero byte: %R", what, text);
        return NULL;
    }
    return bytes;
}

static int raise_header(int rc, PyObject *name, PyObject *value)
{
    if (rc == -ENOBUFS) {
        PyErr_SetString(PyExc_ValueError, "the response has more than 32 KiB of headers");
    } else if (rc == -ENOMEM) {
        PyErr_NoMemory();
    } else {
        PyErr_Format(PyExc_ValueError, "no such header can be sent: %R: %R", name, value);
    }
    return -1;
}

/* Whether the server sends it for the application: 1, 0 or -1 with an exception. */
static int passes(enum header kind, const char *value, PyObject *name)
{
    if (kind == HOP_BY_HOP) {
        PyErr_Format(PyExc_ValueError, "the header %R belongs to the connection: the server's",
                     name);
        return -1;
    }
    return kind != OWN && (kind != CONNECTION || strcasecmp(value, "close") == 0);
}

static int add_header(struct fibril__wsgi_request *r, PyObject *pair)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError, "headers must be tuples (name, value), not %R", pair);
        return -1;
    }
    PyObject *name_text = PyTuple_GET_ITEM(pair, 0), *value_text = PyTuple_GET_ITEM(pair, 1);
    const char *name = native(name_text, "the name of a header");
    const char *value = name ? native(value_text, "the value of a header") : NULL;
    if (!value) {
        return -1;
    }
    enum header kind = kind_of(name, (size_t)PyUnicode_GET_LENGTH(name_text));
    int rc = passes(kind, value, name_text);
    if (rc <= 0) {
        return rc;
    }
    rc = fibril_http_header(r->http, name, value);
    if (rc < 0) {
        return raise_header(rc, name_text, value_text);
    }
    if (kind == LENGTH) { /* a number: the server has looked */
        r->announced = strtoull(value, NULL, 10);
        r->has_announced = true;
    }
    return 0;
}

static int add_headers(struct fibril__wsgi_request *r, PyObject *headers)
{
    if (!PyList_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "the headers must be a list, not %.100s",
                     Py_TYPE(headers)->tp_name);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        if (add_header(r, PyList_GET_ITEM(headers, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int set_status(struct fibril__wsgi_request *r, PyObject *status)
{
    const char *text = native(status, "the status");
    int code = 0;
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (!text) {
        return -1;
    }
    for (size_t i = 0; i < digits && i < 4; i++) {
        code = code * 10 + (text[i] - '0');
    }
    bool fine = digits == 3 && (text[3] == ' ' || text[3] == '\0');
    if (!fine || fibril_http_status(r->http, code) < 0) {
        PyErr_Format(PyExc_ValueError, "the status must be like '200 OK', from 200 to 599, not %R",
                     status);
        return -1;
    }
    r->bodiless = r->is_head || code == 204 || code == 304;
    return 0;
}

/* ---- start_response -------------------------------------------------------------------------- */

/* With exc_info an error replaces the response, unless its head is gone: then it goes on up. */
static int may_start(struct fibril__wsgi_request *r, PyObject *exc_info)
{
    if (exc_info == Py_None) {
        if (r->started) {
            PyErr_SetString(PyExc_RuntimeError,
                            "start_response was called again, and without exc_info");
            return -1;
        }
        return 0;
    }
    if (!PyTuple_Check(exc_info) || PyTuple_GET_SIZE(exc_info) != 3) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be what sys.exc_info() returns");
        return -1;
    }
    if (r->committed) {
        PyObject *value = PyTuple_GET_ITEM(exc_info, 1), *trace = PyTuple_GET_ITEM(exc_info, 2);
        if (!PyExceptionInstance_Check(value) ||
            (trace != Py_None && PyException_SetTraceback(value, trace) < 0)) {
            PyErr_SetString(PyExc_TypeError, "exc_info must be what sys.exc_info() returns");
            return -1;
        }
        PyErr_SetObject((PyObject *)Py_TYPE(value), value);
        return -1;
    }
    return 0;
}

static struct fibril__wsgi_request *request_of(PyObject *self)
{
    struct fibril__wsgi_request *r = ((struct responder *)self)->request;
    if (!r) {
        PyErr_SetString(PyExc_RuntimeError, "this request is over");
    }
    return r;
}

static PyObject *write_block(PyObject *self, PyObject *block)
{
    struct fibril__wsgi_request *r = request_of(self);
    if (!r || fibril__wsgi_block(r, block) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef write_method = {"write", write_block, METH_O,
                                   "write(data): sends a block of the body"};

/* Positional as a rule, which needs no parsing. */
static bool parse(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **values)
{
    static const char *const names[] = {"status", "headers", "exc_info"};
    Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < nargs && i < 3; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t k = 0; k < named; k++) {
        int i = 0;
        while (i < 3 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, k), names[i])) {
            i++;
        }
        if (i == 3 || i < nargs) {
            PyErr_Format(PyExc_TypeError, "start_response() does not take %R here",
                         PyTuple_GET_ITEM(kwnames, k));
            return false;
        }
        values[i] = args[nargs + k];
    }
    if (nargs > 3 || !values[0] || !values[1]) {
        PyErr_SetString(PyExc_TypeError, "start_response() takes status, headers[, exc_info]");
        return false;
    }
    return true;
}

static PyObject *give_write(struct responder *self)
{
    if (!self->write) {
        self->write = PyCFunction_New(&write_method, (PyObject *)self);
    }
    return Py_XNewRef(self->write);
}

static PyObject *start(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *values[3] = {NULL, NULL, Py_None};
    struct fibril__wsgi_request *r = request_of(self);
    if (!r || !parse(args, PyVectorcall_NARGS(nargsf), kwnames, values) ||
        may_start(r, values[2]) < 0) {
        return NULL;
    }
    if (fibril_http_reset(r->http) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "the head of the response is on its way already");
        return NULL;
    }
    r->started = r->has_announced = false;
    if (set_status(r, values[0]) < 0 || add_headers(r, values[1]) < 0) {
        fibril_http_reset(r->http);
        return NULL;
    }
    r->started = true;
    return give_write((struct responder *)self);
}

/* ---- the object ------------------------------------------------------------------------------ */

/* Those that nobody has kept are used again, with the write() that belongs to them. */
enum { SPARE_MAX = 64 };
static struct responder *spare[SPARE_MAX];
static unsigned spares;

PyObject *fibril__wsgi_responder_new(struct fibril__wsgi_request *r)
{
    struct responder *self;
    if (spares > 0) {
        self = spare[--spares];
    } else if ((self = PyObject_GC_New(struct responder, responder_type)) != NULL) {
        self->call = start;
        self->write = NULL;
        PyObject_GC_Track(self);
    }
    if (self) {
        self->request = r;
    }
    return (PyObject *)self;
}

void fibril__wsgi_responder_end(PyObject *object)
{
    struct responder *self = (struct responder *)object;
    self->request = NULL;
    bool ours = Py_REFCNT(self) == (self->write ? 2 : 1);
    if (ours && (!self->write || Py_REFCNT(self->write) == 1) && spares < SPARE_MAX) {
        spare[spares++] = self;
    } else {
        Py_CLEAR(self->write);
        Py_DECREF(self);
    }
}

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct responder *)object)->write);
    return 0;
}

static int clear(PyObject *object)
{
    Py_CLEAR(((struct responder *)object)->write);
    return 0;
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct responder, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, fibril__py_dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, members},
    {Py_tp_doc, "start_response(status, headers, exc_info=None) of one request."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "fibril._fibril.StartResponse",
    .basicsize = sizeof(struct responder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fibril__wsgi_responder_init(void)
{
    responder_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return responder_type ? 0 : -1;
}
