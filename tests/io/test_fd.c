/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing pipes and sockets: at once, waiting, timed out, cancelled, ended, in pieces.
 */
#include "base/compiler.h"
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

struct transfer {
    int fd;
    size_t len, piece;
    ssize_t result;
    int64_t deadline_ns;
    char bytes[64];
    int *order;
    int place;
};

static int reader(void *arg)
{
    struct transfer *t = arg;
    t->result = fibril_read(t->fd, t->bytes, sizeof(t->bytes), t->deadline_ns);
    if (t->order) {
        t->place = (*t->order)++;
    }
    return 0;
}

EACH_STACK(a_read_of_what_is_there_needs_no_wait)
{
    int p[2];
    char bytes[16];
    ASSERT_OK(fibril_pipe(p));
    ASSERT_EQ(fibril_write(p[1], "hello", 5, 0), 5);
    ASSERT_EQ(fibril_read(p[0], bytes, sizeof(bytes), 0), 5);
    ASSERT_MEM(bytes, "hello", 5);
    ASSERT_OK(fibril_close(p[0]));
    ASSERT_OK(fibril_close(p[1]));
    return 0;
}

EACH_STACK(a_read_waits_for_what_comes_later)
{
    int p[2];
    ASSERT_OK(fibril_pipe(p));
    struct transfer *t = calloc(1, sizeof(*t));
    *t = (struct transfer){.fd = p[0], .deadline_ns = FIBRIL_FOREVER};
    struct fibril *f = io_start(reader, t);
    io_settle();
    ASSERT_EQ(fibril_write(p[1], "later", 5, FIBRIL_FOREVER), 5);
    io_end(f);
    ASSERT_EQ(t->result, 5);
    ASSERT_MEM(t->bytes, "later", 5);
    fibril_close(p[0]);
    fibril_close(p[1]);
    free(t);
    return 0;
}

EACH_STACK(a_buffer_on_the_stack_is_filled_also_after_a_wait)
{
    int p[2];
    ASSERT_OK(fibril_pipe(p));
    struct transfer *t = calloc(1, sizeof(*t));
    *t = (struct transfer){.fd = p[0], .deadline_ns = FIBRIL_FOREVER};
    struct fibril *f = io_start(reader, t);
    int q[2];
    char bytes[8] = "";
    io_unix_pair(false, q);
    ASSERT_ERR(fibril_read(q[0], bytes, sizeof(bytes), io_in(5)), -ETIMEDOUT);
    ASSERT_EQ(fibril_write(p[1], "x", 1, FIBRIL_FOREVER), 1);
    io_end(f);
    ASSERT_EQ(write(q[1], "stack", 5), 5);
    ASSERT_EQ(fibril_read(q[0], bytes, sizeof(bytes), FIBRIL_FOREVER), 5);
    ASSERT_MEM(bytes, "stack", 5);
    for (int i = 0; i < 2; i++) {
        fibril_close(p[i]);
        fibril_close(q[i]);
    }
    free(t);
    return 0;
}

