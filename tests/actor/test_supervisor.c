/* SPDX-License-Identifier: MIT */
/* Supervisors: strategies, rules, limits, the order of ends; trees and processes. */
#include "rig.h"

#include "base/compiler.h"

#include <fibril/supervisor.h>

#include <limits.h>
#include <signal.h>

static char events[256]; /* "+a" child a began, "-a" it ended */

static void log_event(char sign, const char *id)
{
    size_t n = strlen(events);
    snprintf(events + n, sizeof events - n, "%c%s", sign, id);
}

#if FIBRIL_HARD
static int by_name(const void *a, const void *b)
{
    return memcmp(a, b, 2);
}

/* Children are started in order and begin in any, as the queue is shuffled: runs of "+x" are
 * sorted. */
static void sort_beginnings(void)
{
    for (char *run = events; *run;) {
        size_t n = 0;
        while (run[n] == '+') {
            n += 2;
        }
        qsort(run, n / 2, 2, by_name);
        run += n ? n : 2;
    }
}
#else
#define sort_beginnings() ((void)0)
#endif

static void expect_events(const char *text)
{
    sort_beginnings();
    ASSERT_STR(events, text);
}

/* A child: its argument is its id. Told a number it ends for that reason. */
static int child(void *arg)
{
    struct fibril_message *m;
    log_event('+', arg);
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc == 0) {
        rc = value_of(m);
        fibril_message_free(m);
    }
    log_event('-', arg);
    return rc;
}

#define CHILD(text, ...)                                                                           \
    {                                                                                              \
        .id = text, .fn = child, .arg = text, .opts = {.name = text}, __VA_ARGS__                  \
    }

static uint64_t start(const struct fibril_supervisor_spec *spec)
{
    uint64_t actor;
    struct fibril_actor_opts opts = {.link = true};
    fibril_actor_trap_exits(true);
    ASSERT_OK(fibril_supervisor_start(spec, &opts, &actor));
    return actor;
}

static uint64_t abc(enum fibril_strategy strategy)
{
    static const struct fibril_child_spec children[] = {CHILD("a"), CHILD("b"), CHILD("c")};
    struct fibril_supervisor_spec spec = {
        .strategy = strategy, .intensity = 10, .children = children, .n_children = 3};
    uint64_t s = start(&spec);
    settle();
    expect_events("+a+b+c");
    events[0] = '\0';
    return s;
}

static void fail(const char *name, int reason)
{
    uint64_t actor = fibril_actor_whereis(name);
    ASSERT_NE(actor, 0);
    tell(actor, 1, reason);
    settle();
}

ACTOR_TEST(one_for_one_restarts_the_one)
{
    abc(FIBRIL_ONE_FOR_ONE);
    uint64_t a = fibril_actor_whereis("a"), b = fibril_actor_whereis("b");
    fail("b", -EIO);
    expect_events("-b+b");
    ASSERT_EQ(fibril_actor_whereis("a"), a);
    ASSERT_NE(fibril_actor_whereis("b"), b);
    return 0;
}

ACTOR_TEST(one_for_all_ends_the_others_last_first_and_starts_all)
{
    abc(FIBRIL_ONE_FOR_ALL);
    fail("b", -EIO);
    expect_events("-b-c-a+a+b+c");
    return 0;
}

ACTOR_TEST(rest_for_one_restarts_those_after_it)
{
    abc(FIBRIL_REST_FOR_ONE);
    fail("b", -EIO);
    expect_events("-b-c+b+c");
    return 0;
}

ACTOR_TEST(the_end_comes_in_the_reverse_order)
{
    uint64_t s = abc(FIBRIL_ONE_FOR_ONE);
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    settle();
    expect_events("-c-b-a");
    ASSERT_EQ(expect_signal(FIBRIL_TAG_EXIT).reason, FIBRIL_EXIT_SHUTDOWN);
    return 0;
}

