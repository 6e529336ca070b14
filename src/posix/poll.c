/* SPDX-License-Identifier: MIT */
/*
 * poll and ppoll: the kernel is asked without a wait, then the fibril waits until one of the
 * descriptors may be ready, then the kernel is asked again, so that every revents is the kernel's.
 * One descriptor alone, which is what clients with timeouts ask for, goes to the core directly:
 * its epoll poller asks the kernel by itself, and knows when there is no need to.
 */
#include "posix/await.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <limits.h>

static int64_t ask(struct pollfd *fds, nfds_t n)
{
    int ready = poll(fds, n, /* timeout= */ 0);
    return ready < 0 ? -errno : ready;
}

static int64_t poll_one(struct pollfd *p, int64_t deadline_ns)
{
    int rc = fibril_fd_wait(p->fd, p->events, deadline_ns);
    p->revents = rc == -EBADF ? POLLNVAL : rc > 0 ? (short)rc : 0;
    return rc == -ETIMEDOUT ? 0 : rc == -EBADF || rc > 0 ? 1 : rc;
}

static int64_t poll_many(struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
    for (;;) {
        int rc = fibril__await_any(fds, n, deadline_ns);
        if (rc < 0) {
            return rc == -ETIMEDOUT ? 0 : rc;
        }
        int64_t ready = ask(fds, n);
        if (ready != 0) {
            return ready;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

/* Whether the core asks the kernel before it waits: io_uring's only hands the question over. */
static bool core_asks(void)
{
    return fibril_loop_poller(fibril_loop_current())[0] == 'e';
}

/* Whether the core's answer is all there is to say. */
static bool is_plain_one(const struct pollfd *fds, nfds_t n)
{
    return n == 1 && fds->fd >= 0 && !(fds->events & ~FIBRIL__PLAIN_EVENTS);
}

static void clear(struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        fds[i].revents = 0;
    }
}

static int64_t poll_until(struct pollfd *fds, nfds_t n, bool now, int64_t deadline_ns)
{
    bool one = is_plain_one(fds, n);
    if (one && !now && core_asks()) {
        return poll_one(fds, deadline_ns);
    }
    int64_t ready = ask(fds, n);
    if (ready != 0 || now) {
        fibril_embed_spend();
        return ready;
    }
    ready = one ? poll_one(fds, deadline_ns) : poll_many(fds, n, deadline_ns);
    if (ready == 0) {
        clear(fds, n);
    }
    return ready;
}

int fibril_posix_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    if (!fibril__on_loop()) {
        return poll(fds, n, timeout_ms);
    }
    int saved = errno;
    int64_t deadline_ns =
        timeout_ms < 0 ? FIBRIL_FOREVER : fibril_after((int64_t)timeout_ms * 1000000);
    return (int)fibril__posix_result(poll_until(fds, n, timeout_ms == 0, deadline_ns), saved);
}

/* A mask: the first question lets the kernel deliver what it unblocks. */
static int64_t poll_masked(struct pollfd *fds, nfds_t n, const sigset_t *mask, bool now,
                           int64_t deadline_ns)
{
    int ready = ppoll(fds, n, &(struct timespec){0, 0}, mask);
    if (ready != 0 || now) {
        return ready < 0 ? -errno : ready;
    }
    struct fibril__masked masked;
    fibril__mask_begin(&masked, mask);
    int64_t rc = poll_many(fds, n, deadline_ns);
    fibril__mask_end(&masked);
    return rc;
}

int fibril_posix_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask)
{
    if (!fibril__on_loop()) {
        return ppoll(fds, n, timeout, mask);
    }
    int saved = errno;
    int64_t deadline_ns, rc = fibril__deadline_in(timeout, &deadline_ns);
    bool now = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    if (rc == 0) {
        rc = mask ? poll_masked(fds, n, mask, now, deadline_ns)
                  : poll_until(fds, n, now, deadline_ns);
    }
    return (int)fibril__posix_result(rc, saved);
}

int fibril_posix___poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room)
{
    if (room / sizeof(*fds) < n) {
        __chk_fail();
    }
    return fibril_posix_poll(fds, n, timeout_ms);
}

int fibril_posix___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                             const sigset_t *mask, size_t room)
{
    if (room / sizeof(*fds) < n) {
        __chk_fail();
    }
    return fibril_posix_ppoll(fds, n, timeout, mask);
}

const struct fibril__call fibril__calls_poll[] = {
    FIBRIL__CALL(poll),
    FIBRIL__CALL_AS(__poll, poll),
    FIBRIL__CALL(__poll_chk),
    FIBRIL__CALL(ppoll),
    FIBRIL__CALL(__ppoll_chk),
    FIBRIL__CALL(select),
    FIBRIL__CALL_AS(__select, select),
    FIBRIL__CALL(pselect),
    {NULL, NULL, false, NULL},
};
