/* SPDX-License-Identifier: MIT */
/*
 * Sending. Within a loop a message that fits is appended at once. To another loop it is counted as
 * flying, if it fits, and posted; who finds no room there sends a record of itself instead, which
 * waits with the mailbox until there is room or its sender has given up:
 *
 *     WAITING --the mailbox has taken the message--> TAKEN
 *        |----the sender withdraws it-------------> WITHDRAWN
 *
 * Who changes the state first wins, and the record is freed by the last of the two. New senders
 * queue behind those that wait.
 */
#include "actor/actor.h"
#include "actor/remote.h"

#include "base/alloc.h"
#include "base/compiler.h"
#include "base/turns.h"

#include <errno.h>

enum { WAITING, TAKEN, WITHDRAWN };

struct fibril__parked {
    struct fibril__link link; /* in the mailbox's list of senders */
    struct fibril_post post;
    struct fibril_message *message; /* the sender's, and perhaps gone, once it is withdrawn */
    size_t size;
    uint64_t to;
    struct fibril_waker *waker;
    _Atomic uint8_t state; /* acquire-release: who has the message */
    _Atomic uint8_t refs;
};

static bool senders_wait(const struct fibril__actor *a)
{
    return a->extra && !fibril__list_empty(&a->extra->parked);
}

/* ---- putting ---- */

static NOINLINE void put_special(struct fibril__actor *a, struct fibril_message *m)
{
    if (m->kind & FIBRIL__MSG_AWAY) {
        fibril__mailbox_put(a, m);
        fibril__remote_mail(a);
    } else {
        fibril__stream_put(a, m);
    }
}

/* m, which is admitted, is for a, or too late. */
static ALWAYS_INLINE void put(struct fibril__actor *a, struct fibril_message *m)
{
    if (UNLIKELY(!a)) {
        fibril__dead_letter(m->to, m);
    } else if (UNLIKELY(m->kind >= FIBRIL__MSG_STREAM)) {
        put_special(a, m);
    } else {
        fibril__mailbox_put(a, m);
    }
}

void fibril__message_arrive(struct fibril__actor *a, struct fibril_message *m)
{
    if (m->kind == FIBRIL__MSG_REPLY || m->kind == FIBRIL__MSG_REFUSAL) {
        fibril__call_arrive(a, m);
        return;
    }
    atomic_fetch_sub_explicit(&fibril__actor_slot(m->to)->flying, 1, memory_order_relaxed);
    if (a && (a->overflow & ~FIBRIL__REMOTE) == FIBRIL_OVERFLOW_DROP_OLDEST) {
        fibril__mailbox_make_room(a, m->size);
    }
    put(a, m);
}

/* ---- senders that wait ---- */

static void drop_ref(struct fibril__parked *p)
{
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
        fibril_waker_free(p->waker);
        fibril__free(p);
    }
}

/* Puts the message of p into a, or with a NULL among the dead letters; not if it was withdrawn. */
static void admit(struct fibril__actor *a, struct fibril__parked *p)
{
    uint8_t state = WAITING;
    struct fibril_message *m = p->message;
    fibril__turn_point();
    if (atomic_compare_exchange_strong(&p->state, &state, TAKEN)) {
        put(a, m);
        fibril_waker_wake(p->waker);
    }
    drop_ref(p);
}

static bool is_withdrawn(struct fibril__parked *p)
{
    return atomic_load_explicit(&p->state, memory_order_acquire) == WITHDRAWN;
}

/* Whether the mailbox is half empty. Senders go on in batches then: one for each message that is
 * taken would be two switches for each message. */
static bool is_low(const struct fibril__actor *a)
{
    return atomic_load_explicit(&a->len, memory_order_relaxed) <= a->len_max / 2 &&
           atomic_load_explicit(&a->bytes, memory_order_relaxed) <= a->bytes_max / 2;
}

void fibril__senders_admit(struct fibril__actor *a)
{
    if (!senders_wait(a) || !is_low(a)) {
        return;
    }
    while (senders_wait(a)) {
        struct fibril__parked *p =
            CONTAINER_OF(fibril__list_first(&a->extra->parked), struct fibril__parked, link);
        if (!is_withdrawn(p) && !fibril__mailbox_has_room(a, p->size)) {
            return;
        }
        fibril__link_remove(&p->link);
        admit(a, p);
    }
}

