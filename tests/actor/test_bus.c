/* SPDX-License-Identifier: MIT */
/* Event buses: handlers that are added, removed and fail; owners, subscribers, calls. */
#include "rig.h"

#include "base/alloc.h"

#include <fibril/bus.h>
#include <fibril/supervisor.h>

enum { PLAIN = 1, FAIL, STOP, SLOW, ASK, KEEP };

static char events[256];

struct named {
    char name;
    long seen;
};

static int init_result;

static int init(void *state, void *arg)
{
    struct named *n = state;
    ASSERT_EQ(n->seen, 0);
    n->name = *(const char *)arg;
    return init_result;
}

static void log_event(const char *format, char name, int value)
{
    size_t n = strlen(events);
    if (value) {
        snprintf(events + n, sizeof events - n, format, name, value);
    } else {
        snprintf(events + n, sizeof events - n, "%c ", name);
    }
}

/* Only the handler whose name is the value fails or stops. */
static int event(void *state, const struct fibril_message *m)
{
    struct named *n = state;
    int value = *(const int *)fibril_message_peek(m);
    n->seen++;
    log_event("%c%d ", n->name, value);
    switch (fibril_message_tag(m)) {
    case FAIL: return value == n->name ? -EIO : 0;
    case STOP: return value == n->name ? FIBRIL_STOP : 0;
    case SLOW: return fibril_sleep(MS(20));
    default: return 0;
    }
}

static int call(void *state, struct fibril_message *m)
{
    struct named *n = state;
    int value = value_of(m);
    switch (fibril_message_tag(m)) {
    case ASK: return fibril_server_reply(fibril_message_from(m), &n->seen, sizeof n->seen);
    case KEEP: return 0;
    default: return value;
    }
}

static void terminate(void *state, int reason)
{
    struct named *n = state;
    size_t len = strlen(events);
    snprintf(events + len, sizeof events - len, "-%c(%d) ", n->name, reason);
}

static void describe(const void *state, char *text, size_t size)
{
    snprintf(text, size, "seen %ld", ((const struct named *)state)->seen);
}

static const struct fibril_handler_type named = {.name = "named",
                                                 .state_bytes = sizeof(struct named),
                                                 .init = init,
                                                 .event = event,
                                                 .call = call,
                                                 .terminate = terminate,
                                                 .describe = describe};

static void expect_events(const char *text)
{
    ASSERT_STR(events, text);
    events[0] = '\0';
}

static uint64_t start(void)
{
    struct fibril_actor_opts opts = {.stack = rig_stack};
    uint64_t bus = 0;
    ASSERT_OK(fibril_bus_start(&opts, fibril_after(MS(1000)), &bus));
    return bus;
}

static int add(uint64_t bus, const char *id, bool owned)
{
    return fibril_bus_add(bus, id, &named, (void *)(uintptr_t)id, owned, fibril_after(MS(1000)));
}

static void notify(uint64_t bus, uint64_t tag, int value)
{
    ASSERT_OK(fibril_bus_notify(bus, note(tag, value), fibril_after(MS(1000))));
}

