/* SPDX-License-Identifier: MIT */
/*
 * The only door to what differs between versions of CPython: which thread state is current, and
 * where a thread state keeps its Python frames. See pystate.c.
 */
#ifndef FIBRIL_PY_PYSTATE_H
#define FIBRIL_PY_PYSTATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* Whether the current thread state can be exchanged while the GIL stays held, here and now. Call
 * once, with the GIL, before any other fibril runs. */
bool fibril__pystate_init(void);

/* Makes ts (NULL: none) the current thread state of the OS thread, which keeps the GIL. */
void fibril__pystate_swap(PyThreadState *ts);

/* The current thread state, NULL if there is none. */
PyThreadState *fibril__pystate_current(void);

/* The thread-locals of the calling OS thread in which CPython (3.12 and later) notes that a thread
 * state is current there. A fibril that parks with the GIL, in a C library that does not release
 * it, leaves them set; the next one must find them empty, or 3.13 gives up. They are found by what
 * they hold, not by name: no version exports one. With the GIL, on a loop. Returns how many. */
enum { FIBRIL__PYSTATE_WORDS = 4 };
unsigned fibril__pystate_words(void **ret_words[FIBRIL__PYSTATE_WORDS]);

/* Gives ts, which has run nothing yet, `memory` for its first Python frames; CPython adds chunks of
 * its own when they do not fit. Returns false if ts has frames already, and on the portable path.
 */
bool fibril__pystate_lend_frames(PyThreadState *ts, void *memory, size_t bytes);

/* The memory that ts was lent, if it was lent that many bytes; NULL otherwise. */
void *fibril__pystate_lent_frames(const PyThreadState *ts, size_t bytes);

/* Takes them back from ts, which has no frame any more. */
void fibril__pystate_return_frames(PyThreadState *ts);

/* Keeps the 16 KiB chunks that CPython maps and unmaps for deeper frames for reuse. With the GIL.
 */
void fibril__pystate_pool_chunks(void);

/* Whether an exception set by PyThreadState_SetAsyncExc has not been raised in ts yet. */
bool fibril__pystate_async_pending(PyThreadState *ts);

/* Writes the Python frames of ts, innermost first, to descriptor fd. Async-signal-safe. Returns
 * false where this interpreter offers no way. */
bool fibril__pystate_write_frames(PyThreadState *ts, int fd);

/* What doctor says of the paths taken. */
const char *fibril__pystate_describe(void);

#endif
