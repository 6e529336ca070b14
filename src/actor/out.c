/* SPDX-License-Identifier: MIT */
/*
 * What goes out, in three lanes (see node.h). Control and replies stand as bytes in buffers, since
 * what they say must not change any more; messages wait as messages, so that what was not sent is
 * still its sender's when the connection ends. Frames are moved into the buffer that is being
 * written only as it gets empty: what is urgent waits for 64 KiB at most.
 */
#include "actor/node.h"

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

enum { NOW_BYTES = 64 << 10, BACKLOG_BYTES_MAX = 128 << 20 };

/* ---- buffers ---- */

/* Room for n bytes at the end, NULL: no memory. */
static uint8_t *extend(struct fibril__buffer *b, size_t n)
{
    enum { ROOM_MIN = 512 };
    if (b->at == b->len) {
        b->at = b->len = 0;
    }
    if (n > b->room - b->len && b->at > 0 && b->at >= b->room / 2) {
        memmove(b->bytes, b->bytes + b->at, b->len - b->at);
        b->len -= b->at;
        b->at = 0;
    }
    if (n > b->room - b->len) {
        size_t room = b->room ? b->room : ROOM_MIN;
        while (room < b->len + n) {
            room *= 2;
        }
        uint8_t *more = fibril__realloc(b->bytes, room);
        if (!more) {
            return NULL;
        }
        b->bytes = more;
        b->room = room;
    }
    b->len += n;
    return b->bytes + b->len - n;
}

static void append(struct fibril__node *node, struct fibril__buffer *b,
                   const struct fibril__frame *f)
{
    struct fibril__out *out = &node->out;
    size_t size = fibril__frame_size(f);
    uint8_t *at = extend(b, size);
    if (!at) {
        fibril__node_fail(node, -ENOMEM, "no memory for a %s frame", fibril__frame_name(f->type));
        return;
    }
    fibril__frame_write(f, at);
    node->info.frames_out++;
    if (out->control.len - out->control.at + out->replies.len - out->replies.at >
        BACKLOG_BYTES_MAX) {
        fibril__node_fail(node, -ENOBUFS, "the other process does not read");
    }
}

void fibril__out_control(struct fibril__node *node, const struct fibril__frame *f)
{
    if (!node->over) {
        append(node, &node->out.control, f);
        fibril__node_wake(node);
    }
}

void fibril__out_reply(struct fibril__node *node, const struct fibril__frame *f)
{
    if (!node->over) {
        append(node, &node->out.replies, f);
        fibril__node_wake(node);
    }
}

/* ---- messages ---- */

static const struct fibril_wire *packing_of(const struct fibril_message *m)
{
    return m->flags & FIBRIL__MSG_PACKED ? m->packing : NULL;
}

static const uint8_t *payload_of(struct fibril_message *m, size_t *ret_len)
{
    const struct fibril_wire *w = packing_of(m);
    *ret_len = w ? w->len : m->size;
    return w ? w->bytes : fibril_message_data(m);
}

static uint8_t kind_of(const struct fibril_message *m)
{
    switch (m->kind & ~FIBRIL__MSG_AWAY) {
    case FIBRIL_MESSAGE_CAST: return FIBRIL__FRAME_CAST;
    case FIBRIL_MESSAGE_CALL:
        return m->flags & FIBRIL__MSG_OPENS ? FIBRIL__FRAME_OPEN : FIBRIL__FRAME_CALL;
    case FIBRIL__MSG_REPLY: return FIBRIL__FRAME_ANSWER;
    case FIBRIL__MSG_REFUSAL: return FIBRIL__FRAME_REFUSAL;
    case FIBRIL__MSG_STREAM: return FIBRIL__FRAME_GIVE;
    case FIBRIL__MSG_STREAM_END: return FIBRIL__FRAME_LAST;
    default: return FIBRIL__FRAME_PLAIN;
    }
}

/* Writes what the message mentions; NULL: nothing, or no memory. */
static uint8_t *mention(struct fibril__node *node, const struct fibril_wire *w)
{
    if (!w || w->n_actors == 0) {
        return NULL;
    }
    uint8_t *refs = fibril__alloc((size_t)w->n_actors * FIBRIL__FRAME_REF);
    if (!refs) {
        fibril__node_fail(node, -ENOMEM, "no memory to mention actors");
        return NULL;
    }
    for (uint32_t i = 0; i < w->n_actors; i++) {
        fibril__ref_write(fibril__export(node, w->actors[i]), refs + (size_t)i * FIBRIL__FRAME_REF);
    }
    return refs;
}

