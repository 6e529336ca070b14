/* SPDX-License-Identifier: MIT */
/* Pools: lending in order, coming back, giving up, workers that end, overflow, health, the end. */
#include "rig.h"

#include "base/alloc.h"

#include <fibril/pool.h>
#include <fibril/supervisor.h>

enum { WHO = 1, HANG, FAIL };

/* How workers begin and end in the test. */
static struct {
    int init_result;
    int64_t init_ns;
    int begun, ended;
} worker;

static int init(struct fibril_server *s, void *state, void *arg)
{
    (void)s;
    (void)arg;
    if (worker.init_ns && fibril_sleep(worker.init_ns) < 0) {
        return -ECANCELED;
    }
    if (worker.init_result == 0) {
        *(int *)state = ++worker.begun;
    }
    return worker.init_result;
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    (void)s;
    switch (fibril_message_tag(m)) {
    case WHO: return fibril_server_reply(fibril_message_from(m), state, sizeof(int));
    case HANG: return fibril_sleep(MS(100000));
    default: return -EIO;
    }
}

static void terminate(struct fibril_server *s, void *state, int reason)
{
    (void)s;
    (void)state;
    (void)reason;
    worker.ended++;
}

static const struct fibril_server_type numbered = {.name = "numbered",
                                                   .state_bytes = sizeof(int),
                                                   .init = init,
                                                   .call = on_call,
                                                   .terminate = terminate};

static uint64_t start(struct fibril_pool_spec spec)
{
    struct fibril_actor_opts opts = {.stack = rig_stack};
    uint64_t pool = 0;
    spec.server = spec.fn ? NULL : &numbered;
    spec.worker.stack = rig_stack;
    ASSERT_OK(fibril_pool_start(&spec, &opts, fibril_after(MS(1000)), &pool));
    return pool;
}

static uint64_t checkout(uint64_t pool)
{
    uint64_t w = 0;
    ASSERT_OK(fibril_pool_checkout(pool, fibril_after(MS(1000)), &w));
    ASSERT(fibril_actor_alive(w));
    return w;
}

static void expect_empty(uint64_t pool, int64_t wait_ns)
{
    uint64_t w;
    ASSERT_ERR(fibril_pool_checkout(pool, fibril_after(wait_ns), &w), -ETIMEDOUT);
}

static int number_of(uint64_t w)
{
    int n = 0;
    ASSERT_OK(fibril_server_call(w, WHO, NULL, 0, fibril_after(MS(1000)), &n, sizeof n));
    return n;
}

static struct fibril_pool_status status(uint64_t pool)
{
    struct fibril_pool_status s;
    ASSERT_OK(fibril_pool_status(pool, fibril_after(MS(1000)), &s));
    return s;
}

/* A caller: borrows, holds, gives back. */
struct caller {
    uint64_t pool, worker;
    int64_t wait_ns, hold_ns;
    int result, turn; /* of those that got one */
};

static int turns;

static int borrows(void *arg)
{
    struct caller *c = arg;
    c->result = fibril_pool_checkout(
        c->pool, c->wait_ns ? fibril_after(c->wait_ns) : FIBRIL_FOREVER, &c->worker);
    if (c->result < 0) {
        return 0;
    }
    c->turn = ++turns;
    if (fibril_sleep(c->hold_ns) == 0) {
        ASSERT_OK(fibril_pool_checkin(c->pool, c->worker));
    }
    return 0;
}

