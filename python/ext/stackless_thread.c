/* SPDX-License-Identifier: MIT */
/*
 * Worlds: one for each thread that has used tasklets. A world is found by the thread state; a
 * capsule in the thread state's dict owns it, so it learns when the thread ends. Then the tasklets
 * that have begun are killed, for their finally clauses; those that do not take that for the end
 * are let go where they stand.
 */
#include "stackless_core.h"

enum { TICKS = 64 };

struct world *fibril__slp_last;
static struct world *worlds;

static const char capsule_name[] = "fibril.stackless";

struct world *fibril__slp_worlds(void)
{
    return worlds;
}

struct world *fibril__slp_world_of(const PyThreadState *ts)
{
    struct world *w = fibril__slp_last;
    if (!w || w->ts != ts) {
        for (w = worlds; w && w->ts != ts; w = w->next_world) {}
    }
    return w;
}

void fibril__slp_world_unref(struct world *w)
{
    if (--w->refs == 0) {
        fibril_waker_free(w->waker);
        PyMem_Free(w);
    }
}

/* ---- the end ---- */

static void forget(struct world *w)
{
    struct world **at = &worlds;
    while (*at && *at != w) {
        at = &(*at)->next_world;
    }
    if (*at) {
        *at = w->next_world;
    }
    if (fibril__slp_last == w) {
        fibril__slp_last = NULL;
    }
}

static void empty_ring(struct world *w)
{
    while (w->main->next != w->main) {
        struct tasklet *t = w->main->next;
        fibril__slp_ring_remove(w, t);
        Py_DECREF(t);
    }
}

static void kill(struct world *w, struct tasklet *t)
{
    PyObject *bomb = fibril__slp_bomb_throw(fibril__slp_exit, NULL, NULL);
    PyObject *result = bomb ? fibril__slp_throw_bomb(w, t, false, bomb) : NULL;
    if (!result) {
        PyErr_WriteUnraisable(object_of(t));
    }
    Py_XDECREF(result);
}

/* Finally clauses may switch, and wait for a while. */
static void let_finish(struct world *w)
{
    enum { ROUNDS = 1000, PAUSE_NS = 1000000 };
    for (int i = 0; i < ROUNDS && (w->out || w->main->next != w->main); i++) {
        if (w->main->next != w->main) {
            PyObject *result = fibril__slp_go(w, w->main, w->main->next);
            if (!result) {
                PyErr_WriteUnraisable(object_of(w->main));
            }
            Py_XDECREF(result);
        } else {
            PyThreadState *ts = PyEval_SaveThread();
            fibril_sleep(PAUSE_NS);
            PyEval_RestoreThread(ts);
        }
        fibril__slp_sync(w);
    }
}

