/* SPDX-License-Identifier: MIT */
/* See descriptor.h. */
#include "posix/descriptor.h"

#include <fcntl.h>
#include <fibril/io.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>

_Atomic uint8_t fibril__guesses[FIBRIL__GUESSES];

/* ---- what it is ------------------------------------------------------------------------------ */

/* Whether reads and writes of the file never wait for a disk or a server. */
static bool is_in_memory(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) {
        return false;
    }
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case CGROUP2_SUPER_MAGIC: return true;
    default: return false;
    }
}

static enum fibril__guess look_at_file(int fd, bool nowait)
{
    if (!nowait && is_in_memory(fd)) {
        return FIBRIL__GUESS_PLAIN;
    }
    int flags = fcntl(fd, F_GETFL);
    bool syncs = flags >= 0 && (flags & (O_DSYNC | O_DIRECT));
    return syncs ? FIBRIL__GUESS_SYNC : FIBRIL__GUESS_FILE;
}

static enum fibril__guess look(int fd, bool nowait)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return FIBRIL__GUESS_NONE;
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFSOCK: return FIBRIL__GUESS_SOCKET;
    case S_IFREG: return look_at_file(fd, nowait);
    case S_IFBLK: return FIBRIL__GUESS_SYNC;
    case S_IFIFO: return nowait ? FIBRIL__GUESS_NOWAIT : FIBRIL__GUESS_PIPE;
    case S_IFCHR: return nowait ? FIBRIL__GUESS_NOWAIT : FIBRIL__GUESS_DEVICE;
    default: return nowait ? FIBRIL__GUESS_NOWAIT : FIBRIL__GUESS_PLAIN;
    }
}

enum fibril__guess fibril__fd_look(int fd, bool nowait)
{
    enum fibril__guess guess = look(fd, nowait);
    if ((unsigned)fd < FIBRIL__GUESSES) {
        atomic_store_explicit(&fibril__guesses[fd], (uint8_t)guess, memory_order_relaxed);
    }
    return guess;
}

int fibril__fd_born(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        fibril__fd_unguess(fd);
        fibril_embed_forget(fd);
        errno = saved;
    }
    return fd;
}

/* ---- whether and how long it blocks ---------------------------------------------------------- */

bool fibril__fd_blocks(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_NONBLOCK);
}

static _Atomic bool timeouts;

void fibril__fd_timeouts_exist(void)
{
    atomic_store_explicit(&timeouts, true, memory_order_relaxed);
}

int64_t fibril__fd_deadline(int fd, int option)
{
    if (LIKELY(!atomic_load_explicit(&timeouts, memory_order_relaxed))) {
        return FIBRIL_FOREVER;
    }
    struct timeval t = {0, 0};
    socklen_t len = sizeof(t);
    if (getsockopt(fd, SOL_SOCKET, option, &t, &len) != 0 || (t.tv_sec == 0 && t.tv_usec == 0)) {
        return FIBRIL_FOREVER;
    }
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t.tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)t.tv_usec * 1000, &ns)) {
        return FIBRIL_FOREVER;
    }
    return fibril_after(ns);
}

int fibril__fd_await(int fd, short events, int64_t deadline_ns)
{
    int rc;
    do {
        rc = fibril_fd_wait(fd, events, deadline_ns);
    } while (fibril__fd_again(rc, deadline_ns));
    return rc < 0 ? rc : 0;
}

int fibril__fd_await_socket(int fd, short events, int64_t deadline_ns)
{
    int rc = fibril__fd_await(fd, events, deadline_ns);
    return rc == -ETIMEDOUT ? -EAGAIN : rc;
}
