/* SPDX-License-Identifier: MIT */
/*
 * Between two ends of a connection: back-pressure and the policies of full mailboxes, what
 * overtakes what, streams, and messages whose types say what they are worth elsewhere.
 */
#include "pair.h"

enum { ADD = 1, GET, PUT, FLOOD = 100000 };

/* ---- full mailboxes ---- */

static struct fibril_mailbox tiny(enum fibril_overflow overflow)
{
    return (struct fibril_mailbox){.messages = 4, .overflow = overflow};
}

/* Receives nothing until it is told by an exit signal that it may. */
static int sleeps_first(void *arg)
{
    struct fibril_message *m;
    int *taken = arg;
    int rc;
    while ((rc = fibril_actor_receive_tag(FIBRIL_TAG_EXIT, FIBRIL_FOREVER, &m)) == 0) {
        fibril_message_free(m);
        while (fibril_actor_receive(fibril_after(MS(500)), &m) == 0) {
            ASSERT_EQ(value_of(m), (*taken)++);
            fibril_message_free(m);
        }
    }
    return rc;
}

static uint64_t spawn_sleeper(enum fibril_overflow overflow, int *taken)
{
    uint64_t actor;
    struct fibril_actor_opts opts = {.trap_exits = true, .mailbox = tiny(overflow)};
    ASSERT_OK(fibril_actor_spawn(sleeps_first, taken, &opts, &actor));
    return actor;
}

/* How many go out before the sender has to wait. */
static int flood(uint64_t to, int first)
{
    int rc = 0, n = 0;
    while (rc == 0 && n < FLOOD) {
        struct fibril_message *m = note(ADD, first + n);
        rc = fibril_actor_send(to, m, fibril_after(MS(100)));
        if (rc < 0) {
            ASSERT_ERR(rc, -ETIMEDOUT);
            fibril_message_free(m);
        } else {
            n++;
        }
    }
    return n;
}

ACTOR_TEST(a_slow_receiver_holds_up_its_sender_and_nobody_else)
{
    static int taken;
    struct fibril_message *reply;
    struct pair p = pair_open(NULL);
    uint64_t slow = as_remote(p, spawn_sleeper(FIBRIL_OVERFLOW_PARK, &taken));
    int sent = flood(slow, 0);
    ASSERT_GT(sent, 0);
    ASSERT_LT(sent, 20); /* a mailbox, a window and a queue of 4 each */
    ASSERT_ERR(fibril_actor_call(p.here, note(GET, 1), fibril_after(MS(100)), &reply), -EINVAL);
    uint64_t other = as_remote(p, fibril_actor_self());
    tell(other, PUT, 1);
    ASSERT_EQ(expect(PUT), 1);
    struct fibril_node_info info;
    ASSERT_OK(fibril_node_info(p.there, &info));
    ASSERT_GT(info.held, 0);
    ASSERT_OK(fibril_actor_exit(slow, 5)); /* overtakes all that waits */
    ASSERT_OK(fibril_sleep(MS(200)));
    ASSERT_EQ(taken, sent);
    sent += flood(slow, sent); /* while it receives: none waits for long */
    ASSERT_EQ(sent, taken + (sent - taken));
    ASSERT_GE(sent, FLOOD);
    ASSERT_OK(fibril_sleep(MS(1000)));
    ASSERT_EQ(taken, sent);
    ASSERT_OK(fibril_node_info(p.there, &info));
    ASSERT_EQ(info.held, 0);
    pair_close(p);
    return 0;
}

static int count(void *arg)
{
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        ASSERT_EQ(value_of(m), (*(int *)arg)++);
        fibril_message_free(m);
    }
    return rc;
}

ACTOR_TEST(leaving_brings_what_still_waits_for_room)
{
    enum { N = 3000 }; /* of which some hundred go out at once */
    static int taken;
    uint64_t actor;
    struct pair p = pair_open(NULL);
    ASSERT_OK(fibril_actor_spawn(count, &taken, NULL, &actor));
    uint64_t to = as_remote(p, actor);
    for (int i = 0; i < N; i++) {
        tell(to, ADD, i);
    }
    ASSERT_LT(taken, N);
    pair_close(p);
    ASSERT_OK(fibril_sleep(MS(200)));
    ASSERT_EQ(taken, N);
    return 0;
}

