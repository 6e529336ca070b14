/* SPDX-License-Identifier: MIT */
/*
 * What messages are worth elsewhere: the types that are known by name, and packing. A message is
 * packed by its sender, on the sender's own fibril, so that whoever sends hears of it when it
 * cannot be; what encode wrote hangs on the message, which stays whole: when it cannot be delivered
 * it is its sender's again, or a dead letter, as it was.
 */
#include "actor/wire.h"

#include <fibril/node.h>

#include "actor/frame.h"
#include "base/alloc.h"
#include "base/spin.h"

#include <errno.h>
#include <string.h>

/* ---- types ---- */

struct known {
    struct known *next;
    const struct fibril_message_type *type;
    size_t len;
};

static struct fibril__spin lock = {.shared = true}; /* of the list, which only grows */
static struct known *types;

static const struct fibril_message_type *find(const char *name, size_t len)
{
    for (const struct known *k = types; k; k = k->next) {
        if (k->len == len && memcmp(k->type->name, name, len) == 0) {
            return k->type;
        }
    }
    return NULL;
}

const struct fibril_message_type *fibril__type_find(const char *name, size_t len)
{
    fibril__spin_lock(&lock);
    const struct fibril_message_type *type = find(name, len);
    fibril__spin_unlock(&lock);
    return type;
}

int fibril_message_type_register(const struct fibril_message_type *type)
{
    size_t len = type->name ? strlen(type->name) : 0;
    if (len == 0 || len > FIBRIL__FRAME_NAME_MAX || !type->encode || !type->decode) {
        return -EINVAL;
    }
    struct known *mine = fibril__alloc(sizeof *mine);
    if (!mine) {
        return -ENOMEM;
    }
    fibril__spin_lock(&lock);
    const struct fibril_message_type *other = find(type->name, len);
    if (!other) {
        *mine = (struct known){.next = types, .type = type, .len = len};
        types = mine;
        mine = NULL;
    }
    fibril__spin_unlock(&lock);
    fibril__free(mine);
    return !other || other == type ? 0 : -EEXIST;
}

/* ---- writing ---- */

int fibril_wire_put(struct fibril_wire *w, const void *bytes, size_t n)
{
    enum { ROOM_MIN = 64 };
    if (n > FIBRIL__WIRE_BYTES_MAX - w->len) {
        return -EMSGSIZE;
    }
    if (n > w->room - w->len) {
        size_t room = w->room ? w->room : ROOM_MIN;
        while (room < w->len + n) {
            room *= 2;
        }
        uint8_t *more = fibril__realloc(w->bytes, room);
        if (!more) {
            return -ENOMEM;
        }
        w->bytes = more;
        w->room = room;
    }
    if (n > 0) {
        memcpy(w->bytes + w->len, bytes, n);
        w->len += n;
    }
    return 0;
}

int fibril_wire_put_actor(struct fibril_wire *w, uint64_t actor)
{
    if (w->n_actors == FIBRIL__FRAME_REFS_MAX) {
        return -E2BIG;
    }
    if (w->n_actors == w->actors_room) {
        uint32_t room = w->actors_room ? 2 * w->actors_room : 4;
        uint64_t *more = fibril__realloc(w->actors, room * sizeof *more);
        if (!more) {
            return -ENOMEM;
        }
        w->actors = more;
        w->actors_room = room;
    }
    uint8_t index[4] = {(uint8_t)w->n_actors, (uint8_t)(w->n_actors >> 8), 0, 0};
    int rc = fibril_wire_put(w, index, sizeof index);
    if (rc == 0) {
        w->actors[w->n_actors++] = actor;
    }
    return rc;
}

/* ---- reading ---- */

size_t fibril_wire_left(const struct fibril_wire *w)
{
    return w->len - w->at;
}

int fibril_wire_get(struct fibril_wire *w, void *ret_bytes, size_t n)
{
    if (n > w->len - w->at) {
        return -EBADMSG;
    }
    if (n > 0) {
        memcpy(ret_bytes, w->bytes + w->at, n);
        w->at += n;
    }
    return 0;
}

int fibril_wire_get_actor(struct fibril_wire *w, uint64_t *ret_actor)
{
    uint8_t index[4] = {0};
    size_t at = w->at;
    int rc = fibril_wire_get(w, index, sizeof index);
    uint32_t i = (uint32_t)index[0] | (uint32_t)index[1] << 8;
    if (rc < 0 || index[2] || index[3] || i >= w->n_actors) {
        w->at = at;
        return -EBADMSG;
    }
    *ret_actor = w->actors[i];
    return 0;
}

/* ---- packing ---- */

static void wire_free(struct fibril_wire *w)
{
    if (w) {
        fibril__free(w->bytes);
        fibril__free(w->actors);
        fibril__free(w);
    }
}

static int encode(struct fibril_message *m, struct fibril_wire **ret_wire)
{
    const struct fibril_message_type *type = m->type;
    if (!type->name || strlen(type->name) > FIBRIL__FRAME_NAME_MAX) {
        return -EINVAL;
    }
    struct fibril_wire *w = fibril__alloc_zero(sizeof *w);
    if (!w) {
        return -ENOMEM;
    }
    w->type = type;
    int rc = type->encode(fibril_message_data(m), m->size, w);
    if (rc < 0) {
        wire_free(w);
        return rc;
    }
    *ret_wire = w;
    return 0;
}

int fibril__pack(struct fibril_message *m)
{
    struct fibril_wire *w = NULL;
    if (m->size > FIBRIL__WIRE_BYTES_MAX) {
        return -EMSGSIZE;
    }
    if (m->type && m->type->encode) {
        int rc = encode(m, &w);
        if (rc < 0) {
            return rc;
        }
    } else if (m->type && m->type->destroy) {
        return -EOPNOTSUPP;
    }
    m->packing = w;
    m->flags |= FIBRIL__MSG_PACKED;
    return 0;
}

void fibril__unpack(struct fibril_message *m)
{
    wire_free(m->packing);
    m->packing = NULL;
    m->flags &= (uint8_t)~FIBRIL__MSG_PACKED;
    m->kind &= (uint8_t)~FIBRIL__MSG_AWAY;
}

void fibril__pack_reply(struct fibril_message *m)
{
    int rc = m->flags & FIBRIL__MSG_PACKED ? 0 : fibril__pack(m);
    if (rc < 0) {
        if (m->type && m->type->destroy) {
            m->type->destroy(fibril_message_data(m), m->size);
        }
        m->type = NULL;
        m->size = 0;
        m->kind = FIBRIL__MSG_REFUSAL;
        m->tag = (uint64_t)-rc;
        m->packing = NULL;
        m->flags |= FIBRIL__MSG_PACKED;
    }
}

int fibril__remote_pack(struct fibril_message *m)
{
    int rc = fibril__pack(m);
    m->kind |= rc == 0 ? FIBRIL__MSG_AWAY : 0;
    return rc;
}

int fibril__remote_send(struct fibril_message *m, int64_t deadline_ns)
{
    const struct fibril__actor *self = fibril__actor_self();
    if (m->kind != FIBRIL_MESSAGE_CALL || (self && self->awaiting == m->from.ref)) {
        m->flags &= (uint8_t)~FIBRIL__MSG_OPENS; /* of an earlier sending */
    }
    int rc = fibril__remote_pack(m);
    rc = rc == 0 ? fibril__actor_send_as(m->to, m, m->kind, deadline_ns) : rc;
    if (rc < 0 && (m->flags & FIBRIL__MSG_PACKED)) {
        fibril__unpack(m);
    }
    return rc;
}
