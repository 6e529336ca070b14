/* SPDX-License-Identifier: MIT */
/*
 * pread and pwrite. They work on what has positions: files and disks, which do not wait for others
 * but for a device. What the page cache has is read at once, the rest through the core (ring or
 * pool). The guess of what fd is may be trusted here: on anything else these calls fail at once.
 */
#include "posix/attempt.h"
#include "posix/io_calls.h"

#include <fibril/io.h>

enum { WRITE_DIRECT = 256 * 1024 }; /* a write of this size is left to the page cache */

static enum fibril__guess guess_of(int fd)
{
    enum fibril__guess guess = fibril__fd_guess(fd);
    return guess ? guess : fibril__fd_look(fd, /* nowait= */ false);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What the page cache does not have. */
static int64_t read_piece(int fd, const struct iovec *piece, off_t offset)
{
    if (fibril__guess_is_file(fibril__fd_look(fd, /* nowait= */ false))) {
        return fibril_pread(fd, piece->iov_base, piece->iov_len, offset, FIBRIL_FOREVER);
    }
    ssize_t n = pread(fd, piece->iov_base, piece->iov_len, offset);
    return n < 0 ? -errno : n;
}

/* Until all of the piece or the end of the file. */
static int64_t read_at(int fd, struct iovec piece, off_t offset)
{
    int64_t done = 0;
    while (piece.iov_len > 0) {
        int64_t n = preadv2(fd, &piece, 1, offset, RWF_NOWAIT);
        if (n < 0) {
            bool waits = errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS;
            n = waits ? read_piece(fd, &piece, offset) : -errno;
        }
        if (n <= 0) {
            return done > 0 ? done : n;
        }
        done += n;
        offset += n;
        piece.iov_base = (char *)piece.iov_base + n;
        piece.iov_len -= (size_t)n;
    }
    return done;
}

ssize_t fibril_posix_pread(int fd, void *buf, size_t len, off_t offset)
{
    if (!fibril__on_loop() || len == 0 || offset < 0) {
        return pread(fd, buf, len, offset);
    }
    int saved = errno;
    int64_t n = read_at(fd, (struct iovec){.iov_base = buf, .iov_len = len}, offset);
    fibril_embed_spend();
    return fibril__posix_result(n, saved);
}

ssize_t fibril_posix___pread_chk(int fd, void *buf, size_t len, off_t offset, size_t room)
{
    if (len > room) {
        __chk_fail();
    }
    return fibril_posix_pread(fd, buf, len, offset);
}

ssize_t fibril_posix_preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    struct fibril__vector v;
    if (!fibril__on_loop() || offset < 0 || fibril__vector_of(iov, n, &v) < 0 || v.bytes == 0) {
        return preadv(fd, iov, n, offset);
    }
    int saved = errno;
    int64_t done = 0, got = 0;
    for (int i = 0; i < n && got == done; i++) {
        int64_t more = iov[i].iov_len ? read_at(fd, iov[i], offset + done) : 0;
        if (more < 0 && done == 0) {
            done = more;
            break;
        }
        done += more > 0 ? more : 0;
        got += (int64_t)iov[i].iov_len;
    }
    fibril_embed_spend();
    return fibril__posix_result(done, saved);
}

/* Other flags are for files. */
ssize_t fibril_posix_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    if (!fibril__on_loop() || flags != 0) {
        return preadv2(fd, iov, n, offset, flags);
    }
    return offset == -1 ? fibril_posix_readv(fd, iov, n) : fibril_posix_preadv(fd, iov, n, offset);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Whether a write may be left to the page cache, or to what is no file. */
static bool is_direct(int fd, size_t bytes)
{
    enum fibril__guess guess = guess_of(fd);
    return !fibril__guess_is_file(guess) || (guess == FIBRIL__GUESS_FILE && bytes <= WRITE_DIRECT);
}

static int64_t write_at(int fd, const char *buf, size_t len, off_t offset)
{
    size_t done = 0;
    while (done < len) {
        int64_t n = fibril_pwrite(fd, buf + done, len - done, offset + (off_t)done, FIBRIL_FOREVER);
        if (n <= 0) {
            return done ? (int64_t)done : n;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

ssize_t fibril_posix_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (!fibril__on_loop() || len == 0 || offset < 0) {
        return pwrite(fd, buf, len, offset);
    }
    int saved = errno;
    if (is_direct(fd, len)) {
        errno = saved;
        ssize_t n = pwrite(fd, buf, len, offset);
        int64_t rc = n < 0 ? -errno : n;
        fibril_embed_spend();
        return fibril__posix_result(rc, saved);
    }
    return fibril__posix_result(write_at(fd, buf, len, offset), saved);
}

/* Piece by piece, as far as it goes. */
static int64_t write_pieces(int fd, const struct iovec *iov, int n, off_t offset)
{
    int64_t done = 0;
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len == 0) {
            continue;
        }
        int64_t more = write_at(fd, iov[i].iov_base, iov[i].iov_len, offset + done);
        if (more < 0) {
            return done ? done : more;
        }
        done += more;
        if (more < (int64_t)iov[i].iov_len) {
            break;
        }
    }
    return done;
}

ssize_t fibril_posix_pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    struct fibril__vector v;
    if (!fibril__on_loop() || offset < 0 || fibril__vector_of(iov, n, &v) < 0 || v.bytes == 0) {
        return pwritev(fd, iov, n, offset);
    }
    int saved = errno;
    int64_t rc;
    if (is_direct(fd, v.bytes)) {
        ssize_t done = pwritev(fd, iov, n, offset);
        rc = done < 0 ? -errno : done;
        fibril_embed_spend();
    } else {
        rc = write_pieces(fd, iov, n, offset);
    }
    return fibril__posix_result(rc, saved);
}

ssize_t fibril_posix_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    if (!fibril__on_loop() || flags != 0) {
        return pwritev2(fd, iov, n, offset, flags);
    }
    return offset == -1 ? fibril_posix_writev(fd, iov, n)
                        : fibril_posix_pwritev(fd, iov, n, offset);
}