ACTOR_TEST(who_fails_on_a_full_mailbox_hears_of_it)
{
    static int taken;
    struct pair p = pair_open(NULL);
    uint64_t slow = as_remote(p, spawn_sleeper(FIBRIL_OVERFLOW_FAIL, &taken));
    int rc = 0, sent = -1;
    while (rc == 0 && sent < FLOOD) {
        sent++;
        struct fibril_message *m = note(ADD, sent);
        rc = fibril_actor_send(slow, m, FIBRIL_FOREVER);
        if (rc < 0) {
            fibril_message_free(m);
        } else {
            settle();
        }
    }
    ASSERT_ERR(rc, -EAGAIN);
    ASSERT_LT(sent, 20);
    ASSERT_OK(fibril_actor_exit(slow, 5));
    ASSERT_OK(fibril_sleep(MS(200)));
    ASSERT_EQ(taken, sent);
    pair_close(p);
    return 0;
}

static int keeps_last(void *arg)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_EXIT, FIBRIL_FOREVER, &m));
    fibril_message_free(m);
    while (fibril_actor_receive(fibril_after(MS(100)), &m) == 0) {
        ((int *)arg)[0]++;
        ((int *)arg)[1] = value_of(m);
        fibril_message_free(m);
    }
    return 0;
}

ACTOR_TEST(a_mailbox_that_drops_does_so_there)
{
    struct pair p = pair_open(NULL);
    for (int newest = 0; newest < 2; newest++) {
        static int seen[2];
        uint64_t actor;
        struct fibril_actor_opts opts = {
            .trap_exits = true,
            .mailbox = tiny(newest ? FIBRIL_OVERFLOW_DROP_NEWEST : FIBRIL_OVERFLOW_DROP_OLDEST)};
        seen[0] = 0;
        ASSERT_OK(fibril_actor_spawn(keeps_last, seen, &opts, &actor));
        uint64_t remote = as_remote(p, actor);
        for (int i = 0; i < 100; i++) {
            tell(remote, ADD, i);
            ASSERT_OK(fibril_sleep(MS(10)));
        }
        ASSERT_OK(fibril_actor_exit(remote, 5));
        ASSERT_OK(fibril_sleep(MS(500)));
        ASSERT_EQ(seen[0], 4);
        ASSERT_EQ(seen[1], newest ? 3 : 99);
    }
    pair_close(p);
    return 0;
}

static int sends_one(void *arg)
{
    struct fibril_message *m = note(ADD, 1);
    int rc = fibril_actor_send(*(uint64_t *)arg, m, FIBRIL_FOREVER);
    if (rc < 0) {
        fibril_message_free(m);
    }
    return rc;
}

ACTOR_TEST(parked_senders_go_on_when_the_connection_ends)
{
    static int taken;
    static uint64_t slow;
    struct pair p = pair_open(NULL);
    struct fibril *senders[5];
    struct fibril_actor_counts before, after;
    slow = as_remote(p, spawn_sleeper(FIBRIL_OVERFLOW_PARK, &taken));
    flood(slow, 0);
    fibril_actor_counts(&before);
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_spawn(sends_one, &slow, NULL, &senders[i]));
    }
    settle();
    pair_close(p);
    for (int i = 0; i < 5; i++) {
        int rc;
        ASSERT_OK(fibril_join(senders[i], fibril_after(MS(1000)), &rc));
        ASSERT_OK(rc); /* a dead letter is no failure */
    }
    fibril_actor_counts(&after);
    ASSERT_GE(after.dead_letters, before.dead_letters + 5);
    return 0;
}

ACTOR_TEST(exits_and_replies_overtake_a_message_that_is_large)
{
    static int taken;
    struct pair p = pair_open(NULL);
    uint64_t ref, slow = as_remote(p, spawn_sleeper(FIBRIL_OVERFLOW_PARK, &taken));
    struct fibril_message *m;
    ASSERT_OK(fibril_message_new(ADD, 32 << 20, NULL, &m));
    memset(fibril_message_data(m), 1, 32 << 20);
    ASSERT_OK(fibril_actor_monitor(slow, &ref));
    ASSERT_OK(fibril_actor_send(slow, m, FIBRIL_FOREVER));
    ASSERT_OK(fibril_sleep(1)); /* it has begun */
    ASSERT_OK(fibril_actor_exit(slow, FIBRIL_EXIT_KILL));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, FIBRIL_EXIT_KILLED);
    struct fibril_node_info info;
    ASSERT_OK(fibril_node_info(p.there, &info));
    ASSERT_LT(info.bytes_in, 32 << 20);
    pair_close(p);
    return 0;
}

