/* SPDX-License-Identifier: MIT */
/*
 * What greenlets of a thread share. The record is found by the thread state, not by a thread-local,
 * because fibrils of one OS thread have thread states of their own; the one asked for last is
 * remembered. A capsule in the thread state's dict owns it, so it learns when the thread ends.
 *
 * When a thread has ended its suspended greenlets can never run again: those that something still
 * refers to let go of their stacks, and what their frames refer to is lost.
 */
#include "greenlet_core.h"

#include <errno.h>

struct green_thread *fibril__green_last, *fibril__green_threads;
Py_ssize_t fibril__green_mains;

static const char capsule_name[] = "fibril.greenlet";

enum {
    RUN_STACK_BYTES = 4 << 20, /* address space: what is not touched costs nothing */
    OWN_STACK_BYTES = 1 << 20,
};

/* ---- the end ---- */

void fibril__green_thread_release(struct green_thread *t)
{
    if (--t->refs == 0) {
        PyMem_Free(t);
    }
}

bool fibril__green_ends(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

static void enter_list(struct green_thread *t)
{
    t->next_thread = fibril__green_threads;
    t->thread_link = &fibril__green_threads;
    if (t->next_thread) {
        t->next_thread->thread_link = &t->next_thread;
    }
    fibril__green_threads = t;
}

static void leave_list(struct green_thread *t)
{
    *t->thread_link = t->next_thread;
    if (t->next_thread) {
        t->next_thread->thread_link = t->thread_link;
    }
}

/* What others have let go of meanwhile: letting it go here kills it. */
static void kill_doomed(struct green_thread *t)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *doomed = t->doomed;
    t->doomed = NULL;
    Py_XDECREF(doomed);
    PyErr_Restore(type, value, traceback);
}

static void abandon_all(struct green_thread *t)
{
    while (t->active) {
        fibril__green_abandon(t->active);
    }
}

/* Runs when the thread state is cleared: in its thread, or when the interpreter ends in another, at
 * a time when its own OS thread may still stand on a stack of the nest. */
static void thread_ended(PyObject *capsule)
{
    struct green_thread *t = PyCapsule_GetPointer(capsule, capsule_name);
    bool here = fibril__pystate_current() == t->ts && t->current == t->main;
    if (here && t->doomed && !fibril__green_ends()) {
        kill_doomed(t);
    }
    t->ts = NULL;
    leave_list(t);
    if (fibril__green_last == t) {
        fibril__green_last = NULL;
    }
    if (here) {
        abandon_all(t);
        fibril__nest_free(t->nest);
        t->nest = NULL;
    }
    Py_CLEAR(t->trace);
    Py_CLEAR(t->doomed);
    Py_CLEAR(t->current);
    Py_CLEAR(t->main);
    fibril__green_thread_release(t);
}

/* ---- making ---- */

static PyGreenlet *new_main(struct green_thread *t)
{
    PyGreenlet *main = fibril__green_new();
    if (main) {
        struct green *g = green_of(main);
        g->main = true;
        g->state = GREEN_ACTIVE;
        g->thread = t;
        t->refs++;
        fibril__green_mains++;
    }
    return main;
}

static struct green_thread *new_thread(PyThreadState *ts, PyObject *dict)
{
    struct green_thread *t = PyMem_Calloc(1, sizeof *t);
    if (!t) {
        PyErr_NoMemory();
        return NULL;
    }
    t->refs = 1;
    t->ts = ts;
    t->main = new_main(t);
    t->current = (PyGreenlet *)Py_XNewRef((PyObject *)t->main);
    PyObject *capsule = t->main ? PyCapsule_New(t, capsule_name, thread_ended) : NULL;
    if (!capsule) {
        Py_CLEAR(t->current);
        Py_CLEAR(t->main);
        fibril__green_thread_release(t);
        return NULL;
    }
    enter_list(t);
    int rc = PyDict_SetItemString(dict, capsule_name, capsule);
    Py_DECREF(capsule);
    return rc == 0 ? t : NULL;
}

static struct green_thread *find_or_make(PyThreadState *ts)
{
    PyObject *dict = PyThreadState_GetDict();
    if (!dict) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *capsule = PyDict_GetItemString(dict, capsule_name);
    return capsule ? PyCapsule_GetPointer(capsule, capsule_name) : new_thread(ts, dict);
}

struct green_thread *fibril__green_thread_slow(PyThreadState *ts)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct green_thread *t = find_or_make(ts);
    if (!t) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return NULL;
    }
    PyErr_Restore(type, value, traceback);
    fibril__green_last = t;
    if (t->doomed) {
        kill_doomed(t);
    }
    return t;
}

struct fibril__nest *fibril__green_nest(struct green_thread *t)
{
    if (t->nest) {
        return t->nest;
    }
    static const struct fibril__nest_opts opts = {.run_bytes = RUN_STACK_BYTES,
                                                  .own_bytes = OWN_STACK_BYTES};
    fibril__pystate_pool_chunks(); /* a greenlet's own memory is soon used up: see GREEN_FRAMES */
    int rc = fibril__nest_new(&opts, fibril__green_run, &green_of(t->main)->nested, &t->nest);
    if (rc == -ENOTSUP) {
        PyErr_SetString(fibril__green_error, "no greenlets on a fibril whose stack is copied");
    } else if (rc < 0) {
        PyErr_NoMemory();
    }
    return t->nest;
}
