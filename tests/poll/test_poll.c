/* SPDX-License-Identifier: MIT */
/*
 * The contract of src/poll/poll.h, property by property, on both pollers of the kernel: each kind
 * of operation over at once and after a wait, ends of streams, order of waiters, cancellation,
 * FORGET and the re-use of numbers, wake-ups and deadlines.
 */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "rig.h"

/* ---- transfers ----------------------------------------------------------- */

BOTH(recv_gets_what_is_there_already)
{
    int fds[2];
    char buf[16];
    struct waiter w;
    rig_pair(fds);
    ASSERT_EQ(write(fds[1], "hello", 5), 5);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 5);
    ASSERT_MEM(buf, "hello", 5);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(recv_waits_for_bytes)
{
    int fds[2];
    char buf[16];
    struct waiter w;
    rig_tcp(fds);
    for (int i = 0; i < 5; i++) {
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        ASSERT_EQ(w.at_once, 0);
        rig_look(p);
        ASSERT_EQ(w.calls, 0);
        ASSERT_EQ(write(fds[1], "hello", 5), 5);
        ASSERT_EQ(rig_finish(p, &w), 5);
        ASSERT_MEM(buf, "hello", 5);
    }
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(full_reads_leave_nothing_behind)
{
    int fds[2];
    char buf[4];
    struct waiter w;
    rig_tcp(fds);
    for (int round = 0; round < 3; round++) {
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        ASSERT_EQ(write(fds[1], "abcdefghij", 10), 10);
        ASSERT_EQ(rig_finish(p, &w), 4);
        ASSERT_MEM(buf, "abcd", 4);
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        ASSERT_EQ(rig_finish(p, &w), 4);
        ASSERT_MEM(buf, "efgh", 4);
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        ASSERT_EQ(rig_finish(p, &w), 2);
        ASSERT_MEM(buf, "ij", 2);
    }
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(end_of_stream_after_a_short_read_is_seen)
{
    int fds[2];
    char buf[16];
    struct waiter w;
    rig_tcp(fds);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    rig_look(p);
    ASSERT_EQ(write(fds[1], "bye", 3), 3);
    ASSERT_OK(shutdown(fds[1], SHUT_WR));
    ASSERT_EQ(rig_finish(p, &w), 3);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 0);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 0);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(a_peer_that_resets_ends_recv_with_an_error)
{
    int fds[2];
    char buf[16];
    struct waiter w;
    rig_tcp(fds);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    rig_look(p);
    struct linger abort = {.l_onoff = 1, .l_linger = 0};
    ASSERT_OK(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)));
    close(fds[1]);
    ASSERT_EQ(rig_finish(p, &w), -ECONNRESET);
    rig_close(p, fds[0]);
}

BOTH(send_to_a_closed_peer_fails_without_a_signal)
{
    int fds[2];
    struct waiter w;
    rig_pair(fds);
    close(fds[1]);
    START(&w, SEND, fds[0], .buf = "x", .len = 1);
    ASSERT_EQ(rig_finish(p, &w), -EPIPE);
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    START(&w, WRITEV, fds[0], .buf = &iov, .len = 1);
    ASSERT_EQ(rig_finish(p, &w), -EPIPE);
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    START(&w, SENDMSG, fds[0], .buf = &m);
    ASSERT_EQ(rig_finish(p, &w), -EPIPE);
    rig_close(p, fds[0]);
}

/* The byte at a position of the stream; no part of the stream looks like another. */
static unsigned char byte_at(size_t at)
{
    uint64_t x = (at + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned char)(x >> 56);
}

struct pump {
    struct fibril__poller *p;
    struct waiter w;
    uint8_t out_kind, in_kind;
    size_t out, in, total;
    unsigned char sent[65536], got[65536];
};

