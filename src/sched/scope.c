/* SPDX-License-Identifier: MIT */
/*
 * Scopes: fibrils that end before their starter goes on. A scope and its fibrils are all of one
 * loop, so nothing here needs a lock.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "sched/current.h"
#include "sched/extra.h"
#include "sched/record.h"

#include <errno.h>

struct fibril_scope {
    struct fibril_loop *loop;
    struct fibril__list members; /* of struct fibril__extra.in_scope */
    uint64_t count;
    struct fibril *closer; /* parked in fibril_scope_close */
    int error;             /* result of the first that failed */
    bool cancelled;
    bool closing; /* the close has given up waiting: nobody may join any more */
};

int fibril_scope_open(struct fibril_scope **ret_scope)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    struct fibril_scope *s = fibril__alloc_zero(sizeof *s);
    if (!s) {
        return -ENOMEM;
    }
    s->loop = fibril__loop;
    fibril__list_init(&s->members);
    *ret_scope = s;
    return 0;
}

int fibril_scope_spawn(struct fibril_scope *s, fibril_fn *fn, void *arg,
                       const struct fibril_spawn_opts *opts)
{
    if (fibril__loop != s->loop) {
        return -EPERM;
    }
    if (s->closing) {
        return -EPIPE;
    }
    if (opts && (opts->loop || opts->daemon)) {
        return -EINVAL;
    }
    struct fibril *f;
    struct fibril__extra *extra = fibril__alloc_zero(sizeof *extra);
    int rc = extra ? fibril__spawn_at(fn, arg, opts, __builtin_return_address(0), &f) : -ENOMEM;
    if (rc < 0) {
        fibril__free(extra);
        return rc;
    }
    if (f->extra) { /* made for the name */
        fibril__free(extra);
        extra = f->extra;
    }
    f->extra = extra;
    extra->owner = f;
    extra->scope = s;
    fibril__list_push(&s->members, &extra->in_scope);
    s->count++;
    if (s->cancelled) {
        fibril__cancel_here(f);
    }
    return 0;
}

void fibril_scope_cancel(struct fibril_scope *s)
{
    FIBRIL_ASSERT(fibril__loop == s->loop);
    s->cancelled = true;
    struct fibril__link *next;
    for (struct fibril__link *l = s->members.head.next; l != &s->members.head; l = next) {
        next = l->next;
        fibril__cancel_here(CONTAINER_OF(l, struct fibril__extra, in_scope)->owner);
    }
}

void fibril__scope_ended(struct fibril *f, int result)
{
    struct fibril_scope *s = f->extra->scope;
    if (!s) {
        return;
    }
    f->extra->scope = NULL;
    fibril__link_remove(&f->extra->in_scope);
    s->count--;
    /* Ending with -ECANCELED when cancelled is no failure. */
    if (result < 0 && s->error == 0 && !(s->cancelled && result == -ECANCELED)) {
        s->error = result;
        if (!s->cancelled) {
            fibril_scope_cancel(s);
        }
    }
    if (s->count == 0 && s->closer) {
        struct fibril *closer = s->closer;
        s->closer = NULL;
        fibril__wake(closer, 0);
    }
}

void fibril__scope_forget(struct fibril *f)
{
    struct fibril_scope *s = f->extra ? f->extra->scope : NULL;
    if (s) {
        f->extra->scope = NULL;
        fibril__link_remove(&f->extra->in_scope);
        s->count--;
    }
}

/* A signal's handler has run already, and is no reason to cancel the members. */
static bool abort_close(struct fibril *f, int error)
{
    struct fibril_scope *s = f->wait_on;
    if (s->closer != f || error == -EINTR) {
        return false;
    }
    s->closer = NULL;
    return true;
}

static const struct fibril__wait_kind close_kind = {
    .name = "scope close", .reason = FIBRIL__BY_JOIN, .abort = abort_close};

static int wait_for_members(struct fibril_scope *s, int64_t deadline_ns)
{
    while (s->count > 0) {
        s->closer = fibril__self();
        int64_t rc = fibril__park(&close_kind, s, deadline_ns);
        if (rc < 0) {
            return (int)rc;
        }
    }
    return 0;
}

/* The members hold pointers to the scope, so it must not go before them, whatever happens to the
 * caller. */
int fibril_scope_close(struct fibril_scope *s, int64_t deadline_ns)
{
    if (fibril__loop != s->loop) {
        return -EPERM;
    }
    int rc = wait_for_members(s, deadline_ns);
    if (rc < 0) {
        int rc2;
        s->closing = true; /* else members that start others could hold the closer for ever */
        fibril_scope_cancel(s);
        fibril_shield_begin();
        while ((rc2 = wait_for_members(s, FIBRIL_FOREVER)) < 0) {
            if (rc2 == -ENOMEM) {
                fibril__panic("no memory to park a copied stack that closes a scope");
            }
        }
        fibril_shield_end();
    }
    int error = s->error;
    fibril__free(s);
    return rc < 0 ? rc : error;
}
