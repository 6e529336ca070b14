/* SPDX-License-Identifier: MIT */
/* See loops.h: the players, what is checked of every operation alike, and the whole. */
#include "loops.h"

#include "base/turns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct lworld lworld;

unsigned lchoose(unsigned n)
{
    uint64_t z = lworld.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (unsigned)((z ^ (z >> 31)) % n);
}

/* Never for ever: a script must end, and a wait that hangs shows by its deadline passing. */
static int64_t choose_deadline(void)
{
    static const int64_t after[] = {1000,    20000,    300000,     1000000,
                                    1000000, 50000000, 2000000000, INT64_C(3600000000000)};
    unsigned i = lchoose(10);
    return i == 8 ? 0 : i == 9 ? fibril_now() : fibril_after(after[i] + lchoose(200));
}

/* One clock for all loops, and it never runs back. */
static void look_at_clock(void)
{
    int64_t now_ns = fibril_now();
    LCHECK(now_ns >= lworld.now_ns);
    lworld.now_ns = now_ns;
}

static void print(const struct lplayer *self, const char *what, int value)
{
    if (lworld.script->print) {
        fprintf(stderr, "%12lld  player %d  %s %d\n", (long long)lworld.now_ns, self->index, what,
                value);
    }
}

struct lstep lstep_begin(struct lplayer *self, const char *what, int object)
{
    int64_t deadline_ns = choose_deadline();
    look_at_clock();
    lworld.result.operations++;
    LCHECK(!self->inside); /* one fibril runs once */
    LCHECK(fibril_loop_current() == self->loop);
    self->inside = true;
    if (fibril_cancelled()) {
        LCHECK(self->cancel_ns != L_NEVER || self->cancel_maybe);
        self->cancel_ns = self->cancel_ns == L_NEVER ? lworld.now_ns : self->cancel_ns;
    } else {
        LCHECK(self->cancel_ns >= lworld.now_ns - SLACK_NS); /* it has arrived by now */
        self->cancel_maybe &= self->cancel_last_ns >= lworld.now_ns - SLACK_NS;
    }
    print(self, what, object);
    self->since_ns = lworld.now_ns;
    self->deadline_ns = deadline_ns;
    fibril__turns_note((uint64_t)self->index << 8 ^ (unsigned char)what[0]);
    return (struct lstep){self, lworld.now_ns, deadline_ns};
}

int lstep_end(struct lstep *step, int rc)
{
    struct lplayer *self = step->self;
    look_at_clock();
    print(self, "=", rc);
    LCHECK(self->inside && fibril_loop_current() == self->loop);
    self->inside = false;
    if (rc == -ETIMEDOUT) {
        lworld.result.timeouts++;
        LCHECK(lworld.now_ns >= step->deadline_ns);
    }
    if (rc == -ECANCELED) {
        lworld.result.cancels++;
        LCHECK(self->cancel_ns != L_NEVER || self->cancel_maybe);
    }
    LCHECK(rc != -ENOMEM && rc != -EPERM && rc != -EINVAL);
    fibril__turns_note((uint64_t)rc << 16 ^ (unsigned)self->index);
    return rc;
}

bool lmissed(const struct lstep *step, int64_t at_ns)
{
    int64_t from_ns = at_ns > step->since_ns ? at_ns : step->since_ns;
    return from_ns < step->deadline_ns - SLACK_NS;
}

/* ---- players --------------------------------------------------------------------------------- */

static void play(struct lplayer *self)
{
    switch (lchoose(8)) {
    case 0:
    case 1:
    case 2: lplay_chan(self); break;
    case 3: lplay_select(self); break;
    case 4:
    case 5: lplay_sync(self); break;
    default: lplay_life(self);
    }
}

static int player_main(void *arg)
{
    struct lplayer *self = arg;
    while (self->operations-- > 0) {
        play(self);
    }
    lsync_leave(self);
    self->result = (int)lchoose(1000);
    self->ended_ns = fibril_now();
    self->ended = true;
    lworld.alive--;
    return self->result;
}

