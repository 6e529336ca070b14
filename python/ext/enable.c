/* SPDX-License-Identifier: MIT */
/*
 * enable and disable: adopting the main thread and installing the POSIX layer, in that order, and
 * leaving again. What happens at the interpreter's end is here too.
 *
 * The order at exit: threading joins its threads; then atexit calls at_exit below, which waits for
 * what fibril.spawn and os_thread made and is no daemon, and lets no more OS threads in. When
 * CPython begins to finalise, no fibril but the main one runs Python any more: those that would
 * stay parked (lane.c), and CPython's own threads are halted where they ask for the GIL. The loop
 * itself is never ended at exit: whatever is parked goes with the process.
 */
#include "fibril_py.h"

#include <fibril/posix.h>

#if FIBRIL_PY_POSIX
#include "posix/thread.h"
#endif

#include <sys/syscall.h>
#include <unistd.h>

enum { THREAD_STACK_BYTES = 1 << 20, SPAWN_STACK_BYTES = 256 << 10 };

/* ---- the layer ---- */

#if FIBRIL_PY_POSIX

/* See pystate.h. */
static int own_words(void)
{
    void **words[FIBRIL__PYSTATE_WORDS];
    unsigned len = fibril__pystate_words(words);
    int rc = 0;
    for (unsigned i = 0; i < len && rc == 0; i++) {
        rc = fibril_posix_own(words[i], sizeof *words[i]);
    }
    return rc;
}

static int install_layer(void)
{
    void *threads_of;
    *(void (**)(void)) & threads_of = (void (*)(void))PyThread_start_new_thread;
    const struct fibril_posix_opts opts = {.threads = FIBRIL_POSIX_THREADS_OF,
                                           .threads_of = threads_of,
                                           .stack_bytes = fibril__py.thread_stack_bytes};
    int rc = fibril_posix_install(&opts);
    fibril__py.layer = rc == 0 || rc == -EALREADY;
    fibril__posix_halted = fibril__py.layer ? fibril__pystate_is_gone : NULL;
    return fibril__py.layer ? own_words() : rc;
}

static int uninstall_layer(void)
{
    int rc = fibril__py.layer ? fibril_posix_uninstall() : 0;
    fibril__py.layer = fibril__py.layer && rc < 0;
    fibril__posix_halted = fibril__py.layer ? fibril__posix_halted : NULL;
    return rc;
}

#else

static int install_layer(void)
{
    return 0;
}

static int uninstall_layer(void)
{
    return 0;
}

#endif

/* ---- at exit ---- */

/* Threads that have not begun would stay so from now on, and CPython's end waits for one of its
 * own, faulthandler's watchdog. */
static void let_begin(void)
{
    struct pyfibril *p = fibril__py_self();
    fibril__py_leave(p);
    fibril_yield();
    fibril__py_enter(p);
}

