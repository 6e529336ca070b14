/* SPDX-License-Identifier: MIT */
/* Scripts on locks, conditions, semaphores and the event. */
#include "world.h"

#include <errno.h>

/* ---- mutexes: first come, first served ------------------------------------------------------- */

static void queue_join(struct lock *l, int player)
{
    CHECK(l->queued < QUEUE);
    l->overtaken[player] = false;
    l->queue[l->queued++] = player;
}

/* The player has the lock, or has given up. */
static void queue_leave(struct lock *l, int player, bool got)
{
    int at = 0;
    while (l->queue[at] != player) {
        /* Whoever came before and still waits must have given up, and not know it yet. */
        l->overtaken[l->queue[at]] |= got;
        at++;
        CHECK(at < l->queued);
    }
    CHECK(!got || !l->overtaken[player]);
    for (l->queued--; at < l->queued; at++) {
        l->queue[at] = l->queue[at + 1];
    }
}

static void lock_taken(struct player *self, int i)
{
    struct lock *l = &world.locks[i];
    CHECK(l->owner == -1);
    CHECK(fibril_mutex_owner(l->mutex) == fibril_current());
    l->owner = self->index;
    self->owns[i] = true;
}

static void lock(struct player *self, int i)
{
    struct lock *l = &world.locks[i];
    struct step step = step_wait(self, "lock", i);
    queue_join(l, self->index);
    int rc = step_end(&step, fibril_mutex_lock(l->mutex, step.deadline_ns));
    queue_leave(l, self->index, rc == 0);
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        lock_taken(self, i);
    } else if (rc == -ETIMEDOUT && !fibril_mutex_owner(l->mutex)) {
        CHECK(!was_missed(&step, l->unlocked_ns)); /* it was to be handed to who waits */
    }
}

static void unlock(struct player *self, int i)
{
    struct lock *l = &world.locks[i];
    CHECK(l->owner == self->index);
    l->owner = -1;
    l->unlocked_ns = fibril_now();
    self->owns[i] = false;
    CHECK(fibril_mutex_unlock(l->mutex) == 0);
}

static void wait_cond(struct player *self, int i)
{
    struct lock *l = &world.locks[i];
    struct step step = step_wait(self, "cond wait", i);
    unsigned signals = l->signals;
    l->owner = -1;
    l->unlocked_ns = fibril_now();
    self->owns[i] = false;
    int rc = step_end(&step, fibril_cond_wait(l->cond, l->mutex, step.deadline_ns));
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    CHECK(rc != 0 || l->signals > signals); /* not spurious */
    lock_taken(self, i);                    /* also when it failed */
}

static void play_lock(struct player *self)
{
    int i = (int)choose(LOCKS);
    struct lock *l = &world.locks[i];
    unsigned what = choose(8);
    if (what == 0) {
        l->signals++;
        if (choose(2)) {
            fibril_cond_signal(l->cond);
        } else {
            fibril_cond_broadcast(l->cond);
        }
    } else if (self->owns[i]) {
        if (what < 3) {
            wait_cond(self, i);
        } else if (what == 3) {
            CHECK(fibril_mutex_lock(l->mutex, 0) == -EDEADLK);
        } else {
            unlock(self, i);
        }
    } else if (what == 1) {
        CHECK(fibril_mutex_unlock(l->mutex) == -EPERM);
    } else if (what == 2) {
        int rc = fibril_mutex_try_lock(l->mutex);
        CHECK(rc == 0 || rc == -EAGAIN);
        if (rc == 0) {
            lock_taken(self, i);
        } else {
            CHECK(fibril_mutex_owner(l->mutex) != NULL);
        }
    } else {
        lock(self, i);
    }
}

/* ---- the others ------------------------------------------------------------------------------ */

static void play_rwlock(struct player *self)
{
    struct shared *s = &world.shared;
    if (self->holds) {
        s->readers -= self->holds == 1;
        s->writer = self->holds == 2 ? -1 : s->writer;
        s->asked_or_unlocked_ns = fibril_now();
        self->holds = 0;
        CHECK(fibril_rwlock_unlock(s->lock) == 0);
        return;
    }
    bool writes = choose(3) == 0;
    struct step step = step_wait(self, writes ? "write lock" : "read lock", 0);
    s->asked_or_unlocked_ns = fibril_now();
    int rc = step_end(&step, writes ? fibril_rwlock_write(s->lock, step.deadline_ns)
                                    : fibril_rwlock_read(s->lock, step.deadline_ns));
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        CHECK(s->writer == -1 && (!writes || s->readers == 0));
        s->readers += !writes;
        s->writer = writes ? self->index : -1;
        self->holds = writes ? 2 : 1;
    } else if (rc == -ETIMEDOUT && s->writer == -1 && s->readers == 0) {
        CHECK(!was_missed(&step, s->asked_or_unlocked_ns));
    }
}

static void play_sem(struct player *self)
{
    int i = (int)choose(SEMS);
    struct sem *s = &world.sems[i];
    if (choose(2)) {
        s->tokens++;
        CHECK(fibril_sem_post(s->sem) == 0);
        return;
    }
    struct step step = step_wait(self, "sem wait", i);
    int rc = step_end(&step, fibril_sem_wait(s->sem, step.deadline_ns));
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        CHECK(--s->tokens >= 0);
    }
}

static void play_event(struct player *self)
{
    unsigned what = choose(4);
    if (what == 0) {
        world.event_sets++;
        world.event_set_ns = fibril_now();
        world.event_is_set = true;
        fibril_event_set(world.event);
    } else if (what == 1) {
        world.event_is_set = false;
        fibril_event_reset(world.event);
    } else {
        CHECK(fibril_event_is_set(world.event) == world.event_is_set);
        struct step step = step_wait(self, "event wait", 0);
        unsigned sets = world.event_sets;
        bool was = world.event_is_set;
        int rc = step_end(&step, fibril_event_wait(world.event, step.deadline_ns));
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
        CHECK(rc != 0 || was || world.event_sets > sets);
        CHECK(rc != -ETIMEDOUT || world.event_sets == sets ||
              !was_missed(&step, world.event_set_ns));
    }
}

void play_sync(struct player *self)
{
    switch (choose(6)) {
    case 0: play_rwlock(self); break;
    case 1: play_sem(self); break;
    case 2: play_event(self); break;
    default: play_lock(self);
    }
}

void sync_leave(struct player *self)
{
    for (int i = 0; i < LOCKS; i++) {
        if (self->owns[i]) {
            unlock(self, i);
        }
    }
    if (self->holds) {
        play_rwlock(self);
    }
}
