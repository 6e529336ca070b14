/* SPDX-License-Identifier: MIT */
/*
 * The module `_greenlet` (an attribute of fibril._fibril): its functions, tracing, and the C
 * interface.
 */
#include "greenlet_core.h"

#include "fibril_py.h"

#include <time.h>

/* ---- current, tracing ---- */

static PyObject *mod_getcurrent(PyObject *module, PyObject *unused)
{
    if (UNLIKELY(fibril__green_ends())) {
        PyErr_SetString(PyExc_RuntimeError, "greenlet is being finalized");
        return NULL;
    }
    struct green_thread *t = fibril__green_thread();
    return t ? Py_NewRef((PyObject *)t->current) : NULL;
}

/* The trace function does not trace itself, nor is it traced. */
static PyObject *call_trace(struct green_thread *t, const char *event, PyGreenlet *origin)
{
    PyThreadState *ts = t->ts;
    PyObject *fn = Py_NewRef(t->trace);
    PyThreadState_EnterTracing(ts);
    PyObject *result = PyObject_CallFunction(fn, "s(OO)", event, origin, t->current);
    PyThreadState_LeaveTracing(ts);
    Py_DECREF(fn);
    return result;
}

void fibril__green_trace(struct green_thread *t, struct carry *c, PyGreenlet *origin)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = call_trace(t, c->value ? "switch" : "throw", origin);
    if (result) {
        Py_DECREF(result);
        PyErr_Restore(type, value, traceback);
        return;
    }
    Py_CLEAR(t->trace);
    Py_CLEAR(c->value);
    Py_CLEAR(c->kwargs);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

static PyObject *mod_settrace(PyObject *module, PyObject *fn)
{
    struct green_thread *t = fibril__green_thread();
    if (!t) {
        return NULL;
    }
    PyObject *old = t->trace;
    t->trace = fn == Py_None ? NULL : Py_NewRef(fn);
    return old ? old : Py_NewRef(Py_None);
}

static PyObject *mod_gettrace(PyObject *module, PyObject *unused)
{
    struct green_thread *t = fibril__green_thread();
    return t ? Py_NewRef(t->trace ? t->trace : Py_None) : NULL;
}

/* ---- what else the original has in that module, which its tests look at ---- */

static PyObject *mod_mains(PyObject *module, PyObject *unused)
{
    return PyLong_FromSsize_t(fibril__green_mains);
}

/* A thread ends its own: nothing is ever pending. */
static PyObject *mod_pending(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(0);
}

static bool cleanup_off;

static PyObject *mod_clocks(PyObject *module, PyObject *unused)
{
    return cleanup_off ? Py_NewRef(Py_None) : PyLong_FromLong(0);
}

static PyObject *mod_enable_cleanup(PyObject *module, PyObject *flag)
{
    int on = PyObject_IsTrue(flag);
    if (on < 0) {
        return NULL;
    }
    cleanup_off = !on;
    Py_RETURN_NONE;
}

