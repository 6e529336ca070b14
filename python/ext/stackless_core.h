/* SPDX-License-Identifier: MIT */
/*
 * What the files of fibril.stackless share. A tasklet is a fibril with a copied stack; the tasklets
 * of a thread share its PyThreadState, of which each has a slice (pystate.h), and take turns
 * (fibril_turn in embed.h).
 *
 *     stackless_ring.c      the runnable tasklets of a thread; the queues of channels
 *     stackless_thread.c    worlds: what the tasklets of a thread share; making and ending them
 *     stackless_world.c     I/O; waiting for something to do
 *     stackless_switch.c    who runs next; stackless_turn.h: the steps of that
 *     stackless_life.c      beginning and ending
 *     stackless_bomb.c      exceptions on their way to another tasklet; stackless_throw.c to one
 *                           that is outside
 *     stackless_tasklet.c   the type; stackless_state.c its attributes and setting up
 *     stackless_channel.c   channels
 *     stackless_module.c    functions; stackless_watchdog.c run(); stackless_count.c instructions
 *     stackless_frames.c    f_back of suspended ones
 *     stackless_pickle.c    tasklets as data; stackless_resume.c their frames
 *
 * A tasklet is in at most one place, which then owns a reference: the ring of runnable ones, in
 * which the running one stands first; the queue of a channel; or `out`, parked in something that is
 * not Stackless's.
 */
#ifndef FIBRIL_PY_STACKLESS_CORE_H
#define FIBRIL_PY_STACKLESS_CORE_H

#include "fibril_py.h"

#include "base/compiler.h"

struct world;
struct channel;

enum place { AT_NONE, AT_RING, AT_QUEUE, AT_OUT };

/* Bytes for the first Python frames of a tasklet: three calls or so. */
enum { TASKLET_FRAMES = 512 };

struct tasklet {
    PyObject_HEAD struct tasklet *next, *prev; /* ring: circular; queue: NULL at the ends */
    struct world *world;                       /* its thread's; kept by reference */
    PyObject *value; /* what it goes on with; before it is set up: its function */
    PyObject *call;  /* (function, args, kwargs) until it ends, or, without arguments, just the
                        function; NULL: not set up */
    PyObject *weakrefs;
    union {
        struct channel *channel; /* AT_QUEUE: which */
        struct tasklet *later;   /* away: in the world's list of those that are back */
    };
    PyObject *thrown;                  /* a bomb for when its wait outside ends; NULL: none */
    struct tasklet *next_live, **live; /* in the world's list of those that have a stack */
    struct fibril *fibril;             /* from its beginning to its end */
    void *frames;
    struct fibril_turn turn;
    struct fibril__pyslice slice;
    uint8_t place;
    int8_t blocked;                                /* AT_QUEUE: -1 receives, 1 sends */
    bool main : 1, begun : 1, ended : 1, away : 1; /* away: its fibril parks, or has, elsewhere */
    bool atomic : 1, ignore_nesting : 1, block_trap : 1, pending_irq : 1;
    bool interrupted : 1; /* between two instructions, by run(timeout) */
    bool recorded : 1;    /* its fibril's record (fibril_py.h) has been made for it */
    bool hidden : 1;      /* from the garbage collector: see stackless_ring.c */
    uint32_t stopped;     /* suspended: fibril__pycall_end() of the function that it stopped in */
};

struct channel {
    PyObject_HEAD struct tasklet *head, *tail;
    PyObject *weakrefs;
    int balance; /* so many wait to send; below zero: to receive */
    int8_t preference;
    bool schedule_all, closing;
};

