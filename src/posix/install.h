/* SPDX-License-Identifier: MIT */
/* Between install.c and the areas that it sets up. */
#ifndef FIBRIL_POSIX_INSTALL_H
#define FIBRIL_POSIX_INSTALL_H

#include <stdbool.h>

/* Wraps the signal handlers that the program has set before, and puts them back. */
int fibril__signal_wrap_all(void);
void fibril__signal_unwrap_all(void);

/* What dlsym is to answer for that name (and version, unless NULL) instead of libc's function;
 * NULL: libc's. */
void *fibril__call_asked(const char *name, const char *version);

/* Calls fn(arg) while no other thread loads or unloads objects. */
void fibril__loader_run(void (*fn)(void *arg), void *arg);

/* In the child of a fork. */
void fibril__install_forked(void);

/* The covered call of that name, NULL if there is none. */
const struct fibril__call *fibril__call_find(const char *name);

#endif