static PyObject *mod_set_thread_local(PyObject *module, PyObject *args)
{
    PyObject *key, *value;
    if (!PyArg_UnpackTuple(args, "set_thread_local", 2, 2, &key, &value) ||
        PyDict_SetItem(PyThreadState_GetDict(), key, value) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- stacks ---- */

static PyObject *mod_own_stacks(PyObject *module, PyObject *flag)
{
    int on = PyObject_IsTrue(flag);
    if (on < 0) {
        return NULL;
    }
    bool was = fibril__green_own_stacks;
    fibril__green_own_stacks = on;
    return PyBool_FromLong(was);
}

#if PY_VERSION_HEX < 0x030d0000
static PyObject *mod_trash(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(fibril__pystate_trash(PyThreadState_Get()));
}
#endif

static PyMethodDef functions[] = {
    {"getcurrent", mod_getcurrent, METH_NOARGS,
     "getcurrent()\n--\n\nReturns the greenlet that calls this."},
    {"settrace", mod_settrace, METH_O,
     "settrace(callback, /)\n--\n\nFrom now on callback(event, (origin, target)) is called after each "
     "switch of this\nthread; event is 'switch' or 'throw'. None ends it. Returns the callback before."},
    {"gettrace", mod_gettrace, METH_NOARGS, "gettrace()\n--\n\nReturns the callback, or None."},
    {"own_stacks", mod_own_stacks, METH_O,
     "own_stacks(flag, /)\n--\n\nWhether greenlets made from now on have stacks of their own instead "
     "of copied\nones. Returns what held before."},
    {"get_total_main_greenlets", mod_mains, METH_NOARGS, "How many main greenlets there are."},
    {"get_pending_cleanup_count", mod_pending, METH_NOARGS, "Always 0."},
    {"get_clocks_used_doing_optional_cleanup", mod_clocks, METH_NOARGS,
     "0, or None when switched off: there is no such cleanup."},
    {"enable_optional_cleanup", mod_enable_cleanup, METH_O, "Has no effect."},
#if PY_VERSION_HEX < 0x030d0000
    {"get_tstate_trash_delete_nesting", mod_trash, METH_NOARGS, "How deep deallocation nests."},
#endif
    {"set_thread_local", mod_set_thread_local, METH_VARARGS,
     "Sets an item of the thread state's dict."},
    {NULL, NULL, 0, NULL}};

/* ---- the C interface ---- */

static PyGreenlet *api_new(PyObject *run, PyGreenlet *parent)
{
    PyObject *args[] = {run ? run : Py_None, parent ? (PyObject *)parent : Py_None};
    return (PyGreenlet *)PyObject_Vectorcall((PyObject *)&fibril__green_type, args, run ? 2 : 0,
                                             NULL);
}

static PyGreenlet *api_current(void)
{
    return (PyGreenlet *)mod_getcurrent(NULL, NULL);
}

static struct green_thread *api_check(PyGreenlet *g)
{
    if (!green_check((PyObject *)g)) {
        PyErr_BadArgument();
        return NULL;
    }
    return fibril__green_thread();
}

static PyObject *api_throw(PyGreenlet *g, PyObject *type, PyObject *value, PyObject *traceback)
{
    struct green_thread *t = api_check(g);
    if (!t || fibril__green_restore(type, value, traceback) < 0) {
        return NULL;
    }
    return fibril__green_throw(t, green_of(g));
}

static PyObject *api_switch(PyGreenlet *g, PyObject *args, PyObject *kwargs)
{
    struct green_thread *t = api_check(g);
    if (!t) {
        return NULL;
    }
    struct carry c = {.all = true};
    c.value = args ? Py_NewRef(args) : PyTuple_New(0);
    c.kwargs = kwargs && PyDict_Check(kwargs) ? Py_NewRef(kwargs) : NULL;
    if (!c.value) {
        Py_XDECREF(c.kwargs);
        return NULL;
    }
    return fibril__green_switch(t, green_of(g), c);
}

static int api_set_parent(PyGreenlet *g, PyGreenlet *parent)
{
    return fibril__green_set_parent(g, (PyObject *)parent, NULL);
}

static int api_main(PyGreenlet *g)
{
    return api_check(g) ? green_of(g)->main : -1;
}

static int api_started(PyGreenlet *g)
{
    return api_check(g) ? green_of(g)->state != GREEN_NEW : -1;
}

static int api_active(PyGreenlet *g)
{
    return api_check(g) ? green_of(g)->state == GREEN_ACTIVE : -1;
}

static PyGreenlet *api_parent(PyGreenlet *g)
{
    return api_check(g) ? (PyGreenlet *)Py_XNewRef((PyObject *)green_of(g)->parent) : NULL;
}

typedef void any_fn(void);
static void set_entry(void **entry, any_fn *fn)
{
    *(any_fn **)(void *)entry = fn;
}

static PyObject *new_capsule(void)
{
    static void *api[PyGreenlet_API_pointers];
    api[PyGreenlet_Type_NUM] = &fibril__green_type;
    api[PyExc_GreenletError_NUM] = fibril__green_error;
    api[PyExc_GreenletExit_NUM] = fibril__green_exit;
    set_entry(&api[PyGreenlet_New_NUM], (any_fn *)api_new);
    set_entry(&api[PyGreenlet_GetCurrent_NUM], (any_fn *)api_current);
    set_entry(&api[PyGreenlet_Throw_NUM], (any_fn *)api_throw);
    set_entry(&api[PyGreenlet_Switch_NUM], (any_fn *)api_switch);
    set_entry(&api[PyGreenlet_SetParent_NUM], (any_fn *)api_set_parent);
    set_entry(&api[PyGreenlet_MAIN_NUM], (any_fn *)api_main);
    set_entry(&api[PyGreenlet_STARTED_NUM], (any_fn *)api_started);
    set_entry(&api[PyGreenlet_ACTIVE_NUM], (any_fn *)api_active);
    set_entry(&api[PyGreenlet_GET_PARENT_NUM], (any_fn *)api_parent);
    return PyCapsule_New(api, "greenlet._C_API", NULL);
}

/* ---- the module ---- */

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "greenlet._greenlet",
                                        .m_doc = "Greenlets. Use fibril.greenlet.", .m_size = -1,
                                        .m_methods = functions};

static int add(PyObject *module, const char *name, PyObject *value)
{
    int rc = value ? PyModule_AddObjectRef(module, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static int make_types(void)
{
    if (fibril__green_type_init() < 0) {
        return -1;
    }
    fibril__green_error = PyErr_NewException("greenlet.error", NULL, NULL);
    fibril__green_exit = PyErr_NewException("greenlet.GreenletExit", PyExc_BaseException, NULL);
    return fibril__green_error && fibril__green_exit ? 0 : -1;
}

static int fill(PyObject *m)
{
    static const char *const flags[] = {"GREENLET_USE_GC", "GREENLET_USE_TRACING",
                                        "GREENLET_USE_CONTEXT_VARS",
                                        "GREENLET_USE_STANDARD_THREADING"};
    int rc = add(m, "greenlet", Py_NewRef((PyObject *)&fibril__green_type));
    rc = rc < 0 ? rc : add(m, "error", Py_NewRef(fibril__green_error));
    rc = rc < 0 ? rc : add(m, "GreenletExit", Py_NewRef(fibril__green_exit));
    rc = rc < 0 ? rc : add(m, "_C_API", new_capsule());
    rc = rc < 0 ? rc : PyModule_AddIntConstant(m, "CLOCKS_PER_SEC", CLOCKS_PER_SEC);
    for (size_t i = 0; i < sizeof flags / sizeof *flags && rc == 0; i++) {
        rc = PyModule_AddIntConstant(m, flags[i], 1);
    }
    return rc;
}

/* Some of the module's names are attributes of the type as well. */
static int copy_to_type(PyObject *m)
{
    static const char *const names[] = {"getcurrent", "error", "GreenletExit", "settrace",
                                        "gettrace"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *value = PyObject_GetAttrString(m, names[i]);
        int rc = value ? PyDict_SetItemString(fibril__green_type.tp_dict, names[i], value) : -1;
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    PyType_Modified(&fibril__green_type);
    return 0;
}

int fibril__py_greenlet_init(PyObject *module)
{
    if (!fibril__pyslice_possible) {
        return 0;
    }
    PyObject *m = make_types() == 0 ? PyModule_Create(&definition) : NULL;
    if (!m || fill(m) < 0 || copy_to_type(m) < 0) {
        Py_XDECREF(m);
        return -1;
    }
    fibril__green_watch_frames();
    return add(module, "_greenlet", m);
}
