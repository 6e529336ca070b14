/* SPDX-License-Identifier: MIT */
/* See attempt.h. */
#include "posix/attempt.h"

#include "base/iovec.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A terminal says writable while it holds fewer characters than this. */
enum { DEVICE_ROOM = 256 };

/* ---- vectors --------------------------------------------------------------------------------- */

int fibril__vector_of(const struct iovec *iov, int n, struct fibril__vector *ret_v)
{
    size_t bytes;
    int rc = fibril__iovec_bytes(iov, n, &bytes);
    if (rc < 0) {
        return rc;
    }
    *ret_v = (struct fibril__vector){.iov = iov, .n = n, .bytes = bytes};
    return 0;
}

struct fibril__vector fibril__vector_rest(const struct fibril__vector *v, size_t done,
                                          struct iovec *room)
{
    struct fibril__vector rest = {.iov = room, .n = 0, .bytes = v->bytes - done};
    for (int i = 0; i < v->n; i++) {
        struct iovec piece = v->iov[i];
        size_t gone = done < piece.iov_len ? done : piece.iov_len;
        done -= gone;
        if (gone < piece.iov_len) {
            piece.iov_base = (char *)piece.iov_base + gone;
            piece.iov_len -= gone;
            room[rest.n++] = piece;
        }
    }
    return rest;
}

/* ---- one call -------------------------------------------------------------------------------- */

static int64_t outcome(ssize_t n)
{
    return n < 0 ? -errno : n;
}

static int64_t by_message(int fd, const struct fibril__vector *v, bool writes)
{
    struct iovec *pieces = (struct iovec *)(uintptr_t)v->iov; /* only read */
    if (v->n == 1) {
        return outcome(writes ? send(fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT)
                              : recv(fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT));
    }
    struct msghdr m = {.msg_iov = pieces, .msg_iovlen = (size_t)v->n};
    return outcome(writes ? sendmsg(fd, &m, MSG_DONTWAIT) : recvmsg(fd, &m, MSG_DONTWAIT));
}

/* 1 if the call may be made now, else -EAGAIN. An error is left to the call itself. */
static int is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, /* timeout= */ 0) == 0 ? -EAGAIN : 1;
}

/* The first part of a vector that is not empty, and no more of it than `most`. */
static int64_t write_part(int fd, const struct fibril__vector *v, size_t most)
{
    const struct iovec *iov = v->iov;
    while (iov->iov_len == 0) {
        iov++;
    }
    return outcome(write(fd, iov->iov_base, iov->iov_len < most ? iov->iov_len : most));
}

static int64_t after_poll(int fd, const struct fibril__vector *v, bool writes,
                          enum fibril__guess guess)
{
    int rc = is_ready(fd, writes ? POLLOUT : POLLIN);
    if (rc < 0) {
        return rc;
    }
    if (!writes) {
        return outcome(readv(fd, v->iov, v->n));
    }
    size_t room = guess == FIBRIL__GUESS_PIPE     ? PIPE_BUF
                  : guess == FIBRIL__GUESS_DEVICE ? DEVICE_ROOM
                                                  : SIZE_MAX;
    if (v->bytes > room && fibril__fd_blocks(fd)) {
        return write_part(fd, v, room);
    }
    return outcome(writev(fd, v->iov, v->n));
}

static int64_t without_waiting(int fd, const struct fibril__vector *v, bool writes)
{
    return outcome(writes ? pwritev2(fd, v->iov, v->n, /* offset= */ -1, RWF_NOWAIT)
                          : preadv2(fd, v->iov, v->n, /* offset= */ -1, RWF_NOWAIT));
}

static bool is_refused(int64_t n)
{
    return n == -EOPNOTSUPP || n == -ENOSYS;
}

/* By what the descriptor has just been found to be. */
static int64_t by_kind(int fd, const struct fibril__vector *v, bool writes,
                       enum fibril__guess guess)
{
    switch (guess) {
    case FIBRIL__GUESS_SOCKET: return by_message(fd, v, writes);
    case FIBRIL__GUESS_NONE: return -EBADF;
    case FIBRIL__GUESS_FILE:
    case FIBRIL__GUESS_SYNC: return -EAGAIN;
    default: return after_poll(fd, v, writes, guess);
    }
}

/* The first attempt, by what fd seems to be; what turns out to be wrong is looked at. */
static int64_t first(int fd, const struct fibril__vector *v, bool writes,
                     enum fibril__guess *ret_guess)
{
    enum fibril__guess guess = fibril__fd_guess(fd);
    *ret_guess = guess;
    if (LIKELY(guess == FIBRIL__GUESS_SOCKET)) {
        int64_t n = by_message(fd, v, writes);
        if (LIKELY(n != -ENOTSOCK)) {
            return n;
        }
        fibril__fd_unguess(fd);
    } else if (guess >= FIBRIL__GUESS_PIPE && guess <= FIBRIL__GUESS_PLAIN) {
        return after_poll(fd, v, writes, guess);
    } else if (writes && fibril__guess_is_file(guess)) {
        return -EAGAIN;
    }
    int64_t n = without_waiting(fd, v, writes);
    if (is_refused(n)) {
        *ret_guess = fibril__fd_look(fd, /* nowait= */ false);
        n = by_kind(fd, v, writes, *ret_guess);
    }
    return n;
}

/* ---- attempts -------------------------------------------------------------------------------- */

/* Looks again at what is not known for sure. */
static enum fibril__guess look_again(int fd, enum fibril__guess guess)
{
    return fibril__fd_look(fd, /* nowait= */ guess < FIBRIL__GUESS_PIPE);
}

int64_t fibril__attempt_read(int fd, const struct fibril__vector *v, enum fibril__guess *ret_guess)
{
    int64_t n = first(fd, v, /* writes= */ false, ret_guess);
    if (LIKELY(n == (int64_t)v->bytes || *ret_guess == FIBRIL__GUESS_SOCKET)) {
        return n;
    }
    if (n == -EAGAIN || (n > 0 && *ret_guess == FIBRIL__GUESS_NONE)) {
        *ret_guess = look_again(fd, *ret_guess);
    }
    return n;
}

int64_t fibril__attempt_write(int fd, const struct fibril__vector *v, enum fibril__guess *ret_guess)
{
    int64_t n = first(fd, v, /* writes= */ true, ret_guess);
    if (n == -EAGAIN && *ret_guess != FIBRIL__GUESS_SOCKET) {
        bool file = fibril__guess_is_file(*ret_guess);
        if (file && lseek(fd, 0, SEEK_CUR) >= 0) {
            return n; /* what has a position is no socket or pipe */
        }
        *ret_guess = look_again(fd, *ret_guess);
        if (file && !fibril__guess_is_file(*ret_guess)) {
            n = first(fd, v, /* writes= */ true, ret_guess); /* the number is another's now */
        }
    }
    return n;
}
