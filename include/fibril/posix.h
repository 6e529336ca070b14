/* SPDX-License-Identifier: MIT */
/*
 * The POSIX layer: blocking libc calls that park a fibril instead of its OS thread, under their own
 * names, in programs and libraries that know nothing of fibril.
 *
 * Installing it rewrites the import tables of the objects that are loaded in the process, and of
 * those loaded later. On an OS thread with a loop each covered call then blocks the calling fibril
 * only; on any other OS thread it is the real call. Semantics are those of POSIX; what belongs to a
 * thread (errno, pthread keys, pthread_self, owners of mutexes) belongs to the fibril.
 *
 * Preloading or linking libfibril-posix.so installs the layer when the program starts, adopts its
 * main thread and makes its threads fibrils ($FIBRIL_POSIX_THREADS=none leaves them real).
 */
#ifndef FIBRIL_POSIX_H
#define FIBRIL_POSIX_H

#include <fibril/fibril.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whose pthread_create makes fibrils when it is called on a loop. */
enum fibril_posix_threads {
    FIBRIL_POSIX_THREADS_NONE = 0,
    FIBRIL_POSIX_THREADS_OF, /* the object that holds the address threads_of, and no other */
    FIBRIL_POSIX_THREADS_ALL,
};

/* Options of the layer; all zero is the default. */
struct fibril_posix_opts {
    enum fibril_posix_threads threads;
    const void *threads_of;
    size_t stack_bytes; /* of threads that are fibrils and asked for none; 0: the runtime's default
                         */
};

/* Rewrites the import tables of the process. opts may be NULL. Returns 0; -EALREADY if it is
 * installed; -EPERM outside loops; -ENOMEM; -ENOTSUP where import tables are not understood. Never
 * parks. */
FIBRIL_API int fibril_posix_install(const struct fibril_posix_opts *opts);

/* Puts the import tables back. Threads that are fibrils must have ended (-EBUSY). Never parks. */
FIBRIL_API int fibril_posix_uninstall(void);

/* Returns whether the layer is installed. */
FIBRIL_API bool fibril_posix_installed(void);

/* Returns how many imports of how many objects are rewritten now. ret_objects may be NULL. */
FIBRIL_API size_t fibril_posix_imports(size_t *ret_objects);

/* Returns what pthread_self returns to fibril f, as a number; 0 for a main fibril, and for one that
 * has not asked. Never parks, async-signal-safe. */
FIBRIL_API unsigned long fibril_posix_thread_id(const struct fibril *f);

/* Writes to descriptor fd what is covered in this process, object by object, and what would still
 * block: objects that call the kernel themselves, objects with thread-local variables. Returns the
 * number of objects that may block. Never parks. */
FIBRIL_API int fibril_posix_report(int fd);

/* From now on the bytes at `live`, thread-local ones of the calling OS thread, belong to the fibril
 * on its loop: each finds zeros there first and later what it left, until the layer goes. Returns
 * 0; -EPERM outside loops; -ENOMEM when too many are asked for. Never parks. */
FIBRIL_API int fibril_posix_own(void *live, size_t bytes);

/* Calls fn(arg) as if the layer were not there: blocking calls block the OS thread. */
FIBRIL_API int fibril_posix_bypass(fibril_fn *fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
