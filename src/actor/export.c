/* SPDX-License-Identifier: MIT */
/*
 * Actors of this process that another one knows. Each is monitored by the connection from the
 * moment it is mentioned, so that its end is reported whoever cares for it there. What comes for it
 * is put into its mailbox at once if there is room; else it waits here, and a fibril of its own
 * waits among the parked senders for all of it, in order. The other side may have only so many
 * messages and bytes here that are not in the mailbox yet: credit goes back when they are, a
 * quarter of the window at a time. So a slow receiver holds up its own senders and nobody else.
 */
#include "actor/node.h"

#include "base/alloc.h"

#include <errno.h>

enum { WINDOW_MAX = 256 };

/* ---- mentioning ---- */

/* What an actor's mailbox takes. */
static struct fibril__ref terms_of(uint64_t actor)
{
    unsigned number;
    const struct fibril__actor *a = fibril__actor_find(actor, &number);
    struct fibril__ref ref = {.id = actor, .window = 1};
    if (a) {
        uint32_t most = __atomic_load_n(&a->len_max, __ATOMIC_RELAXED);
        ref.window = most < WINDOW_MAX ? most : WINDOW_MAX;
        ref.overflow =
            (uint8_t)(__atomic_load_n(&a->overflow, __ATOMIC_RELAXED) & ~(unsigned)FIBRIL__REMOTE);
    }
    return ref;
}

static struct fibril__export *make(struct fibril__node *node, uint64_t actor)
{
    struct fibril__bond *b = NULL;
    struct fibril__export *e =
        fibril__map_reserve(&node->exports) == 0 ? fibril__alloc_zero(sizeof *e) : NULL;
    if (!e || fibril__bond_new(FIBRIL__MONITOR, &b) < 0) {
        fibril__free(e);
        return NULL;
    }
    e->node = node;
    fibril__map_insert(&node->exports, &e->by_id, actor);
    b->ref = fibril__ref_new();
    fibril__bond_tie(b, node->actor, actor);
    return e;
}

struct fibril__export *fibril__export_find(struct fibril__node *node, uint64_t id)
{
    return (struct fibril__export *)(void *)fibril__map_find(&node->exports, id);
}

struct fibril__ref fibril__export(struct fibril__node *node, uint64_t actor)
{
    struct fibril__ref nobody = {.window = 1};
    const struct fibril__actor *here = fibril__actor_here(actor);
    if (actor == 0 || node->over || here == node->actor) {
        return nobody;
    }
    if (here && fibril__is_remote(here) && fibril__remote_of(here)->node == node) {
        return (struct fibril__ref){
            .id = fibril__remote_of(here)->far, .window = 1, .owner = FIBRIL__YOURS};
    }
    struct fibril__export *e = fibril__export_find(node, actor);
    e = e ? e : make(node, actor);
    if (!e) {
        fibril__node_fail(node, -ENOMEM, "no memory to mention an actor");
        return nobody;
    }
    struct fibril__ref ref = terms_of(actor);
    if (e->window == 0) { /* the first time: later it is told with credit */
        e->window = e->window_max = ref.window;
    }
    ref.window = e->window;
    return ref;
}

/* ---- credit ---- */

/* One message may pass the bound of bytes: it could not be sent otherwise. */
bool fibril__export_admits(const struct fibril__export *e)
{
    return e->came < e->window_max && e->came_bytes <= e->node->window_bytes;
}

static void give_credit(struct fibril__export *e)
{
    struct fibril__node *node = e->node;
    struct fibril__ref who = terms_of(e->by_id.key);
    e->window = who.window;
    e->window_max = who.window > e->window_max ? who.window : e->window_max;
    fibril__out_control(node, &(struct fibril__frame){.type = FIBRIL__FRAME_CREDIT,
                                                      .who = who,
                                                      .messages = e->done,
                                                      .bytes = e->done_bytes});
    e->came -= e->done;
    e->came_bytes -= e->done_bytes;
    e->done = 0;
    e->done_bytes = 0;
}

static void delivered(struct fibril__export *e, uint64_t bytes)
{
    enum { QUARTER = 4 };
    e->done++;
    e->done_bytes += bytes;
    if (e->node && !e->node->over &&
        (e->done >= e->window / QUARTER || e->done_bytes >= e->node->window_bytes / QUARTER)) {
        give_credit(e);
    }
}

void fibril__export_skip(struct fibril__export *e, uint64_t bytes)
{
    e->came++;
    e->came_bytes += bytes;
    delivered(e, bytes);
}

/* ---- delivering ---- */

static struct fibril_message *take_held(struct fibril__export *e)
{
    struct fibril_message *m = e->first;
    e->first = m->next;
    if (e->node) {
        e->node->held--;
    }
    return m;
}

/* Waits for room; without memory it tries again. */
static void deliver_one(struct fibril__export *e, struct fibril_message *m)
{
    int rc;
    while ((rc = fibril__actor_send_patiently(e->by_id.key, m, m->kind, FIBRIL_FOREVER)) ==
           -ENOMEM) {
        fibril_yield();
    }
    if (rc < 0) { /* the loop ends, or the message cannot go on to another process */
        fibril__dead_letter(e->by_id.key, m);
    }
}

static int deliver_held(void *arg)
{
    struct fibril__export *e = arg;
    while (e->first) {
        struct fibril_message *m = take_held(e);
        uint64_t bytes = m->reserved;
        if (m->kind == FIBRIL__MSG_STREAM_BROKEN) {
            if (e->node) {
                fibril__remote_broken(e->node, m->from.ref, -(int)m->tag);
            }
            fibril_message_free(m);
            continue;
        }
        deliver_one(e, m);
        delivered(e, bytes);
    }
    e->delivering = false;
    if (!e->node) {
        fibril__free(e);
    }
    return 0;
}

void fibril__export_hold(struct fibril__export *e, struct fibril_message *m, uint64_t bytes)
{
    struct fibril_spawn_opts opts = {.name = "messages for a full mailbox", .daemon = true};
    m->reserved = bytes;
    m->next = NULL;
    if (e->first) {
        e->last->next = m;
    } else {
        e->first = m;
    }
    e->last = m;
    e->node->held++;
    if (e->delivering) {
        return;
    }
    e->delivering = fibril_spawn(deliver_held, e, &opts, NULL) == 0;
    if (!e->delivering) {
        fibril__node_fail(e->node, -ENOMEM, "no memory to wait for room in a mailbox");
    }
}

void fibril__export_deliver(struct fibril__export *e, struct fibril_message *m, uint64_t bytes)
{
    e->came++;
    e->came_bytes += bytes;
    if (e->delivering || fibril__actor_send_as(e->by_id.key, m, m->kind, FIBRIL__NEVER_PARK) < 0) {
        fibril__export_hold(e, m, bytes);
    } else {
        delivered(e, bytes);
    }
}

void fibril__export_end(struct fibril__export *e)
{
    fibril__map_remove(&e->node->exports, &e->by_id);
    while (!e->delivering && e->first) {
        fibril__dead_letter(e->by_id.key, take_held(e));
    }
    for (const struct fibril_message *m = e->first; m; m = m->next) {
        e->node->held--;
    }
    e->node = NULL;
    if (!e->delivering) {
        fibril__free(e);
    }
}
