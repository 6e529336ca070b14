/* SPDX-License-Identifier: MIT */
/*
 * The body: what the application returned, block by block.
 *
 *     list, tuple     all blocks are there: sent when the interpreter lock is given up for good
 *     FileWrapper     the kernel sends the file
 *     any other       each block is with the kernel before the next one is asked for
 *
 * Blocks for HEAD, 204 and 304 are counted and not sent; iterators are not drained for them. What
 * exceeds the announced length is cut off and said so in the log.
 */
#include "wsgi.h"

#include <errno.h>

/* ---- blocks ---------------------------------------------------------------------------------- */

static int check_block(struct fibril__wsgi_request *r, PyObject *block)
{
    if (!PyBytes_Check(block)) {
        PyErr_Format(PyExc_TypeError, "a block of the body must be bytes, not %.100s",
                     Py_TYPE(block)->tp_name);
        return -1;
    }
    if (!r->started) {
        PyErr_SetString(PyExc_RuntimeError, "start_response was not called before the first block");
        return -1;
    }
    return 0;
}

/* How much of a block still belongs to the response. Needs no interpreter lock. */
static size_t take(struct fibril__wsgi_request *r, size_t len)
{
    uint64_t room = r->has_announced ? r->announced - r->written : UINT64_MAX;
    if (len > room) {
        r->cut = true;
        len = (size_t)room;
    }
    r->written += len;
    return len;
}

static int raise_gone(struct fibril__wsgi_request *r, int rc)
{
    if (!r->error) {
        r->error = rc;
    }
    errno = -rc;
    PyErr_SetFromErrno(PyExc_OSError); /* -EPIPE: BrokenPipeError */
    return -1;
}

int fibril__wsgi_block(struct fibril__wsgi_request *r, PyObject *block)
{
    if (check_block(r, block) < 0) {
        return -1;
    }
    size_t len = take(r, (size_t)PyBytes_GET_SIZE(block));
    if (len == 0) {
        return 0; /* an empty block does not send the head yet */
    }
    const char *data = PyBytes_AS_STRING(block);
    if (fibril_current() != r->py.fibril) {
        PyErr_SetString(PyExc_RuntimeError, "write() was called on a thread not the request's own");
        return -1;
    }
    r->committed = true;
    Py_INCREF(block);
    fibril__py_leave(&r->py);
    int rc = fibril_http_write(r->http, data, len);
    rc = rc < 0 ? rc : fibril_http_flush(r->http);
    fibril__py_enter(&r->py);
    Py_DECREF(block);
    return rc < 0 ? raise_gone(r, rc) : 0;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static int keep_tail(struct fibril__wsgi_request *r, PyObject *tail, uint64_t len)
{
    bool known = r->has_announced || (r->is_head && len == 0);
    if (!known) {
        fibril_http_content_length(r->http, len);
        r->announced = len;
        r->has_announced = true;
    }
    r->tail = tail;
    return 0;
}

/* Takes over the reference. */
static int tail_of_one(struct fibril__wsgi_request *r, PyObject *block)
{
    if (check_block(r, block) < 0) {
        Py_DECREF(block);
        return -1;
    }
    return keep_tail(r, block, (uint64_t)PyBytes_GET_SIZE(block));
}

static int tail_of_many(struct fibril__wsgi_request *r, PyObject *sequence)
{
    PyObject *blocks = PySequence_Tuple(sequence);
    uint64_t len = 0;
    for (Py_ssize_t i = 0; blocks && i < PyTuple_GET_SIZE(blocks); i++) {
        PyObject *block = PyTuple_GET_ITEM(blocks, i);
        if (check_block(r, block) < 0) {
            Py_CLEAR(blocks);
        } else {
            len += (uint64_t)PyBytes_GET_SIZE(block);
        }
    }
    return blocks ? keep_tail(r, blocks, len) : -1;
}

static int send_sequence(struct fibril__wsgi_request *r, PyObject *sequence)
{
    bool list = PyList_CheckExact(sequence);
    Py_ssize_t n = Py_SIZE(sequence);
    if (!r->started) {
        PyErr_SetString(PyExc_RuntimeError, "the application did not call start_response");
        return -1;
    }
    if (r->committed) { /* by write(): what follows has no length any more */
        int rc = 0;
        for (Py_ssize_t i = 0; rc == 0 && i < Py_SIZE(sequence); i++) {
            PyObject *block =
                Py_NewRef(list ? PyList_GET_ITEM(sequence, i) : PyTuple_GET_ITEM(sequence, i));
            rc = fibril__wsgi_block(r, block);
            Py_DECREF(block);
        }
        return rc;
    }
    if (n == 1) {
        PyObject *block = list ? PyList_GET_ITEM(sequence, 0) : PyTuple_GET_ITEM(sequence, 0);
        return tail_of_one(r, Py_NewRef(block));
    }
    return tail_of_many(r, sequence);
}

static int tail_write(struct fibril__wsgi_request *r, PyObject *block)
{
    size_t len = take(r, (size_t)PyBytes_GET_SIZE(block));
    r->committed |= len > 0;
    return len ? fibril_http_write(r->http, PyBytes_AS_STRING(block), len) : 0;
}

int fibril__wsgi_tail_send(struct fibril__wsgi_request *r)
{
    int rc = 0;
    if (PyBytes_Check(r->tail)) {
        return tail_write(r, r->tail);
    }
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(r->tail); i++) {
        rc = tail_write(r, PyTuple_GET_ITEM(r->tail, i));
    }
    return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* 1 when the kernel has sent it, 0 when it has to be read, -1 with an exception. */
static int send_file(struct fibril__wsgi_request *r, PyObject *file)
{
    int fd, rc;
    uint64_t offset, len;
    if (!r->started || r->written > 0 ||
        (rc = fibril__wsgi_file_range(file, &fd, &offset, &len)) == 0) {
        return 0;
    }
    if (rc > 0 && !r->has_announced) {
        fibril_http_content_length(r->http, len);
        r->announced = len;
        r->has_announced = true;
    }
    len = len < r->announced ? len : r->announced;
    r->committed = true;
    fibril__py_leave(&r->py);
    rc = fibril_http_write_file(r->http, fd, offset, len);
    fibril__py_enter(&r->py);
    r->written += len;
    return rc < 0 ? raise_gone(r, rc) : 1;
}

/* ---- iterators ------------------------------------------------------------------------------- */

/* A response without a body needs no more of its iterator once it has begun. */
static bool enough(const struct fibril__wsgi_request *r)
{
    return r->bodiless && r->started && r->written > 0;
}

static int send_iterator(struct fibril__wsgi_request *r, PyObject *iterable)
{
    PyObject *iterator = PyObject_GetIter(iterable), *block;
    if (!iterator) {
        return -1;
    }
    int rc = 0;
    while (rc == 0 && !enough(r) && (block = PyIter_Next(iterator)) != NULL) {
        rc = fibril__wsgi_block(r, block);
        Py_DECREF(block);
    }
    Py_DECREF(iterator);
    if (rc < 0 || PyErr_Occurred()) {
        return -1;
    }
    if (!r->started) {
        PyErr_SetString(PyExc_RuntimeError, "the application did not call start_response");
        return -1;
    }
    return 0;
}

int fibril__wsgi_body(struct fibril__wsgi_request *r, PyObject *result)
{
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        return send_sequence(r, result);
    }
    int rc = fibril__wsgi_is_file(result) ? send_file(r, result) : 0;
    return rc == 0 ? send_iterator(r, result) : rc < 0 ? -1 : 0;
}
