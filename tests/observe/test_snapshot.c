/* SPDX-License-Identifier: MIT */
/*
 * What can be seen of actors, fibrils and loops, in virtual time where time matters.
 */
#include "actor/rig.h"

#include <fibril/observe.h>
#include <fibril/supervisor.h>

enum { FEW = 10 };

static uint64_t few[FEW];

/* Actors that do not receive: number i has i messages waiting. */
static int deaf(void *arg)
{
    return fibril_sleep_until(FIBRIL_FOREVER);
}

static void spawn_few(void)
{
    for (int i = 0; i < FEW; i++) {
        few[i] = spawn(deaf, NULL);
        for (int k = 0; k < i; k++) {
            tell(few[i], 1, k);
        }
    }
    settle();
}

ACTOR_TEST(actors_are_sorted_by_what_waits_for_them)
{
    struct fibril_observe_query q = {.sort = FIBRIL_SORT_WAITING, .descending = true};
    struct fibril_observed_actor rows[3];
    struct fibril_observed_sum sum;
    spawn_few();
    ASSERT_EQ(fibril_observe_actors(&q, rows, 3, &sum), 3);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(rows[i].actor, few[FEW - 1 - i]);
        ASSERT_EQ(rows[i].waiting, FEW - 1 - i);
        ASSERT_EQ(rows[i].waiting_bytes, (FEW - 1 - i) * (int)sizeof(int));
        ASSERT(rows[i].answered);
        ASSERT_STR(rows[i].state, "waits: sleep");
        ASSERT_GT(rows[i].memory, 0);
    }
    ASSERT_EQ(sum.actors, FEW);
    ASSERT_EQ(sum.waiting, FEW * (FEW - 1) / 2);
    return 0;
}

ACTOR_TEST(pages_follow_each_other_without_overlap)
{
    struct fibril_observed_actor rows[4];
    uint64_t before = 0;
    size_t found = 0;
    spawn_few();
    for (size_t skip = 0; skip < FEW + 4; skip += 4) {
        struct fibril_observe_query q = {.skip = skip};
        int n = fibril_observe_actors(&q, rows, 4, NULL);
        ASSERT_OK(n);
        for (int i = 0; i < n; i++, found++) {
            ASSERT_GT(rows[i].actor, before);
            before = rows[i].actor;
        }
    }
    ASSERT_EQ(found, FEW);
    return 0;
}

ACTOR_TEST(the_oldest_message_has_its_age)
{
    struct fibril_observe_query q = {.sort = FIBRIL_SORT_OLDEST, .descending = true};
    struct fibril_observed_actor rows[2];
    ASSERT_OK(fibril_observe_cpu(true));
    uint64_t a = spawn(deaf, NULL), b = spawn(deaf, NULL);
    tell(a, 1, 0);
    fibril_sleep(MS(100));
    ASSERT_OK(fibril_observe_cpu(true)); /* sets the date anew */
    tell(b, 1, 0);
    tell(b, 1, 1);
    fibril_sleep(MS(100));
    ASSERT_EQ(fibril_observe_actors(&q, rows, 2, NULL), 2);
    ASSERT_EQ(rows[0].actor, a);
    ASSERT_EQ(rows[1].actor, b);
    ASSERT_GE(rows[0].oldest_ns, MS(200));
    ASSERT_GE(rows[1].oldest_ns, MS(100));
    ASSERT_LT(rows[1].oldest_ns, MS(200));
    ASSERT_OK(fibril_observe_cpu(false));
    return 0;
}

ACTOR_TEST(impossible_queries_are_refused)
{
    struct fibril_observed_actor row;
    struct fibril_observed_fibril f;
    struct fibril_observe_query q = {.sort = FIBRIL_SORTS};
    ASSERT_ERR(fibril_observe_actors(&q, &row, 1, NULL), -EINVAL);
    q = (struct fibril_observe_query){.skip = FIBRIL_OBSERVE_ROWS_MAX};
    ASSERT_ERR(fibril_observe_actors(&q, &row, 1, NULL), -EINVAL);
    q = (struct fibril_observe_query){.sort = FIBRIL_SORT_WAITING};
    ASSERT_ERR(fibril_observe_fibrils(&q, &f, 1, NULL), -EINVAL);
    return 0;
}

