/* SPDX-License-Identifier: MIT */
/* Joining a real OS thread from a fibril: a thread of the pool waits. */
#include "posix/thread.h"

struct join {
    pthread_t thread;
    clockid_t clock;
    const struct timespec *until;
    void *result;
    int rc;
};

static int real_join(pthread_t t, void **ret_result, clockid_t clock, const struct timespec *until)
{
    return until ? pthread_clockjoin_np(t, ret_result, clock, until) : pthread_join(t, ret_result);
}

static int run(void *arg)
{
    struct join *j = arg;
    j->rc = real_join(j->thread, &j->result, j->clock, j->until);
    return 0;
}

int fibril__join_real(pthread_t t, void **ret_result, clockid_t clock, const struct timespec *until)
{
    if (!fibril__on_loop()) {
        return real_join(t, ret_result, clock, until);
    }
    int saved = errno;
    struct join j = {.thread = t, .clock = clock, .until = until};
    int rc = pthread_tryjoin_np(t, &j.result);
    if (rc == EBUSY) {
        rc = fibril_offload(run, &j, FIBRIL_FOREVER);
        rc = rc < 0 ? fibril__posix_error(rc, saved) : j.rc;
    }
    if (rc == 0 && ret_result) {
        *ret_result = j.result;
    }
    errno = saved;
    return rc;
}
