/* SPDX-License-Identifier: MIT */
/*
 * Sockets: making, accepting, sending, receiving. Connecting is in connect.c. MSG_DONTWAIT means
 * one try, MSG_WAITALL is done here because a poller's short count is final.
 */
#include <fibril/io.h>

#include "io/op.h"
#include "io/sys.h"
#include "sched/users.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- listening ------------------------------------------------------------------------------- */

static bool is_inet(const struct fibril_addr *a)
{
    return a->ss.ss_family == AF_INET || a->ss.ss_family == AF_INET6;
}

/* Whether addr names a socket file that nobody listens on any more. */
static bool is_stale(const struct fibril_addr *addr)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->ss;
    struct stat st;
    if (addr->ss.ss_family != AF_UNIX || un->sun_path[0] == '\0' || fibril__sys_simulated() ||
        lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    int fd = fibril__sys_socket(AF_UNIX, SOCK_STREAM);
    if (fd < 0) {
        return false;
    }
    int rc = connect(fd, (const struct sockaddr *)un, addr->len);
    bool refused = rc != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_to(int fd, const struct fibril_addr *addr)
{
    const struct sockaddr *sa = (const struct sockaddr *)&addr->ss;
    int rc = fibril__sys_bind(fd, sa, addr->len);
    if (rc == -EADDRINUSE && is_stale(addr)) {
        unlink(((const struct sockaddr_un *)&addr->ss)->sun_path);
        rc = fibril__sys_bind(fd, sa, addr->len);
    }
    return rc;
}

static int prepare(int fd, const struct fibril_addr *addr, unsigned flags)
{
    if (!is_inet(addr)) {
        return 0;
    }
    int rc = fibril__sys_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && (flags & FIBRIL_LISTEN_REUSEPORT)) {
        rc = fibril__sys_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0) {
        rc = fibril__sys_set(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted ones inherit it */
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->ss;
    if (rc == 0 && addr->ss.ss_family == AF_INET6) {
        bool any = IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
        rc = fibril__sys_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !any);
    }
    return rc;
}

static int listen_on(const struct fibril_addr *addr, int backlog, unsigned flags)
{
    int fd = fibril__sys_socket(addr->ss.ss_family, SOCK_STREAM);
    if (fd < 0) {
        return fd;
    }
    int rc = prepare(fd, addr, flags);
    rc = rc < 0 ? rc : bind_to(fd, addr);
    rc = rc < 0 ? rc : fibril__sys_listen(fd, backlog > 0 ? backlog : SOMAXCONN);
    if (rc < 0) {
        fibril__sys_close(fd);
        return rc;
    }
    return fd;
}

/* The IPv4 any-address with the port of `in6`. */
static struct fibril_addr any_ip4(const struct sockaddr_in6 *in6)
{
    struct fibril_addr a;
    memset(&a, 0, sizeof(a));
    struct sockaddr_in *in = (struct sockaddr_in *)&a.ss;
    in->sin_family = AF_INET;
    in->sin_port = in6->sin6_port;
    a.len = sizeof(*in);
    return a;
}

int fibril_listen(const struct fibril_addr *addr, int backlog, unsigned flags)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    int fd = listen_on(addr, backlog, flags);
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->ss;
    if (fd == -EAFNOSUPPORT && addr->ss.ss_family == AF_INET6 &&
        IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)) {
        struct fibril_addr ip4 = any_ip4(in6);
        fd = listen_on(&ip4, backlog, flags);
    }
    return fd;
}

int fibril_accept(int fd, struct fibril_addr *ret_peer, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    int sort = fibril__users_sort(fd); /* gives a listener of others TCP_NODELAY */
    if (sort < 0) {
        return sort;
    }
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_ACCEPT, .fd = fd}};
    struct fibril_addr peer;
    if (ret_peer) {
        memset(&peer, 0, sizeof(peer));
        io.op.buf = &peer.ss;
        io.op.addr_len = sizeof(peer.ss);
    }
    int64_t got = fibril__io_run(&io, deadline_ns);
    if (got >= 0 && ret_peer) {
        peer.len = io.op.addr_len;
        *ret_peer = peer;
    }
    return (int)got;
}

