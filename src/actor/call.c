/* SPDX-License-Identifier: MIT */
/*
 * Calls, and streams of replies. A reply does not go through the mailbox: the caller waits for just
 * this one, by number, and what comes under any other number is late. The end of the actor that is
 * called ends the call: on the same loop the caller stands in its list, which costs no memory;
 * across loops there is a bond, as for a monitor.
 */
#include "actor/actor.h"
#include "actor/remote.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>

struct fibril_stream {
    struct fibril__link link; /* of the opener's streams */
    struct fibril__actor *owner;
    uint64_t ref;
    struct fibril_message *first, **tail;
    int result; /* after the last message: how it ended; 0: it has not */
};

uint64_t fibril__ref_new(void)
{
    struct fibril__actors *part = fibril__actors_here();
    return (uint64_t)fibril_embed_number(fibril_loop_current()) << 56 | ++part->refs;
}

/* ---- calling ---- */

static const struct fibril_waker_info reply_info = {.name = "reply"};

/* Has the end of an actor elsewhere end the call. */
static void tie(struct fibril__actor *a, uint64_t actor, struct fibril__bond *b)
{
    b->ref = a->awaiting;
    fibril__bond_tie(b, a, actor);
}

static void untie(struct fibril__actor *a)
{
    struct fibril__half *h = fibril__bond_find(a, a->awaiting);
    if (h) {
        fibril__bond_end(h, FIBRIL__NEWS_OVER, 0);
    }
}

/* The same on this loop. */
static int join_callers(struct fibril__actor *a, uint64_t actor)
{
    struct fibril__actor *here = fibril__actor_here(actor);
    if (!here) { /* it has ended while we waited for room */
        return -ESRCH;
    }
    fibril__list_push(&here->callers, &a->calling);
    return 0;
}

static int await(struct fibril__actor *a, uint64_t actor, bool tied, int64_t deadline_ns)
{
    int rc = tied || a->reply || a->call_result ? 0 : join_callers(a, actor);
    while (rc == 0 && !a->reply) {
        rc = a->call_result;
        if (rc == 0) {
            a->spot.info = &reply_info;
            rc = fibril_spot_wait(&a->spot, deadline_ns);
        }
    }
    fibril__link_remove(&a->calling);
    if (tied) {
        untie(a);
    }
    return rc;
}

/* What the call brought; the reply goes to the caller of call. */
static int settle(struct fibril__actor *a, int rc, struct fibril_message **ret_reply)
{
    struct fibril_message *m = a->reply;
    a->reply = NULL;
    a->awaiting = 0;
    if (!m) {
        return rc;
    }
    if (m->kind == FIBRIL__MSG_REFUSAL) {
        rc = -(int)m->tag;
        fibril_message_free(m);
        return rc;
    }
    m->kind = FIBRIL_MESSAGE_PLAIN;
    *ret_reply = m;
    return 0;
}

int fibril_actor_call(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                      struct fibril_message **ret_reply)
{
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril__bond *b = NULL;
    int rc = a ? 0 : fibril_current() ? -ENOMEM : -EPERM;
    if (rc == 0 && UNLIKELY(actor == a->id)) {
        rc = -EDEADLK;
    }
    if (rc == 0 && !fibril__actor_here(actor)) {
        rc = fibril_actor_alive(actor) ? fibril__bond_new(FIBRIL__CALL, &b) : -ESRCH;
    }
    if (rc == 0) { /* tied before it can reply and end */
        m->from = fibril__call_expect(a);
        if (b) {
            tie(a, actor, b);
        }
        rc = fibril__actor_send_as(actor, m, FIBRIL_MESSAGE_CALL, deadline_ns);
        if (UNLIKELY(rc < 0)) {
            untie(a);
        }
    }
    if (UNLIKELY(rc < 0)) {
        fibril_message_free(m);
        if (a) {
            a->awaiting = 0;
        }
        return rc;
    }
    rc = await(a, actor, b != NULL, deadline_ns);
    return settle(a, rc, ret_reply);
}

/* ---- calls whose message is none ---- */

struct fibril_from fibril__call_expect(struct fibril__actor *a)
{
    a->awaiting = fibril__ref_new();
    a->call_result = 0;
    return (struct fibril_from){a->id, a->awaiting};
}

int fibril__call_tie(struct fibril__actor *a, uint64_t actor)
{
    struct fibril__bond *b;
    if (LIKELY(fibril__actor_here(actor))) {
        return 0;
    }
    int rc = fibril_actor_alive(actor) ? fibril__bond_new(FIBRIL__CALL, &b) : -ESRCH;
    if (rc == 0) {
        tie(a, actor, b);
    }
    return rc;
}

void fibril__call_give_up(struct fibril__actor *a)
{
    untie(a);
    a->awaiting = 0;
}

