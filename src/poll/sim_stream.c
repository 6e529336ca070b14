/* SPDX-License-Identifier: MIT */
/*
 * Connections and pipes of the simulation. A connection is two flows, a pipe is one; what is
 * written waits in the flow until its event lets it arrive, and events of one flow never overtake
 * each other.
 *
 * As in Linux: data that came before a reset can still be read; an error is told once, then reading
 * gives the end and writing EPIPE; closing with unread data, or sending to a closed end, resets.
 */
#include "poll/sim.h"

#include "base/alloc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { PIPE_ATOMIC = 4096, SYN_TRIES = 6 };
static const int64_t RETRANSMIT_NS = 200000000, SYN_RETRY_NS = 1000000000;

/* ---- flows ----------------------------------------------------------------------------------- */

static struct fibril__sim_flow *flow_new(struct fibril__sim *s, struct fibril__sim_sock *writer,
                                         struct fibril__sim_sock *reader, uint32_t cap, bool local)
{
    if (fibril__sim_promise(s, 1) < 0) {
        return NULL;
    }
    struct fibril__sim_flow *f = fibril__alloc_zero(sizeof *f);
    if (!f) {
        fibril__sim_promise(s, -1);
        return NULL;
    }
    *f = (struct fibril__sim_flow){
        .refs = 2, .cap = cap, .reader = reader, .writer = writer, .local = local};
    f->fin_event.kind = FIBRIL__SIM_FIN;
    f->fin_event.node.index = FIBRIL__HEAP_OUT;
    return f;
}

void fibril__sim_flow_unref(struct fibril__sim *s, struct fibril__sim_flow *f)
{
    if (f && --f->refs == 0) {
        fibril__sim_promise(s, -1);
        fibril__free(f->bytes);
        fibril__free(f);
    }
}

int fibril__sim_pipe_join(struct fibril__sim *s, struct fibril__sim_sock *from,
                          struct fibril__sim_sock *to)
{
    struct fibril__sim_flow *f = flow_new(s, from, to, s->config.pipe_bytes, true);
    if (!f) {
        return -ENOMEM;
    }
    f->atomic = true;
    from->out = to->in = f;
    from->state = to->state = FIBRIL__SIM_CONNECTED;
    return 0;
}

static size_t flow_readable(const struct fibril__sim_flow *f)
{
    return (size_t)(f->arrived - f->head);
}

static size_t flow_room(const struct fibril__sim_flow *f)
{
    return f->cap - (size_t)(f->tail - f->head);
}

/* When something sent now arrives. */
static int64_t flow_arrival(struct fibril__sim *s, struct fibril__sim_flow *f)
{
    int64_t at = s->now_ns + fibril__sim_latency(s, f->local);
    if (!f->local && fibril__sim_chance(s, s->config.loss)) {
        at += RETRANSMIT_NS;
    }
    if (at <= f->last_ns) {
        at = f->last_ns + 1;
    }
    f->last_ns = at;
    return at;
}

static void flow_copy_in(struct fibril__sim_flow *f, const struct fibril__sim_bytes *b, size_t len)
{
    size_t at = (size_t)(f->tail % f->cap);
    size_t first = f->cap - at < len ? f->cap - at : len;
    fibril__sim_gather(b, 0, f->bytes + at, first);
    fibril__sim_gather(b, first, f->bytes, len - first);
    f->tail += len;
}

static void flow_copy_out(struct fibril__sim_flow *f, const struct fibril__sim_bytes *b, size_t len)
{
    size_t at = (size_t)(f->head % f->cap);
    size_t first = f->cap - at < len ? f->cap - at : len;
    fibril__sim_scatter(b, 0, f->bytes + at, first);
    fibril__sim_scatter(b, first, f->bytes, len - first);
}