/* ---- lending ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_worker_is_lent_to_one_at_a_time_and_comes_back)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 2});
    ASSERT_EQ(worker.begun, 2);
    uint64_t a = checkout(pool), b = checkout(pool);
    ASSERT_NE(a, b);
    ASSERT_EQ(number_of(a) + number_of(b), 3);
    expect_empty(pool, MS(10));
    ASSERT_OK(fibril_pool_checkin(pool, a));
    ASSERT_EQ(checkout(pool), a);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(callers_are_served_in_their_order)
{
    static struct caller callers[6];
    uint64_t pool = start((struct fibril_pool_spec){.size = 1});
    for (int i = 0; i < 6; i++) {
        callers[i] = (struct caller){.pool = pool, .hold_ns = MS(10)};
        spawn(borrows, &callers[i]);
        ASSERT_OK(fibril_sleep(MS(1)));
    }
    ASSERT_EQ(status(pool).waiting, 5);
    ASSERT_OK(fibril_sleep(MS(100)));
    for (int i = 0; i < 6; i++) {
        ASSERT_OK(callers[i].result);
        ASSERT_EQ(callers[i].turn, i + 1);
    }
    ASSERT_EQ(status(pool).idle, 1);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(the_oldest_or_the_newest_is_lent_as_was_said)
{
    uint64_t oldest = start((struct fibril_pool_spec){.size = 3});
    uint64_t newest = start((struct fibril_pool_spec){.size = 3, .newest_first = true});
    uint64_t a = checkout(oldest), b = checkout(newest);
    ASSERT_OK(fibril_pool_checkin(oldest, a));
    ASSERT_OK(fibril_pool_checkin(newest, b));
    ASSERT_NE(checkout(oldest), a);
    ASSERT_EQ(checkout(newest), b);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(as_many_wait_as_may)
{
    static struct caller c;
    uint64_t pool = start((struct fibril_pool_spec){.size = 1, .waiting_max = 1}), w;
    checkout(pool);
    c.pool = pool;
    spawn(borrows, &c);
    settle();
    ASSERT_ERR(fibril_pool_checkout(pool, FIBRIL_FOREVER, &w), -EAGAIN);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(who_gives_up_waiting_waits_no_more)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool);
    expect_empty(pool, MS(10));
    ASSERT_EQ(status(pool).waiting, 0);
    ASSERT_OK(fibril_pool_checkin(pool, w));
    ASSERT_EQ(status(pool).idle, 1);
    ASSERT_EQ(checkout(pool), w);
    return 0;
}

/* Whatever comes first in the instant, the deadline or the worker: nothing is lost. */
ACTOR_TEST_ON_BOTH_STACKS(a_worker_that_is_lent_at_the_deadline_is_not_lost)
{
    static struct caller holder, waiter;
    uint64_t pool = start((struct fibril_pool_spec){.size = 1});
    for (int i = -3; i <= 3; i++) {
        holder = (struct caller){.pool = pool, .hold_ns = MS(10)};
        waiter = (struct caller){.pool = pool, .wait_ns = MS(9) + i, .hold_ns = MS(1)};
        spawn(borrows, &holder);
        ASSERT_OK(fibril_sleep(MS(1)));
        spawn(borrows, &waiter);
        ASSERT_OK(fibril_sleep(MS(20)));
        ASSERT(waiter.result == 0 || waiter.result == -ETIMEDOUT);
        ASSERT_EQ(status(pool).idle, 1);
        ASSERT_EQ(status(pool).lent, 0);
    }
    return 0;
}

/* ---- borrowers that end ---- */

