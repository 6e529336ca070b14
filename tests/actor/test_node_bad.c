/* SPDX-License-Identifier: MIT */
/*
 * A peer that breaks the rules, by hand: the connection ends with a report that says what was
 * wrong, and nothing else comes of it.
 */
#include "pair.h"

#include "actor/frame.h"

enum { ADD = 1 };

struct peer {
    int fd;
    uint64_t node; /* the node that it is to us */
};

static int joins(void *arg)
{
    struct peer *p = arg;
    struct fibril_node_opts opts = {.silence_ns = MS(3000), .actors_max = 10};
    return fibril_node_join(p->fd, &opts, FIBRIL_FOREVER, &p->node);
}

static void write_frame(int fd, const struct fibril__frame *f)
{
    uint8_t bytes[70000];
    ASSERT_LE(fibril__frame_size(f), sizeof bytes);
    fibril__frame_write(f, bytes);
    ASSERT_OK(fibril_write_all(fd, bytes, fibril__frame_size(f), FIBRIL_FOREVER));
}

static struct fibril__frame hello(void)
{
    return (struct fibril__frame){.type = FIBRIL__FRAME_HELLO,
                                  .tag = FIBRIL__FRAME_MAGIC,
                                  .number = FIBRIL__FRAME_VERSION,
                                  .messages = 65536,
                                  .bytes = 1 << 20,
                                  .who = {.id = 7, .window = 1}};
}

/* A peer that has greeted; returns its end of the socket. */
static int peer_open(struct peer *ours)
{
    static struct peer shared;
    int fds[2], rc;
    struct fibril *f;
    struct fibril__frame h = hello();
    socket_pair(fds);
    shared = (struct peer){.fd = fds[0]};
    ASSERT_OK(fibril_spawn(joins, &shared, NULL, &f));
    write_frame(fds[1], &h);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &rc));
    ASSERT_OK(rc);
    *ours = shared;
    return fds[1];
}

/* The node ends for the reason, and the report has the text. */
static void expect_end(struct peer p, int fd, int reason, const char *text)
{
    uint64_t ref;
    ASSERT_OK(fibril_actor_monitor(p.node, &ref));
    struct fibril_signal s = expect_signal_within(FIBRIL_TAG_DOWN, 20000);
    ASSERT_EQ(s.ref, ref);
    ASSERT_EQ(s.reason, reason);
    if (!strstr(noted.text, text)) {
        test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", noted.text, text);
    }
    ASSERT_OK(fibril_close(fd));
}

static void breaks(const struct fibril__frame *f, const char *text)
{
    struct peer p;
    int fd = peer_open(&p);
    write_frame(fd, f);
    expect_end(p, fd, -EBADMSG, text);
}

ACTOR_TEST(a_stranger_is_no_node)
{
    static const char *const greetings[] = {"GET / HTTP/1.1\r\n\r\n", "\x40\0\0\0\x03\0\0\0"};
    for (unsigned i = 0; i < 2; i++) {
        static struct peer ours;
        int fds[2], rc;
        struct fibril *f;
        socket_pair(fds);
        ours = (struct peer){.fd = fds[0]};
        ASSERT_OK(fibril_spawn(joins, &ours, NULL, &f));
        ASSERT_OK(fibril_write_all(fds[1], greetings[i], 8, FIBRIL_FOREVER));
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &rc));
        ASSERT_ERR(rc, -EPROTO);
        ASSERT_OK(fibril_close(fds[1]));
    }
    return 0;
}

ACTOR_TEST(a_node_of_another_version_is_refused)
{
    static struct peer ours;
    int fds[2], rc;
    struct fibril *f;
    struct fibril__frame h = hello();
    h.number++;
    socket_pair(fds);
    ours = (struct peer){.fd = fds[0]};
    ASSERT_OK(fibril_spawn(joins, &ours, NULL, &f));
    write_frame(fds[1], &h);
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &rc));
    ASSERT_ERR(rc, -EPROTONOSUPPORT);
    ASSERT_OK(fibril_close(fds[1]));
    return 0;
}

