/* SPDX-License-Identifier: MIT */
/*
 * The type of handles: a number, that others may keep. What they do with it is in actor_talk.c and
 * actor_stream.c; fibril.actors adds methods that need no speed.
 */
#include "actor_py.h"

#include <string.h>

PyTypeObject *fibril__py_handle_base;

PyObject *fibril__py_optional_names[OPTIONALS];

static PyObject *method_names; /* "add": "on_add" */

/* The last that were looked for in there, by where they lie: a str of the program is one object. */
enum { RECENT = 64 };
static struct {
    PyObject *name; /* a reference */
    PyObject *full; /* of method_names */
} recent[RECENT];

/* ---- handles ---- */

PyObject *fibril__py_actor_handle(uint64_t id)
{
    PyTypeObject *type = (PyTypeObject *)fibril__py_hooks[HOOK_HANDLE];
    if (id == 0 || !type) {
        return Py_NewRef(Py_None);
    }
    struct actor_handle *h = (struct actor_handle *)type->tp_alloc(type, 0);
    if (h) {
        h->id = id;
    }
    return (PyObject *)h;
}

bool fibril__py_actor_id(PyObject *handle, uint64_t *ret_id)
{
    if (!PyObject_TypeCheck(handle, fibril__py_handle_base)) {
        PyErr_Format(PyExc_TypeError, "not an actor's handle: %R", handle);
        return false;
    }
    *ret_id = ((struct actor_handle *)handle)->id;
    return true;
}

PyObject *fibril__py_actor_raise(uint64_t id, int rc)
{
    switch (-rc) {
    case EPIPE:
    case ESRCH:
    case ENOSYS:
    case EPROTO: {
        PyObject *handle = fibril__py_actor_handle(id);
        PyObject *error =
            handle ? PyObject_CallFunction(fibril__py_hooks[HOOK_ENDED], "Oi", handle, -rc) : NULL;
        if (error) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        }
        Py_XDECREF(error);
        Py_XDECREF(handle);
        return NULL;
    }
    case EMSGSIZE:
    case E2BIG:
    case EOPNOTSUPP:
    case EBADMSG: return fibril__py_raise_unsent(rc);
    case EAGAIN: PyErr_SetString(fibril__py_hooks[HOOK_FULL], "the mailbox is full"); return NULL;
    case EDEADLK: PyErr_SetString(fibril__py.deadlock, "an actor cannot call itself"); return NULL;
    default: return fibril__py_raise(rc);
    }
}

/* ---- names of handlers ---- */

static PyObject *make_name(PyObject *name)
{
    enum { NAMES_MAX = 4096 };
    PyObject *full = PyUnicode_FromFormat("on_%U", name);
    if (!full) {
        return NULL;
    }
    PyUnicode_InternInPlace(&full);
    if (PyDict_GET_SIZE(method_names) >= NAMES_MAX) {
        for (unsigned i = 0; i < RECENT; i++) {
            Py_CLEAR(recent[i].name);
        }
        PyDict_Clear(method_names);
    }
    int rc = PyDict_SetItem(method_names, name, full);
    Py_DECREF(full);
    return rc == 0 ? full : NULL;
}

/* Of a function: `Counter.on_add`, which type checkers know. */
static PyObject *function_name(PyObject *function)
{
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    const char *text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (!text || strncmp(text, "on_", 3) != 0) {
        Py_XDECREF(name);
        return PyErr_Format(PyExc_TypeError,
                            "a handler is named by a str or a method on_..., not %R", function);
    }
    PyUnicode_InternInPlace(&name);
    Py_DECREF(name); /* the function has it */
    return name;
}

PyObject *fibril__py_method_name(PyObject *name)
{
    unsigned at = (unsigned)((uintptr_t)name >> 4) % RECENT;
    if (LIKELY(recent[at].name == name)) {
        return recent[at].full;
    }
    if (UNLIKELY(!PyUnicode_Check(name))) {
        return function_name(name);
    }
    PyObject *full = PyDict_GetItemWithError(method_names, name);
    if (!full && !PyErr_Occurred()) {
        full = make_name(name);
    }
    if (full) {
        recent[at].full = full;
        Py_XSETREF(recent[at].name, Py_NewRef(name));
    }
    return full;
}

/* ---- the type ---- */

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long long id;
    if (!PyArg_ParseTuple(args, "K:ActorHandle", &id)) {
        return NULL;
    }
    struct actor_handle *h = (struct actor_handle *)type->tp_alloc(type, 0);
    if (h) {
        h->id = id;
    }
    return (PyObject *)h;
}

static void handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *handle_compare(PyObject *x, PyObject *y, int op)
{
    if (!PyObject_TypeCheck(x, fibril__py_handle_base) ||
        !PyObject_TypeCheck(y, fibril__py_handle_base)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    uint64_t a = ((struct actor_handle *)x)->id, b = ((struct actor_handle *)y)->id;
    Py_RETURN_RICHCOMPARE(a, b, op);
}

static Py_hash_t handle_hash(struct actor_handle *h)
{
    Py_hash_t hash = (Py_hash_t)(h->id ^ h->id >> 32);
    return hash == -1 ? -2 : hash;
}

static PyObject *get_id(struct actor_handle *h, void *closure)
{
    return PyLong_FromUnsignedLongLong(h->id);
}

static PyObject *get_alive(struct actor_handle *h, void *closure)
{
    return PyBool_FromLong(fibril_actor_alive(h->id));
}

static PyObject *get_name(struct actor_handle *h, void *closure)
{
    char name[256] = "";
    unsigned number;
    const struct fibril__actor *a = fibril__actor_find(h->id, &number);
    if (a) {
        fibril__registry_name(a, name, sizeof name);
    }
    return *name ? PyUnicode_FromString(name) : Py_NewRef(Py_None);
}

static PyGetSetDef attributes[] = {
    {"id", (getter)get_id, NULL, "Its number (int), never used twice in a process.", NULL},
    {"alive", (getter)get_alive, NULL, "Whether it has not ended (bool).", NULL},
    {"name", (getter)get_name, NULL, "What it is registered as (str), or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {{Py_tp_doc, "The part of ActorHandle in C."},
                              {Py_tp_new, handle_new},
                              {Py_tp_dealloc, handle_dealloc},
                              {Py_tp_richcompare, handle_compare},
                              {Py_tp_hash, handle_hash},
                              {Py_tp_methods, fibril__py_talk_methods},
                              {Py_tp_getset, attributes},
                              {0, NULL}};

static PyType_Spec spec = {"fibril._fibril._Handle", sizeof(struct actor_handle), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

static bool make_optional_names(void)
{
    static const char *const texts[OPTIONALS] = {"on_message", "on_down", "on_exit", "on_idle",
                                                 "terminate"};
    bool fine = true;
    for (unsigned i = 0; i < OPTIONALS; i++) {
        fine &= (fibril__py_optional_names[i] = PyUnicode_InternFromString(texts[i])) != NULL;
    }
    return fine;
}

int fibril__py_actor_handle_init(PyObject *module)
{
    method_names = PyDict_New();
    fibril__py_handle_base = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!method_names || !fibril__py_handle_base || !make_optional_names()) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "_Handle", (PyObject *)fibril__py_handle_base);
}