ACTOR_TEST(a_killed_supervisor_takes_its_children_with_it)
{
    uint64_t s = abc(FIBRIL_ONE_FOR_ONE);
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(fibril_actor_whereis("a"), 0);
    ASSERT_EQ(fibril_actor_whereis("c"), 0);
    return 0;
}

ACTOR_TEST(rules_of_restart)
{
    static const struct fibril_child_spec children[] = {
        CHILD("permanent"),
        CHILD("transient", .restart = FIBRIL_RESTART_TRANSIENT),
        CHILD("temporary", .restart = FIBRIL_RESTART_TEMPORARY),
    };
    struct fibril_supervisor_spec spec = {.intensity = 100, .children = children, .n_children = 3};
    struct fibril_child now[4];
    size_t n;
    uint64_t s = start(&spec);
    settle();
    fail("permanent", 0);
    ASSERT_NE(fibril_actor_whereis("permanent"), 0);
    fail("transient", -EIO);
    ASSERT_NE(fibril_actor_whereis("transient"), 0);
    fail("transient", FIBRIL_EXIT_SHUTDOWN);
    ASSERT_EQ(fibril_actor_whereis("transient"), 0);
    fail("temporary", -EIO);
    ASSERT_EQ(fibril_actor_whereis("temporary"), 0);
    ASSERT_OK(fibril_supervisor_children(s, now, 4, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 2); /* the temporary one is forgotten */
    ASSERT_EQ(now[0].restarts, 1);
    ASSERT_NE(now[0].actor, 0);
    ASSERT_STR(now[1].id, "transient");
    ASSERT_EQ(now[1].actor, 0);
    return 0;
}

ACTOR_TEST(too_many_restarts_within_the_period_end_the_supervisor)
{
    static const struct fibril_child_spec children[] = {CHILD("a"), CHILD("b")};
    struct fibril_supervisor_spec spec = {
        .intensity = 3, .period_ns = MS(1000), .children = children, .n_children = 2};
    uint64_t s = start(&spec);
    settle();
    for (int i = 0; i < 3; i++) {
        fail("a", -EIO);
    }
    ASSERT(fibril_actor_alive(s));
    fibril_sleep(MS(1100));
    for (int i = 0; i < 3; i++) { /* a new period */
        fail("a", -EIO);
    }
    ASSERT(fibril_actor_alive(s));
    fail("a", -EIO);
    ASSERT(!fibril_actor_alive(s));
    ASSERT_EQ(fibril_actor_whereis("b"), 0);
    ASSERT_EQ(noted.others, 1);
    ASSERT_EQ(noted.other, FIBRIL_TROUBLE_GAVE_UP);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_EXIT).reason, FIBRIL_EXIT_SHUTDOWN);
    return 0;
}

ACTOR_TEST(restarts_back_off_and_the_pause_doubles)
{
    static const struct fibril_child_spec children[] = {CHILD("a")};
    struct fibril_supervisor_spec spec = {.intensity = UINT_MAX,
                                          .period_ns = MS(10000),
                                          .backoff_ns = MS(100),
                                          .backoff_max_ns = MS(300),
                                          .children = children,
                                          .n_children = 1};
    static const int pauses[] = {100, 200, 300, 300};
    start(&spec);
    settle();
    for (int i = 0; i < 4; i++) {
        fail("a", -EIO);
        fibril_sleep(MS(pauses[i] - 10));
        ASSERT_EQ(fibril_actor_whereis("a"), 0);
        fibril_sleep(MS(20));
        ASSERT_NE(fibril_actor_whereis("a"), 0);
    }
    return 0;
}

static int stubborn(void *arg)
{
    fibril_actor_trap_exits(true);
    log_event('+', arg);
    struct fibril_message *m;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        fibril_message_free(m);
    }
    log_event('-', arg);
    return 0;
}

