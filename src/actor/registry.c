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
#include "base/spin.h"

#include <errno.h>
#include <string.h>

enum { LABEL_BYTES_MAX = 255, BUCKETS_MIN = 64 };

enum label_kind { A_NAME, A_TOPIC };

struct membership {
    struct membership *next; /* in the bucket of its actor */
    struct label *of;
    uint64_t actor;
    size_t place; /* among the label's members */
};

struct label {
    struct label *next;
    struct membership **members;
    size_t count, room;
    uint32_t hash;
    uint8_t kind;
    char text[];
};

static struct fibril__spin lock = {.shared = true}; /* of all below */
static struct label **labels;
static struct membership **memberships;
static size_t buckets, label_count, membership_count;

static uint32_t hash_text(enum label_kind kind, const char *text)
{
    uint32_t h = 2166136261u + (uint32_t)kind;
    for (const char *c = text; *c; c++) {
        h = (h ^ (unsigned char)*c) * 16777619u;
    }
    return h ^ h >> 15;
}

static size_t bucket_of(uint64_t actor)
{
    return (size_t)((actor * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (buckets - 1);
}

/* ---- growing ---- */

static void rehash(struct label **new_labels, struct membership **new_memberships, size_t n)
{
    size_t old = buckets;
    buckets = n;
    for (size_t i = 0; i < old; i++) {
        for (struct label *l = labels[i], *next; l; l = next) {
            next = l->next;
            l->next = new_labels[l->hash & (n - 1)];
            new_labels[l->hash & (n - 1)] = l;
        }
        for (struct membership *m = memberships[i], *next; m; m = next) {
            next = m->next;
            m->next = new_memberships[bucket_of(m->actor)];
            new_memberships[bucket_of(m->actor)] = m;
        }
    }
    fibril__free(labels);
    fibril__free(memberships);
    labels = new_labels;
    memberships = new_memberships;
}

static int make_room(void)
{
    if (buckets > label_count && buckets > membership_count) {
        return 0;
    }
    size_t n = buckets ? 2 * buckets : BUCKETS_MIN;
    struct label **new_labels = fibril__alloc_zero(n * sizeof(struct label *));
    struct membership **new_memberships = fibril__alloc_zero(n * sizeof(struct membership *));
    if (!new_labels || !new_memberships) {
        fibril__free(new_labels);
        fibril__free(new_memberships);
        return buckets ? 0 : -ENOMEM; /* longer chains do no harm */
    }
    rehash(new_labels, new_memberships, n);
    return 0;
}

/* An empty registry keeps nothing. */
static void give_back_if_empty(void)
{
    if (label_count == 0) {
        fibril__free(labels);
        fibril__free(memberships);
        labels = NULL;
        memberships = NULL;
        buckets = 0;
    }
}

/* ---- labels ---- */

static struct label **find_label(enum label_kind kind, const char *text)
{
    uint32_t hash = hash_text(kind, text);
    struct label **at = buckets ? &labels[hash & (buckets - 1)] : NULL;
    while (at && *at) {
        if ((*at)->hash == hash && (*at)->kind == kind && strcmp((*at)->text, text) == 0) {
            return at;
        }
        at = &(*at)->next;
    }
    return NULL;
}

static struct label *make_label(enum label_kind kind, const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct label *l = fibril__alloc(sizeof *l + bytes);
    if (l) {
        uint32_t hash = hash_text(kind, text);
        struct label **bucket = &labels[hash & (buckets - 1)];
        *l = (struct label){.next = *bucket, .hash = hash, .kind = (uint8_t)kind};
        memcpy(l->text, text, bytes);
        *bucket = l;
        label_count++;
    }
    return l;
}

static void drop_label_if_empty(struct label *l)
{
    if (l->count > 0) {
        return;
    }
    struct label **at = find_label((enum label_kind)l->kind, l->text);
    *at = l->next;
    label_count--;
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
    if (!m || grow_members(l) < 0) {
        fibril__free(m);
        return -ENOMEM;
    }
    struct membership **bucket = &memberships[bucket_of(actor)];
    *m = (struct membership){.next = *bucket, .of = l, .actor = actor, .place = l->count};
    *bucket = m;
    l->members[l->count++] = m;
    membership_count++;
    return 0;
}

/* Frees the membership that *at points to, and its label after the last. */
static void leave(struct membership **at)
{
    struct membership *m = *at;
    struct label *l = m->of;
    *at = m->next;
    l->members[m->place] = l->members[--l->count];
    l->members[m->place]->place = m->place;
    membership_count--;
    fibril__free(m);
    drop_label_if_empty(l);
}

/* The membership of the actor in that label, or with NULL its name. */
static struct membership **find_membership(uint64_t actor, const struct label *l)
{
    struct membership **at = buckets ? &memberships[bucket_of(actor)] : NULL;
    while (at && *at) {
        struct membership *m = *at;
        if (m->actor == actor && (l ? m->of == l : m->of->kind == A_NAME)) {
            return at;
        }
        at = &m->next;
    }
    return NULL;
}

/* ---- for the rest of the floor ---- */

void fibril__registry_forget(uint64_t actor)
{
    fibril__spin_lock(&lock);
    struct membership **at = buckets ? &memberships[bucket_of(actor)] : NULL;
    while (at && *at) {
        if ((*at)->actor == actor) {
            leave(at);
        } else {
            at = &(*at)->next;
        }
    }
    give_back_if_empty();
    fibril__spin_unlock(&lock);
}

void fibril__registry_name(const struct fibril__actor *a, char *text, size_t size)
{
    text[0] = '\0';
    if (!atomic_load(&a->listed)) {
        return;
    }
    fibril__spin_lock(&lock);
    struct membership **at = find_membership(a->id, NULL);
    if (at) {
        size_t n = strnlen((*at)->of->text, size - 1);
        memcpy(text, (*at)->of->text, n);
        text[n] = '\0';
    }
    fibril__spin_unlock(&lock);
}

/* ---- the calls ---- */

static int check(const char *text)
{
    size_t n = strnlen(text, LABEL_BYTES_MAX + 1);
    return n == 0 || n > LABEL_BYTES_MAX ? -EINVAL : 0;
}

static int enter_label(enum label_kind kind, const char *text, uint64_t actor)
{
    struct label **found = find_label(kind, text);
    if (kind == A_NAME && (found || find_membership(actor, NULL))) {
        return -EEXIST;
    }
    int rc = make_room();
    found = find_label(kind, text);
    struct label *l = rc < 0 ? NULL : found ? *found : make_label(kind, text);
    if (!l) {
        return -ENOMEM;
    }
    rc = enter(l, actor);
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
    fibril__spin_unlock(&lock);
    return rc;
}

int fibril_actor_register(uint64_t actor, const char *name)
{
    return list_actor(A_NAME, name, actor);
}

uint64_t fibril_actor_whereis(const char *name)
{
    fibril__spin_lock(&lock);
    struct label **found = find_label(A_NAME, name);
    uint64_t actor = found ? (*found)->members[0]->actor : 0;
    fibril__spin_unlock(&lock);
    return actor;
}

int fibril_actor_unregister(const char *name)
{
    fibril__spin_lock(&lock);
    struct label **found = find_label(A_NAME, name);
    if (found) {
        leave(find_membership((*found)->members[0]->actor, *found));
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
    struct label **found = find_label(A_TOPIC, topic);
    struct membership **at = found ? find_membership(actor, *found) : NULL;
    if (at) {
        leave(at);
        give_back_if_empty();
    }
    fibril__spin_unlock(&lock);
    return at ? 0 : -ENOENT;
}

size_t fibril_topic_members(const char *topic, uint64_t *ret_actors, size_t n)
{
    fibril__spin_lock(&lock);
    struct label **found = find_label(A_TOPIC, topic);
    size_t count = found ? (*found)->count : 0;
    for (size_t i = 0; i < count && i < n; i++) {
        ret_actors[i] = (*found)->members[i]->actor;
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
