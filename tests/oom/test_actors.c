/* SPDX-License-Identifier: MIT */
/*
 * Actors without memory: every allocation of sending, spawning, linking, monitoring, naming,
 * calling and supervising fails once, see walk.h. Each message carries a claim on a count, so that
 * one that is lost, or freed twice, is noticed.
 */
#include "walk.h"

#include <fibril/supervisor.h>

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

enum { ASK = 1, TOLD, LARGE = 300 };

static int live; /* messages with a claim */

static void release(void *data, size_t size)
{
    (void)data;
    (void)size;
    live--;
}

static int claim(void *data, size_t size)
{
    (void)data;
    (void)size;
    live++;
    return 0;
}

static const struct fibril_message_type claimed = {
    .name = "claim", .destroy = release, .copy = claim};

static int message(uint64_t tag, size_t size, struct fibril_message **ret_message)
{
    int rc = fibril_message_new(tag, size, &claimed, ret_message);
    if (rc == 0) {
        memset(fibril_message_data(*ret_message), 0, size);
        live++;
    }
    return rc;
}

static void ignore(const struct fibril_actor_report *report)
{
    (void)report;
}

static void walk_actors(fibril_fn *scenario, int points_min)
{
    fibril_actor_on_trouble(ignore);
    walk(scenario, &walk_simulated, points_min);
    ASSERT_EQ(live, 0);
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.spawned, counts.ended);
}

/* ---- bodies ---- */

static int answers(void *arg)
{
    struct fibril_message *m;
    (void)arg;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        fibril_actor_reply(fibril_message_from(m), m); /* what is no call is dropped as late */
    }
    return FIBRIL_EXIT_SHUTDOWN;
}

static int silent(void *arg)
{
    (void)arg;
    return fibril_sleep(FIBRIL_FOREVER);
}

static int sent(int rc, struct fibril_message *m)
{
    if (rc < 0) {
        fibril_message_free(m); /* nothing is lost: it is still ours */
    }
    return rc;
}

static int say(uint64_t actor, uint64_t tag, size_t size, int64_t deadline_ns)
{
    struct fibril_message *m;
    int rc = message(tag, size, &m);
    return rc == 0 ? sent(fibril_actor_send(actor, m, deadline_ns), m) : rc;
}

static int ask(uint64_t actor)
{
    struct fibril_message *m, *reply;
    int rc = message(ASK, LARGE, &m);
    rc = rc == 0 ? fibril_actor_call(actor, m, FIBRIL_FOREVER, &reply) : rc;
    if (rc == 0) {
        fibril_message_free(reply);
    }
    return rc;
}

static int send_later(uint64_t actor, int64_t interval_ns, uint64_t *ret_timer)
{
    struct fibril_message *m;
    int rc = message(TOLD, 8, &m);
    return rc == 0
               ? sent(fibril_actor_send_at(actor, m, fibril_after(1000), interval_ns, ret_timer), m)
               : rc;
}

/* -ENOMEM also if it does not come: a timer may have had none for the copy. */
static int take(uint64_t tag)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive_tag(tag, fibril_after(1000000000), &m);
    if (rc == 0) {
        fibril_message_free(m);
    }
    return rc == -ETIMEDOUT ? -ENOMEM : rc;
}

#define END(rc)                                                                                    \
    do {                                                                                           \
        if ((rc) < 0) {                                                                            \
            grant();                                                                               \
        }                                                                                          \
        return rc;                                                                                 \
    } while (0)

/* ---- scenarios ---- */

static int send_and_call(void *arg)
{
    uint64_t self, other;
    int rc = 0;
    (void)arg;
    TRY((self = fibril_actor_self()) ? 0 : -ENOMEM);
    TRY(fibril_actor_spawn(answers, NULL, NULL, &other));
    for (int i = 0; i < 3; i++) {
        TRY(say(self, TOLD, i % 2 ? LARGE : 8, FIBRIL_FOREVER));
        TRY(say(self, ASK, LARGE, FIBRIL_FOREVER));
        TRY(ask(other));
    }
    for (int i = 0; i < 3; i++) {
        TRY(take(TOLD)); /* past the others: there are marks */
    }
out:
    END(rc);
}

