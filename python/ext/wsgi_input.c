/* SPDX-License-Identifier: MIT */
/*
 * wsgi.input: the body of the request as a file that ends where the body ends. Bytes go from the
 * socket into the object that is returned, except for lines, which need a buffer to look ahead.
 * Waiting for the peer happens without the interpreter lock.
 */
#include "wsgi.h"

#include <errno.h>
#include <string.h>

enum { LOOK_AHEAD = 8192, PIECE = 65536, BUSY_NS = 5000000 };

struct input {
    PyObject ob_base;
    struct fibril__wsgi_request *request; /* NULL when it is over */
    char *ahead;                          /* read and not taken: ahead[at .. len) */
    size_t at, len;
    bool end;  /* of the body */
    bool busy; /* a fibril waits in here: two readers would get mixed pieces */
};

static PyTypeObject *input_type;

/* ---- from the peer --------------------------------------------------------------------------- */

static int fail(struct input *self, ssize_t rc)
{
    if (self->request && !self->request->error) {
        self->request->error = (int)rc;
    }
    if (rc == -EMSGSIZE) {
        PyErr_SetString(PyExc_OSError, "the request body is larger than the server takes");
    } else {
        errno = rc == -EPIPE ? ECONNRESET : (int)-rc;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

static int enter(struct input *self)
{
    if (!self->request) {
        PyErr_SetString(PyExc_ValueError, "the request of this wsgi.input is over");
        return -1;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "wsgi.input is being read by another thread");
        return -1;
    }
    return 0;
}

/* Reads until buf is full or the body ends: the number of bytes, or -1 with an exception. */
static Py_ssize_t fill(struct input *self, char *buf, size_t len, bool all)
{
    struct fibril_http_req *http = self->request->http;
    struct pyfibril *py = fibril__py_self();
    ssize_t n = 1;
    size_t got = 0;
    if (!py) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "wsgi.input is read on the server's thread only");
        }
        return -1;
    }
    self->busy = true;
    fibril__py_leave(py);
    while (got < len &&
           (n = fibril_http_body_read(http, buf + got, len - got, FIBRIL_FOREVER)) > 0) {
        got += (size_t)n;
        if (!all) {
            break;
        }
    }
    fibril__py_enter(py);
    self->busy = false;
    self->end |= n == 0;
    return n < 0 ? fail(self, n) : (Py_ssize_t)got;
}

static size_t take_ahead(struct input *self, char *buf, size_t len)
{
    size_t n = self->len - self->at < len ? self->len - self->at : len;
    if (n > 0) {
        memcpy(buf, self->ahead + self->at, n);
        self->at += n;
    }
    return n;
}

/* ---- read ------------------------------------------------------------------------------------ */

/* At most `most` bytes, growing with what really comes: an announced length is only a claim. */
static PyObject *read_most(struct input *self, size_t most)
{
    size_t room = most < PIECE ? most : PIECE, got = 0;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    while (bytes) {
        char *to = PyBytes_AS_STRING(bytes);
        got += take_ahead(self, to + got, room - got);
        if (got < room && !self->end) {
            Py_ssize_t n = fill(self, to + got, room - got, true);
            if (n < 0) {
                Py_DECREF(bytes);
                return NULL;
            }
            got += (size_t)n;
        }
        if (got < room || got == most) {
            break;
        }
        room = most - room < room ? most : room * 2;
        if (_PyBytes_Resize(&bytes, (Py_ssize_t)room) < 0) {
            return NULL;
        }
    }
    if (bytes && got < (size_t)PyBytes_GET_SIZE(bytes)) {
        _PyBytes_Resize(&bytes, (Py_ssize_t)got);
    }
    return bytes;
}

/* A size argument: absent, None and negative mean everything. 0 or -1 with an exception. */
static int size_argument(PyObject *const *args, Py_ssize_t nargs, const char *name,
                         size_t *ret_most)
{
    *ret_most = PY_SSIZE_T_MAX;
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", name, nargs);
        return -1;
    }
    if (nargs == 0 || args[0] == Py_None) {
        return 0;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return -1;
    }
    *ret_most = size < 0 ? PY_SSIZE_T_MAX : (size_t)size;
    return 0;
}