TEST(outside_fibrils_nothing_is_seen)
{
    struct fibril_observe_query q = {0};
    struct fibril_observed_actor row;
    struct fibril_observed_loop loop;
    ASSERT_ERR(fibril_observe_actors(&q, &row, 1, NULL), -EPERM);
    ASSERT_ERR(fibril_observe_loops(&loop, 1), -EPERM);
}

static int fails_when_told(void *arg)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc == 0) {
        fibril_message_free(m);
        return -EIO;
    }
    return rc;
}

static const struct fibril_child_spec leaves[] = {{.id = "leaf", .fn = fails_when_told}};
static const struct fibril_supervisor_spec branch = {.children = leaves, .n_children = 1};
static const struct fibril_child_spec top_children[] = {
    {.id = "branch", .supervisor = &branch},
    {.id = "worker", .fn = fails_when_told},
};
static const struct fibril_supervisor_spec top_spec = {
    .name = "top", .children = top_children, .n_children = 2};

ACTOR_TEST(the_tree_of_supervisors_is_seen_with_its_restarts)
{
    uint64_t top;
    size_t total;
    struct fibril_observed_child children[4];
    struct fibril_observed_actor rows[4];
    ASSERT_OK(fibril_supervisor_start(&top_spec, NULL, &top));
    ASSERT_EQ(fibril_observe_children(top, 0, children, 4, &total), 2);
    ASSERT_EQ(total, 2);
    tell(children[1].actor, 1, 0);
    fibril_sleep(MS(10));
    ASSERT_EQ(fibril_observe_children(top, 0, children, 4, NULL), 2);
    ASSERT_STR(children[0].id, "branch");
    ASSERT(children[0].supervises);
    ASSERT_STR(children[1].id, "worker");
    ASSERT_EQ(children[1].restarts, 1);
    struct fibril_observe_query q = {.supervisors = true};
    ASSERT_EQ(fibril_observe_actors(&q, rows, 4, NULL), 2);
    ASSERT_EQ(rows[0].actor, top);
    ASSERT_STR(rows[0].name, "top");
    ASSERT_EQ(rows[0].children, 2);
    ASSERT_EQ(rows[1].supervisor, top);
    ASSERT_STR(rows[1].name, "branch");
    q = (struct fibril_observe_query){.sort = FIBRIL_SORT_ID, .descending = true};
    bool seen = false;
    int n = fibril_observe_actors(&q, rows, 4, NULL);
    for (int i = 0; i < n; i++) {
        if (rows[i].actor == children[1].actor) {
            seen = true;
            ASSERT_EQ(rows[i].supervisor, top);
            ASSERT_EQ(rows[i].restarts, 1);
        }
    }
    ASSERT(seen);
    ASSERT_ERR(fibril_observe_children(children[1].actor, 0, children, 4, NULL), -ESRCH);
    fibril_actor_exit(top, FIBRIL_EXIT_SHUTDOWN);
    fibril_sleep(MS(10));
    return 0;
}

ACTOR_TEST(fibrils_are_seen_by_how_long_they_wait)
{
    struct fibril_observe_query q = {.sort = FIBRIL_SORT_SINCE, .descending = true};
    struct fibril_spawn_opts opts = {.name = "early", .daemon = true};
    struct fibril_observed_fibril rows[64];
    size_t total;
    ASSERT_OK(fibril_spawn(deaf, NULL, &opts, NULL));
    fibril_sleep(MS(50));
    opts.name = "late";
    ASSERT_OK(fibril_spawn(deaf, NULL, &opts, NULL));
    fibril_sleep(MS(50));
    int n = fibril_observe_fibrils(&q, rows, 64, &total);
    ASSERT_GE(n, 3);
    ASSERT_EQ(total, n);
    int early = -1, late = -1;
    for (int i = 0; i < n; i++) {
        early = strcmp(rows[i].name, "early") == 0 ? i : early;
        late = strcmp(rows[i].name, "late") == 0 ? i : late;
    }
    ASSERT_GE(early, 0);
    ASSERT_GT(late, early);
    ASSERT_GE(rows[early].since_ns, MS(100));
    ASSERT_STR(rows[late].state, "waits: sleep");
    ASSERT(rows[late].daemon);
    return 0;
}

