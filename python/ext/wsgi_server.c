/* SPDX-License-Identifier: MIT */
/*
 * The server object: an application, listening sockets, limits. It runs in a fibril of its own; the
 * main thread waits beside it, so that Python's signal handlers run while every request is parked.
 * Processes, reloading and the command line are serve.py's.
 */
#include "wsgi.h"

#include <fibril/io.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SERVER(object) ((struct fibril__wsgi_server *)(object))

/* ---- options --------------------------------------------------------------------------------- */

enum unit { SIZE, UINT64, UINT, TIME };

#define LIMIT(name, unit)                                                                          \
    {                                                                                              \
#name, unit, offsetof(struct fibril_http_limits, name)                                     \
    }
static const struct {
    const char *name;
    enum unit unit;
    size_t offset;
} limits[] = {
    LIMIT(request_line_bytes, SIZE), LIMIT(field_bytes, SIZE),
    LIMIT(head_bytes, SIZE),         LIMIT(fields_max, UINT),
    LIMIT(trailer_bytes, SIZE),      LIMIT(trailers_max, UINT),
    LIMIT(body_bytes, UINT64),       LIMIT(drain_bytes, SIZE),
    LIMIT(first_byte_ns, TIME),      LIMIT(head_ns, TIME),
    LIMIT(body_idle_ns, TIME),       LIMIT(body_rate, UINT64),
    LIMIT(write_idle_ns, TIME),      LIMIT(keep_alive_ns, TIME),
    LIMIT(linger_ns, TIME),          LIMIT(requests_max, UINT),
    LIMIT(connection_age_ns, TIME),  LIMIT(connections_max, UINT),
    LIMIT(per_address_max, UINT),    LIMIT(handlers_max, UINT),
    LIMIT(retry_after_s, UINT),
};

/* Numbers as in http.h; None means no limit. */
static int set_limit(struct fibril_http_limits *to, const char *name, PyObject *value)
{
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (strcmp(limits[i].name, name) != 0) {
            continue;
        }
        void *field = (char *)to + limits[i].offset;
        bool none = value == Py_None;
        unsigned long long number = none ? 0 : PyLong_AsUnsignedLongLong(value);
        if (PyErr_Occurred()) {
            return -1;
        }
        switch (limits[i].unit) {
        case SIZE: *(size_t *)field = none ? SIZE_MAX : (size_t)number; break;
        case UINT64: *(uint64_t *)field = none ? UINT64_MAX : number; break;
        case UINT: *(unsigned *)field = none ? UINT32_MAX : (unsigned)number; break;
        case TIME: *(int64_t *)field = none ? FIBRIL_FOREVER : (int64_t)number; break;
        }
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "there is no limit '%s'", name);
    return -1;
}

