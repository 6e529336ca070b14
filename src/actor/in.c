/* SPDX-License-Identifier: MIT */
/*
 * What comes in. Each frame is carried out on the spot, and nothing here waits: what finds a full
 * mailbox is left with export.c. The other side is believed nothing that it could gain by: it may
 * name as "yours" only what was mentioned to it, may bring what its credit allows, and speaks of
 * its own actors for itself. What it cannot have meant ends the connection; what may just have
 * crossed news of ours (an actor that has ended, a link that is over) is nothing.
 */
#include "actor/node.h"

#include "actor/behave.h"
#include "base/alloc.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static int bad(struct fibril__node *node, const struct fibril__frame *f, const char *what)
{
    fibril__node_fail(node, -EBADMSG, "bad %s frame: %s", fibril__frame_name(f->type), what);
    return -EBADMSG;
}

static int no_memory(struct fibril__node *node, const struct fibril__frame *f)
{
    fibril__node_fail(node, -ENOMEM, "no memory for a %s frame", fibril__frame_name(f->type));
    return -ENOMEM;
}

/* ---- who is meant ---- */

/* The number here of an actor that the other side mentions; 0: nobody. */
static int resolve(struct fibril__node *node, const struct fibril__frame *f, struct fibril__ref ref,
                   uint64_t *ret_actor)
{
    *ret_actor = 0;
    if (ref.id == 0) {
        return 0;
    }
    if (ref.owner == FIBRIL__YOURS) {
        *ret_actor = fibril__export_find(node, ref.id) ? ref.id : 0;
        return 0;
    }
    const struct fibril__remote *r = fibril__remote_import(node, ref);
    if (!r) {
        return node->remotes.count >= node->remotes_max ? bad(node, f, "too many actors")
                                                        : no_memory(node, f);
    }
    *ret_actor = r->actor->id;
    return 0;
}

/* ---- links, exits, ends ---- */

static int on_link(struct fibril__node *node, const struct fibril__frame *f)
{
    uint64_t who;
    int rc = resolve(node, f, f->who, &who);
    struct fibril__actor *a = fibril__actor_here(who);
    struct fibril__bond *b;
    if (rc < 0 || !a || f->who.owner != FIBRIL__MINE) {
        return rc < 0 ? rc : bad(node, f, "nobody links itself");
    }
    if (!fibril__export_find(node, f->to)) {
        fibril__out_control(node, &(struct fibril__frame){.type = FIBRIL__FRAME_LINK_EXIT,
                                                          .to = f->to,
                                                          .number = f->number,
                                                          .kind = FIBRIL__YOURS,
                                                          .reason = FIBRIL_EXIT_NOPROC});
        return 0;
    }
    if (f->number == 0 || fibril__bond_new(FIBRIL__LINK, &b) < 0) {
        return f->number == 0 ? bad(node, f, "it has no number") : no_memory(node, f);
    }
    struct fibril__actor *to = fibril__actor_here(f->to);
    if (to) {
        to->flags |= FIBRIL__A_TWINS;
    }
    b->ref = f->number;
    fibril__bond_tie(b, a, f->to);
    return 0;
}

static int on_link_over(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__remote *r = fibril__remote_find(node, f->to);
    unsigned side = f->kind == FIBRIL__MINE ? 0 : 1; /* whoever asked is side 0 */
    struct fibril__half *h = r ? fibril__remote_half(r, FIBRIL__LINK, side, f->number) : NULL;
    if (h) {
        bool died = f->type == FIBRIL__FRAME_LINK_EXIT;
        fibril__bond_end(h, died ? FIBRIL__NEWS_DIED : FIBRIL__NEWS_OVER, f->reason);
    }
    return 0;
}

static int on_exit_signal(struct fibril__node *node, const struct fibril__frame *f)
{
    uint64_t who;
    int rc = resolve(node, f, f->who, &who);
    if (rc == 0 && fibril__export_find(node, f->to)) {
        rc = fibril__actor_exit_from(who, f->to, f->reason);
        rc = rc < 0 ? no_memory(node, f) : 0;
    }
    return rc;
}

static int on_down(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__remote *r = fibril__remote_find(node, f->to);
    if (r) {
        fibril__remote_end(r, f->reason);
    }
    return 0;
}

