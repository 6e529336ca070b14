/* SPDX-License-Identifier: MIT */
/*
 * Control signals: bonds (links, monitors, calls to other loops) and exits. They never enter the
 * mailbox's queue, so no bound and no policy touches them; and they need no memory but the bond's
 * own, which whoever asked for the bond has paid for.
 *
 * Each half of a bond is touched by the loop of its actor only. What one side tells the other goes
 * in a post that lies in the half: on the way to the asked side first "made", in the half of that
 * side; from then on each half's post is its own. Posts of one loop to another keep their order, so
 * nothing overtakes "made". A side whose actor is gone answers it with "died".
 */
#include "actor/actor.h"
#include "actor/remote.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

/* ---- bonds ---- */

static struct fibril__bond *bond_of(struct fibril__half *h)
{
    FIBRIL_ASSERT(h);
    return CONTAINER_OF((struct fibril__half(*)[2])(void *)(h - h->side), struct fibril__bond,
                        half);
}

struct fibril__bond *fibril__bond_of(struct fibril__half *h)
{
    return bond_of(h);
}

int fibril__bond_new(uint8_t kind, struct fibril__bond **ret_bond)
{
    struct fibril__bond *b = fibril__alloc(sizeof *b);
    if (!b) {
        return -ENOMEM;
    }
    *b = (struct fibril__bond){.kind = kind, .refs = 2, .ref = 0};
    b->half[1].side = 1;
    *ret_bond = b;
    return 0;
}

void fibril__bond_free(struct fibril__bond *b)
{
    fibril__free(b);
}

static void drop_ref(struct fibril__bond *b)
{
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        fibril__bond_free(b);
    }
}

static void take_half(struct fibril__bond *b, unsigned side, struct fibril__actor *a)
{
    struct fibril__half *h = &b->half[side];
    h->owner = a;
    h->live = true;
    fibril__list_push(&a->bonds, &h->link);
}

/* a is asked. */
static void take_asked(struct fibril__bond *b, struct fibril__actor *a)
{
    take_half(b, 1, a);
    if (fibril__is_remote(a)) {
        fibril__remote_tied(a, b);
    }
}

static void leave_half(struct fibril__half *h)
{
    h->live = false;
    h->owner = NULL;
    fibril__link_remove(&h->link);
}

/* ---- exit signals ---- */

static void tell_to_end(struct fibril__actor *a, int reason)
{
    if (a->flags & FIBRIL__A_EXITING) {
        if (reason == FIBRIL_EXIT_KILLED && a->fibril) { /* it may have dealt with the first */
            fibril_cancel(a->fibril);
        }
        return;
    }
    a->flags |= FIBRIL__A_EXITING;
    a->reason = reason;
    if (a->fibril) {
        fibril_cancel(a->fibril); /* of this loop: cannot fail */
    } else if (a->flags & FIBRIL__A_IDLE) {
        fibril__passive_rouse(a);
    }
}

void fibril__signal_put(struct fibril__actor *a, struct fibril__bond *b, uint64_t tag,
                        uint64_t from, uint64_t ref, int reason)
{
    b->signal = (struct fibril_signal){.actor = from, .ref = ref, .reason = reason};
    b->message = (struct fibril_message){.tag = tag,
                                         .size = sizeof b->signal,
                                         .kind = FIBRIL_MESSAGE_SIGNAL,
                                         .flags = FIBRIL__MSG_IN_BOND};
    fibril__mailbox_put_urgent(a, &b->message);
}

void fibril__actor_signal(struct fibril__actor *a, uint64_t from, int reason, bool kill,
                          struct fibril__bond *memory)
{
    if (fibril__is_remote(a)) {
        fibril__remote_exit(a, from, reason);
    } else if (kill) {
        tell_to_end(a, FIBRIL_EXIT_KILLED);
    } else if (memory && (a->flags & FIBRIL__A_TRAPS)) {
        fibril__signal_put(a, memory, FIBRIL_TAG_EXIT, from, 0, reason);
        return;
    } else if (reason != FIBRIL_EXIT_NORMAL) {
        tell_to_end(a, reason);
    }
    if (memory) {
        fibril__bond_free(memory);
    }
}

/* ---- news of bonds ---- */

/* Two actors that linked each other at the same moment are tied twice; the first exit signal ends
 * both. */
static void forget_twins(struct fibril__actor *a, uint64_t other)
{
    struct fibril__link *next;
    for (struct fibril__link *l = a->bonds.head.next; l != &a->bonds.head; l = next) {
        next = l->next;
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        struct fibril__bond *b = bond_of(h);
        if (b->kind == FIBRIL__LINK && b->id[!h->side] == other) {
            leave_half(h);
            drop_ref(b);
        }
    }
}

