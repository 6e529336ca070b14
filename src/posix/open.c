/* SPDX-License-Identifier: MIT */
/*
 * Opening files. Only the open of a FIFO waits for somebody else, and without O_NONBLOCK; a stat(2)
 * tells it from the others, and only where the flags leave it open: 0.4 us on a cached path, where
 * open(2) and close(2) take 0.7. A FIFO is opened by a thread of the pool, by the very call.
 *
 * Rejected: to open with O_NONBLOCK and look then. A FIFO would have a reader for a moment, which
 * lets its writers go on; and it costs two calls more, not one.
 */
#include "base/alloc.h"
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <stdarg.h>
#include <string.h>
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

struct opening {
    int dirfd, flags;
    mode_t mode;
    char path[];
};

static int open_really(void *arg)
{
    struct opening *o = arg;
    int fd = openat(o->dirfd, o->path, o->flags, o->mode);
    return fd < 0 ? -errno : fd;
}

static int open_in_pool(int dirfd, const char *path, int flags, mode_t mode)
{
    size_t bytes = strlen(path) + 1;
    struct opening *o = fibril__alloc(sizeof(*o) + bytes);
    if (!o) {
        return -ENOMEM;
    }
    o->dirfd = dirfd;
    o->flags = flags;
    o->mode = mode;
    memcpy(o->path, path, bytes);
    int rc = fibril_offload(open_really, o, FIBRIL_FOREVER);
    fibril__free(o);
    return rc;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
    if (!fibril__on_loop()) {
        return openat(dirfd, path, flags, mode);
    }
    int saved = errno;
    if (UNLIKELY(may_wait(dirfd, path, flags))) {
        int rc = open_in_pool(dirfd, path, flags, mode);
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
