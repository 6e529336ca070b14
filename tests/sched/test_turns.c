/* SPDX-License-Identifier: MIT */
/*
 * Turns: fibrils of a runtime with a scheduler of its own, which here is a ring in an array.
 * Whoever runs notes it; what is noted must be what the ring says, whatever lies on the stacks
 * meanwhile.
 */
#include "base/alloc.h"
#include "base/compiler.h"
#include "sched/loop.h"
#include "test.h"

#include <errno.h>
#include <fibril/embed.h>
#include <string.h>

enum { MANY = 40, STEPS = 2000 };

struct player {
    struct fibril_turn turn;
    struct fibril *fibril;
    int number, steps;
    bool out, back, ended;
    const char *where;
};

static struct player players[MANY], base;
static struct player *held[MANY];
static int held_len, lefts, backs;
static bool hold;

static struct player *player_of(struct fibril_turn *t)
{
    return CONTAINER_OF(t, struct player, turn);
}

static void left(struct fibril *f, struct fibril_turn *t)
{
    ASSERT(player_of(t)->fibril == f);
    player_of(t)->out = true;
    lefts++;
}

static bool back(struct fibril *f, struct fibril_turn *t)
{
    ASSERT(player_of(t)->fibril == f);
    player_of(t)->back = true;
    backs++;
    if (hold) {
        held[held_len++] = player_of(t);
    }
    return hold;
}

static const struct fibril_turn_hooks hooks = {.left = left, .back = back};

/* The caller takes part, too. */
static void begin(void)
{
    fibril_turn_hooks(&hooks);
    base.fibril = fibril_current();
    base.turn.leader = base.fibril;
    fibril_turn_join(base.fibril, &base.turn);
    hold = false;
    held_len = lefts = backs = 0;
}

static void make(struct player *p, int number, fibril_fn *fn)
{
    *p = (struct player){.number = number};
    p->turn.leader = base.fibril;
    ASSERT_OK(fibril_turn_new(fn, p, &p->turn, &p->fibril));
}

/* The last thing a player does, so that the base goes on. */
static void end(struct player *p)
{
    p->ended = true;
    fibril_turn_leave(p->fibril, &p->turn);
    fibril_turn_let_first(base.fibril);
}

static void finish(void)
{
    fibril_turn_leave(base.fibril, &base.turn);
}

static int run(int (*fn)(void *arg))
{
    return fibril_run(NULL, fn, NULL);
}

/* ---- who runs ---- */