ACTOR_TEST(frames_that_cannot_be_meant_end_the_connection)
{
    struct fibril__frame h = hello();
    breaks(&h, "bad hello frame: it comes once");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_CREDIT, .who = {.id = 1, .window = 0}},
           "bad credit frame: a field");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_CREDIT,
                                   .who = {.id = 1, .window = 1, .owner = FIBRIL__YOURS}},
           "bad credit frame: it is not the writer's");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_FOUND, .who.window = 1},
           "bad found frame: nobody has asked");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_LINK, .who.window = 1},
           "bad link frame: nobody");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE,
                                   .flags = FIBRIL__FRAME_NEXT,
                                   .data = (const uint8_t *)"x",
                                   .data_len = 1},
           "bad message frame: it goes on with nothing");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE,
                                   .flags = FIBRIL__FRAME_MORE,
                                   .who.window = 1,
                                   .total = UINT64_C(1) << 40,
                                   .data = (const uint8_t *)"x",
                                   .data_len = 1},
           "bad message frame: it is too long");
    breaks(&(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE, .who.window = 1, .total = 5},
           "bad message frame: its length");
    return 0;
}

ACTOR_TEST(bytes_that_are_no_frame_end_the_connection)
{
    struct peer p;
    int fd = peer_open(&p);
    ASSERT_OK(fibril_write_all(fd, "\xff\xff\xff\x7f\x0d\0\0\0", 8, FIBRIL_FOREVER));
    expect_end(p, fd, -EBADMSG, "bad message frame: its head");
    return 0;
}

ACTOR_TEST(a_peer_that_vanishes_in_the_middle_of_a_frame_is_gone)
{
    struct peer p;
    int fd = peer_open(&p);
    ASSERT_OK(fibril_write_all(fd, "\x10\0\0\0\x0d\0\0\0half", 12, FIBRIL_FOREVER));
    ASSERT_OK(fibril_sleep(MS(50)));
    ASSERT_OK(fibril_shutdown(fd, SHUT_WR));
    expect_end(p, fd, FIBRIL_EXIT_NOCONNECTION, "in the middle of a frame");
    return 0;
}

ACTOR_TEST(what_only_this_process_can_mean_does_not_come_in)
{
    static const uint64_t own[] = {1, 2, 3, 4, 5, 6, 200, 201, 202, 203, 0x70790001, 0x6e6f6465};
    static const uint8_t addresses[24] = {0x10, 0x20, 0x30, 0x40};
    struct peer p;
    int fd = peer_open(&p);
    uint64_t me = fibril_actor_self();
    ASSERT_OK(fibril_actor_register(me, "me"));
    write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_WHEREIS,
                                            .number = 1,
                                            .name = (const uint8_t *)"me",
                                            .name_len = 2});
    for (unsigned i = 0; i <= sizeof own / sizeof *own; i++) {
        bool last = i == sizeof own / sizeof *own;
        for (unsigned kind = FIBRIL__FRAME_PLAIN; kind <= FIBRIL__FRAME_CALL; kind++) {
            write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE,
                                                    .to = me,
                                                    .tag = last ? ADD : UINT64_C(1) << 63 | own[i],
                                                    .kind = (uint8_t)kind,
                                                    .number = 1,
                                                    .who = {.id = 5, .window = 200},
                                                    .total = sizeof addresses,
                                                    .data = addresses,
                                                    .data_len = sizeof addresses});
        }
    }
    struct fibril_message *m;
    for (int added = 0; added < 3;) { /* to ask for its state is anybody's right */
        ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
        added += fibril_message_tag(m) == ADD;
        ASSERT(fibril_message_tag(m) == ADD || fibril_message_tag(m) == (UINT64_C(1) << 63 | 201));
        fibril_message_free(m);
    }
    struct fibril_actor_counts c;
    fibril_actor_counts(&c);
    ASSERT_EQ(c.dropped, 3 * (sizeof own / sizeof *own - 1));
    ASSERT_OK(fibril_close(fd));
    return 0;
}

