/* SPDX-License-Identifier: MIT */
/* Servers: start and init, calls, casts and the rest, deferred replies, idleness, the end, other
 * code while they run; servers as children of supervisors. */
#include "rig.h"

#include "base/alloc.h"

#include <fibril/server.h>
#include <fibril/supervisor.h>

enum { ADD = 1, GET, DEFER, RELEASE, ECHO, FAIL, SLOW, STEPS };

/* What the servers of these tests did, in the order in which they did it. */
static char events[256];

static void log_event(const char *what)
{
    size_t n = strlen(events);
    snprintf(events + n, sizeof events - n, "%s ", what);
}

struct counter {
    long n;
    struct fibril_from waiting; /* DEFER: who is to get n at RELEASE */
    int terminated;
};

struct setup {
    long n;
    int result;       /* of init */
    int64_t pause_ns; /* in init */
    int64_t idle_ns;
    long steps;
};

static struct setup current; /* the last one that was given to init */

static int init(struct fibril_server *s, void *state, void *arg)
{
    struct counter *c = state;
    ASSERT_EQ(c->n, 0);
    if (!arg) {
        return 0;
    }
    current = *(struct setup *)arg;
    c->n = current.n;
    if (current.pause_ns && fibril_sleep(current.pause_ns) < 0) {
        log_event("init-cancelled");
        return -ECANCELED;
    }
    fibril_server_set_idle(s, current.idle_ns);
    if (current.steps) {
        fibril_server_go_on(s, (void *)(intptr_t)current.steps);
    }
    return current.result;
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct counter *c = state;
    struct fibril_from from = fibril_message_from(m);
    switch (fibril_message_tag(m)) {
    case GET: return fibril_server_reply(from, &c->n, sizeof c->n);
    case DEFER: c->waiting = from; return 0;
    case ECHO: fibril_actor_reply(from, fibril_server_take(s)); return 0;
    case SLOW:
        ASSERT_OK(fibril_sleep(MS(100)));
        return fibril_server_reply(from, &c->n, sizeof c->n);
    default: return fibril_actor_fail(-EPROTO, "no such call");
    }
}

static int on_cast(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct counter *c = state;
    (void)s;
    switch (fibril_message_tag(m)) {
    case ADD: c->n += value_of(m); return 0;
    case RELEASE: return fibril_server_reply(c->waiting, &c->n, sizeof c->n);
    default: return value_of(m);
    }
}

static int on_info(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct counter *c = state;
    (void)s;
    if (fibril_message_kind(m) == FIBRIL_MESSAGE_SIGNAL) {
        log_event(fibril_message_tag(m) == FIBRIL_TAG_EXIT ? "exit" : "down");
        return 0;
    }
    c->n += 1000;
    return 0;
}

static int on_idle(struct fibril_server *s, void *state)
{
    (void)s;
    (void)state;
    log_event("idle");
    return 0;
}

static int on_go_on(struct fibril_server *s, void *state, void *arg)
{
    struct counter *c = state;
    c->n++;
    if ((intptr_t)arg > 1) {
        fibril_server_go_on(s, (void *)((intptr_t)arg - 1));
    }
    return 0;
}

static int terminate_reason, terminate_wait;

static void terminate(struct fibril_server *s, void *state, int reason)
{
    struct counter *c = state;
    (void)s;
    ASSERT_EQ(c->terminated++, 0);
    log_event("terminate");
    terminate_reason = reason;
    terminate_wait = fibril_sleep(MS(1));
}

static void describe(const void *state, char *text, size_t size)
{
    const struct counter *c = state;
    snprintf(text, size, "n=%ld", c->n);
}

static const struct fibril_server_type counter = {.name = "counter",
                                                  .state_bytes = sizeof(struct counter),
                                                  .init = init,
                                                  .call = on_call,
                                                  .cast = on_cast,
                                                  .info = on_info,
                                                  .idle = on_idle,
                                                  .go_on = on_go_on,
                                                  .terminate = terminate,
                                                  .describe = describe};

