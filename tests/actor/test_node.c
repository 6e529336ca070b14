/* SPDX-License-Identifier: MIT */
/*
 * Actors at the other end of a connection: the rules of actors hold there as they do here. Both
 * ends are in one simulated loop.
 */
#include "pair.h"

enum { ADD = 1, GET, PUT, STOP };

/* ---- sending ---- */

ACTOR_TEST(messages_arrive_in_order_and_are_flat_bytes)
{
    struct pair p = pair_open(NULL);
    uint64_t me = as_remote(p, fibril_actor_self());
    for (int i = 0; i < 1000; i++) {
        tell(me, ADD, i);
    }
    for (int i = 0; i < 1000; i++) {
        ASSERT_EQ(expect(ADD), i);
    }
    pair_close(p);
    return 0;
}

ACTOR_TEST(large_messages_arrive_whole)
{
    struct pair p = pair_open(NULL);
    uint64_t me = as_remote(p, fibril_actor_self());
    size_t sizes[] = {0, 1, 65000, 65536, 70000, 3 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_message_new(PUT, sizes[i], NULL, &m));
        unsigned char *bytes = fibril_message_data(m);
        for (size_t k = 0; k < sizes[i]; k++) {
            bytes[k] = (unsigned char)(k * 7 + k / 65521 + i);
        }
        ASSERT_OK(fibril_actor_send(me, m, FIBRIL_FOREVER));
    }
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_receive(fibril_after(MS(60000)), &m));
        ASSERT_EQ(fibril_message_size(m), sizes[i]);
        const unsigned char *bytes = fibril_message_data(m);
        for (size_t k = 0; k < sizes[i]; k++) {
            ASSERT_EQ(bytes[k], (unsigned char)(k * 7 + k / 65521 + i));
        }
        fibril_message_free(m);
    }
    pair_close(p);
    return 0;
}

/* ---- calls ---- */

static int echoes(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        if (fibril_message_tag(m) == STOP) {
            fibril_message_free(m);
            return -EIO;
        }
        fibril_actor_reply(fibril_message_from(m), m);
    }
    return rc;
}

ACTOR_TEST(a_call_brings_the_reply)
{
    struct pair p = pair_open(NULL);
    uint64_t echo = as_remote(p, spawn(echoes, NULL));
    ASSERT_EQ(fibril_node_of(echo), p.here);
    for (int i = 0; i < 100; i++) {
        struct fibril_message *reply;
        ASSERT_OK(fibril_actor_call(echo, note(GET, i), fibril_after(MS(1000)), &reply));
        ASSERT_EQ(value_of(reply), i);
        fibril_message_free(reply);
    }
    pair_close(p);
    return 0;
}

ACTOR_TEST(a_call_ends_at_its_deadline_and_the_late_reply_is_dropped)
{
    struct pair p = pair_open(NULL);
    uint64_t me = fibril_actor_self(), remote = as_remote(p, me);
    struct fibril_message *m, *reply;
    struct fibril_actor_counts counts;
    uint64_t echo = as_remote(p, spawn(echoes, NULL));
    ASSERT_ERR(fibril_actor_call(echo, note(GET, 1), fibril_after(1000), &reply), -ETIMEDOUT);
    ASSERT_OK(fibril_sleep(MS(100)));
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.late_replies, 1);
    ASSERT_ERR(fibril_actor_receive(fibril_after(MS(1)), &m), -ETIMEDOUT);
    ASSERT_OK(fibril_actor_alive(remote) ? 0 : -1);
    pair_close(p);
    return 0;
}

ACTOR_TEST(a_call_to_one_that_ends_ends)
{
    struct pair p = pair_open(NULL);
    uint64_t echo = as_remote(p, spawn(echoes, NULL));
    struct fibril_message *reply;
    ASSERT_ERR(fibril_actor_call(echo, note(STOP, 1), FIBRIL_FOREVER, &reply), -EPIPE);
    ASSERT_ERR(fibril_actor_call(echo, note(GET, 1), FIBRIL_FOREVER, &reply), -ESRCH);
    ASSERT(!fibril_actor_alive(echo));
    pair_close(p);
    return 0;
}

