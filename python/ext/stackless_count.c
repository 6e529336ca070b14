/* SPDX-License-Identifier: MIT */
/*
 * Counting the interpreter's instructions for run(timeout). What tells of each, in every thread,
 * and lets whoever is told switch tasklets, is tracing: the trace function up to 3.11, from 3.12 on
 * sys.monitoring, which leaves sys.settrace to others. Either makes the interpreter several times
 * slower meanwhile.
 *
 * sys.monitoring changes the code that runs now, and other code when it is next entered. Suspended
 * tasklets are in the middle of theirs; so their code is asked for local events and at once for
 * none again, by which it learns of the global ones.
 *
 * Rejected: line events alone (a loop of one instruction makes none); pending calls (3.11 runs up
 * to 32 of them at a check point, only in the main thread, and none while one is suspended); and
 * the processor's clock (the same program would be interrupted elsewhere each time).
 */
#include "stackless_core.h"

#include <frameobject.h>

static inline bool counts(const struct world *w)
{
    return w && w->interval > 0;
}

#if PY_VERSION_HEX < 0x030c0000

/* Each frame says by itself whether its instructions are told. */
static int tell_instructions(PyFrameObject *frame)
{
    return PyObject_SetAttrString((PyObject *)frame, "f_trace_opcodes", Py_True);
}

static int trace(PyObject *self, PyFrameObject *frame, int what, PyObject *arg)
{
    (void)self;
    (void)arg;
    if (what == PyTrace_CALL || what == PyTrace_LINE) {
        return tell_instructions(frame);
    }
    struct world *w = what == PyTrace_OPCODE ? fibril__slp_world_of(PyThreadState_Get()) : NULL;
    return counts(w) ? fibril__slp_tick(w) : 0;
}

static const char settling[] = "class settled(BaseException): pass\n"
                               "def settle(): pass\n";

/* An exception from outside that a thread was to get, and that ended before, leaves the interpreter
 * told for ever that there is one; and 3.11 then never gets past the first instruction of a traced
 * function. It forgets when one arrives: so one does, at the call of a function. */
static int settle(const PyThreadState *ts)
{
    static PyObject *names;
    if (!names) {
        names = PyDict_New();
        PyObject *done = names ? PyRun_String(settling, Py_file_input, names, names) : NULL;
        if (!done) {
            Py_CLEAR(names);
            return -1;
        }
        Py_DECREF(done);
    }
    PyObject *kind = PyDict_GetItemString(names, "settled");
    PyThreadState_SetAsyncExc(ts->thread_id, kind);
    PyObject *result = PyObject_CallNoArgs(PyDict_GetItemString(names, "settle"));
    if (!result && PyErr_ExceptionMatches(kind)) {
        PyErr_Clear();
        return 0;
    }
    PyThreadState_SetAsyncExc(ts->thread_id, NULL); /* something else came first */
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int fibril__slp_count_on(struct world *w)
{
    if (!fibril__pystate_async_pending(w->ts) && settle(w->ts) < 0) {
        return -1;
    }
    PyEval_SetTrace(trace, NULL);
    return 0;
}

void fibril__slp_count_off(struct world *w)
{
    (void)w;
    PyEval_SetTrace(NULL, NULL);
}

#else

enum { TOOLS = 6 };

static unsigned users; /* worlds that count */
static int tool;
static long instruction; /* the event's bit */
static PyObject *monitoring;

static PyObject *told(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module, (void)args, (void)n;
    struct world *w = fibril__slp_world_of(PyThreadState_Get());
    if (counts(w) && fibril__slp_tick(w) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef told_def = {"told", (PyCFunction)(void (*)(void))told, METH_FASTCALL,
                               "An instruction is about to be carried out."};

/* 0, or -1 with an exception. */
static int done(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static int find_instruction(void)
{
    PyObject *events = PyObject_GetAttrString(monitoring, "events");
    PyObject *bit = events ? PyObject_GetAttrString(events, "INSTRUCTION") : NULL;
    instruction = bit ? PyLong_AsLong(bit) : -1;
    Py_XDECREF(bit);
    Py_XDECREF(events);
    return instruction > 0 ? 0 : -1;
}

/* Takes the last tool that nobody uses: the first ones have names. */
static int take_tool(void)
{
    for (tool = TOOLS - 1; tool >= 0; tool--) {
        if (done(PyObject_CallMethod(monitoring, "use_tool_id", "is", tool, "stackless")) == 0) {
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
            return -1;
        }
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_RuntimeError, "run(timeout): all tools of sys.monitoring are in use");
    return -1;
}

static int set_events(long events)
{
    return done(PyObject_CallMethod(monitoring, "set_events", "il", tool, events));
}

static int start(void)
{
    monitoring = monitoring ? monitoring : Py_XNewRef(PySys_GetObject("monitoring"));
    if (!monitoring || find_instruction() < 0 || take_tool() < 0) {
        return -1;
    }
    PyObject *fn = PyCFunction_New(&told_def, NULL);
    int rc = fn ? done(PyObject_CallMethod(monitoring, "register_callback", "ilO", tool,
                                           instruction, fn))
                : -1;
    Py_XDECREF(fn);
    rc = rc == 0 ? set_events(instruction) : rc;
    if (rc < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        done(PyObject_CallMethod(monitoring, "free_tool_id", "i", tool));
        PyErr_Restore(type, value, traceback);
    }
    return rc;
}

static int touch(PyObject *code, void *unused)
{
    (void)unused;
    int rc =
        done(PyObject_CallMethod(monitoring, "set_local_events", "iOl", tool, code, instruction));
    return rc < 0 ? rc
                  : done(PyObject_CallMethod(monitoring, "set_local_events", "iOi", tool, code, 0));
}

static int touch_suspended(const struct world *w)
{
    int rc = 0;
    for (struct tasklet *t = w->live; t && rc == 0; t = t->next_live) {
        if (t->begun && w->turn != t) {
            rc = fibril__pyslice_codes(&t->slice, fibril__slp_at, t, touch, NULL);
        }
    }
    return rc;
}

int fibril__slp_count_on(struct world *w)
{
    if (users == 0 && start() < 0) {
        return -1;
    }
    users++;
    if (touch_suspended(w) == 0) {
        return 0;
    }
    fibril__slp_count_off(w);
    return -1;
}

/* What fails here leaves a slower interpreter behind. */
void fibril__slp_count_off(struct world *w)
{
    (void)w;
    if (--users > 0) {
        return;
    }
    int rc = set_events(0);
    for (const struct world *each = fibril__slp_worlds(); each && rc == 0;
         each = each->next_world) {
        rc = touch_suspended(each);
    }
    if (rc < 0 || done(PyObject_CallMethod(monitoring, "free_tool_id", "i", tool)) < 0) {
        PyErr_WriteUnraisable(monitoring);
    }
}

#endif
