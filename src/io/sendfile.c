/* SPDX-License-Identifier: MIT */
/*
 * From a file to a socket or pipe. sendfile(2) moves pages without copying, but blocks for the
 * disk, so it is used only for what the page cache holds; the rest is read as any file is (ring or
 * pool) and sent from a buffer, after which the cache holds what follows thanks to the kernel's
 * read-ahead. A blocking out_fd, and the simulation, always take the second way.
 */
#include <fibril/io.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/op.h"
#include "io/sys.h"
#include "sched/users.h"

#include <poll.h>
#include <sys/sendfile.h>

enum { PIECE = 64 * 1024, DIRECT = 256 * 1024 };

/* Whether the first and the last byte of the piece are in the page cache: a guess, but it costs
 * only time when wrong. */
static bool is_cached(int fd, off_t offset, size_t len)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    return preadv2(fd, &iov, 1, offset, RWF_NOWAIT) >= 0 &&
           preadv2(fd, &iov, 1, offset + (off_t)len - 1, RWF_NOWAIT) >= 0;
}

static ssize_t send_copied(int out_fd, int in_fd, off_t *offset, size_t len, int64_t deadline_ns)
{
    size_t bytes = len < PIECE ? len : PIECE;
    char *piece = fibril__alloc(bytes);
    if (!piece) {
        return -ENOMEM;
    }
    ssize_t n = fibril__file_read(in_fd, piece, bytes, *offset, deadline_ns);
    if (n > 0) {
        n = fibril_write(out_fd, piece, (size_t)n, deadline_ns);
    }
    if (n > 0) {
        *offset += n;
    }
    fibril__free(piece);
    return n;
}

static ssize_t send_direct(int out_fd, int in_fd, off_t *offset, size_t len, int64_t deadline_ns)
{
    for (;;) {
        off_t at = *offset;
        ssize_t n = sendfile(out_fd, in_fd, &at, len < DIRECT ? len : DIRECT);
        if (n >= 0) {
            *offset = at;
            fibril__spend();
            return n;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EAGAIN) {
            return -errno;
        }
        int64_t events = fibril__io_ready(out_fd, POLLOUT, deadline_ns);
        if (events < 0) {
            return events;
        }
    }
}

ssize_t fibril_sendfile(int out_fd, int in_fd, off_t *offset, size_t len, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (*offset < 0) {
        return -EINVAL;
    }
    if (len == 0) {
        return 0;
    }
    int rc = fibril__users_enter(in_fd);
    rc = rc < 0 ? rc : fibril__users_enter(out_fd);
    if (rc < 0) {
        return rc;
    }
    bool direct = !fibril__sys_simulated() && fibril__sys_is_nonblocking(out_fd);
    if (direct && is_cached(in_fd, *offset, len < DIRECT ? len : DIRECT)) {
        fibril__sys_guard_pipes(); /* sendfile(2) has no flag against SIGPIPE, even to a socket */
        ssize_t n = send_direct(out_fd, in_fd, offset, len, deadline_ns);
        if (n != -EINVAL && n != -ENOSYS) {
            return n;
        }
    }
    return send_copied(out_fd, in_fd, offset, len, deadline_ns);
}
