/* SPDX-License-Identifier: MIT */
/*
 * Servers, pools and monitors of topics over several loops at once: meant for TSan. What is checked
 * holds whatever the timing: a start says what its init said, a pool has all its workers in the
 * end, and who monitors a topic sees how it ended.
 */
#include "rig.h"

#include <fibril/pool.h>
#include <fibril/server.h>

#include <stdatomic.h>

enum { LOOPS = 3, WHO = 1 };

static int rounds(int n)
{
    return test_is_slow() ? n / 10 : n;
}

static void run_on_loops(fibril_fn *body)
{
    struct fibril_opts opts = {.loops = LOOPS};
    fibril_actor_on_trouble(note_nothing);
    ASSERT_OK(fibril_run(&opts, body, NULL));
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.spawned, counts.ended);
}

#define LOOPS_TEST(test_name)                                                                      \
    static int loops_body_##test_name(void *arg);                                                  \
    TEST_WITHIN(test_name, 60)                                                                     \
    {                                                                                              \
        run_on_loops(loops_body_##test_name);                                                      \
    }                                                                                              \
    static int loops_body_##test_name(void *arg UNUSED_ARG)

static void wait_until(const _Atomic int *left)
{
    while (atomic_load(left) > 0) {
        ASSERT_OK(fibril_sleep(MS(1)));
    }
}

/* ---- starts ---- */

/* Its init does what the argument says: succeeds, fails, waits first, or crashes soon after. */
static int init(struct fibril_server *s, void *state, void *arg)
{
    int what = *(int *)arg;
    *(int *)state = what;
    if (what & 2) {
        int rc = fibril_sleep(MS(1) / 4);
        if (rc < 0) {
            return rc;
        }
    }
    if (what & 4) {
        fibril_server_go_on(s, NULL);
    }
    return what & 1 ? -EACCES : 0;
}

static int crash(struct fibril_server *s, void *state, void *arg)
{
    (void)s;
    (void)state;
    (void)arg;
    return -EIO;
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    (void)s;
    return fibril_server_reply(fibril_message_from(m), state, sizeof(int));
}

static const struct fibril_server_type moody = {
    .state_bytes = sizeof(int), .init = init, .call = on_call, .go_on = crash};

static void start_one(int i)
{
    int what = i % 8, got = -1;
    struct fibril_actor_opts opts = {.loop = fibril_loop_at((unsigned)i % LOOPS), .link = true};
    uint64_t a;
    bool hurries = i % 5 == 0;
    int64_t deadline_ns = hurries ? fibril_after(MS(1) / 4) : FIBRIL_FOREVER;
    opts.stack = i % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN;
    int rc = fibril_server_start(&moody, &what, &opts, deadline_ns, &a);
    if (rc < 0) {
        ASSERT(rc == (what & 1 ? -EACCES : 0) || (hurries && rc == -ETIMEDOUT));
        return;
    }
    ASSERT(!(what & 1));
    rc = fibril_server_call(a, WHO, NULL, 0, FIBRIL_FOREVER, &got, sizeof got);
    ASSERT(rc == 0 ? got == what : what & 4 && (rc == -EPIPE || rc == -ESRCH));
    rc = fibril_server_stop(a, FIBRIL_EXIT_SHUTDOWN, FIBRIL_FOREVER);
    ASSERT(rc == 0 || rc == -ESRCH);
}

static int starts_servers(void *arg)
{
    struct fibril_message *m;
    fibril_actor_trap_exits(true);
    for (int i = 0; i < rounds(2000); i++) {
        start_one(i);
        while (fibril_actor_receive(fibril_now(), &m) == 0) { /* exit signals of those it stopped */
            fibril_message_free(m);
        }
    }
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

LOOPS_TEST(a_start_on_another_loop_says_what_its_init_said)
{
    static _Atomic int left = LOOPS;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct fibril_actor_opts opts = {.loop = fibril_loop_at(i)};
        ASSERT_OK(fibril_actor_spawn(starts_servers, &left, &opts, NULL));
    }
    wait_until(&left);
    return 0;
}

/* ---- pools ---- */

static const struct fibril_server_type calm = {.state_bytes = sizeof(int), .call = on_call};
static uint64_t pool;

/* Returns whether it has none; else it is to end with the one it has. */
static bool use_one(unsigned i)
{
    uint64_t w;
    int got, rc = fibril_pool_checkout(pool, i % 7 ? FIBRIL_FOREVER : fibril_now(), &w);
    if (rc < 0) {
        ASSERT(rc == -ETIMEDOUT || rc == -ECANCELED);
        return true;
    }
    rc = fibril_server_call(w, WHO, NULL, 0, FIBRIL_FOREVER, &got, sizeof got);
    ASSERT(rc == 0 || rc == -ECANCELED || rc == -EPIPE || rc == -ESRCH); /* killed by the last one
                                                                          */
    if (i % 13 == 0) {
        ASSERT_OK(fibril_actor_exit(w, FIBRIL_EXIT_KILL));
    } else if (i % 11 == 0) {
        ASSERT_OK(fibril_pool_discard(pool, w));
    } else if (i % 5) {
        ASSERT_OK(fibril_pool_checkin(pool, w));
    } else {
        return false;
    }
    return true;
}

static int uses_pool(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    while (!fibril_actor_exiting(NULL) && use_one(i) && ++i % 5) {}
    return 0;
}

static int user_of_pool(void *arg)
{
    for (int i = 0; i < rounds(300); i++) {
        uint64_t ref, user;
        struct fibril_actor_opts opts = {.least_loaded = true, .ret_monitor = &ref};
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_spawn(uses_pool, (void *)(uintptr_t)i, &opts, &user));
        if (i % 3 == 0) {
            ASSERT_OK(fibril_actor_exit(user, FIBRIL_EXIT_KILL));
        }
        ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DOWN, FIBRIL_FOREVER, &m));
        fibril_message_free(m);
    }
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