/* A thread, which is a PyThreadState, and its tasklets. */
enum { LEFT_MAX = 8 };
struct world {
    Py_ssize_t refs;
    PyThreadState *ts; /* NULL: the thread has ended */
    unsigned long thread_id;
    struct world *next_world;
    struct tasklet *main;
    struct tasklet *current; /* the first of the ring: runs, or will */
    Py_ssize_t runcount;     /* in the ring */
    Py_ssize_t out;          /* AT_OUT */
    struct tasklet *dead;    /* has just left the ring for good: whoever arrives drops it */
    struct tasklet *turn;    /* who may touch ts; NULL: nobody, or the dispatcher */
    bool attached;           /* with the turn comes the GIL */
    bool hidden;             /* ... in the name of ts, which is hidden: nobody else has run */
    bool keeps;              /* ... and so it is always, but after a wait */
    bool acquiring;          /* the dispatcher waits for the GIL */
    bool idle;               /* nobody is runnable: the thread waits */
    bool loop_ours;          /* made for it */
    uint8_t ticks;
    uint8_t left_len;
    struct tasklet *left[LEFT_MAX]; /* have parked elsewhere, and are still in the ring */
    struct tasklet *back, **back_end;
    struct fibril_waker *waker; /* the dispatcher waits there */
    struct fibril *dispatcher;
    struct tasklet *live; /* have a stack; main is not among them */
    bool refused;         /* the last fibril__slp_go that came back has changed nothing */
    int switch_trap;
    int schedlock; /* a callback runs: no switch, and the turn is kept whatever it does */
    int c_depth;   /* calls of C under way where tasklets begin */

    /* run() */
    PyObject *watchdogs; /* list: who gets interruptions, or None; then those that wait in run(),
                            the innermost last. NULL: nobody ever has */
    PyObject *interrupted;
    long interval, ticks_left; /* instructions */
    unsigned runflags;
};

enum { RUN_THREADBLOCK = 1, RUN_SOFT = 2, RUN_IGNORE_NESTING = 4, RUN_TOTALTIMEOUT = 8 };

extern PyTypeObject *fibril__slp_tasklet, *fibril__slp_channel, *fibril__slp_bomb;
extern PyObject *fibril__slp_exit;   /* TaskletExit */
extern PyObject *fibril__slp_module; /* of which schedule() is a function */
extern PyObject *fibril__slp_schedule_hook, *fibril__slp_channel_hook, *fibril__slp_error_hook;

static inline struct tasklet *tasklet_of(PyObject *o)
{
    return (struct tasklet *)o;
}

static inline PyObject *object_of(struct tasklet *t)
{
    return (PyObject *)t;
}

/* A value that stands for the tasklet which has it: no reference to oneself while suspended. */
#define TASKLET_ITSELF ((PyObject *)fibril__slp_tasklet)

static inline bool tasklet_alive(const struct tasklet *t)
{
    return t->main || (t->world->ts && !t->ended && (t->call || t->begun));
}

static inline void tasklet_set_value(struct tasklet *t, PyObject *owned)
{
    PyObject *old = t->value;
    t->value = owned;
    Py_XDECREF(old);
}

/* ---- ring (stackless_ring.c) ---- */

/* Takes over the caller's reference to t. */
void fibril__slp_ring_append(struct world *w, struct tasklet *t);
/* The same right behind the running one. */
void fibril__slp_ring_follow(struct world *w, struct tasklet *t);
/* The same as the one to run. */
void fibril__slp_ring_first(struct world *w, struct tasklet *t);
/* Gives the reference to the caller. */
void fibril__slp_ring_remove(struct world *w, struct tasklet *t);
/* Of one that has not begun and stands in the ring: until it leaves that. */
void fibril__slp_ring_hide(struct tasklet *t);

/* Makes t, which the queue takes the caller's reference to, the last that waits in c. */
void fibril__slp_queue_append(struct channel *c, struct tasklet *t, int direction);
/* Takes t, which waits in a channel, out of it; a reference for the caller. */
void fibril__slp_queue_remove(struct tasklet *t);

/* ---- worlds (stackless_thread.c, stackless_world.c) ---- */

extern const struct fibril_turn_hooks fibril__slp_hooks;
int fibril__slp_dispatch(void *world);
/* Kills all tasklets of the calling thread: for the end of the process. */
PyObject *fibril__slp_end(PyObject *module, PyObject *unused);