struct lplayer *lplayer_new(struct fibril_loop *loop, bool handle)
{
    if (lworld.count == L_PLAYERS) {
        return NULL;
    }
    struct lplayer *p = &lworld.players[lworld.count];
    *p = (struct lplayer){.index = lworld.count++,
                          .loop = loop,
                          .operations = 4 + (int)lchoose(24),
                          .woken_ns = L_NEVER,
                          .cancel_ns = L_NEVER,
                          .cancel_last_ns = INT64_MIN / 2,
                          .claimed = true};
    memset(p->last, -1, sizeof p->last);
    lworld.alive++;
    LCHECK(fibril_waker_new(&p->waker) == 0);
    struct fibril_spawn_opts opts = {.loop = loop,
                                     .stack = lchoose(2) ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN};
    struct fibril *f = NULL;
    LCHECK(fibril_spawn(player_main, p, &opts, handle ? &f : NULL) == 0);
    p->handle = f;
    p->claimed = false;
    return p;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void make_world(void)
{
    static const size_t words[L_CHANS] = {1, 1, L_WORDS, L_WORDS};
    for (int i = 0; i < L_CHANS; i++) {
        lworld.chans[i].words = words[i];
        lworld.chans[i].closed_ns = L_NEVER;
        LCHECK(fibril_chan_new(words[i] * 8, i % 2 ? lchoose(4) : 0, FIBRIL_SHARED,
                               &lworld.chans[i].chan) == 0);
    }
    for (int i = 0; i < L_LOCKS; i++) {
        lworld.locks[i].owner = -1;
        LCHECK(fibril_mutex_new(FIBRIL_SHARED, &lworld.locks[i].mutex) == 0);
        LCHECK(fibril_cond_new(FIBRIL_SHARED, &lworld.locks[i].cond) == 0);
    }
    for (int i = 0; i < L_SEMS; i++) {
        lworld.sems[i].tokens = lchoose(3);
        LCHECK(fibril_sem_new((unsigned)lworld.sems[i].tokens, FIBRIL_SHARED,
                              &lworld.sems[i].sem) == 0);
    }
    lworld.writer = -1;
    LCHECK(fibril_rwlock_new(FIBRIL_SHARED, &lworld.rwlock) == 0);
    LCHECK(fibril_event_new(FIBRIL_SHARED, &lworld.event) == 0);
}

static void end_world(void)
{
    lchan_drain();
    for (int i = 0; i < L_LOCKS; i++) {
        LCHECK(lworld.locks[i].owner == -1 && !fibril_mutex_owner(lworld.locks[i].mutex));
        fibril_mutex_free(lworld.locks[i].mutex);
        fibril_cond_free(lworld.locks[i].cond);
    }
    for (int i = 0; i < L_SEMS; i++) {
        while (fibril_sem_try_wait(lworld.sems[i].sem) == 0) {
            lworld.sems[i].tokens--;
        }
        LCHECK(lworld.sems[i].tokens == 0);
        fibril_sem_free(lworld.sems[i].sem);
    }
    LCHECK(lworld.readers == 0 && lworld.writer == -1);
    fibril_rwlock_free(lworld.rwlock);
    fibril_event_free(lworld.event);
    for (int i = 0; i < lworld.count; i++) {
        fibril_waker_free(lworld.players[i].waker);
    }
}

static void join_all(void)
{
    for (int i = 0; i < lworld.count; i++) { /* more may come meanwhile */
        struct lplayer *p = &lworld.players[i];
        while (p->claimed) { /* by one who may give up */
            LCHECK(fibril_sleep(INT64_C(10000000000)) == 0);
        }
        if (p->handle) {
            int result = -1;
            p->claimed = true;
            LCHECK(fibril_join(p->handle, FIBRIL_FOREVER, &result) == 0);
            LCHECK(p->ended && result == p->result);
            p->handle = NULL;
        }
    }
    while (lworld.alive > 0) {
        LCHECK(fibril_sleep(INT64_C(10000000000)) == 0);
    }
}

static int main_fibril(void *arg)
{
    (void)arg;
    int64_t start = lworld.now_ns = fibril_now();
    for (unsigned i = 0; i < lworld.loops; i++) {
        lworld.loop[i] = fibril_loop_at(i);
        LCHECK(lworld.loop[i]);
    }
    make_world();
    for (unsigned n = 3 + lchoose(8); n > 0; n--) {
        lplayer_new(lworld.loop[lchoose(lworld.loops)], /* handle= */ true);
    }
    do {
        join_all();
    } while (lworld.alive > 0);
    lworld.result.virtual_ns = fibril_now() - start;
    end_world();
    return 0;
}

void loops_run(const struct script *script, struct script_result *ret_result)
{
    memset(&lworld, 0, sizeof lworld);
    lworld.script = script;
    lworld.random = script->seed ^ UINT64_C(0x6c6f6f7073);
    lworld.loops = 2 + lchoose(L_LOOPS - 1);
    struct fibril_opts opts = {
        .poller = "sim", .seed = script->seed, .loops = lworld.loops, .run_stack_bytes = 64 << 10};
    fibril__turns_begin(script->seed, 1000000000);
    LCHECK(fibril_run(&opts, main_fibril, NULL) == 0);
    lworld.result.hash = fibril__turns_end();
    *ret_result = lworld.result;
}