void fibril__senders_release(struct fibril__actor *a)
{
    while (senders_wait(a)) {
        admit(NULL, CONTAINER_OF(fibril__list_pop(&a->extra->parked), struct fibril__parked, link));
    }
}

/* Those that were withdrawn from another loop leave when the list has doubled. */
static void sweep(struct fibril__actor_extra *extra)
{
    struct fibril__list left;
    uint32_t n = 0;
    fibril__list_init(&left);
    for (struct fibril__link *l; (l = fibril__list_pop(&extra->parked)) != NULL;) {
        struct fibril__parked *p = CONTAINER_OF(l, struct fibril__parked, link);
        if (is_withdrawn(p)) {
            drop_ref(p);
        } else {
            fibril__list_push(&left, l);
            n++;
        }
    }
    for (struct fibril__link *l; (l = fibril__list_pop(&left)) != NULL;) {
        fibril__list_push(&extra->parked, l);
    }
    extra->parked_since_sweep = 0;
    extra->parked_left = n;
}

static void enqueue(struct fibril__actor_extra *extra, struct fibril__parked *p)
{
    enum { SWEEP_MIN = 16 };
    if (++extra->parked_since_sweep > extra->parked_left + SWEEP_MIN) {
        sweep(extra);
    }
    fibril__list_push(&extra->parked, &p->link);
}

/* The record has reached the loop of the mailbox. Without memory for a list of those who wait the
 * message is taken at once: a bound that is passed by one is better than a sender that hangs. */
static void park_here(struct fibril__actor *a, struct fibril__parked *p)
{
    bool room = a && !senders_wait(a) && fibril__mailbox_has_room(a, p->size);
    if (!a || room || !fibril__actor_extra(a)) {
        admit(a, p);
    } else {
        enqueue(a->extra, p);
    }
}

static void parked_arrives(struct fibril_post *post)
{
    struct fibril__parked *p = CONTAINER_OF(post, struct fibril__parked, post);
    park_here(fibril__actor_here(p->to), p);
}

static int parked_new(struct fibril_message *m, struct fibril__parked **ret_parked)
{
    struct fibril__parked *p = fibril__alloc(sizeof *p);
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct fibril__parked){.post.fn = parked_arrives,
                                 .message = m,
                                 .size = m->size,
                                 .to = m->to,
                                 .state = WAITING,
                                 .refs = 2};
    int rc = fibril_waker_new(&p->waker);
    if (rc < 0) {
        fibril__free(p);
        return rc;
    }
    *ret_parked = p;
    return 0;
}

/* Waits until m is taken. here: the target, if it is of the calling loop. */
static int send_parked(struct fibril__actor *here, unsigned number, struct fibril_message *m,
                       int64_t deadline_ns)
{
    static const struct fibril_waker_info info = {.name = "full mailbox"};
    struct fibril__parked *p;
    if (!fibril_current()) {
        return -EAGAIN;
    }
    if (deadline_ns <= fibril_now()) { /* perhaps between two fibrils */
        return -ETIMEDOUT;
    }
    int rc = parked_new(m, &p);
    if (rc < 0) {
        return rc;
    }
    uint64_t to = m->to;
    if (here) {
        park_here(here, p);
    } else if (!fibril_embed_post_to(number, &p->post)) {
        admit(NULL, p);
    }
    rc = fibril_waker_wait_as(p->waker, &info, deadline_ns);
    uint8_t state = WAITING;
    fibril__turn_point();
    if (rc < 0 && !atomic_compare_exchange_strong(&p->state, &state, WITHDRAWN)) {
        rc = 0; /* taken meanwhile */
    }
    struct fibril__actor *a = rc < 0 ? fibril__actor_here(to) : NULL;
    if (a && fibril__link_in_list(&p->link)) {
        fibril__link_remove(&p->link);
        drop_ref(p);
    }
    drop_ref(p);
    return rc;
}

/* ---- sending ---- */

/* There is no room, and nobody is made to wait. */
static int refuse(unsigned overflow, uint64_t to, struct fibril_message *m)
{
    if (overflow == FIBRIL_OVERFLOW_FAIL) {
        return -EAGAIN;
    }
    fibril__message_dropped(to, m);
    return 0;
}

