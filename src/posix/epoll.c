/* SPDX-License-Identifier: MIT */
/*
 * Waiting for an epoll set: it is itself a descriptor that can be waited for. The set is asked
 * without a wait first, then waited for, then asked again. So any number of event loops written for
 * a thread each run side by side on one.
 */
#include "posix/await.h"
#include "posix/io_calls.h"

#include <fibril/io.h>

struct asking {
    int set, most;
    struct epoll_event *events;
    const sigset_t *mask;
};

static int64_t ask(const struct asking *a)
{
    int n = epoll_pwait(a->set, a->events, a->most, /* timeout= */ 0, a->mask);
    return n < 0 ? -errno : n;
}

static int64_t wait_for(const struct asking *a, int64_t deadline_ns)
{
    for (;;) {
        struct fibril__masked masked;
        fibril__mask_begin(&masked, a->mask);
        int rc = fibril_fd_wait(a->set, POLLIN, deadline_ns);
        fibril__mask_end(&masked);
        if (rc < 0) {
            return rc == -ETIMEDOUT ? 0 : rc;
        }
        int64_t n = ask(a);
        if (n != 0) {
            return n;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

static int ask_until(const struct asking *a, bool now, int64_t deadline_ns, int saved)
{
    int64_t n = ask(a);
    if (n != 0 || now) {
        fibril_embed_spend();
    } else {
        n = wait_for(a, deadline_ns);
    }
    return (int)fibril__posix_result(n, saved);
}

int fibril_posix_epoll_pwait(int set, struct epoll_event *events, int most, int timeout_ms,
                             const sigset_t *mask)
{
    if (!fibril__on_loop()) {
        return epoll_pwait(set, events, most, timeout_ms, mask);
    }
    struct asking a = {.set = set, .events = events, .most = most, .mask = mask};
    int64_t deadline_ns =
        timeout_ms < 0 ? FIBRIL_FOREVER : fibril_after((int64_t)timeout_ms * 1000000);
    return ask_until(&a, timeout_ms == 0, deadline_ns, errno);
}

int fibril_posix_epoll_wait(int set, struct epoll_event *events, int most, int timeout_ms)
{
    return fibril_posix_epoll_pwait(set, events, most, timeout_ms, NULL);
}

int fibril_posix_epoll_pwait2(int set, struct epoll_event *events, int most,
                              const struct timespec *timeout, const sigset_t *mask)
{
    if (!fibril__on_loop()) {
        return epoll_pwait2(set, events, most, timeout, mask);
    }
    int saved = errno;
    int64_t deadline_ns;
    int rc = fibril__deadline_in(timeout, &deadline_ns);
    if (rc < 0) {
        return (int)fibril__posix_result(rc, saved);
    }
    struct asking a = {.set = set, .events = events, .most = most, .mask = mask};
    bool now = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    return ask_until(&a, now, deadline_ns, saved);
}

const struct fibril__call fibril__calls_epoll[] = {
    FIBRIL__CALL(epoll_wait),   FIBRIL__CALL(epoll_pwait),   FIBRIL__CALL(epoll_pwait2),
    FIBRIL__CALL(epoll_create), FIBRIL__CALL(epoll_create1), {NULL, NULL, false, NULL},
};
