/* SPDX-License-Identifier: MIT */
/*
 * The type Fibril: identity, end and outcome of a fibril. spawn.c makes and runs them.
 *
 * Any number of fibrils and OS threads may join one handle, any number of times, so it has an event
 * of its own and does not use the core's join, which has one owner.
 */
#include "handle.h"
#include "spawn.h"

#include <stddef.h>
#include <structmember.h>

/* ---- making one for a fibril that runs already ---- */

static void thread_ends(PyObject *capsule)
{
    struct handle *h = PyCapsule_GetPointer(capsule, NULL);
    if (h->live) {
        h->live->handle = NULL;
        h->live = NULL;
    }
    h->outcome = Py_NewRef(Py_None);
    fibril__py_end_handle(h, HANDLE_RETURNED);
    Py_DECREF(h);
}

/* A thread of CPython's says that it ends by clearing the dict of its state. */
static int tie_to_thread(struct handle *h)
{
    PyObject *dict = PyThreadState_GetDict();
    PyObject *capsule = dict ? PyCapsule_New(h, NULL, thread_ends) : NULL;
    if (!capsule) {
        return -1;
    }
    Py_INCREF(h);
    int rc = PyDict_SetItemString(dict, "fibril.current", capsule);
    Py_DECREF(capsule);
    return rc;
}

PyObject *fibril__py_handle(struct pyfibril *p)
{
    if (p->handle) {
        return p->handle;
    }
    struct handle *h = fibril__py_new_handle();
    if (!h) {
        return NULL;
    }
    h->live = p;
    h->id = fibril_id(p->fibril);
    p->handle = (PyObject *)h;
    if (p->adopted) {
        int rc = tie_to_thread(h);
        Py_DECREF(h); /* the capsule's is the one that stays */
        return rc == 0 ? p->handle : NULL;
    }
    return p->handle;
}

void fibril__py_handle_ended(struct pyfibril *p)
{
    struct handle *h = (struct handle *)p->handle;
    p->handle = NULL;
    h->live = NULL;
    h->outcome = Py_NewRef(Py_None);
    fibril__py_end_handle(h, HANDLE_RETURNED);
    Py_DECREF(h);
}

/* ---- its end ---- */

static void run_callbacks(struct handle *h)
{
    PyObject *callbacks = h->callbacks;
    h->callbacks = NULL;
    for (Py_ssize_t i = 0; callbacks && i < PyList_GET_SIZE(callbacks); i++) {
        PyObject *result = PyObject_CallOneArg(PyList_GET_ITEM(callbacks, i), (PyObject *)h);
        if (!result) {
            PyErr_WriteUnraisable(PyList_GET_ITEM(callbacks, i));
        }
        Py_XDECREF(result);
    }
    Py_XDECREF(callbacks);
}

void fibril__py_end_handle(struct handle *h, enum handle_state state)
{
    h->state = (uint8_t)state;
    if (h->ended) {
        fibril_event_set(h->ended);
    }
    if (h->callbacks) {
        run_callbacks(h);
    }
}

static int wait_op(void *arg, int64_t deadline_ns)
{
    struct handle *h = arg;
    if (!h->ended) {
        int rc = fibril_event_new(0, &h->ended);
        if (rc < 0) {
            return rc;
        }
        if (h->state != HANDLE_ALIVE) {
            fibril_event_set(h->ended);
        }
    }
    return fibril_event_wait(h->ended, deadline_ns);
}

/* Returns 0, or -1 with an exception. */
static int wait_end(struct handle *h, PyObject *timeout)
{
    int64_t deadline_ns;
    if (h->state != HANDLE_ALIVE) {
        return 0;
    }
    if (!fibril__py_deadline(timeout, &deadline_ns)) {
        return -1;
    }
    if (h->live && h->live->fibril == fibril_current()) {
        PyErr_SetString(fibril__py.deadlock, "a fibril cannot join itself");
        return -1;
    }
    struct pyfibril *self = fibril_current() ? fibril__py_self() : NULL;
    if (self) {
        self->joins = h->id;
    }
    int rc = fibril__py_wait(wait_op, h, deadline_ns);
    if (self) {
        self->joins = 0;
    }
    if (rc < 0) {
        fibril__py_raise(rc);
    }
    return rc == 0 ? 0 : -1;
}

static PyObject *outcome(struct handle *h)
{
    h->seen = true;
    if (h->state == HANDLE_RETURNED) {
        return Py_NewRef(h->outcome);
    }
    if (!h->outcome) {
        return PyErr_NoMemory();
    }
    PyErr_SetObject((PyObject *)Py_TYPE(h->outcome), h->outcome);
    return NULL;
}

/* ---- methods ---- */

PyDoc_STRVAR(join_doc,
             "join(timeout=None)\n--\n\n"
             "Waits until the fibril has ended; returns what its function returned, or raises the\n"
             "exception it ended with. May be called again, by anybody.\n\n"
             "timeout: seconds (int or float), None for ever. Raises TimeoutError when it passes,\n"
             "Cancelled when the caller is cancelled, Deadlock for joining oneself.");

