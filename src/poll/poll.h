/* SPDX-License-Identifier: MIT */
/*
 * Pollers: where a loop waits for the kernel (or for the simulation). Completion-shaped: an
 * operation is started, and later over; epoll gets there by retrying the call when the descriptor
 * is ready. One table of functions per poller, chosen when the loop starts; each poller is a file
 * of its own.
 *
 * A poller belongs to one loop and is used from its OS thread only, except wake(). It knows nothing
 * of fibrils: when an operation is over it calls op->done. Nothing here parks.
 */
#ifndef FIBRIL_POLL_POLL_H
#define FIBRIL_POLL_POLL_H

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum fibril__op_kind {
    FIBRIL__OP_POLL,  /* fd, events, flags = FIBRIL__POLL_TRUSTS or 0: until ready; result = poll(2)
                         revents, a hint like any */
    FIBRIL__OP_READ,  /* fd, buf, len: a pipe, terminal or other pollable non-socket */
    FIBRIL__OP_WRITE, /* fd, buf, len */
    FIBRIL__OP_READV, /* fd, buf = iovec array, len = count: any pollable descriptor */
    FIBRIL__OP_WRITEV,
    FIBRIL__OP_RECV,    /* fd, buf, len, flags */
    FIBRIL__OP_SEND,    /* fd, buf, len, flags; never raises SIGPIPE */
    FIBRIL__OP_RECVMSG, /* fd, buf = struct msghdr, flags */
    FIBRIL__OP_SENDMSG,
    FIBRIL__OP_ACCEPT,  /* fd, buf = struct sockaddr or NULL, addr_len in/out; result = new
                           descriptor, close-on-exec and  non-blocking */
    FIBRIL__OP_CONNECT, /* fd, buf = struct sockaddr, len */
    /* Regular files: only where files_by_ring is set, -EOPNOTSUPP elsewhere. */
    FIBRIL__OP_PREAD, /* fd, buf, len, offset */
    FIBRIL__OP_PWRITE,
    FIBRIL__OP_FSYNC,   /* fd, flags = IORING_FSYNC_DATASYNC or 0 */
    FIBRIL__OP_OPENAT2, /* fd = dirfd, buf = path, len = (uintptr_t) struct open_how */
    /* Ends every operation on fd with -EBADF and forgets fd; over when none is left. Not
       cancellable. */
    FIBRIL__OP_FORGET,
};

/* That the last receive was short is proof enough that nothing is left, urgent data or not. */
enum { FIBRIL__POLL_TRUSTS = 1 };

/* One operation. The caller owns it; it and what it points to must stay where they are until it is
 * over, so it never lies on a copied stack. */
struct fibril__op {
    void (*done)(struct fibril__op *op); /* called once, from wait(); must not park; may start
                                            others */
    struct fibril__link link;            /* the poller's */
    int64_t result;                      /* >= 0 or -errno, set when over */
    int fd;
    uint8_t kind;         /* enum fibril__op_kind */
    uint8_t poller_state; /* the poller's */
    short events;
    int flags;
    socklen_t addr_len;
    void *buf;
    size_t len;
    int64_t offset;
};

struct fibril__poller;

/* How sim differs from the kernel in making descriptors; NULL in a poller means the kernel's own
 * calls. All return -errno. Simulated descriptors are numbers that the kernel never gives out (from
 * 1 << 28 on). */
struct fibril__sys {
    int (*socket)(struct fibril__poller *p, int domain, int type);
    int (*bind)(struct fibril__poller *p, int fd, const struct sockaddr *addr, socklen_t len);
    int (*listen)(struct fibril__poller *p, int fd, int backlog);
    int (*pipe)(struct fibril__poller *p, int fds[2]);
    int (*shutdown)(struct fibril__poller *p, int fd, int how);
    int (*getname)(struct fibril__poller *p, int fd, int peer, struct sockaddr *addr,
                   socklen_t *len);
    int (*close)(struct fibril__poller *p, int fd); /* after FIBRIL__OP_FORGET */
};

struct fibril__poll_opts {
    uint64_t seed; /* sim */
};

struct fibril__poll_ops {
    const char *name;

    /* Makes a poller. -ENOSYS, -EPERM and their kin: the kernel refuses (auto then falls back). */
    int (*open)(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller);
    void (*close)(struct fibril__poller *p);

    /* Frees p in the child of a fork: without a word to the kernel objects that the parent goes on
     * with. */
    void (*abandon)(struct fibril__poller *p);

    /* Starts op. Returns 1 if it was over at once (result is set, done will not be called), 0 if
     * done will be called. Any failure is a result: this call itself cannot fail. */
    int (*start)(struct fibril__poller *p, struct fibril__op *op);

    /* Makes op's system call once, without waiting and before those that wait, and learns from it.
     * Returns what it came to, -EAGAIN if it would block. op is none of CONNECT, FORGET and those
     * on files. NULL in sim. */
    int64_t (*attempt)(struct fibril__poller *p, struct fibril__op *op);

    /* Ends op early. Returns 1 if it is over now (result is -ECANCELED, done will not be called), 0
     * if done will be called, with -ECANCELED or with what happened first. */
    int (*cancel)(struct fibril__poller *p, struct fibril__op *op);

    /* Hands started operations to the kernel and calls done for those that are over; if none is,
     * waits for one, for wake() or for the deadline (<= now: do not wait; INT64_MAX: for ever).
     * Returns how many were over. */
    int (*wait)(struct fibril__poller *p, int64_t deadline_ns);

    /* Makes the present or the next wait() return. Any thread, async-signal-safe. */
    void (*wake)(struct fibril__poller *p);

    /* The poller's clock: CLOCK_MONOTONIC or virtual time. */
    int64_t (*now)(struct fibril__poller *p);
};

/* Every poller starts with this. */
struct fibril__poller {
    const struct fibril__poll_ops *ops;
    const struct fibril__sys *sys;
    uint64_t pending; /* operations started and not over */
    uint32_t owed;    /* the loop's: wakes that other OS threads are sure to send (offloaded calls);
                         with virtual    time, none passes while one is owed */
    uint8_t virtual_time; /* its clock moves only in wait(), which must be called now and then */
    uint8_t own_count;    /* descriptors that it lives on: */
    int own[2];
    uint8_t files_by_ring; /* takes PREAD, PWRITE, FSYNC and OPENAT2 */
};

extern const struct fibril__poll_ops fibril__poll_uring, fibril__poll_epoll, fibril__poll_sim;

/* Opens the poller with that name: "uring", "epoll", "sim", or "auto" for the first of uring and
 * epoll that the kernel grants. -EINVAL for any other name. */
int fibril__poll_open(const char *name, const struct fibril__poll_opts *opts,
                      struct fibril__poller **ret_poller);

#endif