/* ---- streams ---- */

enum { GIFTS = 1000 };

static int gives(void *arg)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    struct fibril_from from = fibril_message_from(m);
    fibril_message_free(m);
    for (int i = 0; i < GIFTS; i++) {
        ASSERT_OK(fibril_stream_give(from, note(ADD, i), FIBRIL_FOREVER));
    }
    return *(bool *)arg ? fibril_stream_give(from, NULL, FIBRIL_FOREVER) : 0;
}

ACTOR_TEST(a_stream_is_whole_though_its_giver_ends_before_it)
{
    struct pair p = pair_open(NULL);
    struct fibril_mailbox small = {.messages = 10};
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    for (int i = 0; i < 2; i++) {
        bool ends = i;
        struct fibril_stream *s;
        struct fibril_message *m;
        uint64_t giver = as_remote(p, spawn(gives, &ends));
        ASSERT_OK(fibril_stream_open(giver, note(GET, 0), FIBRIL_FOREVER, &s));
        ASSERT_OK(fibril_sleep(MS(100)));
        for (int k = 0; k < GIFTS; k++) {
            ASSERT_OK(fibril_stream_next(s, fibril_after(MS(2000)), &m));
            ASSERT_EQ(value_of(m), k);
            fibril_message_free(m);
        }
        ASSERT_ERR(fibril_stream_next(s, fibril_after(MS(2000)), &m), ends ? -ENODATA : -EPIPE);
        fibril_stream_close(s);
        ASSERT_OK(fibril_sleep(MS(100)));
        ASSERT(!fibril_actor_alive(giver));
    }
    pair_close(p);
    return 0;
}

static int gives_for_ever(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    struct fibril_from from = fibril_message_from(m);
    fibril_message_free(m);
    while (fibril_sleep(MS(10)) == 0) {
        m = note(ADD, 1);
        if (fibril_stream_give(from, m, FIBRIL_FOREVER) < 0) {
            fibril_message_free(m);
            return 0;
        }
    }
    return -ECANCELED;
}

ACTOR_TEST(a_closed_stream_leaves_nothing_behind)
{
    struct pair p = pair_open(NULL);
    uint64_t giver = spawn(gives_for_ever, NULL), remote = as_remote(p, giver);
    struct fibril_stream *s;
    struct fibril_message *m;
    struct fibril_actor_info info;
    ASSERT_OK(fibril_stream_open(remote, note(GET, 0), FIBRIL_FOREVER, &s));
    ASSERT_OK(fibril_stream_next(s, FIBRIL_FOREVER, &m));
    fibril_message_free(m);
    ASSERT_OK(fibril_actor_info(giver, &info));
    ASSERT_EQ(info.links, 2); /* known to the connection, and to the stream */
    fibril_stream_close(s);
    ASSERT_OK(fibril_sleep(MS(100)));
    ASSERT_OK(fibril_actor_info(giver, &info));
    ASSERT_EQ(info.links, 1);
    ASSERT_EQ(fibril_actor_waiting(), 0);
    pair_close(p);
    return 0;
}

/* ---- types ---- */

struct order {
    char *what;
    uint64_t customer;
};

static int orders_alive;

static void destroy_order(void *data, size_t size)
{
    (void)size;
    free(((struct order *)data)->what);
    orders_alive--;
}

static int encode_order(const void *data, size_t size, struct fibril_wire *w)
{
    (void)size;
    const struct order *o = data;
    int rc = fibril_wire_put_actor(w, o->customer);
    return rc < 0 ? rc : fibril_wire_put(w, o->what, strlen(o->what));
}

static int decode_order(struct fibril_wire *w, uint64_t tag, const struct fibril_message_type *type,
                        struct fibril_message **ret_message)
{
    uint64_t customer;
    int rc = fibril_wire_get_actor(w, &customer);
    size_t n = fibril_wire_left(w);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_message_new(tag, sizeof(struct order), type, ret_message);
    if (rc < 0) {
        return rc;
    }
    struct order *o = fibril_message_data(*ret_message);
    o->what = calloc(1, n + 1);
    o->customer = customer;
    orders_alive++;
    return fibril_wire_get(w, o->what, n);
}