static PyObject *handle_join(struct handle *h, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout = fibril__py_timeout_arg("join", args, n, names);
    if (!timeout) {
        return NULL;
    }
    return wait_end(h, timeout) == 0 ? outcome(h) : NULL;
}

PyDoc_STRVAR(wait_doc, "wait(timeout=None)\n--\n\n"
                       "Waits for the end and returns True, or False when timeout (seconds) "
                       "passes.\nThe outcome is left for join. Raises Cancelled.");

static PyObject *handle_wait(struct handle *h, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *timeout = fibril__py_timeout_arg("wait", args, n, names);
    if (!timeout) {
        return NULL;
    }
    if (wait_end(h, timeout) == 0) {
        Py_RETURN_TRUE;
    }
    if (!PyErr_ExceptionMatches(PyExc_TimeoutError)) {
        return NULL;
    }
    PyErr_Clear();
    Py_RETURN_FALSE;
}

PyDoc_STRVAR(cancel_doc,
             "cancel()\n--\n\n"
             "Makes the fibril's present wait, or its next one, raise Cancelled. Returns False if\n"
             "it has ended already. One that has not begun never does. In a blocking call of a C\n"
             "library the call fails with ECANCELED and Cancelled follows at once.");

static PyObject *handle_cancel(struct handle *h, PyObject *unused)
{
    struct pyfibril *p = h->live;
    if (!p) {
        Py_RETURN_FALSE;
    }
    if (fibril__py_cancel(p) < 0) {
        return PyErr_NoMemory();
    }
    Py_RETURN_TRUE;
}

static PyObject *frame_of(struct handle *h)
{
    PyObject *frame =
        h->live && h->live->tstate ? (PyObject *)PyThreadState_GetFrame(h->live->tstate) : NULL;
    return frame ? frame : Py_NewRef(Py_None);
}

PyDoc_STRVAR(stack_doc, "stack()\n--\n\n"
                        "Returns the fibril's Python stack as a traceback.StackSummary, outermost\n"
                        "first; empty when it has not begun or has ended.");

static PyObject *handle_stack(struct handle *h, PyObject *unused)
{
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *frame = frame_of(h), *result = NULL;
    if (module && frame == Py_None) {
        PyObject *summary = PyObject_GetAttrString(module, "StackSummary");
        result = summary ? PyObject_CallNoArgs(summary) : NULL;
        Py_XDECREF(summary);
    } else if (module) {
        result = PyObject_CallMethod(module, "extract_stack", "O", frame);
    }
    Py_DECREF(frame);
    Py_XDECREF(module);
    return result;
}

PyDoc_STRVAR(callback_doc,
             "add_done_callback(function, /)\n--\n\n"
             "Calls function(fibril) when it has ended, on its stack; at once if it has already.\n"
             "What it raises goes to sys.unraisablehook.");

static PyObject *handle_add_done_callback(struct handle *h, PyObject *function)
{
    if (!h->callbacks && !(h->callbacks = PyList_New(0))) {
        return NULL;
    }
    if (PyList_Append(h->callbacks, function) < 0) {
        return NULL;
    }
    if (h->state != HANDLE_ALIVE) {
        run_callbacks(h);
    }
    Py_RETURN_NONE;
}

/* ---- attributes ---- */

static PyObject *get_name(struct handle *h, void *closure)
{
    return h->name ? Py_NewRef(h->name)
                   : PyUnicode_FromFormat("fibril-%llu", (unsigned long long)h->id);
}

static int set_name(struct handle *h, PyObject *value, void *closure)
{
    if (!value || !PyUnicode_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "name must be a str");
        return -1;
    }
    const char *text = PyUnicode_AsUTF8(value);
    if (!text) {
        return -1;
    }
    Py_XSETREF(h->name, Py_NewRef(value));
    if (h->live && fibril_current() && fibril_set_name(h->live->fibril, text) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *get_id(struct handle *h, void *closure)
{
    return PyLong_FromUnsignedLongLong(h->id);
}

static PyObject *get_alive(struct handle *h, void *closure)
{
    return PyBool_FromLong(h->state == HANDLE_ALIVE);
}

static PyObject *get_done(struct handle *h, void *closure)
{
    return PyBool_FromLong(h->state != HANDLE_ALIVE);
}

static PyObject *get_daemon(struct handle *h, void *closure)
{
    return PyBool_FromLong(h->daemon);
}

static PyObject *get_result(struct handle *h, void *closure)
{
    if (h->state == HANDLE_ALIVE) {
        PyErr_SetString(PyExc_RuntimeError, "the fibril has not ended");
        return NULL;
    }
    return outcome(h);
}

static PyObject *get_exception(struct handle *h, void *closure)
{
    if (h->state != HANDLE_RAISED || !h->outcome) {
        Py_RETURN_NONE;
    }
    h->seen = true;
    return Py_NewRef(h->outcome);
}

static PyObject *get_frame(struct handle *h, void *closure)
{
    return frame_of(h);
}

/* ---- the object itself ---- */

static PyObject *handle_repr(struct handle *h)
{
    static const char *const states[] = {"alive", "returned", "raised"};
    PyObject *name = get_name(h, NULL);
    PyObject *repr = name ? PyUnicode_FromFormat("<Fibril %llu %R %s>", (unsigned long long)h->id,
                                                 name, states[h->state])
                          : NULL;
    Py_XDECREF(name);
    return repr;
}

static int handle_traverse(struct handle *h, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(h));
    Py_VISIT(h->fn);
    Py_VISIT(h->args);
    Py_VISIT(h->kwargs);
    Py_VISIT(h->callbacks);
    return 0;
}

