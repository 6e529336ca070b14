/* SPDX-License-Identifier: MIT */
/* Waiting for one of several descriptors, with a signal mask or without. */
#ifndef FIBRIL_POSIX_AWAIT_H
#define FIBRIL_POSIX_AWAIT_H

#include "posix/layer.h"

#include <poll.h>
#include <signal.h>

/* The events of poll(2) that the core's pollers wait for. */
enum { FIBRIL__PLAIN_EVENTS = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };

/* Waits until one of n descriptors may be ready for its events or has been closed; those below 0
 * are passed over. Whoever waits then asks the kernel. Returns 0, -ETIMEDOUT, -EINTR, -ECANCELED,
 * -ENOMEM. MAY PARK. */
int fibril__await_any(const struct pollfd *fds, nfds_t n, int64_t deadline_ns);

/* The mask of a ppoll while its caller is parked. A fibril has no mask of its own: it is the OS
 * thread's, and the other fibrils run under it meanwhile. */
struct fibril__masked {
    sigset_t before;
    bool changed;
};

static inline void fibril__mask_begin(struct fibril__masked *m, const sigset_t *mask)
{
    m->changed = mask && pthread_sigmask(SIG_SETMASK, mask, &m->before) == 0;
}

static inline void fibril__mask_end(const struct fibril__masked *m)
{
    if (m->changed) {
        pthread_sigmask(SIG_SETMASK, &m->before, NULL);
    }
}

#endif