static int on_credit(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__remote *r = fibril__remote_find(node, f->who.id);
    if (f->who.owner != FIBRIL__MINE) {
        return bad(node, f, "it is not the writer's to give");
    }
    if (!r) {
        return 0;
    }
    if (f->messages > r->unacked || f->bytes > r->unacked_bytes) {
        return bad(node, f, "more than was sent");
    }
    r->unacked -= f->messages;
    r->unacked_bytes -= f->bytes;
    fibril__remote_terms(r, f->who);
    fibril__senders_admit(r->actor);
    fibril__remote_mail(r->actor);
    return 0;
}

/* ---- names ---- */

static int on_whereis(struct fibril__node *node, const struct fibril__frame *f)
{
    char name[FIBRIL__FRAME_NAME_MAX + 1];
    memcpy(name, f->name, f->name_len);
    name[f->name_len] = '\0';
    struct fibril__ref who = fibril__export(node, fibril_actor_whereis(name));
    fibril__out_control(node, &(struct fibril__frame){
                                  .type = FIBRIL__FRAME_FOUND, .number = f->number, .who = who});
    return 0;
}

static int on_found(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__list *asked = &node->asked;
    for (struct fibril__link *l = asked->head.next; l != &asked->head; l = l->next) {
        struct fibril__asked *q = CONTAINER_OF(l, struct fibril__asked, link);
        if (q->number == f->number) {
            struct fibril_message *m;
            uint64_t who;
            int rc = resolve(node, f, f->who, &who);
            rc = rc == 0 ? fibril_message_of(0, &who, sizeof who, &m) : rc;
            if (rc < 0) {
                return no_memory(node, f);
            }
            fibril_actor_reply(q->from, m);
            fibril__link_remove(&q->link);
            fibril__free(q);
            return 0;
        }
    }
    return bad(node, f, "nobody has asked");
}

/* ---- messages ---- */

static void drop_incoming(struct fibril__incoming *in)
{
    fibril_message_free(in->message);
    if (in->wire) {
        fibril__free(in->wire->bytes);
        fibril__free(in->wire->actors);
        fibril__free(in->wire);
    }
    *in = (struct fibril__incoming){0};
}

/* Makes what decode will read, without the bytes. */
static int make_wire(struct fibril__node *node, const struct fibril__frame *f,
                     struct fibril__incoming *in)
{
    struct fibril_wire *w = in->wire = fibril__alloc_zero(sizeof *w);
    if (!w) {
        return no_memory(node, f);
    }
    w->type = fibril__type_find((const char *)f->name, f->name_len);
    in->unknown = w->type == NULL;
    w->bytes = fibril__alloc(in->total + 1);
    w->actors = fibril__alloc(((size_t)f->n_refs + 1) * sizeof *w->actors);
    if (!w->bytes || !w->actors) {
        return no_memory(node, f);
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < f->n_refs; i++) {
        struct fibril__ref ref = fibril__ref_read(f->refs + (size_t)i * FIBRIL__FRAME_REF);
        rc = resolve(node, f, ref, &w->actors[i]);
        w->n_actors = i + 1;
    }
    return rc;
}

static int begin(struct fibril__node *node, const struct fibril__frame *f,
                 struct fibril__incoming *in)
{
    struct fibril__export *e = fibril__export_find(node, f->to);
    if (f->total > FIBRIL__WIRE_BYTES_MAX) {
        return bad(node, f, "it is too long");
    }
    if (e && f->type == FIBRIL__FRAME_MESSAGE && !fibril__export_admits(e)) {
        return bad(node, f, "more than the credit for it");
    }
    *in = (struct fibril__incoming){.total = (size_t)f->total,
                                    .from = {.actor = f->to, .ref = f->number},
                                    .to = f->to,
                                    .tag = f->tag,
                                    .kind = f->kind,
                                    .busy = true};
    int rc = 0;
    if (f->kind == FIBRIL__FRAME_CALL || f->kind == FIBRIL__FRAME_OPEN) {
        rc = resolve(node, f, f->who, &in->from.actor);
    }
    if (rc < 0) {
        return rc;
    }
    if (f->name_len > 0) {
        return make_wire(node, f, in);
    }
    if (f->n_refs > 0) {
        return bad(node, f, "plain bytes mention nobody");
    }
    return fibril_message_new(f->tag, in->total, NULL, &in->message) < 0 ? no_memory(node, f) : 0;
}

