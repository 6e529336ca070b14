/* SPDX-License-Identifier: MIT */
/* Links, monitors, exit signals: Erlang's rules, one each. */
#include "rig.h"

static int error = -EIO, normal = 0;

ACTOR_TEST(a_linked_actors_failure_is_a_message_to_one_that_traps)
{
    fibril_actor_trap_exits(true);
    uint64_t child = spawn_linked(returns, &error);
    struct fibril_signal s = expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(s.actor, child);
    ASSERT_EQ(s.reason, -EIO);
    ASSERT(!fibril_actor_alive(child));
    return 0;
}

ACTOR_TEST(a_normal_end_is_a_message_to_one_that_traps)
{
    fibril_actor_trap_exits(true);
    spawn_linked(returns, &normal);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_EXIT).reason, FIBRIL_EXIT_NORMAL);
    return 0;
}

static int links_and_waits(void *arg)
{
    uint64_t *child = arg;
    *child = spawn_linked(returns_when_told, NULL);
    return idle(NULL);
}

ACTOR_TEST(a_linked_actors_failure_ends_one_that_does_not_trap)
{
    uint64_t child, ref;
    uint64_t parent = spawn_monitored(links_and_waits, &child, &ref);
    settle();
    tell(child, 1, -EIO);
    struct fibril_signal s = expect_signal(FIBRIL_TAG_DOWN);
    ASSERT_EQ(s.actor, parent);
    ASSERT_EQ(s.ref, ref);
    ASSERT_EQ(s.reason, -EIO);
    return 0;
}

ACTOR_TEST(a_linked_actors_normal_end_ends_nobody)
{
    uint64_t child, ref;
    uint64_t parent = spawn_monitored(links_and_waits, &child, &ref);
    settle();
    tell(child, 1, 0);
    settle();
    ASSERT(!fibril_actor_alive(child));
    ASSERT(fibril_actor_alive(parent));
    return 0;
}

ACTOR_TEST(a_link_works_both_ways)
{
    uint64_t child, ref;
    uint64_t parent = spawn_monitored(links_and_waits, &child, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(parent, -EFAULT));
    settle();
    ASSERT(!fibril_actor_alive(parent));
    ASSERT(!fibril_actor_alive(child));
    return 0;
}

ACTOR_TEST(an_ended_link_carries_nothing)
{
    fibril_actor_trap_exits(true);
    uint64_t child = spawn_linked(returns_when_told, NULL);
    ASSERT_OK(fibril_actor_unlink(child));
    tell(child, 1, -EIO);
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST(two_links_are_one)
{
    fibril_actor_trap_exits(true);
    uint64_t child = spawn_linked(returns_when_told, NULL);
    ASSERT_OK(fibril_actor_link(child));
    tell(child, 1, -EIO);
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 1);
    return 0;
}

ACTOR_TEST(a_link_to_nobody_is_an_exit_signal)
{
    fibril_actor_trap_exits(true);
    uint64_t gone = spawn(returns, &normal);
    settle();
    ASSERT_OK(fibril_actor_link(gone));
    struct fibril_signal s = expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(s.actor, gone);
    ASSERT_EQ(s.reason, FIBRIL_EXIT_NOPROC);
    return 0;
}

ACTOR_TEST(a_link_to_oneself_is_nothing)
{
    ASSERT_OK(fibril_actor_link(fibril_actor_self()));
    ASSERT(!fibril_actor_exiting(NULL));
    return 0;
}

ACTOR_TEST(each_monitor_has_its_own_message)
{
    uint64_t a, b, child = spawn(returns_when_told, NULL);
    ASSERT_OK(fibril_actor_monitor(child, &a));
    ASSERT_OK(fibril_actor_monitor(child, &b));
    ASSERT_NE(a, b);
    tell(child, 1, -EIO);
    uint64_t first = expect_signal(FIBRIL_TAG_DOWN).ref,
             second = expect_signal(FIBRIL_TAG_DOWN).ref;
    ASSERT((first == a && second == b) || (first == b && second == a));
    return 0;
}

ACTOR_TEST(a_monitor_of_nobody_says_so)
{
    uint64_t ref, gone = spawn(returns, &normal);
    settle();
    ASSERT_OK(fibril_actor_monitor(gone, &ref));
    struct fibril_signal s = expect_signal(FIBRIL_TAG_DOWN);
    ASSERT_EQ(s.ref, ref);
    ASSERT_EQ(s.actor, gone);
    ASSERT_EQ(s.reason, FIBRIL_EXIT_NOPROC);
    return 0;
}

ACTOR_TEST(demonitor_before_the_end_leaves_no_message)
{
    uint64_t ref, child = spawn_monitored(returns_when_told, NULL, &ref);
    ASSERT_OK(fibril_actor_demonitor(ref));
    tell(child, 1, -EIO);
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_ERR(fibril_actor_demonitor(ref), -ENOENT);
    return 0;
}

ACTOR_TEST(demonitor_after_the_end_takes_the_message_back)
{
    uint64_t refs[3];
    for (int i = 0; i < 3; i++) {
        spawn_monitored(returns, &error, &refs[i]);
    }
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 3);
    ASSERT_OK(fibril_actor_demonitor(refs[1]));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).ref, refs[0]);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).ref, refs[2]);
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST(a_monitor_does_not_end_its_watcher)
{
    uint64_t ref;
    spawn_monitored(returns, &error, &ref);
    settle();
    ASSERT(!fibril_actor_exiting(NULL));
    ASSERT_EQ(fibril_actor_waiting(), 1);
    return 0;
}

