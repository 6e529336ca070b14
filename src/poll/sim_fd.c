/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of the simulation and the calls that make, name and end them. Numbers are given out
 * lowest first, as the kernel does: whoever keeps a closed number soon holds somebody else's.
 */
#include "poll/sim.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

enum { EMBEDDED_EVENTS = 3, PORT_FIRST = 10000, BACKLOG_MAX = 65535 };

/* ---- sockets and their numbers --------------------------------------------------------------- */

struct fibril__sim_sock *fibril__sim_sock_of(struct fibril__sim *s, int fd)
{
    uint32_t i = (uint32_t)fd - FIBRIL__SIM_FD;
    return fd >= FIBRIL__SIM_FD && i < s->fds_cap ? s->fds[i] : NULL;
}

struct fibril__sim_sock *fibril__sim_sock_new(struct fibril__sim *s, unsigned type,
                                              sa_family_t family)
{
    if (fibril__sim_promise(s, EMBEDDED_EVENTS) < 0) {
        return NULL;
    }
    struct fibril__sim_sock *k = fibril__alloc_zero(sizeof *k);
    if (!k) {
        fibril__sim_promise(s, -EMBEDDED_EVENTS);
        return NULL;
    }
    k->refs = 1;
    k->fd = -1;
    k->type = (uint8_t)type;
    k->family = family;
    struct fibril__list *lists[] = {&k->readers, &k->writers, &k->pollers,
                                    &k->accepts, &k->blocked, &k->messages};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        fibril__list_init(lists[i]);
    }
    k->connect_event.node.index = FIBRIL__HEAP_OUT;
    k->reset_event.node.index = FIBRIL__HEAP_OUT;
    k->reset_event.kind = FIBRIL__SIM_RESET;
    k->retry_event.node.index = FIBRIL__HEAP_OUT;
    k->retry_event.kind = FIBRIL__SIM_RETRY;
    return k;
}

void fibril__sim_sock_unref(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    if (--k->refs == 0) {
        fibril__sim_stream_close(s, k); /* one that never had a number */
        fibril__sim_promise(s, -EMBEDDED_EVENTS);
        fibril__free(k);
    }
}

static int grow_fds(struct fibril__sim *s)
{
    uint32_t cap = s->fds_cap ? s->fds_cap * 2 : 64;
    cap = cap < s->config.fds ? cap : s->config.fds;
    if (cap <= s->fds_cap) {
        return -EMFILE;
    }
    void *fds = fibril__realloc(s->fds, cap * sizeof *s->fds);
    if (!fds) {
        return -ENOMEM;
    }
    s->fds = fds;
    memset(s->fds + s->fds_cap, 0, (cap - s->fds_cap) * sizeof *s->fds);
    s->fds_cap = cap;
    return 0;
}

int fibril__sim_fd_new(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    uint32_t i = s->fds_lowest;
    while (i < s->fds_cap && s->fds[i]) {
        i++;
    }
    s->fds_lowest = i;
    int rc = i < s->fds_cap ? 0 : grow_fds(s);
    if (rc < 0) {
        return rc;
    }
    s->fds[i] = k;
    s->fds_lowest = i + 1;
    k->fd = FIBRIL__SIM_FD + (int)i;
    return k->fd;
}

void fibril__sim_sock_forget(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__list *lists[] = {&k->readers, &k->writers, &k->pollers};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct fibril__link *n;
        while ((n = fibril__list_first(lists[i]))) {
            fibril__sim_end(s, CONTAINER_OF(n, struct fibril__op, link), -EBADF);
        }
    }
}

/* Nobody will accept these: their callers see a reset. */
static void drop_accepts(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__link *n;
    while ((n = fibril__list_pop(&k->accepts))) {
        struct fibril__sim_sock *e = CONTAINER_OF(n, struct fibril__sim_sock, waiting);
        e->listener = NULL;
        if (e->out->reader) {
            e->out->fin_sent = true; /* a reset, no clean end */
            fibril__sim_reset(s, e->out->reader, fibril__sim_latency(s, e->family == AF_UNIX));
        }
        fibril__sim_sock_unref(s, e);
    }
    k->accepts_len = 0;
}