static NOINLINE int send_to_full(struct fibril__actor *a, struct fibril_message *m,
                                 int64_t deadline_ns)
{
    unsigned overflow = a->overflow & ~(unsigned)FIBRIL__REMOTE;
    switch (overflow) {
    case FIBRIL_OVERFLOW_PARK: return send_parked(a, a->number, m, deadline_ns);
    case FIBRIL_OVERFLOW_DROP_OLDEST:
        fibril__mailbox_make_room(a, m->size);
        put(a, m);
        return 0;
    default: return refuse(overflow, m->to, m);
    }
}

/* What a sender has to look at besides room: others who wait, or another process. */
static ALWAYS_INLINE bool is_special(const struct fibril__actor *a)
{
    return a->extra && (a->extra->remote || !fibril__list_empty(&a->extra->parked));
}

static NOINLINE int send_special(struct fibril__actor *a, struct fibril_message *m, bool fits,
                                 int64_t deadline_ns)
{
    if (fibril__is_remote(a)) {
        if (!(m->flags & FIBRIL__MSG_PACKED)) {
            return fibril__remote_send(m, deadline_ns);
        }
        if (fits && !senders_wait(a)) {
            put(a, m);
            return 0;
        }
    }
    return send_to_full(a, m, deadline_ns);
}

/* Counts first and looks then, so that of several senders at the end one at most is let in too
 * many by what the loop itself has just put in. */
static int send_away(struct fibril__actor *a, unsigned number, struct fibril_message *m,
                     int64_t deadline_ns)
{
    unsigned overflow = __atomic_load_n(&a->overflow, __ATOMIC_RELAXED);
    if (UNLIKELY(overflow & FIBRIL__REMOTE)) {
        if (!(m->flags & FIBRIL__MSG_PACKED)) {
            return fibril__remote_send(m, deadline_ns);
        }
        overflow &= ~(unsigned)FIBRIL__REMOTE;
    }
    bool fits = fibril__mailbox_has_room(a, m->size);
    if (!fits && overflow != FIBRIL_OVERFLOW_DROP_OLDEST) {
        return overflow == FIBRIL_OVERFLOW_PARK ? send_parked(NULL, number, m, deadline_ns)
                                                : refuse(overflow, m->to, m);
    }
    atomic_fetch_add_explicit(&a->flying, 1, memory_order_relaxed);
    if (!fibril__message_post(number, m)) {
        atomic_fetch_sub_explicit(&a->flying, 1, memory_order_relaxed);
        fibril__dead_letter(m->to, m);
    }
    return 0;
}

int fibril__actor_send_as(uint64_t actor, struct fibril_message *m, uint8_t kind,
                          int64_t deadline_ns)
{
    m->to = actor;
    m->kind = kind;
    struct fibril__actor *a = fibril__actor_here(actor);
    if (LIKELY(a)) {
        bool fits = fibril__mailbox_has_room(a, m->size);
        if (UNLIKELY(!fits || is_special(a))) {
            return send_special(a, m, fits, deadline_ns);
        }
        put(a, m);
        return 0;
    }
    unsigned number;
    a = fibril__actor_find(actor, &number);
    if (!a) {
        fibril__dead_letter(actor, m);
        return 0;
    }
    return send_away(a, number, m, deadline_ns);
}

int fibril__actor_send_patiently(uint64_t actor, struct fibril_message *m, uint8_t kind,
                                 int64_t deadline_ns)
{
    int rc = fibril__actor_send_as(actor, m, kind, FIBRIL__NEVER_PARK);
    if (rc != -EAGAIN && rc != -ETIMEDOUT) {
        return rc;
    }
    unsigned number;
    struct fibril__actor *here = fibril__actor_here(actor);
    const struct fibril__actor *a = here ? here : fibril__actor_find(actor, &number);
    if (!a) {
        fibril__dead_letter(actor, m);
        return 0;
    }
    rc = fibril__is_remote(a) ? fibril__remote_pack(m) : 0;
    rc = rc == 0 ? send_parked(here, here ? here->number : number, m, deadline_ns) : rc;
    if (rc < 0 && (m->flags & FIBRIL__MSG_PACKED)) {
        fibril__unpack(m);
    }
    return rc;
}

int fibril_actor_send(uint64_t actor, struct fibril_message *m, int64_t deadline_ns)
{
    return fibril__actor_send_as(actor, m, FIBRIL_MESSAGE_PLAIN, deadline_ns);
}

int fibril_actor_cast(uint64_t actor, struct fibril_message *m, int64_t deadline_ns)
{
    return fibril__actor_send_as(actor, m, FIBRIL_MESSAGE_CAST, deadline_ns);
}
