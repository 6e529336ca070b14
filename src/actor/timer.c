/* SPDX-License-Identifier: MIT */
/*
 * The keeper of a loop's actors: a daemon that sends messages when their time has come, and frees
 * spare ones that are needed no more. It ends
 * when its loop does, and what the loop keeps of this floor goes with it. A fibril costs a switch
 * for each batch of timers; in return timers need nothing of the scheduler but a wait with a
 * deadline.
 */
#include "actor/actor.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/compiler.h"
#include "base/heap.h"
#include "base/map.h"

#include <errno.h>

struct timer {
    struct fibril__heap_node node; /* first */
    struct fibril__map_node by_id;
    uint64_t actor;
    struct fibril_message *message;
    int64_t deadline_ns, interval_ns;
};

struct fibril__keeper {
    struct fibril_spot spot;
    struct fibril__heap heap;
    struct fibril__map timers; /* by id */
};

/* Takes t out of everything and frees it, without its message. */
static void drop(struct fibril__keeper *k, struct timer *t)
{
    fibril__map_remove(&k->timers, &t->by_id);
    fibril__heap_remove(&k->heap, &t->node);
    fibril__free(t);
}

/* ---- sending ---- */

static void send(uint64_t actor, struct fibril_message *m)
{
    if (fibril__actor_send_as(actor, m, FIBRIL_MESSAGE_PLAIN, FIBRIL__NEVER_PARK) < 0) {
        fibril__message_dropped(actor, m);
    }
}

/* When the interval comes next, after now. */
static int64_t next_time(const struct timer *t, int64_t now_ns)
{
    int64_t late_ns = now_ns - t->deadline_ns;
    return t->deadline_ns + t->interval_ns * (1 + late_ns / t->interval_ns);
}

static void fire(struct fibril__keeper *k, struct timer *t, int64_t now_ns)
{
    uint64_t actor = t->actor;
    struct fibril_message *m = t->message;
    if (t->interval_ns == 0) {
        drop(k, t);
        send(actor, m);
        return;
    }
    if (!fibril_actor_alive(actor)) {
        drop(k, t);
        fibril_message_free(m);
        return;
    }
    t->deadline_ns = next_time(t, now_ns);
    fibril__heap_insert(&k->heap, &t->node, t->deadline_ns); /* where it just was */
    struct fibril_message *copy;
    if (fibril_message_copy(m, &copy) == 0) {
        send(actor, copy);
    } else {
        FIBRIL__TALLY(dropped);
    }
}

static void fire_due(struct fibril__keeper *k, int64_t now_ns)
{
    while (fibril__heap_min(&k->heap) <= now_ns) {
        fire(k, CONTAINER_OF(fibril__heap_pop(&k->heap), struct timer, node), now_ns);
    }
}

/* ---- the keeper ---- */

static int keep(void *arg)
{
    struct fibril__actors *part = arg;
    struct fibril__keeper *k = part->keeper;
    int rc = 0;
    while (rc != -ECANCELED) {
        int64_t now_ns = fibril_now();
        fire_due(k, now_ns);
        if (part->trim_ns <= now_ns) {
            fibril__spares_trim(part, now_ns);
        }
        int64_t first_ns = fibril__heap_min(&k->heap);
        rc = fibril_spot_wait(&k->spot, first_ns < part->trim_ns ? first_ns : part->trim_ns);
        if (rc == -ENOMEM) { /* for the deadline */
            fibril_yield();
        }
    }
    while (k->heap.len > 0) {
        struct timer *t = CONTAINER_OF(fibril__heap_pop(&k->heap), struct timer, node);
        fibril_message_free(t->message);
        fibril__free(t);
    }
    fibril__heap_fini(&k->heap);
    fibril__map_fini(&k->timers);
    fibril__actors_close(part);
    fibril__free(k);
    return 0;
}

int fibril__keeper_start(struct fibril__actors *part)
{
    static const struct fibril_waker_info info = {.name = "actors' timers", .inside = true};
    struct fibril_spawn_opts opts = {.name = "actors", .daemon = true};
    struct fibril__keeper *k = fibril__alloc_zero(sizeof *k);
    if (!k) {
        return -ENOMEM;
    }
    k->spot.info = &info;
    part->keeper = k;
    part->trim_ns = FIBRIL_FOREVER;
    int rc = fibril_spawn(keep, part, &opts, NULL);
    if (rc < 0) {
        part->keeper = NULL;
        fibril__free(k);
    }
    return rc;
}

void fibril__keeper_hurry(struct fibril__actors *part)
{
    fibril_spot_wake(&part->keeper->spot);
}

/* ---- the calls ---- */

static int arm(struct fibril__keeper *k, struct timer *t, uint64_t id)
{
    int rc = fibril__map_reserve(&k->timers);
    rc = rc == 0 ? fibril__heap_reserve(&k->heap) : rc;
    if (rc < 0) {
        return rc;
    }
    bool first = t->deadline_ns < fibril__heap_min(&k->heap);
    fibril__map_insert(&k->timers, &t->by_id, id);
    t->node.index = FIBRIL__HEAP_OUT;
    fibril__heap_insert(&k->heap, &t->node, t->deadline_ns);
    if (first) {
        fibril_spot_wake(&k->spot);
    }
    return 0;
}

int fibril_actor_send_at(uint64_t actor, struct fibril_message *m, int64_t deadline_ns,
                         int64_t interval_ns, uint64_t *ret_timer)
{
    struct fibril__actors *part;
    int rc = fibril__actors_open(&part);
    if (rc == 0 && interval_ns < 0) {
        rc = -EINVAL;
    }
    if (rc == 0 && interval_ns > 0 && m->type && m->type->destroy && !m->type->copy) {
        rc = -ENOTSUP;
    }
    struct timer *t = rc == 0 ? fibril__alloc(sizeof *t) : NULL;
    if (!t) {
        return rc < 0 ? rc : -ENOMEM;
    }
    *t = (struct timer){
        .actor = actor, .message = m, .deadline_ns = deadline_ns, .interval_ns = interval_ns};
    uint64_t id = fibril__ref_new();
    rc = arm(part->keeper, t, id);
    if (rc < 0) {
        fibril__free(t);
        return rc;
    }
    if (ret_timer) {
        *ret_timer = id;
    }
    return 0;
}

int fibril_actor_cancel_timer(uint64_t timer)
{
    struct fibril__actors *part = fibril__actors_here();
    struct fibril__keeper *k = part ? part->keeper : NULL;
    struct fibril__map_node *node = k ? fibril__map_find(&k->timers, timer) : NULL;
    if (!node) {
        return -ENOENT;
    }
    struct timer *t = CONTAINER_OF(node, struct timer, by_id);
    fibril_message_free(t->message);
    drop(k, t);
    return 0;
}
