/* SPDX-License-Identifier: MIT */
/*
 * Files, which are always "ready" and still block: by the ring where the poller takes them, else by
 * the offload pool. What the page cache or the directory cache holds is taken at once (RWF_NOWAIT,
 * RESOLVE_CACHED) before the pool is troubled: a hand-over costs about 10 us, a cached read less
 * than one.
 *
 * A call whose deadline passes while the kernel or the pool is at it is waited for: what it reads
 * into is ours again only then. While the pool is at a descriptor fibril_close waits too, so that
 * the number cannot become another file's in the thread's hands.
 */
#include "io/file.h"

#include "base/alloc.h"
#include "io/op.h"
#include "io/pool.h"
#include "io/sys.h"
#include "sched/users.h"

#include <fcntl.h>
#include <fibril/io.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECE = 1 << 20 }; /* the most that a copied stack's call moves at a time */

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

/* ---- the calls themselves, on whatever thread ------------------------------------------------ */

static int open_now(int dirfd, const char *path, struct open_how *how)
{
    long fd = syscall(SYS_openat2, dirfd, path, how, sizeof(*how));
    if (fd < 0 && errno == ENOSYS && how->resolve == 0) {
        fd = openat(dirfd, path, (int)how->flags, (mode_t)how->mode);
    }
    return fd < 0 ? -errno : (int)fd;
}

static ssize_t perform_once(struct fibril__op *op)
{
    bool at_position = op->offset == FIBRIL__FILE_POSITION;
    switch (op->kind) {
    case FIBRIL__OP_PREAD:
        return at_position ? read(op->fd, op->buf, op->len)
                           : pread(op->fd, op->buf, op->len, op->offset);
    case FIBRIL__OP_PWRITE:
        return at_position ? write(op->fd, op->buf, op->len)
                           : pwrite(op->fd, op->buf, op->len, op->offset);
    case FIBRIL__OP_FSYNC:
        return op->flags & IORING_FSYNC_DATASYNC ? fdatasync(op->fd) : fsync(op->fd);
    default: errno = EOPNOTSUPP; return -1;
    }
}

static int perform(void *arg)
{
    struct fibril__op *op = arg;
    if (op->kind == FIBRIL__OP_OPENAT2) {
        return open_now(op->fd, op->buf, (struct open_how *)(uintptr_t)op->len);
    }
    ssize_t n;
    do {
        n = perform_once(op);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (int)n;
}

/* ---- the way there --------------------------------------------------------------------------- */

/* io and what it points to are not on a copied stack. */
static int64_t submit(struct fibril__io *io, int64_t deadline_ns)
{
    struct fibril__poller *p = fibril__loop->poller;
    if (p->files_by_ring) {
        return fibril__io_wait(io, deadline_ns);
    }
    if (p->sys) {
        return perform(&io->op);
    }
    return fibril__pool_call(perform, &io->op, io->op.fd, deadline_ns);
}

struct copied {
    struct fibril__io io;
    struct open_how how;
    char data[];
};

/* Through the heap; a path goes with its terminating zero. */
static int64_t submit_copied(const struct fibril__io *io, int64_t deadline_ns)
{
    bool opens = io->op.kind == FIBRIL__OP_OPENAT2;
    size_t bytes = opens ? strlen(io->op.buf) + 1 : io->op.len < PIECE ? io->op.len : PIECE;
    struct copied *c = fibril__alloc(sizeof(*c) + bytes);
    if (!c) {
        return -ENOMEM;
    }
    c->io = *io;
    c->io.op.buf = c->data;
    if (opens) {
        c->how = *(const struct open_how *)(uintptr_t)io->op.len;
        c->io.op.len = (uintptr_t)&c->how;
    } else {
        c->io.op.len = bytes;
    }
    if (opens || io->op.kind == FIBRIL__OP_PWRITE) {
        memcpy(c->data, io->op.buf, bytes);
    }
    int64_t result = submit(&c->io, deadline_ns);
    if (result > 0 && io->op.kind == FIBRIL__OP_PREAD) {
        memcpy(io->op.buf, c->data, (size_t)result);
    }
    fibril__free(c);
    return result;
}

static int64_t run(struct fibril__io *io, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    int rc = io->op.kind == FIBRIL__OP_OPENAT2 ? 0 : fibril__users_enter(io->op.fd);
    if (rc < 0) {
        return rc;
    }
    return fibril__stack_stays() ? submit(io, deadline_ns) : submit_copied(io, deadline_ns);
}

/* ---- reading and writing --------------------------------------------------------------------- */

static size_t capped(size_t len)
{
    return len < 0x7ffff000 ? len : 0x7ffff000;
}

/* What the page cache has; -1 if that cannot be told. */
static ssize_t read_cached(int fd, void *buf, size_t len, int64_t offset)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    return preadv2(fd, &iov, 1, offset, RWF_NOWAIT);
}

