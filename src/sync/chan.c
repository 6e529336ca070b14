/* SPDX-License-Identifier: MIT */
/*
 * Channels, but for select. A send that finds a receiver waiting copies into the receiver's
 * variable and makes it ready; otherwise the element goes into the ring, or the sender waits and
 * lends its variable. See chan.h for who waits how.
 *
 * Invariants, outside the spin lock: senders wait only while the ring is full, receivers only while
 * it is empty (and a ring of no capacity is both); on a closed channel nobody waits.
 *
 * Rejected: a node on the stack for each waiter, which copied stacks cannot have; a lock-free ring
 * for shared channels, which cannot tell a waiter from an element without a lock and loses to one
 * that is held for 20 instructions.
 */
#include "sync/chan.h"

#include "base/alloc.h"

enum { RING_BYTES_MAX = 1 << 30 };

/* ---- making and freeing ---------------------------------------------------------------------- */

static _Atomic uint32_t last_number;

int fibril_chan_new(size_t elem_bytes, size_t capacity, unsigned flags,
                    struct fibril_chan **ret_chan)
{
    size_t bytes;
    if ((flags & ~(unsigned)FIBRIL_SHARED) || elem_bytes > RING_BYTES_MAX ||
        __builtin_mul_overflow(elem_bytes, capacity, &bytes) || bytes > RING_BYTES_MAX) {
        return -EINVAL;
    }
    struct fibril_chan *ch = fibril__alloc_zero(sizeof(*ch));
    if (!ch) {
        return -ENOMEM;
    }
    if (bytes) {
        ch->ring = fibril__alloc(bytes);
        if (!ch->ring) {
            fibril__free(ch);
            return -ENOMEM;
        }
    }
    ch->spin.shared = flags & FIBRIL_SHARED;
    ch->number = ch->spin.shared ? atomic_fetch_add(&last_number, 1) : 0;
    ch->elem_bytes = elem_bytes;
    ch->capacity = capacity;
    fibril__list_init(&ch->receivers);
    fibril__list_init(&ch->senders);
    *ret_chan = ch;
    return 0;
}

void fibril_chan_free(struct fibril_chan *ch)
{
    if (ch) {
        FIBRIL_ASSERT(fibril__list_empty(&ch->receivers) && fibril__list_empty(&ch->senders));
        fibril__free(ch->ring);
        fibril__free(ch);
    }
}

