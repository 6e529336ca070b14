/* SPDX-License-Identifier: MIT */
/*
 * What the files of the extension share.
 *
 * A Python fibril is a fibril with a thread state of its own. While it runs Python it holds the
 * GIL; while it is parked it holds none. Code in C that runs on a fibril and wants to call Python:
 *
 *     struct pyfibril self = {0};
 *     char frames[FIBRIL__PY_FRAMES];
 *     if (fibril__py_begin(&self, frames, sizeof frames) == 0) {     now it has the GIL
 *         ... calls Python ...
 *         fibril__py_leave(&self);                                    now it has not
 *         ... parks in fibril_* calls ...
 *         fibril__py_enter(&self);                                    now it has
 *         fibril__py_end(&self);                                      and not, for good
 *     }
 *
 * The baton: a fibril that parks between leave and enter, and sees that the next to run is also
 * between its leave and enter, does not release the GIL: the next one finds it held (`kept`) and
 * only makes its own thread state the current one. That is safe even when the guess was wrong: a
 * fibril that parked elsewhere and wants the GIL waits for it by parking, and others run, until one
 * between leave and enter takes the baton.
 */
#ifndef FIBRIL_PY_H
#define FIBRIL_PY_H

#include "pystate.h"

#include <fibril/embed.h>
#include <fibril/fibril.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define FIBRIL__PY_FRAMES 1024 /* bytes for the first Python frames, on the fibril's own stack */

/* One Python fibril. Lies on its stack, in its Fibril object, or in memory of its own for threads
 * that CPython made. */
struct pyfibril {
    struct fibril_embed_node node;
    struct fibril *fibril;
    PyThreadState *tstate; /* NULL until it has run */
    PyObject *handle;      /* its Fibril object, NULL until somebody asked; see handle.c */
    bool ours;             /* between leave and enter, or about to begin: takes the baton */
    bool adopted;          /* a thread that CPython made: neither its state nor its end are ours */
    bool cancelled_async;  /* Cancelled is on its way as an asynchronous exception */
    uint16_t shields;      /* Python's, one in the other: no asynchronous exception */
    uint8_t asked;         /* how often it was asked whether it is the main thread's */
    int levels_taken;      /* of recursion: see overflow.c */
    uint64_t joins;        /* the number of the fibril whose end it waits for; for reports */
};

#define FIBRIL__PY_JOINS_ALL UINT64_MAX /* of all that are awaited at the end */

/* The state of the extension: there is one interpreter and one loop. */
struct fibril__py {
    struct fibril_loop *loop; /* of the main thread; NULL: not enabled */
    struct fibril *main;      /* its main fibril */
    PyInterpreterState *interp;
    bool kept;            /* the GIL is held by nobody in particular: see above */
    bool can_keep;        /* this version of CPython allows it */
    bool layer;           /* the POSIX layer is installed */
    bool beginning;       /* fibril__py_begin makes a thread state */
    bool state_key_known; /* it is: */
    unsigned state_key;   /* the pthread key under which a thread has its state */
    bool ending;          /* the process is: see enable.c */
    size_t thread_stack_bytes, spawn_stack_bytes;
    uint64_t handed; /* switches that kept the GIL */

    PyThreadState *main_state; /* of its main fibril: gdb begins there */
    PyThreadState *keeper;     /* of the fibril that watches over timeouts */
    PyThreadState *ticker;     /* of the OS thread that preempts; NULL: there is none */

    PyObject *cancelled, *deadlock, *closed; /* exception types */
    PyTypeObject *fibril_type, *channel_type;
};
extern struct fibril__py fibril__py;

/* The record of f, NULL if it has none. */
extern const char fibril__py_owner;
static inline struct pyfibril *fibril__py_of(const struct fibril *f)
{
    return (struct pyfibril *)(void *)fibril_embed_find(f, &fibril__py_owner);
}

/* Makes p the record of f; in place of the one it has, if any. */
static inline void fibril__py_bind(struct fibril *f, struct pyfibril *p)
{
    struct pyfibril *old = fibril__py_of(f);
    if (old) {
        fibril_embed_remove(f, &old->node);
    }
    if (p) {
        p->node.owner = &fibril__py_owner;
        fibril_embed_add(f, &p->node);
    }
}

/* ---- entering and leaving Python ---- */

/* Gives the calling fibril, which has no thread state, one, and takes the GIL. *p is all zero; p
 * and frames must stay in place until the end. Returns 0, or -ENOMEM without the GIL. MAY PARK. */
int fibril__py_begin(struct pyfibril *p, void *frames, size_t bytes);

