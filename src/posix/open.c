/* SPDX-License-Identifier: MIT */
/*
 * Opening files. Only the open of a FIFO waits for somebody else, and without O_NONBLOCK; a stat(2)
 * tells it from the others, and only where the flags leave it open: 0.4 us on a cached path, where
 * open(2) and close(2) take 0.7. A FIFO is opened with O_NONBLOCK, as often as it takes for a
 * writer and once for a reader, who then looks for a writer; with growing pauses, as nothing
 * announces the other end.
 *
 * Rejected: the very call, on a thread of the pool. It could not be cancelled, and when all threads
 * wait for readers, none is left to open one.
 */
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/stat.h>

/* ---- FIFOs ----------------------------------------------------------------------------------- */

/* Whether flags and path say that the open may have to wait. */
static bool may_wait(int dirfd, const char *path, int flags)
{
    bool exclusive = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
    if ((flags & (O_NONBLOCK | O_PATH | O_DIRECTORY)) || exclusive ||
        (flags & O_ACCMODE) == O_RDWR) {
        return false; /* a FIFO opened both ways has its partner */
    }
    struct stat st;
    return fstatat(dirfd, path, &st, (flags & O_NOFOLLOW) ? AT_SYMLINK_NOFOLLOW : 0) == 0 &&
           S_ISFIFO(st.st_mode);
}

/* As a reader that waits in open(2), fd counts as one for writers already; what is left is to see
 * one come. A FIFO without writers is at its end, an empty one with writers is not, and tee(2) says
 * which without taking anything. A writer that has come and gone leaves a hang-up. */
static bool has_had_writer(int fd, int scratch)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 0) > 0) {
        return true;
    }
    ssize_t n = tee(fd, scratch, 1, SPLICE_F_NONBLOCK);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static int wait_for_writer(int fd)
{
    int scratch[2], rc = 0;
    int64_t nap_ns = 0;
    if (pipe2(scratch, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    while (rc == 0 && !has_had_writer(fd, scratch[1])) {
        rc = fibril__nap(&nap_ns);
    }
    close(scratch[0]);
    close(scratch[1]);
    return rc;
}

/* A writer is let in when there is a reader, be it one that waits in open(2) itself. */
static int open_beside_reader(int dirfd, const char *path, int flags, mode_t mode)
{
    int64_t nap_ns = 0;
    for (;;) {
        int fd = openat(dirfd, path, flags | O_NONBLOCK, mode);
        if (fd >= 0 || errno != ENXIO || !may_wait(dirfd, path, flags)) {
            return fd < 0 ? -errno : fd;
        }
        int rc = fibril__nap(&nap_ns);
        if (rc < 0) {
            return rc;
        }
    }
}

static int open_beside_writer(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd = openat(dirfd, path, flags | O_NONBLOCK, mode);
    int rc = fd < 0 ? -errno : wait_for_writer(fd);
    if (fd >= 0 && rc < 0) {
        close(fd);
    }
    return rc < 0 ? rc : fd;
}

static int open_fifo(int dirfd, const char *path, int flags, mode_t mode)
{
    bool writes = (flags & O_ACCMODE) == O_WRONLY;
    int fd = writes ? open_beside_reader(dirfd, path, flags, mode)
                    : open_beside_writer(dirfd, path, flags, mode);
    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    }
    return fd;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
    if (!fibril__on_loop()) {
        return openat(dirfd, path, flags, mode);
    }
    int saved = errno;
    if (UNLIKELY(may_wait(dirfd, path, flags))) {
        int rc = open_fifo(dirfd, path, flags, mode);
        return (int)fibril__posix_result(rc < 0 ? rc : fibril__fd_born(rc), saved);
    }
    errno = saved;
    int fd = fibril__fd_born(openat(dirfd, path, flags, mode));
    int64_t rc = fd < 0 ? -errno : fd;
    fibril_embed_spend();
    return (int)fibril__posix_result(rc, saved);
}

static bool has_mode(int flags)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

int fibril_posix_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = has_mode(flags) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_at(AT_FDCWD, path, flags, mode);
}

int fibril_posix_openat(int dirfd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = has_mode(flags) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_at(dirfd, path, flags, mode);
}

int fibril_posix_creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What the compiler makes of an open without a mode; one that needs a mode is an error. */
int fibril_posix___open_2(const char *path, int flags)
{
    return fibril_posix___openat_2(AT_FDCWD, path, flags);
}

int fibril_posix___openat_2(int dirfd, const char *path, int flags)
{
    if (has_mode(flags)) {
        __chk_fail();
    }
    return open_at(dirfd, path, flags, 0);
}