/* Appends the next frame of o; frees its message after the last. */
static void append_part(struct fibril__node *node, struct fibril__outgoing *o,
                        struct fibril__buffer *b)
{
    struct fibril_message *m = o->message;
    const struct fibril_wire *w = packing_of(m);
    size_t total;
    const uint8_t *bytes = payload_of(m, &total);
    uint8_t *refs = NULL;
    struct fibril__frame f = {.type = o->type, .flags = FIBRIL__FRAME_NEXT};
    if (o->at == 0) {
        f = (struct fibril__frame){.type = o->type,
                                   .to = o->to,
                                   .tag = m->tag,
                                   .kind = kind_of(m),
                                   .number = m->from.ref,
                                   .total = total,
                                   .who.window = 1};
        f.name = w ? (const uint8_t *)w->type->name : NULL;
        f.name_len = w ? (uint8_t)strlen(w->type->name) : 0;
        if (f.kind == FIBRIL__FRAME_CALL || f.kind == FIBRIL__FRAME_OPEN) {
            f.who = fibril__export(node, m->from.actor);
        }
        f.refs = refs = mention(node, w);
        f.n_refs = refs && w ? (uint16_t)w->n_actors : 0;
    }
    size_t room = node->far_frame_max + FIBRIL__FRAME_HEAD - fibril__frame_size(&f);
    f.data = bytes + o->at;
    f.data_len = total - o->at < room ? total - o->at : room;
    o->at += f.data_len;
    f.flags |= o->at < total ? FIBRIL__FRAME_MORE : 0;
    append(node, b, &f);
    fibril__free(refs);
    if (o->at == total) {
        fibril_message_free(m);
        o->message = NULL;
    }
}

void fibril__out_whole(struct fibril__node *node, struct fibril_message *m, uint64_t to)
{
    struct fibril__outgoing o = {.message = m, .to = to, .type = FIBRIL__FRAME_REPLY};
    while (!node->over && o.message) {
        append_part(node, &o, &node->out.replies);
    }
    fibril_message_free(o.message);
    fibril__node_wake(node);
}

static bool is_marker(const struct fibril_message *m)
{
    return m->kind == FIBRIL__MSG_STREAM_CLOSE || m->kind == FIBRIL__MSG_STREAM_BROKEN;
}

static void append_marker(struct fibril__node *node, const struct fibril__remote *r,
                          struct fibril_message *m)
{
    bool close = m->kind == FIBRIL__MSG_STREAM_CLOSE;
    append(node, &node->out.now,
           &(struct fibril__frame){.type = close ? FIBRIL__FRAME_STREAM_CLOSE
                                                 : FIBRIL__FRAME_STREAM_BROKEN,
                                   .to = close ? m->from.actor : r->far,
                                   .number = m->from.ref,
                                   .reason = -(int)m->tag});
    fibril_message_free(m);
}

/* Whether the target has room. What is larger than all of the window goes when a quarter of it at
 * most is taken: so much credit may be kept back. */
static bool may_go(const struct fibril__remote *r, uint64_t size)
{
    enum { QUARTER = 4 };
    uint64_t window = r->node->far_window_bytes;
    return r->unacked < r->window &&
           (r->unacked_bytes + size <= window || r->unacked_bytes <= window / QUARTER);
}

/* Appends the first frame of the next message that may go; those who have none wait for credit or
 * for mail. Returns whether there was one. */
static bool begin_message(struct fibril__node *node)
{
    struct fibril__out *out = &node->out;
    for (struct fibril__link *l; (l = fibril__list_pop(&out->dirty)) != NULL;) {
        struct fibril__remote *r = CONTAINER_OF(l, struct fibril__remote, dirty);
        struct fibril_message *m = r->actor->first;
        size_t size = 0;
        if (m) {
            payload_of(m, &size);
        }
        if (!m || (!is_marker(m) && !may_go(r, size))) {
            continue;
        }
        fibril__list_push(&out->dirty, l); /* the others first */
        fibril__mailbox_remove(r->actor, m);
        if (is_marker(m)) {
            append_marker(node, r, m);
            return true;
        }
        r->unacked++;
        r->unacked_bytes += size;
        out->message = (struct fibril__outgoing){m, r->far, 0, FIBRIL__FRAME_MESSAGE};
        append_part(node, &out->message, &out->now);
        return true;
    }
    return false;
}

static bool continue_message(struct fibril__node *node)
{
    if (!node->out.message.message) {
        return begin_message(node);
    }
    append_part(node, &node->out.message, &node->out.now);
    return true;
}

/* ---- taking turns ---- */

/* Moves a frame; returns whether there was one. */
static bool move_frame(struct fibril__node *node, struct fibril__buffer *from)
{
    if (from->at == from->len) {
        return false;
    }
    uint32_t len;
    if (fibril__frame_head(from->bytes + from->at, UINT32_MAX, &len) < 0) {
        return false;
    }
    size_t size = FIBRIL__FRAME_HEAD + (size_t)len;
    uint8_t *to = extend(&node->out.now, size);
    if (!to) {
        fibril__node_fail(node, -ENOMEM, "no memory to write");
        return false;
    }
    memcpy(to, from->bytes + from->at, size);
    from->at += size;
    return true;
}

static bool next_frame(struct fibril__node *node)
{
    struct fibril__out *out = &node->out;
    if (move_frame(node, &out->control)) {
        return true;
    }
    bool reply_first = !out->replied;
    out->replied = reply_first;
    if (reply_first) {
        return move_frame(node, &out->replies) || continue_message(node);
    }
    return continue_message(node) || move_frame(node, &out->replies);
}

size_t fibril__out_fill(struct fibril__node *node)
{
    struct fibril__buffer *now = &node->out.now;
    while (now->len - now->at < NOW_BYTES && !node->over && next_frame(node)) {}
    return now->len - now->at;
}

void fibril__out_fini(struct fibril__node *node)
{
    struct fibril__out *out = &node->out;
    fibril__free(out->control.bytes);
    fibril__free(out->replies.bytes);
    fibril__free(out->now.bytes);
    fibril_message_free(out->message.message);
    *out = (struct fibril__out){0};
    fibril__list_init(&out->dirty);
}