static const struct fibril_message_type order_type = {
    .name = "order", .destroy = destroy_order, .encode = encode_order, .decode = decode_order};

static struct fibril_message *order(const char *what, uint64_t customer,
                                    const struct fibril_message_type *type)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_message_new(PUT, sizeof(struct order), type, &m));
    *(struct order *)fibril_message_data(m) = (struct order){strdup(what), customer};
    orders_alive++;
    return m;
}

ACTOR_TEST(a_type_says_what_a_message_is_worth_elsewhere)
{
    struct pair p = pair_open(NULL);
    uint64_t idler = spawn(idle, NULL);
    ASSERT_OK(fibril_message_type_register(&order_type));
    ASSERT_OK(fibril_message_type_register(&order_type));
    uint64_t me = as_remote(p, fibril_actor_self());
    ASSERT_OK(
        fibril_actor_send(me, order("a thousand fibrils", idler, &order_type), FIBRIL_FOREVER));
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
    const struct order *o = fibril_message_data(m);
    ASSERT_STR(o->what, "a thousand fibrils");
    ASSERT_NE(o->customer, idler); /* as it is called at this end */
    ASSERT_EQ(fibril_node_of(o->customer), p.there);
    uint64_t ref;
    ASSERT_OK(fibril_actor_monitor(o->customer, &ref));
    ASSERT_OK(fibril_actor_exit(o->customer, -EIO));
    ASSERT_EQ(expect_signal(FIBRIL_TAG_DOWN).reason, -EIO);
    fibril_message_free(m);
    /* One of theirs, sent back, is their own again. */
    ASSERT_OK(fibril_actor_send(me, order("me", me, &order_type), FIBRIL_FOREVER));
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
    ASSERT_EQ(((struct order *)fibril_message_data(m))->customer, fibril_actor_self());
    fibril_message_free(m);
    ASSERT_EQ(orders_alive, 0);
    pair_close(p);
    return 0;
}

static int replies_with_order(void *arg)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(FIBRIL_FOREVER, &m));
    fibril_actor_reply(fibril_message_from(m), order("reply", 0, arg));
    fibril_message_free(m);
    return 0;
}

ACTOR_TEST(what_cannot_go_is_refused_and_stays_its_senders)
{
    static const struct fibril_message_type local = {.name = "local", .destroy = destroy_order};
    static const struct fibril_message_type unknown = {.name = "unknown",
                                                       .destroy = destroy_order,
                                                       .encode = encode_order,
                                                       .decode = decode_order};
    struct pair p = pair_open(NULL);
    uint64_t me = as_remote(p, fibril_actor_self());
    struct fibril_message *m = order("stays", 0, &local), *reply;
    ASSERT_ERR(fibril_actor_send(me, m, FIBRIL_FOREVER), -EOPNOTSUPP);
    ASSERT_STR(((struct order *)fibril_message_data(m))->what, "stays");
    fibril_message_free(m);
    ASSERT_ERR(fibril_actor_call(me, order("x", 0, &local), FIBRIL_FOREVER, &reply), -EOPNOTSUPP);
    uint64_t replier = as_remote(p, spawn(replies_with_order, (void *)(uintptr_t)&local));
    ASSERT_ERR(fibril_actor_call(replier, note(GET, 1), FIBRIL_FOREVER, &reply), -EOPNOTSUPP);
    /* The other process does not know it. */
    uint64_t idler = as_remote(p, spawn(idle, NULL));
    ASSERT_ERR(fibril_actor_call(idler, order("x", 0, &unknown), FIBRIL_FOREVER, &reply),
               -EOPNOTSUPP);
    replier = as_remote(p, spawn(replies_with_order, (void *)(uintptr_t)&unknown));
    ASSERT_ERR(fibril_actor_call(replier, note(GET, 1), FIBRIL_FOREVER, &reply), -EOPNOTSUPP);
    ASSERT_EQ(orders_alive, 0);
    pair_close(p);
    return 0;
}

