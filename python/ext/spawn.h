/* SPDX-License-Identifier: MIT */
/*
 * Between handle.c and spawn.c.
 */
#ifndef FIBRIL_PY_SPAWN_H
#define FIBRIL_PY_SPAWN_H

#include "handle.h"

/* A Fibril object, alive and all zero otherwise; NULL with an exception. */
struct handle *fibril__py_new_handle(void);

/* h's fibril has ended, outcome is set: tells those who wait. */
void fibril__py_end_handle(struct handle *h, enum handle_state state);

int fibril__py_spawn_init(PyObject *module);

#endif
