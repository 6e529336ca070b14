/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the pollers share: each property is tried on both pollers of the kernel, by
 * name.
 *
 * A struct waiter is an operation that remembers how it went: whether start() had the answer at
 * once, how often done was called, and in which order among all.
 */
#ifndef FIBRIL_TESTS_POLL_RIG_H
#define FIBRIL_TESTS_POLL_RIG_H

#include "base/compiler.h"
#include "poll/poll.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* BOTH(name) { ... uses p ... } makes the tests name_epoll and name_uring. */
#define BOTH(name)                                                                                 \
    static void both_##name(struct fibril__poller *p);                                             \
    TEST(name##_epoll)                                                                             \
    {                                                                                              \
        rig_run("epoll", both_##name);                                                             \
    }                                                                                              \
    TEST(name##_uring)                                                                             \
    {                                                                                              \
        rig_run("uring", both_##name);                                                             \
    }                                                                                              \
    static void both_##name(struct fibril__poller *p)

struct waiter {
    struct fibril__op op;
    int at_once; /* what start() returned */
    int calls;   /* of done */
    int order;   /* of the last call among all */
};

static int rig_order;

static void rig_done(struct fibril__op *op)
{
    struct waiter *w = CONTAINER_OF(op, struct waiter, op);
    w->calls++;
    w->order = ++rig_order;
}

static inline void rig_run(const char *name, void (*body)(struct fibril__poller *p))
{
    struct fibril__poller *p = NULL;
    int rc = fibril__poll_open(name, NULL, &p);
    if (rc == -ENOSYS || rc == -EPERM || rc == -ENOMEM || (rc == -EINVAL && name[0] == 'u')) {
        SKIP("the kernel refuses io_uring");
    }
    ASSERT_OK(rc);
    body(p);
    ASSERT_EQ(p->pending, 0);
    p->ops->close(p);
}

static inline int rig_start(struct fibril__poller *p, struct waiter *w)
{
    w->op.done = rig_done;
    w->calls = 0;
    w->order = 0;
    w->at_once = p->ops->start(p, &w->op);
    return w->at_once;
}

static inline bool rig_over(const struct waiter *w)
{
    return w->at_once || w->calls;
}

/* Waits until w is over; done must then have been called once, or never if start() had the answer.
 */
static inline int64_t rig_finish(struct fibril__poller *p, struct waiter *w)
{
    int64_t limit = p->ops->now(p) + INT64_C(20000000000);
    while (!rig_over(w) && p->ops->now(p) < limit) {
        p->ops->wait(p, limit);
    }
    ASSERT(rig_over(w));
    ASSERT_EQ(w->at_once + w->calls, 1);
    return w->op.result;
}

/* Gives the kernel what was started, and lets what is over be over, without waiting for more. */
static inline void rig_look(struct fibril__poller *p)
{
    for (int i = 0; i < 3; i++) {
        p->ops->wait(p, 0);
    }
}

#define OP(kind_, fd_, ...)                                                                        \
    ((struct waiter){.op = {.kind = FIBRIL__OP_##kind_, .fd = (fd_), __VA_ARGS__}})
#define START(w, kind, fd, ...)                                                                    \
    do {                                                                                           \
        *(w) = OP(kind, fd, __VA_ARGS__);                                                          \
        rig_start(p, (w));                                                                         \
    } while (0)

/* Forgets the descriptor and closes it. */
static inline void rig_close(struct fibril__poller *p, int fd)
{
    struct waiter w;
    START(&w, FORGET, fd, .buf = NULL);
    ASSERT_EQ(rig_finish(p, &w), 0);
    ASSERT_EQ(close(fd), 0);
}

static inline void rig_pair(int ret_fds[2])
{
    ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds));
}

/* A connected TCP pair over loopback, both ends non-blocking. */
void rig_tcp(int ret_fds[2]);
/* A listening TCP socket on 127.0.0.1; the address is stored. */
int rig_listener(struct sockaddr_storage *ret_addr, socklen_t *ret_len);

#endif