LOOPS_TEST(a_pool_over_all_loops_has_its_workers_in_the_end)
{
    enum { USERS = 2 * LOOPS };
    static _Atomic int left = USERS;
    struct fibril_pool_spec spec = {
        .server = &calm, .size = 4, .overflow = 2, .worker = {.least_loaded = true}};
    struct fibril_pool_status s;
    ASSERT_OK(fibril_pool_start(&spec, NULL, FIBRIL_FOREVER, &pool));
    for (unsigned i = 0; i < USERS; i++) {
        struct fibril_actor_opts opts = {.loop = fibril_loop_at(i % LOOPS)};
        ASSERT_OK(fibril_actor_spawn(user_of_pool, &left, &opts, NULL));
    }
    wait_until(&left);
    do {
        ASSERT_OK(fibril_sleep(MS(1)));
        ASSERT_OK(fibril_pool_status(pool, FIBRIL_FOREVER, &s));
    } while (s.idle != 4 || s.lent || s.starting || s.ending || s.waiting);
    ASSERT_OK(fibril_server_stop(pool, 0, FIBRIL_FOREVER));
    return 0;
}

/* ---- monitors of topics ---- */

static int comes_and_goes(void *arg)
{
    uint64_t self = fibril_actor_self();
    for (int i = 0; i < rounds(1000); i++) {
        ASSERT_OK(fibril_topic_join("crowd", self));
        if (i % 3) {
            fibril_yield();
        }
        ASSERT_OK(fibril_topic_leave("crowd", self));
    }
    ASSERT_OK(fibril_topic_join("crowd", self)); /* until its end */
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

static _Atomic int comers = 2 * LOOPS;

static int sees_how_it_ends(void *arg)
{
    uint64_t ref;
    size_t n = 1;
    ASSERT_OK(fibril_topic_monitor("crowd", &ref));
    for (bool last = false; !last;) {
        struct fibril_message *m;
        last = atomic_load(&comers) == 0;
        ASSERT_OK(fibril_topic_look(ref, NULL, 0, &n));
        last = last && n == 0;
        if (!last) { /* then there is something to come */
            ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_MEMBERS, FIBRIL_FOREVER, &m));
            fibril_message_free(m);
        }
        if (n % 2) {
            ASSERT_OK(fibril_topic_demonitor(ref));
            ASSERT_OK(fibril_topic_monitor("crowd", &ref));
        }
    }
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

LOOPS_TEST(who_monitors_a_topic_sees_how_it_ends)
{
    static _Atomic int left = LOOPS;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct fibril_actor_opts opts = {.loop = fibril_loop_at(i)};
        ASSERT_OK(fibril_actor_spawn(sees_how_it_ends, &left, &opts, NULL));
    }
    for (unsigned i = 0; i < 2 * LOOPS; i++) {
        struct fibril_actor_opts opts = {.loop = fibril_loop_at(i % LOOPS)};
        ASSERT_OK(fibril_actor_spawn(comes_and_goes, &comers, &opts, NULL));
    }
    wait_until(&left);
    return 0;
}
