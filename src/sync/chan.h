/* SPDX-License-Identifier: MIT */
/*
 * Channels as chan.c and select.c share them.
 *
 * A channel has a list of waiting senders and one of waiting receivers. What stands in them is
 * either the record of a fibril, which waits for that channel alone (its wait_data is the element),
 * or a clause of a select. Both begin with a link; after it comes the fibril's loop, never NULL, or
 * a NULL, and that tells them apart. So a plain send or receive needs no node, and both kinds are
 * served in the order in which they came.
 *
 * A clause is only an offer: whoever meets it must claim its select first, and who fails goes on to
 * the next in the list. A select is claimed once, by the winner of all its cases, by its deadline
 * or by cancellation.
 *
 * Where the element of a waiter is: unshared channels copy straight from or into the waiter's
 * variable, wherever its stack is kept at the moment. A waiter on a shared channel has put its
 * element, or room for it, on the heap, so that no loop touches a stack of another.
 */
#ifndef FIBRIL_SYNC_CHAN_H
#define FIBRIL_SYNC_CHAN_H

#include "sync/waiters.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

struct fibril_chan {
    struct fibril__spin spin;
    bool closed;
    uint32_t number; /* of a shared one: the order in which a select takes locks */
    size_t elem_bytes;
    size_t capacity, head; /* the ring: how many fit, and where the oldest is */
    size_t len; /* how many there are; written under the spin lock, read anywhere (relaxed) */
    struct fibril__list receivers, senders;
    char *ring;
};

struct fibril__clause;

/* What others need to know of a select that is parked. */
struct fibril__select {
    struct fibril *fibril;
    bool shared;                /* a case has a shared channel: claims race between loops */
    unsigned char claimed;      /* exchange: acquire and release */
    struct fibril__clause *won; /* set by whoever claimed it through a channel */
};

struct fibril__clause {
    struct fibril__link link;
    struct fibril_loop *no_loop; /* NULL, where a fibril has its loop */
    struct fibril__select *select;
    struct fibril_chan *chan;
    void *elem;   /* the element, or where it goes: the caller's, or on the heap for shared channels
                   */
    size_t index; /* of the case */
};

_Static_assert(offsetof(struct fibril, link) == offsetof(struct fibril__clause, link) &&
                   offsetof(struct fibril, loop) == offsetof(struct fibril__clause, no_loop),
               "a fibril and a clause look alike up to the loop");

/* What is left to do when a channel's spin lock has been released: copy to a waiter or from one,
 * and wake it. */
struct fibril__handover {
    struct fibril *wake; /* NULL: nothing is left */
    void *to;
    const void *from;
    bool copy;
};

/* Wins the select for the caller, who is the only one to do so. */
static inline bool fibril__select_claim(struct fibril__select *s)
{
    if (s->shared) {
        return !__atomic_exchange_n(&s->claimed, 1, __ATOMIC_ACQ_REL);
    }
    bool won = !s->claimed;
    s->claimed = 1;
    return won;
}

/* Goes through the clauses from `l` on for one that can be claimed, up to a plain waiter. */
struct fibril *fibril__chan_pop_slow(struct fibril__list *list, struct fibril__link *l,
                                     void **ret_elem);

/* Takes the longest waiter off the list and says where its element is; NULL if nobody waits. Under
 * the spin lock. */
static ALWAYS_INLINE struct fibril *fibril__chan_pop(struct fibril__list *list, void **ret_elem)
{
    struct fibril__link *l = fibril__list_first(list);
    if (!l) {
        return NULL;
    }
    struct fibril *f = CONTAINER_OF(l, struct fibril, link);
    if (UNLIKELY(!f->loop)) {
        return fibril__chan_pop_slow(list, l, ret_elem);
    }
    fibril__link_remove(l);
    *ret_elem = f->wait_data;
    return f;
}

static ALWAYS_INLINE void *fibril__chan_elem_at(const struct fibril_chan *ch, struct fibril *f,
                                                void *p)
{
    if (LIKELY(ch->spin.shared || !fibril__context_is_copied(&f->ctx))) {
        return p;
    }
    return fibril__stack_at(f, p);
}