int fibril_shutdown(int fd, int how)
{
    return fibril__loop ? fibril__sys_shutdown(fd, how) : -EPERM;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* With MSG_DONTWAIT a wait would be wrong, and an early end is none. */
static int64_t run(struct fibril__io *io, int flags, int64_t deadline_ns)
{
    bool once = flags & MSG_DONTWAIT;
    io->op.flags = flags & ~(MSG_DONTWAIT | MSG_WAITALL);
    int64_t n = fibril__io_run(io, once ? 0 : deadline_ns);
    return once && n == -ETIMEDOUT ? -EAGAIN : n;
}

static ssize_t recv_once(int fd, void *buf, size_t len, int flags, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_RECV, .fd = fd, .buf = buf, .len = len}};
    return run(&io, flags, deadline_ns);
}

/* MSG_WAITALL: as much as comes before the end, an error or the deadline; what came is not lost. */
static ssize_t recv_waitall(int fd, void *buf, size_t len, int flags, int64_t deadline_ns)
{
    size_t at = 0;
    while (at < len) {
        ssize_t n = recv_once(fd, (char *)buf + at, len - at, flags, deadline_ns);
        if (n <= 0) {
            return at ? (ssize_t)at : n;
        }
        at += (size_t)n;
    }
    return (ssize_t)at;
}

ssize_t fibril_recv(int fd, void *buf, size_t len, int flags, int64_t deadline_ns)
{
    bool all = (flags & MSG_WAITALL) && !(flags & (MSG_DONTWAIT | MSG_PEEK));
    return all ? recv_waitall(fd, buf, len, flags, deadline_ns)
               : recv_once(fd, buf, len, flags, deadline_ns);
}

ssize_t fibril_send(int fd, const void *buf, size_t len, int flags, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_SEND,
                                   .fd = fd,
                                   .buf = (void *)(uintptr_t)buf, /* only read */
                                   .len = len}};
    return run(&io, flags, deadline_ns);
}

ssize_t fibril_recvmsg(int fd, struct msghdr *msg, int flags, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_RECVMSG, .fd = fd, .buf = msg}};
    return run(&io, flags, deadline_ns);
}

ssize_t fibril_sendmsg(int fd, const struct msghdr *msg, int flags, int64_t deadline_ns)
{
    struct fibril__io io = {
        .op = {.kind = FIBRIL__OP_SENDMSG, .fd = fd, .buf = (void *)(uintptr_t)msg}}; /* only read
                                                                                       */
    return run(&io, flags, deadline_ns);
}

/* ---- datagrams ------------------------------------------------------------------------------- */

int fibril_udp(const struct fibril_addr *addr)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    int fd = fibril__sys_socket(addr ? addr->ss.ss_family : AF_INET, SOCK_DGRAM);
    if (fd < 0 || !addr) {
        return fd;
    }
    int rc = fibril__sys_bind(fd, (const struct sockaddr *)&addr->ss, addr->len);
    if (rc < 0) {
        fibril__sys_close(fd);
        return rc;
    }
    return fd;
}

ssize_t fibril_recvfrom(int fd, void *buf, size_t len, struct fibril_addr *ret_from,
                        int64_t deadline_ns)
{
    if (!ret_from) {
        return fibril_recv(fd, buf, len, 0, deadline_ns);
    }
    struct fibril_addr from;
    memset(&from, 0, sizeof(from));
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {
        .msg_name = &from.ss, .msg_namelen = sizeof(from.ss), .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = fibril_recvmsg(fd, &msg, 0, deadline_ns);
    if (n >= 0) {
        from.len = msg.msg_namelen;
        *ret_from = from;
    }
    return n;
}

ssize_t fibril_sendto(int fd, const void *buf, size_t len, const struct fibril_addr *to,
                      int64_t deadline_ns)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_name = (void *)(uintptr_t)&to->ss,
                         .msg_namelen = to->len,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    return fibril_sendmsg(fd, &msg, 0, deadline_ns);
}
