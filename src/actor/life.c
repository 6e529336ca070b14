/* SPDX-License-Identifier: MIT */
/*
 * The life of an actor: spawn here or on another loop, run, end. Its fibril is a daemon, for an
 * idle actor must not keep a program from ending. An actor dies when its function has returned, not
 * when it was told to: whoever is told of its end finds its resources released, and can start
 * another in its place.
 */
#include "actor/actor.h"
#include "actor/child.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/compiler.h"

#include <errno.h>
#include <string.h>

static const char owner; /* of the nodes that tell a fibril's actor */

struct fibril__actor *fibril__actor_self(void)
{
    struct fibril *f = fibril_current();
    struct fibril_embed_node *n = LIKELY(f) ? fibril_embed_find(f, &owner) : NULL;
    return LIKELY(n) ? CONTAINER_OF(n, struct fibril__actor, node) : NULL;
}

struct fibril__actor_extra *fibril__actor_extra(struct fibril__actor *a)
{
    if (!a->extra) {
        struct fibril__actor_extra *extra = fibril__alloc_zero(sizeof *extra);
        if (extra) {
            fibril__list_init(&extra->parked);
            fibril__list_init(&extra->streams);
        }
        a->extra = extra;
    }
    return a->extra;
}

void fibril__actor_extra_free(struct fibril__actor *a)
{
    if (a->extra) {
        fibril__free(a->extra->failure);
        fibril__free(a->extra);
        a->extra = NULL;
    }
}

/* ---- the end ---- */

static int reason_of(const struct fibril__actor *a, int result)
{
    if (a->flags & FIBRIL__A_EXITING) {
        return a->reason;
    }
    return result == -ECANCELED && fibril_cancelled() ? FIBRIL_EXIT_SHUTDOWN : result;
}

static void end_calls_to(struct fibril__actor *a)
{
    for (struct fibril__link *l; (l = fibril__list_pop(&a->callers)) != NULL;) {
        struct fibril__actor *caller = CONTAINER_OF(l, struct fibril__actor, calling);
        if (!caller->call_result) { /* it may just have been refused */
            caller->call_result = -EPIPE;
            fibril_spot_wake(&caller->spot);
        }
    }
}

static void end_bonds(struct fibril__actor *a, int reason)
{
    for (struct fibril__link *l; (l = fibril__list_first(&a->bonds)) != NULL;) {
        fibril__bond_end(CONTAINER_OF(l, struct fibril__half, link), FIBRIL__NEWS_DIED, reason);
    }
}

void fibril__actor_die(struct fibril__actor *a, int result)
{
    int reason = reason_of(a, result);
    if (UNLIKELY(reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN) &&
        !fibril__is_remote(a)) {
        fibril__log_crash(a, reason);
    }
    uint64_t id = a->id;
    atomic_store(&a->id, 0); /* before it is asked whether the registry knows it, see there */
    if (UNLIKELY(atomic_load(&a->listed))) {
        fibril__registry_forget(id);
    }
    if (UNLIKELY(a->extra)) {
        fibril__senders_release(a);
        fibril__streams_release(a);
    }
    if (a->first || a->urgent) {
        fibril__mailbox_empty(a);
    }
    end_calls_to(a);
    end_bonds(a, reason);
    fibril_message_free(a->reply);
    if (UNLIKELY(a->extra)) {
        fibril__actor_extra_free(a);
    }
    if (UNLIKELY(a->flags & FIBRIL__A_TREE)) {
        fibril__tree_free(a->arg);
    }
    if (a->fibril) {
        fibril_embed_remove(a->fibril, &a->node);
    }
    fibril__actor_give(a);
}

/* ---- beginning ---- */

void fibril__actor_move_in(struct fibril__actor *a, struct fibril *f)
{
    a->fibril = f;
    a->node.owner = &owner;
    fibril_embed_add(f, &a->node);
}

static int run(void *arg)
{
    struct fibril__actor *a = arg;
    fibril_detach(a->fibril);
    int result = 0;
    if (LIKELY(!(a->flags & FIBRIL__A_EXITING))) {
        a->flags &= (uint8_t)~FIBRIL__A_TREE;
        result = a->fn(a->arg);
    }
    fibril__actor_die(a, result);
    return result;
}

static int start_fibril(struct fibril__actor *a, const struct fibril_actor_opts *opts)
{
    if (a->flags & FIBRIL__A_PASSIVE) {
        fibril__passive_ready(a);
        return 0;
    }
    struct fibril_spawn_opts spawn = {
        .stack = opts->stack, .stack_bytes = opts->stack_bytes, .daemon = true};
    struct fibril *f;
    int rc = fibril_spawn(run, a, &spawn, &f);
    if (rc == 0) {
        fibril__actor_move_in(a, f);
    }
    return rc;
}

static void attached_ends(void *arg)
{
    fibril__actor_die(arg, 0);
}