EACH_STACK(a_past_deadline_makes_it_a_try)
{
    int q[2];
    char bytes[4];
    io_unix_pair(false, q);
    ASSERT_ERR(fibril_read(q[0], bytes, 4, 0), -ETIMEDOUT);
    ASSERT_EQ(write(q[1], "abcd", 4), 4);
    ASSERT_EQ(fibril_read(q[0], bytes, 4, 0), 4);
    ASSERT_ERR(fibril_read(q[0], bytes, 4, fibril_now() - 1), -ETIMEDOUT);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(a_read_times_out_and_the_descriptor_stays_usable)
{
    int q[2];
    char bytes[4];
    io_unix_pair(false, q);
    int64_t deadline = io_in(10);
    ASSERT_ERR(fibril_read(q[0], bytes, 4, deadline), -ETIMEDOUT);
    ASSERT_GE(fibril_now(), deadline);
    ASSERT_EQ(fibril_write(q[1], "more", 4, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_read(q[0], bytes, 4, FIBRIL_FOREVER), 4);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(a_cancelled_read_takes_no_bytes_along)
{
    int q[2];
    io_unix_pair(false, q);
    struct transfer *t = calloc(1, sizeof(*t));
    *t = (struct transfer){.fd = q[0], .deadline_ns = FIBRIL_FOREVER};
    struct fibril *f = io_start(reader, t);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    io_end(f);
    ASSERT_ERR(t->result, -ECANCELED);
    ASSERT_EQ(fibril_write(q[1], "kept", 4, FIBRIL_FOREVER), 4);
    char bytes[8];
    ASSERT_EQ(fibril_read(q[0], bytes, sizeof(bytes), FIBRIL_FOREVER), 4);
    fibril_close(q[0]);
    fibril_close(q[1]);
    free(t);
    return 0;
}

static int cancelled_one(void *arg)
{
    int *q = arg;
    char byte;
    while (!fibril_cancelled()) {
        fibril_yield();
    }
    ASSERT_EQ(fibril_write(q[1], "x", 1, FIBRIL_FOREVER), 1);
    ASSERT_EQ(fibril_read(q[0], &byte, 1, FIBRIL_FOREVER), 1);
    ASSERT_ERR(fibril_read(q[0], &byte, 1, FIBRIL_FOREVER), -ECANCELED);
    ASSERT(fibril_cancel_clear());
    ASSERT_ERR(fibril_read(q[0], &byte, 1, io_in(1)), -ETIMEDOUT);
    return 0;
}

EACH_STACK(a_cancelled_fibril_may_do_what_needs_no_wait)
{
    static int q[2];
    ASSERT_OK(fibril_pipe(q));
    struct fibril *f = io_start(cancelled_one, q);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(io_end(f), 0);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(the_end_of_a_stream_reads_as_zero)
{
    int p[2], q[2];
    char byte;
    ASSERT_OK(fibril_pipe(p));
    io_unix_pair(true, q);
    fibril_close(p[1]);
    fibril_close(q[1]);
    ASSERT_EQ(fibril_read(p[0], &byte, 1, FIBRIL_FOREVER), 0);
    ASSERT_EQ(fibril_read(q[0], &byte, 1, FIBRIL_FOREVER), 0);
    ASSERT_ERR(fibril_read_all(p[0], &byte, 1, FIBRIL_FOREVER), -EPIPE);
    fibril_close(p[0]);
    fibril_close(q[0]);
    return 0;
}

EACH_STACK(no_write_raises_sigpipe)
{
    int p[2], q[2];
    struct iovec iov[2] = {{(char[]){'a'}, 1}, {(char[]){'b'}, 1}};
    ASSERT_OK(fibril_pipe(p));
    io_unix_pair(false, q);
    fibril_close(p[0]);
    fibril_close(q[0]);
    ASSERT_ERR(fibril_write(p[1], "x", 1, FIBRIL_FOREVER), -EPIPE);
    ASSERT_ERR(fibril_writev(p[1], iov, 2, FIBRIL_FOREVER), -EPIPE);
    ASSERT_ERR(fibril_write(q[1], "x", 1, FIBRIL_FOREVER), -EPIPE);
    ASSERT_ERR(fibril_writev(q[1], iov, 2, FIBRIL_FOREVER), -EPIPE);
    ASSERT_ERR(fibril_send(q[1], "x", 1, 0, FIBRIL_FOREVER), -EPIPE);
    fibril_close(p[1]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(a_write_waits_for_room)
{
    int p[2];
    char bytes[4096] = "";
    ASSERT_OK(fibril_pipe(p));
    size_t total = io_fill(p[1]);
    ASSERT_GE(total, 4096u);
    ASSERT_ERR(fibril_write(p[1], bytes, 1, io_in(5)), -ETIMEDOUT);
    for (size_t got = 0; got < total;) {
        ssize_t n = fibril_read(p[0], bytes, sizeof(bytes), FIBRIL_FOREVER);
        ASSERT_GT(n, 0);
        got += (size_t)n;
    }
    ASSERT_EQ(fibril_write(p[1], bytes, 1, FIBRIL_FOREVER), 1);
    fibril_close(p[0]);
    fibril_close(p[1]);
    return 0;
}

/* ---- megabytes through small buffers --------------------------------------------------------- */

static int pour(void *arg)
{
    struct transfer *t = arg;
    char *bytes = malloc(t->len);
    for (size_t i = 0; i < t->len; i++) {
        bytes[i] = io_byte(i);
    }
    struct iovec iov[3] = {
        {bytes, t->len / 3}, {bytes + t->len / 3, 0}, {bytes + t->len / 3, t->len - t->len / 3}};
    t->result = t->piece ? fibril_writev_all(t->fd, iov, 3, FIBRIL_FOREVER)
                         : fibril_write_all(t->fd, bytes, t->len, FIBRIL_FOREVER);
    free(bytes);
    ASSERT_OK(fibril_close(t->fd));
    return 0;
}

static void drink(int fd, size_t len)
{
    char bytes[1500];
    size_t at = 0;
    for (;;) {
        struct iovec iov[2] = {{bytes, 700}, {bytes + 700, 800}};
        ssize_t n = at % 2 ? fibril_readv(fd, iov, 2, FIBRIL_FOREVER)
                           : fibril_read(fd, bytes, 1 + at % sizeof(bytes), FIBRIL_FOREVER);
        ASSERT_OK(n);
        if (n == 0) {
            break;
        }
        for (ssize_t i = 0; i < n; i++, at++) {
            ASSERT_EQ(bytes[i], io_byte(at));
        }
    }
    ASSERT_EQ(at, len);
}

static void through(int from, int to, size_t len, bool vector)
{
    struct transfer *t = calloc(1, sizeof(*t));
    *t = (struct transfer){.fd = from, .len = len, .piece = vector};
    struct fibril *f = io_start(pour, t);
    drink(to, len);
    io_end(f);
    ASSERT_EQ(t->result, (ssize_t)len);
    ASSERT_OK(fibril_close(to));
    free(t);
}

EACH_STACK(megabytes_pass_through_small_buffers_whole)
{
    size_t len = test_is_slow() ? 300000 : 4000000;
    for (int vector = 0; vector < 2; vector++) {
        int p[2], q[2];
        ASSERT_OK(fibril_pipe(p));
        through(p[1], p[0], len, vector);
        io_unix_pair(false, q);
        int small = 4096;
        setsockopt(q[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        through(q[0], q[1], len, vector);
        io_tcp_pair(q);
        through(q[0], q[1], len, vector);
    }
    return 0;
}

EACH_STACK(blocking_descriptors_park_the_fibril_only)
{
    int p[2], q[2];
    ASSERT_EQ(pipe(p), 0);
    through(p[1], p[0], 200000, false);
    ASSERT_EQ(pipe(p), 0);
    through(p[1], p[0], 200000, true);
    io_unix_pair(true, q);
    through(q[0], q[1], 600000, false);
    io_unix_pair(true, q);
    through(q[0], q[1], 600000, true);
    return 0;
}

/* ---- the rest -------------------------------------------------------------------------------- */

EACH_STACK(two_readers_are_served_in_order)
{
    if (FIBRIL_HARD) {
        SKIP("the hard flavour shuffles those who are ready");
    }
    int q[2];
    int *order = calloc(1, sizeof(*order));
    struct transfer *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    io_unix_pair(false, q);
    *a = (struct transfer){.fd = q[0], .deadline_ns = FIBRIL_FOREVER, .order = order};
    *b = *a;
    struct fibril *first = io_start(reader, a);
    io_settle();
    struct fibril *second = io_start(reader, b);
    io_settle();
    ASSERT_EQ(fibril_write(q[1], "1", 1, FIBRIL_FOREVER), 1);
    io_end(first);
    ASSERT_EQ(fibril_write(q[1], "2", 1, FIBRIL_FOREVER), 1);
    io_end(second);
    ASSERT_EQ(a->bytes[0], '1');
    ASSERT_EQ(b->bytes[0], '2');
    fibril_close(q[0]);
    fibril_close(q[1]);
    free(a);
    free(b);
    free(order);
    return 0;
}

EACH_STACK(waiting_for_a_descriptor_says_what_holds)
{
    int q[2];
    io_unix_pair(false, q);
    ASSERT_EQ(fibril_fd_wait(q[0], POLLOUT, FIBRIL_FOREVER), POLLOUT);
    ASSERT_ERR(fibril_fd_wait(q[0], POLLIN, io_in(5)), -ETIMEDOUT);
    ASSERT_EQ(write(q[1], "x", 1), 1);
    ASSERT_EQ(fibril_fd_wait(q[0], POLLIN | POLLOUT, FIBRIL_FOREVER), POLLIN | POLLOUT);
    fibril_close(q[1]);
    ASSERT(fibril_fd_wait(q[0], POLLRDHUP, FIBRIL_FOREVER) & POLLRDHUP);
    ASSERT(fibril_fd_wait(q[0], POLLIN, FIBRIL_FOREVER) & POLLHUP);
    fibril_close(q[0]);
    ASSERT_ERR(fibril_fd_wait(q[0], POLLIN, FIBRIL_FOREVER), -EBADF);
    return 0;
}

EACH_STACK(counters_and_devices_are_descriptors_like_others)
{
    char bytes[16];
    uint64_t count = 3;
    int event = eventfd(0, EFD_NONBLOCK);
    ASSERT_EQ(fibril_write(event, &count, sizeof(count), FIBRIL_FOREVER), 8);
    count = 0;
    ASSERT_EQ(fibril_read(event, &count, sizeof(count), FIBRIL_FOREVER), 8);
    ASSERT_EQ(count, 3u);
    ASSERT_ERR(fibril_read(event, &count, sizeof(count), io_in(2)), -ETIMEDOUT);
    fibril_close(event);
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
    ASSERT_EQ(fibril_write(null, "x", 1, FIBRIL_FOREVER), 1);
    ASSERT_EQ(fibril_read(null, bytes, 1, FIBRIL_FOREVER), 0);
    ASSERT_EQ(fibril_read(zero, bytes, 16, FIBRIL_FOREVER), 16);
    fibril_close(null);
    fibril_close(zero);
    return 0;
}

IO_TEST(wrong_arguments_are_refused)
{
    char byte;
    struct iovec huge[2] = {{&byte, SIZE_MAX / 2}, {&byte, SIZE_MAX / 2}};
    ASSERT_ERR(fibril_read(-1, &byte, 1, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_write(9999, &byte, 1, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_read(0x7fffffff, &byte, 1, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_recv(9999, &byte, 1, 0, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_recv(0x7fffffff, &byte, 1, 0, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_close(-1), -EBADF);
    ASSERT_ERR(fibril_close(9999), -EBADF);
    ASSERT_ERR(fibril_readv(0, huge, 2, 0), -EINVAL);
    ASSERT_ERR(fibril_readv(0, huge, -1, 0), -EINVAL);
    return 0;
}

TEST(outside_of_loops_calls_are_refused)
{
    char byte;
    struct fibril_addr a;
    ASSERT_ERR(fibril_read(0, &byte, 1, 0), -EPERM);
    ASSERT_ERR(fibril_recv(0, &byte, 1, 0, 0), -EPERM);
    ASSERT_ERR(fibril_close(0), -EPERM);
    ASSERT_OK(fibril_addr_parse("127.0.0.1:1", &a));
    ASSERT_ERR(fibril_listen(&a, 1, 0), -EPERM);
    ASSERT_ERR(fibril_connect(&a, 0), -EPERM);
    ASSERT_ERR(fibril_udp(&a), -EPERM);
    ASSERT_ERR(fibril_open("/", 0, 0, 0), -EPERM);
}

static void on_alarm(int signo)
{
    (void)signo;
}

EACH_STACK(a_storm_of_signals_shows_nowhere)
{
    struct sigaction sa = {.sa_handler = on_alarm}; /* no SA_RESTART: calls are interrupted */
    /* More often than valgrind delivers a signal, and the program would not get on. */
    int us = test_is_valgrind() ? 50000 : 200;
    struct itimerval often = {{0, us}, {0, us}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 3; i++) {
        int p[2], q[2];
        ASSERT_OK(fibril_pipe(p));
        through(p[1], p[0], 200000, i & 1);
        io_tcp_pair(q);
        through(q[0], q[1], 200000, i & 1);
        ASSERT_OK(fibril_sleep(3000000));
    }
    setitimer(ITIMER_REAL, &never, NULL);
    return 0;
}