TEST(sending_calling_and_choosing)
{
    walk_actors(send_and_call, 12);
}

static int link_and_monitor(void *arg)
{
    struct fibril_actor_opts opts = {.name = "one", .link = true};
    uint64_t a, b, ref;
    int rc = 0;
    (void)arg;
    opts.ret_monitor = &ref;
    TRY(fibril_actor_self() ? 0 : -ENOMEM);
    fibril_actor_trap_exits(true);
    TRY(fibril_actor_spawn(answers, NULL, &opts, &a));
    opts = (struct fibril_actor_opts){.stack = FIBRIL_STACK_COPIED};
    TRY(fibril_actor_spawn(answers, NULL, &opts, &b));
    TRY(fibril_actor_link(b));
    TRY(fibril_actor_monitor(b, &ref));
    TRY(fibril_topic_join("all", a));
    TRY(fibril_topic_join("all", b));
    TRY(fibril_actor_register(b, "two"));
    TRY(fibril_actor_exit(a, FIBRIL_EXIT_KILL));
    TRY(fibril_actor_exit(b, FIBRIL_EXIT_KILL));
    fibril__alloc_fail_after(0); /* what tells of an end was allocated when it was asked for */
    for (int i = 0; i < 4; i++) {
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
        ASSERT_EQ(fibril_message_kind(m), FIBRIL_MESSAGE_SIGNAL);
        fibril_message_free(m);
    }
    grant();
    ASSERT_EQ(fibril_actor_whereis("one"), 0);
    ASSERT_EQ(fibril_topic_members("all", NULL, 0), 0);
out:
    END(rc);
}

TEST(spawning_linking_monitoring_and_naming)
{
    walk_actors(link_and_monitor, 14);
}

static int publish(void *arg)
{
    struct fibril_message *m = NULL;
    uint64_t self;
    int rc = 0, n;
    (void)arg;
    TRY((self = fibril_actor_self()) ? 0 : -ENOMEM);
    TRY(fibril_topic_join("all", self));
    TRY(fibril_topic_join("all", self));
    TRY(message(TOLD, LARGE, &m));
    TRY(n = fibril_topic_publish("all", m, FIBRIL_FOREVER));
    rc = n == 2 ? 0 : -ENOMEM;
    for (int i = 0; i < n; i++) {
        ASSERT_OK(take(TOLD));
    }
out:
    fibril_message_free(m);
    END(rc);
}

TEST(publishing)
{
    walk_actors(publish, 6);
}

static int arm_timers(void *arg)
{
    uint64_t self, timer = 0;
    int rc = 0;
    (void)arg;
    TRY((self = fibril_actor_self()) ? 0 : -ENOMEM);
    TRY(send_later(self, 0, NULL));
    TRY(take(TOLD));
    TRY(send_later(self, 1000, &timer));
    TRY(take(TOLD));
    ASSERT_OK(fibril_actor_cancel_timer(timer));
out:
    END(rc);
}

TEST(timers)
{
    walk_actors(arm_timers, 6);
}

/* Parks before a full mailbox, and gives up. */
static int send_to_full(void *arg)
{
    struct fibril_actor_opts one = {.mailbox = {.messages = 1}};
    uint64_t full;
    int rc = 0;
    (void)arg;
    TRY(fibril_actor_spawn(silent, NULL, &one, &full));
    TRY(say(full, TOLD, 8, FIBRIL_FOREVER));
    rc = say(full, TOLD, LARGE, fibril_after(1000));
    rc = rc == -ETIMEDOUT ? 0 : rc;
out:
    END(rc);
}

TEST(waiting_for_room)
{
    walk_actors(send_to_full, 7);
}

/* ---- streams ---- */

static int gives(void *arg)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    (void)arg;
    if (rc < 0) {
        return rc;
    }
    struct fibril_from from = fibril_message_from(m);
    fibril_message_free(m);
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = message(TOLD, LARGE, &m);
        rc = rc == 0 ? sent(fibril_stream_give(from, m, FIBRIL_FOREVER), m) : rc;
    }
    rc = rc == 0 ? fibril_stream_give(from, NULL, FIBRIL_FOREVER) : rc;
    return rc;
}