static ALWAYS_INLINE void fibril__chan_copy(const struct fibril_chan *ch, void *to,
                                            const void *from)
{
    /* The size never changes: whoever had no slot to give, because it is 0, copies nothing. */
    if (LIKELY(ch->elem_bytes == 8)) {
        memcpy(to, from, 8); /* NOLINT(clang-analyzer-core.NonNullParamChecker) */
    } else if (ch->elem_bytes > 0) {
        memcpy(to, from, ch->elem_bytes); /* NOLINT(clang-analyzer-core.NonNullParamChecker) */
    }
}

/* The place of the i-th element of the ring, counted from the oldest. */
static inline char *fibril__chan_place(const struct fibril_chan *ch, size_t i)
{
    size_t at = ch->head + i;
    at -= at >= ch->capacity ? ch->capacity : 0;
    return ch->ring + at * ch->elem_bytes;
}

static inline void fibril__chan_set_len(struct fibril_chan *ch, size_t len)
{
    __atomic_store_n(&ch->len, len, __ATOMIC_RELAXED);
}

/* Sends, if that needs no wait: 0, -EPIPE or -EAGAIN. Under the spin lock; after it
 * fibril__chan_finish. */
static ALWAYS_INLINE int fibril__chan_send_now(struct fibril_chan *ch, const void *elem,
                                               struct fibril__handover *ret_rest)
{
    if (UNLIKELY(ch->closed)) {
        return -EPIPE;
    }
    void *to;
    struct fibril *f = fibril__chan_pop(&ch->receivers, &to);
    if (f) {
        *ret_rest = (struct fibril__handover){f, fibril__chan_elem_at(ch, f, to), elem, true};
        return 0;
    }
    if (ch->len == ch->capacity) {
        return -EAGAIN;
    }
    fibril__chan_copy(ch, fibril__chan_place(ch, ch->len), elem);
    fibril__chan_set_len(ch, ch->len + 1);
    return 0;
}

/* Takes the oldest element out of the ring and lets the longest waiting sender put its own in. */
static inline void fibril__chan_take(struct fibril_chan *ch, void *ret_elem,
                                     struct fibril__handover *ret_rest)
{
    fibril__chan_copy(ch, ret_elem, fibril__chan_place(ch, 0));
    ch->head = ch->head + 1 == ch->capacity ? 0 : ch->head + 1;
    void *from;
    struct fibril *f = fibril__chan_pop(&ch->senders, &from);
    if (f) {
        fibril__chan_copy(ch, fibril__chan_place(ch, ch->len - 1),
                          fibril__chan_elem_at(ch, f, from));
        ret_rest->wake = f;
    } else {
        fibril__chan_set_len(ch, ch->len - 1);
    }
}

/* Receives, if that needs no wait: 0, -EPIPE or -EAGAIN. Under the spin lock; after it
 * fibril__chan_finish. */
static ALWAYS_INLINE int fibril__chan_recv_now(struct fibril_chan *ch, void *ret_elem,
                                               struct fibril__handover *ret_rest)
{
    if (ch->len) {
        fibril__chan_take(ch, ret_elem, ret_rest);
        return 0;
    }
    void *from;
    struct fibril *f = fibril__chan_pop(&ch->senders, &from);
    if (f) {
        *ret_rest = (struct fibril__handover){f, ret_elem, fibril__chan_elem_at(ch, f, from), true};
        return 0;
    }
    return ch->closed ? -EPIPE : -EAGAIN;
}

/* Does what was left, without the spin lock: until it is woken the waiter is the caller's alone. */
static ALWAYS_INLINE void fibril__chan_finish(const struct fibril_chan *ch,
                                              const struct fibril__handover *rest)
{
    if (rest->copy) {
        fibril__chan_copy(ch, rest->to, rest->from);
    }
    if (rest->wake) {
        fibril__wake(rest->wake, 0);
    }
}

#endif
