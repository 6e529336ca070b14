/* SPDX-License-Identifier: MIT */
/*
 * Python applications: `fibril serve module:app` is the Python package's, in another program.
 */
#ifndef FIBRIL_CLI_PYTHON_H
#define FIBRIL_CLI_PYTHON_H

#include <stdbool.h>

/* Whether the words of `serve` name an application: one is like module:app and is no folder. */
bool python_wants(int argc, char **argv);

/* Becomes `python3 -m fibril serve` with the same words; returns only when that fails, with an exit
 * status. */
int python_serve(int argc, char **argv);

#endif
