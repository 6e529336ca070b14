/* SPDX-License-Identifier: MIT */
/*
 * The observer of the program: fibril/observe.h, from Python.
 */
#include "fibril_py.h"

#include "observe/observe.h"

/* Has FIBRIL_OBSERVE heeded. */
__attribute__((used)) static void (*const heeds)(struct fibril_loop *) =
    fibril__observe_loop_started;

struct serving {
    const char *wanted;
    char address[128];
};

static int serve_op(void *arg, int64_t deadline_ns)
{
    struct serving *s = arg;
    (void)deadline_ns;
    return fibril_observe_serve(s->wanted, s->address, sizeof s->address);
}

PyDoc_STRVAR(observe_doc, "_observe(address)\n--\n\nSee fibril.observe.");

static PyObject *py_observe(PyObject *module, PyObject *args)
{
    struct serving s = {0};
    if (!PyArg_ParseTuple(args, "s:_observe", &s.wanted)) {
        return NULL;
    }
    int rc = fibril__py_wait_once(serve_op, &s, FIBRIL_FOREVER);
    switch (-rc) {
    case 0: return PyUnicode_FromString(s.address);
    case EBUSY: PyErr_SetString(PyExc_RuntimeError, "the program is observed already"); return NULL;
    case EINVAL: return PyErr_Format(PyExc_ValueError, "not an address: '%s'", s.wanted);
    default: return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
}

static int stop_op(void *unused, int64_t deadline_ns)
{
    (void)unused;
    (void)deadline_ns;
    return fibril_observe_stop();
}

PyDoc_STRVAR(stop_doc, "_observe_stop()\n--\n\nSee fibril.observe.");

static PyObject *py_stop(PyObject *module, PyObject *unused)
{
    int rc = fibril__py_wait_once(stop_op, NULL, FIBRIL_FOREVER);
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"_observe", py_observe, METH_VARARGS, observe_doc},
                                  {"_observe_stop", py_stop, METH_NOARGS, stop_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_observe_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