/* Sends until it would block or all is sent. */
static void pump_out(struct pump *u, int fd)
{
    for (;;) {
        if (!rig_over(&u->w)) {
            return;
        }
        ASSERT_GE(u->w.op.result, 0);
        u->out += (size_t)u->w.op.result;
        u->w.op.result = 0;
        size_t n = u->total - u->out < sizeof(u->sent) ? u->total - u->out : sizeof(u->sent);
        if (n == 0) {
            return;
        }
        for (size_t i = 0; i < n; i++) {
            u->sent[i] = byte_at(u->out + i);
        }
        u->w = (struct waiter){.op = {.kind = u->out_kind, .fd = fd, .buf = u->sent, .len = n}};
        rig_start(u->p, &u->w);
        rig_look(u->p);
    }
}

static void pump_in(struct pump *u, int fd)
{
    struct waiter r = {.op = {.kind = u->in_kind, .fd = fd, .buf = u->got, .len = sizeof(u->got)}};
    rig_start(u->p, &r);
    int64_t n = rig_finish(u->p, &r);
    ASSERT_GT(n, 0);
    for (int64_t i = 0; i < n; i++) {
        ASSERT_EQ(u->got[i], byte_at(u->in + (size_t)i));
    }
    u->in += (size_t)n;
}

/* Sends until it would block, reads a part at the other end, and so on; every byte arrives in
 * order. */
static void pump(struct fibril__poller *p, int from, int to, uint8_t out_kind, size_t total)
{
    static struct pump u;
    u = (struct pump){.p = p,
                      .w = {.calls = 1},
                      .out_kind = out_kind,
                      .in_kind = out_kind == FIBRIL__OP_SEND ? FIBRIL__OP_RECV : FIBRIL__OP_READ,
                      .total = total};
    while (u.in < total) {
        pump_out(&u, from);
        pump_in(&u, to);
    }
    pump_out(&u, from);
    ASSERT_EQ(u.out, total);
}