ssize_t fibril__file_read(int fd, void *buf, size_t len, int64_t offset, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    len = capped(len);
    size_t had = 0;
    if (!fibril__loop->poller->files_by_ring || deadline_ns <= fibril__loop->now_ns) {
        ssize_t n = read_cached(fd, buf, len, offset);
        if (n == 0 || (size_t)n == len) {
            fibril__spend();
            return n;
        }
        had = n > 0 ? (size_t)n : 0;
    }
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_PREAD,
                                   .fd = fd,
                                   .buf = (char *)buf + had,
                                   .len = len - had,
                                   .offset = offset < 0 ? offset : offset + (int64_t)had}};
    int64_t n = run(&io, deadline_ns);
    return n >= 0 ? n + (ssize_t)had : had ? (ssize_t)had : n;
}

ssize_t fibril__file_write(int fd, const void *buf, size_t len, int64_t offset, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_PWRITE,
                                   .fd = fd,
                                   .buf = (void *)(uintptr_t)buf, /* only read */
                                   .len = capped(len),
                                   .offset = offset}};
    return run(&io, deadline_ns);
}

ssize_t fibril_pread(int fd, void *buf, size_t len, off_t offset, int64_t deadline_ns)
{
    return offset < 0 ? -EINVAL : fibril__file_read(fd, buf, len, offset, deadline_ns);
}

ssize_t fibril_pwrite(int fd, const void *buf, size_t len, off_t offset, int64_t deadline_ns)
{
    return offset < 0 ? -EINVAL : fibril__file_write(fd, buf, len, offset, deadline_ns);
}

int fibril_fsync(int fd, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_FSYNC, .fd = fd}};
    return (int)run(&io, deadline_ns);
}

int fibril_fdatasync(int fd, int64_t deadline_ns)
{
    struct fibril__io io = {
        .op = {.kind = FIBRIL__OP_FSYNC, .fd = fd, .flags = IORING_FSYNC_DATASYNC}};
    return (int)run(&io, deadline_ns);
}

int fibril_fstat(int fd, struct stat *ret_stat)
{
    return fstat(fd, ret_stat) == 0 ? 0 : -errno;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* openat2 refuses what openat ignores. */
static struct open_how how_of(int flags, mode_t mode, uint64_t resolve)
{
    bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    return (struct open_how){
        .flags = (uint64_t)(unsigned)flags, .mode = makes ? mode & 07777 : 0, .resolve = resolve};
}

static int open_by(int dirfd, const char *path, struct open_how *how, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (!fibril__loop->poller->files_by_ring) {
        struct open_how cached = *how;
        cached.resolve |= RESOLVE_CACHED;
        int fd = open_now(dirfd, path, &cached);
        if (fd >= 0) {
            fibril__spend();
            return fd;
        }
    }
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_OPENAT2,
                                   .fd = dirfd,
                                   .buf = (void *)(uintptr_t)path, /* only read */
                                   .len = (uintptr_t)how}};
    return (int)run(&io, deadline_ns);
}

int fibril_open(const char *path, int flags, mode_t mode, int64_t deadline_ns)
{
    struct open_how how = how_of(flags, mode, 0);
    return open_by(AT_FDCWD, path, &how, deadline_ns);
}

int fibril_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int64_t deadline_ns)
{
    struct open_how how = how_of(flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    return open_by(dirfd, path, &how, deadline_ns);
}
