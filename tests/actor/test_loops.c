/* SPDX-License-Identifier: MIT */
/*
 * Actors on several loops at once, and OS threads that send to them: meant for TSan. What is
 * checked holds whatever the timing: order per sender, one DOWN per monitor, one reply per call,
 * nothing left.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

enum { LOOPS = 3 };

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

static uint64_t spawn_on(unsigned loop, fibril_fn *fn, void *arg,
                         const struct fibril_actor_opts *more)
{
    struct fibril_actor_opts opts = more ? *more : (struct fibril_actor_opts){0};
    uint64_t actor;
    opts.loop = fibril_loop_at(loop);
    opts.stack = loop % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN;
    ASSERT_OK(fibril_actor_spawn(fn, arg, &opts, &actor));
    return actor;
}

/* ---- order ---- */

static uint64_t collector;

static int sends_in_order(void *arg)
{
    uint64_t who = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < rounds(5000); i++) {
        tell(collector, who, i);
    }
    return 0;
}

static void *thread_sends(void *arg)
{
    for (int i = 0; i < rounds(5000); i++) {
        struct fibril_message *m;
        int rc;
        ASSERT_OK(fibril_message_of((uint64_t)(uintptr_t)arg, &i, sizeof i, &m));
        while ((rc = fibril_actor_send(collector, m, FIBRIL_FOREVER)) == -EAGAIN) {
            sched_yield();
        }
        ASSERT_OK(rc);
    }
    return NULL;
}

LOOPS_TEST(each_sender_keeps_its_order_through_a_small_mailbox)
{
    enum { ACTORS = 2 * LOOPS, SENDERS = ACTORS + 1 };
    static int next[SENDERS];
    struct fibril_mailbox small = {.messages = 7};
    pthread_t thread;
    collector = fibril_actor_self();
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    for (unsigned i = 0; i < ACTORS; i++) {
        spawn_on(i % LOOPS, sends_in_order, (void *)(uintptr_t)i, NULL);
    }
    ASSERT_EQ(pthread_create(&thread, NULL, thread_sends, (void *)(uintptr_t)ACTORS), 0);
    for (int i = 0; i < SENDERS * rounds(5000); i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
        uint64_t who = fibril_message_tag(m);
        ASSERT_LT(who, SENDERS);
        ASSERT_EQ(value_of(m), next[who]++);
        ASSERT_LE(fibril_actor_waiting(), 7 + SENDERS);
        fibril_message_free(m);
    }
    pthread_join(thread, NULL);
    return 0;
}

/* ---- life and death ---- */

static int lives_shortly(void *arg)
{
    if ((uintptr_t)arg % 3) {
        fibril_yield();
    }
    return (int)(uintptr_t)arg;
}

LOOPS_TEST(every_monitor_hears_of_the_end_once)
{
    enum { BATCH = 50 };
    for (int r = 0; r < rounds(100); r++) {
        uint64_t refs[BATCH], actors[BATCH], again[BATCH];
        for (unsigned i = 0; i < BATCH; i++) {
            struct fibril_actor_opts opts = {.ret_monitor = &refs[i]};
            actors[i] = spawn_on(i % LOOPS, lives_shortly, (void *)(uintptr_t)i, &opts);
            ASSERT_OK(fibril_actor_monitor(actors[i], &again[i]));
        }
        int found = 0;
        for (unsigned i = 0; i < 2 * BATCH; i++) {
            struct fibril_signal s = expect_signal_within(FIBRIL_TAG_DOWN, 10000);
            for (unsigned k = 0; k < BATCH; k++) {
                if (s.ref == refs[k]) {
                    ASSERT_EQ(s.reason, (int)k);
                    refs[k] = 0;
                    found++;
                } else if (s.ref == again[k]) {
                    ASSERT(s.reason == (int)k || s.reason == FIBRIL_EXIT_NOPROC);
                    again[k] = 0;
                    found++;
                }
            }
        }
        ASSERT_EQ(found, 2 * BATCH);
        ASSERT_EQ(fibril_actor_waiting(), 0);
    }
    return 0;
}

