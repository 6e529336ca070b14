/* SPDX-License-Identifier: MIT */
/*
 * The one way in which Python code waits for something of fibril's, and the plain waits: sleep and
 * yield. An OS thread without a loop has the waiting done by a fibril of the main thread's loop, so
 * every object of this package works across OS threads and yet needs no lock.
 */
#include "fibril_py.h"

#include <semaphore.h>

/* ---- for OS threads without a loop ---- */

struct errand {
    fibril__py_op *op;
    void *arg;
    int64_t deadline_ns;
    int rc;
    sem_t done;
};

static int run_errand(void *arg)
{
    struct errand *e = arg;
    e->rc = e->op(e->arg, e->deadline_ns);
    sem_post(&e->done);
    return 0;
}

static int send_errand(fibril__py_op *op, void *arg, int64_t deadline_ns)
{
    struct errand e = {.op = op, .arg = arg, .deadline_ns = deadline_ns};
    const struct fibril_spawn_opts opts = {
        .loop = fibril__py.loop, .name = "for an OS thread", .daemon = true};
    sem_init(&e.done, 0, 0);
    PyThreadState *ts = PyEval_SaveThread();
    int rc = fibril_spawn(run_errand, &e, &opts, NULL);
    while (rc == 0 && sem_wait(&e.done) < 0) {}
    PyEval_RestoreThread(ts);
    sem_destroy(&e.done);
    return rc < 0 ? rc : e.rc;
}

/* ---- for everybody ---- */

int fibril__py_wait(fibril__py_op *op, void *arg, int64_t deadline_ns)
{
    struct pyfibril *p = fibril__py_self();
    if (!p) {
        if (PyErr_Occurred()) {
            return 1;
        }
        return fibril__py.loop ? send_errand(op, arg, deadline_ns) : -EPERM;
    }
    for (;;) {
        fibril__py_leave(p);
        int rc = op(arg, deadline_ns);
        fibril__py_enter(p);
        if (rc != -EINTR) {
            return rc;
        }
        if (!fibril__py_interrupted()) {
            return 1;
        }
    }
}

static int run_once(void *arg)
{
    struct errand *e = arg;
    e->rc = e->op(e->arg, e->deadline_ns);
    return 0;
}

static int join_op(void *arg, int64_t deadline_ns)
{
    return fibril_join(arg, deadline_ns, NULL);
}

/* The errand must not outlive what it uses. */
static void abort_errand(struct pyfibril *p, struct fibril *f)
{
    fibril__py_leave(p);
    fibril_cancel(f);
    fibril_shield_begin();
    while (fibril_join(f, FIBRIL_FOREVER, NULL) == -EINTR) {}
    fibril_shield_end();
    fibril__py_enter(p);
}

int fibril__py_wait_once(fibril__py_op *op, void *arg, int64_t deadline_ns)
{
    static const struct fibril_spawn_opts opts = {.name = "for the main thread", .daemon = true};
    struct pyfibril *p = fibril__py_self();
    struct errand e = {.op = op, .arg = arg, .deadline_ns = deadline_ns};
    struct fibril *f;
    if (!p || fibril_current() != fibril__py.main) {
        return fibril__py_wait(op, arg, deadline_ns);
    }
    int rc = fibril_spawn(run_once, &e, &opts, &f);
    if (rc < 0) {
        return rc;
    }
    rc = fibril__py_wait(join_op, f, FIBRIL_FOREVER);
    if (rc != 0) {
        abort_errand(p, f);
        return rc;
    }
    return e.rc;
}

/* ---- sleep and yield ---- */

static int sleep_op(void *arg, int64_t deadline_ns)
{
    (void)arg;
    return fibril_sleep_until(deadline_ns);
}

PyDoc_STRVAR(sleep_doc,
             "sleep(seconds, /)\n--\n\n"
             "Parks the calling fibril for a number of seconds (int or float; 0 yields once).\n\n"
             "Raises Cancelled when the fibril is cancelled, ValueError for NaN.");

static PyObject *py_sleep(PyObject *module, PyObject *seconds)
{
    int64_t deadline_ns;
    if (!fibril__py_deadline(seconds, &deadline_ns)) {
        return NULL;
    }
    int rc = fibril__py_wait(sleep_op, NULL, deadline_ns);
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(yield_doc, "yield_()\n--\n\n"
                        "Lets every fibril that is ready now run once. Raises nothing; on a real\n"
                        "OS thread it does nothing.");

static PyObject *py_yield(PyObject *module, PyObject *unused)
{
    struct pyfibril *p = fibril__py_self();
    if (p) {
        fibril__py_leave(p);
        fibril_yield();
        fibril__py_enter(p);
    } else if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"sleep", py_sleep, METH_O, sleep_doc},
                                  {"yield_", py_yield, METH_NOARGS, yield_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_wait_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