ACTOR_TEST(a_peer_that_never_says_a_word_is_given_up)
{
    struct peer p;
    int fd = peer_open(&p);
    expect_end(p, fd, -ETIMEDOUT, "silent");
    return 0;
}

ACTOR_TEST(a_peer_that_never_reads_is_given_up_and_holds_up_nobody)
{
    struct peer p;
    int fd = peer_open(&p), rc = 0;
    uint64_t me = fibril_actor_self();
    ASSERT_OK(fibril_actor_register(me, "me"));
    /* It mentions an actor of its own, which gets large messages. */
    write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_WHEREIS,
                                            .number = 1,
                                            .name = (const uint8_t *)"me",
                                            .name_len = 2});
    write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE,
                                            .to = me,
                                            .tag = ADD,
                                            .kind = FIBRIL__FRAME_CALL,
                                            .number = 1,
                                            .who = {.id = 5, .window = 200}});
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive(fibril_after(MS(1000)), &m));
    uint64_t theirs = fibril_message_from(m).actor;
    fibril_message_free(m);
    ASSERT_EQ(fibril_node_of(theirs), p.node);
    int sent = 0;
    for (; rc == 0 && sent < 1000; sent++) {
        ASSERT_OK(fibril_message_new(ADD, 10000, NULL, &m));
        memset(fibril_message_data(m), 1, 10000);
        rc = fibril_actor_send(theirs, m, fibril_after(MS(100)));
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    ASSERT_ERR(rc, -ETIMEDOUT);
    ASSERT_LT(sent, 420); /* two windows */
    expect_end(p, fd, -ETIMEDOUT, "does not read");
    return 0;
}

ACTOR_TEST(more_than_the_credit_or_too_many_actors_end_the_connection)
{
    struct peer p;
    struct fibril_mailbox small = {.messages = 2};
    uint64_t me = fibril_actor_self();
    ASSERT_OK(fibril_actor_set_mailbox(&small));
    ASSERT_OK(fibril_actor_register(me, "me"));
    for (int actors = 0; actors < 2; actors++) {
        int fd = peer_open(&p);
        write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_WHEREIS,
                                                .number = 1,
                                                .name = (const uint8_t *)"me",
                                                .name_len = 2});
        for (uint64_t i = 0; i < 20; i++) {
            write_frame(fd, &(struct fibril__frame){.type = actors ? FIBRIL__FRAME_EXIT
                                                                   : FIBRIL__FRAME_MESSAGE,
                                                    .to = me,
                                                    .tag = ADD,
                                                    .who = {.id = i + 1, .window = 1}});
        }
        uint64_t ref;
        struct fibril_message *m;
        ASSERT_OK(fibril_actor_monitor(p.node, &ref));
        ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DOWN, fibril_after(MS(5000)), &m));
        ASSERT_EQ(((struct fibril_signal *)fibril_message_data(m))->reason, -EBADMSG);
        fibril_message_free(m);
        ASSERT(strstr(noted.text, actors ? "too many actors" : "more than the credit"));
        ASSERT_OK(fibril_close(fd));
        while (fibril_actor_receive(fibril_after(MS(10)), &m) == 0) {
            fibril_message_free(m);
        }
    }
    return 0;
}

ACTOR_TEST(who_was_not_named_is_not_reached)
{
    struct peer p;
    int fd = peer_open(&p);
    struct fibril_message *m;
    write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_MESSAGE,
                                            .to = fibril_actor_self(),
                                            .tag = ADD,
                                            .who.window = 1});
    write_frame(fd, &(struct fibril__frame){.type = FIBRIL__FRAME_EXIT,
                                            .to = fibril_actor_self(),
                                            .reason = -EIO,
                                            .who.window = 1});
    ASSERT_ERR(fibril_actor_receive(fibril_after(MS(500)), &m), -ETIMEDOUT);
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.dead_letters, 1);
    ASSERT_OK(fibril_node_leave(p.node));
    ASSERT_OK(fibril_sleep(MS(2000)));
    ASSERT_OK(fibril_close(fd));
    return 0;
}
