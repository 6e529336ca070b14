/* SPDX-License-Identifier: MIT */
/*
 * Names and topics: one table for the process, under one spin lock. A label is a name with its one
 * actor, or a topic with its members; each of them is a membership, which is found by the number of
 * the actor too, so that one that ends leaves everything without a search.
 *
 * An actor that ends gives up its number first and then looks at `listed`; who registers one sets
 * `listed` first and then looks at its number. So one of the two sees the other, and nothing stays
 * behind.
 */
#include "actor/actor.h"

#include "base/alloc.h"
#include "base/compiler.h"
#include "base/map.h"
#include "base/spin.h"

#include <errno.h>
#include <string.h>

enum label_kind { A_NAME, A_TOPIC };

struct membership {
    struct fibril__map_node by_actor; /* first */
    struct label *of;
    size_t place; /* among the label's members */
};

struct label {
    struct fibril__map_node by_hash; /* first */
    struct membership **members;
    size_t count, room;
    uint8_t kind;
    char text[];
};

static struct fibril__spin lock = {.shared = true}; /* of all below */
static struct fibril__map labels, memberships;
static struct fibril__list signals = {{&signals.head, &signals.head}}; /* empty while it is free */

static uint64_t hash_text(enum label_kind kind, const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) + (uint64_t)kind;
    for (const char *c = text; *c; c++) {
        h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    }
    return h;
}

uint64_t fibril__topic_hash(const char *topic)
{
    return hash_text(A_TOPIC, topic);
}

/* Those who monitor it are told when the lock is free again. */
static void say_changed(const struct label *l)
{
    if (l->kind == A_TOPIC) {
        fibril__members_changed(l->by_hash.key, l->text, &signals);
    }
}

static void unlock_and_tell(void)
{
    struct fibril__list mine;
    fibril__list_init(&mine);
    for (struct fibril__link *l; (l = fibril__list_pop(&signals)) != NULL;) {
        fibril__list_push(&mine, l);
    }
    fibril__spin_unlock(&lock);
    fibril__members_tell(&mine);
}

/* ---- labels ---- */

/* An empty registry keeps nothing. */
static void give_back_if_empty(void)
{
    if (labels.count == 0) {
        fibril__map_fini(&labels);
        fibril__map_fini(&memberships);
    }
}

static struct label *find_label(enum label_kind kind, const char *text)
{
    uint64_t hash = hash_text(kind, text);
    struct label *l = (struct label *)(void *)fibril__map_find(&labels, hash);
    while (l && (l->by_hash.key != hash || l->kind != kind || strcmp(l->text, text) != 0)) {
        l = (struct label *)(void *)l->by_hash.next;
    }
    return l;
}

static struct label *make_label(enum label_kind kind, const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct label *l = fibril__map_reserve(&labels) == 0 ? fibril__alloc(sizeof *l + bytes) : NULL;
    if (l) {
        *l = (struct label){.kind = (uint8_t)kind};
        memcpy(l->text, text, bytes);
        fibril__map_insert(&labels, &l->by_hash, hash_text(kind, text));
    }
    return l;
}

static void drop_label_if_empty(struct label *l)
{
    if (l->count > 0) {
        return;
    }
    fibril__map_remove(&labels, &l->by_hash);
    fibril__free(l->members);
    fibril__free(l);
}

/* ---- memberships ---- */

static int grow_members(struct label *l)
{
    if (l->count < l->room) {
        return 0;
    }
    size_t room = l->room ? 2 * l->room : 1;
    struct membership **members = fibril__realloc(l->members, room * sizeof(struct membership *));
    if (!members) {
        return -ENOMEM;
    }
    l->members = members;
    l->room = room;
    return 0;
}

static int enter(struct label *l, uint64_t actor)
{
    struct membership *m = fibril__alloc(sizeof *m);
    if (!m || grow_members(l) < 0 || fibril__map_reserve(&memberships) < 0) {
        fibril__free(m);
        return -ENOMEM;
    }
    *m = (struct membership){.of = l, .place = l->count};
    fibril__map_insert(&memberships, &m->by_actor, actor);
    l->members[l->count++] = m;
    say_changed(l);
    return 0;
}

/* Frees the membership, and its label after the last. */
static void leave(struct membership *m)
{
    struct label *l = m->of;
    l->members[m->place] = l->members[--l->count];
    l->members[m->place]->place = m->place;
    fibril__map_remove(&memberships, &m->by_actor);
    fibril__free(m);
    say_changed(l);
    drop_label_if_empty(l);
}

/* The membership of the actor in that label, or with NULL its name. */
static struct membership *find_membership(uint64_t actor, const struct label *l)
{
    struct membership *m = (struct membership *)(void *)fibril__map_find(&memberships, actor);
    while (m && (m->by_actor.key != actor || (l ? m->of != l : m->of->kind != A_NAME))) {
        m = (struct membership *)(void *)m->by_actor.next;
    }
    return m;
}

/* ---- for the rest of the floor ---- */

void fibril__registry_forget(uint64_t actor)
{
    fibril__spin_lock(&lock);
    struct fibril__map_node *node;
    while ((node = fibril__map_find(&memberships, actor)) != NULL) {
        leave((struct membership *)(void *)node);
    }
    give_back_if_empty();
    unlock_and_tell();
    fibril__members_forget(actor);
}

