/* SPDX-License-Identifier: MIT */
/*
 * Runs a function once. The object is one word, NULL at first:
 *
 *   NULL --first caller--> the fibril that runs fn --fn succeeded--> DONE
 *    ^                        |        ^
 *    |                        |        | fn failed and somebody waits: the longest waiter runs it
 * next
 *    +---- fn failed, nobody waits ----+
 *
 * There is no room for a list in one word, and no moment at which an allocation could be freed, so
 * all waiters of the process share one list under one lock; it is empty but for the rare callers
 * that come while fn runs. Once DONE is stored (release, pairs with the acquire of the first load)
 * the list and the lock are never touched again.
 */
#include "sync/waiters.h"

#include <errno.h>

#define DONE ((void *)1)

static struct fibril__waiters waiting = {
    .spin = {.shared = true},
    .list = {{&waiting.list.head, &waiting.list.head}},
};

static bool once_abort(struct fibril *f, int error)
{
    (void)error;
    fibril__spin_lock(&waiting.spin);
    bool left = fibril__waiters_leave(f);
    fibril__spin_unlock(&waiting.spin);
    return left;
}

static struct fibril *once_blocker(const struct fibril *f)
{
    const struct fibril_once *once = f->wait_on;
    void *state = __atomic_load_n(&once->opaque_, __ATOMIC_ACQUIRE);
    return state == DONE ? NULL : state;
}

static const struct fibril__wait_kind once_wait = {
    .name = "once",
    .reason = FIBRIL__BY_LOCK,
    .abort = once_abort,
    .blocker = once_blocker,
};

static void set_state(struct fibril_once *once, void *state)
{
    __atomic_store_n(&once->opaque_, state, __ATOMIC_RELEASE);
}

/* Takes off the list the waiters of this object, or only the longest one. */
static struct fibril__chain collect(const struct fibril_once *once, bool all)
{
    struct fibril__chain found = {NULL, NULL};
    struct fibril__link *l = waiting.list.head.next;
    while (l != &waiting.list.head && (all || !found.first)) {
        struct fibril *f = CONTAINER_OF(l, struct fibril, link);
        l = l->next;
        if (f->wait_data == once) {
            fibril__link_remove(&f->link);
            fibril__chain_add(&found, f);
        }
    }
    return found;
}

/* Ends a run of fn: everybody goes on, or the longest waiter tries next. */
static void settle(struct fibril_once *once, bool succeeded)
{
    fibril__spin_lock(&waiting.spin);
    struct fibril__chain woken = collect(once, succeeded);
    if (succeeded) {
        set_state(once, DONE);
    } else {
        set_state(once, woken.first ? CONTAINER_OF(woken.first, struct fibril, link) : NULL);
    }
    fibril__spin_unlock(&waiting.spin);
    fibril__chain_wake(&woken, succeeded ? 0 : 1);
}

/* Returns 1 if the caller is to run fn, 0 if that has been done, or why it was not waited for. */
static int enter(struct fibril_once *once, struct fibril *self, int64_t deadline_ns)
{
    fibril__spin_lock(&waiting.spin);
    void *state = once->opaque_;
    if (!state) {
        set_state(once, self);
    } else if (state != DONE && state != self) {
        self->wait_data = once;
        fibril__list_push(&waiting.list, &self->link);
    }
    fibril__spin_unlock(&waiting.spin);
    if (!state) {
        return 1;
    }
    if (state == DONE || state == self) {
        return state == DONE ? 0 : -EDEADLK; /* fn calls for itself */
    }
    return (int)fibril__park(&once_wait, once, deadline_ns);
}

int fibril_once_run(struct fibril_once *once, fibril_fn *fn, void *arg, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    int rc = 0;
    if (UNLIKELY(__atomic_load_n(&once->opaque_, __ATOMIC_ACQUIRE) != DONE)) {
        rc = enter(once, self, deadline_ns);
        if (rc == 1) {
            rc = fn(arg);
            settle(once, rc >= 0);
        }
    }
    fibril__may_have_parked();
    return rc < 0 ? rc : 0;
}