ACTOR_TEST(dead_letters_are_what_was_sent)
{
    struct pair p = pair_open(NULL);
    uint64_t ref, end = as_remote(p, spawn(returns_when_told, NULL));
    struct fibril_message *m;
    ASSERT_OK(fibril_message_type_register(&order_type));
    fibril_actor_dead_letters_to(fibril_actor_self());
    ASSERT_OK(fibril_actor_monitor(end, &ref));
    tell(end, 1, 0);
    ASSERT_OK(fibril_actor_send(end, order("too late", 0, &order_type), FIBRIL_FOREVER));
    ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DOWN, fibril_after(MS(1000)), &m));
    fibril_message_free(m);
    ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DEAD_LETTER, fibril_after(MS(1000)), &m));
    fibril_message_free(m);
    ASSERT_OK(fibril_actor_send(end, order("much too late", 0, &order_type), FIBRIL_FOREVER));
    ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DEAD_LETTER, fibril_after(MS(1000)), &m));
    struct fibril_dead_letter *letter = fibril_message_data(m);
    ASSERT_EQ(letter->to, end);
    ASSERT_STR(((struct order *)fibril_message_data(letter->letter))->what, "much too late");
    fibril_message_free(m);
    ASSERT_EQ(orders_alive, 0);
    fibril_actor_dead_letters_to(0);
    pair_close(p);
    return 0;
}

/* ---- names, timers, and third parties ---- */

ACTOR_TEST(names_topics_and_timers_take_actors_of_other_processes)
{
    struct pair p = pair_open(NULL);
    uint64_t me = as_remote(p, fibril_actor_self());
    ASSERT_OK(fibril_actor_register(me, "far"));
    ASSERT_EQ(fibril_actor_whereis("far"), me);
    ASSERT_OK(fibril_topic_join("news", me));
    struct fibril_message *m = note(PUT, 3);
    ASSERT_EQ(fibril_topic_publish("news", m, FIBRIL_FOREVER), 1);
    fibril_message_free(m);
    ASSERT_EQ(expect(PUT), 3);
    ASSERT_OK(fibril_actor_send_at(me, note(PUT, 4), fibril_after(MS(10)), 0, NULL));
    ASSERT_EQ(expect(PUT), 4);
    pair_close(p);
    ASSERT_EQ(fibril_actor_whereis("far"), 0);
    ASSERT_EQ(fibril_topic_members("news", NULL, 0), 0);
    return 0;
}

static int echoes(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        fibril_actor_reply(fibril_message_from(m), m);
    }
    return -EIO;
}

ACTOR_TEST(an_actor_of_a_third_process_is_reached_through_the_second)
{
    struct pair p = pair_open(NULL), q = pair_open(NULL);
    fibril_actor_trap_exits(true);
    uint64_t far = as_remote(q, spawn(echoes, NULL)), farther = as_remote(p, far);
    ASSERT_EQ(fibril_node_of(far), q.here);
    ASSERT_EQ(fibril_node_of(farther), p.here);
    struct fibril_message *reply;
    ASSERT_OK(fibril_actor_call(farther, note(GET, 9), fibril_after(MS(1000)), &reply));
    ASSERT_EQ(value_of(reply), 9);
    fibril_message_free(reply);
    bool ends = true;
    struct fibril_stream *s;
    uint64_t giver = as_remote(p, as_remote(q, spawn(gives, &ends)));
    ASSERT_OK(fibril_stream_open(giver, note(GET, 0), FIBRIL_FOREVER, &s));
    for (int k = 0; k < GIFTS; k++) {
        ASSERT_OK(fibril_stream_next(s, fibril_after(MS(2000)), &reply));
        ASSERT_EQ(value_of(reply), k);
        fibril_message_free(reply);
    }
    ASSERT_ERR(fibril_stream_next(s, fibril_after(MS(2000)), &reply), -ENODATA);
    fibril_stream_close(s);
    ASSERT_OK(fibril_actor_link(farther));
    ASSERT_OK(fibril_sleep(MS(100)));
    ASSERT_OK(fibril_actor_exit(farther, -EPERM));
    struct fibril_signal signal = expect_signal(FIBRIL_TAG_EXIT);
    ASSERT_EQ(signal.actor, farther);
    ASSERT_EQ(signal.reason, -EPERM);
    pair_close(q);
    pair_close(p);
    return 0;
}