void fibril__registry_name(const struct fibril__actor *a, char *text, size_t size)
{
    text[0] = '\0';
    if (!atomic_load(&a->listed)) {
        return;
    }
    fibril__spin_lock(&lock);
    struct membership *m = find_membership(a->id, NULL);
    if (m) {
        size_t n = strnlen(m->of->text, size - 1);
        memcpy(text, m->of->text, n);
        text[n] = '\0';
    }
    fibril__spin_unlock(&lock);
}

void fibril__registry_forked(struct fibril__actor *self, char *text, size_t size)
{
    text[0] = '\0';
    if (self && !lock.held) { /* by an OS thread that is no more */
        fibril__registry_name(self, text, size);
    }
    lock.held = 0;
    labels = memberships = (struct fibril__map){0};
    fibril__list_init(&signals);
    if (self) {
        atomic_store(&self->listed, 0);
    }
}

/* ---- the calls ---- */

static int check(const char *text)
{
    size_t n = strnlen(text, FIBRIL__LABEL_BYTES_MAX + 1);
    return n == 0 || n > FIBRIL__LABEL_BYTES_MAX ? -EINVAL : 0;
}

static int enter_label(enum label_kind kind, const char *text, uint64_t actor)
{
    struct label *l = find_label(kind, text);
    if (kind == A_NAME && (l || find_membership(actor, NULL))) {
        return -EEXIST;
    }
    l = l ? l : make_label(kind, text);
    if (!l) {
        return -ENOMEM;
    }
    int rc = enter(l, actor);
    drop_label_if_empty(l);
    return rc;
}

static int list_actor(enum label_kind kind, const char *text, uint64_t actor)
{
    int rc = check(text);
    struct fibril__actor *slot = fibril__actor_slot(actor);
    if (rc < 0 || !slot) {
        return rc < 0 ? rc : -ESRCH;
    }
    atomic_store(&slot->listed, 1);
    fibril__spin_lock(&lock);
    rc = atomic_load(&slot->id) == actor && actor != 0 ? enter_label(kind, text, actor) : -ESRCH;
    give_back_if_empty();
    unlock_and_tell();
    return rc;
}

int fibril_actor_register(uint64_t actor, const char *name)
{
    return list_actor(A_NAME, name, actor);
}

uint64_t fibril_actor_whereis(const char *name)
{
    fibril__spin_lock(&lock);
    struct label *found = find_label(A_NAME, name);
    uint64_t actor = found ? found->members[0]->by_actor.key : 0;
    fibril__spin_unlock(&lock);
    return actor;
}

int fibril_actor_unregister(const char *name)
{
    fibril__spin_lock(&lock);
    struct label *found = find_label(A_NAME, name);
    if (found) {
        leave(found->members[0]);
        give_back_if_empty();
    }
    fibril__spin_unlock(&lock);
    return found ? 0 : -ENOENT;
}

int fibril_topic_join(const char *topic, uint64_t actor)
{
    return list_actor(A_TOPIC, topic, actor);
}

int fibril_topic_leave(const char *topic, uint64_t actor)
{
    fibril__spin_lock(&lock);
    struct label *found = find_label(A_TOPIC, topic);
    struct membership *m = found ? find_membership(actor, found) : NULL;
    if (m) {
        leave(m);
        give_back_if_empty();
    }
    unlock_and_tell();
    return m ? 0 : -ENOENT;
}

size_t fibril_topic_members(const char *topic, uint64_t *ret_actors, size_t n)
{
    fibril__spin_lock(&lock);
    struct label *found = find_label(A_TOPIC, topic);
    size_t count = found ? found->count : 0;
    for (size_t i = 0; i < count && i < n; i++) {
        ret_actors[i] = found->members[i]->by_actor.key;
    }
    fibril__spin_unlock(&lock);
    return count;
}

/* ---- publishing ---- */

/* Who is a member now, in memory of their own: sending may park. */
static int snapshot(const char *topic, uint64_t **ret_actors, size_t *ret_n)
{
    size_t room = 0, n = fibril_topic_members(topic, NULL, 0);
    uint64_t *actors = NULL;
    while (n > room) { /* more may have joined meanwhile */
        fibril__free(actors);
        room = n;
        actors = fibril__alloc(room * sizeof *actors);
        if (!actors) {
            return -ENOMEM;
        }
        n = fibril_topic_members(topic, actors, room);
    }
    *ret_actors = actors;
    *ret_n = n;
    return 0;
}

int fibril_topic_publish(const char *topic, const struct fibril_message *m, int64_t deadline_ns)
{
    uint64_t *actors = NULL;
    size_t n = 0;
    int took = 0;
    int rc = snapshot(topic, &actors, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct fibril_message *copy;
        rc = fibril_message_copy(m, &copy);
        if (rc == 0) {
            int sent = fibril_actor_send(actors[i], copy, deadline_ns);
            took += sent == 0;
            if (sent < 0) {
                fibril_message_free(copy);
            }
        }
    }
    fibril__free(actors);
    return rc < 0 ? rc : took;
}
