/* SPDX-License-Identifier: MIT */
/*
 * The functions of fibril.stackless, which python/fibril/stackless.py names.
 */
#include "stackless_core.h"

PyObject *fibril__slp_schedule_hook, *fibril__slp_error_hook, *fibril__slp_module;

/* ---- schedule ---- */

static NOINLINE PyObject *schedule_with(PyObject *value, bool remove, uint32_t stopped)
{
    struct world *w = fibril__slp_world();
    if (UNLIKELY(!w)) {
        return NULL;
    }
    struct tasklet *self = w->current, *next = self->next;
    PyObject *before = self->value;
    self->value = Py_NewRef(value ? value : TASKLET_ITSELF);
    if (remove) {
        next = next == self ? NULL : next;
        fibril__slp_ring_remove(w, self);
        w->dead = self; /* whoever arrives drops it */
    }
    PyObject *result = fibril__slp_go_from(w, self, next, stopped);
    if (UNLIKELY(!result) && w->refused) {
        if (remove) {
            w->dead = NULL;
            fibril__slp_ring_first(w, self);
        }
        tasklet_set_value(self, before);
    } else {
        Py_DECREF(before);
    }
    return result;
}

/* The one optional argument, by position or name. */
static int one_argument(PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject **ret_value)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n + named > 1 ||
        (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "retval") != 0)) {
        PyErr_SetString(PyExc_TypeError, "schedule takes at most one argument, retval");
        return -1;
    }
    *ret_value = n + named ? args[0] : NULL;
    return 0;
}

static NOINLINE PyObject *schedule_value(PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *value = NULL;
    return one_argument(args, n, names, &value) < 0
               ? NULL
               : schedule_with(value, false, fibril__pycall_end(args, 1));
}

/* Has failed, and perhaps nothing has been done. */
static NOINLINE PyObject *undo_schedule(void)
{
    const struct world *w = fibril__slp_world();
    if (w && w->refused) {
        tasklet_set_value(w->current, Py_NewRef(Py_None));
    }
    return NULL;
}

/* As it mostly is: no register of it is on a parked stack. */
static inline PyObject *schedule(uint32_t stopped)
{
    struct world *w = fibril__slp_world();
    if (UNLIKELY(!w)) {
        return NULL;
    }
    struct tasklet *self = w->current;
    if (UNLIKELY(self->value != Py_None)) {
        return schedule_with(NULL, false, stopped);
    }
    Py_DECREF(Py_None);
    self->value = Py_NewRef(TASKLET_ITSELF);
    PyObject *result = fibril__slp_go_from(w, self, self->next, stopped);
    return LIKELY(result) ? result : undo_schedule();
}

PyDoc_STRVAR(schedule_doc, "schedule(retval=None)\n--\n\n"
                           "Lets the next tasklet run. Returns retval, or the tasklet itself.");

static PyObject *py_schedule(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)module;
    return UNLIKELY(n || names) ? schedule_value(args, n, names)
                                : schedule(fibril__pycall_end(args, 0));
}

PyDoc_STRVAR(schedule_remove_doc, "schedule_remove(retval=None)\n--\n\n"
                                  "The same, and the caller is no more runnable.");

static PyObject *py_schedule_remove(PyObject *module, PyObject *const *args, Py_ssize_t n,
                                    PyObject *names)
{
    PyObject *value = NULL;
    (void)module;
    return one_argument(args, n, names, &value) < 0
               ? NULL
               : schedule_with(value, true, fibril__pycall_end(args, value != NULL));
}

/* ---- looking ---- */

static PyObject *py_getcurrent(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct world *w = fibril__slp_world();
    return w ? Py_NewRef(object_of(fibril__slp_running(w))) : NULL;
}

static PyObject *py_getcurrentid(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct world *w = fibril__slp_world();
    if (!w) {
        return NULL;
    }
    struct tasklet *t = fibril__slp_running(w);
    return t == w->main ? PyLong_FromUnsignedLong(w->thread_id) : PyLong_FromVoidPtr(t);
}

