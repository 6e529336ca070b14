/* SPDX-License-Identifier: MIT */
/*
 * Monitors of topics: who wants to know when the members of one change. What comes is a signal that
 * there is something to look at, and not who came or went: so each monitor has one signal at most
 * on its way, in memory that was paid for when it was armed, and a flood of changes can neither
 * fill a mailbox nor get lost. Looking arms it again, and then reads: what changes after that is
 * said again.
 *
 * One table for the process, under a lock that is taken inside that of the registry.
 */
#include "actor/actor.h"

#include "base/alloc.h"
#include "base/map.h"
#include "base/spin.h"

#include <errno.h>
#include <string.h>

struct monitor {
    struct fibril__map_node by_topic; /* first; a hash of the text */
    struct fibril__map_node by_actor;
    uint64_t ref;
    uint8_t number;              /* of the actor's loop */
    struct fibril__bond *signal; /* NULL: it is on its way, or waits to be looked at */
    char text[];
};

static struct fibril__spin lock = {.shared = true}; /* of both */
static struct fibril__map by_topic, by_actor;

void fibril__members_forked(void)
{
    lock.held = 0;
    by_topic = by_actor = (struct fibril__map){0};
}

static struct monitor *next_of(struct fibril__map_node *node, uint64_t actor, uint64_t ref)
{
    struct monitor *m = NULL;
    for (; node; node = node->next) {
        m = CONTAINER_OF(node, struct monitor, by_actor);
        if (node->key == actor && (!ref || m->ref == ref)) {
            return m;
        }
    }
    return NULL;
}

/* The monitor with this ref, or with 0 any, of the actor. */
static struct monitor *find(uint64_t actor, uint64_t ref)
{
    return next_of(fibril__map_find(&by_actor, actor), actor, ref);
}

static void drop(struct monitor *m)
{
    fibril__map_remove(&by_topic, &m->by_topic);
    fibril__map_remove(&by_actor, &m->by_actor);
    if (by_topic.count == 0) {
        fibril__map_fini(&by_topic);
        fibril__map_fini(&by_actor);
    }
    fibril__bond_free(m->signal);
    fibril__free(m);
}

/* ---- saying that there was a change ---- */

/* Signals travel in the first half of a bond. */
static struct fibril__bond *bond_of(struct fibril__half *h)
{
    return CONTAINER_OF((struct fibril__half(*)[2])(void *)h, struct fibril__bond, half);
}

/* On the loop of the actor. */
static void arrive(struct fibril_post *p)
{
    struct fibril__bond *b = bond_of(CONTAINER_OF(p, struct fibril__half, post));
    struct fibril__actor *a = fibril__actor_here(b->id[1]);
    fibril__spin_lock(&lock);
    bool wanted = a && find(b->id[1], b->ref);
    fibril__spin_unlock(&lock);
    if (wanted) {
        fibril__signal_put(a, b, FIBRIL_TAG_MEMBERS, 0, b->ref, 0);
    } else {
        fibril__bond_free(b);
    }
}

/* Takes out the signal of m, which is then to be sent. */
static void collect(struct monitor *m, struct fibril__list *signals)
{
    struct fibril__bond *b = m->signal;
    if (b) {
        m->signal = NULL;
        b->id[1] = m->by_actor.key;
        b->number[1] = m->number;
        b->ref = m->ref;
        fibril__list_push(signals, &b->half[0].link);
    }
}

void fibril__members_changed(uint64_t hash, const char *topic, struct fibril__list *signals)
{
    fibril__spin_lock(&lock);
    struct fibril__map_node *node = fibril__map_find(&by_topic, hash);
    for (; node; node = node->next) {
        struct monitor *m = (struct monitor *)(void *)node;
        if (node->key == hash && strcmp(m->text, topic) == 0) {
            collect(m, signals);
        }
    }
    fibril__spin_unlock(&lock);
}

void fibril__members_tell(struct fibril__list *signals)
{
    for (struct fibril__link *l; (l = fibril__list_pop(signals)) != NULL;) {
        struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        struct fibril__bond *b = bond_of(h);
        h->post.fn = arrive;
        if (!fibril_embed_post_to(b->number[1], &h->post)) {
            fibril__bond_free(b);
        }
    }
}

void fibril__members_forget(uint64_t actor)
{
    struct monitor *m;
    fibril__spin_lock(&lock);
    while ((m = find(actor, 0)) != NULL) {
        drop(m);
    }
    fibril__spin_unlock(&lock);
}

/* ---- the calls ---- */

static int insert(struct monitor *m, const char *topic, const struct fibril__actor *a)
{
    fibril__spin_lock(&lock);
    int rc = fibril__map_reserve(&by_topic);
    rc = rc == 0 ? fibril__map_reserve(&by_actor) : rc;
    if (rc == 0) {
        fibril__map_insert(&by_topic, &m->by_topic, fibril__topic_hash(topic));
        fibril__map_insert(&by_actor, &m->by_actor, a->id);
    } else if (by_topic.count == 0) {
        fibril__map_fini(&by_topic);
    }
    fibril__spin_unlock(&lock);
    return rc;
}

int fibril_topic_monitor(const char *topic, uint64_t *ret_ref)
{
    struct fibril__actor *a = fibril__actor_attach();
    size_t bytes = strnlen(topic, FIBRIL__LABEL_BYTES_MAX + 1) + 1;
    if (!a || bytes == 1 || bytes > FIBRIL__LABEL_BYTES_MAX + 1) {
        return a ? -EINVAL : fibril_current() ? -ENOMEM : -EPERM;
    }
    struct monitor *m = fibril__alloc_zero(sizeof *m + bytes);
    int rc = m ? fibril__bond_new(FIBRIL__MONITOR, &m->signal) : -ENOMEM;
    if (rc == 0) {
        m->ref = fibril__ref_new();
        m->number = a->number;
        memcpy(m->text, topic, bytes);
        atomic_store(&a->listed, 1);
        rc = insert(m, topic, a);
    }
    if (rc < 0) {
        fibril__bond_free(m ? m->signal : NULL);
        fibril__free(m);
        return rc;
    }
    *ret_ref = m->ref;
    return 0;
}

int fibril_topic_look(uint64_t ref, uint64_t *ret_actors, size_t n, size_t *ret_n)
{
    struct fibril__actor *a = fibril__actor_self();
    struct fibril__bond *spare = NULL;
    char topic[FIBRIL__LABEL_BYTES_MAX + 1];
    int rc = a ? fibril__bond_new(FIBRIL__MONITOR, &spare) : -ENOENT;
    if (rc < 0) {
        return rc;
    }
    fibril__spin_lock(&lock);
    struct monitor *m = ref ? find(a->id, ref) : NULL;
    if (m) {
        memcpy(topic, m->text, strlen(m->text) + 1);
    }
    if (m && !m->signal) {
        m->signal = spare;
        spare = NULL;
    }
    fibril__spin_unlock(&lock);
    fibril__bond_free(spare);
    if (!m) {
        return -ENOENT;
    }
    *ret_n = fibril_topic_members(topic, ret_actors, n);
    return 0;
}

int fibril_topic_demonitor(uint64_t ref)
{
    struct fibril__actor *a = fibril__actor_self();
    fibril__spin_lock(&lock);
    struct monitor *m = a && ref ? find(a->id, ref) : NULL;
    if (m) {
        drop(m);
    }
    fibril__spin_unlock(&lock);
    if (m) {
        fibril__mailbox_take_back(a, ref);
    }
    return m ? 0 : -ENOENT;
}