static uint64_t start_by(const struct setup *setup, const struct fibril_actor_opts *opts)
{
    struct fibril_actor_opts mine = opts ? *opts : (struct fibril_actor_opts){0};
    struct setup copy = setup ? *setup : (struct setup){0};
    uint64_t actor = 0;
    mine.stack = rig_stack;
    ASSERT_OK(fibril_server_start(&counter, &copy, &mine, fibril_after(MS(1000)), &actor));
    ASSERT_NE(actor, 0);
    return actor;
}

static uint64_t start(void)
{
    return start_by(NULL, NULL);
}

static void add(uint64_t server, int n)
{
    ASSERT_OK(fibril_server_cast(server, ADD, &n, sizeof n, FIBRIL_FOREVER));
}

static void fail(uint64_t server, int reason)
{
    ASSERT_OK(fibril_server_cast(server, FAIL, &reason, sizeof reason, FIBRIL_FOREVER));
    settle();
}

static long get(uint64_t server)
{
    long n = -1;
    ASSERT_OK(fibril_server_call(server, GET, NULL, 0, fibril_after(MS(1000)), &n, sizeof n));
    return n;
}

/* ---- start ---- */

ACTOR_TEST_ON_BOTH_STACKS(the_start_waits_for_init)
{
    struct setup setup = {.n = 7, .pause_ns = MS(50)};
    int64_t began = fibril_now();
    uint64_t a = start_by(&setup, NULL);
    ASSERT_GE(fibril_now() - began, MS(50));
    ASSERT_EQ(get(a), 7);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(an_init_that_fails_fails_the_start_and_sends_no_exit_signal)
{
    struct setup setup = {.result = -EACCES};
    struct fibril_actor_opts opts = {.link = true, .name = "failing", .stack = rig_stack};
    uint64_t a = 1;
    fibril_actor_trap_exits(true);
    ASSERT_ERR(fibril_server_start(&counter, &setup, &opts, FIBRIL_FOREVER, &a), -EACCES);
    ASSERT_EQ(a, 1);
    ASSERT_EQ(fibril_actor_whereis("failing"), 0);
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_STR(events, "");
    ASSERT_EQ(noted.crashes, 1);
    ASSERT_EQ(noted.last.reason, -EACCES);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(an_init_that_stops_is_a_start_that_was_called_off)
{
    struct setup setup = {.result = FIBRIL_STOP};
    uint64_t a;
    ASSERT_ERR(fibril_server_start(&counter, &setup, NULL, FIBRIL_FOREVER, &a), -ECANCELED);
    ASSERT_EQ(noted.crashes, 0);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_start_ends_at_its_deadline)
{
    struct setup setup = {.pause_ns = MS(10000)};
    struct fibril_actor_opts opts = {.link = true, .stack = rig_stack};
    int64_t began = fibril_now();
    uint64_t a;
    fibril_actor_trap_exits(true);
    ASSERT_ERR(fibril_server_start(&counter, &setup, &opts, fibril_after(MS(20)), &a), -ETIMEDOUT);
    ASSERT_LT(fibril_now() - began, MS(1000));
    ASSERT_STR(events, "init-cancelled ");
    settle();
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

static int starts_slowly(void *arg)
{
    struct setup setup = {.pause_ns = MS(10000)};
    uint64_t a;
    int rc = fibril_server_start(&counter, &setup, NULL, FIBRIL_FOREVER, &a);
    *(int *)arg = rc;
    return rc;
}

ACTOR_TEST(a_start_whose_caller_is_killed_leaves_nothing_running)
{
    static int result;
    uint64_t a = spawn(starts_slowly, &result);
    ASSERT_OK(fibril_sleep(MS(5)));
    ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_KILL));
    settle();
    ASSERT_EQ(result, -ECANCELED);
    ASSERT_STR(events, "init-cancelled ");
    return 0;
}

ACTOR_TEST(a_taken_name_fails_the_start)
{
    struct fibril_actor_opts opts = {.name = "a"};
    uint64_t a;
    start_by(NULL, &opts);
    ASSERT_ERR(fibril_server_start(&counter, NULL, &opts, FIBRIL_FOREVER, &a), -EEXIST);
    return 0;
}

/* ---- messages ---- */

ACTOR_TEST_ON_BOTH_STACKS(calls_casts_and_plain_messages_go_where_they_belong)
{
    uint64_t a = start();
    add(a, 5);
    add(a, 6);
    ASSERT_EQ(get(a), 11);
    tell(a, ADD, 1);
    ASSERT_EQ(get(a), 1011);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_message_that_was_taken_can_be_the_reply)
{
    uint64_t a = start();
    char in[] = "hello", out[sizeof in];
    ASSERT_OK(fibril_server_call(a, ECHO, in, sizeof in, FIBRIL_FOREVER, out, sizeof out));
    ASSERT_STR(out, "hello");
    return 0;
}

ACTOR_TEST(a_reply_of_another_size_is_an_error)
{
    uint64_t a = start();
    char small;
    ASSERT_ERR(fibril_server_call(a, GET, NULL, 0, FIBRIL_FOREVER, &small, 1), -EMSGSIZE);
    ASSERT_ERR(fibril_server_call(a, GET, NULL, 0, FIBRIL_FOREVER, NULL, 0), -EMSGSIZE);
    ASSERT_EQ(get(a), 0);
    return 0;
}

static int defers(void *arg)
{
    long n = -1;
    int rc = fibril_server_call(*(uint64_t *)arg, DEFER, NULL, 0, FIBRIL_FOREVER, &n, sizeof n);
    return rc < 0 ? rc : (int)n;
}

ACTOR_TEST_ON_BOTH_STACKS(a_reply_may_come_from_a_later_callback)
{
    static uint64_t a;
    uint64_t ref;
    a = start();
    spawn_monitored(defers, &a, &ref);
    settle();
    add(a, 3);
    ASSERT_EQ(get(a), 3);
    ASSERT_OK(fibril_server_cast(a, RELEASE, NULL, 0, FIBRIL_FOREVER));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, 3);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_deferred_reply_to_a_dead_caller_is_dropped_and_counted)
{
    static uint64_t a;
    uint64_t ref, caller;
    struct fibril_actor_counts before, after;
    a = start();
    caller = spawn_monitored(defers, &a, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(caller, FIBRIL_EXIT_KILL));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_KILLED);
    fibril_actor_counts(&before);
    ASSERT_OK(fibril_server_cast(a, RELEASE, NULL, 0, FIBRIL_FOREVER));
    ASSERT_EQ(get(a), 0);
    fibril_actor_counts(&after);
    ASSERT_EQ(after.late_replies - before.late_replies, 1);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_call_ends_with_its_server)
{
    static uint64_t a;
    uint64_t ref;
    a = start();
    spawn_monitored(defers, &a, &ref);
    settle();
    fail(a, -EIO);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, -EPIPE);
    long n;
    ASSERT_ERR(fibril_server_call(a, GET, NULL, 0, FIBRIL_FOREVER, &n, sizeof n), -ESRCH);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_late_reply_is_not_taken_for_the_next_one)
{
    uint64_t a = start();
    long n = -1;
    struct fibril_actor_counts counts;
    ASSERT_ERR(fibril_server_call(a, SLOW, NULL, 0, fibril_after(MS(10)), &n, sizeof n),
               -ETIMEDOUT);
    add(a, 1);
    ASSERT_EQ(get(a), 1);
    ASSERT_EQ(n, -1);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.late_replies, 1);
    return 0;
}

