/* SPDX-License-Identifier: MIT */
/*
 * Supervisors from Python: C's, with specifications made of tuples. What a child is started with is
 * counted by the core's copies of its specification, and by the actors that were started with it:
 * it is released, with the GIL, when the last of them is no more.
 */
#include "actor_py.h"

#include "base/alloc.h"

#include <fibril/supervisor.h>

enum child_kind { CLASS, FUNCTION, PROCESS, TREE };

/* ---- what a child is started with ---- */

void fibril__py_child_hold(void *arg, bool on)
{
    struct pychild *c = arg;
    if (!c) {
        return;
    }
    if (on) {
        atomic_fetch_add_explicit(&c->holders, 1, memory_order_relaxed);
    } else if (atomic_fetch_sub_explicit(&c->holders, 1, memory_order_acq_rel) == 1) {
        fibril__py_release_later(c->fn);
        fibril__py_release_later(c->args);
        fibril__py_release_later(c->kwargs);
        fibril__py_release_later(c->failure);
        fibril__free(c->argv);
        fibril__free(c);
    }
}

/* The words of a process lie in the tuple, which the child keeps. */
static bool keep_words(struct pychild *c, PyObject *words)
{
    Py_ssize_t n = PyTuple_Check(words) ? PyTuple_GET_SIZE(words) : 0;
    c->argv = fibril__alloc_zero(((size_t)n + 1) * sizeof *c->argv);
    if (!c->argv) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        c->argv[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(words, i));
        if (!c->argv[i]) {
            return false;
        }
    }
    return true;
}

/* Held by the caller. NULL with an exception. */
static struct pychild *child_new(PyObject *fn, PyObject *args, PyObject *kwargs, unsigned kind)
{
    struct pychild *c = fibril__alloc_zero(sizeof *c);
    if (!c) {
        PyErr_NoMemory();
        return NULL;
    }
    *c = (struct pychild){.holders = 1,
                          .passive = kind == CLASS,
                          .fn = Py_NewRef(fn),
                          .args = Py_NewRef(args),
                          .kwargs = PyDict_GET_SIZE(kwargs) ? Py_NewRef(kwargs) : NULL};
    if (kind == PROCESS && !keep_words(c, fn)) {
        fibril__py_child_hold(c, false);
        return NULL;
    }
    return c;
}

/* ---- specifications ---- */

struct tree {
    struct fibril_supervisor_spec spec;
    struct fibril_child_spec *children;
    struct tree *trees; /* of those that are supervisors, by the same index */
};

static void free_tree(struct tree *t)
{
    for (size_t i = 0; t->children && t->trees && i < t->spec.n_children; i++) {
        fibril__py_child_hold(t->children[i].arg, false);
        free_tree(&t->trees[i]);
    }
    PyMem_Free(t->children);
    PyMem_Free(t->trees);
}

static bool read_tree(struct tree *t, PyObject *spec);

static bool read_child(struct fibril_child_spec *child, struct tree *below, PyObject *spec)
{
    PyObject *what, *args, *kwargs;
    unsigned kind, restart, messages, overflow;
    Py_ssize_t bytes;
    int trap;
    long long shutdown_ns;
    if (!PyArg_ParseTuple(spec, "zIOO!O!ILzpInI:child", &child->id, &kind, &what, &PyTuple_Type,
                          &args, &PyDict_Type, &kwargs, &restart, &shutdown_ns, &child->opts.name,
                          &trap, &messages, &bytes, &overflow)) {
        return false;
    }
    child->restart = restart;
    child->shutdown_ns = shutdown_ns;
    child->opts.trap_exits = trap;
    child->opts.mailbox = (struct fibril_mailbox){messages, (size_t)bytes, overflow};
    if (kind == TREE) {
        child->supervisor = &below->spec;
        return read_tree(below, what);
    }
    struct pychild *c = child_new(what, args, kwargs, kind);
    child->arg = c;
    child->hold = fibril__py_child_hold;
    if (kind == PROCESS) {
        child->process = c ? c->argv : NULL;
    } else {
        child->start = fibril__py_child_start;
    }
    return c != NULL;
}

