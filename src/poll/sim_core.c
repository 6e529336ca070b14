/* SPDX-License-Identifier: MIT */
/*
 * The clockwork of the simulation: chance, the trace, events in the order of virtual time, and how
 * waiting operations are tried and ended.
 *
 * The heap gives out equal times in an order of its own, but always the same one for the same
 * history, and that is all that is promised.
 */
#include "poll/sim.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

uint64_t fibril__sim_random(struct fibril__sim *s)
{
    /* splitmix64: any seed is a good seed, and the state is one word. */
    uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t fibril__sim_below(struct fibril__sim *s, uint64_t n)
{
    return fibril__sim_random(s) % n;
}

bool fibril__sim_chance(struct fibril__sim *s, uint64_t rate)
{
    return rate && (fibril__sim_random(s) >> 32) < rate;
}

int64_t fibril__sim_latency(struct fibril__sim *s, bool local)
{
    const struct fibril__sim_config *c = &s->config;
    int64_t min = local ? c->local_min_ns : c->latency_min_ns;
    int64_t max = local ? c->local_max_ns : c->latency_max_ns;
    return min + (int64_t)fibril__sim_below(s, (uint64_t)(max - min) + 1);
}

static void mix(struct fibril__sim *s, uint64_t value)
{
    /* FNV-1a, a word instead of a byte at a time, and folded so that high bits count. */
    s->hash = (s->hash ^ value) * UINT64_C(0x100000001b3);
    s->hash ^= s->hash >> 29;
}

void fibril__sim_note(struct fibril__sim *s, unsigned kind, int fd, int64_t len)
{
    mix(s, (uint64_t)s->now_ns);
    mix(s, (uint64_t)kind << 32 ^ (uint32_t)fd);
    mix(s, (uint64_t)len);
}

/* ---- events ---------------------------------------------------------------------------------- */

int fibril__sim_promise(struct fibril__sim *s, int n)
{
    int64_t wanted = (int64_t)s->promised + n;
    /* Those in the heap now that lie in sockets are counted twice: too much room does no harm. */
    int rc = n > 0 ? fibril__heap_room(&s->events, (uint64_t)wanted + s->events.len) : 0;
    if (rc == 0) {
        s->promised = (uint32_t)wanted;
    }
    return rc;
}

struct fibril__sim_event *fibril__sim_event_new(struct fibril__sim *s, unsigned kind)
{
    if (fibril__heap_room(&s->events, (uint64_t)s->promised + s->events.len + 1) < 0) {
        return NULL;
    }
    struct fibril__sim_event *e = fibril__alloc_zero(sizeof *e);
    if (e) {
        e->kind = (uint8_t)kind;
        e->own = true;
        e->node.index = FIBRIL__HEAP_OUT;
    }
    return e;
}

bool fibril__sim_under_way(const struct fibril__sim_event *e)
{
    return e->node.index != FIBRIL__HEAP_OUT;
}

void fibril__sim_at(struct fibril__sim *s, struct fibril__sim_event *e, int64_t at_ns)
{
    fibril__heap_insert(&s->events, &e->node, at_ns > s->now_ns ? at_ns : s->now_ns);
}

static int fd_of(const struct fibril__sim_event *e)
{
    const struct fibril__sim_sock *k = e->sock ? e->sock : e->flow ? e->flow->reader : NULL;
    return k ? k->fd : -1;
}

static void happens(struct fibril__sim *s, struct fibril__sim_event *e)
{
    fibril__sim_note(s, e->kind, fd_of(e), (int64_t)e->len);
    if (e->kind == FIBRIL__SIM_RETRY) {
        struct fibril__sim_sock *k = e->sock;
        e->sock = NULL;
        fibril__sim_retry(s, k);
        fibril__sim_sock_unref(s, k);
    } else if (e->kind >= FIBRIL__SIM_MESSAGE) {
        fibril__sim_dgram_event(s, e);
    } else {
        fibril__sim_stream_event(s, e);
    }
}

void fibril__sim_happen(struct fibril__sim *s)
{
    while (fibril__heap_min(&s->events) <= s->now_ns) {
        struct fibril__heap_node *n = fibril__heap_pop(&s->events);
        happens(s, CONTAINER_OF(n, struct fibril__sim_event, node));
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

void fibril__sim_end(struct fibril__sim *s, struct fibril__op *op, int64_t result)
{
    fibril__link_remove(&op->link);
    op->result = result;
    op->poller_state = FIBRIL__SIM_OVER;
    fibril__list_push(&s->over, &op->link);
}

struct fibril__list *fibril__sim_queue(struct fibril__sim_sock *k, const struct fibril__op *op)
{
    switch ((enum fibril__op_kind)op->kind) {
    case FIBRIL__OP_POLL: return &k->pollers;
    case FIBRIL__OP_READ:
    case FIBRIL__OP_READV:
    case FIBRIL__OP_RECV:
    case FIBRIL__OP_RECVMSG:
    case FIBRIL__OP_ACCEPT: return &k->readers;
    default: return &k->writers;
    }
}

static int64_t try_poll(const struct fibril__sim_sock *k, const struct fibril__op *op)
{
    short ready =
        k->type == FIBRIL__SIM_DGRAM ? fibril__sim_dgram_ready(k) : fibril__sim_stream_ready(k);
    ready = (short)(ready & (op->events | POLLERR | POLLHUP));
    return ready ? ready : FIBRIL__SIM_WAIT;
}

static int64_t try_bytes(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__op *op)
{
    struct fibril__sim_bytes b;
    bool socket_call = op->kind >= FIBRIL__OP_RECV && op->kind <= FIBRIL__OP_SENDMSG;
    if (socket_call && k->type == FIBRIL__SIM_PIPE) {
        return -ENOTSOCK;
    }
    int rc = fibril__sim_bytes_of(op, &b);
    if (rc < 0) {
        return rc;
    }
    bool reads = fibril__sim_queue(k, op) == &k->readers;
    if (k->type == FIBRIL__SIM_DGRAM) {
        return reads ? fibril__sim_dgram_recv(s, k, &b, op) : fibril__sim_dgram_send(s, k, &b, op);
    }
    if (!reads) {
        return fibril__sim_stream_send(s, k, &b);
    }
    int64_t got = fibril__sim_stream_recv(s, k, &b, socket_call ? op->flags : 0);
    if (op->kind == FIBRIL__OP_RECVMSG && got >= 0) {
        struct msghdr *m = op->buf;
        m->msg_namelen = 0;
        m->msg_controllen = 0;
        m->msg_flags = 0;
    }
    return got;
}

int64_t fibril__sim_try(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__op *op)
{
    switch ((enum fibril__op_kind)op->kind) {
    case FIBRIL__OP_POLL: return try_poll(k, op);
    case FIBRIL__OP_ACCEPT: return fibril__sim_accept(s, k, op);
    case FIBRIL__OP_CONNECT: return fibril__sim_connect(s, k, op);
    case FIBRIL__OP_READ:
    case FIBRIL__OP_WRITE:
    case FIBRIL__OP_READV:
    case FIBRIL__OP_WRITEV:
    case FIBRIL__OP_RECV:
    case FIBRIL__OP_SEND:
    case FIBRIL__OP_RECVMSG:
    case FIBRIL__OP_SENDMSG: return try_bytes(s, k, op);
    default: return -EOPNOTSUPP;
    }
}

/* Those cancelled the slow way end here, unless something else has just ended them. */
static void end_cancelled(struct fibril__sim *s, struct fibril__list *l)
{
    struct fibril__link *n = l->head.next;
    while (n != &l->head) {
        struct fibril__op *op = CONTAINER_OF(n, struct fibril__op, link);
        n = n->next; /* NOLINT(clang-analyzer-core.NullDereference): a list is a ring */
        if (op->poller_state == FIBRIL__SIM_CANCELLED) {
            fibril__sim_end(s, op, -ECANCELED);
        }
    }
}

static void retry_list(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__list *l)
{
    struct fibril__link *n;
    while ((n = fibril__list_first(l))) {
        struct fibril__op *op = CONTAINER_OF(n, struct fibril__op, link);
        int64_t result = fibril__sim_try(s, k, op);
        if (result == FIBRIL__SIM_WAIT) {
            break;
        }
        fibril__sim_end(s, op, result);
    }
    end_cancelled(s, l);
}

void fibril__sim_retry(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    if (k->retrying) {
        return; /* what it does to itself (a pipe into one's own hands) the outer call sees */
    }
    k->retrying = true;
    retry_list(s, k, &k->readers);
    retry_list(s, k, &k->writers);
    struct fibril__link *n = k->pollers.head.next;
    while (n != &k->pollers.head) {
        struct fibril__op *op = CONTAINER_OF(n, struct fibril__op, link);
        n = n->next;
        int64_t result = try_poll(k, op);
        if (result != FIBRIL__SIM_WAIT) {
            fibril__sim_end(s, op, result);
        }
    }
    end_cancelled(s, &k->pollers);
    k->retrying = false;
}

void fibril__sim_retry_soon(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    if (!fibril__sim_under_way(&k->retry_event)) {
        k->refs++;
        k->retry_event.sock = k;
        fibril__sim_at(s, &k->retry_event, s->now_ns + fibril__sim_latency(s, true));
    }
}

/* ---- pieces of memory ------------------------------------------------------------------------ */

int fibril__sim_bytes_of(const struct fibril__op *op, struct fibril__sim_bytes *ret_bytes)
{
    const struct msghdr *m = op->buf;
    switch ((enum fibril__op_kind)op->kind) {
    case FIBRIL__OP_READV:
    case FIBRIL__OP_WRITEV:
        ret_bytes->iov = op->buf;
        ret_bytes->n = op->len;
        break;
    case FIBRIL__OP_RECVMSG:
    case FIBRIL__OP_SENDMSG:
        ret_bytes->iov = m->msg_iov;
        ret_bytes->n = m->msg_iovlen;
        break;
    default:
        ret_bytes->one = (struct iovec){.iov_base = op->buf, .iov_len = op->len};
        ret_bytes->iov = &ret_bytes->one;
        ret_bytes->n = 1;
    }
    return ret_bytes->n > 1024 ? -EMSGSIZE : 0;
}

size_t fibril__sim_bytes_len(const struct fibril__sim_bytes *b)
{
    size_t len = 0;
    for (size_t i = 0; i < b->n; i++) {
        len += b->iov[i].iov_len;
    }
    return len;
}

static void copy(const struct fibril__sim_bytes *b, size_t skip, uint8_t *flat, size_t len,
                 bool out)
{
    for (size_t i = 0; i < b->n && len; i++) {
        size_t piece = b->iov[i].iov_len;
        if (skip >= piece) {
            skip -= piece;
            continue;
        }
        piece = piece - skip < len ? piece - skip : len;
        uint8_t *at = (uint8_t *)b->iov[i].iov_base + skip;
        memcpy(out ? flat : at, out ? at : flat, piece);
        flat += piece;
        len -= piece;
        skip = 0;
    }
}

void fibril__sim_scatter(const struct fibril__sim_bytes *b, size_t skip, const void *from,
                         size_t len)
{
    copy(b, skip, (uint8_t *)(uintptr_t)from, len, false);
}

void fibril__sim_gather(const struct fibril__sim_bytes *b, size_t skip, void *to, size_t len)
{
    copy(b, skip, to, len, true);
}
