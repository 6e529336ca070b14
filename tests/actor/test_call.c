/* SPDX-License-Identifier: MIT */
/* Calls, replies that come late, streams of replies. */
#include "rig.h"

enum { ADD_ONE = 1, SILENT, LATE, DIE, REFUSE, COUNT_TO, FOREVER };

static int given;

static void give_forever(struct fibril_from from)
{
    struct fibril_message *m = note(FOREVER, 0);
    while (fibril_stream_give(from, m, FIBRIL_FOREVER) == 0) {
        m = note(FOREVER, ++given);
        if (fibril_sleep(MS(1)) < 0) {
            break;
        }
    }
    fibril_message_free(m);
}

static int serve(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        struct fibril_from from = fibril_message_from(m);
        int value = value_of(m);
        uint64_t tag = fibril_message_tag(m);
        fibril_message_free(m);
        switch (tag) {
        case ADD_ONE: fibril_actor_reply(from, note(ADD_ONE, value + 1)); break;
        case LATE:
            fibril_sleep(MS(value));
            fibril_actor_reply(from, note(LATE, value));
            break;
        case DIE: return value;
        case REFUSE: ASSERT_OK(fibril_actor_refuse(from, value)); break;
        case COUNT_TO:
            for (int i = 0; i < value; i++) {
                ASSERT_OK(fibril_stream_give(from, note(COUNT_TO, i), FIBRIL_FOREVER));
            }
            ASSERT_OK(fibril_stream_give(from, NULL, FIBRIL_FOREVER));
            break;
        case FOREVER: give_forever(from); break;
        default: break;
        }
    }
    return 0;
}

static int call(uint64_t actor, uint64_t tag, int value, int64_t ms, int *ret_value)
{
    struct fibril_message *reply;
    int rc = fibril_actor_call(actor, note(tag, value), fibril_after(MS(ms)), &reply);
    if (rc == 0) {
        *ret_value = value_of(reply);
        fibril_message_free(reply);
    }
    return rc;
}

ACTOR_TEST(a_call_brings_the_reply)
{
    uint64_t server = spawn(serve, NULL);
    int value = 0;
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(call(server, ADD_ONE, i, 10, &value));
        ASSERT_EQ(value, i + 1);
    }
    return 0;
}

ACTOR_TEST(a_call_ends_at_its_deadline)
{
    uint64_t server = spawn(serve, NULL);
    int value = 0;
    int64_t start = fibril_now();
    ASSERT_ERR(call(server, SILENT, 0, 25, &value), -ETIMEDOUT);
    ASSERT_EQ(fibril_now() - start, MS(25));
    ASSERT_OK(call(server, ADD_ONE, 1, 10, &value));
    return 0;
}

ACTOR_TEST(a_late_reply_is_dropped_and_counted)
{
    struct fibril_actor_counts counts;
    uint64_t server = spawn(serve, NULL);
    int value = 0;
    ASSERT_ERR(call(server, LATE, 50, 25, &value), -ETIMEDOUT);
    ASSERT_OK(call(server, ADD_ONE, 1, 100, &value));
    ASSERT_EQ(value, 2);
    ASSERT_EQ(fibril_actor_waiting(), 0);
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.late_replies, 1);
    return 0;
}

ACTOR_TEST(a_call_to_nobody_fails_at_once)
{
    static int zero;
    uint64_t gone = spawn(returns, &zero);
    int value = 0;
    settle();
    ASSERT_ERR(call(gone, ADD_ONE, 1, 10, &value), -ESRCH);
    return 0;
}

ACTOR_TEST(the_end_of_the_target_ends_the_call)
{
    uint64_t server = spawn(serve, NULL);
    int value = 0;
    int64_t start = fibril_now();
    ASSERT_ERR(call(server, DIE, -EIO, 1000, &value), -EPIPE);
    ASSERT_LT(fibril_now() - start, MS(1));
    return 0;
}

ACTOR_TEST(a_call_to_oneself_is_a_deadlock)
{
    int value = 0;
    ASSERT_ERR(call(fibril_actor_self(), ADD_ONE, 1, 10, &value), -EDEADLK);
    return 0;
}

ACTOR_TEST(a_call_can_be_refused)
{
    uint64_t server = spawn(serve, NULL);
    int value = 0;
    ASSERT_ERR(call(server, REFUSE, -EACCES, 10, &value), -EACCES);
    return 0;
}

static int refuses_and_ends(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    ASSERT_OK(fibril_actor_refuse(fibril_message_from(m), -EDOM));
    fibril_message_free(m);
    return 0;
}

ACTOR_TEST(the_first_refusal_counts)
{
    struct fibril_message *reply;
    ASSERT_ERR(fibril_actor_call(spawn(refuses_and_ends, NULL), note(1, 1), FIBRIL_FOREVER, &reply),
               -EDOM);
    return 0;
}

ACTOR_TEST(messages_that_come_during_a_call_wait)
{
    uint64_t server = spawn(serve, NULL), self = fibril_actor_self();
    int value = 0;
    tell(self, 77, 1);
    ASSERT_OK(call(server, ADD_ONE, 1, 10, &value));
    ASSERT_EQ(expect(77), 1);
    return 0;
}

static int calls_and_waits(void *arg)
{
    int value = 0;
    return call(*(uint64_t *)arg, SILENT, 0, 100000, &value);
}