void fibril__sim_sock_close(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    uint32_t i = (uint32_t)(k->fd - FIBRIL__SIM_FD);
    fibril__sim_sock_forget(s, k);
    s->fds[i] = NULL;
    s->fds_lowest = i < s->fds_lowest ? i : s->fds_lowest;
    k->fd = -1;
    fibril__link_remove(&k->named);
    if (fibril__link_in_list(&k->waiting)) {
        /* A connection that waits for room holds a reference, a datagram socket does not. */
        fibril__link_remove(&k->waiting);
        if (k->type == FIBRIL__SIM_STREAM) {
            fibril__sim_sock_unref(s, k);
        }
    }
    fibril__sim_unblock(s, k);
    drop_accepts(s, k);
    if (k->type == FIBRIL__SIM_DGRAM) {
        fibril__sim_dgram_close(s, k);
    } else {
        fibril__sim_stream_close(s, k);
    }
    fibril__sim_sock_unref(s, k);
}

/* ---- names ----------------------------------------------------------------------------------- */

static socklen_t size_of_family(sa_family_t family)
{
    return family == AF_INET    ? (socklen_t)sizeof(struct sockaddr_in)
           : family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6)
                                : (socklen_t)sizeof(sa_family_t);
}

int fibril__sim_addr_of(const struct sockaddr *addr, socklen_t len, sa_family_t family,
                        struct fibril__sim_addr *ret_addr)
{
    if (!addr || len < size_of_family(family) || len > sizeof(struct sockaddr_un)) {
        return -EINVAL;
    }
    if (addr->sa_family != family) {
        return -EAFNOSUPPORT;
    }
    memset(ret_addr, 0, sizeof *ret_addr);
    ret_addr->len = family == AF_UNIX ? len : size_of_family(family);
    memcpy(&ret_addr->ss, addr, ret_addr->len);
    const struct sockaddr_un *un = (const struct sockaddr_un *)&ret_addr->ss;
    if (family == AF_UNIX && len > sizeof(sa_family_t) && un->sun_path[0]) {
        /* A path ends at its first zero, however long the caller says that it is. */
        size_t path = strnlen(un->sun_path, sizeof un->sun_path);
        ret_addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path);
    }
    return 0;
}

uint16_t fibril__sim_port(const struct fibril__sim_addr *a)
{
    return a->ss.ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)&a->ss)->sin_port)
                                      : ntohs(((const struct sockaddr_in6 *)&a->ss)->sin6_port);
}

void fibril__sim_port_set(struct fibril__sim_addr *a, uint16_t port)
{
    if (a->ss.ss_family == AF_INET) {
        ((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
    } else {
        ((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
    }
}

static bool is_any(const struct fibril__sim_addr *a)
{
    return a->ss.ss_family == AF_INET
               ? ((const struct sockaddr_in *)&a->ss)->sin_addr.s_addr == htonl(INADDR_ANY)
               : IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->ss)->sin6_addr);
}

static bool same_host(const struct fibril__sim_addr *a, const struct fibril__sim_addr *b)
{
    if (a->ss.ss_family == AF_INET) {
        return ((const struct sockaddr_in *)&a->ss)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)&b->ss)->sin_addr.s_addr;
    }
    return IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)&a->ss)->sin6_addr,
                              &((const struct sockaddr_in6 *)&b->ss)->sin6_addr);
}

bool fibril__sim_addr_takes(const struct fibril__sim_addr *name, const struct fibril__sim_addr *to)
{
    if (!name->len || name->ss.ss_family != to->ss.ss_family) {
        return false;
    }
    if (to->ss.ss_family == AF_UNIX) {
        return name->len == to->len && memcmp(&name->ss, &to->ss, to->len) == 0;
    }
    return fibril__sim_port(name) == fibril__sim_port(to) && (is_any(name) || same_host(name, to));
}

