/* SPDX-License-Identifier: MIT */
/*
 * Real OS threads on request: offload runs a call on one of the pool's while the caller is parked,
 * start_os_thread makes one. The layer never touches this object's own imports, so pthread_create
 * in here is libc's.
 */
#include "fibril_py.h"

#include <pthread.h>
#include <signal.h>

struct job {
    PyObject *fn, *args, *kwargs;
    PyObject *result, *exception; /* out: one of them */
};

static void carry_out(struct job *job)
{
    PyGILState_STATE state;
    if (!fibril__py_come(&state)) {
        return; /* without result or exception */
    }
    job->result = PyObject_Call(job->fn, job->args, job->kwargs);
    if (!job->result) {
        job->exception = fibril__py_take_exception();
    }
    PyGILState_Release(state);
}

static int run_job(void *arg)
{
    carry_out(arg);
    return 0;
}

static int offload_op(void *arg, int64_t deadline_ns)
{
    return fibril_offload(run_job, arg, deadline_ns);
}

/* What the pool's thread was not let in for, the caller does. */
static PyObject *finish(struct job *job, int rc)
{
    if (rc == 0 && !job->result && !job->exception) {
        job->result = PyObject_Call(job->fn, job->args, job->kwargs);
    }
    Py_DECREF(job->args);
    if (rc != 0) {
        /* Interrupted after it ran: what it said is lost to the exception that is set. */
        Py_XDECREF(job->result);
        Py_XDECREF(job->exception);
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    if (job->exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(job->exception), job->exception);
        Py_DECREF(job->exception);
    }
    return job->result;
}

PyDoc_STRVAR(offload_doc,
             "offload(function, /, *args, **kwargs)\n--\n\n"
             "Calls function(*args, **kwargs) on a real OS thread of a pool while the calling "
             "fibril is\nparked; returns what it returns, raises what it raises. For calls that "
             "compute without\nthe GIL or block where fibril cannot see it. Raises Cancelled only "
             "before it has begun.");

static PyObject *py_offload(PyObject *module, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) < 1 || !PyCallable_Check(PyTuple_GET_ITEM(args, 0))) {
        PyErr_SetString(PyExc_TypeError, "offload needs something to call");
        return NULL;
    }
    struct job job = {.fn = PyTuple_GET_ITEM(args, 0), .kwargs = kwargs};
    job.args = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    if (!job.args) {
        return NULL;
    }
    if (!fibril_current() || fibril__py_is_shut()) {
        PyObject *result = PyObject_Call(job.fn, job.args, kwargs);
        Py_DECREF(job.args);
        return result;
    }
    return finish(&job, fibril__py_wait(offload_op, &job, FIBRIL_FOREVER));
}

/* ---- threads ---- */

static void call_thread(PyObject *fn)
{
    PyObject *result = PyObject_CallNoArgs(fn);
    if (!result) {
        PyErr_WriteUnraisable(fn);
    }
    Py_XDECREF(result);
    Py_DECREF(fn);
}

/* Of what it has to call, nothing is freed where it is not let in. */
static void *daemon_main(void *arg)
{
    PyGILState_STATE state;
    if (fibril__py_come(&state)) {
        call_thread(arg);
        PyGILState_Release(state);
    }
    return NULL;
}

static void *thread_main(void *arg)
{
    PyGILState_STATE state;
    if (fibril__py_come(&state)) {
        call_thread(arg);
        fibril__py_awaited_ends();
        PyGILState_Release(state);
    }
    return NULL;
}

/* Signals stay with the threads that have them. */
static int start_thread(void *(*run)(void *), PyObject *fn)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&thread, NULL, run, fn);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) {
        pthread_detach(thread);
    }
    return rc;
}

PyDoc_STRVAR(thread_doc, "_start_os_thread(function, daemon, /)\n--\n\n"
                         "Calls function() on a new OS thread. Raises RuntimeError if there can be "
                         "none.");

static PyObject *py_start_os_thread(PyObject *module, PyObject *args)
{
    PyObject *fn;
    int daemon;
    if (!PyArg_ParseTuple(args, "Op:_start_os_thread", &fn, &daemon)) {
        return NULL;
    }
    if (fibril__py_is_shut()) {
        PyErr_SetString(PyExc_RuntimeError, "no new threads when the interpreter ends");
        return NULL;
    }
    if (start_thread(daemon ? daemon_main : thread_main, Py_NewRef(fn)) != 0) {
        Py_DECREF(fn);
        PyErr_SetString(PyExc_RuntimeError, "the system gives no more threads");
        return NULL;
    }
    if (!daemon) { /* it may have begun, but waits for the GIL */
        fibril__py_awaited_begins();
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"offload", (PyCFunction)(void (*)(void))py_offload, METH_VARARGS | METH_KEYWORDS, offload_doc},
    {"_start_os_thread", py_start_os_thread, METH_VARARGS, thread_doc},
    {NULL, NULL, 0, NULL}};

int fibril__py_offload_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
