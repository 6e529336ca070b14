/* SPDX-License-Identifier: MIT */
/*
 * Connections to other processes, and processes that are started with one: see fibril/node.h.
 * fibril.nodes makes objects of them. Who may unpickle may do anything, so the process at the other
 * end must be of our own user: the kernel says whose it is.
 */
#include "actor_py.h"

#include <fibril/node.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* 0 if at the other end of fd is a process of our user. */
static int check_peer(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return -errno;
    }
    if (peer.pid == 0 || peer.uid != geteuid()) { /* pid: sockets of other families have none */
        return -EACCES;
    }
    return 0;
}

static PyObject *raise_join(int rc)
{
    switch (-rc) {
    case EACCES:
        PyErr_SetString(PyExc_PermissionError,
                        "the process at the other end belongs to another user");
        return NULL;
    case EPROTO:
        PyErr_SetString(PyExc_ConnectionError, "what is at the other end is no node");
        return NULL;
    case EPROTONOSUPPORT:
        PyErr_SetString(PyExc_ConnectionError, "the node at the other end is of another version");
        return NULL;
    case EPIPE:
        PyErr_SetString(PyExc_ConnectionResetError, "the other process is gone");
        return NULL;
    case ENOTCONN:
        PyErr_SetString(PyExc_RuntimeError,
                        "this process was not started as a worker, or has joined already");
        return NULL;
    case EINVAL: PyErr_SetString(PyExc_ValueError, "an impossible name or option"); return NULL;
    default: return fibril__py_raise(rc);
    }
}

/* The wait for it was ended, perhaps just when it was there. */
static void leave_unwanted(uint64_t node)
{
    if (node) {
        fibril_node_leave(node);
    }
}

/* ---- joining ---- */

struct joining {
    int fd; /* -1: that of a worker */
    struct fibril_node_opts opts;
    uint64_t node;
};

static int join_op(void *arg, int64_t deadline_ns)
{
    enum { WORKER_FD = 3 };
    struct joining *j = arg;
    int rc = 0;
    if (j->fd >= 0 || getenv("FIBRIL_WORKER")) { /* NOLINT(concurrency-mt-unsafe): only read */
        rc = check_peer(j->fd >= 0 ? j->fd : WORKER_FD);
    }
    if (rc < 0 && j->fd >= 0) {
        close(j->fd);
    }
    if (rc < 0) {
        return rc;
    }
    rc = j->fd >= 0 ? fibril_node_join(j->fd, &j->opts, deadline_ns, &j->node)
                    : fibril_worker_join(&j->opts, deadline_ns, &j->node);
    return rc == -EINTR ? -EPIPE : rc; /* it cannot be tried again */
}

static bool read_silence(PyObject *seconds, int64_t *ret_ns)
{
    double s = seconds == Py_None ? -1 : PyFloat_AsDouble(seconds);
    if (PyErr_Occurred()) {
        return false;
    }
    if (seconds != Py_None && !(s > 0 && s < 9e9)) {
        PyErr_SetString(PyExc_ValueError, "an impossible number of seconds");
        return false;
    }
    *ret_ns = seconds == Py_None ? FIBRIL_FOREVER : (int64_t)(s * 1e9);
    return true;
}

PyDoc_STRVAR(join_doc,
             "_node_join(fd, name, silence, timeout)\n--\n\n"
             "fd is taken in every case; -1: that of a worker. Returns the number of the node.");

static PyObject *py_join(PyObject *module, PyObject *args)
{
    struct joining j = {.fd = -1};
    PyObject *silence, *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "izOO:_node_join", &j.fd, &j.opts.name, &silence, &timeout) ||
        !read_silence(silence, &j.opts.silence_ns) || !fibril__py_deadline(timeout, &deadline_ns)) {
        if (j.fd >= 0) {
            close(j.fd);
        }
        return NULL;
    }
    int rc = fibril__py_wait_once(join_op, &j, deadline_ns);
    if (rc != 0) {
        leave_unwanted(j.node);
        return rc < 0 ? raise_join(rc) : NULL;
    }
    return PyLong_FromUnsignedLongLong(j.node);
}

/* ---- names ---- */

struct asking {
    uint64_t node, actor;
    const char *name;
};

static int ask_op(void *arg, int64_t deadline_ns)
{
    struct asking *a = arg;
    return fibril_actor_whereis_at(a->node, a->name, deadline_ns, &a->actor);
}

static PyObject *py_whereis(PyObject *module, PyObject *args)
{
    struct asking a = {0};
    unsigned long long node;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "KsO:_node_whereis", &node, &a.name, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    a.node = node;
    int rc = fibril__py_wait(ask_op, &a, deadline_ns);
    if (rc == -EINVAL) {
        return PyErr_Format(PyExc_ValueError, "an impossible name: '%s'", a.name);
    }
    if (rc != 0) {
        return rc < 0 ? fibril__py_actor_raise(node, rc) : NULL;
    }
    return fibril__py_actor_handle(a.actor);
}

/* ---- looking, leaving ---- */

static PyObject *py_leave(PyObject *module, PyObject *args)
{
    unsigned long long node;
    return PyArg_ParseTuple(args, "K", &node) ? fibril__py_none(fibril_node_leave(node)) : NULL;
}