void fibril__sim_addr_out(const struct fibril__sim_addr *a, sa_family_t family, void *to,
                          socklen_t *len)
{
    struct fibril__sim_addr none = {.len = size_of_family(family)};
    none.ss.ss_family = family;
    a = a->len ? a : &none;
    memcpy(to, &a->ss, a->len < *len ? a->len : *len);
    *len = a->len;
}

static bool is_taken(struct fibril__sim *s, unsigned type, const struct fibril__sim_addr *a)
{
    for (struct fibril__link *n = s->named.head.next; n != &s->named.head; n = n->next) {
        struct fibril__sim_sock *k = CONTAINER_OF(n, struct fibril__sim_sock, named);
        if (k->type == type &&
            (fibril__sim_addr_takes(&k->local, a) || fibril__sim_addr_takes(a, &k->local))) {
            return true;
        }
    }
    return false;
}

uint16_t fibril__sim_port_new(struct fibril__sim *s)
{
    if (s->next_port < PORT_FIRST) {
        s->next_port = PORT_FIRST;
    }
    return s->next_port++;
}

/* A port that no socket of the type has: false when all are taken. */
static bool port_free(struct fibril__sim *s, unsigned type, struct fibril__sim_addr *a)
{
    for (int i = PORT_FIRST; i <= UINT16_MAX; i++) {
        fibril__sim_port_set(a, fibril__sim_port_new(s));
        if (!is_taken(s, type, a)) {
            return true;
        }
    }
    return false;
}

/* The address that calls go out from: the one called, or for "any" this machine. Its port is still
 * open. */
static void host_of(const struct fibril__sim_addr *to, struct fibril__sim_addr *ret_addr)
{
    *ret_addr = *to;
    if (is_any(to) && to->ss.ss_family == AF_INET) {
        ((struct sockaddr_in *)&ret_addr->ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else if (is_any(to)) {
        ((struct sockaddr_in6 *)&ret_addr->ss)->sin6_addr = in6addr_loopback;
    }
}

void fibril__sim_name_self(struct fibril__sim *s, struct fibril__sim_sock *k,
                           const struct fibril__sim_addr *to)
{
    if (k->family == AF_UNIX || k->local.len) {
        return;
    }
    host_of(to, &k->local);
    if (k->type == FIBRIL__SIM_DGRAM && port_free(s, k->type, &k->local)) {
        fibril__list_push(&s->named, &k->named);
    } else {
        /* Nobody looks for a caller by its port, so callers may share one, as those of different
         * peers may. */
        fibril__sim_port_set(&k->local, fibril__sim_port_new(s));
    }
}

/* ---- the calls ------------------------------------------------------------------------------- */

static struct fibril__sim *sim_of(struct fibril__poller *p)
{
    return CONTAINER_OF(p, struct fibril__sim, base);
}

static int sys_socket(struct fibril__poller *p, int domain, int type)
{
    struct fibril__sim *s = sim_of(p);
    type &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX) {
        return -EAFNOSUPPORT;
    }
    if (type != SOCK_STREAM && type != SOCK_DGRAM) {
        return -ESOCKTNOSUPPORT;
    }
    struct fibril__sim_sock *k = fibril__sim_sock_new(
        s, type == SOCK_STREAM ? FIBRIL__SIM_STREAM : FIBRIL__SIM_DGRAM, (sa_family_t)domain);
    if (!k) {
        return -ENOMEM;
    }
    int fd = fibril__sim_fd_new(s, k);
    if (fd < 0) {
        fibril__sim_sock_unref(s, k);
    }
    return fd;
}

static int sys_bind(struct fibril__poller *p, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, fd);
    struct fibril__sim_addr a;
    if (!k) {
        return -EBADF;
    }
    if (k->type == FIBRIL__SIM_PIPE) {
        return -ENOTSOCK;
    }
    int rc = fibril__sim_addr_of(addr, len, k->family, &a);
    if (rc < 0 || k->local.len) {
        return rc < 0 ? rc : -EINVAL;
    }
    bool open_port = k->family != AF_UNIX && fibril__sim_port(&a) == 0;
    if (open_port ? !port_free(s, k->type, &a) : is_taken(s, k->type, &a)) {
        return -EADDRINUSE;
    }
    k->local = a;
    fibril__list_push(&s->named, &k->named);
    return 0;
}