static uint64_t seed;
static uint64_t pick(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

static struct player *expected;
static int noted;

/* Hands over to anybody who has not ended, from a random depth, with a mark on each frame. */
static void wander(struct player *p, int depth)
{
    unsigned char mark[48];
    memset(mark, p->number + depth, sizeof mark);
    __asm__ volatile("" : : "r"(mark) : "memory");
    if (depth > 0) {
        wander(p, depth - 1);
    } else {
        struct player *to;
        do {
            to = &players[pick(MANY)];
        } while (to == p || to->ended);
        expected = to;
        noted++;
        ASSERT_OK(fibril_turn_hand_over(to->fibril));
        ASSERT(expected == p);
        ASSERT(fibril_current() == p->fibril);
    }
    for (size_t i = 0; i < sizeof mark; i++) {
        ASSERT_EQ(mark[i], (unsigned char)(p->number + depth));
    }
}

static int wanderer(void *arg)
{
    struct player *p = arg;
    ASSERT(expected == p);
    while (noted < STEPS) {
        wander(p, (int)pick(20));
    }
    end(p);
    return 0;
}

static int let_them_wander(void *arg)
{
    (void)arg;
    begin();
    for (int i = 0; i < MANY; i++) {
        make(&players[i], i, wanderer);
    }
    for (int i = 0; i < MANY; i++) { /* each ends when its turn comes again */
        while (!players[i].ended) {
            expected = &players[i];
            ASSERT_OK(fibril_turn_hand_over(players[i].fibril));
        }
    }
    ASSERT_GE(noted, STEPS);
    ASSERT_EQ(lefts + backs, 0);
    finish();
    return 0;
}

TEST(whoever_is_handed_the_loop_runs_next_and_finds_its_stack)
{
    for (uint64_t i = 1; i <= 10; i++) {
        seed = i;
        noted = 0;
        ASSERT_OK(run(let_them_wander));
    }
}

/* ---- parking elsewhere ---- */

static int sleeper(void *arg)
{
    struct player *p = arg;
    ASSERT_OK(fibril_sleep(1));
    ASSERT(p->out && p->back);
    end(p);
    return 0;
}

static int hold_sleepers(void *arg)
{
    (void)arg;
    begin();
    hold = true;
    for (int i = 0; i < MANY; i++) {
        make(&players[i], i, sleeper);
        fibril_turn_let(players[i].fibril);
    }
    fibril_turn_leave(base.fibril, &base.turn); /* this one may wait without being told of */
    while (held_len < MANY) {
        fibril_sleep(1000);
    }
    fibril_turn_join(base.fibril, &base.turn);
    ASSERT_EQ(lefts, MANY);
    for (int i = 0; i < MANY; i++) {
        struct player *p = held[MANY - 1 - i];
        ASSERT(!p->ended);
        fibril_turn_let(p->fibril);
        fibril_turn_wait();
        ASSERT(p->ended);
    }
    finish();
    return 0;
}

TEST(one_that_is_back_waits_until_it_is_let)
{
    ASSERT_OK(run(hold_sleepers));
}

/* ---- where the stacks are ---- */

/* Not for ASan, which keeps locals elsewhere. */
__attribute__((no_sanitize_address)) static int pointer(void *arg)
{
    struct player *p = arg;
    char text[16] = "here";
    size_t bytes;
    char *low = fibril_turn_stack(p->fibril, &bytes);
    ASSERT(text >= low && text < low + bytes);
    ASSERT(fibril_turn_shares(text));
    p->where = text;
    text[4] = (char)('a' + p->number % 26);
    ASSERT_OK(fibril_turn_hand_over(base.fibril));
    ASSERT_EQ(text[4], 'a' + p->number % 26);
    end(p);
    return 0;
}

static int find_bytes(void *arg)
{
    (void)arg;
    int here = 0;
    begin();
    for (int i = 0; i < MANY; i++) {
        make(&players[i], i, pointer);
        ASSERT_OK(fibril_turn_hand_over(players[i].fibril));
    }
    ASSERT(!fibril_turn_shares(&here));
    for (int i = 0; i < MANY; i++) {
        void *p = (void *)(uintptr_t)players[i].where;
        const char *at = fibril_turn_at(players[i].fibril, p);
        ASSERT_MEM(at, "here", 4);
        ASSERT_EQ(at[4], 'a' + i % 26);
    }
    for (int i = 0; i < MANY; i += 2) {
        ASSERT_OK(fibril_turn_hand_over(players[i].fibril));
        ASSERT(players[i].ended);
    }
    for (int i = 1; i < MANY; i += 2) {
        fibril_turn_drop(players[i].fibril);
    }
    finish();
    return 0;
}

TEST(bytes_of_a_parked_stack_are_found_and_dropped_ones_leave_nothing)
{
    ASSERT_OK(run(find_bytes));
    int64_t live = fibril__alloc_live();
    ASSERT_OK(run(find_bytes));
    ASSERT_EQ(fibril__alloc_live(), live);
}

/* ---- no memory ---- */

static int never(void *arg)
{
    (void)arg;
    ASSERT(false);
    return 0;
}

static int hander(void *arg)
{
    struct player *p = arg;
    fibril__alloc_fail_after(0);
    int rc = fibril_turn_hand_over(base.fibril);
    fibril__alloc_fail_after(-1);
    ASSERT(rc == 0 || rc == -ENOMEM);
    ASSERT(fibril_current() == p->fibril);
    p->steps = rc;
    end(p);
    return 0;
}

static int without_memory(void *arg)
{
    (void)arg;
    begin();
    int made = 0;
    for (int64_t n = 0; made == 0; n++) {
        struct player *p = &players[0];
        *p = (struct player){.turn.leader = base.fibril};
        fibril__alloc_fail_after(n);
        int rc = fibril_turn_new(never, p, &p->turn, &p->fibril);
        fibril__alloc_fail_after(-1);
        ASSERT(rc == 0 || rc == -ENOMEM);
        made += rc == 0;
        ASSERT_LT(n, 20);
    }
    fibril_turn_drop(players[0].fibril);
    int failed = 0;
    for (int i = 0; i < MANY; i++) {
        make(&players[i], i, hander);
        ASSERT_OK(fibril_turn_hand_over(players[i].fibril));
        while (!players[i].ended) {
            ASSERT_OK(fibril_turn_hand_over(players[i].fibril));
        }
        failed += players[i].steps == -ENOMEM;
    }
    ASSERT_GT(failed, 0);
    finish();
    return 0;
}

TEST(a_turn_that_cannot_be_made_or_left_fails_at_once)
{
    ASSERT_OK(run(without_memory));
}

/* ---- what it waits for ---- */

static struct fibril_waker *waker;
static char thing;

static int waits(void *arg)
{
    struct player *p = arg;
    struct fibril_waker_info info = {.name = "thing", .object = &thing, .inside = true};
    ASSERT_OK(fibril_waker_wait_as(waker, &info, FIBRIL_FOREVER));
    end(p);
    return 0;
}

static int ask(void *arg)
{
    (void)arg;
    begin();
    ASSERT_OK(fibril_waker_new(&waker));
    make(&players[0], 0, waits);
    ASSERT(!fibril_embed_waits_for(players[0].fibril));
    fibril_turn_let(players[0].fibril);
    fibril_turn_leave(base.fibril, &base.turn);
    fibril_yield();
    ASSERT(fibril_embed_waits_for(players[0].fibril) == &thing);
    ASSERT(!fibril_embed_waits_for_file(players[0].fibril));
    fibril_turn_join(base.fibril, &base.turn);
    fibril_waker_wake(waker);
    fibril_turn_wait();
    ASSERT(players[0].ended);
    fibril_waker_free(waker);
    finish();
    return 0;
}

TEST(the_object_of_a_wait_can_be_asked_for)
{
    ASSERT_OK(run(ask));
}