LOOPS_TEST(links_monitors_and_their_ends_cross_each_other)
{
    fibril_actor_trap_exits(true);
    for (int r = 0; r < rounds(2000); r++) {
        uint64_t ref;
        struct fibril_actor_opts opts = {.link = true};
        uint64_t a =
            spawn_on((unsigned)r % LOOPS, lives_shortly, (void *)(uintptr_t)(r % 4), &opts);
        ASSERT_OK(fibril_actor_monitor(a, &ref));
        if (r % 2) {
            ASSERT_OK(fibril_actor_unlink(a));
            ASSERT_OK(fibril_actor_link(a));
        }
        if (r % 3 == 0) {
            fibril_actor_demonitor(ref);
        }
        if (r % 5 == 0) {
            ASSERT_OK(fibril_actor_unlink(a));
        }
        if (r % 7 == 0) {
            ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_KILL));
        }
    }
    struct fibril_message *m;
    while (fibril_actor_receive(fibril_after(MS(200)), &m) == 0) {
        fibril_message_free(m);
    }
    return 0;
}

static _Atomic int ring_linked;

static int ring_member(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    uint64_t next = *(uint64_t *)fibril_message_data(m);
    fibril_message_free(m);
    ASSERT_OK(fibril_actor_link(next));
    ring_linked++;
    return idle(NULL);
}

LOOPS_TEST(one_death_ends_a_linked_ring_over_all_loops)
{
    enum { RING = 60 };
    uint64_t ring[RING], refs[RING];
    for (unsigned i = 0; i < RING; i++) {
        struct fibril_actor_opts opts = {.ret_monitor = &refs[i]};
        ring[i] = spawn_on(i % LOOPS, ring_member, NULL, &opts);
    }
    for (unsigned i = 0; i < RING; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_message_of(1, &ring[(i + 1) % RING], sizeof(uint64_t), &m));
        ASSERT_OK(fibril_actor_send(ring[i], m, FIBRIL_FOREVER));
    }
    while (ring_linked < RING) { /* a link that comes too late would say that there is nobody */
        fibril_sleep(MS(1));
    }
    ASSERT_OK(fibril_actor_exit(ring[17], -EIO));
    for (unsigned i = 0; i < RING; i++) {
        ASSERT_EQ(expect_signal_within(FIBRIL_TAG_DOWN, 10000).reason, -EIO);
    }
    return 0;
}

static void *thread_kills(void *arg)
{
    uint64_t *actors = arg;
    for (int i = 0; i < 50; i++) {
        ASSERT_OK(fibril_actor_exit(actors[i], FIBRIL_EXIT_KILL));
    }
    return NULL;
}

LOOPS_TEST(an_os_thread_can_kill)
{
    uint64_t actors[50], refs[50];
    pthread_t thread;
    for (unsigned i = 0; i < 50; i++) {
        struct fibril_actor_opts opts = {.ret_monitor = &refs[i]};
        actors[i] = spawn_on(i % LOOPS, idle, NULL, &opts);
    }
    ASSERT_EQ(pthread_create(&thread, NULL, thread_kills, actors), 0);
    for (unsigned i = 0; i < 50; i++) {
        ASSERT_EQ(expect_signal_within(FIBRIL_TAG_DOWN, 10000).reason, FIBRIL_EXIT_KILLED);
    }
    pthread_join(thread, NULL);
    return 0;
}

/* ---- calls ---- */

static int echoes(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    int n = 0;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        fibril_actor_reply(fibril_message_from(m), m);
        if (++n == rounds(3000)) {
            return 0; /* in the middle of calls */
        }
    }
    return 0;
}

static uint64_t echo_of[LOOPS];

static int calls_all(void *arg)
{
    int answered = 0;
    for (int i = 0; i < rounds(4000); i++) {
        struct fibril_message *reply;
        int64_t deadline_ns = i % 50 == 0 ? 0 : fibril_after(MS(20000));
        int rc = fibril_actor_call(echo_of[i % LOOPS], note(1, i), deadline_ns, &reply);
        if (rc == 0) {
            ASSERT_EQ(value_of(reply), i);
            fibril_message_free(reply);
            answered++;
        } else {
            ASSERT(rc == -ESRCH || rc == -EPIPE || (rc == -ETIMEDOUT && deadline_ns == 0));
        }
    }
    ASSERT_GT(answered, 0);
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

LOOPS_TEST(calls_end_with_their_reply_or_their_targets_end)
{
    static _Atomic int running = 2 * LOOPS;
    for (unsigned i = 0; i < LOOPS; i++) {
        echo_of[i] = spawn_on(i, echoes, NULL, NULL);
    }
    for (unsigned i = 0; i < 2 * LOOPS; i++) {
        spawn_on(i % LOOPS, calls_all, &running, NULL);
    }
    while (atomic_load(&running)) {
        fibril_sleep(MS(5));
    }
    return 0;
}

static int gives(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    struct fibril_from from = fibril_message_from(m);
    fibril_message_free(m);
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_stream_give(from, note(1, i), FIBRIL_FOREVER));
    }
    return 0;
}