/* The bond is over on both sides, and a, which has its half out, is told. */
static void tell_of_death(struct fibril__actor *a, struct fibril__bond *b, unsigned side,
                          int reason)
{
    uint64_t other = b->id[!side], ref = b->ref;
    switch (b->kind) {
    case FIBRIL__LINK:
        if (a->flags & FIBRIL__A_TWINS) {
            forget_twins(a, other);
        }
        fibril__actor_signal(a, other, reason, /* kill= */ false, b);
        return;
    case FIBRIL__MONITOR:
        if (side == 0) {
            fibril__signal_put(a, b, FIBRIL_TAG_DOWN, other, ref, reason);
            return;
        }
        break;
    default:
        if (side == 0) {
            fibril__call_fail(a, ref, reason == FIBRIL_EXIT_NOPROC ? -ESRCH : -EPIPE);
        }
    }
    fibril__bond_free(b);
}

/* The other side of h has told news, on the loop of h. */
static void hear(struct fibril__half *h, unsigned news, int reason)
{
    struct fibril__bond *b = bond_of(h);
    struct fibril__actor *a = h->owner;
    if (!h->live) { /* it has told its own, which may still be on the way */
        drop_ref(b);
        return;
    }
    leave_half(h);
    if (fibril__is_remote(a)) {
        fibril__remote_hears(a, b, h->side, news, reason);
        fibril__bond_free(b);
    } else if (news == FIBRIL__NEWS_DIED) {
        tell_of_death(a, b, h->side, reason);
    } else {
        fibril__bond_free(b);
    }
}

static void post_news(struct fibril__half *h);

static void arrive(struct fibril_post *p)
{
    struct fibril__half *from = CONTAINER_OF(p, struct fibril__half, post);
    struct fibril__bond *b = bond_of(from);
    if (from->news != FIBRIL__NEWS_MADE) {
        hear(&b->half[!from->side], from->news, from->reason);
        return;
    }
    struct fibril__actor *a = fibril__actor_here(b->id[1]);
    if (a) {
        take_asked(b, a);
        if (b->kind == FIBRIL__LINK) {
            a->flags |= FIBRIL__A_TWINS;
        }
    } else { /* `from` is the half of this side: it answers */
        from->news = FIBRIL__NEWS_DIED;
        from->reason = FIBRIL_EXIT_NOPROC;
        post_news(from);
    }
}

/* If the other side's loop is gone, its actors went before, and told what they had to tell. */
static void post_news(struct fibril__half *h)
{
    struct fibril__bond *b = bond_of(h);
    h->post.fn = arrive;
    if (!fibril_embed_post_to(b->number[!h->side], &h->post)) {
        drop_ref(b);
    }
}

void fibril__bond_end(struct fibril__half *h, uint8_t news, int reason)
{
    struct fibril__bond *b = bond_of(h);
    leave_half(h);
    if (b->number[0] == b->number[1]) {
        hear(&b->half[!h->side], news, reason);
        return;
    }
    h->news = news;
    h->reason = reason;
    post_news(h);
}

void fibril__bond_tie_new(struct fibril__bond *b, struct fibril__actor *a,
                          struct fibril__actor *child)
{
    b->id[0] = a->id;
    b->id[1] = child->id;
    b->number[0] = a->number;
    b->number[1] = child->number;
    take_half(b, 0, a);
}

void fibril__bond_take(struct fibril__bond *b, struct fibril__actor *a)
{
    take_half(b, 1, a);
}

void fibril__bond_tie(struct fibril__bond *b, struct fibril__actor *a, uint64_t actor)
{
    unsigned number = a->number;
    struct fibril__actor *other = fibril__actor_here(actor);
    bool away = !other && fibril__actor_find(actor, &number) != NULL;
    b->id[0] = a->id;
    b->id[1] = actor;
    b->number[0] = a->number;
    b->number[1] = (uint8_t)number;
    take_half(b, 0, a);
    if (other) {
        take_asked(b, other);
        return;
    }
    b->half[1].news = FIBRIL__NEWS_MADE;
    b->half[1].post.fn = arrive;
    if (away && number != a->number && fibril_embed_post_to(number, &b->half[1].post)) {
        return;
    }
    if (b->kind == FIBRIL__CALL) { /* its reply may have come, and not been looked at: that first */
        b->number[1] = a->number;
        fibril_embed_post_to(a->number, &b->half[1].post);
    } else {
        hear(&b->half[0], FIBRIL__NEWS_DIED, FIBRIL_EXIT_NOPROC);
    }
}

/* ---- the calls ---- */

static struct fibril__half *find_link(struct fibril__actor *a, uint64_t other)
{
    for (struct fibril__link *l = a->bonds.head.next; l != &a->bonds.head; l = l->next) {
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        struct fibril__bond *b = bond_of(h);
        if (b->kind == FIBRIL__LINK && b->id[!h->side] == other) {
            return h;
        }
    }
    return NULL;
}

int fibril_actor_link(uint64_t actor)
{
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril__bond *b;
    if (!a) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    if (actor == a->id || find_link(a, actor)) {
        return 0;
    }
    int rc = fibril__bond_new(FIBRIL__LINK, &b);
    if (rc == 0) {
        a->flags |= FIBRIL__A_TWINS;
        fibril__bond_tie(b, a, actor);
    }
    return rc;
}

