/* SPDX-License-Identifier: MIT */
/*
 * The error log: what went wrong, in which request, and the traceback, written in one piece so that
 * the reports of several requests do not mix.
 */
#include "wsgi.h"

static PyObject *request_line(const struct fibril__wsgi_request *r)
{
    char peer[128];
    if (fibril_http_peer(r->http, peer, sizeof(peer)) < 0) {
        peer[0] = '\0';
    }
    PyObject *target = PyUnicode_DecodeLatin1(
        fibril_http_target(r->http), (Py_ssize_t)strlen(fibril_http_target(r->http)), NULL);
    PyObject *line =
        target ? PyUnicode_FromFormat("%s %U HTTP/1.%d from %s", fibril_http_method(r->http),
                                      target, fibril_http_version_minor(r->http), peer)
               : NULL;
    Py_XDECREF(target);
    return line;
}

/* Takes the reference to text, which may be NULL. */
static void write_text(struct fibril__wsgi_request *r, PyObject *text)
{
    PyObject *errors = r->server->errors, *result = NULL;
    if (text && errors != Py_None && PyFile_WriteObject(text, errors, Py_PRINT_RAW) == 0) {
        result = PyObject_CallMethod(errors, "flush", NULL);
    }
    Py_XDECREF(result);
    Py_XDECREF(text);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(r->server->app);
    }
}

/* The traceback as one string; NULL with an exception. */
static PyObject *trace_of(struct fibril__wsgi_request *r, PyObject *exception)
{
    PyObject *lines = PyObject_CallOneArg(r->server->format, exception);
    PyObject *nothing = PyUnicode_FromString("");
    PyObject *text = lines && nothing ? PyUnicode_Join(nothing, lines) : NULL;
    Py_XDECREF(lines);
    Py_XDECREF(nothing);
    return text;
}

void fibril__wsgi_log_exception(struct fibril__wsgi_request *r)
{
    PyObject *exception = fibril__py_take_exception();
    PyObject *line = request_line(r), *text = line ? trace_of(r, exception) : NULL;
    write_text(r, text ? PyUnicode_FromFormat("fibril: error in %U\n%U", line, text) : NULL);
    Py_XDECREF(line);
    Py_XDECREF(text);
    Py_XDECREF(exception);
}

void fibril__wsgi_log_line(struct fibril__wsgi_request *r, const char *what)
{
    PyObject *line = request_line(r);
    write_text(r, line ? PyUnicode_FromFormat("fibril: %s in %U\n", what, line) : NULL);
    Py_XDECREF(line);
}