static bool read_tree(struct tree *t, PyObject *spec)
{
    PyObject *children;
    unsigned strategy;
    long long period_ns, backoff_ns, backoff_max_ns;
    if (!PyArg_ParseTuple(spec, "zIILLLO!:supervisor", &t->spec.name, &strategy, &t->spec.intensity,
                          &period_ns, &backoff_ns, &backoff_max_ns, &PyTuple_Type, &children)) {
        return false;
    }
    size_t n = (size_t)PyTuple_GET_SIZE(children);
    t->spec.strategy = strategy;
    t->spec.period_ns = period_ns;
    t->spec.backoff_ns = backoff_ns;
    t->spec.backoff_max_ns = backoff_max_ns;
    t->spec.children = t->children = PyMem_Calloc(n + 1, sizeof *t->children);
    t->trees = PyMem_Calloc(n + 1, sizeof *t->trees);
    if (!t->children || !t->trees) {
        PyErr_NoMemory();
        return false;
    }
    t->spec.n_children = n;
    for (size_t i = 0; i < n; i++) {
        if (!read_child(&t->children[i], &t->trees[i], PyTuple_GET_ITEM(children, (Py_ssize_t)i))) {
            return false;
        }
    }
    return true;
}

/* ---- starting ---- */

/* What the __init__ of a child raised, a reference; NULL: none did. */
static PyObject *failure_of(const struct fibril_child_spec *children, const struct tree *trees,
                            size_t n)
{
    PyObject *failure = NULL;
    for (size_t i = 0; !failure && i < n; i++) {
        const struct pychild *c = children[i].arg;
        failure = c ? Py_XNewRef(c->failure)
                    : failure_of(trees[i].children, trees[i].trees, trees[i].spec.n_children);
    }
    return failure;
}

static PyObject *raise_failed(PyObject *failure, int rc)
{
    if (failure) {
        PyErr_SetObject((PyObject *)Py_TYPE(failure), failure);
        Py_DECREF(failure);
        return NULL;
    }
    switch (-rc) {
    case EEXIST: PyErr_SetString(PyExc_ValueError, "the id or name is taken"); return NULL;
    case EINVAL: PyErr_SetString(PyExc_ValueError, "an impossible specification"); return NULL;
    case ENOENT: PyErr_SetString(PyExc_LookupError, "there is no such child"); return NULL;
    case EBUSY: PyErr_SetString(PyExc_RuntimeError, "the child is running"); return NULL;
    default: return fibril__py_raise(rc);
    }
}

struct start {
    struct tree tree;
    struct fibril_actor_opts opts;
    uint64_t actor;
};

static int start_op(void *arg, int64_t deadline_ns)
{
    struct start *s = arg;
    (void)deadline_ns;
    if (fibril_loop_current() != fibril__py.loop) {
        s->opts.loop = fibril__py.loop;
    }
    return fibril_supervisor_start(&s->tree.spec, &s->opts, &s->actor);
}

PyDoc_STRVAR(start_doc, "_supervisor_start(spec, link)\n--\n\nSee fibril.Supervisor.");

static PyObject *py_start(PyObject *module, PyObject *args)
{
    struct start s = {0};
    PyObject *spec, *result = NULL;
    int link;
    if (!PyArg_ParseTuple(args, "O!p:_supervisor_start", &PyTuple_Type, &spec, &link)) {
        return NULL;
    }
    if (!fibril__py.loop || (link && !fibril_current())) {
        return fibril__py_raise(-EPERM);
    }
    s.opts.link = link;
    if (read_tree(&s.tree, spec)) {
        int rc = fibril__py_wait(start_op, &s, FIBRIL_FOREVER);
        if (rc == 0) {
            result = fibril__py_actor_handle(s.actor);
        } else if (rc < 0) {
            const struct tree *t = &s.tree;
            raise_failed(
                rc == -EPROTO ? failure_of(t->children, t->trees, t->spec.n_children) : NULL, rc);
        }
    }
    free_tree(&s.tree);
    return result;
}

/* ---- while it runs ---- */

struct request {
    uint64_t supervisor, child;
    const char *id;
    struct fibril_child_spec spec;
    bool simple;
    enum { ADD, END, RESTART, REMOVE } what;
};

static int request_op(void *arg, int64_t deadline_ns)
{
    struct request *r = arg;
    switch (r->what) {
    case ADD:
        return fibril_supervisor_add(r->supervisor, r->simple ? NULL : &r->spec, r->spec.arg,
                                     deadline_ns, &r->child);
    case END:
        return r->id ? fibril_supervisor_end(r->supervisor, r->id, deadline_ns)
                     : fibril_supervisor_end_child(r->supervisor, r->child, deadline_ns);
    case RESTART: return fibril_supervisor_restart(r->supervisor, r->id, deadline_ns, &r->child);
    default: return fibril_supervisor_remove(r->supervisor, r->id, deadline_ns);
    }
}