int fibril_actor_unlink(uint64_t actor)
{
    struct fibril__actor *a = fibril__actor_self();
    struct fibril__half *h;
    while (a && (h = find_link(a, actor)) != NULL) {
        fibril__bond_end(h, FIBRIL__NEWS_OVER, 0);
    }
    return 0;
}

int fibril_actor_monitor(uint64_t actor, uint64_t *ret_ref)
{
    struct fibril__actor *a = fibril__actor_attach();
    struct fibril__bond *b;
    if (!a) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    int rc = fibril__bond_new(FIBRIL__MONITOR, &b);
    if (rc == 0) {
        *ret_ref = b->ref = fibril__ref_new();
        fibril__bond_tie(b, a, actor);
    }
    return rc;
}

struct fibril__half *fibril__bond_find(struct fibril__actor *a, uint64_t ref)
{
    for (struct fibril__link *l = a->bonds.head.prev; l != &a->bonds.head; l = l->prev) {
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        if (h->side == 0 && bond_of(h)->ref == ref) {
            return h;
        }
    }
    return NULL;
}

struct fibril__half *fibril__bond_asked(struct fibril__actor *a, struct fibril_from from)
{
    for (struct fibril__link *l = a->bonds.head.prev; l != &a->bonds.head; l = l->prev) {
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        struct fibril__bond *b = bond_of(h);
        if (h->side == 1 && b->ref == from.ref && b->id[0] == from.actor) {
            return h;
        }
    }
    return NULL;
}

int fibril_actor_demonitor(uint64_t ref)
{
    struct fibril__actor *a = fibril__actor_self();
    struct fibril__half *h = a && ref ? fibril__bond_find(a, ref) : NULL;
    if (!h) {
        return a && ref && fibril__mailbox_take_back(a, ref) ? 0 : -ENOENT;
    }
    fibril__bond_end(h, FIBRIL__NEWS_OVER, 0);
    return 0;
}

bool fibril_actor_trap_exits(bool trap)
{
    struct fibril__actor *a = fibril__actor_attach();
    bool was = a && (a->flags & FIBRIL__A_TRAPS);
    if (a) {
        a->flags = (uint8_t)(trap ? a->flags | FIBRIL__A_TRAPS : a->flags & ~FIBRIL__A_TRAPS);
    }
    return was;
}

bool fibril_actor_exiting(int *ret_reason)
{
    struct fibril__actor *a = fibril__actor_self();
    if (!a || !(a->flags & FIBRIL__A_EXITING)) {
        return false;
    }
    if (ret_reason) {
        *ret_reason = a->reason;
    }
    return true;
}

/* ---- exit signals that are sent ---- */

/* One that needs memory: it travels, or is trapped. */
static void exit_arrives(struct fibril_post *p)
{
    struct fibril__half *h = CONTAINER_OF(p, struct fibril__half, post);
    struct fibril__bond *b = bond_of(h);
    struct fibril__actor *a = fibril__actor_here(b->id[1]);
    int reason = h->reason;
    if (a) {
        fibril__actor_signal(a, b->id[0], reason, reason == FIBRIL_EXIT_KILL, b);
    } else {
        fibril__bond_free(b);
    }
}

static int exit_by_post(uint64_t from, uint64_t actor, unsigned number, int reason)
{
    struct fibril__bond *b;
    int rc = fibril__bond_new(FIBRIL__LINK, &b);
    if (rc < 0) {
        return rc;
    }
    b->id[0] = from;
    b->id[1] = actor;
    b->half[0].reason = reason;
    b->half[0].post.fn = exit_arrives;
    if (!fibril_embed_post_to(number, &b->half[0].post)) {
        fibril__bond_free(b);
    }
    return 0;
}

int fibril__actor_exit_from(uint64_t from, uint64_t actor, int reason)
{
    struct fibril__actor *a = fibril__actor_here(actor);
    unsigned number;
    bool kill = reason == FIBRIL_EXIT_KILL;
    if (!a) {
        return fibril__actor_find(actor, &number) ? exit_by_post(from, actor, number, reason) : 0;
    }
    struct fibril__bond *memory = NULL;
    if (!kill && (a->flags & FIBRIL__A_TRAPS)) {
        int rc = fibril__bond_new(FIBRIL__LINK, &memory);
        if (rc < 0) {
            return rc;
        }
    }
    if (!kill && !memory && actor == from && reason == FIBRIL_EXIT_NORMAL) {
        tell_to_end(a, reason);
        return 0;
    }
    fibril__actor_signal(a, from, reason, kill, memory);
    return 0;
}

int fibril_actor_exit(uint64_t actor, int reason)
{
    struct fibril__actor *self = fibril__actor_self();
    uint64_t from = self ? atomic_load_explicit(&self->id, memory_order_relaxed) : 0;
    return fibril__actor_exit_from(from, actor, reason);
}
