/* SPDX-License-Identifier: MIT */
/*
 * See await.h. Up to a thousand descriptors are waited for by the core's select; more, by an epoll
 * set made for the occasion, which is itself one descriptor to wait for.
 */
#include "posix/await.h"

#include "base/alloc.h"

#include <fibril/io.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CASES_ON_STACK = 8, CASES_MAX = 1024 };

/* The finer events of System V come with the plain ones. */
static short plain(short events)
{
    int more = (events & (POLLRDNORM | POLLRDBAND) ? POLLIN : 0) |
               (events & (POLLWRNORM | POLLWRBAND) ? POLLOUT : 0);
    return (short)((events & FIBRIL__PLAIN_EVENTS) | more);
}

/* ---- by select ------------------------------------------------------------------------------- */

static int select_in(const struct pollfd *fds, nfds_t n, struct fibril_case *cases,
                     int64_t deadline_ns)
{
    size_t used = 0;
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].fd >= 0) {
            cases[used++] = (struct fibril_case){
                .op = FIBRIL_CASE_FD, .fd = fds[i].fd, .events = plain(fds[i].events)};
        }
    }
    int rc = fibril_select(cases, used, deadline_ns);
    return rc < 0 ? rc : 0;
}

static int by_select(const struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
    if (n <= CASES_ON_STACK) {
        struct fibril_case cases[CASES_ON_STACK];
        return select_in(fds, n, cases, deadline_ns);
    }
    struct fibril_case *cases = fibril__alloc(n * sizeof(*cases));
    if (!cases) {
        return -ENOMEM;
    }
    int rc = select_in(fds, n, cases, deadline_ns);
    fibril__free(cases);
    return rc;
}

/* ---- by a set -------------------------------------------------------------------------------- */

/* 1 if the set is no use: one of the files is always ready, or gone. */
static int fill(int set, const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        struct epoll_event e = {.events = (uint32_t)(unsigned short)fds[i].events};
        if (fds[i].fd >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fds[i].fd, &e) != 0) {
            if (errno != EEXIST) {
                return errno == ENOMEM || errno == ENOSPC ? -ENOMEM : 1;
            }
            e.events |= EPOLLIN | EPOLLOUT | EPOLLPRI; /* twice in the list */
            epoll_ctl(set, EPOLL_CTL_MOD, fds[i].fd, &e);
        }
    }
    return 0;
}

static int by_set(const struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) {
        return -errno;
    }
    int rc = fill(set, fds, n);
    if (rc == 0) {
        rc = fibril_fd_wait(set, POLLIN, deadline_ns);
    }
    fibril_close(set);
    return rc < 0 ? rc : 0;
}

/* ---- choosing -------------------------------------------------------------------------------- */

int fibril__await_any(const struct pollfd *fds, nfds_t n, int64_t deadline_ns)
{
    nfds_t used = 0, last = 0;
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].fd >= 0) {
            used++;
            last = i;
        }
    }
    if (used == 0) {
        int rc = fibril_sleep_until(deadline_ns);
        return rc < 0 ? rc : -ETIMEDOUT;
    }
    if (used == 1) {
        int rc = fibril_fd_wait(fds[last].fd, plain(fds[last].events), deadline_ns);
        return rc == -EBADF ? 0 : rc < 0 ? rc : 0;
    }
    return used <= CASES_MAX ? by_select(fds, n, deadline_ns) : by_set(fds, n, deadline_ns);
}