ACTOR_TEST(what_nobody_handles_is_refused_or_a_dead_letter)
{
    static const struct fibril_server_type nothing = {.name = "nothing"};
    uint64_t a;
    struct fibril_actor_counts counts;
    ASSERT_OK(fibril_server_start(&nothing, NULL, NULL, FIBRIL_FOREVER, &a));
    tell(a, 1, 1);
    ASSERT_OK(fibril_server_cast(a, ADD, NULL, 0, FIBRIL_FOREVER));
    ASSERT_ERR(fibril_server_call(a, GET, NULL, 0, FIBRIL_FOREVER, NULL, 0), -ENOSYS);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dead_letters, 2);
    ASSERT(fibril_actor_alive(a));
    return 0;
}

/* ---- time and steps ---- */

ACTOR_TEST_ON_BOTH_STACKS(idleness_is_noticed_again_and_again_and_not_while_messages_come)
{
    struct setup setup = {.idle_ns = MS(10)};
    uint64_t a = start_by(&setup, NULL);
    for (int i = 0; i < 10; i++) {
        ASSERT_OK(fibril_sleep(MS(6)));
        add(a, 1);
    }
    ASSERT_STR(events, "");
    ASSERT_OK(fibril_sleep(MS(25)));
    ASSERT_STR(events, "idle idle ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(steps_go_before_messages)
{
    struct setup setup = {.steps = 3};
    uint64_t a = start_by(&setup, NULL);
    ASSERT_EQ(get(a), 3);
    return 0;
}

/* ---- the end ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_stop_terminates_and_returns_when_all_is_over)
{
    struct fibril_actor_opts opts = {.name = "a"};
    uint64_t a = start_by(NULL, &opts);
    add(a, 1);
    ASSERT_OK(fibril_server_stop(a, FIBRIL_EXIT_NORMAL, fibril_after(MS(1000))));
    ASSERT_EQ(fibril_actor_whereis("a"), 0);
    ASSERT_STR(events, "terminate ");
    ASSERT_EQ(terminate_reason, FIBRIL_EXIT_NORMAL);
    ASSERT_EQ(terminate_wait, 0);
    ASSERT_EQ(noted.crashes, 0);
    ASSERT_ERR(fibril_server_stop(a, 0, FIBRIL_FOREVER), -ESRCH);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_crash_is_reported_with_the_state_and_terminates_after_that)
{
    uint64_t a = start();
    add(a, 42);
    struct fibril_message *m = note(99, 1), *reply;
    ASSERT_ERR(fibril_actor_call(a, m, FIBRIL_FOREVER, &reply), -EPIPE);
    ASSERT_EQ(noted.crashes, 1);
    ASSERT_EQ(noted.last.reason, -EPROTO);
    ASSERT_STR(noted.text, "no such call");
    ASSERT_STR(noted.state, "n=42");
    ASSERT_EQ(terminate_reason, -EPROTO);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(told_to_end_it_terminates_but_cannot_wait)
{
    uint64_t a = start();
    ASSERT_OK(fibril_actor_exit(a, FIBRIL_EXIT_SHUTDOWN));
    settle();
    ASSERT_STR(events, "terminate ");
    ASSERT_EQ(terminate_reason, FIBRIL_EXIT_SHUTDOWN);
    ASSERT_EQ(terminate_wait, -ECANCELED);
    ASSERT(!fibril_actor_alive(a));
    return 0;
}

static int parent(void *arg)
{
    struct fibril_actor_opts opts = {.link = true, .trap_exits = true};
    struct fibril_message *m;
    *(uint64_t *)arg = start_by(NULL, &opts);
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    return rc < 0 ? rc : 0;
}

ACTOR_TEST_ON_BOTH_STACKS(one_that_traps_exits_ends_in_order_with_its_parent_only)
{
    static uint64_t a;
    uint64_t p = spawn(parent, &a);
    settle();
    ASSERT_OK(fibril_actor_exit(a, -EIO));
    settle();
    ASSERT_STR(events, "exit ");
    ASSERT(fibril_actor_alive(a));
    ASSERT_OK(fibril_actor_exit(p, -EBADF));
    ASSERT_OK(fibril_sleep(MS(10)));
    ASSERT_STR(events, "exit terminate ");
    ASSERT_EQ(terminate_reason, -EBADF);
    ASSERT_EQ(terminate_wait, 0);
    return 0;
}

static int starts_one(void *arg)
{
    (void)arg;
    start();
    return 0;
}

TEST(the_end_of_the_program_terminates_servers)
{
    rig_run(starts_one);
    ASSERT_STR(events, "terminate ");
    ASSERT_EQ(terminate_reason, FIBRIL_EXIT_SHUTDOWN);
}

/* ---- looking inside, other code ---- */

ACTOR_TEST_ON_BOTH_STACKS(the_status_is_what_it_says_of_itself)
{
    uint64_t a = start(), b;
    char text[64] = "old";
    static const struct fibril_server_type silent = {.name = "silent"};
    add(a, 5);
    ASSERT_OK(fibril_server_status(a, text, sizeof text, FIBRIL_FOREVER));
    ASSERT_STR(text, "n=5");
    ASSERT_OK(fibril_server_status(a, text, 3, FIBRIL_FOREVER));
    ASSERT_STR(text, "n=");
    ASSERT_OK(fibril_server_start(&silent, NULL, NULL, FIBRIL_FOREVER, &b));
    ASSERT_OK(fibril_server_status(b, text, sizeof text, FIBRIL_FOREVER));
    ASSERT_STR(text, "");
    return 0;
}

/* The second version counts in steps of ten, and knows how often. */
struct counter2 {
    long n, times;
    long padding[20];
};

static int on_cast2(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct counter2 *c = state;
    (void)s;
    c->n += 10 * value_of(m);
    c->times++;
    return 0;
}

static int on_call2(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct counter2 *c = state;
    long n = c->n + 100 * c->times;
    (void)s;
    return fibril_server_reply(fibril_message_from(m), &n, sizeof n);
}

static int change(struct fibril_server *s, void *state, const struct fibril_server_type *old,
                  void *old_state, void *extra)
{
    struct counter2 *c = state;
    (void)s;
    ASSERT_EQ(c->times, 0);
    if (old != &counter) {
        return -EINVAL;
    }
    if (extra) {
        return *(int *)extra;
    }
    c->n = ((struct counter *)old_state)->n;
    return 0;
}

static const struct fibril_server_type counter2 = {.name = "counter2",
                                                   .state_bytes = sizeof(struct counter2),
                                                   .call = on_call2,
                                                   .cast = on_cast2,
                                                   .change = change};

ACTOR_TEST_ON_BOTH_STACKS(other_code_takes_the_state_over_and_messages_stay)
{
    uint64_t a = start();
    add(a, 5);
    tell(a, ADD, 1);
    ASSERT_OK(fibril_server_replace(a, &counter2, NULL, FIBRIL_FOREVER));
    ASSERT_EQ(get(a), 1005);
    add(a, 2);
    ASSERT_EQ(get(a), 1125);
    ASSERT_OK(fibril_server_stop(a, 0, FIBRIL_FOREVER));
    ASSERT_STR(events, "");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_change_that_fails_has_changed_nothing)
{
    uint64_t a = start(), self = fibril_actor_self();
    static int error = -EBUSY;
    static const struct fibril_server_type other_size = {.state_bytes = 1};
    add(a, 5);
    ASSERT_ERR(fibril_server_replace(a, &counter2, &error, FIBRIL_FOREVER), -EBUSY);
    ASSERT_ERR(fibril_server_replace(a, &other_size, NULL, FIBRIL_FOREVER), -EINVAL);
    ASSERT_EQ(get(a), 5);
    ASSERT_ERR(fibril_server_replace(self, &counter2, NULL, FIBRIL_FOREVER), -EDEADLK);
    return 0;
}

ACTOR_TEST(code_of_the_same_state_needs_no_change)
{
    static struct fibril_server_type patched;
    uint64_t a = start();
    add(a, 5);
    patched = counter;
    patched.cast = NULL;
    ASSERT_OK(fibril_server_replace(a, &patched, NULL, FIBRIL_FOREVER));
    add(a, 5);
    ASSERT_EQ(get(a), 5);
    return 0;
}

/* ---- children of supervisors ---- */

static struct setup child_setup;

static int supervise(uint64_t *ret_supervisor)
{
    struct fibril_child_spec children[] = {
        {.id = "good",
         .server = &counter,
         .opts = {.name = "good", .stack = rig_stack, .trap_exits = true}},
        {.id = "child",
         .server = &counter,
         .arg = &child_setup,
         .opts = {.name = "child", .stack = rig_stack}}};
    struct fibril_supervisor_spec spec = {.intensity = 3, .children = children, .n_children = 2};
    struct fibril_actor_opts opts = {.link = true};
    fibril_actor_trap_exits(true);
    return fibril_supervisor_start(&spec, &opts, ret_supervisor);
}

ACTOR_TEST_ON_BOTH_STACKS(a_child_whose_init_fails_fails_the_start_of_its_supervisor)
{
    uint64_t s;
    child_setup.result = -EADDRINUSE;
    ASSERT_ERR(supervise(&s), -EADDRINUSE);
    ASSERT_EQ(fibril_actor_whereis("good"), 0);
    ASSERT_STR(events, "terminate ");
    ASSERT_EQ(terminate_reason, FIBRIL_EXIT_SHUTDOWN);
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_child_that_fails_later_is_started_again)
{
    uint64_t s, a;
    child_setup.n = 3;
    ASSERT_OK(supervise(&s));
    a = fibril_actor_whereis("child");
    add(a, 1);
    ASSERT_EQ(get(a), 4);
    fail(a, -EIO);
    ASSERT_OK(fibril_sleep(MS(10)));
    ASSERT_NE(fibril_actor_whereis("child"), a);
    ASSERT_EQ(get(fibril_actor_whereis("child")), 3);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(an_init_that_fails_at_a_restart_is_tried_again_until_the_limit)
{
    uint64_t s;
    ASSERT_OK(supervise(&s));
    child_setup.result = -EIO;
    fail(fibril_actor_whereis("child"), -EIO);
    ASSERT_OK(fibril_sleep(MS(15)));
    child_setup.result = 0;
    ASSERT_OK(fibril_sleep(MS(15)));
    ASSERT_EQ(get(fibril_actor_whereis("child")), 0);
    child_setup.result = -EIO;
    fail(fibril_actor_whereis("child"), -EIO);
    ASSERT_EQ(expect_signal(FIBRIL_TAG_EXIT).reason, FIBRIL_EXIT_SHUTDOWN);
    ASSERT_EQ(noted.other, FIBRIL_TROUBLE_GAVE_UP);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_child_that_is_added_tells_how_its_init_went)
{
    uint64_t s, child;
    struct fibril_child_spec spec = {.id = "more", .server = &counter, .arg = &child_setup};
    ASSERT_OK(supervise(&s));
    child_setup.result = -ENOENT;
    ASSERT_ERR(fibril_supervisor_add(s, &spec, NULL, FIBRIL_FOREVER, &child), -ENOENT);
    child_setup.result = 0;
    ASSERT_OK(fibril_supervisor_add(s, &spec, NULL, FIBRIL_FOREVER, &child));
    ASSERT_EQ(get(child), 0);
    return 0;
}

static int start_counter(void *arg, const struct fibril_actor_opts *opts, uint64_t *ret_actor)
{
    ASSERT(opts->link);
    return fibril_server_start(&counter, arg, opts, FIBRIL_FOREVER, ret_actor);
}

ACTOR_TEST(a_child_can_be_started_by_a_function_of_its_own)
{
    uint64_t s, child;
    struct fibril_child_spec spec = {.id = "own", .start = start_counter, .arg = &child_setup};
    ASSERT_OK(supervise(&s));
    child_setup.n = 8;
    ASSERT_OK(fibril_supervisor_add(s, &spec, NULL, FIBRIL_FOREVER, &child));
    ASSERT_EQ(get(child), 8);
    fail(child, -EIO);
    ASSERT_OK(fibril_sleep(MS(10)));
    struct fibril_child children[3];
    size_t n;
    ASSERT_OK(fibril_supervisor_children(s, children, 3, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 3);
    ASSERT_EQ(get(children[2].actor), 8);
    ASSERT_EQ(children[2].restarts, 1);
    return 0;
}

/* ---- out of memory ---- */

ACTOR_TEST(a_start_without_memory_fails_and_leaves_nothing)
{
    uint64_t a;
    int rc = -ENOMEM;
    ASSERT_NE(fibril_actor_self(), 0);
    int64_t live = fibril__alloc_live();
    for (int n = 0; rc == -ENOMEM; n++) {
        ASSERT_LT(n, 100);
        fibril__alloc_fail_after(n);
        rc = fibril_server_start(&counter, NULL, NULL, FIBRIL_FOREVER, &a);
        fibril__alloc_fail_after(-1);
        if (rc == -ENOMEM) {
            settle();
            ASSERT_LE(fibril__alloc_live(), live + 8); /* pools that were made on the way */
        }
    }
    ASSERT_OK(rc);
    ASSERT_EQ(get(a), 0);
    return 0;
}