size_t fibril_chan_len(const struct fibril_chan *ch)
{
    return __atomic_load_n(&ch->len, __ATOMIC_RELAXED);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool chan_abort(struct fibril *f, int error)
{
    (void)error;
    struct fibril_chan *ch = f->wait_on;
    fibril__spin_lock(&ch->spin);
    bool left = fibril__waiters_leave(f);
    fibril__spin_unlock(&ch->spin);
    return left;
}

static const struct fibril__wait_kind send_wait = {
    .name = "channel send",
    .reason = FIBRIL__BY_CHAN,
    .abort = chan_abort,
};

static const struct fibril__wait_kind recv_wait = {
    .name = "channel receive",
    .reason = FIBRIL__BY_CHAN,
    .abort = chan_abort,
};

/* The cast takes `const` away from an element that is to be sent: it is only read. */
static ALWAYS_INLINE void join(struct fibril__list *list, struct fibril *self, const void *elem)
{
    self->wait_data = (void *)(uintptr_t)elem;
    fibril__list_push(list, &self->link);
}

struct fibril *fibril__chan_pop_slow(struct fibril__list *list, struct fibril__link *l,
                                     void **ret_elem)
{
    for (; l != &list->head; l = l->next) {
        struct fibril *f = CONTAINER_OF(l, struct fibril, link);
        if (f->loop) {
            fibril__link_remove(l);
            *ret_elem = f->wait_data;
            return f;
        }
        struct fibril__clause *c = CONTAINER_OF(l, struct fibril__clause, link);
        if (fibril__select_claim(c->select)) {
            fibril__link_remove(l);
            *ret_elem = c->elem;
            c->select->won = c;
            return c->select->fibril;
        }
        /* Its select has been won elsewhere and will unlink the clause when it runs. */
    }
    return NULL;
}

/* ---- sending and receiving on shared channels ---------------------------- */

/* Memory for an element that waits; *ret_slot is NULL for elements of no bytes. */
static int slot_new(const struct fibril_chan *ch, void **ret_slot)
{
    *ret_slot = NULL;
    if (ch->elem_bytes == 0) {
        return 0;
    }
    *ret_slot = fibril__alloc(ch->elem_bytes);
    return *ret_slot ? 0 : -ENOMEM;
}

/* Sends if that needs no wait; otherwise -EAGAIN, and if `queue` self has joined the senders, with
 * elem. */
static int send_locked(struct fibril_chan *ch, struct fibril *self, const void *elem, bool queue)
{
    struct fibril__handover rest = {.wake = NULL};
    fibril__spin_lock(&ch->spin);
    int rc = fibril__chan_send_now(ch, elem, &rest);
    if (rc == -EAGAIN && queue) {
        join(&ch->senders, self, elem);
    }
    fibril__spin_unlock(&ch->spin);
    fibril__chan_finish(ch, &rest);
    return rc;
}

static int recv_locked(struct fibril_chan *ch, struct fibril *self, void *ret_elem, void *slot,
                       bool queue)
{
    struct fibril__handover rest = {.wake = NULL};
    fibril__spin_lock(&ch->spin);
    int rc = fibril__chan_recv_now(ch, ret_elem, &rest);
    if (rc == -EAGAIN && queue) {
        join(&ch->receivers, self, slot);
    }
    fibril__spin_unlock(&ch->spin);
    fibril__chan_finish(ch, &rest);
    return rc;
}

static NOINLINE int shared_send(struct fibril_chan *ch, struct fibril *self, const void *elem,
                                int64_t deadline_ns)
{
    int rc = send_locked(ch, self, elem, false);
    if (rc != -EAGAIN) {
        fibril__may_have_parked();
        return rc;
    }
    void *slot;
    rc = slot_new(ch, &slot);
    if (rc < 0) {
        return rc;
    }
    fibril__chan_copy(ch, slot, elem);
    rc = send_locked(ch, self, slot, true);
    if (rc == -EAGAIN) {
        rc = (int)fibril__park(&send_wait, ch, deadline_ns);
    }
    fibril__free(slot);
    return rc;
}

static NOINLINE int shared_recv(struct fibril_chan *ch, struct fibril *self, void *ret_elem,
                                int64_t deadline_ns)
{
    int rc = recv_locked(ch, self, ret_elem, NULL, false);
    if (rc != -EAGAIN) {
        fibril__may_have_parked();
        return rc;
    }
    void *slot;
    rc = slot_new(ch, &slot);
    if (rc < 0) {
        return rc;
    }
    rc = recv_locked(ch, self, ret_elem, slot, true);
    if (rc == -EAGAIN) {
        rc = (int)fibril__park(&recv_wait, ch, deadline_ns);
        if (rc == 0) {
            fibril__chan_copy(ch, ret_elem, slot);
        }
    }
    fibril__free(slot);
    return rc;
}

/* ---- sending and receiving ----------------------------------------------- */

int fibril_chan_send(struct fibril_chan *ch, const void *elem, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(ch->spin.shared)) {
        return shared_send(ch, self, elem, deadline_ns);
    }
    struct fibril__handover rest = {.wake = NULL};
    int rc = fibril__chan_send_now(ch, elem, &rest);
    if (rc == -EAGAIN) {
        join(&ch->senders, self, elem);
        return (int)fibril__park(&send_wait, ch, deadline_ns);
    }
    fibril__chan_finish(ch, &rest);
    fibril__may_have_parked();
    return rc;
}

int fibril_chan_recv(struct fibril_chan *ch, void *ret_elem, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(ch->spin.shared)) {
        return shared_recv(ch, self, ret_elem, deadline_ns);
    }
    struct fibril__handover rest = {.wake = NULL};
    int rc = fibril__chan_recv_now(ch, ret_elem, &rest);
    if (rc == -EAGAIN) {
        join(&ch->receivers, self, ret_elem);
        return (int)fibril__park(&recv_wait, ch, deadline_ns);
    }
    fibril__chan_finish(ch, &rest);
    fibril__may_have_parked();
    return rc;
}

int fibril_chan_try_send(struct fibril_chan *ch, const void *elem)
{
    struct fibril *self = fibril__self();
    return self ? send_locked(ch, self, elem, false) : -EPERM;
}

int fibril_chan_try_recv(struct fibril_chan *ch, void *ret_elem)
{
    struct fibril *self = fibril__self();
    return self ? recv_locked(ch, self, ret_elem, NULL, false) : -EPERM;
}

/* ---- closing ------------------------------------------------------------- */

static void collect(struct fibril__chain *chain, struct fibril__list *list)
{
    void *elem;
    struct fibril *f;
    while ((f = fibril__chan_pop(list, &elem)) != NULL) {
        fibril__chain_add(chain, f);
    }
}

int fibril_chan_close(struct fibril_chan *ch)
{
    if (UNLIKELY(!fibril__self())) {
        return -EPERM;
    }
    struct fibril__chain waiters = {NULL, NULL};
    fibril__spin_lock(&ch->spin);
    bool was_closed = ch->closed;
    ch->closed = true;
    collect(&waiters, &ch->receivers);
    collect(&waiters, &ch->senders);
    fibril__spin_unlock(&ch->spin);
    fibril__chain_wake(&waiters, -EPIPE);
    return was_closed ? -EPIPE : 0;
}
