/* SPDX-License-Identifier: MIT */
/*
 * Locks for many readers or one writer. One queue for both, served in order: a reader that comes
 * while anybody waits queues up too, so a writer waits for the readers before it and for none
 * after. Unlocking, and a waiter that gives up, grant the front of the queue: one writer, or all
 * readers up to the next writer.
 *
 * Invariant, outside the spin lock: the first waiter could not be granted the lock as it is held.
 * The lock knows its writer but not its readers, so a deadlock through readers is reported without
 * a name. Rejected: a record for each reader, which would cost an allocation for each read.
 */
#include "sync/waiters.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

struct fibril_rwlock {
    struct fibril__waiters waiters; /* first; wait_data is WRITES or READS */
    struct fibril *writer;          /* written under the spin lock, read anywhere (relaxed) */
    size_t readers;                 /* how many hold it shared */
};

#define READS NULL
#define WRITES ((void *)1)

static struct fibril *writer_of(const struct fibril_rwlock *l)
{
    return __atomic_load_n(&l->writer, __ATOMIC_RELAXED);
}

static void set_writer(struct fibril_rwlock *l, struct fibril *f)
{
    __atomic_store_n(&l->writer, f, __ATOMIC_RELAXED);
}

/* Gives the lock to f if the way it is held allows that. */
static bool grant(struct fibril_rwlock *l, struct fibril *f, const void *what)
{
    if (writer_of(l) || (what == WRITES && l->readers)) {
        return false;
    }
    if (what == WRITES) {
        set_writer(l, f);
    } else {
        l->readers++;
    }
    return true;
}

/* Grants the front of the queue and releases the spin lock. */
static void serve(struct fibril_rwlock *l)
{
    struct fibril__chain granted = {NULL, NULL};
    struct fibril *f;
    while ((f = fibril__waiters_first(&l->waiters)) != NULL && grant(l, f, f->wait_data)) {
        fibril__link_remove(&f->link);
        fibril__chain_add(&granted, f);
    }
    fibril__spin_unlock(&l->waiters.spin);
    fibril__chain_wake(&granted, 0);
}

static bool rwlock_abort(struct fibril *f, int error)
{
    (void)error;
    struct fibril_rwlock *l = f->wait_on;
    fibril__spin_lock(&l->waiters.spin);
    bool left = fibril__waiters_leave(f);
    serve(l); /* behind a writer that gives up there may be readers */
    return left;
}

static struct fibril *rwlock_blocker(const struct fibril *f)
{
    return writer_of(f->wait_on);
}

static const struct fibril__wait_kind read_wait = {
    .name = "rwlock read",
    .reason = FIBRIL__BY_LOCK,
    .abort = rwlock_abort,
    .blocker = rwlock_blocker,
};

static const struct fibril__wait_kind write_wait = {
    .name = "rwlock write",
    .reason = FIBRIL__BY_LOCK,
    .abort = rwlock_abort,
    .blocker = rwlock_blocker,
};

int fibril_rwlock_new(unsigned flags, struct fibril_rwlock **ret_lock)
{
    if (flags & ~(unsigned)FIBRIL_SHARED) {
        return -EINVAL;
    }
    struct fibril_rwlock *l = fibril__alloc(sizeof(*l));
    if (!l) {
        return -ENOMEM;
    }
    *l = (struct fibril_rwlock){.writer = NULL};
    fibril__waiters_init(&l->waiters, flags);
    *ret_lock = l;
    return 0;
}

void fibril_rwlock_free(struct fibril_rwlock *l)
{
    FIBRIL_ASSERT(!l || fibril__list_empty(&l->waiters.list));
    fibril__free(l);
}

static int acquire(struct fibril_rwlock *l, void *what, const struct fibril__wait_kind *kind,
                   int64_t deadline_ns)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(writer_of(l) == self)) {
        return -EDEADLK;
    }
    fibril__spin_lock(&l->waiters.spin);
    bool granted = fibril__list_empty(&l->waiters.list) && grant(l, self, what);
    if (!granted) {
        self->wait_data = what;
        fibril__list_push(&l->waiters.list, &self->link);
    }
    fibril__spin_unlock(&l->waiters.spin);
    if (!granted) {
        return (int)fibril__park(kind, l, deadline_ns);
    }
    fibril__may_have_parked();
    return 0;
}

int fibril_rwlock_read(struct fibril_rwlock *l, int64_t deadline_ns)
{
    return acquire(l, READS, &read_wait, deadline_ns);
}

int fibril_rwlock_write(struct fibril_rwlock *l, int64_t deadline_ns)
{
    return acquire(l, WRITES, &write_wait, deadline_ns);
}

int fibril_rwlock_unlock(struct fibril_rwlock *l)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    fibril__spin_lock(&l->waiters.spin);
    struct fibril *writer = writer_of(l);
    if (writer ? writer != self : !l->readers) {
        fibril__spin_unlock(&l->waiters.spin);
        return -EPERM;
    }
    if (writer) {
        set_writer(l, NULL);
    } else {
        l->readers--;
    }
    serve(l);
    return 0;
}