LOOPS_TEST(a_stream_from_another_loop_is_whole_though_its_giver_is_gone)
{
    struct fibril_mailbox small = {.messages = 10};
    struct fibril_stream *s;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    ASSERT_OK(fibril_stream_open(spawn_on(1, gives, NULL, NULL), note(1, 0), FIBRIL_FOREVER, &s));
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_stream_next(s, FIBRIL_FOREVER, &m));
        ASSERT_EQ(value_of(m), i);
        fibril_message_free(m);
    }
    ASSERT_ERR(fibril_stream_next(s, FIBRIL_FOREVER, &m), -EPIPE);
    fibril_stream_close(s);
    return 0;
}

/* ---- loops that end ---- */

LOOPS_TEST(a_loop_that_ends_tells_of_its_actors)
{
    for (int r = 0; r < rounds(30); r++) {
        struct fibril_loop *loop;
        uint64_t refs[10], actor;
        ASSERT_OK(fibril_loop_start(NULL, &loop));
        for (int i = 0; i < 10; i++) {
            struct fibril_actor_opts opts = {.loop = loop, .ret_monitor = &refs[i]};
            ASSERT_OK(fibril_actor_spawn(idle, NULL, &opts, &actor));
        }
        ASSERT_OK(fibril_loop_stop(loop));
        for (int i = 0; i < 10; i++) {
            ASSERT_EQ(expect_signal_within(FIBRIL_TAG_DOWN, 10000).reason, FIBRIL_EXIT_SHUTDOWN);
        }
        tell(actor, 1, 1); /* a dead letter */
        ASSERT_OK(fibril_actor_monitor(actor, &refs[0]));
        ASSERT_EQ(expect_signal_within(FIBRIL_TAG_DOWN, 1000).reason, FIBRIL_EXIT_NOPROC);
    }
    return 0;
}

/* ---- names ---- */

static int fights_for_names(void *arg)
{
    char name[16];
    for (int i = 0; i < rounds(1000); i++) {
        snprintf(name, sizeof name, "n%d", i % 5);
        int rc = fibril_actor_register(fibril_actor_self(), name);
        ASSERT(rc == 0 || rc == -EEXIST);
        uint64_t who = fibril_actor_whereis(name);
        if (rc == 0) {
            ASSERT_EQ(who, fibril_actor_self());
            ASSERT_OK(fibril_topic_join("all", who));
            ASSERT_OK(fibril_actor_unregister(name));
        }
    }
    atomic_fetch_sub((_Atomic int *)arg, 1);
    return 0;
}

LOOPS_TEST(a_name_has_one_actor_at_a_time_on_all_loops)
{
    static _Atomic int running = LOOPS;
    for (unsigned i = 0; i < LOOPS; i++) {
        spawn_on(i, fights_for_names, &running, NULL);
    }
    while (atomic_load(&running)) {
        fibril_sleep(MS(5));
    }
    fibril_sleep(MS(50));
    ASSERT_EQ(fibril_topic_members("all", NULL, 0), 0);
    return 0;
}

LOOPS_TEST(the_least_loaded_loop_gets_the_actor)
{
    struct fibril_actor_opts opts = {.least_loaded = true};
    uint64_t actor;
    for (int i = 0; i < 29; i++) { /* and this fibril */
        ASSERT_OK(fibril_actor_self() ? 0 : -1);
        ASSERT_OK(fibril_actor_spawn(idle, NULL, &opts, &actor));
    }
    fibril_sleep(MS(20)); /* the others have arrived */
    uint64_t here[64];
    ASSERT_EQ(fibril_actor_list(0, here, 64), 10);
    return 0;
}
