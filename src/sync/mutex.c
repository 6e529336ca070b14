/* SPDX-License-Identifier: MIT */
/*
 * Mutexes. Unlocking hands the lock to the longest waiter before that one is awake, so nobody can
 * overtake it and an unlock wakes exactly one fibril. The price, a switch before the lock is used
 * again, is small where a switch is: rejected is the futex kind of mutex, whose waiters race with
 * whoever comes by.
 *
 *   free --lock--> owned --unlock, nobody waits--> free
 *                    |
 *                    +----unlock, f waits--> owned by f (f is woken with 0; a cancellation that
 * comes now stays pending)
 *
 * Invariant: whoever is in the list is not the owner, and while the list is not empty there is an
 * owner.
 */
#include "sync/mutex.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <limits.h>

struct fibril_mutex {
    struct fibril__waiters waiters; /* first */
    struct fibril *owner;           /* written under the spin lock, read anywhere (relaxed) */
    unsigned depth;                 /* how often the owner has locked it */
    bool recursive;
};

static struct fibril *owner_of(const struct fibril_mutex *m)
{
    return __atomic_load_n(&m->owner, __ATOMIC_RELAXED);
}

static void set_owner(struct fibril_mutex *m, struct fibril *f)
{
    __atomic_store_n(&m->owner, f, __ATOMIC_RELAXED);
    m->depth = 1;
}

static struct fibril *mutex_blocker(const struct fibril *f)
{
    return owner_of(f->wait_on);
}

static const struct fibril__wait_kind mutex_wait = {
    .name = "mutex",
    .reason = FIBRIL__BY_LOCK,
    .abort = fibril__waiters_abort,
    .blocker = mutex_blocker,
};

int fibril_mutex_new(unsigned flags, struct fibril_mutex **ret_mutex)
{
    if (flags & ~(unsigned)(FIBRIL_SHARED | FIBRIL_RECURSIVE)) {
        return -EINVAL;
    }
    struct fibril_mutex *m = fibril__alloc(sizeof(*m));
    if (!m) {
        return -ENOMEM;
    }
    *m = (struct fibril_mutex){.recursive = flags & FIBRIL_RECURSIVE};
    fibril__waiters_init(&m->waiters, flags);
    *ret_mutex = m;
    return 0;
}

void fibril_mutex_free(struct fibril_mutex *m)
{
    FIBRIL_ASSERT(!m || fibril__list_empty(&m->waiters.list));
    fibril__free(m);
}

/* Nobody else changes the owner or the depth while the caller is the owner: no spin lock. */
static int lock_again(struct fibril_mutex *m)
{
    if (!m->recursive) {
        return -EDEADLK;
    }
    if (m->depth == UINT_MAX) {
        return -EOVERFLOW;
    }
    m->depth++;
    return 0;
}

/* Takes m if it is free; otherwise, if `queue`, joins the waiters. */
static bool take(struct fibril_mutex *m, struct fibril *self, bool queue)
{
    fibril__spin_lock(&m->waiters.spin);
    bool free = !owner_of(m);
    if (free) {
        set_owner(m, self);
    } else if (queue) {
        fibril__list_push(&m->waiters.list, &self->link);
    }
    fibril__spin_unlock(&m->waiters.spin);
    return free;
}

int fibril_mutex_lock(struct fibril_mutex *m, int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(owner_of(m) == self)) {
        return lock_again(m);
    }
    if (!take(m, self, true)) {
        return (int)fibril__park(&mutex_wait, m, deadline_ns);
    }
    fibril__may_have_parked();
    return 0;
}

int fibril_mutex_try_lock(struct fibril_mutex *m)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(owner_of(m) == self)) {
        return lock_again(m);
    }
    return take(m, self, false) ? 0 : -EAGAIN;
}

/* Gives m, which the caller owns, to the longest waiter or to nobody. */
static void pass_on(struct fibril_mutex *m)
{
    fibril__spin_lock(&m->waiters.spin);
    struct fibril *next = fibril__waiters_pop(&m->waiters);
    set_owner(m, next);
    fibril__spin_unlock(&m->waiters.spin);
    if (next) {
        fibril__wake(next, 0);
    }
}

int fibril_mutex_unlock(struct fibril_mutex *m)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self || owner_of(m) != self)) {
        return -EPERM;
    }
    if (UNLIKELY(m->depth > 1)) {
        m->depth--;
    } else {
        pass_on(m);
    }
    return 0;
}

struct fibril *fibril_mutex_owner(const struct fibril_mutex *m)
{
    return owner_of(m);
}

unsigned fibril__mutex_leave(struct fibril_mutex *m)
{
    unsigned depth = m->depth;
    pass_on(m);
    return depth;
}

int fibril__mutex_return(struct fibril_mutex *m, unsigned depth)
{
    fibril_shield_begin();
    int error = fibril_mutex_lock(m, FIBRIL_FOREVER);
    fibril_shield_end();
    if (!error) {
        m->depth = depth;
    }
    return error;
}
