/* SPDX-License-Identifier: MIT */
/*
 * Records of actors of other processes: made when the other side first mentions an actor, ended
 * when it reports the actor's end or the connection is over, and never made again for a later
 * actor, whose number over there is another. See remote.h for how they work.
 *
 * One more record of each node stands for no actor: the far ends of streams hang on it, not on the
 * giver's record. The end of an actor overtakes its messages; that of a stream must not, so the
 * giver's side reports it behind the last of them.
 */
#include "actor/remote.h"

#include "actor/node.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril__remote *fibril__remote_of(const struct fibril__actor *a)
{
    return a->extra->remote;
}

/* ---- life ---- */

void fibril__remote_terms(struct fibril__remote *r, struct fibril__ref ref)
{
    struct fibril__actor *a = r->actor;
    r->window = ref.window;
    __atomic_store_n(&a->len_max, ref.window, __ATOMIC_RELAXED);
    __atomic_store_n(&a->bytes_max, (size_t)r->node->far_window_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&a->overflow, (uint8_t)(ref.overflow | FIBRIL__REMOTE), __ATOMIC_RELAXED);
}

static struct fibril__remote *make(struct fibril__node *node, struct fibril__ref ref)
{
    struct fibril__remote *r = fibril__alloc_zero(sizeof *r);
    struct fibril__actor *a = r ? fibril__actor_take(node->actor->number) : NULL;
    if (!a) {
        fibril__free(r);
        return NULL;
    }
    if (!fibril__actor_extra(a)) {
        atomic_store(&a->id, 0);
        fibril__actor_give(a);
        fibril__free(r);
        return NULL;
    }
    a->fn = NULL;
    a->arg = NULL;
    a->site = NULL;
    a->flags = 0;
    a->extra->remote = r;
    r->actor = a;
    r->node = node;
    r->far = ref.id;
    fibril__remote_terms(r, ref);
    return r;
}

struct fibril__remote *fibril__remote_find(struct fibril__node *node, uint64_t far)
{
    return (struct fibril__remote *)(void *)fibril__map_find(&node->remotes, far);
}

struct fibril__remote *fibril__remote_import(struct fibril__node *node, struct fibril__ref ref)
{
    struct fibril__remote *r = fibril__remote_find(node, ref.id);
    if (r) {
        return r;
    }
    if (node->remotes.count >= node->remotes_max || fibril__map_reserve(&node->remotes) < 0) {
        return NULL;
    }
    r = make(node, ref);
    if (r) {
        fibril__map_insert(&node->remotes, &r->by_far, ref.id);
    }
    return r;
}

/* What only goes between processes is nobody's letter. */
static void drop_markers(struct fibril__actor *a)
{
    for (struct fibril_message *m = a->first, *next; m; m = next) {
        next = m->next;
        if (m->kind == FIBRIL__MSG_STREAM_CLOSE || m->kind == FIBRIL__MSG_STREAM_BROKEN) {
            fibril__mailbox_remove(a, m);
            fibril_message_free(m);
        }
    }
}

static void end_record(struct fibril__remote *r, int reason)
{
    drop_markers(r->actor);
    fibril__link_remove(&r->dirty);
    fibril__actor_die(r->actor, reason);
    fibril__free(r);
}

void fibril__remote_end(struct fibril__remote *r, int reason)
{
    fibril__map_remove(&r->node->remotes, &r->by_far);
    end_record(r, reason);
}

int fibril__remote_open(struct fibril__node *node)
{
    node->streams = make(node, (struct fibril__ref){.window = 1});
    return node->streams ? 0 : -ENOMEM;
}

void fibril__remote_close(struct fibril__node *node)
{
    for (size_t i = 0; i < node->remotes.n; i++) {
        while (node->remotes.buckets[i]) {
            fibril__remote_end((struct fibril__remote *)(void *)node->remotes.buckets[i],
                               FIBRIL_EXIT_NOCONNECTION);
        }
    }
    fibril__map_fini(&node->remotes);
    if (node->streams) {
        end_record(node->streams, FIBRIL_EXIT_NOCONNECTION);
        node->streams = NULL;
    }
}

/* ---- messages ---- */

void fibril__remote_mail(struct fibril__actor *a)
{
    struct fibril__remote *r = fibril__remote_of(a);
    if (!fibril__link_in_list(&r->dirty)) {
        fibril__list_push(&r->node->out.dirty, &r->dirty);
        fibril__node_wake(r->node);
    }
}