static PyObject *those_alive(const struct world *w)
{
    PyObject *list = PyList_New(0);
    for (struct tasklet *t = w->live; list && t; t = t->next_live) {
        if (PyList_Append(list, object_of(t)) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* Killing runs Python, which may make new ones: they get a second chance, and no third. */
static void kill_all(struct world *w)
{
    enum { ROUNDS = 2 };
    for (int i = 0; i < ROUNDS && w->live; i++) {
        PyObject *list = those_alive(w);
        empty_ring(w);
        for (Py_ssize_t j = 0; list && j < PyList_GET_SIZE(list); j++) {
            struct tasklet *t = tasklet_of(PyList_GET_ITEM(list, j));
            if (t->begun && !t->ended) {
                kill(w, t);
            }
            fibril__slp_sync(w);
        }
        let_finish(w);
        if (!list) {
            PyErr_WriteUnraisable(object_of(w->main));
        }
        Py_XDECREF(list);
    }
}

static void let_go(struct world *w)
{
    struct tasklet *t = w->live;
    while (t) {
        struct tasklet *next = t->next_live;
        fibril__slp_abandon(t);
        t = next;
    }
}

PyObject *fibril__slp_end(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct world *w = fibril__slp_world_of(PyThreadState_Get());
    if (w && w->turn == w->main && w->current == w->main) {
        w->switch_trap = 0;
        kill_all(w);
    }
    Py_RETURN_NONE;
}

static void leave_loop(struct world *w)
{
    fibril_waker_wake(w->waker);
    PyThreadState *ts = PyEval_SaveThread();
    fibril_shield_begin();
    fibril_join(w->dispatcher, FIBRIL_FOREVER, NULL);
    fibril_shield_end();
    if (w->loop_ours) {
        fibril_loop_detach();
    }
    PyEval_RestoreThread(ts);
}

/* Those that other threads hold keep the record. */
static void dissolve(struct world *w)
{
    if (w->main) {
        fibril__slp_forget_thrown(w->main);
        fibril_turn_leave(w->main->fibril, &w->main->turn);
        w->main->fibril = NULL;
        if (w->main->place == AT_RING) {
            fibril__slp_ring_remove(w, w->main);
            Py_DECREF(w->main);
        }
    }
    w->ts = NULL;
    if (w->dispatcher) {
        leave_loop(w);
    }
    Py_CLEAR(w->watchdogs);
    Py_CLEAR(w->main);
    fibril__slp_world_unref(w);
}

/* Runs when the thread state is cleared: in its thread, or, when the interpreter ends, in another
 * one while its own may still be somewhere inside. */
static void thread_ended(PyObject *capsule)
{
    struct world *w = PyCapsule_GetPointer(capsule, capsule_name);
    bool here = fibril__pystate_current() == w->ts && w->turn == w->main && !fibril__py.ending &&
                fibril_current();
    if (here) {
        fibril__slp_sync(w);
        w->switch_trap = 0;
        fibril__slp_last = w; /* while it can no more be found in the dict */
        kill_all(w);
        empty_ring(w);
        let_go(w);
    }
    forget(w);
    if (here) {
        dissolve(w);
    } else {
        w->ts = NULL;
    }
}

/* ---- making ---- */

static int start_dispatcher(struct world *w)
{
    if (!fibril_current()) {
        static const struct fibril_opts opts = {.no_sigquit_dump = true};
        struct fibril_loop *loop;
        int rc = fibril_loop_attach(&opts, &loop);
        if (rc < 0) {
            return rc;
        }
        w->loop_ours = true;
    }
    int rc = fibril_waker_new(&w->waker);
    static const struct fibril_spawn_opts opts = {.name = "stackless", .daemon = true};
    rc = rc < 0 ? rc : fibril_spawn(fibril__slp_dispatch, w, &opts, &w->dispatcher);
    if (rc < 0 && w->loop_ours) {
        fibril_loop_detach();
    }
    return rc;
}

static int make_main(struct world *w)
{
    w->main = fibril__slp_tasklet_new(fibril__slp_tasklet, w);
    if (!w->main) {
        return -1;
    }
    struct tasklet *t = w->main;
    t->main = t->begun = true;
    t->fibril = fibril_current();
    t->turn.leader = t->fibril;
    fibril_turn_join(t->fibril, &t->turn);
    Py_INCREF(t);
    fibril__slp_ring_append(w, t);
    w->turn = t;
    w->attached = true;
    w->c_depth = fibril__pyslice_c_depth(w->ts);
    return 0;
}

static int tie(struct world *w, PyObject *dict)
{
    PyObject *capsule = make_main(w) == 0 ? PyCapsule_New(w, capsule_name, NULL) : NULL;
    int rc = capsule ? PyDict_SetItemString(dict, capsule_name, capsule) : -1;
    if (rc == 0) {
        PyCapsule_SetDestructor(capsule, thread_ended);
    }
    Py_XDECREF(capsule);
    return rc;
}

static struct world *new_world(PyThreadState *ts, PyObject *dict)
{
    struct world *w = PyMem_Calloc(1, sizeof *w);
    if (!w) {
        PyErr_NoMemory();
        return NULL;
    }
    w->refs = 1;
    w->ts = ts;
    w->thread_id = PyThread_get_thread_ident();
    w->back_end = &w->back;
    w->ticks = TICKS;
    fibril_turn_hooks(&fibril__slp_hooks);
    int rc = start_dispatcher(w);
    if (rc < 0) {
        fibril__slp_world_unref(w);
        fibril__py_raise(rc);
        return NULL;
    }
    w->keeps = fibril__pystate_can_swap() && fibril_loop_current() == fibril__py.loop;
    if (tie(w, dict) < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        dissolve(w);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    w->next_world = worlds;
    worlds = w;
    return w;
}

struct world *fibril__slp_world_slow(PyThreadState *ts)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct world *w = fibril__slp_world_of(ts);
    PyObject *dict = w ? NULL : PyThreadState_GetDict();
    if (dict) {
        w = new_world(ts, dict);
    } else if (!w) {
        PyErr_NoMemory();
    }
    if (!w) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return NULL;
    }
    PyErr_Restore(type, value, traceback);
    fibril__slp_last = w;
    return w;
}
