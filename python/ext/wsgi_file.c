/* SPDX-License-Identifier: MIT */
/*
 * wsgi.file_wrapper: a file as a body. If it is a regular file behind a descriptor, the kernel
 * sends it from where the file object stands; anything else is read piece by piece, as the
 * interface of iterators says.
 */
#include "wsgi.h"

#include <sys/stat.h>

enum { BLOCK = 65536 };

struct wrapper {
    PyObject ob_base;
    PyObject *file;
    PyObject *read; /* its method */
    Py_ssize_t block;
};

static PyTypeObject *wrapper_type;

static PyObject *wrapper_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"filelike", "blksize", NULL};
    PyObject *file;
    Py_ssize_t block = BLOCK;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:FileWrapper", names, &file, &block)) {
        return NULL;
    }
    if (block <= 0) {
        PyErr_SetString(PyExc_ValueError, "blksize must be positive");
        return NULL;
    }
    PyObject *read = PyObject_GetAttrString(file, "read");
    struct wrapper *self = read ? (struct wrapper *)type->tp_alloc(type, 0) : NULL;
    if (!self) {
        Py_XDECREF(read);
        return NULL;
    }
    self->file = Py_NewRef(file);
    self->read = read;
    self->block = block;
    return (PyObject *)self;
}

static int wrapper_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct wrapper *self = (struct wrapper *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->file);
    Py_VISIT(self->read);
    return 0;
}

static int wrapper_clear(PyObject *object)
{
    struct wrapper *self = (struct wrapper *)object;
    Py_CLEAR(self->file);
    Py_CLEAR(self->read);
    return 0;
}

static void wrapper_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    wrapper_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *wrapper_next(PyObject *object)
{
    struct wrapper *self = (struct wrapper *)object;
    PyObject *block = PyObject_CallFunction(self->read, "n", self->block);
    if (block && PyObject_Length(block) <= 0) {
        Py_CLEAR(block);
    }
    return block;
}

static PyObject *wrapper_close(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    PyObject *close = PyObject_GetAttrString(((struct wrapper *)object)->file, "close");
    if (!close) {
        PyErr_Clear(); /* what has no close() needs none */
        Py_RETURN_NONE;
    }
    PyObject *result = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    return result;
}

/* An integer that a method of the file returns; -1 without an exception where it has none to give.
 */
static long long ask(PyObject *file, const char *method)
{
    PyObject *result = PyObject_CallMethod(file, method, NULL);
    long long value = result ? PyLong_AsLongLong(result) : -1;
    Py_XDECREF(result);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return value;
}

int fibril__wsgi_file_range(PyObject *object, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_len)
{
    struct wrapper *self = (struct wrapper *)object;
    struct stat st;
    long long fd = ask(self->file, "fileno"), at = fd >= 0 ? ask(self->file, "tell") : -1;
    if (at < 0 || fstat((int)fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    *ret_fd = (int)fd;
    *ret_offset = (uint64_t)at;
    *ret_len = st.st_size > at ? (uint64_t)(st.st_size - at) : 0;
    return 1;
}

bool fibril__wsgi_is_file(PyObject *object)
{
    return Py_IS_TYPE(object, wrapper_type);
}

PyObject *fibril__wsgi_file_type(void)
{
    return (PyObject *)wrapper_type;
}

static PyMethodDef methods[] = {
    {"close", wrapper_close, METH_NOARGS, "close(): closes the file"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_new, wrapper_new},
    {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_traverse, wrapper_traverse},
    {Py_tp_clear, wrapper_clear},
    {Py_tp_methods, methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wrapper_next},
    {Py_tp_doc, "FileWrapper(filelike, blksize=65536): a file as the body of a response."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "fibril._fibril.FileWrapper",
    .basicsize = sizeof(struct wrapper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int fibril__wsgi_file_init(PyObject *module)
{
    wrapper_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return wrapper_type ? PyModule_AddType(module, wrapper_type) : -1;
}