static int two_loops(void *arg)
{
    struct fibril_observed_loop rows[4];
    struct fibril_observed_actor actors[2];
    struct fibril_actor_opts opts = {.loop = fibril_loop_at(1), .name = "there"};
    uint64_t there;
    ASSERT_OK(fibril_actor_spawn(idle, NULL, &opts, &there));
    ASSERT_EQ(fibril_observe_loops(rows, 4), 2);
    for (int i = 0; i < 2; i++) {
        ASSERT(rows[i].answered);
        ASSERT_EQ(rows[i].loop, i);
        ASSERT_GT(rows[i].cpu_ns, 0);
    }
    struct fibril_observe_query q = {0};
    ASSERT_EQ(fibril_observe_actors(&q, actors, 2, NULL), 1);
    ASSERT(actors[0].answered);
    ASSERT_EQ(actors[0].loop, 1);
    ASSERT_STR(actors[0].name, "there");
    return 0;
}

TEST(other_loops_fill_in_their_own_rows)
{
    ASSERT_OK(fibril_run(&(struct fibril_opts){.loops = 2}, two_loops, NULL));
}

static int spins(void *arg)
{
    volatile unsigned n = 0;
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned k = 0; k < 1000000; k++) {
            n = n + k;
        }
        fibril_yield();
    }
    return fibril_sleep_until(FIBRIL_FOREVER);
}

static int top_by_cpu(void *arg)
{
    struct fibril_observe_query q = {.sort = FIBRIL_SORT_CPU, .descending = true};
    struct fibril_observed_actor rows[2];
    ASSERT_OK(fibril_observe_cpu(true));
    spawn(idle, NULL);
    uint64_t busy = spawn(spins, NULL);
    spawn(idle, NULL);
    for (int i = 0; i < 25; i++) {
        fibril_yield();
    }
    fibril_sleep(MS(20));
    ASSERT_EQ(fibril_observe_actors(&q, rows, 2, NULL), 2);
    ASSERT_EQ(rows[0].actor, busy);
    ASSERT_GT(rows[0].cpu_ns, rows[1].cpu_ns);
    ASSERT_OK(fibril_observe_cpu(false));
    return 0;
}

TEST(who_uses_the_processor_comes_first)
{
    ASSERT_OK(fibril_run(NULL, top_by_cpu, NULL));
}

static int many(void *arg)
{
    int n = test_is_slow() ? 5000 : 100000;
    struct fibril_actor_opts opts = {.stack = FIBRIL_STACK_COPIED};
    struct fibril_observe_query q = {.sort = FIBRIL_SORT_WAITING, .descending = true};
    struct fibril_observed_actor *rows = calloc(50, sizeof *rows);
    struct fibril_observed_sum sum;
    uint64_t last = 0;
    for (int i = 0; i < n; i++) {
        ASSERT_OK(fibril_actor_spawn(deaf, NULL, &opts, &last));
    }
    settle();
    tell(last, 1, 0);
    ASSERT_EQ(fibril_observe_actors(&q, rows, 50, &sum), 50);
    ASSERT_EQ(rows[0].actor, last);
    ASSERT_EQ(sum.actors, n);
    q.skip = (size_t)n - 10;
    ASSERT_EQ(fibril_observe_actors(&q, rows, 50, &sum), 10);
    free(rows);
    return 0;
}

TEST_WITHIN(a_hundred_thousand_actors_are_paged, 120)
{
    ASSERT_OK(fibril_run(NULL, many, NULL));
}
