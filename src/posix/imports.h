/* SPDX-License-Identifier: MIT */
/*
 * Import tables of the loaded objects: which words of memory hold the address of a function that an
 * object calls by name. Rewriting those words redirects the calls, however the object was linked:
 * lazily bound, bound at start and made read-only, or through a table of pointers in its data.
 */
#ifndef FIBRIL_POSIX_IMPORTS_H
#define FIBRIL_POSIX_IMPORTS_H

#include "base/object.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decides what an import is to be: returns the new address, NULL to leave it. version is the symbol
 * version that the import asks for, "" if none; object_has_threads: see imports_cover. */
typedef void *fibril__import_fn(const char *name, const char *version, bool object_has_threads);

/* Rewrites the imports of all loaded objects that have not been looked at yet. Objects that hold
 * one of the n addresses in `skip` are left alone, and so are libc, the loader, sanitizers and
 * libgcc, whose unwinder runs inside the scheduler too, where nothing may park.
 * object_has_threads is true for the object that holds threads_of (for all if NULL). Returns 0,
 * -ENOMEM, or -errno of mprotect; what was rewritten stays. */
int fibril__imports_cover(fibril__import_fn *choose, const void *const *skip, size_t n,
                          const void *threads_of);

/* Puts all back. */
void fibril__imports_restore(void);

/* Whether objects came or went since the last cover. */
bool fibril__imports_changed(void);

/* How many imports of how many objects are rewritten now. */
size_t fibril__imports_count(size_t *ret_objects);

/* Calls fn for each object that has been looked at: its path, how many imports were rewritten. */
void fibril__imports_each(void (*fn)(const char *path, uintptr_t base, size_t imports, void *arg),
                          void *arg);

#endif
