/* SPDX-License-Identifier: MIT */
/*
 * What the files of fibril.greenlet share. A greenlet is a nested context (sched/nest.h) that runs
 * Python: its part of the thread state is a slice (pystate.h), and the greenlets of a thread share
 * that thread's PyThreadState. A "thread" here is a PyThreadState: an OS thread or a fibril.
 *
 *     greenlet_type.c     the type: making, attributes, the end
 *     greenlet_switch.c   who goes next, what is carried over, beginning and ending
 *     greenlet_thread.c   a thread's main greenlet, its nest, what happens when it ends
 *     greenlet_gc.c       garbage collection, killing the unreachable
 *     greenlet_module.c   functions, tracing, the C interface
 *
 *              begin               run returns or raises
 *     NEW  ------------>  ACTIVE  ----------------------->  DEAD
 */
#ifndef FIBRIL_PY_GREENLET_CORE_H
#define FIBRIL_PY_GREENLET_CORE_H

#include "pystate.h"

#define GREENLET_MODULE
#include "greenlet.h"

#include "sched/nest.h"

enum green_state { GREEN_NEW, GREEN_ACTIVE, GREEN_DEAD };

/* Memory for the first Python frames of a greenlet: three calls or so. */
enum { GREEN_FRAMES = 512 };

/* What a switch brings: a value, which is an argument tuple if `all`, or nothing when an exception
 * is set. Owned. */
struct carry {
    PyObject *value, *kwargs;
    bool all;
};

struct green_thread;

/* What a PyGreenlet points to. */
struct green {
    struct fibril__nested nested; /* first: see green_of_nested */
    struct fibril__pyslice slice;
    PyGreenlet *self; /* whose this is */
    PyGreenlet *parent;
    PyObject *run;               /* until it has ended */
    PyObject *kwargs;            /* while ACTIVE: what run was called with besides its arguments */
    struct green_thread *thread; /* from its beginning on */
    void *frames;                /* while ACTIVE, but for main ones */
    struct green *next, **link;  /* while ACTIVE: in the list of its thread */
    uint8_t state;
    bool main, own_stack;
    bool all; /* run was called with a tuple of arguments */
};

/* Kept by each greenlet that has begun in it, and by the thread state's dict. */
struct green_thread {
    Py_ssize_t refs;
    PyThreadState *ts;         /* NULL: it has ended */
    struct fibril__nest *nest; /* NULL until the first greenlet begins */
    PyGreenlet *main, *current;
    PyGreenlet *origin; /* during a switch: who was current; whoever arrives drops it */
    struct carry carry; /* during a switch */
    PyObject *trace;    /* the trace function, or NULL */
    PyObject *spare;    /* of who is about to begin: what it was made to run and does not */
    PyObject *doomed;   /* list of greenlets that other threads have let go, or NULL */
    struct green *active;
    struct green_thread *next_thread, **thread_link; /* the list of all that have not ended */
};

extern PyTypeObject fibril__green_type;
extern PyObject *fibril__green_error, *fibril__green_exit;
/* Whether the interpreter is ending: nothing is killed any more, and nobody current. */
bool fibril__green_ends(void);

extern bool fibril__green_own_stacks; /* the default of new greenlets */

static inline struct green *green_of(const PyGreenlet *g)
{
    return g->pimpl;
}

static inline bool green_check(PyObject *o)
{
    return o && PyObject_TypeCheck(o, &fibril__green_type);
}

static inline void *green_at(void *arg, void *p)
{
    return fibril__nested_at((const struct fibril__nested *)arg, p);
}

/* ---- threads (greenlet_thread.c) ---- */

extern struct green_thread *fibril__green_last; /* that of the thread state asked for last */

/* The calling thread's. NULL with an exception when there is no memory. May run Python: what other
 * threads have let go is killed. */
struct green_thread *fibril__green_thread_slow(PyThreadState *ts);
static inline struct green_thread *fibril__green_thread(void)
{
    PyThreadState *ts = PyThreadState_Get();
    struct green_thread *t = fibril__green_last;
    return t && t->ts == ts && !t->doomed ? t : fibril__green_thread_slow(ts);
}

extern struct green_thread *fibril__green_threads;

/* The nest of t, which is the calling thread's. NULL with an exception. */
struct fibril__nest *fibril__green_nest(struct green_thread *t);

void fibril__green_thread_release(struct green_thread *t);

/* How many main greenlets there are. */
extern Py_ssize_t fibril__green_mains;

/* ---- switching (greenlet_switch.c) ---- */

/* Switches to g, or where its parents lead, on the calling thread t. Takes what c holds. Returns
 * what the calling greenlet is switched back to with. */
PyObject *fibril__green_switch(struct green_thread *t, struct green *g, struct carry c);

/* Switches to g, which is ACTIVE in t and not current. Takes value. */
PyObject *fibril__green_jump(struct green_thread *t, struct green *g, PyObject *value);

/* Switches to g with the exception that is set; one that ended a dead greenlet is a value. */
PyObject *fibril__green_throw(struct green_thread *t, struct green *g);

/* Sets the exception that throw(type, value, traceback) means. -1: another one is set. */
int fibril__green_restore(PyObject *type, PyObject *value, PyObject *traceback);

/* What nested contexts of threads run. */
struct fibril__nested *fibril__green_run(struct fibril__nested *self);

/* g, which does not run and never will again, lets go of its stack and frames. */
void fibril__green_abandon(struct green *g);

/* ---- greenlets (greenlet_type.c) ---- */

/* A new one of exact type `greenlet`; state NEW, no parent. */
PyGreenlet *fibril__green_new(void);

int fibril__green_type_init(void);

int fibril__green_set_parent(PyGreenlet *self, PyObject *parent, void *unused);

/* ---- the end (greenlet_gc.c) ---- */

int fibril__green_traverse(PyObject *self, visitproc visit, void *arg);
int fibril__green_clear(PyObject *self);
void fibril__green_finalize(PyObject *self);
void fibril__green_dealloc(PyObject *self);

/* Makes f_back of frames of suspended greenlets safe; once. */
void fibril__green_watch_frames(void);

/* ---- tracing (greenlet_module.c) ---- */

/* Calls the trace function of t, for a switch that brings c. On failure c is dropped and an
 * exception set. */
void fibril__green_trace(struct green_thread *t, struct carry *c, PyGreenlet *origin);

#endif