static int handle_clear(struct handle *h)
{
    Py_CLEAR(h->fn);
    Py_CLEAR(h->args);
    Py_CLEAR(h->kwargs);
    Py_CLEAR(h->callbacks);
    return 0;
}

/* An exception that nobody has asked for, and nobody can any more, is shown. */
static void handle_finalize(PyObject *self)
{
    struct handle *h = (struct handle *)self;
    bool quiet = h->state != HANDLE_RAISED || h->seen || !h->outcome ||
                 PyErr_GivenExceptionMatches(h->outcome, fibril__py.cancelled) ||
                 PyErr_GivenExceptionMatches(h->outcome, PyExc_SystemExit);
    if (quiet) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    h->seen = true;
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(h->outcome)), Py_NewRef(h->outcome),
                  PyException_GetTraceback(h->outcome));
    PyErr_WriteUnraisable(self);
    PyErr_Restore(type, value, traceback);
}

static void handle_dealloc(struct handle *h)
{
    PyTypeObject *type = Py_TYPE(h);
    bool failed = h->state == HANDLE_RAISED; /* others have nothing to say */
    if (failed && PyObject_CallFinalizerFromDealloc((PyObject *)h) < 0) {
        return;
    }
    PyObject_GC_UnTrack(h);
    if (h->weak) {
        PyObject_ClearWeakRefs((PyObject *)h);
    }
    handle_clear(h);
    Py_XDECREF(h->name);
    fibril_event_free(h->ended);
    type->tp_free(h);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"join", (PyCFunction)(void (*)(void))handle_join, METH_FASTCALL | METH_KEYWORDS, join_doc},
    {"wait", (PyCFunction)(void (*)(void))handle_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"cancel", (PyCFunction)handle_cancel, METH_NOARGS, cancel_doc},
    {"stack", (PyCFunction)handle_stack, METH_NOARGS, stack_doc},
    {"add_done_callback", (PyCFunction)handle_add_done_callback, METH_O, callback_doc},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef attributes[] = {
    {"name", (getter)get_name, (setter)set_name, "What it is called (str).", NULL},
    {"id", (getter)get_id, NULL, "Its number (int), never used twice in a process.", NULL},
    {"alive", (getter)get_alive, NULL, "Whether it has not ended (bool).", NULL},
    {"done", (getter)get_done, NULL, "Whether it has ended (bool).", NULL},
    {"daemon", (getter)get_daemon, NULL, "Whether the process ends without waiting for it.", NULL},
    {"result", (getter)get_result, NULL,
     "What its function returned; raises what it raised, or RuntimeError if it has not ended.",
     NULL},
    {"exception", (getter)get_exception, NULL, "What it raised, or None.", NULL},
    {"frame", (getter)get_frame, NULL, "Its innermost Python frame, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct handle, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

PyDoc_STRVAR(type_doc, "A green thread. fibril.spawn makes them, fibril.current() finds the\n"
                       "caller's.");

static PyType_Slot type_slots[] = {{Py_tp_doc, (void *)(uintptr_t)type_doc},
                                   {Py_tp_dealloc, handle_dealloc},
                                   {Py_tp_traverse, handle_traverse},
                                   {Py_tp_clear, handle_clear},
                                   {Py_tp_finalize, handle_finalize},
                                   {Py_tp_repr, handle_repr},
                                   {Py_tp_methods, methods},
                                   {Py_tp_getset, attributes},
                                   {Py_tp_members, members},
                                   {0, NULL}};

static PyType_Spec type_spec = {.name = "fibril.Fibril",
                                .basicsize = sizeof(struct handle),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                         Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                .slots = type_slots};

struct handle *fibril__py_new_handle(void)
{
    PyTypeObject *type = fibril__py.fibril_type;
    return (struct handle *)type->tp_alloc(type, 0);
}

int fibril__py_fibril_init(PyObject *module)
{
    if (!fibril__py.fibril_type) {
        fibril__py.fibril_type = (PyTypeObject *)PyType_FromSpec(&type_spec);
    }
    if (!fibril__py.fibril_type || PyModule_AddType(module, fibril__py.fibril_type) < 0) {
        return -1;
    }
    return fibril__py_spawn_init(module);
}