ACTOR_TEST_ON_BOTH_STACKS(the_end_of_a_borrower_returns_the_worker)
{
    static struct caller c;
    uint64_t pool = start((struct fibril_pool_spec){.size = 1});
    c = (struct caller){.pool = pool, .hold_ns = MS(100000)};
    uint64_t borrower = spawn(borrows, &c);
    settle();
    expect_empty(pool, MS(1));
    ASSERT_OK(fibril_actor_exit(borrower, FIBRIL_EXIT_KILL));
    ASSERT_EQ(checkout(pool), c.worker);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(the_end_of_one_who_waits_leaves_no_gap)
{
    static struct caller c[2];
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool), waits[2];
    for (int i = 0; i < 2; i++) {
        c[i] = (struct caller){.pool = pool, .hold_ns = MS(1)};
        waits[i] = spawn(borrows, &c[i]);
        settle();
    }
    ASSERT_OK(fibril_actor_exit(waits[0], FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(status(pool).waiting, 1);
    ASSERT_OK(fibril_pool_checkin(pool, w));
    ASSERT_OK(fibril_sleep(MS(5)));
    ASSERT_EQ(c[0].result, -ECANCELED);
    ASSERT_OK(c[1].result);
    ASSERT_EQ(status(pool).idle, 1);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(only_its_borrower_gives_a_worker_back)
{
    static struct caller c;
    uint64_t pool = start((struct fibril_pool_spec){.size = 1});
    c = (struct caller){.pool = pool, .hold_ns = MS(20)};
    spawn(borrows, &c);
    settle();
    ASSERT_OK(fibril_pool_checkin(pool, c.worker));
    ASSERT_OK(fibril_pool_discard(pool, c.worker));
    ASSERT_OK(fibril_pool_checkin(pool, 12345));
    expect_empty(pool, MS(1));
    ASSERT_EQ(status(pool).lent, 1);
    return 0;
}

/* ---- workers that end ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_worker_that_is_killed_while_lent_is_replaced)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool);
    ASSERT_OK(fibril_actor_exit(w, FIBRIL_EXIT_KILL));
    uint64_t other = checkout(pool);
    ASSERT_NE(other, w);
    ASSERT_EQ(number_of(other), 2);
    ASSERT_OK(fibril_pool_checkin(pool, w)); /* it is gone: nothing happens */
    ASSERT_EQ(status(pool).lent, 1);
    ASSERT_EQ(status(pool).died, 1);
    ASSERT_EQ(status(pool).last_error, FIBRIL_EXIT_KILLED);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(an_idle_worker_that_fails_is_replaced)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool);
    ASSERT_OK(fibril_pool_checkin(pool, w));
    ASSERT_ERR(fibril_server_call(w, FAIL, NULL, 0, FIBRIL_FOREVER, NULL, 0), -EPIPE);
    ASSERT_EQ(number_of(checkout(pool)), 2);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(starts_that_fail_are_tried_again_after_longer_and_longer_pauses)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool);
    int64_t began = fibril_now();
    worker.init_result = -ECONNREFUSED;
    ASSERT_OK(fibril_pool_discard(pool, w));
    ASSERT_OK(fibril_sleep(MS(75))); /* at once, after 10, 30, 70 ms */
    ASSERT_EQ(status(pool).failed, 4);
    ASSERT_EQ(status(pool).last_error, -ECONNREFUSED);
    worker.init_result = 0;
    ASSERT_EQ(number_of(checkout(pool)), 2);
    ASSERT_EQ((fibril_now() - began) / MS(10), 15);
    return 0;
}

static int ends_at_once(void *arg)
{
    ++*(int *)arg;
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(workers_that_end_unused_do_not_spin)
{
    static int begun;
    uint64_t pool = start((struct fibril_pool_spec){.fn = ends_at_once, .arg = &begun, .size = 1});
    ASSERT_OK(fibril_sleep(MS(1000)));
    ASSERT_LT(begun, 10);
    ASSERT_GT(begun, 3);
    ASSERT(fibril_actor_alive(pool));
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_worker_that_begins_slowly_delays_nobody_else)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 2}), a = checkout(pool);
    worker.init_ns = MS(500);
    ASSERT_OK(fibril_actor_exit(checkout(pool), FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(status(pool).starting, 1);
    int64_t began = fibril_now();
    ASSERT_OK(fibril_pool_checkin(pool, a));
    ASSERT_EQ(checkout(pool), a);
    ASSERT_LT(fibril_now() - began, MS(1));
    checkout(pool);
    ASSERT_GE(fibril_now() - began, MS(400));
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(one_that_comes_back_is_kept_while_another_begins_slowly)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 2, .overflow = 1}), w;
    uint64_t a = checkout(pool), b = checkout(pool);
    checkout(pool);
    worker.init_ns = MS(500);
    ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_KILL));
    expect_empty(pool, MS(1)); /* and one more is started */
    ASSERT_EQ(status(pool).starting, 1);
    ASSERT_OK(fibril_pool_checkin(pool, b));
    ASSERT_OK(fibril_pool_checkout(pool, fibril_after(MS(1)), &w));
    ASSERT_EQ(w, b);
    return 0;
}

/* Traps exits, and so ends only when it is killed. */
static int ignores_shutdown(void *arg)
{
    (void)arg;
    return fibril_sleep(MS(100000));
}

/* ---- too many, too few ---- */

