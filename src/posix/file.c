/* SPDX-License-Identifier: MIT */
/*
 * Files: syncing through the core, and locks. A lock is asked for without a wait, again and again
 * with growing pauses: nothing announces that one is free, and threads of the pool that wait for
 * locks would be missing when their holder needs one to let go.
 */
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <stdarg.h>

/* ---- syncing --------------------------------------------------------------------------------- */

int fibril_posix_fsync(int fd)
{
    if (!fibril__on_loop()) {
        return fsync(fd);
    }
    int saved = errno;
    return (int)fibril__posix_result(fibril_fsync(fd, FIBRIL_FOREVER), saved);
}

int fibril_posix_fdatasync(int fd)
{
    if (!fibril__on_loop()) {
        return fdatasync(fd);
    }
    int saved = errno;
    return (int)fibril__posix_result(fibril_fdatasync(fd, FIBRIL_FOREVER), saved);
}

/* ---- locks ----------------------------------------------------------------------------------- */

enum { NAP_FIRST_NS = 50000, NAP_MOST_NS = 20000000 };

int fibril__nap(int64_t *nap_ns)
{
    int64_t twice_ns = *nap_ns * 2 < NAP_MOST_NS ? *nap_ns * 2 : NAP_MOST_NS;
    *nap_ns = *nap_ns ? twice_ns : NAP_FIRST_NS;
    int rc = fibril_sleep(*nap_ns);
    return rc == 0 || fibril__fd_again(rc, FIBRIL_FOREVER) ? 0 : rc;
}

/* A lock to be taken: the call that tries. */
struct locking {
    int fd, command;
    void *arg; /* struct flock */
    off_t len;
    int (*try)(const struct locking *l);
};

static bool is_held(int error)
{
    return error == EAGAIN || error == EACCES;
}

static int lock_patiently(const struct locking *l)
{
    int saved = errno, rc, nap_rc = 0;
    int64_t nap_ns = 0;
    do {
        rc = l->try(l) < 0 ? -errno : 0;
    } while (rc < 0 && is_held(-rc) && (nap_rc = fibril__nap(&nap_ns)) == 0);
    return (int)fibril__posix_result(nap_rc < 0 ? nap_rc : rc, saved);
}

static int try_flock(const struct locking *l)
{
    return flock(l->fd, l->command | LOCK_NB);
}

int fibril_posix_flock(int fd, int operation)
{
    if (!fibril__on_loop() || (operation & (LOCK_NB | LOCK_UN))) {
        return flock(fd, operation);
    }
    return lock_patiently(&(struct locking){.fd = fd, .command = operation, .try = try_flock});
}

static int try_lockf(const struct locking *l)
{
    return lockf(l->fd, F_TLOCK, l->len);
}

int fibril_posix_lockf(int fd, int command, off_t len)
{
    if (!fibril__on_loop() || command != F_LOCK) {
        return lockf(fd, command, len);
    }
    return lock_patiently(&(struct locking){.fd = fd, .len = len, .try = try_lockf});
}

static int try_fcntl(const struct locking *l)
{
    return fcntl(l->fd, l->command, l->arg);
}

/* Whatever the argument is, it comes in one register. */
int fibril_posix_fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (!fibril__on_loop()) {
        return fcntl(fd, command, arg);
    }
    struct locking l = {.fd = fd, .arg = arg, .try = try_fcntl};
    switch (command) {
    case F_SETLKW: l.command = F_SETLK; return lock_patiently(&l);
    case F_OFD_SETLKW: l.command = F_OFD_SETLK; return lock_patiently(&l);
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: return fibril__fd_born(fcntl(fd, command, arg));
    default: return fcntl(fd, command, arg);
    }
}

const struct fibril__call fibril__calls_file[] = {
    FIBRIL__CALL(open),
    FIBRIL__CALL_AS(open64, open),
    FIBRIL__CALL_AS(__open, open),
    FIBRIL__CALL_AS(__open64, open),
    FIBRIL__CALL(__open_2),
    FIBRIL__CALL_AS(__open64_2, __open_2),
    FIBRIL__CALL(openat),
    FIBRIL__CALL_AS(openat64, openat),
    FIBRIL__CALL(__openat_2),
    FIBRIL__CALL_AS(__openat64_2, __openat_2),
    FIBRIL__CALL(creat),
    FIBRIL__CALL_AS(creat64, creat),
    FIBRIL__CALL(fsync),
    FIBRIL__CALL(fdatasync),
    FIBRIL__CALL(flock),
    FIBRIL__CALL(fcntl),
    FIBRIL__CALL_AS(fcntl64, fcntl),
    FIBRIL__CALL_AS(__fcntl, fcntl),
    FIBRIL__CALL(lockf),
    FIBRIL__CALL_AS(lockf64, lockf),
    {NULL, NULL, false, NULL},
};