static PyObject *py_getmain(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct world *w = fibril__slp_world();
    return w ? Py_NewRef(object_of(w->main)) : NULL;
}

static PyObject *py_getruncount(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    struct world *w = fibril__slp_world();
    return w ? PyLong_FromSsize_t(w->runcount) : NULL;
}

static PyObject *py_getthreads(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *list = fibril__slp_world() ? PyList_New(0) : NULL;
    for (struct world *w = fibril__slp_worlds(); list && w; w = w->next_world) {
        PyObject *id = PyLong_FromUnsignedLong(w->thread_id);
        if (!id || PyList_Append(list, id) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(id);
    }
    return list;
}

PyDoc_STRVAR(get_thread_info_doc, "get_thread_info(thread_id=-1, flags=0)\n--\n\n"
                                  "(main, current, runcount) of a thread. With bit 31 of flags, "
                                  "also the list of those in\nrun(): who gets interruptions, or "
                                  "None; the outermost first.");

enum { SHOW_WATCHDOGS = 31 }; /* the number of the bit */

static PyObject *py_get_thread_info(PyObject *module, PyObject *args)
{
    long id = -1;
    unsigned long flags = 0;
    (void)module;
    struct world *w = fibril__slp_world();
    if (!w || !PyArg_ParseTuple(args, "|lk:get_thread_info", &id, &flags)) {
        return NULL;
    }
    if (id != -1) {
        w = fibril__slp_worlds();
        while (w && w->thread_id != (unsigned long)id) {
            w = w->next_world;
        }
    }
    if (!w) {
        PyErr_SetString(PyExc_RuntimeError, "Thread id not found");
        return NULL;
    }
    PyObject *current = w->current ? object_of(w->current) : Py_None;
    PyObject *in_run = w->watchdogs ? w->watchdogs : Py_None;
    return flags >> SHOW_WATCHDOGS & 1
               ? Py_BuildValue("OOnO", object_of(w->main), current, w->runcount, in_run)
               : Py_BuildValue("OOn", object_of(w->main), current, w->runcount);
}

/* ---- callbacks and traps ---- */

static PyObject *set_hook(PyObject **hook, PyObject *to, const char *text)
{
    if (to != Py_None && !PyCallable_Check(to)) {
        PyErr_SetString(PyExc_TypeError, text);
        return NULL;
    }
    PyObject *before = *hook;
    *hook = to == Py_None ? NULL : Py_NewRef(to);
    return before ? before : Py_NewRef(Py_None);
}

static PyObject *get_hook(PyObject *hook)
{
    return Py_NewRef(hook ? hook : Py_None);
}

static PyObject *py_set_schedule_callback(PyObject *module, PyObject *to)
{
    (void)module;
    return set_hook(&fibril__slp_schedule_hook, to, "schedule callback must be callable");
}

static PyObject *py_get_schedule_callback(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return get_hook(fibril__slp_schedule_hook);
}

static PyObject *py_set_channel_callback(PyObject *module, PyObject *to)
{
    (void)module;
    return set_hook(&fibril__slp_channel_hook, to, "channel callback must be callable");
}

static PyObject *py_get_channel_callback(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return get_hook(fibril__slp_channel_hook);
}

static PyObject *py_set_error_handler(PyObject *module, PyObject *to)
{
    (void)module;
    return set_hook(&fibril__slp_error_hook, to, "handler must be a callable or None");
}

PyDoc_STRVAR(switch_trap_doc, "switch_trap(change=0)\n--\n\n"
                              "While the counter is not zero a switch is an error. Adds to it and "
                              "returns what it was.");

static PyObject *py_switch_trap(PyObject *module, PyObject *args)
{
    int change = 0;
    (void)module;
    struct world *w = fibril__slp_world();
    if (!w || !PyArg_ParseTuple(args, "|i:switch_trap", &change)) {
        return NULL;
    }
    int before = w->switch_trap;
    w->switch_trap += change;
    return PyLong_FromLong(before);
}

/* ---- registration ---- */

#define KEYWORDS(fn) ((PyCFunction)(void (*)(void))(fn))

static PyMethodDef functions[] = {
    {"_stackless_schedule", KEYWORDS(py_schedule), METH_FASTCALL | METH_KEYWORDS, schedule_doc},
    {"_stackless_schedule_remove", KEYWORDS(py_schedule_remove), METH_FASTCALL | METH_KEYWORDS,
     schedule_remove_doc},
    {"_stackless_run", KEYWORDS(fibril__slp_run), METH_VARARGS | METH_KEYWORDS,
     "run(timeout=0, threadblock=False, soft=False, ignore_nesting=False, totaltimeout=False)\n"
     "--\n\nRuns the tasklets until they have ended or nothing can go on."},
    {"_stackless_getcurrent", py_getcurrent, METH_NOARGS,
     "getcurrent()\n--\n\nThe running tasklet."},
    {"_stackless_getcurrentid", py_getcurrentid, METH_NOARGS,
     "getcurrentid()\n--\n\nA number that is the running tasklet's."},
    {"_stackless_getmain", py_getmain, METH_NOARGS,
     "getmain()\n--\n\nThe main tasklet of the thread."},
    {"_stackless_getruncount", py_getruncount, METH_NOARGS,
     "getruncount()\n--\n\nHow many tasklets are runnable, the caller included."},
    {"_stackless_getthreads", py_getthreads, METH_NOARGS,
     "getthreads()\n--\n\nIdentities of the threads that have used tasklets."},
    {"_stackless_get_thread_info", py_get_thread_info, METH_VARARGS, get_thread_info_doc},
    {"_stackless_set_schedule_callback", py_set_schedule_callback, METH_O,
     "set_schedule_callback(callable)\n--\n\n"
     "callable(previous, next) is called before each switch; None ends it. Returns the old one."},
    {"_stackless_get_schedule_callback", py_get_schedule_callback, METH_NOARGS,
     "get_schedule_callback()\n--\n\nIt, or None."},
    {"_stackless_set_channel_callback", py_set_channel_callback, METH_O,
     "set_channel_callback(callable)\n--\n\n"
     "callable(channel, tasklet, sending, willblock) is called before each operation; None ends "
     "it. Returns the old one."},
    {"_stackless_get_channel_callback", py_get_channel_callback, METH_NOARGS,
     "get_channel_callback()\n--\n\nIt, or None."},
    {"_stackless_set_error_handler", py_set_error_handler, METH_O,
     "set_error_handler(callable)\n--\n\n"
     "callable(type, value, traceback) gets exceptions that leave a tasklet. Returns the old one."},
    {"_stackless__end", fibril__slp_end, METH_NOARGS, "Kills the tasklets of the calling thread."},
    {"_stackless_switch_trap", py_switch_trap, METH_VARARGS, switch_trap_doc},
    {NULL, NULL, 0, NULL}};

int fibril__slp_add_type(PyObject *module, PyType_Spec *spec, const char *name,
                         PyTypeObject **ret_type)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    *ret_type = (PyTypeObject *)type;
    return type ? PyModule_AddObjectRef(module, name, type) : -1;
}

int fibril__py_stackless_init(PyObject *module)
{
    if (fibril__slp_bomb_init(module) < 0 || fibril__slp_tasklet_init(module) < 0 ||
        fibril__slp_channel_init(module) < 0 || fibril__slp_throw_init(module) < 0 ||
        fibril__slp_resume_init(module) < 0) {
        return -1;
    }
    fibril__slp_watch_frames();
    fibril__slp_module = module;
    return PyModule_AddFunctions(module, functions);
}
