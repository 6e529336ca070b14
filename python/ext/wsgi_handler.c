/* SPDX-License-Identifier: MIT */
/*
 * One request: environ, application, body, close. The fibril comes here with the head parsed and
 * without the interpreter lock; see wsgi.h for when it holds it.
 *
 * An error of the application before its first byte is a 500; after it the connection is broken
 * off, so that the peer can tell. An error of the peer (gone, too slow, too much body) is answered
 * as the server answers it for handlers in C, whatever the application made of it.
 */
#include "wsgi.h"

#include <errno.h>
#include <string.h>

/* ---- references dropped later ---------------------------------------------------------------- */

enum { LATER_MAX = 16384 }; /* bytes: more memory is not kept until the next request */

static void empty_trash(struct fibril__wsgi_server *server)
{
    while (server->trash_count > 0) {
        Py_DECREF(server->trash[--server->trash_count]);
    }
}

/* Whether the tail can be sent with the thread state given back, and dropped by another request. */
static bool goes_later(const struct fibril__wsgi_request *r)
{
    return PyBytes_Check(r->tail) && PyBytes_GET_SIZE(r->tail) <= LATER_MAX &&
           (uint64_t)PyBytes_GET_SIZE(r->tail) <= r->announced;
}

/* Without the interpreter lock, nor a thread state. Not inlined: its frames would double the stack
 * of every request that sleeps, beyond one page. */
static __attribute__((noinline)) void drop_later(struct fibril__wsgi_request *r)
{
    struct fibril__wsgi_server *server = r->server;
    char frames[FIBRIL__PY_FRAMES];
    if (server->trash_count < FIBRIL__WSGI_TRASH) {
        server->trash[server->trash_count++] = r->tail;
    } else if (fibril__py_begin(&r->py, frames, sizeof(frames)) == 0) {
        Py_DECREF(r->tail);
        empty_trash(server);
        fibril__py_end(&r->py);
    } /* else there is no memory for a thread state: these bytes stay */
    r->tail = NULL;
}

/* ---- the application ------------------------------------------------------------------------- */

static int close_result(PyObject *result)
{
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        return 0;
    }
    PyObject *close = PyObject_GetAttrString(result, "close");
    if (!close) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    PyObject *done = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* close() is called whatever happened before, and its own error does not hide that. */
static int call_close(struct fibril__wsgi_request *r, PyObject *result, int rc)
{
    PyObject *before = rc < 0 ? fibril__py_take_exception() : NULL;
    if (close_result(result) < 0) {
        fibril__wsgi_log_exception(r);
        if (rc == 0 && !r->committed && !r->tail) {
            PyErr_SetString(PyExc_RuntimeError, "close() of the response failed");
            rc = -1;
        }
    }
    if (before) {
        PyErr_SetObject((PyObject *)Py_TYPE(before), before);
        Py_DECREF(before);
    }
    return rc;
}

static int call_application(struct fibril__wsgi_request *r)
{
    PyObject *args[] = {r->environ, r->responder};
    PyObject *result = PyObject_Vectorcall(r->server->app, args, 2, NULL);
    if (!result) {
        return -1;
    }
    int rc = call_close(r, result, fibril__wsgi_body(r, result));
    Py_DECREF(result);
    return rc;
}

static int begin(struct fibril__wsgi_request *r)
{
    r->input = fibril__wsgi_input_new(r);
    r->responder = r->input ? fibril__wsgi_responder_new(r) : NULL;
    r->environ = r->responder ? fibril__wsgi_environ_new(r) : NULL;
    return r->environ ? 0 : -1;
}

static void end(struct fibril__wsgi_request *r)
{
    if (r->input) {
        fibril__wsgi_input_end(r);
    }
    Py_CLEAR(r->environ);
    Py_CLEAR(r->input);
    if (r->responder) {
        fibril__wsgi_responder_end(r->responder);
        r->responder = NULL;
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

/* Says what happened. Returns what the handler is to return, or 1 for a 500. */
static int judge_failure(struct fibril__wsgi_request *r)
{
    bool of_peer = r->error && PyErr_ExceptionMatches(PyExc_OSError);
    bool cut_off = fibril_cancelled() || PyErr_ExceptionMatches(fibril__py.cancelled);
    Py_CLEAR(r->tail);
    if (of_peer || cut_off) {
        PyErr_Clear();
        if (cut_off) {
            fibril__wsgi_log_line(r, "time is up");
        }
        return cut_off ? -ECANCELED : r->error;
    }
    fibril__wsgi_log_exception(r);
    return r->committed ? -ECANCELED : 1;
}

/* What an application makes of a Cancelled that it swallows is not sent.
 * Returns what the handler is to return. */
static int judge_success(struct fibril__wsgi_request *r)
{
    if (!fibril_cancelled()) {
        return 0;
    }
    Py_CLEAR(r->tail);
    fibril__wsgi_log_line(r, "time is up");
    return -ECANCELED;
}

static int answer_failure(struct fibril_http_req *http)
{
    static const char text[] = "500 Internal Server Error\n";
    int rc = fibril_http_reset(http);
    return rc < 0 ? -ECANCELED
                  : fibril_http_respond(http, 500, "text/plain; charset=utf-8", text,
                                        sizeof(text) - 1);
}

/* ---- the request ----------------------------------------------------------------------------- */

/* With the interpreter lock. 0, -errno for the server, or 1 for a 500. */
static int serve(struct fibril__wsgi_request *r)
{
    empty_trash(r->server);
    int rc = begin(r);
    rc = rc < 0 ? rc : call_application(r);
    rc = rc < 0 ? judge_failure(r) : judge_success(r);
    end(r);
    if (rc == 0 && r->tail && !goes_later(r)) {
        fibril__py_leave(&r->py);
        rc = fibril__wsgi_tail_send(r);
        fibril__py_enter(&r->py);
        Py_CLEAR(r->tail);
    }
    uint64_t len = r->tail ? (uint64_t)PyBytes_GET_SIZE(r->tail) : r->written;
    if (rc == 0 && r->cut) {
        fibril__wsgi_log_line(r, "more bytes than Content-Length says");
    } else if (rc == 0 && r->has_announced && !r->bodiless && len < r->announced) {
        fibril__wsgi_log_line(r, "fewer bytes than Content-Length says"); /* will be broken off */
    }
    return rc;
}

static void count(struct fibril__wsgi_server *server)
{
    if (++server->requests == server->requests_max) {
        fibril_chan_try_send(server->news, NULL);
    }
}

int fibril__wsgi_handle(struct fibril_http_req *http, void *arg)
{
    char frames[FIBRIL__PY_FRAMES];
    struct fibril__wsgi_request r = {
        .server = arg, .http = http, .is_head = strcmp(fibril_http_method(http), "HEAD") == 0};
    count(r.server);
    if (fibril__py_begin(&r.py, frames, sizeof(frames)) < 0) {
        return -ENOMEM;
    }
    int rc = serve(&r);
    fibril__py_end(&r.py);
    if (r.tail) {
        rc = fibril__wsgi_tail_send(&r);
        drop_later(&r);
    }
    return rc == 1 ? answer_failure(http) : rc;
}