BOTH(a_full_socket_makes_send_wait_and_nothing_is_lost)
{
    int fds[2];
    rig_tcp(fds);
    pump(p, fds[0], fds[1], FIBRIL__OP_SEND, test_is_slow() ? 1 << 20 : 8 << 20);
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(a_full_pipe_makes_write_wait_and_nothing_is_lost)
{
    int fds[2];
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    pump(p, fds[1], fds[0], FIBRIL__OP_WRITE, test_is_slow() ? 1 << 20 : 8 << 20);
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(blocking_pipes_are_never_blocked_on)
{
    int fds[2];
    ASSERT_OK(pipe2(fds, O_CLOEXEC));
    pump(p, fds[1], fds[0], FIBRIL__OP_WRITE, 1 << 20);
    char c;
    struct waiter w;
    START(&w, READ, fds[0], .buf = &c, .len = 1);
    rig_look(p);
    ASSERT_EQ(w.at_once, 0);
    ASSERT_EQ(w.calls, 0);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &w), 1);
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(blocking_sockets_are_never_blocked_on)
{
    int fds[2];
    ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    pump(p, fds[1], fds[0], FIBRIL__OP_SEND, 4 << 20);
    char c;
    struct waiter w;
    struct iovec iov = {.iov_base = &c, .iov_len = 1};
    START(&w, READV, fds[0], .buf = &iov, .len = 1);
    rig_look(p);
    ASSERT_EQ(w.op.result, 0);
    ASSERT_EQ(w.at_once, 0);
    ASSERT_EQ(w.calls, 0);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &w), 1);
    ASSERT_EQ(c, 'x');
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(vectors_are_read_and_written)
{
    int fds[2];
    char a[3], b[8];
    struct waiter w, r;
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    struct iovec in[2] = {{a, sizeof(a)}, {b, sizeof(b)}};
    START(&r, READV, fds[0], .buf = in, .len = 2);
    rig_look(p);
    ASSERT_EQ(rig_over(&r), 0);
    struct iovec out[2] = {{"01", 2}, {"23456", 5}};
    START(&w, WRITEV, fds[1], .buf = out, .len = 2);
    ASSERT_EQ(rig_finish(p, &w), 7);
    ASSERT_EQ(rig_finish(p, &r), 7);
    ASSERT_MEM(a, "012", 3);
    ASSERT_MEM(b, "3456", 4);
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(a_closed_pipe_is_the_end_for_its_reader)
{
    int fds[2];
    char c;
    struct waiter w;
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    START(&w, READ, fds[0], .buf = &c, .len = 1);
    rig_look(p);
    rig_close(p, fds[1]);
    ASSERT_EQ(rig_finish(p, &w), 0);
    rig_close(p, fds[0]);
}

BOTH(an_empty_transfer_does_not_wait)
{
    int fds[2];
    char c;
    struct waiter w;
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    START(&w, READ, fds[0], .buf = &c, .len = 1);
    rig_look(p);
    ASSERT_EQ(w.calls, 0);
    struct waiter none;
    START(&none, READ, fds[0], .buf = &c, .len = 0);
    ASSERT_EQ(rig_finish(p, &none), 0);
    START(&none, WRITE, fds[1], .buf = &c, .len = 0);
    ASSERT_EQ(rig_finish(p, &none), 0);
    rig_close(p, fds[0]);
    ASSERT_EQ(w.op.result, -EBADF);
    rig_close(p, fds[1]);
}

BOTH(peeking_does_not_hide_what_it_saw)
{
    int fds[2];
    char buf[16];
    struct waiter w;
    rig_tcp(fds);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf), .flags = MSG_PEEK);
    rig_look(p);
    ASSERT_EQ(write(fds[1], "seen", 4), 4);
    ASSERT_EQ(rig_finish(p, &w), 4);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf), .flags = MSG_PEEK);
    ASSERT_EQ(rig_finish(p, &w), 4);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 4);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(datagrams_keep_their_bounds_and_addresses)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int a = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int b = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ASSERT_OK(bind(a, (struct sockaddr *)&in, sizeof(in)));
    ASSERT_OK(getsockname(a, (struct sockaddr *)&in, &len));
    char buf[16];
    struct sockaddr_in from;
    struct iovec to_iov = {buf, sizeof(buf)};
    struct msghdr to = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &to_iov, .msg_iovlen = 1};
    struct waiter r, w;
    START(&r, RECVMSG, a, .buf = &to);
    rig_look(p);
    ASSERT_EQ(rig_over(&r), 0);
    for (int i = 0; i < 2; i++) {
        struct iovec out_iov = {i ? "two" : "first", i ? 3 : 5};
        struct msghdr out = {
            .msg_name = &in, .msg_namelen = sizeof(in), .msg_iov = &out_iov, .msg_iovlen = 1};
        START(&w, SENDMSG, b, .buf = &out);
        ASSERT_EQ(rig_finish(p, &w), (int64_t)out_iov.iov_len);
    }
    ASSERT_EQ(rig_finish(p, &r), 5);
    ASSERT_EQ(from.sin_family, AF_INET);
    START(&r, RECV, a, .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &r), 3);
    ASSERT_MEM(buf, "two", 3);
    rig_close(p, a);
    rig_close(p, b);
}

/* ---- connections --------------------------------------------------------- */

