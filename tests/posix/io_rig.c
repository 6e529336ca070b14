/* SPDX-License-Identifier: MIT */
/* See io_rig.h. */
#include "io_rig.h"

#include "posix/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

void rig_run(fibril_fn *body)
{
    fibril_embed_on_end(fibril__thread_ended);
    fibril__posix_mode = FIBRIL__POSIX_LOOP;
    io_run(body, FIBRIL_STACK_OWN);
    io_run(body, FIBRIL_STACK_COPIED);
    fibril__posix_mode = FIBRIL__POSIX_REAL;
    fibril_embed_on_end(NULL);
}

static int make_call(void *arg)
{
    struct rig_call *c = arg;
    errno = 12345;
    c->call(c);
    c->error = c->rc == -1 ? errno : 0;
    if (c->rc != -1) {
        ASSERT_EQ(errno, 12345);
    }
    c->over = true;
    return 0;
}

void rig_start(struct rig_call *c)
{
    c->over = false;
    c->rc = -2;
    c->fibril = io_start(make_call, c);
    io_settle();
}

long rig_end(struct rig_call *c)
{
    ASSERT_EQ(io_end(c->fibril), 0);
    ASSERT(c->over);
    return c->rc;
}

void rig_close_ends_it(struct rig_call *c)
{
    rig_start(c);
    ASSERT(!c->over);
    ASSERT_KEEPS_ERRNO(fibril_posix_close(c->fd), 0);
    ASSERT_EQ(rig_end(c), -1);
    ASSERT_EQ(c->error, EBADF);
}

void rig_cancel_ends_it(struct rig_call *c)
{
    rig_start(c);
    ASSERT(!c->over);
    ASSERT_OK(fibril_cancel(c->fibril));
    ASSERT_EQ(rig_end(c), -1);
    ASSERT_EQ(c->error, ECANCELED);
}

void rig_interrupt_ends_it(struct rig_call *c)
{
    rig_start(c);
    ASSERT(!c->over);
    fibril_embed_interrupt(c->fibril);
    ASSERT_EQ(rig_end(c), -1);
    ASSERT_EQ(c->error, EINTR);
}

void rig_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    ASSERT_OK(flags);
    ASSERT_OK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

void rig_timeout(int fd, int option, int ms)
{
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    ASSERT_OK(fibril_posix_setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t)));
}

int rig_file(const void *bytes, size_t len)
{
    FILE *file = tmpfile();
    ASSERT(file);
    int fd = dup(fileno(file));
    ASSERT_OK(fd);
    fclose(file);
    ASSERT_EQ(pwrite(fd, bytes, len, 0), (ssize_t)len);
    return fd;
}
