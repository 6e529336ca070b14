/* SPDX-License-Identifier: MIT */
/* Names, topics, timers. */
#include "rig.h"

#include "base/alloc.h"

static int zero;

ACTOR_TEST(a_name_finds_its_actor_until_that_ends)
{
    uint64_t a = spawn(returns_when_told, NULL);
    ASSERT_EQ(fibril_actor_whereis("a"), 0);
    ASSERT_OK(fibril_actor_register(a, "a"));
    ASSERT_EQ(fibril_actor_whereis("a"), a);
    tell(a, 1, 0);
    settle();
    ASSERT_EQ(fibril_actor_whereis("a"), 0);
    return 0;
}

ACTOR_TEST(a_name_has_one_actor_and_an_actor_one_name)
{
    uint64_t a = spawn(idle, NULL), b = spawn(idle, NULL);
    ASSERT_OK(fibril_actor_register(a, "a"));
    ASSERT_ERR(fibril_actor_register(b, "a"), -EEXIST);
    ASSERT_ERR(fibril_actor_register(a, "b"), -EEXIST);
    ASSERT_OK(fibril_actor_unregister("a"));
    ASSERT_ERR(fibril_actor_unregister("a"), -ENOENT);
    ASSERT_OK(fibril_actor_register(b, "a"));
    return 0;
}

ACTOR_TEST(nobody_cannot_be_registered)
{
    uint64_t gone = spawn(returns, &zero);
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[299] = '\0';
    settle();
    ASSERT_ERR(fibril_actor_register(gone, "a"), -ESRCH);
    ASSERT_ERR(fibril_actor_register(0, "a"), -ESRCH);
    ASSERT_ERR(fibril_actor_register(fibril_actor_self(), ""), -EINVAL);
    ASSERT_ERR(fibril_actor_register(fibril_actor_self(), long_name), -EINVAL);
    return 0;
}

ACTOR_TEST(a_taken_name_fails_the_spawn)
{
    struct fibril_actor_opts opts = {.name = "a", .link = true};
    uint64_t a, b;
    ASSERT_OK(fibril_actor_spawn(idle, NULL, &opts, &a));
    ASSERT_ERR(fibril_actor_spawn(idle, NULL, &opts, &b), -EEXIST);
    ASSERT_EQ(fibril_actor_whereis("a"), a);
    return 0;
}

ACTOR_TEST(many_names)
{
    char name[20];
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "name %d", i);
        ASSERT_OK(fibril_actor_register(spawn(idle, NULL), name));
    }
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "name %d", i);
        uint64_t a = fibril_actor_whereis(name);
        ASSERT(fibril_actor_alive(a));
        ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_SHUTDOWN));
    }
    settle();
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "name %d", i);
        ASSERT_EQ(fibril_actor_whereis(name), 0);
    }
    return 0;
}

ACTOR_TEST(a_topic_has_those_who_joined_and_live)
{
    uint64_t a = spawn(idle, NULL), b = spawn(returns_when_told, NULL), members[4];
    ASSERT_OK(fibril_topic_join("news", a));
    ASSERT_OK(fibril_topic_join("news", b));
    ASSERT_OK(fibril_topic_join("sports", b));
    ASSERT_EQ(fibril_topic_members("news", members, 4), 2);
    tell(b, 1, 0);
    settle();
    ASSERT_EQ(fibril_topic_members("news", members, 4), 1);
    ASSERT_EQ(members[0], a);
    ASSERT_EQ(fibril_topic_members("sports", members, 4), 0);
    ASSERT_OK(fibril_topic_leave("news", a));
    ASSERT_ERR(fibril_topic_leave("news", a), -ENOENT);
    return 0;
}

ACTOR_TEST(publishing_gives_each_member_a_copy)
{
    static int results[3];
    uint64_t refs[3];
    struct fibril_message *m = note(1, 42);
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_topic_join("news", spawn_monitored(returns_when_told, NULL, &refs[i])));
    }
    ASSERT_EQ(fibril_topic_publish("news", m, FIBRIL_FOREVER), 3);
    ASSERT_EQ(fibril_topic_publish("nobody", m, FIBRIL_FOREVER), 0);
    fibril_message_free(m);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, 42);
    }
    (void)results;
    return 0;
}

