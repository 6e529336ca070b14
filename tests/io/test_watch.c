/* SPDX-License-Identifier: MIT */
/*
 * Watches: called once, later and never from inside; at readiness, at the deadline, at a close;
 * stopped; by the thousand.
 */
#include "io_test.h"

#include <errno.h>
#include <fibril/embed.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct seen {
    struct fibril_watch watch;
    int calls, result;
    int fd;
    int again; /* start it so often again from inside */
};

static void note(struct fibril_watch *w, int result)
{
    struct seen *s = (struct seen *)(void *)((char *)w - offsetof(struct seen, watch));
    s->calls++;
    s->result = result;
    if (s->again > 0) {
        s->again--;
        ASSERT_OK(fibril_watch_start(w, s->fd, POLLIN, FIBRIL_FOREVER, note));
    }
}

static void until_called(struct seen *s, int calls)
{
    while (s->calls < calls) {
        ASSERT_OK(fibril_sleep(100000));
    }
    ASSERT_OK(fibril_sleep(100000));
    ASSERT_EQ(s->calls, calls); /* and not once more */
}

IO_TEST(a_watch_sees_readiness_now_and_later)
{
    int q[2];
    struct seen s = {.calls = 0};
    io_unix_pair(false, q);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLOUT, FIBRIL_FOREVER, note));
    ASSERT_EQ(s.calls, 0); /* not from inside */
    until_called(&s, 1);
    ASSERT_EQ(s.result, POLLOUT);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(s.calls, 1);
    ASSERT_EQ(write(q[1], "x", 1), 1);
    until_called(&s, 2);
    ASSERT_EQ(s.result, POLLIN);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

IO_TEST(a_watch_ends_at_its_deadline)
{
    int q[2];
    struct seen s = {.calls = 0};
    io_unix_pair(false, q);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, io_in(2), note));
    until_called(&s, 1);
    ASSERT_ERR(s.result, -ETIMEDOUT);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, io_in(10000), note));
    ASSERT_EQ(write(q[1], "x", 1), 1);
    until_called(&s, 2);
    ASSERT_EQ(s.result, POLLIN);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

IO_TEST(a_close_ends_a_watch)
{
    int q[2];
    struct seen s = {.calls = 0};
    io_unix_pair(false, q);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    ASSERT_OK(fibril_close(q[0]));
    until_called(&s, 1);
    ASSERT_ERR(s.result, -EBADF);
    ASSERT_OK(fibril_close(q[1]));
    int rc = fibril_watch_start(&s.watch, -1, POLLIN, FIBRIL_FOREVER, note);
    ASSERT_OK(rc);
    until_called(&s, 2);
    ASSERT_ERR(s.result, -EBADF);
    return 0;
}

/* Stops s; whatever way it goes, it is over when this returns. */
static void stop(struct seen *s)
{
    int calls = s->calls, rc = fibril_watch_stop(&s->watch);
    if (rc == -EINPROGRESS) {
        until_called(s, calls + 1);
        ASSERT_ERR(s->result, -ECANCELED);
    } else {
        ASSERT_EQ(rc, 0);
        ASSERT_OK(fibril_sleep(1000000));
        ASSERT_EQ(s->calls, calls);
    }
}

IO_TEST(a_stopped_watch_is_not_called)
{
    int q[2];
    struct seen s = {.calls = 0};
    io_unix_pair(false, q);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    stop(&s);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, io_in(1), note));
    stop(&s);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLOUT, FIBRIL_FOREVER, note)); /* is ready */
    ASSERT_EQ(fibril_watch_stop(&s.watch), 0);
    int calls = s.calls;
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(s.calls, calls);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    ASSERT_OK(fibril_sleep(1000000)); /* the kernel has it by now */
    stop(&s);
    ASSERT_EQ(write(q[1], "x", 1), 1);
    calls = s.calls;
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(s.calls, calls);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

/* What a server does with each connection: try to receive, watch, receive what came. From the
 * second or fourth turn on no poller asks the kernel before it waits. */