static int set_limits(struct fibril_http_limits *to, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (dict && PyDict_Next(dict, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8(key);
        if (!name || set_limit(to, name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

struct options {
    PyObject *app, *fds, *limits, *script_name, *errors;
    const char *name, *scheme, *trusted;
    Py_ssize_t stack_bytes;
    unsigned long long requests_max;
    int access_log, access_log_fd, error_log_fd, multiprocess, wakeup_fd;
};

static int parse(PyObject *args, PyObject *kwargs, struct options *o)
{
    static char *names[] = {"app",          "fds",          "limits",     "name",
                            "script_name",  "errors",       "scheme",     "trusted",
                            "stack_bytes",  "requests_max", "access_log", "access_log_fd",
                            "error_log_fd", "multiprocess", "wakeup_fd",  NULL};
    return PyArg_ParseTupleAndKeywords(
               args, kwargs, "OO!|$O!zUOssnKiiipi:WSGIServer", names, &o->app, &PyList_Type,
               &o->fds, &PyDict_Type, &o->limits, &o->name, &o->script_name, &o->errors, &o->scheme,
               &o->trusted, &o->stack_bytes, &o->requests_max, &o->access_log, &o->access_log_fd,
               &o->error_log_fd, &o->multiprocess, &o->wakeup_fd)
               ? 0
               : -1;
}

/* ---- making ---------------------------------------------------------------------------------- */

static int raise_errno(int rc)
{
    errno = -rc;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static int make_http(struct fibril__wsgi_server *self, const struct options *o)
{
    struct fibril_http_opts opts = {.stack_bytes = (size_t)o->stack_bytes,
                                    .server_name = o->name,
                                    .access_log = (enum fibril_http_log)o->access_log,
                                    .access_log_fd = o->access_log_fd,
                                    .error_log_fd = o->error_log_fd};
    if (set_limits(&opts.limits, o->limits) < 0) {
        return -1;
    }
    int rc = fibril_http_server_new(&opts, &self->http);
    rc = rc < 0 ? rc : fibril_chan_new(0, 4, 0, &self->news);
    rc = rc < 0 ? rc : fibril_http_route(self->http, NULL, "/{path*}", fibril__wsgi_handle, self);
    return rc < 0 ? raise_errno(rc) : 0;
}

/* The descriptors are the server's from now on: it gets copies. */
static int take_sockets(struct fibril__wsgi_server *self, PyObject *fds)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(fds); i++) {
        long fd = PyLong_AsLong(PyList_GET_ITEM(fds, i));
        if (fd == -1 && PyErr_Occurred()) {
            return -1;
        }
        int copy = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
        int rc = copy < 0 ? -errno : fibril_http_server_listen_fd(self->http, copy);
        if (rc < 0) {
            if (copy >= 0) {
                close(copy);
            }
            return raise_errno(rc);
        }
    }
    return 0;
}

static int make_environ(struct fibril__wsgi_server *self, const struct options *o)
{
    char address[160] = "";
    PyObject *traceback = PyImport_ImportModule("traceback");
    self->format = traceback ? PyObject_GetAttrString(traceback, "format_exception") : NULL;
    Py_XDECREF(traceback);
    if (!self->format) {
        return -1;
    }
    fibril_http_server_address(self->http, 0, address, sizeof(address));
    self->environ =
        fibril__wsgi_environ_template(self->script_name, self->errors, fibril__wsgi_file_type(),
                                      o->scheme, address, o->multiprocess);
    return self->environ ? 0 : -1;
}

static int fill(struct fibril__wsgi_server *self, struct options *o)
{
    self->app = Py_NewRef(o->app);
    self->errors = Py_NewRef(o->errors ? o->errors : PySys_GetObject("stderr"));
    self->script_name = o->script_name ? Py_NewRef(o->script_name) : PyUnicode_FromString("");
    self->names = fibril__wsgi_names_new();
    self->nets = o->trusted ? fibril__wsgi_nets_new(o->trusted) : NULL;
    self->requests_max = o->requests_max;
    self->wakeup_fd = o->wakeup_fd;
    if (!self->script_name || !self->names || (o->trusted && !self->nets)) {
        return -1;
    }
    if (make_http(self, o) < 0 || take_sockets(self, o->fds) < 0) {
        return -1;
    }
    return make_environ(self, o);
}

static PyObject *server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct options o = {.scheme = "http", .error_log_fd = 2, .wakeup_fd = -1};
    if (parse(args, kwargs, &o) < 0) {
        return NULL;
    }
    if (!PyCallable_Check(o.app)) {
        PyErr_Format(PyExc_TypeError, "a WSGI application must be callable, not %.100s",
                     Py_TYPE(o.app)->tp_name);
        return NULL;
    }
    if (!fibril_loop_current()) {
        PyErr_SetString(PyExc_RuntimeError, "fibril.enable() comes first");
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self && fill(SERVER(self), &o) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static int server_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fibril__wsgi_server *self = SERVER(object);
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->app);
    Py_VISIT(self->environ);
    Py_VISIT(self->errors);
    Py_VISIT(self->format);
    return 0;
}

static int server_clear(PyObject *object)
{
    struct fibril__wsgi_server *self = SERVER(object);
    Py_CLEAR(self->app);
    Py_CLEAR(self->environ);
    Py_CLEAR(self->errors);
    Py_CLEAR(self->format);
    return 0;
}

/* A server that runs holds a reference to itself, so this one does not. */
static void server_dealloc(PyObject *object)
{
    struct fibril__wsgi_server *self = SERVER(object);
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    while (self->trash_count > 0) {
        Py_DECREF(self->trash[--self->trash_count]);
    }
    server_clear(object);
    Py_XDECREF(self->script_name);
    Py_XDECREF(self->last_address);
    fibril_http_server_free(self->http);
    fibril_chan_free(self->news);
    fibril__wsgi_names_free(self->names);
    fibril__wsgi_nets_free(self->nets);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- running --------------------------------------------------------------------------------- */

static int run(void *arg)
{
    struct fibril__wsgi_server *self = arg;
    self->result = fibril_http_server_run(self->http);
    self->ended = true;
    fibril_chan_try_send(self->news, NULL);
    return 0;
}

static PyObject *server_start(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct fibril__wsgi_server *self = SERVER(object);
    struct fibril_spawn_opts opts = {.name = "wsgi server"};
    if (self->runner || self->ended) {
        PyErr_SetString(PyExc_RuntimeError, "a server starts once");
        return NULL;
    }
    int rc = fibril_spawn(run, self, &opts, &self->runner);
    if (rc < 0) {
        raise_errno(rc);
        return NULL;
    }
    Py_INCREF(object);
    Py_RETURN_NONE;
}

static void finish(struct fibril__wsgi_server *self, struct pyfibril *py)
{
    if (self->runner) {
        fibril__py_leave(py);
        fibril_join(self->runner, FIBRIL_FOREVER, NULL);
        fibril__py_enter(py);
        self->runner = NULL;
        Py_DECREF((PyObject *)self);
    }
}

/* What Python's signal handlers wrote has done its work by waking us. */
static void empty_wakeup(int fd)
{
    char bytes[64];
    while (read(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes)) {}
}

static PyObject *server_wait(PyObject *object, PyObject *seconds)
{
    struct fibril__wsgi_server *self = SERVER(object);
    struct pyfibril *py = fibril__py_self();
    int64_t deadline;
    if (!py || !fibril__py_deadline(seconds, &deadline)) {
        return NULL;
    }
    struct fibril_case cases[] = {
        {.op = FIBRIL_CASE_RECV, .chan = self->news},
        {.op = FIBRIL_CASE_FD, .fd = self->wakeup_fd, .events = POLLIN},
    };
    if (!self->ended) {
        fibril__py_leave(py);
        int rc = fibril_select(cases, self->wakeup_fd >= 0 ? 2 : 1, deadline);
        fibril__py_enter(py);
        if (rc == 1) {
            empty_wakeup(self->wakeup_fd);
        }
        if (rc < 0 && rc != -ETIMEDOUT && rc != -EINTR) {
            return fibril__py_raise(rc);
        }
    }
    if (self->ended) {
        finish(self, py);
    }
    return PyErr_CheckSignals() < 0 ? NULL : PyBool_FromLong(self->ended);
}

static PyObject *server_stop(PyObject *object, PyObject *seconds)
{
    int64_t deadline;
    if (!fibril__py_deadline(seconds, &deadline)) {
        return NULL;
    }
    fibril_http_server_stop(SERVER(object)->http, deadline);
    Py_RETURN_NONE;
}

static PyObject *server_retire(PyObject *object, PyObject *seconds)
{
    int64_t deadline;
    if (!fibril__py_deadline(seconds, &deadline)) {
        return NULL;
    }
    fibril_http_server_retire(SERVER(object)->http, deadline);
    Py_RETURN_NONE;
}

/* ---- seeing inside --------------------------------------------------------------------------- */

static PyObject *server_addresses(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    char text[160];
    for (unsigned i = 0;
         list && fibril_http_server_address(SERVER(object)->http, i, text, sizeof(text)) >= 0;
         i++) {
        PyObject *one = PyUnicode_DecodeFSDefault(text);
        if (!one || PyList_Append(list, one) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(one);
    }
    return list;
}

static PyObject *server_stats(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    struct fibril_http_stats s;
    fibril_http_server_stats(SERVER(object)->http, &s);
#define FIGURE(name) #name, (unsigned long long)s.name
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsKsK}", FIGURE(accepted), FIGURE(connections),
                         FIGURE(idle), FIGURE(requests), FIGURE(in_flight), FIGURE(in_flight_max),
                         FIGURE(bytes_in), FIGURE(bytes_out), FIGURE(timeouts), FIGURE(aborted),
                         FIGURE(refused_head), FIGURE(refused_handlers));
#undef FIGURE
}

static PyObject *server_requests(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(SERVER(object)->requests);
}

static PyObject *server_result(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(SERVER(object)->result);
}

static PyGetSetDef getset[] = {
    {"requests", server_requests, NULL, "requests begun so far", NULL},
    {"result", server_result, NULL, "0, or below 0 when requests were cut off at the end", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef server_methods[] = {
    {"start", server_start, METH_NOARGS, "start(): serves from now on"},
    {"wait", server_wait, METH_O,
     "wait(seconds): waits for news, for a signal (whose handlers run) or that long; returns\n"
     "whether the server has ended"},
    {"stop", server_stop, METH_O,
     "stop(seconds): accepts no more; requests may go on that long (None: without limit)"},
    {"retire", server_retire, METH_O,
     "retire(seconds): as stop, but idle connections stay until their next request"},
    {"addresses", server_addresses, METH_NOARGS, "addresses(): a list, like '127.0.0.1:8080'"},
    {"stats", server_stats, METH_NOARGS, "stats(): a dict of counters"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, "WSGIServer(app, fds, *, ...): serves an application on listening sockets."},
    {0, NULL},
};
static PyType_Spec server_spec = {
    .name = "fibril._fibril.WSGIServer",
    .basicsize = sizeof(struct fibril__wsgi_server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = server_slots,
};

int fibril__wsgi_server_init(PyObject *module)
{
    return fibril__py_add_types(module, &server_spec, 1);
}

int fibril__py_wsgi_init(PyObject *module)
{
    int rc = fibril__wsgi_environ_init();
    rc = rc < 0 ? rc : fibril__wsgi_input_init();
    rc = rc < 0 ? rc : fibril__wsgi_responder_init();
    rc = rc < 0 ? rc : fibril__wsgi_file_init(module);
    return rc < 0 ? rc : fibril__wsgi_server_init(module);
}
