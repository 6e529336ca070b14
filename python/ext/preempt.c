/* SPDX-License-Identifier: MIT */
/*
 * Preemption, when asked for: an OS thread that wants the GIL for a moment when the loop has run
 * the same fibril for too long. The interpreter then gives the GIL up at its next check point, the
 * fibril parks until it has it back, and the others run. Public API only; the interpreter's own
 * switch interval comes on top of the given time.
 */
#include "fibril_py.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

static struct {
    pthread_t thread;
    bool running;
    atomic_bool stop;
    int64_t interval_ns;
} ticker;

static uint64_t switches(void)
{
    struct fibril_metrics m;
    return fibril_metrics(fibril__py.loop, &m) == 0 ? m.switches + m.polls : 0;
}

static void *tick(void *arg)
{
    (void)arg;
    PyGILState_STATE state;
    if (!fibril__py_come(&state)) {
        return NULL;
    }
    PyThreadState *ts = PyEval_SaveThread();
    fibril__py.ticker = ts;
    const struct timespec interval = {.tv_sec = ticker.interval_ns / 1000000000,
                                      .tv_nsec = ticker.interval_ns % 1000000000};
    uint64_t before = switches();
    while (!atomic_load(&ticker.stop)) {
        nanosleep(&interval, NULL);
        uint64_t now = switches();
        if (now == before && !atomic_load(&ticker.stop) && !fibril__py.ending) {
            PyEval_RestoreThread(ts);
            PyEval_SaveThread();
            now = switches();
        }
        before = now;
    }
    if (!fibril__py.ending) {
        PyEval_RestoreThread(ts);
        fibril__py.ticker = NULL;
        PyGILState_Release(state);
    }
    return NULL;
}

PyDoc_STRVAR(
    preempt_doc,
    "_preempt(milliseconds, /)\n--\n\n"
    "From now on, a fibril that computes longer than that lets the others run; 0 ends it.");

unsigned fibril__py_ticks(void)
{
    return ticker.running;
}

static int start_ticker(int64_t interval_ns)
{
    sigset_t all, before;
    sigfillset(&all);
    ticker.interval_ns = interval_ns;
    atomic_store(&ticker.stop, false);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&ticker.thread, NULL, tick, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    ticker.running = rc == 0;
    return rc;
}

static void stop_ticker(void)
{
    atomic_store(&ticker.stop, true);
    PyThreadState *ts = PyEval_SaveThread();
    pthread_join(ticker.thread, NULL);
    PyEval_RestoreThread(ts);
    ticker.running = false;
}

static PyObject *py_preempt(PyObject *module, PyObject *milliseconds)
{
    double ms = PyFloat_AsDouble(milliseconds);
    if (ms == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(ms >= 0 && ms <= 60000)) {
        PyErr_SetString(PyExc_ValueError, "preempt_ms is between 0 and 60000");
        return NULL;
    }
    if (ticker.running) {
        stop_ticker();
    }
    if (ms > 0 && start_ticker((int64_t)(ms * 1e6)) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "the system gives no more threads");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_preempt", py_preempt, METH_O, preempt_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_preempt_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
