/* SPDX-License-Identifier: MIT */
/*
 * See script.h: the players, their choices, and what is checked of every operation alike.
 */
#include "world.h"

#include "poll/poll.h"
#include "poll/poll_sim.h"
#include "sched/loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct world world;

/* ---- choices --------------------------------------------------------------------------------- */

bool used_up(void)
{
    return world.script->bytes && world.at >= world.script->len;
}

unsigned choose(unsigned n)
{
    if (world.script->bytes) {
        return used_up() ? 0 : world.script->bytes[world.at++] % n;
    }
    uint64_t z = world.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (unsigned)((z ^ (z >> 31)) % n);
}

/* Never for ever: a script must end, and a wait that hangs shows by its deadline passing. */
static int64_t choose_deadline(void)
{
    static const int64_t after[] = {1000,    20000,    300000,     1000000,
                                    1000000, 50000000, 2000000000, INT64_C(3600000000000)};
    unsigned i = choose(10);
    return i == 8 ? 0 : i == 9 ? fibril_now() : fibril_after(after[i] + choose(200));
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void look_at_clock(void)
{
    int64_t now_ns = fibril_now();
    CHECK(now_ns >= world.now_ns);
    world.now_ns = now_ns;
}

struct step step_begin(struct player *self, const char *what, int object)
{
    look_at_clock();
    world.steps++;
    world.result.operations++;
    bool real = fibril_cancelled();
    if (self->shield == 0 && real != self->cancelled) {
        /* When, and whether again after it has been cleared, the end of a scope cancels is not in
         * the model. */
        CHECK(may_be_cancelled(self));
        self->cancelled = real;
    }
    CHECK(!real || self->shield == 0);
    if (world.script->print) {
        fprintf(stderr, "%12lld  player %d  %s %d\n", (long long)world.now_ns, self->index, what,
                object);
    }
    return (struct step){self, FIBRIL_FOREVER, world.steps, real};
}

struct step step_wait(struct player *self, const char *what, int object)
{
    int64_t deadline_ns = choose_deadline();
    struct step step = step_begin(self, what, object);
    step.deadline_ns = deadline_ns;
    return step;
}

int step_end(struct step *step, int rc)
{
    struct player *self = step->self;
    look_at_clock();
    if (world.script->print) {
        fprintf(stderr, "%12lld  player %d  = %d\n", (long long)world.now_ns, self->index, rc);
    }
    if (rc == -ETIMEDOUT) {
        world.result.timeouts++;
        CHECK(fibril_now() >= step->deadline_ns);
    }
    if (rc == -ECANCELED) {
        world.result.cancels++;
        CHECK(self->shield == 0 && (self->cancelled || may_be_cancelled(self)));
        self->cancelled = true;
    }
#if !FIBRIL_HARD
    /* Who was cancelled and still succeeded did not wait. */
    CHECK(!(step->cancelled_before && rc >= 0) || world.steps == step->number);
#endif
    CHECK(rc != -ENOMEM && rc != -EPERM && rc != -EINVAL);
    fibril__sim_trace(fibril_loop_current()->poller, (uint64_t)rc << 16 ^ (unsigned)self->index);
    return rc;
}

bool was_missed(const struct step *step, int64_t at_ns)
{
    const int64_t slack_ns = 1000000; /* whoever was made ready has run by then */
    return at_ns < step->deadline_ns - slack_ns;
}

/* ---- players --------------------------------------------------------------------------------- */

struct player *player_new(struct group *group)
{
    if (world.count == PLAYERS) {
        return NULL;
    }
    struct player *p = &world.players[world.count];
    *p = (struct player){.index = world.count, .group = group, .operations = (int)choose(28)};
    for (int c = 0; c < CHANS; c++) {
        for (int i = 0; i < PLAYERS; i++) {
            p->last[c][i] = -1;
        }
    }
    world.count++;
    struct fibril_spawn_opts opts = {.stack = choose(2) ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN};
    if (group) {
        group->alive++;
        CHECK(fibril_scope_spawn(group->scope, player_main, p, &opts) == 0);
    } else {
        CHECK(fibril_spawn(player_main, p, &opts, &p->handle) == 0);
    }
    return p;
}

static void play(struct player *self)
{
    switch (choose(9)) {
    case 0:
    case 1: play_chan(self); break;
    case 2: play_select(self); break;
    case 3:
    case 4: play_sync(self); break;
    case 5: play_meet(self); break;
    default: play_life(self);
    }
}

/* Plays from some depth of the stack, so that copies have many sizes, and looks whether it is still
 * as it was. */
static __attribute__((noinline)) void play_deep(struct player *self, unsigned depth)
{
    volatile uint32_t mine[24];
    for (unsigned i = 0; i < 24; i++) {
        mine[i] = (uint32_t)self->index * 100 + depth + i;
    }
    if (depth) {
        play_deep(self, depth - 1);
    } else {
        play(self);
    }
    for (unsigned i = 0; i < 24; i++) {
        CHECK(mine[i] == (uint32_t)self->index * 100 + depth + i);
    }
}

int player_main(void *arg)
{
    struct player *self = arg;
    CHECK(fibril_cancelled() || !self->born_cancelled);
    while (self->operations-- > 0 && !used_up()) {
        play_deep(self, choose(12));
    }
    while (self->shield > 0) {
        fibril_shield_end();
        self->shield--;
    }
    sync_leave(self);
    self->ended = true;
    self->ended_ns = fibril_now();
    self->result = self->group && choose(4) == 0 ? -ENODATA - (int)choose(3) : (int)choose(1000);
    if (self->group) {
        scope_end(self, self->result);
    }
    return self->result;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void make_world(void)
{
    static const size_t words[CHANS] = {1, 1, WORDS, 1};
    for (int i = 0; i < CHANS; i++) {
        size_t capacity = i == 0 ? 0 : choose(4);
        world.chans[i].words = words[i];
        CHECK(fibril_chan_new(words[i] * 8, capacity, i == 3 ? FIBRIL_SHARED : 0,
                              &world.chans[i].chan) == 0);
    }
    for (int i = 0; i < LOCKS; i++) {
        world.locks[i].owner = -1;
        CHECK(fibril_mutex_new(i == 2 ? FIBRIL_SHARED : 0, &world.locks[i].mutex) == 0);
        CHECK(fibril_cond_new(i == 2 ? FIBRIL_SHARED : 0, &world.locks[i].cond) == 0);
    }
    for (int i = 0; i < SEMS; i++) {
        world.sems[i].tokens = choose(3);
        CHECK(fibril_sem_new((unsigned)world.sems[i].tokens, 0, &world.sems[i].sem) == 0);
    }
    world.shared.writer = -1;
    CHECK(fibril_rwlock_new(0, &world.shared.lock) == 0);
    CHECK(fibril_event_new(0, &world.event) == 0);
    meet_begin();
}

static void end_world(void)
{
    for (int i = 0; i < CHANS; i++) {
        fibril_chan_free(world.chans[i].chan);
    }
    for (int i = 0; i < LOCKS; i++) {
        CHECK(world.locks[i].owner == -1 && fibril_mutex_owner(world.locks[i].mutex) == NULL);
        fibril_mutex_free(world.locks[i].mutex);
        fibril_cond_free(world.locks[i].cond);
    }
    for (int i = 0; i < SEMS; i++) {
        while (fibril_sem_try_wait(world.sems[i].sem) == 0) {
            world.sems[i].tokens--;
        }
        CHECK(world.sems[i].tokens == 0);
        fibril_sem_free(world.sems[i].sem);
    }
    CHECK(world.shared.readers == 0 && world.shared.writer == -1);
    fibril_rwlock_free(world.shared.lock);
    fibril_event_free(world.event);
    meet_end();
}

static int main_fibril(void *arg)
{
    struct script_result *r = &world.result;
    (void)arg;
    int64_t start = world.now_ns = fibril_now();
    make_world();
    for (unsigned n = 2 + choose(8); n > 0; n--) {
        player_new(NULL);
    }
    for (int i = 0; i < world.count; i++) { /* more may come meanwhile */
        struct player *p = &world.players[i];
        while (p->claimed) { /* by one who may give up */
            CHECK(fibril_sleep(INT64_C(10000000000)) == 0);
        }
        if (p->handle) {
            int result = -1;
            p->claimed = true;
            CHECK(fibril_join(p->handle, FIBRIL_FOREVER, &result) == 0);
            CHECK(p->ended && result == p->result);
            p->handle = NULL;
        }
    }
    chan_drain();
    end_world();
    const struct fibril_loop *loop = fibril_loop_current();
    CHECK(loop->alive == 0 && loop->poller->pending == 0);
    r->switches = loop->counters.switches;
    r->virtual_ns = fibril_now() - start;
    r->hash = fibril__sim_hash(loop->poller);
    return 0;
}

void script_run(const struct script *script, struct script_result *ret_result)
{
    memset(&world, 0, sizeof world);
    world.script = script;
    world.random = script->seed ^ UINT64_C(0x5c21b7);
    struct fibril_opts opts = {.poller = "sim", .seed = script->seed, .run_stack_bytes = 64 << 10};
    CHECK(fibril_run(&opts, main_fibril, NULL) == 0);
    *ret_result = world.result;
}
