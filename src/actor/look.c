/* SPDX-License-Identifier: MIT */
/*
 * Looking at actors for the observer: see look.h. Who supervises whom is not written down anywhere
 * for the observer's sake: a child is linked to its supervisor, which is an actor that runs
 * fibril__supervise, and whose argument is its tree. So actors pay nothing for being seen.
 */
#include "actor/look.h"

#include "actor/actor.h"
#include "actor/child.h"
#include "base/compiler.h"

#include <errno.h>
#include <string.h>

enum {
    BONDS_MAX = 64, /* that are looked through for a supervisor */
    NS_PER_MS = 1000000,
};

/* ---- from any OS thread ---- */

uint32_t fibril__actors_room(void)
{
    uint32_t n = 0;
    while (fibril__actor_slot(n)) {
        n += FIBRIL__ACTORS_CHUNK;
    }
    return n;
}

__attribute__((no_sanitize_thread)) bool fibril__actor_figures(uint32_t place,
                                                               struct fibril__figures *ret)
{
    const struct fibril__actor *a = fibril__actor_slot(place);
    uint64_t id = a ? atomic_load_explicit(&a->id, memory_order_acquire) : 0;
    if (!id || fibril__is_remote(a)) { /* those of other processes are for them to tell */
        return false;
    }
    *ret = (struct fibril__figures){
        .actor = id,
        .fibril = __atomic_load_n(&a->fibril, __ATOMIC_RELAXED),
        .received = __atomic_load_n(&a->received, __ATOMIC_RELAXED),
        .bytes = atomic_load_explicit(&a->bytes, memory_order_relaxed),
        .waiting = atomic_load_explicit(&a->len, memory_order_relaxed),
        .loop = __atomic_load_n(&a->number, __ATOMIC_RELAXED),
        .supervises = __atomic_load_n(&a->fn, __ATOMIC_RELAXED) == fibril__supervise,
    };
    return true;
}

void fibril__mail_date(int64_t now_ns)
{
    uint32_t ms = (uint32_t)(now_ns / NS_PER_MS);
    __atomic_store_n(&fibril__mail_clock, now_ns && !ms ? 1 : ms, __ATOMIC_RELAXED);
}

void fibril__mail_redate(int64_t now_ns)
{
    if (__atomic_load_n(&fibril__mail_clock, __ATOMIC_RELAXED)) {
        fibril__mail_date(now_ns);
    }
}

/* ---- on its loop ---- */

/* A message that came while nobody observed has no date; one that came later is younger. */
static int64_t oldest(const struct fibril__actor *a)
{
    const struct fibril_message *m = a->first;
    uint32_t now_ms = (uint32_t)(fibril_now() / NS_PER_MS); /* which may have wrapped since */
    return m && m->since_ms ? (int64_t)(now_ms - m->since_ms) * NS_PER_MS : 0;
}

int64_t fibril__actor_oldest(uint64_t actor)
{
    const struct fibril__actor *a = fibril__actor_here(actor);
    int64_t ns = a ? oldest(a) : 0;
    return ns > 0 ? ns : 0;
}

__attribute__((no_sanitize_thread)) static bool supervises(const struct fibril__actor *a)
{
    return a && __atomic_load_n(&a->fn, __ATOMIC_RELAXED) == fibril__supervise;
}

/* The supervisor that has started a: it asked for the link. */
static uint64_t supervisor_of(const struct fibril__actor *a)
{
    struct fibril__link *l = a->bonds.head.next;
    for (unsigned i = 0; l != &a->bonds.head && i < BONDS_MAX; l = l->next, i++) {
        const struct fibril__half *h = CONTAINER_OF(l, struct fibril__half, link);
        const struct fibril__bond *b = (const void *)(h - h->side);
        unsigned number;
        if (b->kind == FIBRIL__LINK && h->side == 1 &&
            supervises(fibril__actor_find(b->id[0], &number))) {
            return b->id[0];
        }
    }
    return 0;
}