static PyObject *input_read(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    struct input *self = (struct input *)object;
    size_t most;
    if (size_argument(args, nargs, "read", &most) < 0 || enter(self) < 0) {
        return NULL;
    }
    return read_most(self, most);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Something to look at: 1, 0 at the end of the body, -1 with an exception. */
static int look_ahead(struct input *self)
{
    if (self->at < self->len) {
        return 1;
    }
    if (self->end) {
        return 0;
    }
    if (!self->ahead && !(self->ahead = PyMem_Malloc(LOOK_AHEAD))) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t n = fill(self, self->ahead, LOOK_AHEAD, false);
    self->at = 0;
    self->len = n > 0 ? (size_t)n : 0;
    return n < 0 ? -1 : n > 0;
}

/* How many of the bytes ahead belong to the line, at most `most`. */
static size_t span_of_line(const struct input *self, size_t most, bool *ret_whole)
{
    const char *from = self->ahead + self->at;
    size_t n = self->len - self->at < most ? self->len - self->at : most;
    const char *newline = memchr(from, '\n', n);
    *ret_whole = newline || n == most;
    return newline ? (size_t)(newline - from) + 1 : n;
}

/* A line that goes on behind what was ahead gathers in a buffer of its own. */
static PyObject *read_long_line(struct input *self, size_t most)
{
    PyObject *line = PyByteArray_FromStringAndSize(NULL, 0), *bytes = NULL;
    bool whole = false;
    int there = 1;
    while (line && !whole && (there = look_ahead(self)) > 0) {
        size_t got = (size_t)PyByteArray_GET_SIZE(line);
        size_t n = span_of_line(self, most - got, &whole);
        if (PyByteArray_Resize(line, (Py_ssize_t)(got + n)) < 0) {
            break;
        }
        memcpy(PyByteArray_AS_STRING(line) + got, self->ahead + self->at, n);
        self->at += n;
    }
    if (line && there >= 0 && !PyErr_Occurred()) {
        bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(line), PyByteArray_GET_SIZE(line));
    }
    Py_XDECREF(line);
    return bytes;
}

static PyObject *read_line(struct input *self, size_t most)
{
    bool whole;
    int there = most > 0 ? look_ahead(self) : 0;
    if (there <= 0) {
        return there < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    }
    size_t n = span_of_line(self, most, &whole);
    if (!whole) {
        return read_long_line(self, most);
    }
    self->at += n;
    return PyBytes_FromStringAndSize(self->ahead + self->at - n, (Py_ssize_t)n);
}

static PyObject *input_readline(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    struct input *self = (struct input *)object;
    size_t most;
    if (size_argument(args, nargs, "readline", &most) < 0 || enter(self) < 0) {
        return NULL;
    }
    return read_line(self, most);
}

static PyObject *input_next(PyObject *object)
{
    struct input *self = (struct input *)object;
    if (enter(self) < 0) {
        return NULL;
    }
    PyObject *line = read_line(self, PY_SSIZE_T_MAX);
    if (line && PyBytes_GET_SIZE(line) == 0) {
        Py_CLEAR(line);
    }
    return line;
}

static PyObject *input_readlines(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    struct input *self = (struct input *)object;
    size_t most, got = 0;
    if (size_argument(args, nargs, "readlines", &most) < 0 || enter(self) < 0) {
        return NULL;
    }
    most = most == 0 ? PY_SSIZE_T_MAX : most;
    PyObject *lines = PyList_New(0), *line;
    while (lines && got < most && (line = input_next(object)) != NULL) {
        got += (size_t)PyBytes_GET_SIZE(line);
        if (PyList_Append(lines, line) < 0) {
            Py_CLEAR(lines);
        }
        Py_DECREF(line);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(lines);
    }
    return lines;
}

/* ---- the object ------------------------------------------------------------------------------ */

PyObject *fibril__wsgi_input_new(struct fibril__wsgi_request *r)
{
    struct input *self = PyObject_New(struct input, input_type);
    if (self) {
        self->request = r;
        self->ahead = NULL;
        self->at = self->len = 0;
        self->busy = false;
        self->end = fibril_http_body_length(r->http) == 0;
    }
    return (PyObject *)self;
}

void fibril__wsgi_input_end(struct fibril__wsgi_request *r)
{
    struct input *self = (struct input *)r->input;
    while (self->busy) { /* another thread of the application reads: until the peer's time is up */
        fibril__py_leave(&r->py);
        fibril_sleep(BUSY_NS);
        fibril__py_enter(&r->py);
    }
    self->request = NULL;
}

static void input_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyMem_Free(((struct input *)object)->ahead);
    PyObject_Free(object);
    Py_DECREF(type);
}

#define METHOD(name, doc)                                                                          \
    {                                                                                              \
#name, (PyCFunction)(void (*)(void))input_##name, METH_FASTCALL, doc                       \
    }
static PyMethodDef methods[] = {
    METHOD(read, "read(size=-1): that many bytes, fewer only at the end of the body"),
    METHOD(readline, "readline(size=-1): up to and with the next newline"),
    METHOD(readlines, "readlines(hint=-1): a list of lines"),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_doc, "The body of a request (wsgi.input)."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "fibril._fibril.WSGIInput",
    .basicsize = sizeof(struct input),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fibril__wsgi_input_init(void)
{
    input_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return input_type ? 0 : -1;
}
