/* SPDX-License-Identifier: MIT */
/* See transport.h. */
#include "actor/transport.h"

#include <fibril/io.h>

#include "base/alloc.h"

#include <sys/socket.h>
#include <unistd.h>

struct wire_fd {
    int fd;
};

static ssize_t receive(void *object, void *buf, size_t len, int64_t deadline_ns)
{
    const struct wire_fd *w = object;
    return fibril_recv(w->fd, buf, len, 0, deadline_ns);
}

static ssize_t send_some(void *object, const void *buf, size_t len, int64_t deadline_ns)
{
    const struct wire_fd *w = object;
    return fibril_send(w->fd, buf, len, 0, deadline_ns);
}

static void shut(void *object)
{
    const struct wire_fd *w = object;
    fibril_shutdown(w->fd, SHUT_RDWR);
}

static void close_fd(void *object)
{
    const struct wire_fd *w = object;
    fibril_close(w->fd);
    fibril__free(object);
}

/* Not fibril_close: the child knows nothing of it, and must not wait. */
static void forked(void *object)
{
    const struct wire_fd *w = object;
    close(w->fd);
}

const struct fibril_transport fibril__transport_fd = {
    .receive = receive, .send = send_some, .shut = shut, .close = close_fd, .forked = forked};

void *fibril__transport_of(int fd)
{
    struct wire_fd *w = fibril__alloc(sizeof *w);
    if (!w) {
        fibril_close(fd);
        return NULL;
    }
    w->fd = fd;
    return w;
}