static const struct fibril__child *child_of(uint64_t supervisor, uint64_t actor)
{
    const struct fibril__actor *a = supervisor ? fibril__actor_here(supervisor) : NULL;
    const struct fibril__tree *tree = a ? a->arg : NULL;
    struct fibril__map_node *node = tree ? fibril__map_find(&tree->running, actor) : NULL;
    return node ? CONTAINER_OF(node, struct fibril__child, by_actor) : NULL;
}

static void take_text(const char *from, char *text, size_t size)
{
    size_t n = strnlen(from, size - 1);
    memcpy(text, from, n);
    text[n] = '\0';
}

bool fibril__actor_look(struct fibril_observed_actor *row, const struct fibril **ret_fibril)
{
    const struct fibril__actor *a = fibril__actor_here(row->actor);
    if (!a || (!a->fibril && (a->flags & FIBRIL__A_ATTACHED))) {
        return false;
    }
    row->supervisor = supervisor_of(a);
    const struct fibril__child *c = child_of(row->supervisor, row->actor);
    fibril__registry_name(a, row->name, sizeof row->name);
    if (c) {
        row->restarts = c->restarts;
        if (!*row->name && c->spec.id) {
            take_text(c->spec.id, row->name, sizeof row->name);
        }
    }
    row->supervises = supervises(a);
    row->children = row->supervises ? ((struct fibril__tree *)a->arg)->running.count : 0;
    row->waiting = atomic_load_explicit(&a->len, memory_order_relaxed);
    row->waiting_bytes = atomic_load_explicit(&a->bytes, memory_order_relaxed);
    row->received = a->received;
    row->oldest_ns = fibril__actor_oldest(row->actor);
    row->memory = sizeof *a + row->waiting_bytes + row->waiting * sizeof(struct fibril_message);
    row->traps_exits = a->flags & FIBRIL__A_TRAPS;
    row->exiting = a->flags & FIBRIL__A_EXITING;
    *ret_fibril = a->fibril;
    return true;
}

/* What it runs, for the name of the code; of a fibril that became an actor, where it did so. */
const void *fibril__actor_code(uint64_t actor)
{
    const struct fibril__actor *a = fibril__actor_here(actor);
    return !a ? NULL : a->flags & FIBRIL__A_ATTACHED ? a->site : (const void *)(uintptr_t)a->fn;
}

bool fibril__actor_called(uint64_t actor, char *text, size_t size)
{
    const struct fibril__actor *a = fibril__actor_here(actor);
    if (!a || !(a->flags & FIBRIL__A_PASSIVE) || !fibril__passive_name) {
        return false;
    }
    fibril__passive_name(a, text, size);
    return true;
}

bool fibril__actor_idle(uint64_t actor)
{
    const struct fibril__actor *a = fibril__actor_here(actor);
    return a && (a->flags & FIBRIL__A_IDLE);
}

int fibril__actor_children(uint64_t supervisor, size_t skip, struct fibril_observed_child *ret_rows,
                           size_t n, size_t *ret_total)
{
    const struct fibril__actor *a = fibril__actor_here(supervisor);
    if (!supervises(a)) {
        return -ESRCH;
    }
    const struct fibril__tree *tree = a->arg;
    size_t at = 0, rows = 0;
    for (struct fibril__link *l = tree->children.head.next; l != &tree->children.head;
         l = l->next, at++) {
        const struct fibril__child *c = CONTAINER_OF(l, struct fibril__child, link);
        if (at < skip || rows == n) {
            continue;
        }
        struct fibril_observed_child *row = &ret_rows[rows++];
        *row = (struct fibril_observed_child){
            .actor = c->actor, .restarts = c->restarts, .supervises = c->tree != NULL};
        if (c->spec.id) {
            take_text(c->spec.id, row->id, sizeof row->id);
        }
    }
    *ret_total = at;
    return (int)rows;
}