ACTOR_TEST(a_child_that_does_not_end_in_time_is_killed)
{
    static const struct fibril_child_spec children[] = {
        {.id = "s", .fn = stubborn, .arg = "s", .shutdown_ns = MS(50)},
    };
    struct fibril_supervisor_spec spec = {.children = children, .n_children = 1};
    uint64_t s = start(&spec);
    settle();
    int64_t begin = fibril_now();
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(fibril_now() - begin, MS(50));
    expect_events("+s-s");
    ASSERT_EQ(noted.last.reason, FIBRIL_EXIT_KILLED);
    return 0;
}

static int unlinks(void *arg)
{
    uint64_t supervisor = *(uint64_t *)arg;
    fibril_actor_unlink(supervisor);
    return idle(NULL);
}

ACTOR_TEST(a_child_that_unlinked_itself_is_ended_all_the_same)
{
    static uint64_t s;
    static struct fibril_child_spec children[] = {{.id = "u", .fn = unlinks, .arg = &s}};
    struct fibril_supervisor_spec spec = {
        .strategy = FIBRIL_SIMPLE, .children = children, .n_children = 1};
    uint64_t u;
    s = start(&spec);
    ASSERT_OK(fibril_supervisor_add(s, NULL, &s, FIBRIL_FOREVER, &u));
    settle();
    ASSERT_OK(fibril_supervisor_end_child(s, u, FIBRIL_FOREVER));
    ASSERT(!fibril_actor_alive(u));
    return 0;
}

ACTOR_TEST(a_tree_in_data)
{
    static const struct fibril_child_spec inner_children[] = {CHILD("x"), CHILD("y")};
    static const struct fibril_supervisor_spec inner = {
        .name = "inner", .intensity = 1, .children = inner_children, .n_children = 2};
    static const struct fibril_child_spec outer_children[] = {
        CHILD("a"), {.id = "inner", .supervisor = &inner}, CHILD("z")};
    struct fibril_supervisor_spec outer = {
        .intensity = 3, .children = outer_children, .n_children = 3};
    uint64_t s = start(&outer);
    settle();
    expect_events("+a+x+y+z");
    uint64_t first = fibril_actor_whereis("inner");
    fail("x", -EIO);
    ASSERT_EQ(fibril_actor_whereis("inner"), first);
    fail("x", -EIO); /* one too many: the inner one gives up, the outer one starts it again */
    uint64_t second = fibril_actor_whereis("inner");
    ASSERT(second != 0 && second != first);
    ASSERT_NE(fibril_actor_whereis("x"), 0);
    events[0] = '\0';
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    settle();
    expect_events("-z-y-x-a");
    return 0;
}