ACTOR_TEST(a_refusal_is_what_was_refused_with)
{
    struct pair p = pair_open(NULL);
    struct fibril_message *reply;
    ASSERT_ERR(fibril_actor_call(p.here, note(GET, 1), FIBRIL_FOREVER, &reply), -EINVAL);
    pair_close(p);
    return 0;
}

/* ---- ends ---- */

ACTOR_TEST(a_monitor_hears_the_reason)
{
    struct pair p = pair_open(NULL);
    uint64_t ref, again, target = as_remote(p, spawn(returns_when_told, NULL));
    ASSERT_OK(fibril_actor_monitor(target, &ref));
    ASSERT_OK(fibril_actor_monitor(target, &again));
    ASSERT_OK(fibril_actor_demonitor(again));
    tell(target, 1, -EIO);
    struct fibril_signal s = expect_signal(FIBRIL_TAG_DOWN);
    ASSERT_EQ(s.actor, target);
    ASSERT_EQ(s.ref, ref);
    ASSERT_EQ(s.reason, -EIO);
    ASSERT_OK(fibril_actor_monitor(target, &ref));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_NOPROC);
    pair_close(p);
    return 0;
}

ACTOR_TEST(a_link_works_both_ways)
{
    struct pair p = pair_open(NULL);
    uint64_t ref, ref2;
    fibril_actor_trap_exits(true);
    uint64_t target = as_remote(p, spawn(returns_when_told, NULL));
    ASSERT_OK(fibril_actor_link(target));
    ASSERT_OK(fibril_actor_link(target));
    tell(target, 1, 77);
    struct fibril_signal s = expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(s.actor, target);
    ASSERT_EQ(s.reason, 77);

    uint64_t idler = spawn_monitored(idle, NULL, &ref), far = as_remote(p, idler);
    uint64_t linker = spawn_monitored(returns_when_told, NULL, &ref2);
    (void)linker;
    ASSERT_OK(fibril_actor_link(far));
    settle();
    ASSERT_OK(fibril_actor_exit(far, -EPERM)); /* it does not trap */
    int seen = 0;
    for (int i = 0; i < 2; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
        struct fibril_signal *signal = fibril_message_data(m);
        ASSERT_EQ(signal->reason, -EPERM);
        seen |= fibril_message_tag(m) == FIBRIL_TAG_DOWN ? 1 : 2;
        fibril_message_free(m);
    }
    ASSERT_EQ(seen, 3);
    pair_close(p);
    return 0;
}

static int links_and_returns(void *arg)
{
    ASSERT_OK(fibril_actor_link(*(uint64_t *)arg));
    return -ENOSPC;
}

ACTOR_TEST(the_end_of_one_that_linked_itself_is_told_with_its_reason)
{
    struct pair p = pair_open(NULL);
    uint64_t me = as_remote(p, fibril_actor_self());
    fibril_actor_trap_exits(true);
    spawn(links_and_returns, &me);
    struct fibril_signal s = expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(s.reason, -ENOSPC);
    pair_close(p);
    return 0;
}

ACTOR_TEST(nothing_comes_through_a_link_that_was_ended)
{
    struct pair p = pair_open(NULL);
    struct fibril_message *m;
    fibril_actor_trap_exits(true);
    for (int wait = 0; wait < 2; wait++) {
        uint64_t idler = spawn(returns_when_told, NULL), far = as_remote(p, idler);
        struct fibril_actor_info info;
        ASSERT_OK(fibril_actor_link(far));
        if (wait) {
            ASSERT_OK(fibril_sleep(MS(100)));
        }
        ASSERT_OK(fibril_actor_unlink(far));
        ASSERT_OK(fibril_sleep(MS(100)));
        ASSERT_OK(fibril_actor_info(idler, &info));
        ASSERT_EQ(info.links, 1); /* the connection's monitor */
        tell(far, 1, -EIO);
        ASSERT_ERR(fibril_actor_receive(fibril_after(MS(100)), &m), -ETIMEDOUT);
    }
    pair_close(p);
    return 0;
}

/* ---- the connection ends ---- */