extern struct world *fibril__slp_last;
struct world *fibril__slp_world_slow(PyThreadState *ts);
void fibril__slp_sync(struct world *w);

/* The calling thread's, with all that happened meanwhile in it. NULL with an exception. */
static inline struct world *fibril__slp_world(void)
{
    PyThreadState *ts = PyThreadState_Get();
    struct world *w = fibril__slp_last;
    if (!w || w->ts != ts) {
        w = fibril__slp_world_slow(ts);
        if (!w) {
            return NULL;
        }
    }
    if (w->left_len || w->back) {
        fibril__slp_sync(w);
    }
    return w;
}

/* The world of ts, NULL if it has none. */
struct world *fibril__slp_world_of(const PyThreadState *ts);

/* The tasklet of w that runs: in a callback that is not the one to run next. */
static inline struct tasklet *fibril__slp_running(const struct world *w)
{
    return w->turn ? w->turn : w->current;
}

/* Of another thread's tasklet that has become runnable: it may be waiting for that. */
void fibril__slp_world_nudge(struct world *w);
/* Whether some other thread may still make a tasklet of w runnable. */
bool fibril__slp_world_hopeful(const struct world *w);
void fibril__slp_world_unref(struct world *w);
struct world *fibril__slp_worlds(void);

/* ---- switching (stackless_switch.c, stackless_life.c) ---- */

/* Runs `next` (NULL: whoever there is, waiting for one) instead of `prev`, the running one, which
 * the caller has put where it belongs. Returns what prev goes on with, or NULL with an exception;
 * then w->refused says whether it failed at once, with nothing changed. `stopped`: in a method of
 * the channel that it waits in or of the module, fibril__pycall_end() of its arguments; else 0. */
static inline PyObject *fibril__slp_go_from(struct world *w, struct tasklet *prev,
                                            struct tasklet *next, uint32_t stopped);

/* The same with 0. */
static inline PyObject *fibril__slp_go(struct world *w, struct tasklet *prev, struct tasklet *next);

/* The same for one that has noted it. */
PyObject *fibril__slp_go_noted(struct world *w, struct tasklet *prev, struct tasklet *next);

static inline PyObject *fibril__slp_go_from(struct world *w, struct tasklet *prev,
                                            struct tasklet *next, uint32_t stopped)
{
    prev->stopped = stopped;
    return fibril__slp_go_noted(w, prev, next);
}

static inline PyObject *fibril__slp_go(struct world *w, struct tasklet *prev, struct tasklet *next)
{
    return fibril__slp_go_from(w, prev, next, 0);
}

/* What the main tasklet, which is blocked, hears when nobody can unblock it. */
PyObject *fibril__slp_deadlock_bomb(const struct tasklet *guard);

/* Leaves the loop to others for a moment. */
void fibril__slp_breathe(struct world *w);

/* t, which does not run and never will again, lets go of its stack and frames. */
void fibril__slp_abandon(struct tasklet *t);
/* See fibril__pyslice_at: arg is a tasklet. */
void *fibril__slp_at(void *arg, void *p);
/* Gives t, which is set up, a stack and frames if it has none. -1 without an exception: no memory.
 */
int fibril__slp_begin(struct tasklet *t);

/* What t goes on with, or NULL with an exception. */
PyObject *fibril__slp_claim(struct tasklet *t);

/* ---- bombs (stackless_bomb.c) ---- */

PyObject *fibril__slp_bomb_current(void); /* of the exception that is set */
PyObject *fibril__slp_bomb_class(PyObject *klass, PyObject *args);
PyObject *fibril__slp_bomb_throw(PyObject *type, PyObject *value, PyObject *traceback);
/* Sets its exception; takes the bomb; returns NULL. */
PyObject *fibril__slp_bomb_explode(PyObject *bomb);
static inline bool fibril__slp_is_bomb(PyObject *o)
{
    return Py_IS_TYPE(o, fibril__slp_bomb);
}
bool fibril__slp_bomb_is_exit(PyObject *bomb);

/* ---- tasklets (stackless_tasklet.c, stackless_state.c) ---- */

