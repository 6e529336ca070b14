/* SPDX-License-Identifier: MIT */
/*
 * WSGI (PEP 3333) on the HTTP server: what the files wsgi_*.c share.
 *
 *     fibril of the request        interpreter lock
 *     -----------------------      ----------------
 *     head read and parsed         not held
 *     environ, application         held; given up wherever the application blocks
 *     last block of the body sent  not held; dropped by the next request that holds it
 *
 * So a short response takes the lock once. Strings that requests have in common (keys of the
 * environ, names of headers, often their values) are made once. Everything here belongs to one
 * loop: fields need no locks beside the interpreter's.
 */
#ifndef FIBRIL_PY_WSGI_H
#define FIBRIL_PY_WSGI_H

#include "fibril_py.h"

#include <fibril/http.h>

#include <stdbool.h>
#include <stdint.h>

struct fibril__wsgi_names;
struct fibril__wsgi_server;

/* A request while it is served; lives on the stack of its fibril. */
struct fibril__wsgi_request {
    struct fibril__wsgi_server *server;
    struct fibril_http_req *http;
    struct pyfibril py;
    PyObject *environ;
    PyObject *input;     /* struct fibril__wsgi_input; told when the request is over */
    PyObject *responder; /* struct fibril__wsgi_responder; the same */
    PyObject *tail;      /* bytes, or a tuple of them, to be sent without the interpreter lock */
    uint64_t announced;  /* Content-Length of the application */
    uint64_t written;    /* bytes of body taken from the application */
    int error;           /* -errno of what the peer did, first one; 0: nothing */
    bool is_head;        /* the method is HEAD */
    bool has_announced;  /* the application set Content-Length */
    bool bodiless;       /* HEAD, 204 or 304: no block is sent */
    bool started;        /* start_response has been called */
    bool committed;      /* the head is on its way: too late for other headers */
    bool cut;            /* more than Content-Length has been written: said once */
};

enum { FIBRIL__WSGI_TRASH = 32 };

/* A server object of Python. */
struct fibril__wsgi_server {
    PyObject ob_base;
    PyObject *app;
    PyObject *environ;      /* what each request's environ is a copy of */
    PyObject *errors;       /* wsgi.errors */
    PyObject *format;       /* traceback.format_exception */
    PyObject *last_address; /* of the client of the last request; NULL at first */
    PyObject *script_name;  /* "" or "/prefix" */
    struct fibril__wsgi_names *names;
    struct fibril__wsgi_nets *nets; /* whose X-Forwarded-* are believed; may be NULL */
    struct fibril_http_server *http;
    struct fibril_chan *news; /* wakes wait() */
    struct fibril *runner;    /* runs the HTTP server; NULL before start and after the end */
    uint64_t requests;        /* handled so far */
    uint64_t requests_max;    /* after which wait() is woken; 0: never */
    int result;               /* of the HTTP server, when it has ended */
    int wakeup_fd;            /* written to by Python's signal handlers; -1: none */
    bool ended;
    unsigned trash_count;
    PyObject *trash[FIBRIL__WSGI_TRASH]; /* references to drop under the interpreter lock */
};

/* Adds the types to the module; 0 or -1 with an exception. */
int fibril__py_wsgi_init(PyObject *module);

/* ---- wsgi_names.c ---- */

struct fibril__wsgi_names *fibril__wsgi_names_new(void);
void fibril__wsgi_names_free(struct fibril__wsgi_names *names);

enum fibril__wsgi_header {
    FIBRIL__WSGI_PLAIN = 0,
    FIBRIL__WSGI_DROPPED, /* ambiguous or dangerous in an environ */
    FIBRIL__WSGI_COOKIE,  /* several are joined by a semicolon */
    FIBRIL__WSGI_SECRET,  /* its value is not kept */
    FIBRIL__WSGI_FORWARDED_FOR,
    FIBRIL__WSGI_FORWARDED_PROTO,
};

