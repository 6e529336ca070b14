/* SPDX-License-Identifier: MIT */
/*
 * Datagrams of the simulation. UDP loses, reorders and drops what finds no room; a UNIX datagram
 * arrives, in order, and its sender waits for room. A UDP datagram that nobody takes comes back to
 * a connected sender as ECONNREFUSED, as ICMP would tell it.
 */
#include "poll/sim.h"

#include "base/alloc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { DATAGRAM_MAX = 65507, REORDER_FACTOR = 10 };

static struct fibril__sim_sock *find(struct fibril__sim *s, sa_family_t family,
                                     const struct fibril__sim_addr *to)
{
    for (struct fibril__link *n = s->named.head.next; n != &s->named.head; n = n->next) {
        struct fibril__sim_sock *k = CONTAINER_OF(n, struct fibril__sim_sock, named);
        if (k->type == FIBRIL__SIM_DGRAM && k->family == family &&
            fibril__sim_addr_takes(&k->local, to)) {
            return k;
        }
    }
    return NULL;
}

static bool has_room(struct fibril__sim *s, const struct fibril__sim_sock *k, size_t len)
{
    return fibril__list_empty(&k->messages) || k->message_bytes + len <= s->config.buffer_bytes;
}

/* Where the datagram of op goes: its address or the peer of k. */
static int target(const struct fibril__sim_sock *k, const struct fibril__op *op,
                  struct fibril__sim_addr *ret_to)
{
    const struct msghdr *m = op->kind == FIBRIL__OP_SENDMSG ? op->buf : NULL;
    if (m && m->msg_name && m->msg_namelen) {
        return fibril__sim_addr_of(m->msg_name, m->msg_namelen, k->family, ret_to);
    }
    if (k->state != FIBRIL__SIM_CONNECTED) {
        return k->family == AF_UNIX ? -ENOTCONN : -EDESTADDRREQ;
    }
    *ret_to = k->peer;
    return 0;
}

static struct fibril__sim_message *message_new(struct fibril__sim *s, struct fibril__sim_sock *k,
                                               const struct fibril__sim_bytes *b, size_t len)
{
    if (fibril__sim_promise(s, 1) < 0) {
        return NULL;
    }
    struct fibril__sim_message *m = fibril__alloc_zero(sizeof *m + len);
    if (!m) {
        fibril__sim_promise(s, -1);
        return NULL;
    }
    m->event.kind = FIBRIL__SIM_MESSAGE;
    m->event.node.index = FIBRIL__HEAP_OUT;
    m->event.message = m;
    m->event.len = len;
    m->from = k->local;
    m->len = len;
    fibril__sim_gather(b, 0, m->bytes, len);
    return m;
}

void fibril__sim_message_free(struct fibril__sim *s, struct fibril__sim_message *m)
{
    if (m->sender) {
        fibril__sim_sock_unref(s, m->sender);
    }
    if (m->event.sock) {
        fibril__sim_sock_unref(s, m->event.sock);
    }
    fibril__sim_promise(s, -1);
    fibril__free(m);
}

static int64_t arrival(struct fibril__sim *s, struct fibril__sim_sock *to, bool local)
{
    int64_t at = s->now_ns + fibril__sim_latency(s, local);
    if (local) {
        at = at > to->last_ns ? at : to->last_ns + 1;
        to->last_ns = at;
    } else if (fibril__sim_chance(s, s->config.reorder)) {
        at += s->config.latency_max_ns * (int64_t)fibril__sim_below(s, REORDER_FACTOR);
    }
    return at;
}

/* A UNIX datagram needs a receiver now, and room there. */
static int64_t check_local(struct fibril__sim *s, struct fibril__sim_sock *k,
                           struct fibril__sim_sock *to, const struct fibril__sim_addr *addr,
                           size_t len)
{
    if (!to) {
        bool path = addr->len > sizeof(sa_family_t) &&
                    ((const char *)&addr->ss)[sizeof(sa_family_t)] != '\0';
        return path ? -ENOENT : -ECONNREFUSED;
    }
    if (!has_room(s, to, len)) {
        if (!fibril__link_in_list(&k->waiting)) {
            fibril__list_push(&to->blocked, &k->waiting);
        }
        return FIBRIL__SIM_WAIT;
    }
    return 0;
}

int64_t fibril__sim_dgram_send(struct fibril__sim *s, struct fibril__sim_sock *k,
                               const struct fibril__sim_bytes *b, const struct fibril__op *op)
{
    struct fibril__sim_addr addr;
    bool local = k->family == AF_UNIX;
    size_t len = fibril__sim_bytes_len(b);
    int64_t rc = k->error;
    k->error = 0;
    rc = rc < 0 ? rc : k->shut_write ? -EPIPE : target(k, op, &addr);
    if (rc == 0 && len > (local ? s->config.buffer_bytes : DATAGRAM_MAX)) {
        rc = -EMSGSIZE;
    }
    if (rc < 0) {
        return rc;
    }
    fibril__sim_name_self(s, k, &addr);
    struct fibril__sim_sock *to = find(s, k->family, &addr);
    if (local && (rc = check_local(s, k, to, &addr, len)) != 0) {
        return rc;
    }
    if (!local && fibril__sim_chance(s, s->config.loss)) {
        return (int64_t)len;
    }
    struct fibril__sim_message *m = message_new(s, k, b, len);
    if (!m) {
        return -ENOMEM;
    }
    k->refs++;
    m->sender = k;
    if (to) {
        to->refs++;
        to->message_bytes += local ? len : 0; /* its room is taken while it is on the way */
    } else {
        m->event.kind = FIBRIL__SIM_UNREACHABLE;
    }
    m->event.sock = to;
    fibril__sim_at(s, &m->event,
                   to ? arrival(s, to, local) : s->now_ns + fibril__sim_latency(s, false));
    return (int64_t)len;
}