BOTH(accept_waits_and_gives_a_descriptor_that_is_ready_for_use)
{
    struct sockaddr_storage addr, peer;
    socklen_t len;
    int listener = rig_listener(&addr, &len);
    struct waiter a, c;
    START(&a, ACCEPT, listener, .buf = &peer, .addr_len = sizeof(peer));
    rig_look(p);
    ASSERT_EQ(rig_over(&a), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    START(&c, CONNECT, fd, .buf = &addr, .len = len);
    ASSERT_EQ(rig_finish(p, &c), 0);
    int64_t got = rig_finish(p, &a);
    ASSERT_GT(got, 0);
    ASSERT_EQ(peer.ss_family, AF_INET);
    ASSERT_EQ(a.op.addr_len, sizeof(struct sockaddr_in));
    ASSERT_EQ(fcntl((int)got, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    ASSERT_EQ(fcntl((int)got, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    rig_close(p, (int)got);
    rig_close(p, fd);
    rig_close(p, listener);
}

BOTH(connections_in_the_queue_are_accepted_one_by_one)
{
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = rig_listener(&addr, &len), fds[3];
    fcntl(listener, F_SETFL, 0); /* a listener that would block */
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ASSERT_OK(connect(fds[i], (struct sockaddr *)&addr, len));
    }
    struct waiter a;
    for (int i = 0; i < 3; i++) {
        START(&a, ACCEPT, listener, .buf = NULL);
        int64_t got = rig_finish(p, &a);
        ASSERT_GT(got, 0);
        rig_close(p, (int)got);
        close(fds[i]);
    }
    START(&a, ACCEPT, listener, .buf = NULL);
    rig_look(p);
    ASSERT_EQ(rig_over(&a), 0);
    rig_close(p, listener);
    ASSERT_EQ(a.op.result, -EBADF);
}

BOTH(connect_to_nobody_is_refused)
{
    struct sockaddr_storage addr;
    socklen_t len;
    close(rig_listener(&addr, &len));
    for (int blocking = 0; blocking < 2; blocking++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
        struct waiter c;
        START(&c, CONNECT, fd, .buf = &addr, .len = len);
        ASSERT_EQ(rig_finish(p, &c), -ECONNREFUSED);
        ASSERT_EQ(!(fcntl(fd, F_GETFL) & O_NONBLOCK), blocking);
        rig_close(p, fd);
    }
}

BOTH(a_descriptor_can_be_used_before_it_is_connected)
{
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = rig_listener(&addr, &len);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct waiter w;
    char c;
    START(&w, RECV, fd, .buf = &c, .len = 1);
    ASSERT_EQ(rig_finish(p, &w), -ENOTCONN);
    START(&w, POLL, fd, .events = POLLOUT); /* hangs up, as it is not connected: registers the
                                               descriptor */
    ASSERT_GT(rig_finish(p, &w), 0);
    START(&w, CONNECT, fd, .buf = &addr, .len = len);
    ASSERT_EQ(rig_finish(p, &w), 0);
    struct waiter r;
    START(&r, RECV, fd, .buf = &c, .len = 1);
    rig_look(p);
    ASSERT_EQ(rig_over(&r), 0);
    int peer = accept(listener, NULL, NULL);
    ASSERT_OK(peer);
    ASSERT_EQ(write(peer, "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &r), 1);
    close(peer);
    rig_close(p, fd);
    rig_close(p, listener);
}

/* ---- readiness ----------------------------------------------------------- */

BOTH(poll_reports_what_is_ready_at_once)
{
    int fds[2];
    struct waiter w;
    rig_pair(fds);
    START(&w, POLL, fds[0], .events = POLLIN | POLLOUT);
    ASSERT_EQ(rig_finish(p, &w), POLLOUT);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    START(&w, POLL, fds[0], .events = POLLIN);
    ASSERT_EQ(rig_finish(p, &w), POLLIN);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(poll_is_right_after_others_have_read)
{
    int fds[2];
    struct waiter w;
    char buf[8];
    rig_tcp(fds);
    for (int i = 0; i < 3; i++) {
        START(&w, POLL, fds[0], .events = POLLIN);
        rig_look(p);
        ASSERT_EQ(rig_over(&w), 0);
        ASSERT_EQ(write(fds[1], "abc", 3), 3);
        ASSERT_EQ(rig_finish(p, &w), POLLIN);
        ASSERT_EQ(read(fds[0], buf, 1), 1);
        START(&w, POLL, fds[0], .events = POLLIN);
        ASSERT_EQ(rig_finish(p, &w), POLLIN);
        ASSERT_EQ(read(fds[0], buf, sizeof(buf)), 2);
    }
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(poll_sees_a_hang_up_it_did_not_ask_for)
{
    int fds[2];
    struct waiter w;
    rig_pair(fds);
    START(&w, POLL, fds[0], .events = 0);
    rig_look(p);
    ASSERT_EQ(rig_over(&w), 0);
    close(fds[1]);
    ASSERT_EQ(rig_finish(p, &w) & POLLHUP, POLLHUP);
    rig_close(p, fds[0]);
}

BOTH(several_polls_of_one_descriptor_all_end)
{
    int fds[2];
    struct waiter in[3], rd;
    rig_tcp(fds);
    for (int i = 0; i < 3; i++) {
        START(&in[i], POLL, fds[0], .events = POLLIN);
    }
    START(&rd, POLL, fds[0], .events = POLLRDHUP);
    rig_look(p);
    ASSERT_EQ(rig_over(&in[0]), 0);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(rig_finish(p, &in[i]), POLLIN);
    }
    rig_look(p);
    ASSERT_EQ(rig_over(&rd), 0);
    ASSERT_OK(shutdown(fds[1], SHUT_WR));
    ASSERT_EQ(rig_finish(p, &rd), POLLRDHUP);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(regular_files_are_always_ready)
{
    char path[] = "/tmp/fibril-poll-XXXXXX";
    int fd = mkstemp(path);
    ASSERT_OK(fd);
    unlink(path);
    struct waiter w;
    START(&w, POLL, fd, .events = POLLIN | POLLOUT);
    ASSERT_EQ(rig_finish(p, &w), POLLIN | POLLOUT);
    START(&w, WRITE, fd, .buf = "line", .len = 4);
    ASSERT_EQ(rig_finish(p, &w), 4);
    ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
    char buf[8];
    START(&w, READ, fd, .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 4);
    START(&w, READ, fd, .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 0);
    rig_close(p, fd);
}

BOTH(terminals_give_line_after_line)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) {
        SKIP("no terminals here");
    }
    int tty = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC); /* blocking, as terminals are */
    ASSERT_OK(tty);
    char buf[64];
    struct waiter w;
    START(&w, READ, tty, .buf = buf, .len = sizeof(buf));
    rig_look(p);
    ASSERT_EQ(rig_over(&w), 0);
    ASSERT_EQ(write(master, "one\ntwo\n", 8), 8);
    ASSERT_EQ(rig_finish(p, &w), 4);
    ASSERT_MEM(buf, "one\n", 4);
    START(&w, READ, tty, .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 4);
    ASSERT_MEM(buf, "two\n", 4);
    START(&w, WRITE, tty, .buf = "out", .len = 3);
    ASSERT_EQ(rig_finish(p, &w), 3);
    rig_close(p, tty);
    rig_close(p, master);
}

BOTH(numbers_that_are_no_descriptors_are_refused)
{
    struct waiter w;
    char c;
    int fd = dup(0);
    ASSERT_OK(fd);
    close(fd);
    const uint8_t kinds[] = {FIBRIL__OP_POLL, FIBRIL__OP_READ,   FIBRIL__OP_WRITE,  FIBRIL__OP_RECV,
                             FIBRIL__OP_SEND, FIBRIL__OP_ACCEPT, FIBRIL__OP_CONNECT};
    for (size_t i = 0; i < sizeof(kinds); i++) {
        w = OP(POLL, -1, .buf = &c, .len = 1, .events = POLLIN);
        w.op.kind = kinds[i];
        rig_start(p, &w);
        ASSERT_EQ(rig_finish(p, &w), -EBADF);
        w.op.fd = fd;
        rig_start(p, &w);
        ASSERT_EQ(rig_finish(p, &w), -EBADF);
    }
    START(&w, FORGET, fd, .buf = NULL);
    ASSERT_EQ(rig_finish(p, &w), 0);
}

/* ---- order, cancellation, FORGET ----------------------------------------- */

BOTH(readers_are_served_first_in_first_out)
{
    int fds[2];
    char buf[4];
    struct waiter w[4];
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    for (int i = 0; i < 4; i++) {
        START(&w[i], READ, fds[0], .buf = &buf[i], .len = 1);
    }
    rig_look(p);
    ASSERT_EQ(write(fds[1], "abcd", 4), 4);
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(rig_finish(p, &w[i]), 1);
        ASSERT_EQ(buf[i], "abcd"[i]);
        ASSERT_EQ(i == 0 || w[i].order > w[i - 1].order, 1);
    }
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

/* Several senders behind a full socket: what they send is neither mixed nor reordered. */
BOTH(senders_are_served_first_in_first_out)
{
    int fds[2];
    static char filler[1 << 20], buf[1 << 16];
    struct waiter w[4];
    rig_pair(fds);
    ssize_t n, filled = 0, read_bytes = 0;
    while ((n = send(fds[0], filler, sizeof(filler), MSG_DONTWAIT)) > 0) {
        filled += n;
    }
    for (int i = 0; i < 4; i++) {
        START(&w[i], SEND, fds[0], .buf = (char *)&"abcd"[i], .len = 1);
        ASSERT_EQ(w[i].at_once, 0);
    }
    rig_look(p);
    while (read_bytes < filled) {
        n = recv(fds[1], buf,
                 filled - read_bytes < (ssize_t)sizeof(buf) ? (size_t)(filled - read_bytes)
                                                            : sizeof(buf),
                 0);
        ASSERT_GT(n, 0);
        read_bytes += n;
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(rig_finish(p, &w[i]), 1);
    }
    ASSERT_EQ(recv(fds[1], buf, sizeof(buf), MSG_DONTWAIT), 4);
    ASSERT_MEM(buf, "abcd", 4);
    rig_close(p, fds[0]);
    close(fds[1]);
}

/* Cancels and waits for the end, whichever way it comes. */
static int64_t cancel(struct fibril__poller *p, struct waiter *w)
{
    if (p->ops->cancel(p, &w->op) == 1) {
        ASSERT_EQ(w->calls, 0);
        w->at_once = 1;
    }
    return rig_finish(p, w);
}

BOTH(a_cancelled_operation_ends_once_and_takes_nothing)
{
    int fds[2];
    char buf[8];
    struct waiter w;
    rig_tcp(fds);
    for (int pending = 0; pending < 2; pending++) { /* before and after the kernel knows of it */
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        if (pending) {
            rig_look(p);
        }
        ASSERT_EQ(cancel(p, &w), -ECANCELED);
        START(&w, POLL, fds[0], .events = POLLIN);
        if (pending) {
            rig_look(p);
        }
        ASSERT_EQ(cancel(p, &w), -ECANCELED);
    }
    rig_look(p);
    ASSERT_EQ(w.calls + w.at_once, 1);
    ASSERT_EQ(write(fds[1], "kept", 4), 4);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    ASSERT_EQ(rig_finish(p, &w), 4);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(cancelling_one_of_several_leaves_the_others)
{
    int fds[2];
    char buf[3];
    struct waiter w[3];
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    for (int i = 0; i < 3; i++) {
        START(&w[i], READ, fds[0], .buf = &buf[i], .len = 1);
    }
    rig_look(p);
    ASSERT_EQ(cancel(p, &w[1]), -ECANCELED);
    ASSERT_EQ(write(fds[1], "ab", 2), 2);
    ASSERT_EQ(rig_finish(p, &w[0]), 1);
    ASSERT_EQ(rig_finish(p, &w[2]), 1);
    ASSERT_EQ(buf[0], 'a');
    ASSERT_EQ(buf[2], 'b');
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

BOTH(a_sender_behind_another_can_be_cancelled)
{
    int fds[2];
    static char filler[1 << 20];
    struct waiter w[3];
    rig_pair(fds);
    while (send(fds[0], filler, sizeof(filler), MSG_DONTWAIT) > 0) {}
    for (int i = 0; i < 3; i++) {
        START(&w[i], SEND, fds[0], .buf = filler, .len = 1);
    }
    rig_look(p);
    ASSERT_EQ(cancel(p, &w[2]), -ECANCELED);
    ASSERT_EQ(cancel(p, &w[0]), -ECANCELED);
    ASSERT_EQ(cancel(p, &w[1]), -ECANCELED);
    rig_close(p, fds[0]);
    close(fds[1]);
}

/* FORGET while reader, writer and watcher wait, in both states of submission. */
static void forget_all(struct fibril__poller *p, bool look)
{
    int fds[2];
    static char filler[1 << 20];
    char c;
    struct waiter r[2], s[2], w, f;
    rig_tcp(fds);
    while (send(fds[0], filler, sizeof(filler), MSG_DONTWAIT) > 0) {}
    for (int i = 0; i < 2; i++) {
        START(&r[i], RECV, fds[0], .buf = &c, .len = 1);
        START(&s[i], SEND, fds[0], .buf = filler, .len = 1);
    }
    START(&w, POLL, fds[0], .events = POLLIN);
    if (look) {
        rig_look(p);
    }
    START(&f, FORGET, fds[0], .buf = NULL);
    ASSERT_EQ(f.at_once, 0);
    ASSERT_EQ(rig_finish(p, &f), 0);
    struct waiter *all[] = {&r[0], &r[1], &s[0], &s[1], &w};
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(all[i]->calls, 1);
        ASSERT_EQ(all[i]->op.result, -EBADF);
        ASSERT_LT(all[i]->order, f.order);
    }
    close(fds[0]);
    close(fds[1]);
}

BOTH(forget_ends_all_that_wait)
{
    forget_all(p, true);
    forget_all(p, false);
}

BOTH(a_number_that_is_used_again_has_no_past)
{
    int fds[2], again[2];
    char buf[8];
    struct waiter w;
    for (int i = 0; i < 20; i++) {
        rig_tcp(fds);
        int filler = dup(0); /* takes the lowest free number, so that only the closed one is free
                                later */
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        rig_look(p);
        ASSERT_EQ(write(fds[1], "old", 3), 3); /* an event of the old life is on its way */
        int copy = i & 1 ? dup(fds[0]) : -1;   /* and a duplicate keeps the old file alive */
        rig_close(p, fds[0]);
        ASSERT_EQ(w.op.result == -EBADF || w.op.result == 3, 1);
        rig_pair(again);
        ASSERT_EQ(again[0], fds[0]);
        START(&w, RECV, again[0], .buf = buf, .len = sizeof(buf));
        rig_look(p);
        ASSERT_EQ(rig_over(&w), 0);
        ASSERT_EQ(write(again[1], "new", 3), 3);
        ASSERT_EQ(rig_finish(p, &w), 3);
        ASSERT_MEM(buf, "new", 3);
        rig_close(p, again[0]);
        close(again[1]);
        close(fds[1]);
        close(filler);
        if (copy >= 0) {
            close(copy);
        }
    }
}

BOTH(a_forgotten_descriptor_can_be_used_again_unclosed)
{
    int fds[2];
    char buf[8];
    struct waiter w, f;
    rig_tcp(fds);
    for (int i = 0; i < 3; i++) {
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        rig_look(p);
        START(&f, FORGET, fds[0], .buf = NULL);
        ASSERT_EQ(rig_finish(p, &f), 0);
        ASSERT_EQ(w.op.result, -EBADF);
        if (i == 1) {
            ASSERT_EQ(write(fds[1], "x", 1), 1); /* an edge that nobody waits for */
            rig_look(p);
            ASSERT_EQ(read(fds[0], buf, 1), 1);
        }
    }
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    rig_look(p);
    ASSERT_EQ(write(fds[1], "new", 3), 3);
    ASSERT_EQ(rig_finish(p, &w), 3);
    rig_close(p, fds[0]);
    close(fds[1]);
}

/* ---- wake-ups and deadlines ---------------------------------------------- */

BOTH(a_past_deadline_does_not_wait)
{
    ASSERT_EQ(p->ops->wait(p, 0), 0);
    ASSERT_EQ(p->ops->wait(p, p->ops->now(p) - 1), 0);
}

BOTH(a_deadline_ends_the_wait_not_before_its_time)
{
    for (int i = 0; i < 5; i++) {
        int64_t deadline = p->ops->now(p) + 700000 + i * 300000;
        ASSERT_EQ(p->ops->wait(p, deadline), 0);
        ASSERT_GE(p->ops->now(p), deadline);
    }
}

BOTH(wake_before_the_wait_ends_it_at_once)
{
    for (int i = 0; i < 5; i++) {
        p->ops->wake(p);
        p->ops->wake(p);
        ASSERT_EQ(p->ops->wait(p, INT64_MAX), 0);
    }
}

static void *wake_later(void *arg)
{
    struct fibril__poller *p = arg;
    p->ops->wake(p);
    return NULL;
}

BOTH(another_os_thread_wakes_a_wait_for_ever)
{
    int rounds = test_is_slow() ? 50 : 500;
    for (int i = 0; i < rounds; i++) {
        pthread_t t;
        ASSERT_EQ(pthread_create(&t, NULL, wake_later, p), 0);
        ASSERT_EQ(p->ops->wait(p, INT64_MAX), 0);
        pthread_join(t, NULL);
    }
}

static struct fibril__poller *signalled;

static void on_alarm(int signo)
{
    (void)signo;
    signalled->ops->wake(signalled);
}

BOTH(a_signal_handler_wakes_a_wait_for_ever)
{
    signalled = p;
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    for (int i = 0; i < 3; i++) {
        ualarm(2000, 0);
        ASSERT_EQ(p->ops->wait(p, INT64_MAX), 0);
    }
}

/* ---- done may do things -------------------------------------------------- */

struct relay {
    struct waiter w;
    struct fibril__poller *p;
    struct fibril__op *next; /* started by the one before */
    struct waiter *victim;   /* forgotten or cancelled by the one before */
};

static void start_next(struct fibril__op *op)
{
    struct relay *r = CONTAINER_OF(op, struct relay, w.op);
    rig_done(op);
    if (r->next) {
        r->p->ops->start(r->p, r->next);
    }
    if (r->victim && r->p->ops->cancel(r->p, &r->victim->op)) {
        r->victim->at_once = 1;
    }
}

BOTH(done_may_start_and_cancel)
{
    int fds[2];
    char buf[4];
    ASSERT_OK(pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    struct waiter second = OP(READ, fds[0], .buf = &buf[1], .len = 1, .done = rig_done);
    struct waiter victim;
    struct relay r = {.w = OP(READ, fds[0], .buf = &buf[0], .len = 1, .done = start_next),
                      .p = p,
                      .next = &second.op,
                      .victim = &victim};
    ASSERT_EQ(p->ops->start(p, &r.w.op), 0);
    START(&victim, READ, fds[0], .buf = &buf[2], .len = 1);
    rig_look(p);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &r.w), 1);
    ASSERT_EQ(rig_finish(p, &victim), -ECANCELED);
    ASSERT_EQ(write(fds[1], "y", 1), 1);
    ASSERT_EQ(rig_finish(p, &second), 1);
    ASSERT_EQ(buf[1], 'y');
    rig_close(p, fds[0]);
    rig_close(p, fds[1]);
}

/* ---- many ---------------------------------------------------------------- */

BOTH(ten_thousand_pairs_are_all_heard)
{
    int pairs = test_is_slow() ? 500 : 10000;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)pairs * 2 + 100) { /* as many as this machine allows */
        pairs = (int)(limit.rlim_cur - 100) / 2;
    }
    int(*fds)[2] = calloc((size_t)pairs, sizeof(*fds));
    struct waiter *w = calloc((size_t)pairs, sizeof(*w));
    char *bytes = calloc((size_t)pairs, 1);
    for (int i = 0; i < pairs; i++) {
        rig_pair(fds[i]);
    }
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < pairs; i++) {
            START(&w[i], RECV, fds[i][0], .buf = &bytes[i], .len = 1);
        }
        rig_look(p);
        ASSERT_EQ(p->pending, pairs);
        for (int i = pairs - 1; i >= 0; i--) {
            char c = (char)(i + round);
            ASSERT_EQ(write(fds[i][1], &c, 1), 1);
        }
        for (int i = 0; i < pairs; i++) {
            ASSERT_EQ(rig_finish(p, &w[i]), 1);
            ASSERT_EQ(bytes[i], (char)(i + round));
        }
    }
    for (int i = 0; i < pairs; i++) {
        rig_close(p, fds[i][0]);
        close(fds[i][1]);
    }
    free(fds);
    free(w);
    free(bytes);
}