static PyObject *carry_out(struct request *r, const struct tree *below, int64_t deadline_ns)
{
    int rc = fibril__py_wait_once(request_op, r, deadline_ns);
    if (rc == 0) {
        return fibril__py_actor_handle(r->child);
    }
    if (r->simple && (rc == 1 || rc == -ETIMEDOUT || rc == -ECANCELED)) {
        fibril__py_child_hold(r->spec.arg, true); /* for ever: it may still be started with it */
    }
    if (rc == -ESRCH || rc == -EPIPE) {
        return fibril__py_actor_raise(r->supervisor, rc);
    }
    return rc < 0 ? raise_failed(rc == -EPROTO ? failure_of(&r->spec, below, 1) : NULL, rc) : NULL;
}

PyDoc_STRVAR(add_doc, "_supervisor_add(id, spec, simple, timeout)\n--\n\nSee "
                      "fibril.Supervisor.");

static PyObject *py_add(PyObject *module, PyObject *args)
{
    struct request r = {.what = ADD};
    struct tree below = {0};
    unsigned long long id;
    int simple;
    PyObject *spec, *timeout, *result = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "KO!pO:_supervisor_add", &id, &PyTuple_Type, &spec, &simple,
                          &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    r.supervisor = id;
    r.simple = simple;
    if (read_child(&r.spec, &below, spec)) {
        result = carry_out(&r, &below, deadline_ns);
    }
    fibril__py_child_hold(r.spec.arg, false);
    free_tree(&below);
    return result;
}

PyDoc_STRVAR(request_doc, "_supervisor_request(what, supervisor, id, child, timeout)\n--\n\n"
                          "See fibril.Supervisor. what: 1 end, 2 restart, 3 remove.");

static PyObject *py_request(PyObject *module, PyObject *args)
{
    struct request r = {0};
    const struct tree below = {0};
    unsigned what;
    unsigned long long supervisor, child;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(args, "IKzKO:_supervisor_request", &what, &supervisor, &r.id, &child,
                          &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    r.what = what;
    r.supervisor = supervisor;
    r.child = child;
    return carry_out(&r, &below, deadline_ns);
}

/* ---- looking ---- */

struct listing {
    uint64_t supervisor;
    struct fibril_child *children;
    size_t room, n;
};

static int list_op(void *arg, int64_t deadline_ns)
{
    struct listing *l = arg;
    return fibril_supervisor_children(l->supervisor, l->children, l->room, deadline_ns, &l->n);
}

static PyObject *list_of(const struct listing *l)
{
    size_t n = l->n < l->room ? l->n : l->room;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < n; i++) {
        const struct fibril_child *c = &l->children[i];
        PyObject *handle = fibril__py_actor_handle(c->actor);
        PyObject *item = handle
                             ? Py_BuildValue("sNKO", c->id, handle, (unsigned long long)c->restarts,
                                             c->is_supervisor ? Py_True : Py_False)
                             : NULL;
        if (!item || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

PyDoc_STRVAR(children_doc, "_supervisor_children(supervisor, timeout)\n--\n\nTuples of id, handle, "
                           "restarts, whether it is a supervisor.");

static PyObject *py_children(PyObject *module, PyObject *args)
{
    enum { FIRST = 64 };
    struct listing l = {.room = FIRST, .n = FIRST + 1};
    unsigned long long supervisor;
    PyObject *timeout, *result;
    int64_t deadline_ns;
    int rc = 0;
    if (!PyArg_ParseTuple(args, "KO:_supervisor_children", &supervisor, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    l.supervisor = supervisor;
    while (rc == 0 && l.n > l.room) {
        PyMem_Free(l.children);
        l.room = l.n;
        l.children = PyMem_Calloc(l.room, sizeof *l.children);
        rc = l.children ? fibril__py_wait_once(list_op, &l, deadline_ns) : -ENOMEM;
    }
    result = rc == 0 ? list_of(&l) : rc < 0 ? fibril__py_actor_raise(supervisor, rc) : NULL;
    PyMem_Free(l.children);
    return result;
}

static PyMethodDef functions[] = {{"_supervisor_start", py_start, METH_VARARGS, start_doc},
                                  {"_supervisor_add", py_add, METH_VARARGS, add_doc},
                                  {"_supervisor_request", py_request, METH_VARARGS, request_doc},
                                  {"_supervisor_children", py_children, METH_VARARGS, children_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_supervisor_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