ACTOR_TEST_ON_BOTH_STACKS(overflow_workers_come_when_needed_and_go)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1, .overflow = 2});
    uint64_t a = checkout(pool), b = checkout(pool), c = checkout(pool);
    ASSERT_EQ(status(pool).lent, 3);
    expect_empty(pool, MS(1));
    ASSERT_OK(fibril_pool_checkin(pool, b));
    ASSERT_OK(fibril_pool_checkin(pool, c));
    settle();
    ASSERT_EQ(worker.ended, 2);
    ASSERT(!fibril_actor_alive(b));
    ASSERT_OK(fibril_pool_checkin(pool, a));
    settle();
    ASSERT_EQ(status(pool).idle, 1);
    ASSERT_EQ(status(pool).ending, 0);
    ASSERT_EQ(status(pool).died, 0);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_discarded_worker_is_ended_and_replaced)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1}), w = checkout(pool);
    ASSERT_OK(fibril_pool_discard(pool, w));
    ASSERT_EQ(number_of(checkout(pool)), 2);
    ASSERT(!fibril_actor_alive(w));
    ASSERT_EQ(worker.ended, 1);
    ASSERT_EQ(status(pool).discarded, 1);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_pool_calls_for_its_users)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 1});
    struct fibril_message *reply;
    ASSERT_OK(fibril_pool_call(pool, note(WHO, 0), fibril_after(MS(10)), &reply));
    ASSERT_EQ(value_of(reply), 1);
    fibril_message_free(reply);
    ASSERT_EQ(status(pool).idle, 1);
    ASSERT_ERR(fibril_pool_call(pool, note(HANG, 0), fibril_after(MS(10)), &reply), -ETIMEDOUT);
    ASSERT_OK(fibril_pool_call(pool, note(WHO, 0), fibril_after(MS(10)), &reply));
    ASSERT_EQ(value_of(reply), 2);
    fibril_message_free(reply);
    ASSERT_ERR(fibril_pool_call(pool, note(FAIL, 0), fibril_after(MS(10)), &reply), -EPIPE);
    ASSERT_EQ(status(pool).discarded, 1);
    return 0;
}

/* ---- health ---- */

static int checks, sick;

static int check(uint64_t w, void *arg)
{
    (void)arg;
    checks++;
    return number_of(w) == sick ? -EIO : 0;
}

ACTOR_TEST_ON_BOTH_STACKS(the_idle_are_looked_after_and_the_sick_replaced)
{
    uint64_t pool =
        start((struct fibril_pool_spec){.size = 3, .check = check, .check_ns = MS(100)});
    checkout(pool);
    ASSERT_OK(fibril_sleep(MS(150)));
    ASSERT_EQ(checks, 2);
    ASSERT_EQ(status(pool).idle, 2);
    sick = 3;
    ASSERT_OK(fibril_sleep(MS(100)));
    ASSERT_EQ(checks, 4);
    ASSERT_EQ(status(pool).discarded, 1);
    ASSERT_EQ(status(pool).idle, 2);
    ASSERT_EQ(worker.begun, 4);
    return 0;
}