/* All of it has come. Returns 0, or why it is no message here. */
static int assemble(struct fibril__incoming *in, struct fibril_message **ret_message)
{
    int rc = in->unknown ? -EOPNOTSUPP : 0;
    if (rc == 0 && in->wire) {
        in->wire->len = in->total;
        rc = in->wire->type->decode(in->wire, in->tag, in->wire->type, &in->message);
    }
    if (rc == 0) {
        *ret_message = in->message;
        in->message = NULL;
        (*ret_message)->from = in->from;
    }
    return rc;
}

static int finish_reply(struct fibril__node *node, const struct fibril__frame *f,
                        struct fibril__incoming *in)
{
    struct fibril_message *m = NULL;
    struct fibril_from from = in->from;
    if (in->kind == FIBRIL__FRAME_REFUSAL && (in->tag == 0 || in->tag > INT_MAX)) {
        return bad(node, f, "that is no error");
    }
    if (!fibril__export_find(node, in->to)) { /* it has ended, and its calls with it */
        FIBRIL__TALLY(late_replies);
        return 0;
    }
    int rc = in->kind == FIBRIL__FRAME_REFUSAL ? -(int)in->tag : assemble(in, &m);
    if (rc == 0) {
        fibril_actor_reply(from, m);
        return 0;
    }
    return fibril_actor_refuse(from, rc) < 0 ? no_memory(node, f) : 0;
}

/* The end of the giver is to end the stream, behind the last message of it. */
static int watch_giver(struct fibril__node *node, const struct fibril__frame *f,
                       const struct fibril__incoming *in)
{
    struct fibril__actor *taker = fibril__actor_here(in->from.actor);
    struct fibril__bond *b;
    if (!taker || !fibril__is_remote(taker) || fibril__remote_of(taker)->node != node) {
        return 0; /* has ended already */
    }
    if (fibril__bond_new(FIBRIL__STREAM, &b) < 0) {
        return no_memory(node, f);
    }
    b->ref = in->from.ref;
    fibril__bond_tie(b, taker, in->to);
    return 0;
}

static uint8_t kind_here(uint8_t kind)
{
    switch (kind) {
    case FIBRIL__FRAME_CAST: return FIBRIL_MESSAGE_CAST;
    case FIBRIL__FRAME_CALL:
    case FIBRIL__FRAME_OPEN: return FIBRIL_MESSAGE_CALL;
    case FIBRIL__FRAME_GIVE: return FIBRIL__MSG_STREAM;
    case FIBRIL__FRAME_LAST: return FIBRIL__MSG_STREAM_END;
    default: return FIBRIL_MESSAGE_PLAIN;
    }
}

/* Tags with the highest bit are fibril's own, and what stands under most of them are addresses. */
static bool is_forbidden(const struct fibril__incoming *in)
{
    if (in->wire || !(in->tag >> 63)) {
        return false;
    }
    return in->tag == FIBRIL__TAG(FIBRIL__TAG_STOP_) ? in->total != sizeof(int)
                                                     : in->tag != FIBRIL__TAG(FIBRIL__TAG_STATUS_);
}

static int finish_message(struct fibril__node *node, const struct fibril__frame *f,
                          struct fibril__incoming *in)
{
    struct fibril__export *e = fibril__export_find(node, in->to);
    struct fibril_message *m = NULL;
    int rc = in->kind == FIBRIL__FRAME_OPEN && e ? watch_giver(node, f, in) : 0;
    if (rc < 0) {
        return rc;
    }
    rc = is_forbidden(in) ? -EOPNOTSUPP : assemble(in, &m);
    if (rc != 0) {
        FIBRIL__TALLY(dropped);
        if (in->from.actor && kind_here(in->kind) == FIBRIL_MESSAGE_CALL) {
            fibril_actor_refuse(in->from, rc);
        }
        if (e) {
            fibril__export_skip(e, in->total);
        }
        return 0;
    }
    m->kind = kind_here(in->kind);
    if (in->kind == FIBRIL__FRAME_OPEN) {
        m->flags |= FIBRIL__MSG_OPENS;
    }
    if (e) {
        fibril__export_deliver(e, m, in->total);
    } else {
        fibril__dead_letter(in->to, m);
    }
    return 0;
}

