/* SPDX-License-Identifier: MIT */
/*
 * Messages: a header and the data behind it, in one piece. Each loop keeps some of the usual size;
 * what is made on one loop and freed on another moves over, and costs no more than elsewhere.
 */
#include "actor/actor.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <string.h>

enum {
    USUAL_BYTES = 128, /* of data */
    POOL_MAX = 256,
    MESSAGE_BYTES_MAX = 1 << 30,
};

static struct fibril_message *take(size_t size, uint8_t *ret_flags)
{
    if (size > USUAL_BYTES) {
        *ret_flags = 0;
        return fibril__alloc(sizeof(struct fibril_message) + size);
    }
    *ret_flags = FIBRIL__MSG_POOLED;
    struct fibril__actors *part = fibril__actors_here();
    struct fibril_message *m = part ? part->pool : NULL;
    if (LIKELY(m)) {
        part->pool = m->next;
        part->pooled--;
        return m;
    }
    return fibril__alloc(sizeof(struct fibril_message) + USUAL_BYTES);
}

int fibril_message_new(uint64_t tag, size_t size, const struct fibril_message_type *type,
                       struct fibril_message **ret_message)
{
    if (UNLIKELY(size > MESSAGE_BYTES_MAX)) {
        return -EINVAL;
    }
    uint8_t flags;
    struct fibril_message *m = take(size, &flags);
    if (UNLIKELY(!m)) {
        return -ENOMEM;
    }
    m->tag = tag;
    m->size = size;
    m->type = type;
    m->from = (struct fibril_from){0, 0};
    m->kind = FIBRIL_MESSAGE_PLAIN;
    m->flags = flags;
    *ret_message = m;
    return 0;
}

int fibril_message_of(uint64_t tag, const void *data, size_t size,
                      struct fibril_message **ret_message)
{
    int rc = fibril_message_new(tag, size, NULL, ret_message);
    if (rc == 0 && size > 0) {
        memcpy(fibril_message_data(*ret_message), data, size);
    }
    return rc;
}

int fibril_message_copy(const struct fibril_message *m, struct fibril_message **ret_copy)
{
    if (m->type && m->type->destroy && !m->type->copy) {
        return -ENOTSUP;
    }
    struct fibril_message *copy;
    int rc = fibril_message_new(m->tag, m->size, NULL, &copy);
    if (rc < 0) {
        return rc;
    }
    memcpy(fibril_message_data(copy), m + 1, m->size);
    if (m->type && m->type->copy) {
        rc = m->type->copy(fibril_message_data(copy), m->size);
        if (rc < 0) {
            fibril_message_free(copy);
            return rc;
        }
    }
    copy->type = m->type;
    *ret_copy = copy;
    return 0;
}

void fibril_message_free(struct fibril_message *m)
{
    if (!m) {
        return;
    }
    if (m->type && m->type->destroy) {
        m->type->destroy(fibril_message_data(m), m->size);
    }
    if (UNLIKELY(m->flags & FIBRIL__MSG_IN_BOND)) {
        fibril__bond_free(CONTAINER_OF(m, struct fibril__bond, message));
        return;
    }
    struct fibril__actors *part = m->flags & FIBRIL__MSG_POOLED ? fibril__actors_here() : NULL;
    if (LIKELY(part && part->keeper && part->pooled < POOL_MAX)) {
        m->next = part->pool;
        part->pool = m;
        part->pooled++;
    } else {
        fibril__free(m);
    }
}

uint64_t fibril_message_tag(const struct fibril_message *m)
{
    return m->tag;
}

size_t fibril_message_size(const struct fibril_message *m)
{
    return m->size;
}

void *fibril_message_data(struct fibril_message *m)
{
    return m->flags & FIBRIL__MSG_IN_BOND
               ? (void *)&CONTAINER_OF(m, struct fibril__bond, message)->signal
               : (void *)(m + 1);
}

const void *fibril_message_peek(const struct fibril_message *m)
{
    return fibril_message_data((struct fibril_message *)(uintptr_t)m);
}

void fibril_message_set_tag(struct fibril_message *m, uint64_t tag)
{
    m->tag = tag;
}

enum fibril_message_kind fibril_message_kind(const struct fibril_message *m)
{
    return m->kind <= FIBRIL_MESSAGE_SIGNAL ? (enum fibril_message_kind)m->kind
                                            : FIBRIL_MESSAGE_PLAIN;
}

struct fibril_from fibril_message_from(const struct fibril_message *m)
{
    return m->kind == FIBRIL_MESSAGE_CALL ? m->from : (struct fibril_from){0, 0};
}

/* ---- to other loops ---- */

static void arrive(struct fibril_post *p)
{
    struct fibril_message *m = CONTAINER_OF(p, struct fibril_message, post);
    fibril__message_arrive(fibril__actor_here(m->to), m);
}

bool fibril__message_post(unsigned number, struct fibril_message *m)
{
    m->post.fn = arrive;
    return fibril_embed_post_to(number, &m->post);
}