int fibril__call_await(struct fibril__actor *a, uint64_t actor, int64_t deadline_ns)
{
    bool here = fibril__actor_here(actor) != NULL;
    bool tied = !here && fibril__bond_find(a, a->awaiting);
    struct fibril__bond *b = NULL;
    int rc = here || tied ? 0 : fibril__bond_new(FIBRIL__CALL, &b);
    if (b) {
        tie(a, actor, b);
    }
    return rc == 0 ? await(a, actor, !here, deadline_ns) : rc;
}

int fibril__call_close(struct fibril__actor *a, int rc, struct fibril_message **ret_reply)
{
    return settle(a, rc, ret_reply);
}

/* ---- replying ---- */

static void late(struct fibril_message *m)
{
    FIBRIL__TALLY(late_replies);
    fibril_message_free(m);
}

static struct fibril_stream *find_stream(const struct fibril__actor *a, uint64_t ref)
{
    if (!a || !a->extra) {
        return NULL;
    }
    struct fibril__list *streams = &a->extra->streams;
    for (struct fibril__link *l = streams->head.next; l != &streams->head; l = l->next) {
        struct fibril_stream *s = CONTAINER_OF(l, struct fibril_stream, link);
        if (s->ref == ref) {
            return s;
        }
    }
    return NULL;
}

static void append(struct fibril_stream *s, struct fibril_message *m)
{
    m->next = NULL;
    *s->tail = m;
    s->tail = &m->next;
    fibril__mailbox_count(s->owner, m->size);
}

/* A plain reply to a stream is its only message; a refusal its end. */
static void end_stream_by(struct fibril_stream *s, struct fibril_message *m)
{
    if (m->kind == FIBRIL__MSG_REFUSAL) {
        s->result = -(int)m->tag;
        fibril_message_free(m);
        fibril_spot_wake(&s->owner->spot);
    } else {
        s->result = -ENODATA;
        append(s, m);
    }
}

void fibril__call_arrive(struct fibril__actor *a, struct fibril_message *m)
{
    if (LIKELY(a && a->awaiting == m->from.ref && !a->reply)) {
        a->reply = m;
        if (!(a->flags & FIBRIL__A_AWAKE_ON_MAIL)) {
            fibril_spot_wake(&a->spot);
        }
        return;
    }
    if (a && fibril__is_remote(a)) {
        fibril__remote_reply(a, m);
        return;
    }
    struct fibril_stream *s = find_stream(a, m->from.ref);
    if (s && !s->result) {
        end_stream_by(s, m);
    } else {
        late(m);
    }
}

static void reply_as(struct fibril_from from, struct fibril_message *m, uint8_t kind)
{
    m->to = from.actor;
    m->from = from;
    m->kind = kind;
    struct fibril__actor *a = fibril__actor_here(from.actor);
    unsigned number;
    if (LIKELY(a)) {
        fibril__call_arrive(a, m);
        return;
    }
    a = fibril__actor_find(from.actor, &number);
    if (a && fibril__is_remote(a)) {
        fibril__pack_reply(m);
    }
    if (!a || !fibril__message_post(number, m)) {
        late(m);
    }
}

void fibril_actor_reply(struct fibril_from from, struct fibril_message *m)
{
    reply_as(from, m, FIBRIL__MSG_REPLY);
}

/* Ends what a waits in under this ref; returns whether it waits in that. */
static bool fail(struct fibril__actor *a, uint64_t ref, int error)
{
    struct fibril_stream *s = find_stream(a, ref);
    if (a->awaiting == ref && !a->reply && !a->call_result) {
        a->call_result = error;
    } else if (s && !s->result) {
        s->result = error;
    } else {
        return false;
    }
    fibril_spot_wake(&a->spot);
    return true;
}

void fibril__call_fail(struct fibril__actor *a, uint64_t ref, int error)
{
    fail(a, ref, error);
}

/* Within a loop this needs no memory. To another loop, if there is none for a message, what ties
 * the two actors until the reply comes is ended: the call must not wait for ever. */
int fibril_actor_refuse(struct fibril_from from, int error)
{
    struct fibril__actor *a = fibril__actor_here(from.actor);
    struct fibril_message *m;
    if (error >= 0) {
        return -EINVAL;
    }
    if (a && !fibril__is_remote(a)) {
        if (!fail(a, from.ref, error)) {
            FIBRIL__TALLY(late_replies);
        }
        return 0;
    }
    int rc = fibril_message_new((uint64_t)-error, 0, NULL, &m);
    if (rc == 0) {
        reply_as(from, m, FIBRIL__MSG_REFUSAL);
        return 0;
    }
    a = fibril__actor_self();
    struct fibril__half *h = a ? fibril__bond_asked(a, from) : NULL;
    if (h) {
        fibril__bond_end(h, FIBRIL__NEWS_DIED, error);
    }
    return h ? 0 : rc;
}

/* ---- streams ---- */