ACTOR_TEST_ON_BOTH_STACKS(handlers_get_each_event_in_their_order)
{
    uint64_t bus = start();
    ASSERT_OK(add(bus, "a", false));
    ASSERT_OK(add(bus, "b", false));
    notify(bus, PLAIN, 1);
    tell(bus, PLAIN, 2);
    ASSERT_OK(fibril_actor_cast(bus, note(PLAIN, 3), FIBRIL_FOREVER));
    settle();
    expect_events("a1 b1 a2 b2 a3 b3 ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_removed_handler_is_terminated_and_gets_no_more)
{
    uint64_t bus = start();
    ASSERT_OK(add(bus, "a", false));
    ASSERT_OK(add(bus, "b", false));
    ASSERT_OK(fibril_bus_remove(bus, "a", FIBRIL_FOREVER));
    notify(bus, PLAIN, 1);
    expect_events("-a(0) b1 ");
    ASSERT_ERR(fibril_bus_remove(bus, "a", FIBRIL_FOREVER), -ENOENT);
    return 0;
}

ACTOR_TEST(a_handler_that_cannot_begin_is_none)
{
    uint64_t bus = start();
    char id[65];
    memset(id, 'x', sizeof id);
    id[64] = '\0';
    ASSERT_OK(add(bus, "a", false));
    ASSERT_ERR(add(bus, "a", false), -EEXIST);
    ASSERT_ERR(add(bus, "", false), -EINVAL);
    ASSERT_ERR(add(bus, id, false), -EINVAL);
    init_result = -EACCES;
    ASSERT_ERR(add(bus, "b", true), -EACCES);
    init_result = 5;
    ASSERT_ERR(add(bus, "b", false), -ECANCELED);
    notify(bus, PLAIN, 1);
    expect_events("a1 ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_handler_that_fails_is_removed_and_reported_and_the_others_go_on)
{
    uint64_t bus = start();
    ASSERT_OK(add(bus, "a", false));
    ASSERT_OK(add(bus, "b", false));
    ASSERT_OK(add(bus, "c", false));
    notify(bus, FAIL, 'b');
    notify(bus, STOP, 'c');
    notify(bus, PLAIN, 1);
    expect_events("a98 b98 -b(-5) c98 a99 c99 -c(0) a1 ");
    ASSERT_EQ(noted.others, 1);
    ASSERT_EQ(noted.other, FIBRIL_TROUBLE_HANDLER);
    ASSERT_EQ(noted.crashes, 0);
    return 0;
}

/* ---- owners ---- */

static struct fibril_handler_end expect_end(void)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
    ASSERT_EQ(fibril_message_tag(m), FIBRIL_TAG_HANDLER_END);
    struct fibril_handler_end e = *(struct fibril_handler_end *)fibril_message_data(m);
    fibril_message_free(m);
    return e;
}

ACTOR_TEST_ON_BOTH_STACKS(the_owner_is_told_when_its_handler_ends)
{
    uint64_t bus = start();
    ASSERT_OK(add(bus, "a", true));
    ASSERT_OK(add(bus, "b", true));
    ASSERT_OK(add(bus, "c", true));
    notify(bus, FAIL, 'a');
    struct fibril_handler_end e = expect_end();
    ASSERT_STR(e.id, "a");
    ASSERT_EQ(e.reason, -EIO);
    ASSERT_EQ(e.bus, bus);
    ASSERT_OK(fibril_bus_remove(bus, "b", FIBRIL_FOREVER));
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_OK(fibril_server_stop(bus, FIBRIL_EXIT_SHUTDOWN, FIBRIL_FOREVER));
    e = expect_end();
    ASSERT_STR(e.id, "c");
    ASSERT_EQ(e.reason, FIBRIL_EXIT_SHUTDOWN);
    return 0;
}

static int owns(void *arg)
{
    ASSERT_OK(add(*(uint64_t *)arg, "o", true));
    return idle(NULL);
}

ACTOR_TEST_ON_BOTH_STACKS(a_handler_ends_with_its_owner)
{
    static uint64_t bus;
    bus = start();
    uint64_t owner = spawn(owns, &bus);
    ASSERT_OK(add(bus, "a", true));
    settle();
    ASSERT_OK(fibril_actor_exit(owner, FIBRIL_EXIT_KILL));
    settle();
    notify(bus, PLAIN, 1);
    expect_events("-o(-10003) a1 ");
    return 0;
}

/* ---- subscribers ---- */

ACTOR_TEST_ON_BOTH_STACKS(a_subscriber_gets_copies_until_it_ends)
{
    uint64_t bus = start(), other = spawn(returns_when_told, NULL), ref;
    struct fibril_handler handlers[4];
    size_t n;
    ASSERT_OK(fibril_bus_subscribe(bus, fibril_actor_self(), FIBRIL_FOREVER));
    ASSERT_OK(fibril_bus_subscribe(bus, other, FIBRIL_FOREVER));
    ASSERT_ERR(fibril_bus_subscribe(bus, other, FIBRIL_FOREVER), -EEXIST);
    ASSERT_OK(add(bus, "a", true));
    ASSERT_OK(fibril_bus_handlers(bus, handlers, 4, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 3);
    ASSERT_EQ(handlers[1].actor, other);
    ASSERT_STR(handlers[2].id, "a");
    ASSERT_EQ(handlers[2].owner, fibril_actor_self());
    ASSERT_OK(fibril_actor_monitor(other, &ref));
    tell(bus, PLAIN, 7);
    settle();
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, 7);
    ASSERT_EQ(expect(PLAIN), 7);
    ASSERT_OK(fibril_bus_handlers(bus, handlers, 1, FIBRIL_FOREVER, &n));
    ASSERT_EQ(n, 2);
    ASSERT_OK(fibril_bus_unsubscribe(bus, fibril_actor_self(), FIBRIL_FOREVER));
    ASSERT_ERR(fibril_bus_unsubscribe(bus, other, FIBRIL_FOREVER), -ENOENT);
    notify(bus, PLAIN, 8);
    ASSERT_EQ(fibril_actor_waiting(), 0);
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_subscriber_without_room_holds_nobody_up)
{
    struct fibril_mailbox small = {.messages = 1};
    struct fibril_actor_counts counts;
    uint64_t bus = start();
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    ASSERT_OK(fibril_bus_subscribe(bus, fibril_actor_self(), FIBRIL_FOREVER));
    ASSERT_OK(add(bus, "a", false));
    notify(bus, PLAIN, 1);
    notify(bus, PLAIN, 2);
    expect_events("a1 a2 ");
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dropped, 1);
    ASSERT_EQ(expect(PLAIN), 1);
    return 0;
}

/* ---- calls ---- */

ACTOR_TEST_ON_BOTH_STACKS(one_handler_can_be_called)
{
    uint64_t bus = start();
    struct fibril_message *reply = NULL;
    ASSERT_OK(add(bus, "a", false));
    ASSERT_OK(add(bus, "b", false));
    notify(bus, PLAIN, 1);
    ASSERT_OK(fibril_bus_call(bus, "b", note(ASK, 0), FIBRIL_FOREVER, &reply));
    ASSERT_EQ(*(long *)fibril_message_data(reply), 1);
    fibril_message_free(reply);
    ASSERT_ERR(fibril_bus_call(bus, "c", note(ASK, 0), FIBRIL_FOREVER, &reply), -ENOENT);
    ASSERT_ERR(fibril_bus_call(bus, "a", note(KEEP, 0), fibril_after(MS(10)), &reply), -ETIMEDOUT);
    ASSERT_ERR(fibril_bus_call(bus, "a", note(FAIL, -EBADF), FIBRIL_FOREVER, &reply), -EPIPE);
    expect_events("a1 b1 -a(-9) ");
    return 0;
}

ACTOR_TEST_ON_BOTH_STACKS(a_notification_ends_when_all_have_had_it)
{
    uint64_t bus = start();
    int64_t began = fibril_now();
    ASSERT_OK(add(bus, "a", false));
    ASSERT_OK(add(bus, "b", false));
    notify(bus, SLOW, 1);
    ASSERT_EQ((fibril_now() - began) / MS(10), 4);
    ASSERT_ERR(fibril_bus_notify(bus, note(SLOW, 2), fibril_after(MS(30))), -ETIMEDOUT);
    notify(bus, PLAIN, 3);
    expect_events("a1 b1 a2 b2 a3 b3 ");
    return 0;
}

ACTOR_TEST(a_bus_is_a_child_of_a_supervisor)
{
    struct fibril_child_spec children[] = {
        {.id = "bus", .start = fibril_bus_child, .opts = {.name = "bus"}}};
    struct fibril_supervisor_spec tree = {.children = children, .n_children = 1};
    uint64_t s;
    ASSERT_OK(fibril_supervisor_start(&tree, NULL, &s));
    ASSERT_OK(add(fibril_actor_whereis("bus"), "a", false));
    ASSERT_OK(fibril_actor_exit(s, FIBRIL_EXIT_SHUTDOWN));
    settle();
    expect_events("-a(-10001) ");
    return 0;
}

ACTOR_TEST(without_memory_a_handler_is_there_or_not)
{
    uint64_t bus = start();
    int rc = -ENOMEM;
    for (int n = 0; rc == -ENOMEM; n++) {
        ASSERT_LT(n, 20);
        fibril__alloc_fail_after(n);
        rc = add(bus, "a", true);
        fibril__alloc_fail_after(-1);
    }
    ASSERT(rc == 0 || rc == -EEXIST); /* it was there, and only the answer was not */
    notify(bus, PLAIN, 1);
    expect_events("a1 ");
    return 0;
}
