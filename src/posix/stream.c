/* SPDX-License-Identifier: MIT */
/*
 * read and write on any descriptor: an attempt, and where that would block a wait. A blocking write
 * goes on until everything is written, as the kernel's does; a read returns what there is, except
 * that one of a file goes on to its end.
 *
 * Files: what the page cache has is read at once, the rest through the core (ring or pool). Writes
 * go to the page cache directly unless they are large or each of them is to reach the disk: to hand
 * every line of a log to the pool would cost ten times as much as writing it.
 */
#include "base/alloc.h"
#include "posix/attempt.h"
#include "posix/io_calls.h"

#include <fibril/io.h>

enum {
    WRITE_DIRECT = 256 * 1024, /* a file's write of this size is left to the page cache */
    PIECES_ON_STACK = 16,
};

/* ---- reading --------------------------------------------------------------------------------- */

/* Goes on with a file after `done` bytes: 0 means its end. */
static int64_t read_file(int fd, const struct fibril__vector *v, int64_t done)
{
    struct iovec room[PIECES_ON_STACK];
    if (v->n > PIECES_ON_STACK && done > 0) {
        return done; /* a short count is allowed */
    }
    while (done < (int64_t)v->bytes) {
        struct fibril__vector rest =
            v->n <= PIECES_ON_STACK ? fibril__vector_rest(v, (size_t)done, room) : *v;
        ssize_t n = preadv2(fd, rest.iov, rest.n, /* offset= */ -1, RWF_NOWAIT);
        if (n < 0) {
            n = fibril_readv(fd, rest.iov, rest.n, FIBRIL_FOREVER);
        }
        if (n <= 0 || v->n > PIECES_ON_STACK) {
            return done > 0 ? done : n;
        }
        done += n;
    }
    return done;
}

/* A socket has nothing: its timeout counts, and the core receives when something comes. */
static int64_t read_socket(int fd, const struct fibril__vector *v)
{
    int64_t deadline_ns = fibril__fd_deadline(fd, SO_RCVTIMEO), n;
    do {
        n = v->n == 1 ? fibril_read(fd, v->iov->iov_base, v->iov->iov_len, deadline_ns)
                      : fibril_readv(fd, v->iov, v->n, deadline_ns);
    } while (fibril__fd_again(n, deadline_ns));
    return n == -ETIMEDOUT && fibril_now() >= deadline_ns ? -EAGAIN : n;
}

