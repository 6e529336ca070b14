/* SPDX-License-Identifier: MIT */
/*
 * What every covered call shares: whether it is to act at all, how it returns what a fibril call
 * returned, and the table by which the installation finds it.
 *
 *     ssize_t fibril_posix_recv(int fd, void *buf, size_t len, int flags)
 *     {
 *         if (!fibril__on_loop()) {
 *             return recv(fd, buf, len, flags);
 *         }
 *         ...
 *     }
 *
 * This library's own import table is never rewritten, so recv() in here is libc's. A covered call
 * is named fibril_posix_NAME and is not exported.
 */
#ifndef FIBRIL_POSIX_LAYER_H
#define FIBRIL_POSIX_LAYER_H

#include "base/compiler.h"

#include <fibril/embed.h>
#include <fibril/fibril.h>
#include <fibril/posix.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* What a covered call is on this OS thread. One word, read first by each of them: it must cost next
 * to nothing where there is no loop. */
enum fibril__posix_mode {
    FIBRIL__POSIX_REAL = 0, /* libc's: no loop here, or inside a bypass */
    FIBRIL__POSIX_LOOP,     /* parks the fibril */
    FIBRIL__POSIX_VFORK,    /* perhaps the child of a vfork, which shares this very word */
    FIBRIL__POSIX_HANDLER,  /* in a signal handler: libc's, unless it was left by siglongjmp */
};
extern __thread int fibril__posix_mode __attribute__((tls_model("initial-exec")));

/* Decides the cases that are not clear. */
bool fibril__posix_unclear(int mode);

/* Decides the third case: in the child false; in the parent, whose child is gone, back to LOOP. */
bool fibril__posix_vfork_over(void);

/* Whether a covered call is to park the calling fibril rather than block the OS thread. */
static ALWAYS_INLINE bool fibril__on_loop(void)
{
    int mode = fibril__posix_mode;
    return UNLIKELY(mode != FIBRIL__POSIX_REAL) &&
           (LIKELY(mode == FIBRIL__POSIX_LOOP) || fibril__posix_unclear(mode));
}

/* ---- results --------------------------------------------------------------------------------- */

/* Turns the result of a fibril call into that of a libc call: below zero, errno is set and -1
 * returned. A wait that pthread_cancel ended does not return: the thread ends here. Otherwise errno
 * is `saved`, what the caller had before (another fibril may have changed it meanwhile). */
int64_t fibril__posix_result(int64_t rc, int saved_errno);

/* The same for calls that return the error number itself (pthread_*). */
int fibril__posix_error(int rc, int saved_errno);

/* After -EINTR: whether the call is to be made again, because the handlers that ran have
 * SA_RESTART. Only for calls that restart (signal(7)). */
bool fibril__posix_restart(void);

/* ---- time ------------------------------------------------------------------------------------ */

/* The deadline of an absolute time on a clock (CLOCK_REALTIME, CLOCK_MONOTONIC; the realtime clock
 * is read now: later jumps are not followed), or of a relative one. A negative errno for an invalid
 * time goes to *ret_rc; NULL means for ever. */
int fibril__deadline_at(clockid_t clock, const struct timespec *at, int64_t *ret_deadline_ns);
int fibril__deadline_in(const struct timespec *in, int64_t *ret_deadline_ns);

/* Looks for objects that were loaded meanwhile and covers them. Cheap when there are none. */
void fibril__load_look(void);

/* ---- tables ---------------------------------------------------------------------------------- */

struct fibril__call {
    const char *name;
    void (*ours)(void);
    bool threads;        /* only where threads are to be fibrils */
    const char *version; /* covers only imports of this symbol version or of none; NULL: any */
};
#define FIBRIL__CALL(name)                                                                         \
    {                                                                                              \
#name, (void (*)(void))fibril_posix_##name, false, NULL                                    \
    }
#define FIBRIL__CALL_AT(name, version)                                                             \
    {                                                                                              \
#name, (void (*)(void))fibril_posix_##name, false, version                                 \
    }

/* Each area's calls, ended by a NULL name; install.c lists the tables. */
extern const struct fibril__call fibril__calls_thread[], fibril__calls_exit[], fibril__calls_attr[],
    fibril__calls_key[], fibril__calls_once[], fibril__calls_mutex[], fibril__calls_cond[],
    fibril__calls_rwlock[], fibril__calls_sem[], fibril__calls_futex[], fibril__calls_stream[],
    fibril__calls_socket[], fibril__calls_poll[], fibril__calls_epoll[], fibril__calls_file[],
    fibril__calls_sleep[], fibril__calls_name[], fibril__calls_child[], fibril__calls_signal[],
    fibril__calls_fork[], fibril__calls_load[], fibril__calls_c11[], fibril__calls_barrier[];

#endif