struct tasklet *fibril__slp_tasklet_new(PyTypeObject *type, struct world *w);
extern PyGetSetDef fibril__slp_tasklet_attributes[];
PyObject *fibril__slp_bind(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *fibril__slp_setup(PyObject *self, PyObject *args, PyObject *kwargs);
int fibril__slp_bind_to(struct tasklet *t, PyObject *fn, PyObject *args, PyObject *kwargs);
int fibril__slp_insert(struct tasklet *t);
PyObject *fibril__slp_throw_bomb(struct world *w, struct tasklet *t, bool pending, PyObject *bomb);
PyObject *fibril__slp_bind_thread(PyObject *self, PyObject *args);
PyObject *fibril__slp_set_atomic(PyObject *self, PyObject *flag);
PyObject *fibril__slp_set_ignore_nesting(PyObject *self, PyObject *flag);
PyObject *fibril__slp_set_context(PyObject *self, PyObject *context);

/* ---- those that are outside (stackless_throw.c) ---- */

/* Throws bomb, which it takes, to t, which waits for something outside or has until now: the wait
 * ends with it. Returns 1 if t can go on now, 0 if later, -1 with an exception. */
int fibril__slp_throw_out(struct tasklet *t, PyObject *bomb);
/* t, which has been thrown something, goes on next in its thread: with the GIL. */
void fibril__slp_announce(const struct tasklet *t);
/* t has no fibril any more: what the above made goes. */
void fibril__slp_forget_thrown(struct tasklet *t);

/* ---- pickling (stackless_pickle.c) ---- */

PyObject *fibril__slp_reduce(PyObject *self, PyObject *unused);
PyObject *fibril__slp_setstate(PyObject *self, PyObject *state);
/* Whether it is data now: a suspended tasklet asks fibril/_stackless_pickle.py. -1: exception. */
int fibril__slp_restorable(struct tasklet *t);
/* The function of tasklets that were suspended when they were pickled. It claims the value where
 * they were. NULL until there is one. */
extern PyObject *fibril__slp_resume;

/* ---- the watchdog (stackless_watchdog.c) ---- */

/* The tasklet to which errors and deadlocks go: the innermost in run(), or main. */
static inline struct tasklet *fibril__slp_guard(const struct world *w)
{
    Py_ssize_t n = w->watchdogs ? PyList_GET_SIZE(w->watchdogs) : 0;
    return n > 1 ? tasklet_of(PyList_GET_ITEM(w->watchdogs, n - 1)) : w->main;
}
/* The one that interruptions wake; NULL: there are none. */
static inline struct tasklet *fibril__slp_interrupted_for(const struct world *w)
{
    PyObject *first = w->watchdogs ? PyList_GET_ITEM(w->watchdogs, 0) : Py_None;
    return first == Py_None ? NULL : tasklet_of(first);
}
/* An instruction of the running tasklet's of w. 0, or -1 with an exception. */
int fibril__slp_tick(struct world *w);
PyObject *fibril__slp_run(PyObject *module, PyObject *args, PyObject *kwargs);

/* Has fibril__slp_tick called for each instruction of w's thread from now on, or no more
 * (stackless_count.c). 0, or -1 with an exception. */
int fibril__slp_count_on(struct world *w);
void fibril__slp_count_off(struct world *w);

/* ---- frames (stackless_frames.c) ---- */

void fibril__slp_watch_frames(void);

/* ---- registration ---- */

/* Makes a type and adds it by the name under which stackless.py looks for it; keeps a reference. */
int fibril__slp_add_type(PyObject *module, PyType_Spec *spec, const char *name,
                         PyTypeObject **ret_type);

int fibril__slp_bomb_init(PyObject *module);
int fibril__slp_tasklet_init(PyObject *module);
int fibril__slp_throw_init(PyObject *module);
int fibril__slp_channel_init(PyObject *module);
int fibril__slp_resume_init(PyObject *module);
int fibril__py_stackless_init(PyObject *module);

#endif