static void watch_drained(int q[2], bool odd)
{
    struct seen s = {.calls = 0};
    char buf[16];
    for (int turn = 1; turn <= 8; turn++) {
        ssize_t n = fibril_recv(q[0], buf, sizeof(buf), MSG_DONTWAIT, FIBRIL_FOREVER);
        ASSERT_ERR(n, -EAGAIN);
        if (odd && turn % 2) { /* comes before the watch, after the try */
            ASSERT_EQ(write(q[1], "ab", 2), 2);
        }
        ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN | POLLRDHUP, io_in(10000), note));
        if (!(odd && turn % 2)) {
            ASSERT_OK(fibril_sleep(300000));
            ASSERT_EQ(s.calls, turn - 1);
            ASSERT_EQ(write(q[1], "ab", 2), 2);
        }
        until_called(&s, turn);
        ASSERT_EQ(s.result & POLLIN, POLLIN);
        ASSERT_EQ(fibril_recv(q[0], buf, 1, MSG_DONTWAIT, FIBRIL_FOREVER), 1);
        ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN | POLLRDHUP, io_in(10000), note));
        until_called(&s, turn + 1); /* the second byte is still there */
        s.calls--;
        ASSERT_EQ(fibril_recv(q[0], buf, sizeof(buf), MSG_DONTWAIT, FIBRIL_FOREVER), 1);
    }
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN | POLLRDHUP, io_in(1), note));
    until_called(&s, 9);
    ASSERT_ERR(s.result, -ETIMEDOUT);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN | POLLRDHUP, FIBRIL_FOREVER, note));
    ASSERT_OK(shutdown(q[1], SHUT_WR));
    until_called(&s, 10);
    ASSERT_EQ(s.result & POLLIN, POLLIN);
    ASSERT_EQ(fibril_recv(q[0], buf, sizeof(buf), MSG_DONTWAIT, FIBRIL_FOREVER), 0);
    fibril_close(q[0]);
    fibril_close(q[1]);
}

IO_TEST(a_watch_after_a_receive_sees_what_comes_next)
{
    int q[2];
    for (int i = 0; i < 4; i++) {
        if (i % 2) {
            io_tcp_pair(q);
        } else {
            io_unix_pair(false, q);
        }
        watch_drained(q, /* odd= */ i / 2);
    }
    return 0;
}

IO_TEST(a_close_ends_a_watch_that_awaits_an_edge)
{
    int q[2];
    char buf[16];
    struct seen s = {.calls = 0};
    io_tcp_pair(q);
    for (int turn = 1; turn <= 5; turn++) {
        ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
        ASSERT_EQ(write(q[1], "a", 1), 1);
        until_called(&s, turn);
        ASSERT_EQ(fibril_recv(q[0], buf, sizeof(buf), MSG_DONTWAIT, FIBRIL_FOREVER), 1);
    }
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    stop(&s);
    int calls = s.calls;
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_OK(fibril_close(q[0]));
    until_called(&s, calls + 1);
    ASSERT_ERR(s.result, -EBADF);
    ASSERT_OK(fibril_close(q[1]));
    return 0;
}

IO_TEST(a_watch_may_be_started_from_its_own_callback)
{
    int q[2];
    struct seen s = {.again = 5};
    io_unix_pair(false, q);
    s.fd = q[0];
    ASSERT_EQ(write(q[1], "x", 1), 1);
    ASSERT_OK(fibril_watch_start(&s.watch, q[0], POLLIN, FIBRIL_FOREVER, note));
    until_called(&s, 6);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

IO_TEST(a_file_is_always_ready)
{
    struct seen s = {.calls = 0};
    int fd = open("/proc/self/exe", O_RDONLY);
    ASSERT_OK(fibril_watch_start(&s.watch, fd, POLLIN, FIBRIL_FOREVER, note));
    until_called(&s, 1);
    ASSERT_EQ(s.result, POLLIN);
    fibril_close(fd);
    return 0;
}

IO_TEST(thousands_of_watches_need_no_fibril)
{
    enum { N = 1500 };
    struct rlimit now;
    getrlimit(RLIMIT_NOFILE, &now);
    now.rlim_cur = now.rlim_max < 8192 ? now.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &now);
    struct seen *s = calloc(N, sizeof(*s));
    int(*q)[2] = calloc(N, sizeof(*q));
    for (int i = 0; i < N; i++) {
        io_unix_pair(false, q[i]);
        ASSERT_OK(fibril_watch_start(&s[i].watch, q[i][0], POLLIN, io_in(20000 + i), note));
    }
    ASSERT_OK(fibril_sleep(1000000));
    for (int i = 0; i < N; i += 2) {
        ASSERT_EQ(write(q[i][1], "x", 1), 1);
    }
    for (int i = 0; i < N; i += 2) {
        until_called(&s[i], 1);
    }
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(s[i].calls, i % 2 == 0);
        fibril_close(q[i][0]);
        fibril_close(q[i][1]);
    }
    for (int i = 1; i < N; i += 2) {
        until_called(&s[i], 1);
        ASSERT_EQ(s[i].calls, 1);
        ASSERT_ERR(s[i].result, -EBADF);
    }
    free(s);
    free(q);
    return 0;
}

TEST(a_watch_is_no_larger_than_promised)
{
    ASSERT_LE(sizeof(struct fibril_watch), 136u);
}