static NOINLINE int64_t read_waiting(int fd, const struct fibril__vector *v,
                                     enum fibril__guess guess)
{
    if (fibril__guess_is_file(guess)) {
        return read_file(fd, v, 0);
    }
    if (!fibril__fd_blocks(fd)) {
        fibril_embed_spend();
        return -EAGAIN;
    }
    if (guess == FIBRIL__GUESS_SOCKET) {
        return read_socket(fd, v);
    }
    for (;;) {
        int rc = fibril__fd_await(fd, POLLIN, FIBRIL_FOREVER);
        if (rc < 0) {
            return rc;
        }
        int64_t n = fibril__attempt_read(fd, v, &guess);
        if (n != -EAGAIN) {
            return n;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

static ALWAYS_INLINE int64_t read_vector(int fd, const struct fibril__vector *v)
{
    enum fibril__guess guess;
    int64_t n = fibril__attempt_read(fd, v, &guess);
    if (UNLIKELY(n == -EAGAIN)) {
        return read_waiting(fd, v, guess);
    }
    if (n > 0 && fibril__guess_is_file(guess)) {
        n = read_file(fd, v, n);
    }
    fibril_embed_spend();
    return n;
}

ssize_t fibril_posix_read(int fd, void *buf, size_t len)
{
    if (!fibril__on_loop() || UNLIKELY(len == 0)) {
        return read(fd, buf, len);
    }
    int saved = errno;
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct fibril__vector v = {.iov = &iov, .n = 1, .bytes = len};
    return fibril__posix_result(read_vector(fd, &v), saved);
}

ssize_t fibril_posix_readv(int fd, const struct iovec *iov, int n)
{
    struct fibril__vector v;
    if (!fibril__on_loop() || fibril__vector_of(iov, n, &v) < 0 || v.bytes == 0) {
        return readv(fd, iov, n);
    }
    int saved = errno;
    return fibril__posix_result(read_vector(fd, &v), saved);
}

ssize_t fibril_posix___read_chk(int fd, void *buf, size_t len, size_t room)
{
    if (len > room) {
        __chk_fail();
    }
    return fibril_posix_read(fd, buf, len);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* To a file that has been looked at. */
static int64_t write_file(int fd, const struct fibril__vector *v, enum fibril__guess guess)
{
    if (guess == FIBRIL__GUESS_FILE && v->bytes <= WRITE_DIRECT) {
        ssize_t n = writev(fd, v->iov, v->n);
        return n < 0 ? -errno : n;
    }
    return fibril_writev(fd, v->iov, v->n, FIBRIL_FOREVER);
}

static int64_t write_some(int fd, const struct fibril__vector *v)
{
    enum fibril__guess guess;
    int64_t n = fibril__attempt_write(fd, v, &guess);
    return n == -EAGAIN && fibril__guess_is_file(guess) ? write_file(fd, v, guess) : n;
}

/* `n` is what the attempt came to: too little. `room` has v->n pieces. */
static int64_t write_rest(int fd, const struct fibril__vector *v, int64_t n, struct iovec *room)
{
    int64_t deadline_ns = fibril__fd_deadline(fd, SO_SNDTIMEO), done = n > 0 ? n : 0;
    for (;;) {
        int rc = n < 0 ? fibril__fd_await_socket(fd, POLLOUT, deadline_ns) : 0;
        if (rc < 0) {
            return done > 0 ? done : rc;
        }
        struct fibril__vector rest = fibril__vector_rest(v, (size_t)done, room);
        n = write_some(fd, &rest);
        if (n == 0 || (n < 0 && n != -EAGAIN)) {
            return done > 0 ? done : n;
        }
        done += n > 0 ? n : 0;
        if (done == (int64_t)v->bytes) {
            return done;
        }
        fibril_embed_spend();
    }
}

static NOINLINE int64_t write_waiting(int fd, const struct fibril__vector *v, int64_t n)
{
    if (!fibril__fd_blocks(fd)) {
        fibril_embed_spend();
        return n;
    }
    if (v->n <= PIECES_ON_STACK) {
        struct iovec room[PIECES_ON_STACK];
        return write_rest(fd, v, n, room);
    }
    struct iovec *room = fibril__alloc((size_t)v->n * sizeof(*room));
    if (!room) {
        return n > 0 ? n : -ENOMEM;
    }
    n = write_rest(fd, v, n, room);
    fibril__free(room);
    return n;
}

static ALWAYS_INLINE int64_t write_vector(int fd, const struct fibril__vector *v)
{
    int64_t n = write_some(fd, v);
    if (UNLIKELY(n == -EAGAIN || (n > 0 && n < (int64_t)v->bytes))) {
        return write_waiting(fd, v, n);
    }
    fibril_embed_spend();
    return n;
}

ssize_t fibril_posix_write(int fd, const void *buf, size_t len)
{
    if (!fibril__on_loop() || UNLIKELY(len == 0)) {
        return write(fd, buf, len);
    }
    int saved = errno;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len}; /* only read */
    struct fibril__vector v = {.iov = &iov, .n = 1, .bytes = len};
    return fibril__posix_result(write_vector(fd, &v), saved);
}

ssize_t fibril_posix_writev(int fd, const struct iovec *iov, int n)
{
    struct fibril__vector v;
    if (!fibril__on_loop() || fibril__vector_of(iov, n, &v) < 0 || v.bytes == 0) {
        return writev(fd, iov, n);
    }
    int saved = errno;
    return fibril__posix_result(write_vector(fd, &v), saved);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct fibril__call fibril__calls_stream[] = {
    FIBRIL__CALL(read),
    FIBRIL__CALL_AS(__read, read),
    FIBRIL__CALL(__read_chk),
    FIBRIL__CALL(readv),
    FIBRIL__CALL(write),
    FIBRIL__CALL_AS(__write, write),
    FIBRIL__CALL(writev),
    FIBRIL__CALL(pread),
    FIBRIL__CALL_AS(pread64, pread),
    FIBRIL__CALL_AS(__pread64, pread),
    FIBRIL__CALL(__pread_chk),
    FIBRIL__CALL_AS(__pread64_chk, __pread_chk),
    FIBRIL__CALL(preadv),
    FIBRIL__CALL_AS(preadv64, preadv),
    FIBRIL__CALL(preadv2),
    FIBRIL__CALL_AS(preadv64v2, preadv2),
    FIBRIL__CALL(pwrite),
    FIBRIL__CALL_AS(pwrite64, pwrite),
    FIBRIL__CALL_AS(__pwrite64, pwrite),
    FIBRIL__CALL(pwritev),
    FIBRIL__CALL_AS(pwritev64, pwritev),
    FIBRIL__CALL(pwritev2),
    FIBRIL__CALL_AS(pwritev64v2, pwritev2),
    FIBRIL__CALL(close),
    FIBRIL__CALL_AS(__close, close),
    FIBRIL__CALL(dup),
    FIBRIL__CALL(dup2),
    FIBRIL__CALL_AS(__dup2, dup2),
    FIBRIL__CALL(dup3),
    FIBRIL__CALL(close_range),
    FIBRIL__CALL(closefrom),
    FIBRIL__CALL(pipe),
    FIBRIL__CALL_AS(__pipe, pipe),
    FIBRIL__CALL(pipe2),
    FIBRIL__CALL(eventfd),
    FIBRIL__CALL(timerfd_create),
    FIBRIL__CALL(inotify_init1),
    FIBRIL__CALL(signalfd),
    FIBRIL__CALL(splice),
    FIBRIL__CALL(tee),
    FIBRIL__CALL(sendfile),
    FIBRIL__CALL_AS(sendfile64, sendfile),
    {NULL, NULL, false, NULL},
};