ACTOR_TEST(an_exit_signal_gives_its_reason)
{
    uint64_t ref, child = spawn_monitored(idle, NULL, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(child, -EDOM));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, -EDOM);
    return 0;
}

ACTOR_TEST(a_normal_exit_signal_is_ignored)
{
    uint64_t child = spawn(idle, NULL);
    settle();
    ASSERT_OK(fibril_actor_exit(child, FIBRIL_EXIT_NORMAL));
    settle();
    ASSERT(fibril_actor_alive(child));
    return 0;
}

static int traps(void *arg)
{
    fibril_actor_trap_exits(true);
    uint64_t parent = *(uint64_t *)arg;
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        struct fibril_signal s = *(struct fibril_signal *)fibril_message_data(m);
        fibril_message_free(m);
        tell(parent, 7, s.reason);
    }
    return rc;
}

ACTOR_TEST(a_normal_exit_signal_is_a_message_to_one_that_traps)
{
    uint64_t self = fibril_actor_self(), child = spawn(traps, &self);
    settle();
    ASSERT_OK(fibril_actor_exit(child, FIBRIL_EXIT_NORMAL));
    ASSERT_EQ(expect(7), FIBRIL_EXIT_NORMAL);
    ASSERT_OK(fibril_actor_exit(child, -EIO));
    ASSERT_EQ(expect(7), -EIO);
    ASSERT(fibril_actor_alive(child));
    return 0;
}

ACTOR_TEST(kill_cannot_be_trapped)
{
    uint64_t ref, self = fibril_actor_self(), child = spawn_monitored(traps, &self, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(child, FIBRIL_EXIT_KILL));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_KILLED);
    return 0;
}

ACTOR_TEST(one_that_is_told_before_it_begins_does_not_begin)
{
    uint64_t ref, self = fibril_actor_self(), child = spawn_monitored(traps, &self, &ref);
    ASSERT_OK(fibril_actor_exit(child, FIBRIL_EXIT_SHUTDOWN));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_SHUTDOWN);
    ASSERT_EQ(noted.crashes, 0);
    return 0;
}

static int sleeps(void *arg)
{
    return fibril_sleep(MS(100000)) == -ECANCELED ? *(int *)arg : 0;
}

ACTOR_TEST(the_reason_of_the_signal_counts_not_the_result)
{
    uint64_t ref, child = spawn_monitored(sleeps, &error, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(child, 42));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, 42);
    return 0;
}

ACTOR_TEST(signals_overtake_messages)
{
    uint64_t ref, self = fibril_actor_self();
    tell(self, 1, 1);
    tell(self, 1, 2);
    spawn_monitored(returns, &error, &ref);
    settle();
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).ref, ref);
    ASSERT_EQ(expect(1), 1);
    ASSERT_EQ(expect(1), 2);
    return 0;
}

ACTOR_TEST(a_crash_is_reported_with_all_that_is_known)
{
    uint64_t child;
    struct fibril_actor_opts opts = {.name = "worker"};
    ASSERT_OK(fibril_actor_spawn(returns_when_told, &error, &opts, &child));
    tell(child, 17, -EIO);
    tell(child, 18, 0);
    settle();
    ASSERT_EQ(noted.crashes, 1);
    ASSERT_EQ(noted.last.actor, child);
    ASSERT_STR(noted.name, "worker");
    ASSERT_EQ(noted.last.reason, -EIO);
    ASSERT(!noted.last.told);
    ASSERT_EQ(noted.last.last_tag, 17);
    ASSERT_EQ(noted.last.received, 1);
    ASSERT_EQ(noted.last.waiting, 1);
    ASSERT(noted.last.fn == returns_when_told);
    ASSERT_EQ(noted.last.arg, &error);
    return 0;
}

static void say_state(void *arg, char *text, size_t size)
{
    snprintf(text, size, "counted to %d", *(int *)arg);
}

static int fails_with_text(void *arg)
{
    static int state = 7;
    (void)arg;
    ASSERT_OK(fibril_actor_set_describe(say_state, &state));
    return fibril_actor_fail(-ENOSPC, "disk %d is full", 3);
}

ACTOR_TEST(a_crash_says_why_and_where_and_in_which_state)
{
    spawn(fails_with_text, NULL);
    settle();
    ASSERT_STR(noted.text, "disk 3 is full");
    ASSERT_STR(noted.state, "counted to 7");
    ASSERT_GT(noted.last.frame_count, 1);
    return 0;
}

ACTOR_TEST(neither_normal_nor_shutdown_is_a_crash)
{
    static int shutdown = FIBRIL_EXIT_SHUTDOWN;
    spawn(returns, &normal);
    spawn(returns, &shutdown);
    settle();
    ASSERT_EQ(noted.crashes, 0);
    return 0;
}

ACTOR_TEST(the_end_of_the_loop_is_a_shutdown)
{
    spawn(idle, NULL);
    settle();
    return 0; /* rig_run sees that it has ended, and nothing is reported */
}

ACTOR_TEST(a_default_report_is_printed)
{
    fibril_actor_on_trouble(NULL);
    EXPECT_ABORT(
        {
            spawn(fails_with_text, NULL);
            settle();
            abort();
        },
        "counted to 7");
    return 0;
}
