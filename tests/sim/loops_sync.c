/* SPDX-License-Identifier: MIT */
/* Scripts on several loops: locks, conditions, semaphores and the event between them. */
#include "loops.h"

#include <errno.h>

/* ---- mutexes and conditions ------------------------------------------------------------------ */

static void lock_taken(struct lplayer *self, int i)
{
    struct llock *l = &lworld.locks[i];
    LCHECK(l->owner == -1);
    LCHECK(fibril_mutex_owner(l->mutex) == fibril_current());
    l->owner = self->index;
    self->owns[i] = true;
}

static void lock_given(struct lplayer *self, int i)
{
    struct llock *l = &lworld.locks[i];
    LCHECK(l->owner == self->index);
    l->owner = -1;
    l->unlocked_ns = fibril_now();
    self->owns[i] = false;
}

static void lock(struct lplayer *self, int i)
{
    struct llock *l = &lworld.locks[i];
    struct lstep step = lstep_begin(self, "lock", i);
    int rc = lstep_end(&step, fibril_mutex_lock(l->mutex, step.deadline_ns));
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        lock_taken(self, i);
    } else if (rc == -ETIMEDOUT && l->owner == -1) {
        LCHECK(!lmissed(&step, l->unlocked_ns));
    }
}

static void wait_cond(struct lplayer *self, int i)
{
    struct llock *l = &lworld.locks[i];
    struct lstep step = lstep_begin(self, "cond wait", i);
    unsigned signals = l->signals_over;
    lock_given(self, i);
    int rc = lstep_end(&step, fibril_cond_wait(l->cond, l->mutex, step.deadline_ns));
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    LCHECK(rc != 0 || l->signals > signals);
    lock_taken(self, i);
}

static void signal(struct llock *l)
{
    l->signals++;
    if (lchoose(2)) {
        fibril_cond_signal(l->cond);
    } else {
        fibril_cond_broadcast(l->cond);
    }
    l->signals_over++;
}

static void play_lock(struct lplayer *self)
{
    int i = (int)lchoose(L_LOCKS);
    struct llock *l = &lworld.locks[i];
    unsigned what = lchoose(8);
    if (what == 0) {
        signal(l);
    } else if (self->owns[i] && what < 3) {
        wait_cond(self, i);
    } else if (self->owns[i]) {
        lock_given(self, i);
        LCHECK(fibril_mutex_unlock(l->mutex) == 0);
    } else if (what == 1) {
        int rc = fibril_mutex_try_lock(l->mutex);
        LCHECK(rc == 0 || rc == -EAGAIN);
        if (rc == 0) {
            lock_taken(self, i);
        }
    } else {
        lock(self, i);
    }
}

/* ---- the others ------------------------------------------------------------------------------ */

static void rw_leave(struct lplayer *self)
{
    lworld.readers -= self->holds == 1;
    lworld.writer = self->holds == 2 ? -1 : lworld.writer;
    lworld.rw_unlocked_ns = fibril_now();
    self->holds = 0;
    LCHECK(fibril_rwlock_unlock(lworld.rwlock) == 0);
}

static void play_rwlock(struct lplayer *self)
{
    if (self->holds) {
        rw_leave(self);
        return;
    }
    bool writes = lchoose(3) == 0;
    struct lstep step = lstep_begin(self, writes ? "write lock" : "read lock", 0);
    int rc = lstep_end(&step, writes ? fibril_rwlock_write(lworld.rwlock, step.deadline_ns)
                                     : fibril_rwlock_read(lworld.rwlock, step.deadline_ns));
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        LCHECK(lworld.writer == -1 && (!writes || lworld.readers == 0));
        lworld.readers += !writes;
        lworld.writer = writes ? self->index : -1;
        self->holds = writes ? 2 : 1;
    } else if (rc == -ETIMEDOUT && lworld.writer == -1 && lworld.readers == 0) {
        LCHECK(!lmissed(&step, lworld.rw_unlocked_ns));
    }
}

static void play_sem(struct lplayer *self)
{
    int i = (int)lchoose(L_SEMS);
    struct lsem *s = &lworld.sems[i];
    if (lchoose(2)) {
        s->tokens++;
        s->posted_ns = fibril_now(); /* somebody may see it from now on */
        LCHECK(fibril_sem_post(s->sem) == 0);
        s->posted_ns = fibril_now();
        return;
    }
    struct lstep step = lstep_begin(self, "sem wait", i);
    int rc = lstep_end(&step, fibril_sem_wait(s->sem, step.deadline_ns));
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        LCHECK(--s->tokens >= 0);
    } else if (rc == -ETIMEDOUT && s->tokens > 0) {
        LCHECK(!lmissed(&step, s->posted_ns));
    }
}

static void play_event(struct lplayer *self)
{
    unsigned what = lchoose(4);
    if (what == 0) {
        lworld.event_sets++;
        fibril_event_set(lworld.event);
        lworld.event_set_ns = fibril_now();
    } else if (what == 1) {
        fibril_event_reset(lworld.event);
    } else {
        struct lstep step = lstep_begin(self, "event wait", 0);
        unsigned sets = lworld.event_sets;
        int rc = lstep_end(&step, fibril_event_wait(lworld.event, step.deadline_ns));
        LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
        LCHECK(rc != 0 || lworld.event_sets > 0);
        /* One that was set while the wait began may have been reset again before it had begun. */
        LCHECK(rc != -ETIMEDOUT || lworld.event_sets == sets ||
               lworld.event_set_ns < step.since_ns + SLACK_NS ||
               !lmissed(&step, lworld.event_set_ns));
    }
}

void lplay_sync(struct lplayer *self)
{
    switch (lchoose(6)) {
    case 0: play_rwlock(self); break;
    case 1: play_sem(self); break;
    case 2: play_event(self); break;
    default: play_lock(self);
    }
}

void lsync_leave(struct lplayer *self)
{
    for (int i = 0; i < L_LOCKS; i++) {
        if (self->owns[i]) {
            lock_given(self, i);
            LCHECK(fibril_mutex_unlock(lworld.locks[i].mutex) == 0);
        }
    }
    if (self->holds) {
        rw_leave(self);
    }
}
