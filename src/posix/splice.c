/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and sendfile. A pipe is kept from blocking by SPLICE_F_NONBLOCK; the other end of a
 * splice is not, so where that blocks both ends are waited for and the call itself is made by a
 * thread of the pool, which then has little to wait for.
 */
#include "base/alloc.h"
#include "posix/descriptor.h"
#include "posix/io_calls.h"

#include <fibril/io.h>
#include <signal.h>
#include <sys/stat.h>

/* ---- splice ---------------------------------------------------------------------------------- */

struct splice {
    int in, out;
    off64_t *in_offset, *out_offset;
    off64_t in_at, out_at; /* what they point to */
    size_t len;
    unsigned flags;
};

/* On the loop or on a thread of the pool. */
static int splice_now(void *arg)
{
    struct splice *s = arg;
    size_t len = s->len < 0x7ffff000 ? s->len : 0x7ffff000;
    ssize_t n = splice(s->in, s->in_offset ? &s->in_at : NULL, s->out,
                       s->out_offset ? &s->out_at : NULL, len, s->flags | SPLICE_F_NONBLOCK);
    return n < 0 ? -errno : (int)n;
}

static bool is_pipe(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* Whether the end keeps SPLICE_F_NONBLOCK, or says by itself that it would block. */
static bool never_blocks(int fd)
{
    return is_pipe(fd) || !fibril__fd_blocks(fd);
}

static int wait_both(int in, int out)
{
    int rc = fibril__fd_await(in, POLLIN, FIBRIL_FOREVER);
    return rc < 0 ? rc : fibril__fd_await(out, POLLOUT, FIBRIL_FOREVER);
}

static int64_t splice_in_pool(struct splice *s)
{
    struct splice *heap = fibril__alloc(sizeof(*heap));
    if (!heap) {
        return -ENOMEM;
    }
    *heap = *s;
    int rc = wait_both(s->in, s->out);
    rc = rc < 0 ? rc : fibril_offload(splice_now, heap, FIBRIL_FOREVER);
    *s = *heap;
    fibril__free(heap);
    return rc;
}

/* A pipe of which O_NONBLOCK is set makes the call fail rather than wait, as the flag does. */
static bool may_wait(const struct splice *s)
{
    return !(s->flags & SPLICE_F_NONBLOCK) && fibril__fd_blocks(s->in) && fibril__fd_blocks(s->out);
}

static int64_t splice_until(struct splice *s)
{
    bool direct = never_blocks(s->in) && never_blocks(s->out), waits = may_wait(s);
    for (;;) {
        int64_t n = direct || !waits ? splice_now(s) : splice_in_pool(s);
        if (n != -EAGAIN || !waits) {
            return n;
        }
        int rc = wait_both(s->in, s->out);
        if (rc < 0) {
            return rc;
        }
        fibril_embed_spend();
    }
}

ssize_t fibril_posix_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t len,
                            unsigned flags)
{
    if (!fibril__on_loop() || len == 0) {
        return splice(in, in_offset, out, out_offset, len, flags);
    }
    int saved = errno;
    struct splice s = {.in = in,
                       .out = out,
                       .in_offset = in_offset,
                       .out_offset = out_offset,
                       .in_at = in_offset ? *in_offset : 0,
                       .out_at = out_offset ? *out_offset : 0,
                       .len = len,
                       .flags = flags};
    int64_t n = splice_until(&s);
    if (n > 0 && in_offset) {
        *in_offset = s.in_at;
    }
    if (n > 0 && out_offset) {
        *out_offset = s.out_at;
    }
    fibril_embed_spend();
    return fibril__posix_result(n, saved);
}

ssize_t fibril_posix_tee(int in, int out, size_t len, unsigned flags)
{
    if (!fibril__on_loop() || (flags & SPLICE_F_NONBLOCK)) {
        return tee(in, out, len, flags);
    }
    int saved = errno;
    int64_t n;
    for (;;) {
        n = tee(in, out, len, flags | SPLICE_F_NONBLOCK);
        n = n < 0 ? -errno : n;
        if (n != -EAGAIN || !fibril__fd_blocks(in) || !fibril__fd_blocks(out)) {
            break;
        }
        int rc = wait_both(in, out);
        if (rc < 0) {
            n = rc;
            break;
        }
        fibril_embed_spend();
    }
    fibril_embed_spend();
    return fibril__posix_result(n, saved);
}

/* ---- sendfile -------------------------------------------------------------------------------- */

struct copy {
    int out, in;
    off_t at;
    size_t len;
};

static int sendfile_now(void *arg)
{
    struct copy *c = arg;
    ssize_t n = sendfile(c->out, c->in, &c->at, c->len);
    return n < 0 ? -errno : (int)n;
}

/* To a file or a pipe: the pool's. */
static int64_t send_to_other(int out, int in, off_t *at, size_t len)
{
    struct copy *c = fibril__alloc(sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    *c = (struct copy){.out = out, .in = in, .at = *at, .len = len < 65536 ? len : 65536};
    int rc = fibril__fd_await(out, POLLOUT, FIBRIL_FOREVER);
    rc = rc < 0 ? rc : fibril_offload(sendfile_now, c, FIBRIL_FOREVER);
    *at = c->at;
    fibril__free(c);
    return rc;
}

/* To a blocking socket: all of it, or up to the end of the file. */
static int64_t send_all(int out, int in, off_t *at, size_t len)
{
    bool socket = fibril__fd_look(out, /* nowait= */ false) == FIBRIL__GUESS_SOCKET;
    int64_t deadline_ns = fibril__fd_deadline(out, SO_SNDTIMEO);
    size_t done = 0;
    while (done < len) {
        int64_t n = socket ? fibril_sendfile(out, in, at, len - done, deadline_ns)
                           : send_to_other(out, in, at, len - done);
        if (fibril__fd_again(n, deadline_ns)) {
            continue;
        }
        if (n <= 0) {
            n = n == -ETIMEDOUT ? -EAGAIN : n;
            if (n == -EPIPE && socket && done == 0) {
                raise(SIGPIPE); /* the core suppresses it */
            }
            return done ? (int64_t)done : n;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

ssize_t fibril_posix_sendfile(int out, int in, off_t *offset, size_t len)
{
    if (!fibril__on_loop() || len == 0 || !fibril__fd_blocks(out)) {
        return sendfile(out, in, offset, len);
    }
    int saved = errno;
    off_t at = offset ? *offset : lseek(in, 0, SEEK_CUR);
    if (at < 0) {
        errno = saved;
        return sendfile(out, in, offset, len);
    }
    int64_t n = send_all(out, in, &at, len < 0x7ffff000 ? len : 0x7ffff000);
    if (offset) {
        *offset = at;
    } else {
        lseek(in, at, SEEK_SET);
    }
    fibril_embed_spend();
    return fibril__posix_result(n, saved);
}