ACTOR_TEST(a_caller_can_be_told_to_end)
{
    uint64_t server = spawn(serve, NULL), ref;
    uint64_t caller = spawn_monitored(calls_and_waits, &server, &ref);
    settle();
    ASSERT_OK(fibril_actor_exit(caller, FIBRIL_EXIT_KILL));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_KILLED);
    ASSERT(fibril_actor_alive(server));
    return 0;
}

static int plain_calls(void *arg)
{
    int value = 0;
    ASSERT_OK(call(*(uint64_t *)arg, ADD_ONE, 41, 10, &value));
    return value;
}

ACTOR_TEST(any_fibril_can_call)
{
    uint64_t server = spawn(serve, NULL);
    struct fibril *f;
    int result;
    ASSERT_OK(fibril_spawn(plain_calls, &server, NULL, &f));
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 42);
    return 0;
}

static struct fibril_from kept;

static int keeps_from(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    kept = fibril_message_from(m);
    fibril_message_free(m);
    return idle(NULL);
}

static int replies_for_another(void *arg)
{
    (void)arg;
    fibril_sleep(MS(5));
    fibril_actor_reply(kept, note(1, 99));
    return 0;
}

ACTOR_TEST(anybody_may_give_the_reply)
{
    uint64_t server = spawn(keeps_from, NULL);
    int value = 0;
    spawn(replies_for_another, NULL);
    ASSERT_OK(call(server, ADD_ONE, 0, 10, &value));
    ASSERT_EQ(value, 99);
    return 0;
}

/* ---- streams ---- */

static struct fibril_stream *open_stream(uint64_t actor, uint64_t tag, int value)
{
    struct fibril_stream *s;
    ASSERT_OK(fibril_stream_open(actor, note(tag, value), fibril_after(MS(10)), &s));
    return s;
}

static int next(struct fibril_stream *s)
{
    struct fibril_message *m;
    int rc = fibril_stream_next(s, fibril_after(MS(100)), &m);
    if (rc == 0) {
        rc = value_of(m);
        fibril_message_free(m);
    }
    return rc;
}

ACTOR_TEST(a_stream_brings_its_replies_in_order)
{
    uint64_t server = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(server, COUNT_TO, 100);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(next(s), i);
    }
    ASSERT_ERR(next(s), -ENODATA);
    fibril_stream_close(s);
    return 0;
}

ACTOR_TEST(a_stream_is_bounded_by_the_mailbox)
{
    struct fibril_mailbox small = {.messages = 5};
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    uint64_t server = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(server, COUNT_TO, 100);
    settle();
    struct fibril_actor_info info;
    ASSERT_OK(fibril_actor_info(fibril_actor_self(), &info));
    ASSERT_EQ(info.waiting, 5);
    ASSERT_EQ(info.parked_senders, 1);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(next(s), i);
    }
    ASSERT_ERR(next(s), -ENODATA);
    fibril_stream_close(s);
    return 0;
}

ACTOR_TEST(two_streams_do_not_mix)
{
    uint64_t a = spawn(serve, NULL), b = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(a, COUNT_TO, 10), *t = open_stream(b, COUNT_TO, 20);
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(next(t), i);
    }
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(next(s), i);
    }
    fibril_stream_close(s);
    fibril_stream_close(t);
    return 0;
}

ACTOR_TEST(a_stream_whose_giver_ends_says_so)
{
    uint64_t server = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(server, FOREVER, 0);
    ASSERT_EQ(next(s), 0);
    ASSERT_EQ(next(s), 1);
    ASSERT_OK(fibril_actor_exit(server, FIBRIL_EXIT_KILL));
    ASSERT_ERR(next(s), -EPIPE);
    fibril_stream_close(s);
    return 0;
}

ACTOR_TEST(a_stream_that_is_refused_says_so)
{
    uint64_t server = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(server, REFUSE, -EACCES);
    ASSERT_ERR(next(s), -EACCES);
    fibril_stream_close(s);
    return 0;
}

ACTOR_TEST(nothing_comes_for_a_closed_stream)
{
    uint64_t server = spawn(serve, NULL);
    struct fibril_stream *s = open_stream(server, FOREVER, 0);
    ASSERT_EQ(next(s), 0);
    fibril_stream_close(s);
    fibril_sleep(MS(20));
    ASSERT_EQ(fibril_actor_waiting(), 0);
    ASSERT_EQ(given, 1); /* the giver was told */
    return 0;
}

static int opens_and_ends(void *arg)
{
    open_stream(*(uint64_t *)arg, COUNT_TO, 50);
    settle();
    return 0;
}

ACTOR_TEST(one_that_ends_leaves_no_stream_behind)
{
    uint64_t server = spawn(serve, NULL);
    spawn(opens_and_ends, &server);
    settle();
    settle();
    settle();
    return 0;
}

static int opens_forever_and_ends(void *arg)
{
    ASSERT_EQ(next(open_stream(*(uint64_t *)arg, FOREVER, 0)), 0);
    return 0;
}

ACTOR_TEST(who_gives_to_one_that_has_ended_is_told)
{
    uint64_t server = spawn(serve, NULL);
    int one;
    spawn(opens_forever_and_ends, &server);
    fibril_sleep(MS(20));
    ASSERT_OK(call(server, ADD_ONE, 0, 100, &one)); /* it gives no more */
    ASSERT_EQ(given, 1);
    return 0;
}
