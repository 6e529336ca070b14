/* SPDX-License-Identifier: MIT */
/* See layer.h. */
#include "posix/layer.h"

#include "posix/process_calls.h"
#include "posix/thread.h"

__thread int fibril__posix_mode __attribute__((tls_model("initial-exec")));

bool fibril__posix_unclear(int mode)
{
    return mode == FIBRIL__POSIX_HANDLER ? fibril__signal_left() : fibril__posix_vfork_over();
}

/* A wait that ended because of pthread_cancel ends the thread. */
static void heed_cancel(int64_t rc)
{
    if (UNLIKELY(rc == -ECANCELED)) {
        fibril__thread_heed_cancel();
    }
}

int64_t fibril__posix_result(int64_t rc, int saved_errno)
{
    heed_cancel(rc);
    errno = rc < 0 ? (int)-rc : saved_errno;
    return rc < 0 ? -1 : rc;
}

int fibril__posix_error(int rc, int saved_errno)
{
    heed_cancel(rc);
    errno = saved_errno;
    return rc < 0 ? -rc : rc;
}

/* ---- time ---- */

enum { NS_PER_S = 1000000000 };

static bool is_valid(const struct timespec *t)
{
    return t->tv_nsec >= 0 && t->tv_nsec < NS_PER_S;
}

/* Nanoseconds of t, FIBRIL_FOREVER where they do not fit; a time before the epoch is the epoch. */
static int64_t ns_of(const struct timespec *t)
{
    if (t->tv_sec < 0) {
        return 0;
    }
    int64_t ns;
    bool fits = !__builtin_mul_overflow((int64_t)t->tv_sec, NS_PER_S, &ns) &&
                !__builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns);
    return fits ? ns : FIBRIL_FOREVER;
}

int fibril__deadline_in(const struct timespec *in, int64_t *ret_deadline_ns)
{
    if (!in) {
        *ret_deadline_ns = FIBRIL_FOREVER;
        return 0;
    }
    if (!is_valid(in) || in->tv_sec < 0) {
        return -EINVAL;
    }
    *ret_deadline_ns = fibril_after(ns_of(in));
    return 0;
}

int fibril__deadline_at(clockid_t clock, const struct timespec *at, int64_t *ret_deadline_ns)
{
    if (!at) {
        *ret_deadline_ns = FIBRIL_FOREVER;
        return 0;
    }
    struct timespec now;
    if (!is_valid(at) || clock_gettime(clock, &now) != 0) {
        return -EINVAL;
    }
    int64_t ns = ns_of(at);
    int64_t left = ns == FIBRIL_FOREVER ? FIBRIL_FOREVER : ns - ns_of(&now);
    *ret_deadline_ns = left > 0 ? fibril_after(left) : 0;
    return 0;
}