static uint64_t expect_change(uint64_t ref)
{
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 1);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_MEMBERS).ref, ref);
    return ref;
}

ACTOR_TEST(a_change_of_members_is_said_once_until_one_looks)
{
    uint64_t a = spawn(idle, NULL), b = spawn(returns_when_told, NULL), ref, members[4];
    size_t n = 9;
    ASSERT_OK(fibril_topic_monitor("news", &ref));
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_OK(fibril_topic_join("news", a));
    ASSERT_OK(fibril_topic_join("news", b));
    ASSERT_OK(fibril_topic_join("sports", b));
    expect_change(ref);
    ASSERT_OK(fibril_topic_leave("news", a));
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_OK(fibril_topic_look(ref, members, 4, &n));
    ASSERT_EQ(n, 1);
    ASSERT_EQ(members[0], b);
    tell(b, 1, 0);
    expect_change(ref);
    ASSERT_OK(fibril_topic_look(ref, members, 4, &n));
    ASSERT_EQ(n, 0);
    ASSERT_OK(fibril_topic_look(ref, members, 4, &n));
    ASSERT_OK(fibril_topic_join("news", a));
    expect_change(ref);
    return 0;
}

ACTOR_TEST(a_monitor_of_a_topic_that_is_over_says_nothing)
{
    uint64_t a = spawn(idle, NULL), ref, other;
    size_t n;
    ASSERT_OK(fibril_topic_monitor("news", &ref));
    ASSERT_OK(fibril_topic_monitor("news", &other));
    ASSERT_OK(fibril_topic_join("news", a));
    ASSERT_OK(fibril_topic_demonitor(ref)); /* it is on its way */
    expect_change(other);
    ASSERT_ERR(fibril_topic_demonitor(ref), -ENOENT);
    ASSERT_ERR(fibril_topic_look(ref, NULL, 0, &n), -ENOENT);
    ASSERT_OK(fibril_topic_look(other, NULL, 0, &n));
    ASSERT_OK(fibril_topic_leave("news", a));
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 1);
    ASSERT_OK(fibril_topic_demonitor(other)); /* it waits */
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_ERR(fibril_topic_monitor("", &ref), -EINVAL);
    return 0;
}

static int monitors(void *arg)
{
    uint64_t ref;
    ASSERT_OK(fibril_topic_monitor("news", &ref));
    return returns_when_told(arg);
}

ACTOR_TEST(a_monitor_of_a_topic_ends_with_its_actor)
{
    uint64_t a = spawn(monitors, NULL);
    ASSERT_NE(fibril_actor_self(), 0);
    settle();
    tell(a, 1, 0);
    settle();
    int64_t live = fibril__alloc_live();
    ASSERT_OK(fibril_topic_join("news", fibril_actor_self()));
    ASSERT_OK(fibril_topic_leave("news", fibril_actor_self()));
    settle();
    ASSERT_EQ(fibril__alloc_live(), live);
    return 0;
}

ACTOR_TEST(a_monitor_of_a_topic_without_memory_is_none)
{
    uint64_t ref;
    size_t n;
    int rc = -ENOMEM;
    ASSERT_NE(fibril_actor_self(), 0);
    int64_t live = fibril__alloc_live();
    for (int i = 0; rc == -ENOMEM; i++) {
        ASSERT_EQ(fibril__alloc_live(), live);
        fibril__alloc_fail_after(i);
        rc = fibril_topic_monitor("news", &ref);
        fibril__alloc_fail_after(-1);
    }
    ASSERT_OK(rc);
    ASSERT_OK(fibril_topic_join("news", fibril_actor_self()));
    expect_change(ref);
    fibril__alloc_fail_after(0);
    ASSERT_ERR(fibril_topic_look(ref, NULL, 0, &n), -ENOMEM);
    fibril__alloc_fail_after(-1);
    ASSERT_OK(fibril_topic_look(ref, NULL, 0, &n));
    ASSERT_EQ(n, 1);
    return 0;
}