ACTOR_TEST(the_end_of_the_connection_ends_all_that_was_known_by_it)
{
    struct pair p = pair_open(NULL);
    uint64_t ref, node_ref, target = as_remote(p, spawn(idle, NULL));
    fibril_actor_trap_exits(true);
    ASSERT_OK(fibril_actor_monitor(target, &ref));
    ASSERT_OK(fibril_actor_link(target));
    ASSERT_OK(fibril_actor_monitor(p.there, &node_ref));
    ASSERT_OK(fibril_node_leave(p.there));
    int seen = 0;
    for (int i = 0; i < 3; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_receive(fibril_after(MS(5000)), &m));
        struct fibril_signal *s = fibril_message_data(m);
        if (s->actor == p.there) {
            ASSERT_EQ(s->reason, FIBRIL_EXIT_SHUTDOWN);
            seen |= 1;
        } else {
            ASSERT_EQ(s->actor, target);
            ASSERT_EQ(s->reason, FIBRIL_EXIT_NOCONNECTION);
            seen |= fibril_message_tag(m) == FIBRIL_TAG_DOWN ? 2 : 4;
        }
        fibril_message_free(m);
    }
    ASSERT_EQ(seen, 7);
    uint64_t nobody;
    ASSERT_OK(fibril_sleep(MS(100)));
    ASSERT_ERR(fibril_actor_whereis_at(p.here, "x", FIBRIL_FOREVER, &nobody), -ESRCH);
    struct fibril_actor_counts before, after;
    fibril_actor_counts(&before);
    tell(target, 1, 1);
    fibril_actor_counts(&after);
    ASSERT_EQ(after.dead_letters, before.dead_letters + 1);
    return 0;
}

/* ---- at any moment ---- */

static uint64_t lost_echo, lost_node;
static int64_t lost_after_ns;

static int calls_until_lost(void *arg)
{
    (void)arg;
    struct fibril_message *reply;
    int rc;
    while ((rc = fibril_actor_call(lost_echo, note(GET, 1), FIBRIL_FOREVER, &reply)) == 0) {
        fibril_message_free(reply);
    }
    ASSERT(rc == -EPIPE || rc == -ESRCH);
    return 0;
}

static int loses(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_sleep(lost_after_ns));
    return fibril_actor_exit(lost_node, FIBRIL_EXIT_KILL);
}

static int survives(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    struct pair p = pair_open(NULL);
    struct fibril *fibrils[3];
    uint64_t ref;
    int downs = 0, exits = 0;
    fibril_actor_trap_exits(true);
    lost_echo = as_remote(p, spawn(echoes, NULL));
    lost_node = seed % 2 ? p.here : p.there;
    lost_after_ns = (int64_t)(seed * 7919 % 5000) * 1000;
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_spawn(i ? calls_until_lost : loses, NULL, NULL, &fibrils[i]));
    }
    ASSERT_OK(fibril_actor_monitor(lost_echo, &ref));
    ASSERT_OK(fibril_actor_link(lost_echo));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_join(fibrils[i], FIBRIL_FOREVER, NULL));
    }
    struct fibril_message *m;
    while (fibril_actor_receive(fibril_after(MS(3000)), &m) == 0) {
        const struct fibril_signal *s = fibril_message_data(m);
        ASSERT_EQ(s->actor, lost_echo);
        ASSERT_EQ(s->reason, FIBRIL_EXIT_NOCONNECTION);
        downs += fibril_message_tag(m) == FIBRIL_TAG_DOWN;
        exits += fibril_message_tag(m) == FIBRIL_TAG_EXIT;
        fibril_message_free(m);
    }
    ASSERT_EQ(downs, 1);
    ASSERT_EQ(exits, 1);
    ASSERT(!fibril_actor_alive(p.here) && !fibril_actor_alive(p.there));
    return 0;
}

TEST(a_connection_may_be_lost_at_any_moment)
{
    fibril_actor_on_trouble(note_nothing);
    for (unsigned seed = 1; seed <= (test_is_slow() ? 20u : 200u); seed++) {
        struct fibril_opts opts = {.poller = "sim", .seed = seed};
        struct fibril_actor_counts counts;
        ASSERT_OK(fibril_run(&opts, survives, &seed));
        fibril_actor_counts(&counts);
        ASSERT_EQ(counts.spawned, counts.ended);
    }
}