/* Clears the calling fibril's thread state (which may run Python) and releases the GIL. */
void fibril__py_end(struct pyfibril *p);

/* Whether the fibril that runs next may be handed the GIL. */
static inline bool fibril__py_next_takes(void)
{
    const struct fibril *next = fibril__py.can_keep ? fibril_embed_next() : NULL;
    const struct pyfibril *q = next ? fibril__py_of(next) : NULL;
    return q && q->ours;
}

/* Before a call of fibril's that may park: the GIL is released, or kept for the next one. */
static inline void fibril__py_leave(struct pyfibril *p)
{
    p->ours = true;
    if (fibril__py_next_takes()) {
        fibril__py.kept = true;
        fibril__pystate_keep();
    } else {
        PyEval_SaveThread();
    }
}

/* Enters the slow way, or, when the interpreter is being finalised, not at all. */
void fibril__py_enter_slow(struct pyfibril *p);

/* After it. MAY PARK. */
static inline void fibril__py_enter(struct pyfibril *p)
{
    p->ours = false;
    if (!fibril__py.kept) {
        fibril__py_enter_slow(p);
        return;
    }
    fibril__py.kept = false;
    if (fibril__pystate_current() != p->tstate) {
        fibril__py.handed++;
        fibril__pystate_swap(p->tstate);
    }
}

/* The calling Python fibril, with the GIL; NULL on an OS thread without a loop (no exception is
 * set) and when there is no memory (one is). */
struct pyfibril *fibril__py_self_slow(struct fibril *f);
static inline struct pyfibril *fibril__py_self(void)
{
    struct fibril *f = fibril_current();
    struct pyfibril *p = f ? fibril__py_of(f) : NULL;
    return p ? p : fibril__py_self_slow(f);
}

/* ---- waiting (wait.c) ---- */

/* Something of fibril's that may park, called without the GIL on a fibril of the main loop. */
typedef int fibril__py_op(void *arg, int64_t deadline_ns);

/* Carries op(arg) out without the GIL and returns its result: on the calling fibril, or for an OS
 * thread without a loop on a fibril of the main thread's loop, while the OS thread waits. Signal
 * handlers run in between; when one raises, 1 is returned with the exception set (op returns no
 * value above 0 on its own). MAY PARK. */
int fibril__py_wait(fibril__py_op *op, void *arg, int64_t deadline_ns);
/* The same for what must not be begun again after a signal: the main fibril, which only signals
 * interrupt, has another fibril do it. */
int fibril__py_wait_once(fibril__py_op *op, void *arg, int64_t deadline_ns);

/* ---- handles (handle.c) ---- */

/* The Fibril object of p, which runs now or has not ended; made if need be. Borrowed. */
PyObject *fibril__py_handle(struct pyfibril *p);

/* p, which has a handle and is not a spawned one, is about to end. With the GIL. */
void fibril__py_handle_ended(struct pyfibril *p);

/* One more, or one less, for whose end the process waits: spawned fibrils and OS threads that are
 * no daemons. With the GIL, on any OS thread. */
void fibril__py_awaited_begins(void);
void fibril__py_awaited_ends(void);
/* Waits until there is none. With the GIL. 0, or -1 with an exception. */
int fibril__py_await_all(void);
/* Has the counts right in the child of a fork. Returns 0 or -ENOMEM. */
int fibril__py_spawn_start(void);

/* ---- OS threads from outside (foreign.c) ---- */

/* For an OS thread that may have no thread state: as PyGILState_Ensure, but returns false, without
 * the GIL, when the interpreter ends or is gone: then it must never touch Python. */
bool fibril__py_come(PyGILState_STATE *ret_state);
/* From now on none comes in; those on their way have. With the GIL. MAY PARK. */
void fibril__py_shut(void);
bool fibril__py_is_shut(void);
/* Before the first comes. Returns 0 or -ENOMEM. */
int fibril__py_foreign_start(void);

/* ---- tasklets (stackless_throw.c) ---- */

/* Whether f is a tasklet's that waits, or has, outside and has been thrown something, by which that
 * wait ended; and raises it in f, which runs: returns NULL. */
bool fibril__slp_is_thrown(const struct fibril *f);
PyObject *fibril__slp_raise_thrown(struct fibril *f);

/* ---- cancellation (cancel.c) ---- */

/* Cancels p, which is not the caller's or is: its present wait, or its next one, ends. Returns 0 or
 * -ENOMEM. */
int fibril__py_cancel(struct pyfibril *p);

/* A cancellation of the caller's has been dealt with, or is about to be: it is over. */
void fibril__py_cancel_over(struct pyfibril *p);