static PyObject *at_exit(PyObject *unused, PyObject *unused_too)
{
    bool enabled = fibril__py.loop && fibril_current() == fibril__py.main;
    int rc = enabled ? fibril__py_await_all() : 0;
    if (enabled) {
        fibril__py_actors_end();
        let_begin();
    }
    fibril__py.ending = enabled;
    fibril__py.can_keep = fibril__py.can_keep && !enabled;
    fibril__py_shut();
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef at_exit_def = {"at_exit", at_exit, METH_NOARGS,
                                  "Waits for fibrils and OS threads that are no daemons."};

static int register_at_exit(void)
{
    static bool registered;
    if (registered) {
        return 0;
    }
    PyObject *module = PyImport_ImportModule("atexit");
    PyObject *fn = module ? PyCFunction_New(&at_exit_def, NULL) : NULL;
    PyObject *result = fn ? PyObject_CallMethod(module, "register", "O", fn) : NULL;
    registered = result != NULL;
    Py_XDECREF(result);
    Py_XDECREF(fn);
    Py_XDECREF(module);
    return registered ? 0 : -1;
}

/* ---- enable ---- */

static int watch_forks(void)
{
    int rc = fibril__py_spawn_start();
    return rc == 0 ? fibril__py_foreign_start() : rc;
}

static int attach(const struct fibril_opts *opts, bool deadlocks)
{
    struct fibril__py *g = &fibril__py;
    int rc = fibril_loop_attach(opts, &g->loop);
    if (rc < 0) {
        return rc;
    }
    g->interp = PyInterpreterState_Get();
    g->main = fibril_current();
    g->main_state = PyThreadState_Get();
    fibril__py_overflow_start();
    rc = install_layer();
    rc = rc == 0 ? fibril__py_keeper_start(deadlocks) : rc;
    if (rc < 0) {
        uninstall_layer();
        fibril_loop_detach();
        g->loop = NULL;
        g->main = NULL;
        return rc;
    }
    g->can_keep = fibril__pystate_init();
    fibril__pystate_pool_chunks();
    fibril__py_thread_frames_start();
    fibril__py_cancel_start();
    fibril_embed_on_dump(fibril__py_write_frames);
    return 0;
}

static PyObject *refuse(int rc, const char *poller)
{
    switch (-rc) {
    case EINVAL:
        return PyErr_Format(PyExc_ValueError, "unknown poller or impossible stack size%s%s",
                            poller ? ": poller " : "", poller ? poller : "");
    case ENOSYS:
        return PyErr_Format(PyExc_OSError, "the kernel refuses the poller %s",
                            poller ? poller : "that $FIBRIL_POLLER names");
    case EBUSY:
        PyErr_SetString(PyExc_RuntimeError, "this thread has a loop that is not Python's");
        return NULL;
    case ENOTSUP:
        PyErr_SetString(PyExc_RuntimeError, "the import tables of this process are not understood");
        return NULL;
    default: return fibril__py_raise(rc);
    }
}

PyDoc_STRVAR(enable_doc, "_enable(poller, stack_bytes, thread_stack_bytes, deadlock)\n--\n\n"
                         "See fibril.enable.");

static PyObject *py_enable(PyObject *module, PyObject *args)
{
    const char *poller;
    Py_ssize_t stack_bytes, thread_stack_bytes;
    int deadlocks;
    struct fibril__py *g = &fibril__py;
    if (!PyArg_ParseTuple(args, "znnp:_enable", &poller, &stack_bytes, &thread_stack_bytes,
                          &deadlocks)) {
        return NULL;
    }
    if (g->loop) {
        Py_RETURN_FALSE;
    }
    if (stack_bytes < 0 || thread_stack_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "a stack size is below zero");
        return NULL;
    }
    if (syscall(SYS_gettid) != getpid()) {
        PyErr_SetString(PyExc_RuntimeError, "enable fibril from the main thread");
        return NULL;
    }
    g->spawn_stack_bytes = stack_bytes ? (size_t)stack_bytes : SPAWN_STACK_BYTES;
    g->thread_stack_bytes = thread_stack_bytes ? (size_t)thread_stack_bytes : THREAD_STACK_BYTES;
    const struct fibril_opts opts = {
        .poller = poller, .stack_bytes = g->spawn_stack_bytes, .deadlock = FIBRIL_DEADLOCK_RETURN};
    int rc = register_at_exit() < 0 ? 1 : watch_forks();
    rc = rc == 0 ? attach(&opts, deadlocks) : rc;
    if (rc != 0) {
        return rc < 0 ? refuse(rc, poller) : NULL;
    }
    Py_RETURN_TRUE;
}

/* ---- disable ---- */

static bool others_alive(void)
{
    struct fibril_metrics m;
    return fibril_metrics(NULL, &m) == 0 && m.fibrils > 2; /* the main one, and the keeper of
                                                              timeouts */
}

static void leave_loop(void)
{
    fibril__py.can_keep = false;
    PyThreadState *ts = PyEval_SaveThread();
    fibril_loop_detach();
    fibril__py.loop = NULL;
    fibril__py.main = NULL;
    PyEval_RestoreThread(ts);
}

PyDoc_STRVAR(disable_doc,
             "disable()\n--\n\n"
             "Makes threads real again and blocking calls block. From the main thread, when no\n"
             "other fibril is alive; RuntimeError otherwise. Does nothing when not enabled.");

static PyObject *py_disable(PyObject *module, PyObject *unused)
{
    struct fibril__py *g = &fibril__py;
    if (!g->loop) {
        Py_RETURN_NONE;
    }
    if (fibril_current() != g->main) {
        PyErr_SetString(PyExc_RuntimeError, "disable fibril from the main thread");
        return NULL;
    }
    if (others_alive() || uninstall_layer() < 0) {
        PyErr_SetString(PyExc_RuntimeError, "fibrils are alive");
        return NULL;
    }
    fibril__py_thread_frames_stop();
    fibril__py_cancel_stop();
    fibril__py_keeper_stop();
    leave_loop();
    Py_RETURN_NONE;
}

static PyObject *py_enabled(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(fibril__py.loop != NULL);
}

PyDoc_STRVAR(enabled_doc, "enabled()\n--\n\nReturns whether fibril.enable() is in force.");

static PyMethodDef functions[] = {{"_enable", py_enable, METH_VARARGS, enable_doc},
                                  {"disable", py_disable, METH_NOARGS, disable_doc},
                                  {"enabled", py_enabled, METH_NOARGS, enabled_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_enable_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
