/* SPDX-License-Identifier: MIT */
/*
 * The Fibril object: what spawn returns and what current() finds. It outlives its fibril; `live`
 * points to the pyfibril while there is one.
 */
#ifndef FIBRIL_PY_HANDLE_H
#define FIBRIL_PY_HANDLE_H

#include "fibril_py.h"

enum handle_state {
    HANDLE_ALIVE = 0,
    HANDLE_RETURNED, /* outcome is what the function returned */
    HANDLE_RAISED,   /* outcome is the exception, or NULL: there was no memory to begin */
};

struct handle {
    PyObject_HEAD struct pyfibril *live; /* NULL when it has ended */
    struct pyfibril own;                 /* of a spawned one: what live points to */
    uint64_t id;
    PyObject *fn; /* of a spawned one until it has begun: what to call */
    union {
        PyObject *args;    /* the same: a tuple, NULL for none */
        PyObject *outcome; /* when it has ended */
    };
    PyObject *kwargs;           /* until it has begun: a dict or NULL */
    PyObject *name;             /* str, NULL: none given */
    PyObject *callbacks;        /* list of callables for its end, NULL: none */
    PyObject *weak;             /* weak references */
    struct fibril_event *ended; /* made by the first who waits for the end */
    uint8_t state;
    bool daemon, seen; /* seen: the outcome has been handed to somebody */
};

#endif