static int open_stream(void *arg)
{
    struct fibril_stream *s = NULL;
    struct fibril_message *m;
    uint64_t giver;
    int rc = 0, n = 0;
    (void)arg;
    TRY(fibril_actor_spawn(gives, NULL, NULL, &giver));
    TRY(message(ASK, 8, &m));
    TRY(fibril_stream_open(giver, m, FIBRIL_FOREVER, &s));
    while ((rc = fibril_stream_next(s, FIBRIL_FOREVER, &m)) == 0) {
        fibril_message_free(m);
        n++;
    }
    ASSERT((rc == -ENODATA && n == 3) || rc == -EPIPE || rc == -ENOMEM);
    rc = rc == -ENODATA ? 0 : -ENOMEM; /* the giver had none */
out:
    fibril_stream_close(s);
    END(rc);
}

TEST(streams)
{
    walk_actors(open_stream, 8);
}

/* ---- supervisors ---- */

static int supervise(void *arg)
{
    static const struct fibril_child_spec below[] = {{.id = "x", .fn = answers}};
    static const struct fibril_supervisor_spec inner = {
        .name = "inner", .children = below, .n_children = 1};
    static const struct fibril_child_spec children[] = {
        {.id = "a", .fn = answers, .opts = {.name = "a"}}, {.id = "inner", .supervisor = &inner}};
    static const struct fibril_supervisor_spec tree = {.children = children, .n_children = 2};
    struct fibril_child_spec more = {.id = "more", .fn = answers};
    struct fibril_child now[4];
    uint64_t top = 0;
    size_t n;
    int rc = 0;
    (void)arg;
    TRY(fibril_supervisor_start(&tree, NULL, &top));
    TRY(fibril_supervisor_add(top, &more, NULL, FIBRIL_FOREVER, NULL));
    TRY(fibril_supervisor_children(top, now, 4, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 3);
    TRY(fibril_supervisor_end(top, "more", FIBRIL_FOREVER));
    TRY(fibril_supervisor_restart(top, "more", FIBRIL_FOREVER, NULL));
out:
    if (rc < 0) {
        grant();
    }
    if (!top) { /* a start that fails leaves nothing running */
        ASSERT_EQ(fibril_actor_whereis("a"), 0);
        ASSERT_EQ(fibril_actor_whereis("inner"), 0);
    }
    return rc;
}

TEST(supervisors)
{
    walk_actors(supervise, 25);
}

/* Kills a child, and all allocations of its restart fail for a while: it comes back all the same,
 * and so do those who end with it. */
static int restart_without_memory(void *arg)
{
    enum fibril_strategy strategy = *(enum fibril_strategy *)arg;
    static const struct fibril_child_spec children[] = {
        {.id = "a", .fn = answers, .opts = {.name = "a", .stack = FIBRIL_STACK_COPIED}},
        {.id = "b", .fn = answers, .opts = {.name = "b"}},
        {.id = "c", .fn = answers, .opts = {.name = "c"}}};
    struct fibril_supervisor_spec tree = {.strategy = strategy,
                                          .intensity = 1000,
                                          .backoff_ns = 1000000,
                                          .children = children,
                                          .n_children = 3};
    uint64_t top;
    ASSERT_OK(fibril_supervisor_start(&tree, NULL, &top));
    for (int n = 0; n < 12; n++) {
        uint64_t b = fibril_actor_whereis("b");
        ASSERT_OK(fibril_actor_exit(b, FIBRIL_EXIT_KILL));
        fibril__alloc_fail_after(n);
        fibril_sleep(100000000);
        grant();
        fibril_sleep(INT64_C(60000000000));
        ASSERT(fibril_actor_alive(top));
        ASSERT_NE(fibril_actor_whereis("b"), b);
        for (const char *name = "abc"; *name; name++) {
            char text[2] = {*name, '\0'};
            ASSERT_NE(fibril_actor_whereis(text), 0);
        }
    }
    return 0;
}

TEST(a_child_comes_back_when_there_is_memory_again)
{
    fibril_actor_on_trouble(ignore);
    for (enum fibril_strategy strategy = FIBRIL_ONE_FOR_ONE; strategy <= FIBRIL_REST_FOR_ONE;
         strategy++) {
        ASSERT_OK(fibril_run(&walk_simulated, restart_without_memory, &strategy));
    }
}
