/* SPDX-License-Identifier: MIT */
/*
 * The Channel object, for chan.c and select.c.
 */
#ifndef FIBRIL_PY_CHAN_H
#define FIBRIL_PY_CHAN_H

#include "fibril_py.h"

/* A channel of the core whose elements are references. */
struct channel {
    PyObject_HEAD struct fibril_chan *chan;
    Py_ssize_t capacity;
    bool closed;
    PyObject *weak;
};

int fibril__py_select_init(PyObject *module);

#endif