void fibril__remote_reply(struct fibril__actor *a, struct fibril_message *m)
{
    struct fibril__remote *r = fibril__remote_of(a);
    fibril__pack_reply(m);
    fibril__out_whole(r->node, m, r->far);
}

/* Puts a marker behind the messages that wait to be sent. */
static void mark(struct fibril__remote *r, uint8_t kind, struct fibril_from stream, int error)
{
    struct fibril_message *m;
    if (fibril_message_new((uint64_t)-error, 0, NULL, &m) < 0) {
        fibril__node_fail(r->node, -ENOMEM, "no memory to end a stream");
        return;
    }
    m->kind = kind;
    m->from = stream;
    m->packing = NULL;
    m->flags |= FIBRIL__MSG_PACKED;
    fibril__mailbox_put(r->actor, m);
    fibril__remote_mail(r->actor);
}

/* ---- bonds ---- */

struct fibril__half *fibril__remote_half(struct fibril__remote *r, uint8_t kind, unsigned side,
                                         uint64_t number)
{
    struct fibril__list *bonds = &r->actor->bonds;
    for (struct fibril__link *l = bonds->head.prev; l != &bonds->head; l = l->prev) {
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        const struct fibril__bond *b = fibril__bond_of(h);
        if (b->kind == kind && h->side == side && b->ref == number) {
            return h;
        }
    }
    return NULL;
}

void fibril__remote_tied(struct fibril__actor *a, struct fibril__bond *b)
{
    struct fibril__remote *r = fibril__remote_of(a);
    struct fibril__node *node = r->node;
    struct fibril__half *h = &b->half[1];
    if (b->kind == FIBRIL__STREAM) {
        fibril__link_remove(&h->link);
        h->owner = node->streams->actor;
        fibril__list_push(&h->owner->bonds, &h->link);
    } else if (b->kind == FIBRIL__LINK) {
        b->ref = b->ref ? b->ref : ++node->numbers; /* one that is passed on has its number */
        struct fibril__ref who = fibril__export(node, b->id[0]);
        fibril__out_control(
            node, &(struct fibril__frame){
                      .type = FIBRIL__FRAME_LINK, .who = who, .to = r->far, .number = b->ref});
    }
}

/* kind says who has asked for the link, from this side's point of view. */
static void link_is_over(struct fibril__node *node, const struct fibril__bond *b, unsigned side,
                         unsigned news, int reason)
{
    bool died = news == FIBRIL__NEWS_DIED;
    fibril__out_control(
        node, &(struct fibril__frame){.type = died ? FIBRIL__FRAME_LINK_EXIT : FIBRIL__FRAME_UNLINK,
                                      .to = b->id[!side],
                                      .number = b->ref,
                                      .kind = side == 1 ? FIBRIL__MINE : FIBRIL__YOURS,
                                      .reason = reason});
}

void fibril__remote_hears(struct fibril__actor *a, struct fibril__bond *b, unsigned side,
                          unsigned news, int reason)
{
    struct fibril__node *node = fibril__remote_of(a)->node;
    if (b->kind == FIBRIL__LINK) {
        link_is_over(node, b, side, news, reason);
    } else if (b->kind == FIBRIL__STREAM && side == 0) { /* the giver has ended */
        mark(fibril__remote_of(a), FIBRIL__MSG_STREAM_BROKEN, (struct fibril_from){0, b->ref},
             reason == FIBRIL_EXIT_NOPROC ? -ESRCH : -EPIPE);
    } else if (b->kind == FIBRIL__STREAM) { /* the taker has had enough */
        struct fibril__actor *giver = fibril__actor_here(b->id[1]);
        if (giver) {
            mark(fibril__remote_of(giver), FIBRIL__MSG_STREAM_CLOSE,
                 (struct fibril_from){b->id[0], b->ref}, 0);
        }
    }
}

void fibril__remote_broken(struct fibril__node *node, uint64_t stream, int error)
{
    struct fibril__half *h =
        node->streams ? fibril__remote_half(node->streams, FIBRIL__STREAM, 1, stream) : NULL;
    if (h) {
        fibril__bond_end(h, FIBRIL__NEWS_DIED, error == -ESRCH ? FIBRIL_EXIT_NOPROC : error);
    }
}

void fibril__remote_exit(struct fibril__actor *a, uint64_t from, int reason)
{
    struct fibril__remote *r = fibril__remote_of(a);
    struct fibril__ref who = fibril__export(r->node, from);
    fibril__out_control(
        r->node, &(struct fibril__frame){
                     .type = FIBRIL__FRAME_EXIT, .who = who, .to = r->far, .reason = reason});
}
