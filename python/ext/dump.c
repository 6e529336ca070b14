/* SPDX-License-Identifier: MIT */
/*
 * Seeing inside: dump, metrics, the report of the layer. The core writes a record and the C stack
 * of each fibril and calls back here for its Python stack, also from a signal handler: so nothing
 * in that path allocates or takes a lock.
 */
#include "fibril_py.h"

#include <fibril/posix.h>

#include <string.h>
#include <unistd.h>

/* ---- Python stacks ---- */

static bool with_gil; /* dump was called by Python: frames may become objects */

/* A thread that CPython made and that has not called us: CPython knows it by its identity, which
 * is what the layer tells it. */
static PyThreadState *find_thread(const struct fibril *f)
{
    unsigned long identity = fibril_posix_thread_id(f);
    PyThreadState *ts = identity ? PyInterpreterState_ThreadHead(fibril__py.interp) : NULL;
    while (ts && ts->thread_id != identity) {
        ts = PyThreadState_Next(ts);
    }
    return ts;
}

PyThreadState *fibril__py_state_of(const struct fibril *f)
{
    const struct pyfibril *p = fibril__py_of(f);
    if (p || !fibril__py.interp) {
        return p ? p->tstate : NULL;
    }
    return f == fibril__py.main ? fibril__py.main_state : find_thread(f);
}

static void put(int fd, const char *text)
{
    (void)!write(fd, text, strlen(text));
}

static void write_line(int fd, PyFrameObject *frame)
{
    char line[400];
    PyCodeObject *code = PyFrame_GetCode(frame);
    const char *file = PyUnicode_AsUTF8(code->co_filename), *name = PyUnicode_AsUTF8(code->co_name);
    PyOS_snprintf(line, sizeof line, "  File \"%.250s\", line %d in %.100s\n", file ? file : "?",
                  PyFrame_GetLineNumber(frame), name ? name : "?");
    PyErr_Clear();
    Py_DECREF(code);
    put(fd, line);
}

/* The same by public API, under the GIL. */
static void write_objects(PyThreadState *ts, int fd)
{
    enum { MOST = 100 };
    PyFrameObject *frame = PyThreadState_GetFrame(ts);
    put(fd, frame ? "Stack (most recent call first):\n" : "");
    for (int i = 0; frame && i < MOST; i++) {
        write_line(fd, frame);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
}

void fibril__py_write_frames(const struct fibril *f, int fd)
{
    PyThreadState *ts = fibril__py_state_of(f);
    if (!ts) {
        return;
    }
    if (!fibril__pystate_write_frames(ts, fd) && with_gil) {
        write_objects(ts, fd);
    }
}

/* ---- dump ---- */

PyDoc_STRVAR(dump_doc,
             "_dump(fd, /)\n--\n\n"
             "Writes a record of every fibril to descriptor fd, with its Python and C stack.");

static PyObject *py_dump(PyObject *module, PyObject *number)
{
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!fibril__py.loop) {
        return fibril__py_raise(-EPERM);
    }
    with_gil = true;
    int rc = fibril_dump((int)fd);
    with_gil = false;
    if (rc < 0) {
        return fibril__py_raise(rc);
    }
    Py_RETURN_NONE;
}

/* ---- metrics ---- */

static int put_number(PyObject *dict, const char *name, uint64_t value)
{
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int rc = number ? PyDict_SetItemString(dict, name, number) : -1;
    Py_XDECREF(number);
    return rc;
}

static int put_numbers(PyObject *dict, const struct fibril_metrics *m)
{
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"switches", m->switches},
               {"gil_handed_over", fibril__py.handed},
               {"spawned", m->spawned},
               {"ended", m->ended},
               {"fibrils", m->fibrils},
               {"parks", m->parks},
               {"parks_sleep", m->parks_sleep},
               {"parks_io", m->parks_io},
               {"parks_lock", m->parks_lock},
               {"parks_chan", m->parks_chan},
               {"parks_join", m->parks_join},
               {"parks_offload", m->parks_offload},
               {"parks_other", m->parks_other},
               {"yields", m->yields},
               {"budget_yields", m->budget_yields},
               {"timeouts", m->timeouts},
               {"cancels", m->cancels},
               {"remote_wakes", m->remote_wakes},
               {"polls", m->polls},
               {"poll_events", m->poll_events},
               {"timers", m->timers},
               {"stacks_mapped", m->stacks_mapped},
               {"stacks_cached", m->stacks_cached},
               {"stacks_unguarded", m->stacks_unguarded},
               {"stalls", m->stalls}};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof all / sizeof *all; i++) {
        rc = put_number(dict, all[i].name, all[i].value);
    }
    return rc;
}

PyDoc_STRVAR(
    metrics_doc,
    "metrics()\n--\n\n"
    "Returns a dict of counters since enable() (int): switches, gil_handed_over, spawned,\n"
    "parks and their reasons, ...; gauges: fibrils, timers, stacks_mapped; and poller\n"
    "(str). Raises RuntimeError before fibril.enable().");

static PyObject *py_metrics(PyObject *module, PyObject *unused)
{
    struct fibril_metrics m;
    int rc = fibril__py.loop ? fibril_metrics(fibril__py.loop, &m) : -EPERM;
    if (rc < 0) {
        return fibril__py_raise(rc);
    }
    PyObject *dict = Py_BuildValue("{ss}", "poller", m.poller);
    if (dict && put_numbers(dict, &m) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* ---- doctor ---- */

PyDoc_STRVAR(report_doc, "_report(fd, /)\n--\n\n"
                         "Writes what the POSIX layer covers in this process to descriptor fd; "
                         "returns how many\nobjects may block the process, -1 without the layer.");

static PyObject *py_report(PyObject *module, PyObject *number)
{
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int rc = -1;
#if FIBRIL_PY_POSIX
    rc = fibril__py.layer ? fibril_posix_report((int)fd) : -1;
#endif
    return PyLong_FromLong(rc);
}

static PyObject *py_paths(PyObject *module, PyObject *unused)
{
    return PyUnicode_FromString(fibril__pystate_describe());
}

static PyMethodDef functions[] = {
    {"_dump", py_dump, METH_O, dump_doc},
    {"metrics", py_metrics, METH_NOARGS, metrics_doc},
    {"_report", py_report, METH_O, report_doc},
    {"_paths", py_paths, METH_NOARGS, "_paths()\n--\n\nSays how thread states are handled."},
    {NULL, NULL, 0, NULL}};

int fibril__py_dump_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