static int sys_listen(struct fibril__poller *p, int fd, int backlog)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, fd);
    if (!k) {
        return -EBADF;
    }
    if (k->type != FIBRIL__SIM_STREAM) {
        return k->type == FIBRIL__SIM_PIPE ? -ENOTSOCK : -EOPNOTSUPP;
    }
    if ((k->state != FIBRIL__SIM_FRESH && k->state != FIBRIL__SIM_LISTENING) || !k->local.len) {
        return -EINVAL;
    }
    k->state = FIBRIL__SIM_LISTENING;
    k->backlog = (uint32_t)(backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog);
    return 0;
}

static int sys_pipe(struct fibril__poller *p, int fds[2])
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *to = fibril__sim_sock_new(s, FIBRIL__SIM_PIPE, AF_UNSPEC);
    struct fibril__sim_sock *from =
        to ? fibril__sim_sock_new(s, FIBRIL__SIM_PIPE, AF_UNSPEC) : NULL;
    int rc = from ? fibril__sim_pipe_join(s, from, to) : -ENOMEM;
    int read_fd = rc < 0 ? rc : fibril__sim_fd_new(s, to);
    int write_fd = read_fd < 0 ? read_fd : fibril__sim_fd_new(s, from);
    if (write_fd >= 0) {
        fds[0] = read_fd;
        fds[1] = write_fd;
        return 0;
    }
    if (read_fd >= 0) {
        fibril__sim_sock_close(s, to);
        to = NULL;
    }
    if (to) {
        fibril__sim_sock_unref(s, to);
    }
    if (from) {
        fibril__sim_sock_unref(s, from);
    }
    return write_fd;
}

static int shut_listener(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    k->state = FIBRIL__SIM_FRESH;
    drop_accepts(s, k);
    fibril__sim_unblock(s, k);
    fibril__sim_retry(s, k); /* those who accept get EINVAL */
    return 0;
}

static int sys_shutdown(struct fibril__poller *p, int fd, int how)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, fd);
    if (!k) {
        return -EBADF;
    }
    if (k->type == FIBRIL__SIM_PIPE) {
        return -ENOTSOCK;
    }
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    if (k->state == FIBRIL__SIM_LISTENING) {
        return how == SHUT_WR ? 0 : shut_listener(s, k);
    }
    if (k->state != FIBRIL__SIM_CONNECTED) {
        return -ENOTCONN;
    }
    k->shut_read |= how != SHUT_WR;
    k->shut_write |= how != SHUT_RD;
    if (how != SHUT_RD) {
        fibril__sim_stream_shut_write(s, k);
    }
    fibril__sim_retry(s, k);
    return 0;
}

static int sys_getname(struct fibril__poller *p, int fd, int peer, struct sockaddr *addr,
                       socklen_t *len)
{
    struct fibril__sim_sock *k = fibril__sim_sock_of(sim_of(p), fd);
    if (!k) {
        return -EBADF;
    }
    if (k->type == FIBRIL__SIM_PIPE) {
        return -ENOTSOCK;
    }
    if (peer && k->state != FIBRIL__SIM_CONNECTED) {
        return -ENOTCONN;
    }
    fibril__sim_addr_out(peer ? &k->peer : &k->local, k->family, addr, len);
    return 0;
}

static int sys_close(struct fibril__poller *p, int fd)
{
    struct fibril__sim *s = sim_of(p);
    struct fibril__sim_sock *k = fibril__sim_sock_of(s, fd);
    if (!k) {
        return -EBADF;
    }
    fibril__sim_sock_close(s, k);
    return 0;
}

const struct fibril__sys fibril__sim_sys = {
    .socket = sys_socket,
    .bind = sys_bind,
    .listen = sys_listen,
    .pipe = sys_pipe,
    .shutdown = sys_shutdown,
    .getname = sys_getname,
    .close = sys_close,
};