struct fibril__wsgi_name {
    struct fibril__wsgi_name *next; /* of the same bucket */
    PyObject *key;                  /* "HTTP_ACCEPT"; NULL where dropped */
    PyObject *value;                /* the last one seen, NULL: none */
    uint64_t stamp;                 /* of the request that had it last */
    uint32_t hash;
    uint16_t len;
    uint8_t kind;
    char raw[]; /* as sent */
};

/* The entry of a header name, made at need; NULL with an exception. A name that finds no room in
 * the table is returned in *ret_own and is the caller's to free with fibril__wsgi_name_free. */
struct fibril__wsgi_name *fibril__wsgi_name_of(struct fibril__wsgi_names *names, const char *raw,
                                               struct fibril__wsgi_name **ret_own);
void fibril__wsgi_name_free(struct fibril__wsgi_name *name);

/* ---- wsgi_environ.c ---- */

/* Keys that are set for each request. */
int fibril__wsgi_environ_init(void);
/* The dict that the environs of a server are copies of. */
PyObject *fibril__wsgi_environ_template(PyObject *script_name, PyObject *errors,
                                        PyObject *file_wrapper, const char *scheme,
                                        const char *address, bool multiprocess);
/* The environ of r with r->input in it; NULL with an exception. */
PyObject *fibril__wsgi_environ_new(struct fibril__wsgi_request *r);

/* ---- wsgi_forwarded.c ---- */

struct fibril__wsgi_nets;

/* Parses addresses and networks ("10.0.0.0/8", "::1", "unix", "*"), separated by commas. NULL with
 * ValueError or MemoryError. */
struct fibril__wsgi_nets *fibril__wsgi_nets_new(const char *text);
void fibril__wsgi_nets_free(struct fibril__wsgi_nets *nets);
/* Whether an address as text ("" is a UNIX socket) is in them. */
bool fibril__wsgi_nets_have(const struct fibril__wsgi_nets *nets, const char *address);
/* The address nearest to us in the list of X-Forwarded-For that is not in nets; false if the list
 * is unreadable there. */
bool fibril__wsgi_forwarded_for(const struct fibril__wsgi_nets *nets, const char *list,
                                char *ret_address, size_t size);

/* ---- wsgi_input.c ---- */

PyObject *fibril__wsgi_input_new(struct fibril__wsgi_request *r);
/* The request is over: reading fails from now on. MAY PARK. */
int fibril__wsgi_input_init(void);
void fibril__wsgi_input_end(struct fibril__wsgi_request *r);

/* ---- wsgi_start.c ---- */

PyObject *fibril__wsgi_responder_new(struct fibril__wsgi_request *r);
int fibril__wsgi_responder_init(void);
/* The request is over; drops the reference. */
void fibril__wsgi_responder_end(PyObject *responder);

/* ---- wsgi_file.c ---- */

int fibril__wsgi_file_init(PyObject *module);
PyObject *fibril__wsgi_file_type(void);
bool fibril__wsgi_is_file(PyObject *object);
/* What is to be sent of the file by sendfile: 1 with fd, offset and length, 0 if it has to be read,
 * -1 with an exception. */
int fibril__wsgi_file_range(PyObject *file, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_len);

/* ---- wsgi_body.c ---- */

/* Hands one block to the kernel, without the interpreter lock; 0 or -1 with an exception. */
int fibril__wsgi_block(struct fibril__wsgi_request *r, PyObject *block);
/* Sends what the application returned, or leaves it in r->tail. 0 or -1 with an exception. */
int fibril__wsgi_body(struct fibril__wsgi_request *r, PyObject *result);
/* Sends r->tail; called without the interpreter lock. 0 or -errno. */
int fibril__wsgi_tail_send(struct fibril__wsgi_request *r);

/* ---- wsgi_error.c ---- */

/* Writes the current exception and its traceback with the request line to the errors of the server
 * and clears it. */
void fibril__wsgi_log_exception(struct fibril__wsgi_request *r);
/* Writes one line there. */
void fibril__wsgi_log_line(struct fibril__wsgi_request *r, const char *text);

/* ---- wsgi_handler.c ---- */

fibril_http_handler fibril__wsgi_handle;

/* ---- wsgi_server.c ---- */

int fibril__wsgi_server_init(PyObject *module);

#endif