/* The function of p has ended, perhaps with an exception set: a Cancelled that was still on its way
 * is called back, and takes the place of the OSError that came before it. */
void fibril__py_cancel_settle(struct pyfibril *p);

/* From now on a cancellation that ends a wait inside CPython is raised there as Cancelled. After
 * the layer is there. */
void fibril__py_cancel_start(void);
void fibril__py_cancel_stop(void);

/* Whether an exception is Cancelled, or the OSError of a C call that the cancellation ended. */
bool fibril__py_is_cancelled(PyObject *type, PyObject *value);

/* Starts the fibril that watches over timeouts (timeout.c), on the main thread's loop. With
 * `deadlocks` the core reports when no fibril can go on. Returns 0 or -ENOMEM. */
int fibril__py_keeper_start(bool deadlocks);
/* Ends it. With the GIL, on the main fibril. MAY PARK. */
void fibril__py_keeper_stop(void);

/* The thread state of a fibril of the main loop, NULL if it has none. */
PyThreadState *fibril__py_state_of(const struct fibril *f);

/* How many OS threads preemption takes. */
unsigned fibril__py_ticks(void);

/* The dump hook: writes f's Python stack to descriptor fd (dump.c). Async-signal-safe. */
void fibril__py_write_frames(const struct fibril *f, int fd);

/* ---- conversions (convert.c) ---- */

/* The exception that is set, normalised, with its traceback; it is set no more. */
PyObject *fibril__py_take_exception(void);

/* Raises the exception of a negative errno that a wait of the calling fibril ended with, and
 * returns NULL. -ECANCELED: Cancelled, and the cancellation counts as delivered. */
PyObject *fibril__py_raise(int rc);

/* Seconds from now as a deadline; None is FIBRIL_FOREVER, below zero counts as zero. Returns false
 * with an exception for what is no number. */
bool fibril__py_deadline(PyObject *seconds, int64_t *ret_deadline_ns);

/* The one argument, timeout, of a method called `called`, by place or by name. None where it was
 * not given. Borrowed; NULL with an exception. */
PyObject *fibril__py_timeout_arg(const char *called, PyObject *const *args, Py_ssize_t n,
                                 PyObject *names);

/* After a wait that ended with -EINTR: runs Python's signal handlers. Returns false with their
 * exception, true when the wait is to be made again. */
bool fibril__py_interrupted(void);

/* ---- threads of `threading` (thread_frames.c) ---- */

/* From now on their first frames are small. After the layer is there. */
void fibril__py_thread_frames_start(void);
void fibril__py_thread_frames_stop(void);

/* ---- full stacks (overflow.c) ---- */

/* From now on RecursionError is raised when the C stack of a fibril is full. */
void fibril__py_overflow_start(void);

/* ---- registration: each adds its types and functions; 0, or -1 with an exception ---- */

/* tp_dealloc of a type whose objects own what tp_clear lets go of and nothing else. */
void fibril__py_dealloc(PyObject *self);

/* Makes the types and adds them: for the areas below. */
int fibril__py_add_types(PyObject *module, PyType_Spec *specs, size_t n);

int fibril__py_errors_init(PyObject *module);
int fibril__py_fibril_init(PyObject *module);
int fibril__py_wait_init(PyObject *module);
int fibril__py_enable_init(PyObject *module);
int fibril__py_chan_init(PyObject *module);
int fibril__py_sync_init(PyObject *module);
int fibril__py_cancel_init(PyObject *module);
int fibril__py_timeout_init(PyObject *module);
int fibril__py_offload_init(PyObject *module);
int fibril__py_dump_init(PyObject *module);
int fibril__py_preempt_init(PyObject *module);
int fibril__py_standstill_init(PyObject *module);
int fibril__py_greenlet_init(PyObject *module);
int fibril__py_stackless_init(PyObject *module);
int fibril__py_wsgi_init(PyObject *module);
int fibril__py_actor_start_init(PyObject *module);
int fibril__py_actor_handle_init(PyObject *module);
int fibril__py_actor_stream_init(PyObject *module);
int fibril__py_actor_receive_init(PyObject *module);
int fibril__py_actor_life_init(PyObject *module);
int fibril__py_actor_later_init(PyObject *module);
int fibril__py_supervisor_init(PyObject *module);
int fibril__py_observe_init(PyObject *module);
int fibril__py_actor_pickle_init(PyObject *module);
int fibril__py_actor_node_init(PyObject *module);

/* At exit, when all fibrils that are no daemons have ended: ends the actors. With the GIL. */
void fibril__py_actors_end(void);

#endif