ACTOR_TEST(simple_children_come_and_go)
{
    static const struct fibril_child_spec pattern[] = {
        {.fn = child, .restart = FIBRIL_RESTART_TRANSIENT}};
    struct fibril_supervisor_spec spec = {
        .strategy = FIBRIL_SIMPLE, .intensity = 10, .children = pattern, .n_children = 1};
    struct fibril_child now[8];
    uint64_t s = start(&spec), one, two;
    size_t n;
    ASSERT_OK(fibril_supervisor_add(s, NULL, "1", FIBRIL_FOREVER, &one));
    ASSERT_OK(fibril_supervisor_add(s, NULL, "2", FIBRIL_FOREVER, &two));
    settle();
    expect_events("+1+2");
    tell(one, 1, -EIO);
    settle();
    expect_events("+1+2-1+1");
    tell(two, 1, 0);
    settle();
    ASSERT_OK(fibril_supervisor_children(s, now, 8, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 1);
    ASSERT_EQ(now[0].restarts, 1);
    ASSERT_OK(fibril_supervisor_end_child(s, now[0].actor, FIBRIL_FOREVER));
    ASSERT_OK(fibril_supervisor_children(s, now, 8, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 0);
    ASSERT_ERR(fibril_supervisor_end_child(s, one, FIBRIL_FOREVER), -ENOENT);
    return 0;
}

ACTOR_TEST(children_can_be_added_ended_restarted_and_removed)
{
    uint64_t s = abc(FIBRIL_ONE_FOR_ONE), d;
    struct fibril_child_spec spec = CHILD("d");
    ASSERT_OK(fibril_supervisor_add(s, &spec, NULL, FIBRIL_FOREVER, &d));
    ASSERT_ERR(fibril_supervisor_add(s, &spec, NULL, FIBRIL_FOREVER, NULL), -EEXIST);
    settle();
    ASSERT_EQ(fibril_actor_whereis("d"), d);
    ASSERT_ERR(fibril_supervisor_remove(s, "d", FIBRIL_FOREVER), -EBUSY);
    ASSERT_OK(fibril_supervisor_end(s, "d", FIBRIL_FOREVER));
    ASSERT(!fibril_actor_alive(d));
    ASSERT_OK(fibril_supervisor_restart(s, "d", FIBRIL_FOREVER, &d));
    ASSERT_ERR(fibril_supervisor_restart(s, "d", FIBRIL_FOREVER, NULL), -EBUSY);
    ASSERT_EQ(fibril_actor_whereis("d"), d);
    ASSERT_OK(fibril_supervisor_end(s, "d", FIBRIL_FOREVER));
    ASSERT_OK(fibril_supervisor_remove(s, "d", FIBRIL_FOREVER));
    ASSERT_ERR(fibril_supervisor_restart(s, "d", FIBRIL_FOREVER, NULL), -ENOENT);
    return 0;
}

ACTOR_TEST(a_start_that_fails_leaves_nothing_running)
{
    static const struct fibril_child_spec children[] = {CHILD("a"), CHILD("taken"), CHILD("c")};
    struct fibril_supervisor_spec spec = {.children = children, .n_children = 3};
    struct fibril_actor_opts opts = {.link = true};
    uint64_t s;
    ASSERT_OK(fibril_actor_register(fibril_actor_self(), "taken"));
    ASSERT_ERR(fibril_supervisor_start(&spec, &opts, &s), -EEXIST);
    settle();
    ASSERT_EQ(fibril_actor_whereis("a"), 0);
    ASSERT_EQ(fibril_actor_whereis("c"), 0);
    ASSERT(!fibril_actor_exiting(NULL));
    return 0;
}

ACTOR_TEST(specifications_are_checked)
{
    static const struct fibril_child_spec none[] = {{.id = "a"}};
    static const struct fibril_child_spec no_id[] = {{.fn = child}};
    static const struct fibril_child_spec twice[] = {CHILD("a"), CHILD("a")};
    uint64_t s;
    struct fibril_supervisor_spec spec = {.children = none, .n_children = 1};
    ASSERT_ERR(fibril_supervisor_start(&spec, NULL, &s), -EINVAL);
    spec.children = no_id;
    ASSERT_ERR(fibril_supervisor_start(&spec, NULL, &s), -EINVAL);
    spec.children = twice;
    spec.n_children = 2;
    ASSERT_ERR(fibril_supervisor_start(&spec, NULL, &s), -EEXIST);
    return 0;
}

ACTOR_TEST(ten_thousand_children_are_killed_and_none_is_lost)
{
    enum { N = 10000 };
    static const struct fibril_child_spec pattern[] = {
        {.fn = idle, .opts = {.stack = FIBRIL_STACK_COPIED}}};
    struct fibril_supervisor_spec spec = {
        .strategy = FIBRIL_SIMPLE, .intensity = UINT_MAX, .children = pattern, .n_children = 1};
    static struct fibril_child now[N];
    uint64_t s = start(&spec), c;
    int n_all = test_is_slow() ? N / 20 : N;
    size_t n;
    for (int i = 0; i < n_all; i++) {
        ASSERT_OK(fibril_supervisor_add(s, NULL, NULL, FIBRIL_FOREVER, &c));
    }
    ASSERT_OK(fibril_supervisor_children(s, now, N, FIBRIL_FOREVER, &n));
    for (size_t i = 0; i < n; i++) {
        ASSERT_OK(fibril_actor_exit(now[i].actor, FIBRIL_EXIT_KILL));
    }
    settle();
    ASSERT_OK(fibril_supervisor_children(s, now, N, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, n_all);
    for (size_t i = 0; i < n; i++) {
        ASSERT(fibril_actor_alive(now[i].actor));
        ASSERT_EQ(now[i].restarts, 1);
    }
    return 0;
}

static int holders[2];

static void hold(void *arg, bool on)
{
    if (arg) {
        *(int *)arg += on ? 1 : -1;
    }
}

static int held_child(void *arg)
{
    struct fibril_message *m;
    ASSERT(!arg || *(int *)arg > 0);
    return fibril_actor_receive(FIBRIL_FOREVER, &m);
}

ACTOR_TEST(arguments_are_held_as_long_as_a_child_may_be_started_with_them)
{
    static const struct fibril_child_spec inner[] = {
        {.id = "x", .fn = held_child, .arg = &holders[0], .hold = hold}};
    static const struct fibril_supervisor_spec below = {.children = inner, .n_children = 1};
    static const struct fibril_child_spec outer[] = {
        {.id = "below", .supervisor = &below, .opts = {.name = "below"}}};
    static const struct fibril_child_spec pattern[] = {{.fn = held_child, .hold = hold}};
    struct fibril_supervisor_spec top = {.children = outer, .n_children = 1};
    struct fibril_supervisor_spec simple = {
        .strategy = FIBRIL_SIMPLE, .children = pattern, .n_children = 1};
    uint64_t s = start(&top), c;
    int held = holders[0];
    ASSERT(held > 0);
    ASSERT_OK(fibril_actor_exit(fibril_actor_whereis("below"), FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(holders[0], held);
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    settle();
    ASSERT_EQ(holders[0], 0);
    s = start(&simple);
    ASSERT_OK(fibril_supervisor_add(s, NULL, &holders[1], FIBRIL_FOREVER, &c));
    ASSERT_EQ(holders[1], 1);
    ASSERT_OK(fibril_supervisor_end_child(s, c, FIBRIL_FOREVER));
    ASSERT_EQ(holders[1], 0);
    return 0;
}

/* ---- processes, in real time ---- */

static int with_process(void *arg)
{
    static const char *const sleeper[] = {"sleep", "1000", NULL};
    static const char *const fails[] = {"false", NULL};
    static const struct fibril_child_spec children[] = {
        {.id = "sleeper", .process = sleeper, .opts = {.name = "sleeper"}},
        {.id = "fails", .process = fails, .restart = FIBRIL_RESTART_TEMPORARY},
    };
    struct fibril_supervisor_spec spec = {.children = children, .n_children = 2};
    struct fibril_actor_opts opts = {.link = true};
    uint64_t s;
    (void)arg;
    fibril_actor_trap_exits(true);
    ASSERT_OK(fibril_supervisor_start(&spec, &opts, &s));
    while (noted.crashes == 0) {
        ASSERT_OK(fibril_sleep(MS(5)));
    }
    ASSERT_EQ(noted.last.reason, 1); /* the status of false */
    uint64_t ref;
    ASSERT_OK(fibril_actor_monitor(fibril_actor_whereis("sleeper"), &ref));
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    struct fibril_signal down = expect_signal_within(FIBRIL_TAG_DOWN, 10000);
    ASSERT_EQ(down.reason, FIBRIL_EXIT_SHUTDOWN);
    expect_signal_within(FIBRIL_TAG_EXIT, 10000);
    return 0;
}

static void note_crash(const struct fibril_actor_report *r)
{
    noted.last = *r;
    noted.crashes++;
}

TEST(a_child_can_be_a_process)
{
    fibril_actor_on_trouble(note_crash);
    ASSERT_OK(fibril_run(NULL, with_process, NULL));
}