static int stream_new(struct fibril__actor *a, struct fibril_stream **ret_stream)
{
    struct fibril__actor_extra *extra = fibril__actor_extra(a);
    struct fibril_stream *s = extra ? fibril__alloc(sizeof *s) : NULL;
    if (!s) {
        return -ENOMEM;
    }
    *s = (struct fibril_stream){.owner = a, .ref = fibril__ref_new()};
    s->tail = &s->first;
    fibril__list_push(&extra->streams, &s->link);
    *ret_stream = s;
    return 0;
}

int fibril_stream_open(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                       struct fibril_stream **ret_stream)
{
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril__bond *b = NULL;
    struct fibril_stream *s = NULL;
    int rc = a ? stream_new(a, &s) : fibril_current() ? -ENOMEM : -EPERM;
    if (rc == 0) {
        rc = fibril__bond_new(FIBRIL__STREAM, &b);
    }
    if (rc == 0) { /* watched before it can give, so that its end comes after its messages */
        b->ref = s->ref;
        fibril__bond_tie(b, a, actor);
        m->from = (struct fibril_from){a->id, s->ref};
        m->flags |= FIBRIL__MSG_OPENS;
        rc = s->result ? s->result
                       : fibril__actor_send_as(actor, m, FIBRIL_MESSAGE_CALL, deadline_ns);
    }
    if (rc < 0) {
        fibril_message_free(m);
        fibril_stream_close(s);
        return rc;
    }
    *ret_stream = s;
    return 0;
}

int fibril_stream_next(struct fibril_stream *s, int64_t deadline_ns,
                       struct fibril_message **ret_message)
{
    struct fibril__actor *a = fibril__actor_self();
    if (a != s->owner) {
        return -EPERM;
    }
    bool waited = false;
    while (!s->first) {
        if (a->flags & FIBRIL__A_EXITING) {
            return -ECANCELED;
        }
        int rc = s->result ? s->result : fibril__mailbox_wait(a, deadline_ns);
        if (rc < 0) {
            return rc;
        }
        waited = true;
    }
    struct fibril_message *m = s->first;
    s->first = m->next;
    s->tail = s->first ? s->tail : &s->first;
    fibril__mailbox_uncount(a, m->size);
    m->kind = FIBRIL_MESSAGE_PLAIN;
    if (!waited) {
        fibril_embed_spend();
    }
    *ret_message = m;
    return 0;
}

void fibril_stream_close(struct fibril_stream *s)
{
    if (!s) {
        return;
    }
    struct fibril__half *h = fibril__bond_find(s->owner, s->ref);
    if (h) {
        fibril__bond_end(h, FIBRIL__NEWS_OVER, 0);
    }
    while (s->first) {
        struct fibril_message *m = s->first;
        s->first = m->next;
        fibril__mailbox_uncount(s->owner, m->size);
        fibril_message_free(m);
    }
    fibril__link_remove(&s->link);
    fibril__free(s);
}

static bool is_closed(struct fibril_from from)
{
    unsigned number;
    const struct fibril__actor *here = fibril__actor_here(from.actor);
    if (here) {
        return !fibril__is_remote(here) && !find_stream(here, from.ref);
    }
    return !fibril__actor_find(from.actor, &number);
}

int fibril_stream_give(struct fibril_from from, struct fibril_message *m, int64_t deadline_ns)
{
    struct fibril_message *end = NULL;
    if (UNLIKELY(is_closed(from))) {
        return -EPIPE;
    }
    if (!m) {
        int rc = fibril_message_new(0, 0, NULL, &end);
        if (rc < 0) {
            return rc;
        }
        end->from = from;
        rc = fibril__actor_send_as(from.actor, end, FIBRIL__MSG_STREAM_END, deadline_ns);
        if (rc < 0) {
            fibril_message_free(end);
        }
        return rc;
    }
    m->from = from;
    return fibril__actor_send_as(from.actor, m, FIBRIL__MSG_STREAM, deadline_ns);
}

void fibril__stream_put(struct fibril__actor *a, struct fibril_message *m)
{
    struct fibril_stream *s = find_stream(a, m->from.ref);
    if (!s || s->result) {
        late(m);
    } else if (m->kind == FIBRIL__MSG_STREAM) {
        append(s, m);
    } else {
        s->result = -ENODATA;
        fibril_message_free(m);
        if (a->flags & FIBRIL__A_AWAKE_ON_MAIL) {
            fibril_spot_wake(&a->spot);
        }
    }
}

/* The givers are no more. */
void fibril__streams_forked(struct fibril__actor *a)
{
    struct fibril__list *streams = &a->extra->streams;
    for (struct fibril__link *l = streams->head.next; l != &streams->head; l = l->next) {
        struct fibril_stream *s = CONTAINER_OF(l, struct fibril_stream, link);
        s->result = s->result ? s->result : -EPIPE;
    }
}

void fibril__streams_release(struct fibril__actor *a)
{
    while (a->extra && !fibril__list_empty(&a->extra->streams)) {
        fibril_stream_close(
            CONTAINER_OF(fibril__list_first(&a->extra->streams), struct fibril_stream, link));
    }
}