static void tell_name(struct msghdr *m, const struct fibril__sim_sock *k,
                      const struct fibril__sim_message *d)
{
    if (m->msg_name) {
        fibril__sim_addr_out(&d->from, k->family, m->msg_name, &m->msg_namelen);
    }
    m->msg_controllen = 0;
}

int64_t fibril__sim_dgram_recv(struct fibril__sim *s, struct fibril__sim_sock *k,
                               const struct fibril__sim_bytes *b, struct fibril__op *op)
{
    struct fibril__link *n = fibril__list_first(&k->messages);
    if (k->error) {
        int error = k->error;
        k->error = 0;
        return error;
    }
    if (!n) {
        return k->shut_read ? 0 : FIBRIL__SIM_WAIT;
    }
    struct fibril__sim_message *d = CONTAINER_OF(n, struct fibril__sim_message, link);
    size_t len = fibril__sim_bytes_len(b);
    size_t got = d->len < len ? d->len : len;
    fibril__sim_scatter(b, 0, d->bytes, got);
    if (op->kind == FIBRIL__OP_RECVMSG) {
        struct msghdr *m = op->buf;
        tell_name(m, k, d);
        m->msg_flags = got < d->len ? MSG_TRUNC : 0;
    }
    bool socket_call = op->kind == FIBRIL__OP_RECV || op->kind == FIBRIL__OP_RECVMSG;
    if (socket_call && (op->flags & MSG_TRUNC)) {
        got = d->len;
    }
    if (!socket_call || !(op->flags & MSG_PEEK)) {
        fibril__link_remove(n);
        k->message_bytes -= d->len;
        fibril__sim_message_free(s, d);
        fibril__sim_unblock(s, k);
    }
    return (int64_t)got;
}

short fibril__sim_dgram_ready(const struct fibril__sim_sock *k)
{
    int ready = POLLOUT;
    ready |= k->error ? POLLERR | POLLIN : 0;
    ready |= !fibril__list_empty(&k->messages) || k->shut_read ? POLLIN : 0;
    return (short)ready;
}

void fibril__sim_dgram_close(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__link *n;
    while ((n = fibril__list_pop(&k->messages))) {
        fibril__sim_message_free(s, CONTAINER_OF(n, struct fibril__sim_message, link));
    }
}

void fibril__sim_unblock(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__list again;
    fibril__list_init(&again);
    struct fibril__link *n;
    while ((n = fibril__list_pop(&k->blocked))) {
        fibril__list_push(&again, n);
    }
    /* Each tries in the order of its coming and goes back into the list where there is still no
     * room. */
    while ((n = fibril__list_pop(&again))) {
        struct fibril__sim_sock *b = CONTAINER_OF(n, struct fibril__sim_sock, waiting);
        if (b->type == FIBRIL__SIM_DGRAM) {
            fibril__sim_retry(s, b);
        } else {
            b->connect_event.sock = b; /* the list's reference goes with it */
            fibril__sim_at(s, &b->connect_event, s->now_ns + fibril__sim_latency(s, true));
        }
    }
}

/* The news that nobody took a datagram reaches a connected sender, once, one latency later. */
static void unreachable(struct fibril__sim *s, struct fibril__sim_message *m)
{
    struct fibril__sim_sock *sender = m->sender;
    if (sender->fd >= 0 && sender->state == FIBRIL__SIM_CONNECTED && sender->family != AF_UNIX) {
        sender->error = -ECONNREFUSED;
        fibril__sim_retry(s, sender);
    }
    fibril__sim_message_free(s, m);
}

void fibril__sim_dgram_event(struct fibril__sim *s, struct fibril__sim_event *e)
{
    struct fibril__sim_message *m = e->message;
    struct fibril__sim_sock *to = e->sock;
    if (e->kind == FIBRIL__SIM_UNREACHABLE) {
        unreachable(s, m);
        return;
    }
    bool local = to->family == AF_UNIX;
    if (to->fd < 0) {
        e->kind = FIBRIL__SIM_UNREACHABLE;
        fibril__sim_at(s, e, s->now_ns + fibril__sim_latency(s, local));
        return;
    }
    bool stranger =
        to->state == FIBRIL__SIM_CONNECTED && !fibril__sim_addr_takes(&to->peer, &m->from);
    if (to->shut_read || stranger || (!local && !has_room(s, to, m->len))) {
        to->message_bytes -= local ? m->len : 0;
        fibril__sim_message_free(s, m);
        return;
    }
    to->message_bytes += local ? 0 : m->len;
    /* What lies in a queue holds nobody: the queue may outlive neither. */
    fibril__list_push(&to->messages, &m->link);
    m->event.sock = NULL;
    fibril__sim_sock_unref(s, m->sender);
    m->sender = NULL;
    fibril__sim_sock_unref(s, to);
    fibril__sim_retry(s, to);
}