static NOINLINE struct fibril__actor *attach(const void *site)
{
    struct fibril__actors *part;
    struct fibril *f = fibril_current();
    struct fibril__actor *a = f && fibril__actors_open(&part) == 0
                                  ? fibril__actor_take(fibril_embed_number(fibril_loop_current()))
                                  : NULL;
    if (!a) {
        return NULL;
    }
    a->fn = NULL;
    a->arg = NULL;
    a->site = site;
    a->flags = FIBRIL__A_ATTACHED;
    fibril__mailbox_bound(a, &(struct fibril_mailbox){0});
    if (fibril_at_exit(attached_ends, a) != 0) {
        atomic_store(&a->id, 0);
        fibril__actor_give(a);
        return NULL;
    }
    fibril__actor_move_in(a, f);
    return a;
}

struct fibril__actor *fibril__actor_attach(void)
{
    struct fibril__actor *a = fibril__actor_self();
    return LIKELY(a) ? a : attach(__builtin_return_address(0));
}

uint64_t fibril_actor_self(void)
{
    struct fibril__actor *a = fibril__actor_attach();
    return a ? atomic_load_explicit(&a->id, memory_order_relaxed) : 0;
}

/* ---- spawning ---- */

enum { BY_LINK, BY_MONITOR, BONDS };

/* A spawn on its way to another loop. */
struct start {
    struct fibril_post post;
    struct fibril__actor *actor;
    struct fibril__bond *bonds[BONDS];
    enum fibril_stack stack;
    size_t stack_bytes;
};

static bool is_listed(const struct fibril_loop *loop)
{
    struct fibril_loop *other;
    for (unsigned i = 0; (other = fibril_loop_at(i)) != NULL; i++) {
        if (other == loop) {
            return true;
        }
    }
    return false;
}

/* On the loop where it is to live. One that has ended its fibrils already starts no more. */
static void start_arrives(struct fibril_post *p)
{
    struct start *s = CONTAINER_OF(p, struct start, post);
    struct fibril__actor *a = s->actor;
    struct fibril__actors *part;
    struct fibril_actor_opts opts = {.stack = s->stack, .stack_bytes = s->stack_bytes};
    for (unsigned i = 0; i < BONDS; i++) {
        if (s->bonds[i]) {
            fibril__bond_take(s->bonds[i], a);
        }
    }
    fibril__free(s);
    int rc = is_listed(fibril_loop_current()) ? fibril__actors_open(&part) : FIBRIL_EXIT_SHUTDOWN;
    rc = rc == 0 ? start_fibril(a, &opts) : rc;
    if (rc < 0) {
        fibril__actor_die(a, rc);
    }
}

static void free_bonds(struct fibril__bond **bonds)
{
    for (unsigned i = 0; i < BONDS; i++) {
        fibril__bond_free(bonds[i]);
    }
}

static int make_bonds(const struct fibril_actor_opts *opts, struct fibril__actor *parent,
                      struct fibril__bond **bonds)
{
    int rc = 0;
    if (opts->link) {
        rc = fibril__bond_new(FIBRIL__LINK, &bonds[BY_LINK]);
    }
    if (rc == 0 && opts->ret_monitor) {
        rc = fibril__bond_new(FIBRIL__MONITOR, &bonds[BY_MONITOR]);
    }
    if (rc == 0 && (opts->link || opts->ret_monitor) && !parent) {
        rc = fibril_current() ? -ENOMEM : -EPERM;
    }
    if (rc < 0) {
        free_bonds(bonds);
    }
    return rc;
}

static void tie_bonds(const struct fibril_actor_opts *opts, struct fibril__actor *parent,
                      struct fibril__actor *child, struct fibril__bond **bonds, bool here)
{
    if (bonds[BY_MONITOR]) {
        *opts->ret_monitor = bonds[BY_MONITOR]->ref = fibril__ref_new();
    }
    for (unsigned i = 0; i < BONDS; i++) {
        if (bonds[i]) {
            fibril__bond_tie_new(bonds[i], parent, child);
            if (here) {
                fibril__bond_take(bonds[i], child);
            }
        }
    }
}

static int start_away(struct fibril__actor *a, const struct fibril_actor_opts *opts,
                      struct fibril_loop *loop, struct fibril__actor *parent,
                      struct fibril__bond **bonds)
{
    struct start *s = fibril__alloc(sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    *s = (struct start){.post.fn = start_arrives,
                        .actor = a,
                        .stack = opts->stack,
                        .stack_bytes = opts->stack_bytes};
    memcpy(s->bonds, bonds, sizeof s->bonds);
    tie_bonds(opts, parent, a, bonds, /* here= */ false);
    fibril_embed_post(loop, &s->post);
    return 0;
}

static struct fibril_loop *least_loaded(void)
{
    struct fibril_loop *best = NULL, *loop;
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; (loop = fibril_loop_at(i)) != NULL; i++) {
        struct fibril__actors *part = fibril__actors_of(fibril_embed_number(loop));
        uint32_t n = atomic_load_explicit(&part->alive, memory_order_relaxed);
        if (n < least) {
            least = n;
            best = loop;
        }
    }
    return best;
}

