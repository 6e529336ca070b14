/* SPDX-License-Identifier: MIT */
/*
 * Messages: a header and the data behind it, in one piece. Each loop keeps spares of two sizes, as
 * many as were waiting at once lately: with full mailboxes malloc would be half of what a message
 * costs. Those that are not needed for some seconds are given back. What is made on one loop and
 * freed on another moves over, and costs no more than elsewhere.
 */
#include "actor/actor.h"
#include "actor/remote.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <string.h>

enum {
    SMALL_BYTES = 24, /* of data: with malloc's own word two cache lines in all */
    USUAL_BYTES = 128,
    KEEP = 256,       /* that are not trimmed */
    TRIM_MOST = 1024, /* at once */
    MESSAGE_BYTES_MAX = 1 << 30,
};

#define TRIM_NS INT64_C(1000000000)
#define TRIM_MORE_NS INT64_C(10000000)

/* By index of the size. */
static const size_t room[FIBRIL__SPARES] = {SMALL_BYTES, USUAL_BYTES};
static const unsigned spares_max[FIBRIL__SPARES] = {32768, 8192};

/* ---- spares ---- */

static NOINLINE void trim_later(struct fibril__actors *part)
{
    part->trim_ns = fibril_after(TRIM_NS);
    fibril__keeper_hurry(part);
}

/* m is one of the sizes that are kept. */
static ALWAYS_INLINE void keep(struct fibril_message *m)
{
    unsigned k = !(m->flags & FIBRIL__MSG_SMALL);
    struct fibril__actors *part = fibril__actors_here();
    if (UNLIKELY(!part || !part->keeper || part->spare_count[k] >= spares_max[k])) {
        fibril__free(m);
        return;
    }
    m->next = part->spares[k];
    part->spares[k] = m;
    if (UNLIKELY(++part->spare_count[k] > KEEP) && part->trim_ns == FIBRIL_FOREVER) {
        trim_later(part);
    }
}

static struct fibril_message *take_spare(struct fibril__actors *part, unsigned k)
{
    struct fibril_message *m = part->spares[k];
    if (m) {
        part->spares[k] = m->next;
        part->spare_count[k]--;
        if (part->spare_count[k] < part->spare_least[k]) {
            part->spare_least[k] = part->spare_count[k];
        }
    }
    return m;
}

/* Returns whether there is more to be freed. */
static bool trim(struct fibril__actors *part, unsigned k)
{
    unsigned kept = part->spare_count[k] < KEEP ? part->spare_count[k] : KEEP;
    unsigned idle = part->spare_least[k] > kept ? part->spare_least[k] - kept : 0;
    unsigned n = idle < TRIM_MOST ? idle : TRIM_MOST;
    for (unsigned i = 0; i < n; i++) {
        fibril__free(take_spare(part, k));
    }
    part->spare_least[k] = idle > n ? part->spare_least[k] : part->spare_count[k];
    return idle > n;
}

void fibril__spares_trim(struct fibril__actors *part, int64_t now_ns)
{
    bool more = false, any = false;
    for (unsigned k = 0; k < FIBRIL__SPARES; k++) {
        more = trim(part, k) || more;
        any = any || part->spare_count[k] > KEEP;
    }
    part->trim_ns = more ? now_ns + TRIM_MORE_NS : any ? now_ns + TRIM_NS : FIBRIL_FOREVER;
}

void fibril__spares_drop(struct fibril__actors *part)
{
    for (unsigned k = 0; k < FIBRIL__SPARES; k++) {
        for (struct fibril_message *m; (m = take_spare(part, k)) != NULL;) {
            fibril__free(m);
        }
    }
}

/* ---- messages ---- */

static ALWAYS_INLINE struct fibril_message *take(size_t size, uint8_t *ret_flags)
{
    if (UNLIKELY(size > USUAL_BYTES)) {
        *ret_flags = 0;
        return fibril__alloc(sizeof(struct fibril_message) + size);
    }
    unsigned k = size > SMALL_BYTES;
    *ret_flags = k ? FIBRIL__MSG_USUAL : FIBRIL__MSG_SMALL;
    struct fibril__actors *part = fibril__actors_here();
    struct fibril_message *m = LIKELY(part) ? take_spare(part, k) : NULL;
    return LIKELY(m) ? m : fibril__alloc(sizeof(struct fibril_message) + room[k]);
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
    if (UNLIKELY(m->flags & (FIBRIL__MSG_IN_BOND | FIBRIL__MSG_PACKED))) {
        if (m->flags & FIBRIL__MSG_IN_BOND) {
            fibril__bond_free(CONTAINER_OF(m, struct fibril__bond, message));
            return;
        }
        fibril__unpack(m);
    }
    if (LIKELY(m->flags & (FIBRIL__MSG_SMALL | FIBRIL__MSG_USUAL))) {
        keep(m);
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
