/* SPDX-License-Identifier: MIT */
/*
 * When the loop stands still: who waits for what. Whether that is a deadlock is decided in
 * _standstill.py, by what the fibrils' Python frames do; here is what only C knows. The core tells
 * of a standstill; a fibril of its own looks into it, as the one who parked last cannot take the
 * GIL.
 *
 * Rejected: to look at each lock that is waited for. A lock, an event and a queue of Python are the
 * same semaphore below, and most programs that stand still wait for a signal and are well.
 */
#include "handle.h"

#include "debug/describe.h"
#include "sched/record.h"

#if FIBRIL_PY_POSIX
#include "posix/thread.h"
#endif

#include <string.h>
#include <sys/stat.h>

static PyObject *look_into; /* of _standstill.py; NULL: reports are not wanted */
static bool looking;

/* ---- one fibril ---- */

static uint64_t holder_of(const struct fibril *f)
{
    const struct fibril *holder = f->wait->blocker ? f->wait->blocker(f) : NULL;
    return holder ? fibril_id(holder) : 0;
}

/* What f waits on in the table of the layer, if it is a semaphore: a lock of Python's. */
static const void *lock_of(const struct fibril *f)
{
#if FIBRIL_PY_POSIX
    const struct fibril__thread *t = fibril__thread_known(f);
    bool waits = t && t->address && f->wait->called && strcmp(f->wait->called(f), "semaphore") == 0;
    return waits ? t->address : NULL;
#else
    (void)f;
    return NULL;
#endif
}

static uint64_t taker_of(const void *lock)
{
#if FIBRIL_PY_POSIX
    return lock ? fibril__posix_taker(lock) : 0;
#else
    (void)lock;
    return 0;
#endif
}

static PyObject *describe(const struct fibril *f, int64_t now_ns)
{
    const struct pyfibril *p = fibril__py_of(f);
    const struct handle *h = p && !p->adopted ? (const struct handle *)p->handle : NULL;
    bool spawned = h && p == &h->own;
    const PyThreadState *ts = fibril__py_state_of(f);
    const void *lock = lock_of(f);
    const char *what = f->wait->called ? f->wait->called(f) : f->wait->name;
    uint64_t holder = lock ? taker_of(lock) : holder_of(f);
    return Py_BuildValue("(KkOOsdKKK)", (unsigned long long)f->id, ts ? ts->thread_id : 0ul,
                         spawned && h->name ? h->name : Py_None,
                         !spawned    ? Py_None
                         : h->daemon ? Py_True
                                     : Py_False,
                         lock ? "lock" : what, (double)(now_ns - f->since_ns) / 1e9,
                         (unsigned long long)holder, (unsigned long long)(uintptr_t)lock,
                         (unsigned long long)(p ? p->joins : 0));
}

/* ---- all of them ---- */

struct census {
    PyObject *list;
    int64_t now_ns;
    bool moves;  /* some fibril is ready, or will be when a time has come */
    bool failed; /* with an exception */
};

static void count_in(struct fibril *f, void *arg)
{
    struct census *c = arg;
    const struct pyfibril *p = fibril__py_of(f);
    if (f == fibril_current() || (p && p->tstate && p->tstate == fibril__py.keeper)) {
        return;
    }
    c->moves |= f->state == FIBRIL__READY || f->loop != fibril__py.loop ||
                (f->state == FIBRIL__PARKED && f->timer.index != FIBRIL__HEAP_OUT);
    if (c->moves || c->failed || f->state != FIBRIL__PARKED) {
        return;
    }
    PyObject *row = describe(f, c->now_ns);
    c->failed = !row || PyList_Append(c->list, row) < 0;
    Py_XDECREF(row);
}

PyDoc_STRVAR(waits_doc,
             "_waits()\n--\n\n"
             "Returns a list with a tuple for each fibril but the caller, all of which are "
             "parked:\nnumber, thread id, name or None, daemon or None, what it waits for, "
             "seconds, number of\nwho has it, address of the lock, number of the fibril that it "
             "joins. None if any can go on.");

static PyObject *py_waits(PyObject *module, PyObject *unused)
{
    struct census c = {.list = PyList_New(0), .now_ns = fibril_now()};
    if (!c.list || !fibril_current()) {
        return c.list;
    }
    fibril__each(count_in, &c);
    if (c.failed || c.moves) {
        Py_DECREF(c.list);
        return c.failed ? NULL : Py_NewRef(Py_None);
    }
    return c.list;
}

/* ---- looking ---- */

/* Zero if that is not known. */
static unsigned os_threads(void)
{
    struct stat task;
    return stat("/proc/self/task", &task) == 0 && task.st_nlink > 2 ? (unsigned)task.st_nlink - 2
                                                                    : 0;
}

static void call_look(void)
{
    PyObject *said = look_into ? PyObject_CallNoArgs(look_into) : NULL;
    if (!said && PyErr_Occurred()) {
        PyErr_WriteUnraisable(look_into);
    }
    if (said == Py_True) { /* once is enough */
        fibril_embed_on_standstill(NULL, 0);
    }
    Py_XDECREF(said);
}

static int look(void *arg)
{
    struct pyfibril self = {0};
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    (void)arg;
    if (fibril__py_begin(&self, frames, sizeof frames) == 0) {
        call_look();
        fibril__py_end(&self);
    }
    looking = false;
    return 0;
}

/* Between fibrils, without the GIL. Any other OS thread may be about to wake somebody: idle ones of
 * the pool go after a while, and then there is another look. */
static void on_still(struct fibril_loop *loop)
{
    const struct fibril_spawn_opts opts = {.name = "standstill", .daemon = true};
    (void)loop;
    if (looking || fibril__py.ending || os_threads() != 1u + fibril__py_ticks()) {
        return;
    }
    looking = fibril_spawn(look, NULL, &opts, NULL) == 0;
}

PyDoc_STRVAR(on_standstill_doc,
             "_on_standstill(function, seconds, /)\n--\n\n"
             "Has function() called when the loop has stood still for so long, until it returns "
             "True;\nNone ends it.");

static PyObject *py_on_standstill(PyObject *module, PyObject *args)
{
    PyObject *function;
    double seconds;
    if (!PyArg_ParseTuple(args, "Od:_on_standstill", &function, &seconds)) {
        return NULL;
    }
    if (!fibril__py.loop || fibril_current() != fibril__py.main) {
        return fibril__py_raise(-EPERM);
    }
    Py_XSETREF(look_into, function == Py_None ? NULL : Py_NewRef(function));
    fibril_embed_on_standstill(look_into ? on_still : NULL, (int64_t)(seconds * 1e9));
#if FIBRIL_PY_POSIX
    fibril__posix_notes_takers = look_into != NULL;
#endif
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_waits", py_waits, METH_NOARGS, waits_doc},
    {"_on_standstill", py_on_standstill, METH_VARARGS, on_standstill_doc},
    {NULL, NULL, 0, NULL}};

int fibril__py_standstill_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