/* Everything that the record has from its options. */
static int make_record(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts,
                       unsigned flags, const void *site, struct fibril_loop *loop,
                       struct fibril__actor **ret_a)
{
    struct fibril__actors *part;
    int rc = loop == fibril_loop_current() ? fibril__actors_open(&part) : 0;
    if (rc < 0) {
        return rc;
    }
    struct fibril__actor *a = fibril__actor_take(fibril_embed_number(loop));
    if (!a) {
        return -ENOMEM;
    }
    a->fn = fn;
    a->arg = arg;
    a->site = site;
    a->flags = (uint8_t)(flags | (opts->trap_exits ? FIBRIL__A_TRAPS : 0u));
    a->flags |= fn == fibril__supervise ? FIBRIL__A_TREE : 0;
    rc = fibril__mailbox_bound(a, &opts->mailbox);
    if (rc == 0 && opts->name) {
        rc = fibril_actor_register(a->id, opts->name);
    }
    if (rc < 0) {
        atomic_store(&a->id, 0);
        fibril__actor_give(a);
        return rc;
    }
    *ret_a = a;
    return 0;
}

static void undo_record(struct fibril__actor *a)
{
    uint64_t id = a->id;
    atomic_store(&a->id, 0);
    if (atomic_load(&a->listed)) {
        fibril__registry_forget(id);
    }
    fibril__mailbox_empty(a);
    fibril__actor_give(a);
}

static int spawn(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts, unsigned flags,
                 const void *site, uint64_t *ret_actor)
{
    static const struct fibril_actor_opts none;
    opts = opts ? opts : &none;
    struct fibril_loop *here = fibril_loop_current();
    struct fibril_loop *loop = opts->least_loaded ? least_loaded() : opts->loop ? opts->loop : here;
    struct fibril__bond *bonds[BONDS] = {NULL};
    struct fibril__actor *a = NULL, *parent = NULL;
    if (!loop) {
        return -EPERM;
    }
    if (opts->stack == FIBRIL_STACK_COPIED && opts->stack_bytes) {
        return -EINVAL;
    }
    int rc = 0;
    if (opts->link || opts->ret_monitor) {
        parent = fibril__actor_attach();
        rc = make_bonds(opts, parent, bonds);
    }
    if (rc == 0) {
        rc = make_record(fn, arg, opts, flags, site, loop, &a);
        if (rc < 0) {
            free_bonds(bonds);
        }
    }
    if (rc < 0) {
        return rc;
    }
    FIBRIL_ASSERT(a);
    uint64_t id = a->id;
    if (loop == here) {
        rc = start_fibril(a, opts);
        if (rc == 0) {
            tie_bonds(opts, parent, a, bonds, /* here= */ true);
        }
    } else {
        rc = start_away(a, opts, loop, parent, bonds);
    }
    if (rc < 0) {
        free_bonds(bonds);
        undo_record(a);
        return rc;
    }
    if (ret_actor) {
        *ret_actor = id;
    }
    return 0;
}

int fibril_actor_spawn(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts,
                       uint64_t *ret_actor)
{
    return spawn(fn, arg, opts, 0, __builtin_return_address(0), ret_actor);
}

int fibril__passive_spawn(fibril_fn *fn, void *arg, const struct fibril_actor_opts *opts,
                          uint64_t *ret_actor)
{
    return spawn(fn, arg, opts, FIBRIL__A_PASSIVE, __builtin_return_address(0), ret_actor);
}

/* ---- looking and setting ---- */

int fibril_actor_set_mailbox(const struct fibril_mailbox *mailbox)
{
    struct fibril__actor *a = fibril__actor_attach();
    if (!a) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    int rc = fibril__mailbox_bound(a, mailbox);
    if (rc == 0 && a->extra) {
        fibril__senders_admit(a);
    }
    return rc;
}

static size_t length(const struct fibril__list *list)
{
    size_t n = 0;
    for (const struct fibril__link *l = list->head.next; l != &list->head; l = l->next) {
        n++;
    }
    return n;
}

int fibril_actor_info(uint64_t actor, struct fibril_actor_info *ret_info)
{
    struct fibril__actor *a = fibril__actor_here(actor);
    if (!a) {
        return -ESRCH;
    }
    *ret_info = (struct fibril_actor_info){
        .actor = actor,
        .fibril = a->fibril,
        .waiting = atomic_load_explicit(&a->len, memory_order_relaxed),
        .waiting_bytes = atomic_load_explicit(&a->bytes, memory_order_relaxed),
        .parked_senders = a->extra ? length(&a->extra->parked) : 0,
        .links = length(&a->bonds),
        .received = a->received,
        .traps_exits = a->flags & FIBRIL__A_TRAPS,
        .exiting = a->flags & FIBRIL__A_EXITING,
    };
    fibril__registry_name(a, ret_info->name, sizeof ret_info->name);
    return 0;
}
