/* SPDX-License-Identifier: MIT */
/* Scripts on what several wait for together: the wait group, the barrier, once. */
#include "world.h"

#include <errno.h>

static void play_tasks(struct player *self)
{
    struct tasks *t = &world.tasks;
    unsigned what = choose(4);
    if (what == 0) {
        int n = 1 + (int)choose(3);
        CHECK(fibril_group_add(t->group, n) == 0);
        t->count += n;
    } else if (what == 1 && t->count == 0) {
        CHECK(fibril_group_done(t->group) == -EINVAL);
    } else if (what == 1) {
        if (--t->count == 0) {
            t->ends++;
            t->ended_ns = fibril_now();
        }
        CHECK(fibril_group_done(t->group) == 0);
    } else {
        struct step step = step_wait(self, "group wait", 0);
        unsigned ends = t->ends;
        bool none = t->count == 0;
        int rc = step_end(&step, fibril_group_wait(t->group, step.deadline_ns));
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
        CHECK(rc != 0 || none || t->ends > ends);
        CHECK(rc != -ETIMEDOUT || !none);
        CHECK(rc != -ETIMEDOUT || t->ends == ends || !was_missed(&step, t->ended_ns));
    }
}

static void play_barrier(struct player *self)
{
    struct meeting *m = &world.meeting;
    struct step step = step_wait(self, "barrier", 0);
    m->came++;
    int rc = step_end(&step, fibril_barrier_wait(m->barrier, step.deadline_ns));
    CHECK(rc == 0 || rc == 1 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc >= 0) {
        m->passed++;
        m->last += rc;
    }
    CHECK(m->passed <= m->came);
    CHECK(m->last * PARTIES <= m->came); /* nobody who gave up was counted */
}

static int do_once(void *arg)
{
    struct first *o = &world.first;
    (void)arg;
    CHECK(!o->running && !o->done);
    o->running = true;
    int rc = fibril_sleep(choose(4) * 1000000);
    o->running = false;
    if (rc == 0 && choose(3) == 0) {
        rc = -EIO;
    }
    o->done = rc == 0;
    return rc;
}

static void play_once(struct player *self)
{
    struct first *o = &world.first;
    if (o->done && o->inside == 0) {
        *o = (struct first){.once = FIBRIL_ONCE_INIT};
    }
    struct step step = step_wait(self, "once", 0);
    o->inside++;
    int rc = step_end(&step, fibril_once_run(&o->once, do_once, NULL, step.deadline_ns));
    o->inside--;
    CHECK(rc == 0 || rc == -EIO || rc == -ETIMEDOUT || rc == -ECANCELED);
    CHECK(rc != 0 || o->done);
}

void play_meet(struct player *self)
{
    switch (choose(3)) {
    case 0: play_tasks(self); break;
    case 1: play_barrier(self); break;
    default: play_once(self);
    }
}

void meet_begin(void)
{
    CHECK(fibril_group_new(0, &world.tasks.group) == 0);
    CHECK(fibril_barrier_new(PARTIES, 0, &world.meeting.barrier) == 0);
    world.first.once = (struct fibril_once)FIBRIL_ONCE_INIT;
}

void meet_end(void)
{
    CHECK(world.meeting.passed == world.meeting.last * PARTIES); /* each meeting was complete */
    CHECK(world.first.inside == 0 && !world.first.running);
    CHECK(fibril_group_add(world.tasks.group, -world.tasks.count) == 0);
    CHECK(fibril_group_wait(world.tasks.group, 0) == 0);
    fibril_group_free(world.tasks.group);
    fibril_barrier_free(world.meeting.barrier);
}