/* ---- timers ---- */

static struct fibril_message *note_at(int value)
{
    return note(5, value);
}

ACTOR_TEST(a_timer_sends_at_its_time)
{
    uint64_t self = fibril_actor_self();
    int64_t start = fibril_now();
    ASSERT_OK(fibril_actor_send_at(self, note_at(2), start + MS(20), 0, NULL));
    ASSERT_OK(fibril_actor_send_at(self, note_at(1), start + MS(10), 0, NULL));
    ASSERT_OK(fibril_actor_send_at(self, note_at(3), start + MS(30), 0, NULL));
    for (int i = 1; i <= 3; i++) {
        ASSERT_EQ(expect(5), i);
        ASSERT_EQ(fibril_now() - start, MS(10 * i));
    }
    return 0;
}

ACTOR_TEST(a_cancelled_timer_sends_nothing)
{
    uint64_t self = fibril_actor_self(), timer;
    ASSERT_OK(fibril_actor_send_at(self, note_at(1), fibril_after(MS(10)), 0, &timer));
    ASSERT_OK(fibril_actor_cancel_timer(timer));
    ASSERT_ERR(fibril_actor_cancel_timer(timer), -ENOENT);
    fibril_sleep(MS(20));
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST(a_timer_that_has_sent_cannot_be_cancelled)
{
    uint64_t self = fibril_actor_self(), timer;
    ASSERT_OK(fibril_actor_send_at(self, note_at(1), fibril_after(MS(10)), 0, &timer));
    fibril_sleep(MS(20));
    ASSERT_ERR(fibril_actor_cancel_timer(timer), -ENOENT);
    ASSERT_EQ(expect(5), 1);
    return 0;
}

ACTOR_TEST(an_interval_goes_on_until_it_is_cancelled)
{
    uint64_t self = fibril_actor_self(), timer;
    int64_t start = fibril_now();
    ASSERT_OK(fibril_actor_send_at(self, note_at(1), fibril_after(MS(10)), MS(5), &timer));
    for (int i = 0; i < 10; i++) {
        expect(5);
        ASSERT_EQ(fibril_now() - start, MS(10 + 5 * i));
    }
    ASSERT_OK(fibril_actor_cancel_timer(timer));
    fibril_sleep(MS(20));
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST(an_interval_ends_with_its_actor)
{
    uint64_t timer, a = spawn(returns_when_told, NULL);
    struct fibril_actor_counts counts;
    ASSERT_OK(fibril_actor_send_at(a, note_at(0), fibril_after(MS(10)), MS(5), &timer));
    fibril_sleep(MS(100));
    ASSERT_ERR(fibril_actor_cancel_timer(timer), -ENOENT);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dead_letters, 0);
    return 0;
}

ACTOR_TEST(a_timer_does_not_wait_for_a_full_mailbox)
{
    struct fibril_mailbox small = {.messages = 1};
    uint64_t self = fibril_actor_self();
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_actor_send_at(self, note_at(i), fibril_after(MS(10)), 0, NULL));
    }
    fibril_sleep(MS(20));
    ASSERT_EQ(fibril_actor_waiting(), 1);
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dropped, 4);
    return 0;
}

ACTOR_TEST(ten_thousand_timers)
{
    uint64_t self = fibril_actor_self(), timers[1000];
    int64_t start = fibril_now();
    for (int i = 0; i < 10000; i++) {
        ASSERT_OK(fibril_actor_send_at(self, note_at(i), start + MS(1 + i * 7919 % 10000), 0,
                                       &timers[i % 1000]));
    }
    int64_t last = 0;
    for (int i = 0; i < 10000; i++) {
        expect(5);
        ASSERT_GE(fibril_now(), last);
        last = fibril_now();
    }
    ASSERT_EQ(last - start, MS(10000));
    return 0;
}

ACTOR_TEST(timers_that_have_not_fired_go_with_their_loop)
{
    ASSERT_OK(
        fibril_actor_send_at(fibril_actor_self(), note_at(1), fibril_after(MS(1000000)), 0, NULL));
    return 0;
}