static int on_message(struct fibril__node *node, const struct fibril__frame *f)
{
    bool reply = f->type == FIBRIL__FRAME_REPLY;
    struct fibril__incoming *in = reply ? &node->in.reply : &node->in.message;
    bool next = f->flags & FIBRIL__FRAME_NEXT, more = f->flags & FIBRIL__FRAME_MORE;
    if (in->busy != next) {
        return bad(node, f, next ? "it goes on with nothing" : "the one before is not whole");
    }
    int rc = next ? 0 : begin(node, f, in);
    size_t left = in->total - in->have;
    if (rc == 0 && (more ? f->data_len >= left : f->data_len != left)) {
        rc = bad(node, f, "its length is not what it says");
    }
    if (rc == 0 && f->data_len > 0) {
        uint8_t *to = in->wire ? in->wire->bytes : fibril_message_data(in->message);
        memcpy(to + in->have, f->data, f->data_len);
        in->have += f->data_len;
    }
    if (rc == 0 && !more) {
        rc = reply ? finish_reply(node, f, in) : finish_message(node, f, in);
    }
    if (rc < 0 || !more) {
        drop_incoming(in);
    }
    return rc;
}

/* ---- streams ---- */

/* Behind the last of what the giver has sent. */
static int on_stream_broken(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__export *e = fibril__export_find(node, f->to);
    if (!e || !e->delivering) {
        fibril__remote_broken(node, f->number, f->reason);
        return 0;
    }
    struct fibril_message *m;
    if (fibril_message_new((uint64_t)(f->reason < 0 ? -(int64_t)f->reason : EPIPE), 0, NULL, &m) <
        0) {
        return no_memory(node, f);
    }
    m->kind = FIBRIL__MSG_STREAM_BROKEN;
    m->from.ref = f->number;
    fibril__export_hold(e, m, 0);
    return 0;
}

static int on_stream_close(struct fibril__node *node, const struct fibril__frame *f)
{
    struct fibril__remote *r = fibril__remote_find(node, f->to);
    struct fibril__half *h = r ? fibril__remote_half(r, FIBRIL__STREAM, 0, f->number) : NULL;
    if (h) {
        fibril__bond_end(h, FIBRIL__NEWS_OVER, 0);
    }
    return 0;
}

/* ---- all ---- */

static int on_bye(struct fibril__node *node, const struct fibril__frame *f)
{
    int len = f->data_len < sizeof node->text ? (int)f->data_len : (int)sizeof node->text;
    fibril__node_fail(node,
                      f->reason == FIBRIL_EXIT_SHUTDOWN ? f->reason : FIBRIL_EXIT_NOCONNECTION,
                      "the other process says: %.*s", len, (const char *)f->data);
    return FIBRIL_EXIT_NOCONNECTION;
}

int fibril__in_frame(struct fibril__node *node, const struct fibril__frame *f)
{
    node->info.frames_in++;
    switch (f->type) {
    case FIBRIL__FRAME_BYE: return on_bye(node, f);
    case FIBRIL__FRAME_PING:
        fibril__out_control(node, &(struct fibril__frame){.type = FIBRIL__FRAME_PONG});
        return 0;
    case FIBRIL__FRAME_PONG: return 0;
    case FIBRIL__FRAME_LINK: return on_link(node, f);
    case FIBRIL__FRAME_UNLINK:
    case FIBRIL__FRAME_LINK_EXIT: return on_link_over(node, f);
    case FIBRIL__FRAME_EXIT: return on_exit_signal(node, f);
    case FIBRIL__FRAME_DOWN: return on_down(node, f);
    case FIBRIL__FRAME_CREDIT: return on_credit(node, f);
    case FIBRIL__FRAME_WHEREIS: return on_whereis(node, f);
    case FIBRIL__FRAME_FOUND: return on_found(node, f);
    case FIBRIL__FRAME_MESSAGE:
    case FIBRIL__FRAME_REPLY: return on_message(node, f);
    case FIBRIL__FRAME_STREAM_CLOSE: return on_stream_close(node, f);
    case FIBRIL__FRAME_STREAM_BROKEN: return on_stream_broken(node, f);
    default: return bad(node, f, "it comes once, and first");
    }
}

void fibril__in_fini(struct fibril__node *node)
{
    drop_incoming(&node->in.message);
    drop_incoming(&node->in.reply);
}