static void flow_end(struct fibril__sim *s, struct fibril__sim_flow *f)
{
    if (!f->fin_sent) {
        f->fin_sent = true;
        f->refs++;
        f->fin_event.flow = f;
        fibril__sim_at(s, &f->fin_event, flow_arrival(s, f));
    }
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int take_error(struct fibril__sim_sock *k)
{
    int error = k->error;
    k->error = 0;
    return error;
}

/* How many of len bytes go this time. */
static size_t part_of(struct fibril__sim *s, size_t len)
{
    if (len > 1 && fibril__sim_chance(s, s->config.partial)) {
        return 1 + (size_t)fibril__sim_below(s, len - 1);
    }
    return len;
}

int64_t fibril__sim_stream_recv(struct fibril__sim *s, struct fibril__sim_sock *k,
                                const struct fibril__sim_bytes *b, int flags)
{
    struct fibril__sim_flow *f = k->in;
    size_t len = fibril__sim_bytes_len(b);
    if (k->state == FIBRIL__SIM_CONNECTING) {
        return FIBRIL__SIM_WAIT;
    }
    if (!f) {
        return k->type == FIBRIL__SIM_PIPE ? -EBADF : k->error ? take_error(k) : -ENOTCONN;
    }
    size_t readable = flow_readable(f);
    if (len && readable) {
        len = part_of(s, len < readable ? len : readable);
        flow_copy_out(f, b, len);
        if (!(flags & MSG_PEEK)) {
            f->head += len;
            if (f->writer) {
                fibril__sim_retry(s, f->writer);
            }
        }
        return (int64_t)len;
    }
    if (k->error) {
        return take_error(k);
    }
    return len == 0 || f->fin || k->shut_read || k->state == FIBRIL__SIM_DEAD ? 0
                                                                              : FIBRIL__SIM_WAIT;
}

/* Why nothing can be sent on k; 0 if it can, or must wait. */
static int send_error(struct fibril__sim_sock *k)
{
    if (k->error) {
        return take_error(k);
    }
    if (!k->out) {
        return k->type == FIBRIL__SIM_PIPE ? -EBADF : -EPIPE;
    }
    if (k->out->fin_sent || k->state == FIBRIL__SIM_DEAD || (k->out->local && !k->out->reader)) {
        return -EPIPE;
    }
    return 0;
}

int64_t fibril__sim_stream_send(struct fibril__sim *s, struct fibril__sim_sock *k,
                                const struct fibril__sim_bytes *b)
{
    if (k->state == FIBRIL__SIM_CONNECTING) {
        return FIBRIL__SIM_WAIT;
    }
    int rc = send_error(k);
    struct fibril__sim_flow *f = k->out;
    size_t len = fibril__sim_bytes_len(b);
    if (rc < 0 || len == 0) {
        return rc;
    }
    bool whole = f->atomic && len <= PIPE_ATOMIC;
    if (flow_room(f) < (whole ? len : 1)) {
        return FIBRIL__SIM_WAIT;
    }
    if (!f->bytes && !(f->bytes = fibril__alloc(f->cap))) {
        return -ENOMEM;
    }
    struct fibril__sim_event *e = fibril__sim_event_new(s, FIBRIL__SIM_DATA);
    if (!e) {
        return -ENOMEM;
    }
    len = len < flow_room(f) ? len : flow_room(f);
    len = whole ? len : part_of(s, len);
    flow_copy_in(f, b, len);
    e->flow = f;
    e->len = len;
    f->refs++;
    fibril__sim_at(s, e, flow_arrival(s, f));
    if (!f->local && fibril__sim_chance(s, s->config.reset)) {
        fibril__sim_reset(s, k, fibril__sim_latency(s, false));
        if (f->reader) {
            fibril__sim_reset(s, f->reader, fibril__sim_latency(s, false));
        }
    }
    return (int64_t)len;
}

short fibril__sim_stream_ready(const struct fibril__sim_sock *k)
{
    int ready = 0;
    if (k->state == FIBRIL__SIM_LISTENING) {
        return fibril__list_empty(&k->accepts) ? 0 : POLLIN;
    }
    if (k->state == FIBRIL__SIM_CONNECTING) {
        return 0;
    }
    if (k->state == FIBRIL__SIM_FRESH) {
        return POLLOUT | POLLHUP;
    }
    bool dead = k->state == FIBRIL__SIM_DEAD;
    if (k->in) {
        bool end = k->in->fin || k->shut_read || dead;
        bool both = dead || (end && k->out && k->out->fin_sent);
        ready |= flow_readable(k->in) || end ? POLLIN : 0;
        ready |= end && k->type == FIBRIL__SIM_STREAM ? POLLRDHUP : 0;
        ready |= both || (end && k->type == FIBRIL__SIM_PIPE) ? POLLHUP : 0;
    }
    if (k->out) {
        bool gone = k->out->local && !k->out->reader;
        ready |= flow_room(k->out) || dead || gone ? POLLOUT : 0;
        ready |= gone && k->type == FIBRIL__SIM_PIPE ? POLLERR : 0;
    }
    return (short)(ready | (k->error ? POLLERR : 0));
}

/* ---- ends ------------------------------------------------------------------------------------ */

void fibril__sim_stream_shut_write(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    if (k->out) {
        flow_end(s, k->out);
        fibril__sim_retry(s, k);
    }
}

void fibril__sim_reset(struct fibril__sim *s, struct fibril__sim_sock *k, int64_t delay_ns)
{
    if (!fibril__sim_under_way(&k->reset_event) && k->state != FIBRIL__SIM_DEAD) {
        k->refs++;
        k->reset_event.sock = k;
        fibril__sim_at(s, &k->reset_event, s->now_ns + delay_ns);
    }
}

/* Takes k out of its flows. What it wrote still arrives, then the end, or a reset if it leaves data
 * unread. */
void fibril__sim_stream_close(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__sim_flow *in = k->in, *out = k->out;
    bool rude = in && k->type == FIBRIL__SIM_STREAM && flow_readable(in);
    k->in = k->out = NULL;
    if (out) {
        out->writer = NULL;
        out->fin_sent |= k->state == FIBRIL__SIM_DEAD; /* a broken connection has no clean end */
        if (rude && out->reader) {
            fibril__sim_reset(s, out->reader, flow_arrival(s, out) - s->now_ns);
        } else if (out->reader) {
            flow_end(s, out);
        }
        fibril__sim_flow_unref(s, out);
    }
    if (in) {
        in->reader = NULL;
        if (in->writer && in->local) {
            fibril__sim_retry(s, in->writer); /* EPIPE */
        }
        fibril__sim_flow_unref(s, in);
    }
}

/* ---- connections ----------------------------------------------------------------------------- */

/* Makes the server's end of the connection that k asks for, or NULL. */
static struct fibril__sim_sock *other_end(struct fibril__sim *s, struct fibril__sim_sock *k,
                                          struct fibril__sim_sock *listener)
{
    bool local = k->family == AF_UNIX;
    struct fibril__sim_sock *e = fibril__sim_sock_new(s, FIBRIL__SIM_STREAM, k->family);
    if (!e) {
        return NULL;
    }
    struct fibril__sim_flow *there = flow_new(s, k, e, s->config.buffer_bytes, local);
    struct fibril__sim_flow *back = there ? flow_new(s, e, k, s->config.buffer_bytes, local) : NULL;
    if (!back) {
        if (there) {
            there->refs = 1;
            fibril__sim_flow_unref(s, there);
        }
        fibril__sim_sock_unref(s, e);
        return NULL;
    }
    k->out = e->in = there;
    k->in = e->out = back;
    e->state = FIBRIL__SIM_CONNECTED;
    e->connect_told = true;
    e->local = listener->local;
    if (k->family != AF_UNIX) {
        e->local = k->peer; /* the address that was called, not "any" */
    }
    e->peer = k->local;
    return e;
}

static struct fibril__sim_sock *find_listener(struct fibril__sim *s,
                                              const struct fibril__sim_sock *k)
{
    for (struct fibril__link *n = s->named.head.next; n != &s->named.head; n = n->next) {
        struct fibril__sim_sock *l = CONTAINER_OF(n, struct fibril__sim_sock, named);
        if (l->type == FIBRIL__SIM_STREAM && l->state == FIBRIL__SIM_LISTENING &&
            fibril__sim_addr_takes(&l->local, &k->peer)) {
            return l;
        }
    }
    return NULL;
}

static void answer(struct fibril__sim *s, struct fibril__sim_sock *k, int result)
{
    int64_t at = s->now_ns + fibril__sim_latency(s, k->family == AF_UNIX);
    k->connect_event.kind = FIBRIL__SIM_ANSWER;
    k->connect_event.len = (size_t)-result;
    k->connect_event.sock = k;
    if (result == 0) {
        k->in->last_ns = at; /* no byte comes before the connection stands */
    }
    fibril__sim_at(s, &k->connect_event, at);
}

/* The listener has no room: TCP sends another SYN, a UNIX socket waits. */
static void try_later(struct fibril__sim *s, struct fibril__sim_sock *k,
                      struct fibril__sim_sock *listener)
{
    if (k->family == AF_UNIX) {
        fibril__list_push(&listener->blocked, &k->waiting);
        return; /* the reference of the event becomes the list's */
    }
    if (k->tries >= SYN_TRIES) {
        answer(s, k, -ETIMEDOUT);
        return;
    }
    k->connect_event.sock = k;
    fibril__sim_at(s, &k->connect_event, s->now_ns + (SYN_RETRY_NS << k->tries++));
}

static void syn_arrives(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    struct fibril__sim_sock *l = find_listener(s, k);
    if (k->fd < 0) {
        fibril__sim_sock_unref(s, k);
    } else if (!l || (k->family != AF_UNIX && fibril__sim_chance(s, s->config.refuse))) {
        bool path = k->family == AF_UNIX && k->peer.len > sizeof(sa_family_t) &&
                    ((const char *)&k->peer.ss)[sizeof(sa_family_t)] != '\0';
        answer(s, k, path ? -ENOENT : -ECONNREFUSED);
    } else if (l->accepts_len > l->backlog) {
        try_later(s, k, l);
    } else {
        struct fibril__sim_sock *e = other_end(s, k, l);
        if (!e) {
            answer(s, k, -ENOMEM);
            return;
        }
        e->listener = l;
        fibril__list_push(&l->accepts, &e->waiting);
        l->accepts_len++;
        answer(s, k, 0);
        fibril__sim_retry(s, l);
    }
}

static void answer_arrives(struct fibril__sim *s, struct fibril__sim_sock *k, size_t error)
{
    if (k->state == FIBRIL__SIM_CONNECTING && k->fd >= 0) {
        k->state = error ? FIBRIL__SIM_FRESH : FIBRIL__SIM_CONNECTED;
        k->error = -(int)error;
        if (error) {
            k->peer.len = 0;
        }
        fibril__sim_retry(s, k);
    }
    fibril__sim_sock_unref(s, k);
}

int64_t fibril__sim_connect(struct fibril__sim *s, struct fibril__sim_sock *k,
                            const struct fibril__op *op)
{
    if (k->state == FIBRIL__SIM_CONNECTING) {
        return FIBRIL__SIM_WAIT;
    }
    if (k->error) {
        return take_error(k);
    }
    if (k->type == FIBRIL__SIM_PIPE) {
        return -ENOTSOCK;
    }
    struct fibril__sim_addr to;
    int rc = fibril__sim_addr_of(op->buf, (socklen_t)op->len, k->family, &to);
    if (rc < 0) {
        return rc;
    }
    if (k->type == FIBRIL__SIM_DGRAM) {
        k->peer = to;
        k->state = FIBRIL__SIM_CONNECTED;
        fibril__sim_name_self(s, k, &to);
        return 0;
    }
    if (k->state == FIBRIL__SIM_CONNECTED) {
        /* The first call after the connection has come to stand says so, the next that it stands
         * already. */
        bool told = k->connect_told;
        k->connect_told = true;
        return told ? -EISCONN : 0;
    }
    if (k->state != FIBRIL__SIM_FRESH) {
        return k->state == FIBRIL__SIM_LISTENING ? -EISCONN : -ECONNABORTED;
    }
    k->peer = to;
    k->tries = 0;
    fibril__sim_name_self(s, k, &to);
    k->state = FIBRIL__SIM_CONNECTING;
    k->refs++;
    k->connect_event.kind = FIBRIL__SIM_SYN;
    k->connect_event.len = 0;
    k->connect_event.sock = k;
    fibril__sim_at(s, &k->connect_event, s->now_ns + fibril__sim_latency(s, k->family == AF_UNIX));
    return FIBRIL__SIM_WAIT;
}

int64_t fibril__sim_accept(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__op *op)
{
    if (k->type != FIBRIL__SIM_STREAM) {
        return k->type == FIBRIL__SIM_PIPE ? -ENOTSOCK : -EOPNOTSUPP;
    }
    if (k->state != FIBRIL__SIM_LISTENING) {
        return -EINVAL;
    }
    struct fibril__link *n = fibril__list_first(&k->accepts);
    if (!n) {
        return FIBRIL__SIM_WAIT;
    }
    struct fibril__sim_sock *e = CONTAINER_OF(n, struct fibril__sim_sock, waiting);
    int fd = fibril__sim_fd_new(s, e);
    if (fd < 0) {
        return fd;
    }
    fibril__link_remove(n);
    e->listener = NULL;
    k->accepts_len--;
    if (op->buf) {
        fibril__sim_addr_out(&e->peer, e->family, op->buf, &op->addr_len);
    }
    fibril__sim_unblock(s, k);
    return fd;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void data_arrives(struct fibril__sim *s, struct fibril__sim_flow *f, size_t len)
{
    struct fibril__sim_sock *reader = f->reader;
    f->arrived += len;
    if (reader && reader->state != FIBRIL__SIM_DEAD) {
        fibril__sim_retry(s, reader);
        return;
    }
    f->head = f->arrived; /* nobody will read it */
    if (f->writer && !f->local) {
        fibril__sim_reset(s, f->writer, fibril__sim_latency(s, false));
    }
}

static void breaks(struct fibril__sim *s, struct fibril__sim_sock *k)
{
    if (k->state != FIBRIL__SIM_DEAD && (k->in || k->out)) {
        k->error = k->in && k->in->fin ? -EPIPE : -ECONNRESET;
        k->state = FIBRIL__SIM_DEAD;
        fibril__sim_retry(s, k);
    }
    fibril__sim_sock_unref(s, k);
}

void fibril__sim_stream_event(struct fibril__sim *s, struct fibril__sim_event *e)
{
    struct fibril__sim_sock *k = e->sock;
    struct fibril__sim_flow *f = e->flow;
    unsigned kind = e->kind;
    size_t len = e->len;
    e->sock = NULL;
    e->flow = NULL;
    if (e->own) {
        fibril__free(e);
    }
    switch (kind) {
    case FIBRIL__SIM_SYN: syn_arrives(s, k); break;
    case FIBRIL__SIM_ANSWER: answer_arrives(s, k, len); break;
    case FIBRIL__SIM_RESET: breaks(s, k); break;
    case FIBRIL__SIM_DATA:
        data_arrives(s, f, len);
        fibril__sim_flow_unref(s, f);
        break;
    default: /* FIBRIL__SIM_FIN */
        f->fin = true;
        if (f->reader) {
            fibril__sim_retry(s, f->reader);
        }
        fibril__sim_flow_unref(s, f);
    }
}