/* ---- beginning and ending ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_pool_whose_workers_do_not_begin_does_not_begin)
{
    struct fibril_pool_spec spec = {.server = &numbered, .size = 3};
    struct fibril_actor_opts opts = {.link = true, .stack = rig_stack};
    uint64_t pool;
    fibril_actor_trap_exits(true);
    worker.init_result = -EACCES;
    ASSERT_ERR(fibril_pool_start(&spec, &opts, FIBRIL_FOREVER, &pool), -EACCES);
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_ERR(
        fibril_pool_start(&(struct fibril_pool_spec){.size = 1}, &opts, FIBRIL_FOREVER, &pool),
        -EINVAL);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_start_that_takes_too_long_leaves_nothing)
{
    struct fibril_pool_spec spec = {.server = &numbered, .size = 3};
    uint64_t pool;
    worker.init_ns = MS(100000);
    ASSERT_ERR(fibril_pool_start(&spec, NULL, fibril_after(MS(10)), &pool), -ETIMEDOUT);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(the_end_of_a_pool_ends_its_workers_and_those_who_wait)
{
    static struct caller c;
    uint64_t pool = start((struct fibril_pool_spec){.size = 2});
    uint64_t a = checkout(pool), b = checkout(pool);
    c.pool = pool;
    spawn(borrows, &c);
    settle();
    ASSERT_OK(fibril_server_stop(pool, 0, fibril_after(MS(1000))));
    ASSERT(!fibril_actor_alive(a));
    ASSERT(!fibril_actor_alive(b));
    ASSERT_EQ(worker.ended, 2);
    settle();
    ASSERT_EQ(c.result, -EPIPE);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(who_does_not_end_in_time_is_killed)
{
    uint64_t pool = start((struct fibril_pool_spec){
        .fn = ignores_shutdown, .worker = {.trap_exits = true}, .size = 2, .shutdown_ns = MS(50)});
    uint64_t a = checkout(pool);
    ASSERT_OK(fibril_pool_discard(pool, a));
    ASSERT_OK(fibril_sleep(MS(20)));
    ASSERT(fibril_actor_alive(a));
    ASSERT_EQ(status(pool).ending, 1);
    ASSERT_OK(fibril_sleep(MS(40)));
    ASSERT(!fibril_actor_alive(a));
    int64_t began = fibril_now();
    ASSERT_OK(fibril_server_stop(pool, 0, fibril_after(MS(1000))));
    ASSERT_EQ((fibril_now() - began) / MS(10), 5);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_killed_pool_leaves_no_worker)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 2}), w = checkout(pool);
    worker.init_ns = MS(1000);
    ASSERT_OK(fibril_actor_exit(checkout(pool), FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(status(pool).starting, 1);
    ASSERT_OK(fibril_actor_exit(pool, FIBRIL_EXIT_KILL));
    ASSERT_OK(fibril_sleep(MS(10)));
    ASSERT(!fibril_actor_alive(pool));
    ASSERT(!fibril_actor_alive(w));
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_pool_is_a_child_of_a_supervisor)
{
    static struct fibril_pool_spec spec = {.server = &numbered, .size = 2};
    struct fibril_child_spec children[] = {
        {.id = "pool", .start = fibril_pool_child, .arg = &spec, .opts = {.name = "pool"}}};
    struct fibril_supervisor_spec tree = {.children = children, .n_children = 1};
    uint64_t s;
    ASSERT_OK(fibril_supervisor_start(&tree, NULL, &s));
    uint64_t pool = fibril_actor_whereis("pool");
    ASSERT_EQ(number_of(checkout(pool)), 1);
    ASSERT_OK(fibril_actor_exit(pool, FIBRIL_EXIT_KILL));
    ASSERT_OK(fibril_sleep(MS(10)));
    ASSERT_NE(fibril_actor_whereis("pool"), pool);
    ASSERT_EQ(number_of(checkout(fibril_actor_whereis("pool"))), 3);
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    ASSERT_OK(fibril_sleep(MS(10)));
    ASSERT_EQ(worker.ended, 4);
    return 0;
}

ACTOR_TEST(without_memory_nothing_is_lost)
{
    uint64_t pool = start((struct fibril_pool_spec){.size = 2}), w;
    fibril_actor_on_trouble(note_nothing);
    for (int n = 0; n < 20; n++) {
        fibril__alloc_fail_after(n);
        int rc = fibril_pool_checkout(pool, fibril_after(MS(10)), &w);
        fibril__alloc_fail_after(-1);
        ASSERT(rc == 0 || rc == -ENOMEM || rc == -ETIMEDOUT);
        if (rc == 0 && n % 2) {
            ASSERT_OK(fibril_pool_checkin(pool, w));
        } else if (rc == 0) {
            fibril__alloc_fail_after(n % 5);
            ASSERT_OK(fibril_actor_exit(w, FIBRIL_EXIT_KILL));
            fibril_sleep(MS(20));
            fibril__alloc_fail_after(-1);
        }
        ASSERT_OK(fibril_sleep(MS(10000)));
        ASSERT_EQ(status(pool).idle, 2);
        ASSERT_EQ(status(pool).lent, 0);
    }
    return 0;
}