static PyObject *py_of(PyObject *module, PyObject *args)
{
    unsigned long long actor;
    return PyArg_ParseTuple(args, "K", &actor) ? PyLong_FromUnsignedLongLong(fibril_node_of(actor))
                                               : NULL;
}

static PyObject *py_info(PyObject *module, PyObject *args)
{
    unsigned long long node;
    struct fibril_node_info i;
    if (!PyArg_ParseTuple(args, "K", &node)) {
        return NULL;
    }
    if (fibril_node_info(node, &i) < 0) {
        Py_RETURN_NONE;
    }
    PyObject *name = PyUnicode_DecodeUTF8(i.name, (Py_ssize_t)strlen(i.name), "replace");
    return name ? Py_BuildValue("{sNsisnsnsnsnsKsKsKsK}", "name", name, "pid", (int)i.pid, "actors",
                                (Py_ssize_t)i.actors, "known", (Py_ssize_t)i.known, "held",
                                (Py_ssize_t)i.held, "backlog", (Py_ssize_t)i.backlog, "frames_in",
                                (unsigned long long)i.frames_in, "frames_out",
                                (unsigned long long)i.frames_out, "bytes_in",
                                (unsigned long long)i.bytes_in, "bytes_out",
                                (unsigned long long)i.bytes_out)
                : NULL;
}

/* ---- worker processes ---- */

/* The bytes of a tuple as an array that ends with NULL; in memory of PyMem. */
static const char **words_of(PyObject *tuple)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    const char **words = PyMem_Calloc((size_t)n + 1, sizeof *words);
    for (Py_ssize_t i = 0; words && i < n; i++) {
        words[i] = PyBytes_AsString(PyTuple_GET_ITEM(tuple, i));
        if (!words[i]) {
            PyMem_Free(words);
            return NULL;
        }
    }
    return words ? words : (const char **)PyErr_NoMemory();
}

struct starting {
    struct fibril_worker_opts opts;
    uint64_t node;
};

static int start_op(void *arg, int64_t deadline_ns)
{
    struct starting *s = arg;
    return fibril_worker_start(&s->opts, deadline_ns, &s->node);
}

static PyObject *start_worker(struct starting *s, int64_t deadline_ns)
{
    int rc = fibril__py_wait_once(start_op, s, deadline_ns);
    if (rc != 0) {
        leave_unwanted(s->node);
    }
    if (rc == -EEXIST) {
        return PyErr_Format(PyExc_ValueError, "an actor is registered as '%s' already",
                            s->opts.name);
    }
    if (rc == -EPIPE) {
        PyErr_SetString(PyExc_ConnectionResetError, "the worker ended before it had joined");
        return NULL;
    }
    if (rc < 0 && rc > -EPROTO) {
        return fibril__py_raise(rc);
    }
    if (rc != 0) {
        return rc < 0 ? raise_join(rc) : NULL;
    }
    return PyLong_FromUnsignedLongLong(s->node);
}

PyDoc_STRVAR(start_doc,
             "_worker_start(argv, env, cwd, name, own_name, silence, shutdown, timeout)\n"
             "--\n\nargv, env: tuples of bytes. Returns the number of the node.");

static PyObject *py_start(PyObject *module, PyObject *args)
{
    struct starting s = {0};
    PyObject *argv, *env, *silence, *shutdown, *timeout, *result = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "O!O!zzzOOO:_worker_start", &PyTuple_Type, &argv, &PyTuple_Type,
                          &env, &s.opts.cwd, &s.opts.name, &s.opts.node.name, &silence, &shutdown,
                          &timeout) ||
        !read_silence(silence, &s.opts.node.silence_ns) ||
        !read_silence(shutdown, &s.opts.shutdown_ns) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    const char **words = words_of(argv), **variables = words ? words_of(env) : NULL;
    if (variables) {
        s.opts.argv = words;
        s.opts.envp = variables;
        s.opts.start_ns = deadline_ns == FIBRIL_FOREVER ? FIBRIL_FOREVER - fibril_now()
                                                        : deadline_ns - fibril_now();
        s.opts.start_ns = s.opts.start_ns > 0 ? s.opts.start_ns : 1;
        result = start_worker(&s, deadline_ns);
    }
    PyMem_Free(words);
    PyMem_Free(variables);
    return result;
}

#define IN_PLACE "\n--\n\nSee fibril.nodes."
static PyMethodDef functions[] = {
    {"_node_join", py_join, METH_VARARGS, join_doc},
    {"_node_whereis", py_whereis, METH_VARARGS, "_node_whereis(node, name, timeout)" IN_PLACE},
    {"_node_leave", py_leave, METH_VARARGS, "_node_leave(node)" IN_PLACE},
    {"_node_of", py_of, METH_VARARGS, "_node_of(id)" IN_PLACE},
    {"_node_info", py_info, METH_VARARGS, "_node_info(node)" IN_PLACE},
    {"_worker_start", py_start, METH_VARARGS, start_doc},
    {NULL, NULL, 0, NULL}};

int fibril__py_actor_node_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
