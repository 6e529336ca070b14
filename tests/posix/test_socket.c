/* SPDX-License-Identifier: MIT */
/*
 * recv, send and their kin, accept, connect, shutdown and socket timeouts.
 */
#include "io_rig.h"

#include <netinet/in.h>
#include <signal.h>
#include <string.h>

enum { BIG = 1 << 20 };

static char space[BIG], far_end[BIG];

static void open_pair(int type, int fds[2])
{
    ASSERT_OK(fibril_posix_socketpair(AF_UNIX, type, 0, fds));
}

static void close_pair(const int fds[2])
{
    ASSERT_OK(fibril_posix_close(fds[0]));
    ASSERT_OK(fibril_posix_close(fds[1]));
}

static void recv_it(struct rig_call *c)
{
    c->rc = fibril_posix_recv(c->fd, c->buf, c->len, c->flags);
}

static void recvfrom_it(struct rig_call *c)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    c->rc = fibril_posix_recvfrom(c->fd, c->buf, c->len, c->flags, (struct sockaddr *)&from, &len);
}

static void recvmsg_it(struct rig_call *c)
{
    struct iovec iov[2] = {{c->buf, 1}, {c->buf + 1, c->len - 1}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    c->rc = fibril_posix_recvmsg(c->fd, &m, c->flags);
}

static void recvmmsg_it(struct rig_call *c)
{
    struct iovec iov[2] = {{c->buf, 8}, {c->buf + 8, 8}};
    struct mmsghdr v[2] = {{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}}};
    c->rc = fibril_posix_recvmmsg(c->fd, v, 2, c->flags | MSG_WAITFORONE, NULL);
    c->rc = c->rc > 0 ? (long)v[0].msg_len : c->rc;
}

static void (*const receivers[])(struct rig_call *c) = {recv_it, recvfrom_it, recvmsg_it,
                                                        recvmmsg_it};
enum { RECEIVERS = 4 };

static struct rig_call receiver(int which, int fd, int flags)
{
    return (struct rig_call){
        .call = receivers[which], .fd = fd, .buf = space, .len = 64, .flags = flags};
}

/* Makes the call in a fibril of its own, where it must not park. */
static long at_once(struct rig_call *c)
{
    rig_start(c);
    ASSERT(c->over);
    return rig_end(c);
}

POSIX_TEST(every_receive_takes_what_is_there)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    for (int i = 0; i < RECEIVERS; i++) {
        ASSERT_KEEPS_ERRNO(fibril_posix_send(fds[1], "ready", 5, 0), 5);
        c = receiver(i, fds[0], 0);
        ASSERT_EQ(at_once(&c), 5);
        ASSERT_MEM(space, "ready", 5);
    }
    close_pair(fds);
    return 0;
}

POSIX_TEST(every_receive_parks_until_something_comes)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    for (int i = 0; i < 3 * RECEIVERS; i++) {
        c = receiver(i % RECEIVERS, fds[0], 0);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(fibril_posix_send(fds[1], "later", 5, 0), 5);
        ASSERT_EQ(rig_end(&c), 5);
        ASSERT_MEM(space, "later", 5);
    }
    close_pair(fds);
    return 0;
}

POSIX_TEST(no_receive_parks_that_must_not)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    for (int i = 0; i < RECEIVERS; i++) {
        c = receiver(i, fds[0], MSG_DONTWAIT);
        ASSERT_EQ(at_once(&c), -1);
        ASSERT_EQ(c.error, EAGAIN);
        rig_nonblocking(fds[0], true);
        c = receiver(i, fds[0], 0);
        ASSERT_EQ(at_once(&c), -1);
        ASSERT_EQ(c.error, EAGAIN);
        rig_nonblocking(fds[0], false);
        c = receiver(i, fds[0], MSG_ERRQUEUE);
        ASSERT_EQ(at_once(&c), -1);
    }
    close_pair(fds);
    return 0;
}

POSIX_TEST(a_timeout_of_the_socket_ends_every_receive)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    rig_timeout(fds[0], SO_RCVTIMEO, 20);
    for (int i = 0; i < RECEIVERS; i++) {
        c = receiver(i, fds[0], 0);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(rig_end(&c), -1);
        ASSERT_EQ(c.error, EAGAIN);
    }
    c = (struct rig_call){.call = recv_it, .fd = fds[0], .buf = space, .len = 8};
    ASSERT_EQ(fibril_posix_send(fds[1], "x", 1, 0), 1);
    rig_start(&c);
    ASSERT_EQ(rig_end(&c), 1);
    close_pair(fds);
    return 0;
}

POSIX_TEST(cancel_interrupt_and_close_end_every_receive)
{
    static struct rig_call c;
    for (int i = 0; i < RECEIVERS; i++) {
        int fds[2];
        open_pair(SOCK_STREAM, fds);
        c = receiver(i, fds[0], 0);
        rig_cancel_ends_it(&c);
        rig_timeout(fds[0], SO_RCVTIMEO, 100000); /* with a timeout none is begun again */
        c = receiver(i, fds[0], 0);
        rig_interrupt_ends_it(&c);
        rig_close_ends_it(&c);
        ASSERT_OK(fibril_posix_close(fds[1]));
    }
    return 0;
}

POSIX_TEST(shutdown_wakes_every_receive)
{
    static struct rig_call c;
    for (int i = 0; i < RECEIVERS; i++) {
        int fds[2];
        open_pair(SOCK_STREAM, fds);
        c = receiver(i, fds[0], 0);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_OK(fibril_posix_shutdown(fds[0], SHUT_RD));
        ASSERT_EQ(rig_end(&c), 0);
        close_pair(fds);
    }
    return 0;
}

POSIX_TEST(waitall_gathers_the_pieces_of_a_stream)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    for (int i = 0; i < 3; i++) {
        c = receiver(i, fds[0], MSG_WAITALL);
        c.len = 10;
        rig_start(&c);
        for (int piece = 0; piece < 5; piece++) {
            ASSERT(!c.over);
            ASSERT_EQ(fibril_posix_send(fds[1], &"0123456789"[2 * piece], 2, 0), 2);
            io_settle();
        }
        ASSERT_EQ(rig_end(&c), 10);
        ASSERT_MEM(space, "0123456789", 10);
    }
    c = receiver(0, fds[0], MSG_WAITALL);
    rig_start(&c);
    ASSERT_EQ(fibril_posix_send(fds[1], "end", 3, 0), 3);
    ASSERT_OK(fibril_posix_shutdown(fds[1], SHUT_WR));
    ASSERT_EQ(rig_end(&c), 3);
    close_pair(fds);
    return 0;
}

POSIX_TEST(waitall_leaves_datagrams_and_nonblocking_sockets_alone)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_DGRAM, fds);
    ASSERT_EQ(fibril_posix_send(fds[1], "one", 3, 0), 3);
    c = receiver(0, fds[0], MSG_WAITALL);
    ASSERT_EQ(at_once(&c), 3);
    close_pair(fds);
    open_pair(SOCK_STREAM, fds);
    ASSERT_EQ(fibril_posix_send(fds[1], "two", 3, 0), 3);
    c = receiver(0, fds[0], MSG_WAITALL | MSG_DONTWAIT);
    ASSERT_EQ(at_once(&c), 3);
    close_pair(fds);
    return 0;
}

POSIX_TEST(peek_leaves_the_bytes_there)
{
    static struct rig_call c;
    int fds[2];
    open_pair(SOCK_STREAM, fds);
    c = receiver(0, fds[0], MSG_PEEK);
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_send(fds[1], "peek", 4, 0), 4);
    ASSERT_EQ(rig_end(&c), 4);
    c = receiver(0, fds[0], MSG_PEEK | MSG_WAITALL);
    c.len = 6;
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_send(fds[1], "ed", 2, 0), 2);
    ASSERT_EQ(rig_end(&c), 6);
    ASSERT_EQ(fibril_posix_recv(fds[0], space, 64, 0), 6);
    ASSERT_MEM(space, "peeked", 6);
    close_pair(fds);
    return 0;
}

POSIX_TEST(several_messages_come_in_one_call)
{
    int fds[2];
    open_pair(SOCK_DGRAM, fds);
    struct iovec iov[3] = {{space, 8}, {space + 8, 8}, {space + 16, 8}};
    struct mmsghdr v[3];
    memset(v, 0, sizeof(v));
    for (int i = 0; i < 3; i++) {
        v[i].msg_hdr.msg_iov = &iov[i];
        v[i].msg_hdr.msg_iovlen = 1;
        iov[i].iov_len = (size_t)i + 1;
    }
    ASSERT_KEEPS_ERRNO(fibril_posix_sendmmsg(fds[1], v, 3, 0), 3);
    ASSERT_EQ(v[2].msg_len, 3);
    for (int i = 0; i < 3; i++) {
        iov[i].iov_len = 8;
    }
    ASSERT_KEEPS_ERRNO(fibril_posix_recvmmsg(fds[0], v, 3, 0, NULL), 3);
    ASSERT_EQ(v[1].msg_len, 2);
    ASSERT_EQ(fibril_posix_send(fds[1], "x", 1, 0), 1);
    struct timespec soon = {.tv_nsec = 20000000};
    ASSERT_EQ(fibril_posix_recvmmsg(fds[0], v, 3, 0, &soon), 1);
    ASSERT_ERRNO(fibril_posix_recvmmsg(fds[0], v, 3, 0, &soon), EAGAIN);
    close_pair(fds);
    return 0;
}

/* ---- sending ---- */

static void send_it(struct rig_call *c)
{
    c->rc = fibril_posix_send(c->fd, c->buf, c->len, c->flags);
}

static void sendto_it(struct rig_call *c)
{
    c->rc = fibril_posix_sendto(c->fd, c->buf, c->len, c->flags, NULL, 0);
}

static void sendmsg_it(struct rig_call *c)
{
    static struct iovec iov[32];
    size_t part = c->len / 32;
    for (size_t i = 0; i < 32; i++) {
        iov[i] = (struct iovec){c->buf + i * part, part};
    }
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 32};
    c->rc = fibril_posix_sendmsg(c->fd, &m, c->flags);
}

static void (*const senders[])(struct rig_call *c) = {send_it, sendto_it, sendmsg_it};
enum { SENDERS = 3 };

static struct rig_call sender(int which, int fd)
{
    return (struct rig_call){.call = senders[which], .fd = fd, .buf = space, .len = BIG};
}

POSIX_TEST(a_blocking_send_takes_everything)
{
    static struct rig_call c;
    for (size_t i = 0; i < BIG; i++) {
        space[i] = io_byte(i);
    }
    for (int i = 0; i < SENDERS; i++) {
        int fds[2];
        open_pair(SOCK_STREAM, fds);
        c = sender(i, fds[1]);
        rig_start(&c);
        ASSERT(!c.over);
        memset(far_end, 0, BIG);
        ASSERT_EQ(fibril_posix_recv(fds[0], far_end, BIG, MSG_WAITALL), BIG);
        ASSERT_MEM(far_end, space, BIG);
        ASSERT_EQ(rig_end(&c), BIG);
        close_pair(fds);
    }
    return 0;
}

static void fill(int fd)
{
    while (send(fd, space, BIG, MSG_DONTWAIT) > 0) {}
    ASSERT_EQ(errno, EAGAIN);
}

POSIX_TEST(every_send_ends_early_as_it_should)
{
    static struct rig_call c;
    for (int i = 0; i < SENDERS; i++) {
        int fds[2];
        open_pair(SOCK_STREAM, fds);
        fill(fds[1]);
        c = sender(i, fds[1]);
        rig_cancel_ends_it(&c);
        c = sender(i, fds[1]);
        c.flags = MSG_DONTWAIT;
        ASSERT_EQ(at_once(&c), -1);
        ASSERT_EQ(c.error, EAGAIN);
        rig_timeout(fds[1], SO_SNDTIMEO, 20);
        c = sender(i, fds[1]);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(rig_end(&c), -1);
        ASSERT_EQ(c.error, EAGAIN);
        rig_timeout(fds[1], SO_SNDTIMEO, 100000);
        rig_interrupt_ends_it(&c);
        rig_close_ends_it(&c);
        ASSERT_OK(fibril_posix_close(fds[0]));
    }
    return 0;
}

static volatile sig_atomic_t pipes_broken;

static void on_sigpipe(int signo)
{
    (void)signo;
    pipes_broken++;
}

POSIX_TEST(only_a_send_that_asks_for_it_is_spared_sigpipe)
{
    int fds[2];
    signal(SIGPIPE, on_sigpipe);
    pipes_broken = 0;
    open_pair(SOCK_STREAM, fds);
    ASSERT_OK(fibril_posix_close(fds[0]));
    ASSERT_ERRNO(fibril_posix_send(fds[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    ASSERT_EQ(pipes_broken, 0);
    ASSERT_ERRNO(fibril_posix_send(fds[1], "x", 1, 0), EPIPE);
    ASSERT_EQ(pipes_broken, 1);
    ASSERT_OK(fibril_posix_close(fds[1]));
    signal(SIGPIPE, SIG_DFL);
    return 0;
}

POSIX_TEST(a_send_that_waits_is_told_when_the_peer_goes)
{
    static struct rig_call c;
    int fds[2];
    signal(SIGPIPE, on_sigpipe);
    pipes_broken = 0;
    open_pair(SOCK_STREAM, fds);
    fill(fds[1]);
    c = sender(0, fds[1]);
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_OK(fibril_posix_close(fds[0]));
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT(c.error == EPIPE || c.error == ECONNRESET);
    ASSERT_EQ(pipes_broken, c.error == EPIPE);
    ASSERT_OK(fibril_posix_close(fds[1]));
    signal(SIGPIPE, SIG_DFL);
    return 0;
}

/* ---- connections ---- */

/* A blocking listener on a port of the kernel's choice. */
static int listen_on(struct sockaddr_in *ret_addr)
{
    *ret_addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_OK(bind(fd, (struct sockaddr *)ret_addr, sizeof(*ret_addr)));
    ASSERT_OK(listen(fd, 16));
    ASSERT_OK(getsockname(fd, (struct sockaddr *)ret_addr, &(socklen_t){sizeof(*ret_addr)}));
    return fd;
}

static struct sockaddr_in address;

static void accept_it(struct rig_call *c)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    c->rc = fibril_posix_accept4(c->fd, (struct sockaddr *)&peer, &len, c->flags);
    ASSERT(c->rc < 0 || peer.sin_family == AF_INET);
}

static void connect_it(struct rig_call *c)
{
    c->rc = fibril_posix_connect(c->fd, (struct sockaddr *)&address, sizeof(address));
}

static int connect_one(void)
{
    int fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_KEEPS_ERRNO(fibril_posix_connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ASSERT(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    return fd;
}

static void check_accepted(int fd, bool nonblocking, bool cloexec)
{
    ASSERT_OK(fd);
    ASSERT_EQ(!!(fcntl(fd, F_GETFL) & O_NONBLOCK), nonblocking);
    ASSERT_EQ(!!(fcntl(fd, F_GETFD) & FD_CLOEXEC), cloexec);
    ASSERT_OK(fibril_posix_close(fd));
}

POSIX_TEST(accept_waits_and_returns_what_its_flags_say)
{
    static struct rig_call c;
    int listener = listen_on(&address);
    for (int i = 0; i < 4; i++) {
        int flags = (i & 1 ? SOCK_NONBLOCK : 0) | (i & 2 ? SOCK_CLOEXEC : 0);
        c = (struct rig_call){.call = accept_it, .fd = listener, .flags = flags};
        rig_start(&c);
        ASSERT(!c.over);
        int fd = connect_one();
        check_accepted((int)rig_end(&c), i & 1, i & 2);
        ASSERT_OK(fibril_posix_close(fd));
    }
    int fd = connect_one();
    check_accepted(fibril_posix_accept(listener, NULL, NULL), false, false);
    ASSERT_OK(fibril_posix_close(fd));
    ASSERT_OK(fibril_posix_close(listener));
    return 0;
}

POSIX_TEST(accept_ends_early_as_it_should)
{
    static struct rig_call c;
    int listener = listen_on(&address);
    c = (struct rig_call){.call = accept_it, .fd = listener};
    rig_cancel_ends_it(&c);
    rig_nonblocking(listener, true);
    ASSERT_EQ(at_once(&c), -1);
    ASSERT_EQ(c.error, EAGAIN);
    rig_nonblocking(listener, false);
    rig_timeout(listener, SO_RCVTIMEO, 20);
    rig_start(&c);
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT_EQ(c.error, EAGAIN);
    rig_timeout(listener, SO_RCVTIMEO, 100000);
    rig_interrupt_ends_it(&c);
    rig_close_ends_it(&c);
    listener = listen_on(&address);
    c.fd = listener;
    rig_start(&c);
    ASSERT_OK(fibril_posix_shutdown(listener, SHUT_RDWR));
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT_EQ(c.error, EINVAL);
    ASSERT_OK(fibril_posix_close(listener));
    return 0;
}

POSIX_TEST(accept_of_what_does_not_listen_fails_at_once)
{
    static struct rig_call c;
    int fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0), fds[2];
    c = (struct rig_call){.call = accept_it, .fd = fd};
    ASSERT_EQ(at_once(&c), -1);
    ASSERT_EQ(c.error, EINVAL);
    open_pair(SOCK_STREAM, fds);
    c.fd = fds[0];
    ASSERT_EQ(at_once(&c), -1);
    ASSERT_EQ(c.error, EINVAL);
    ASSERT_ERRNO(fibril_posix_accept(-1, NULL, NULL), EBADF);
    ASSERT_OK(fibril_posix_close(fd));
    close_pair(fds);
    return 0;
}

POSIX_TEST(many_accept_from_one_listener)
{
    static struct rig_call calls[10];
    int listener = listen_on(&address), fds[10];
    for (int i = 0; i < 10; i++) {
        calls[i] = (struct rig_call){.call = accept_it, .fd = listener};
        rig_start(&calls[i]);
    }
    for (int i = 0; i < 10; i++) {
        fds[i] = connect_one();
    }
    for (int i = 0; i < 10; i++) {
        check_accepted((int)rig_end(&calls[i]), false, false);
        ASSERT_OK(fibril_posix_close(fds[i]));
    }
    ASSERT_OK(fibril_posix_close(listener));
    return 0;
}

POSIX_TEST(a_refused_connection_says_so)
{
    ASSERT_OK(fibril_posix_close(listen_on(&address)));
    int fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_ERRNO(fibril_posix_connect(fd, (struct sockaddr *)&address, sizeof(address)),
                 ECONNREFUSED);
    ASSERT_OK(fibril_posix_close(fd));
    ASSERT_ERRNO(fibril_posix_connect(-1, (struct sockaddr *)&address, sizeof(address)), EBADF);
    return 0;
}

POSIX_TEST(a_nonblocking_connect_is_left_in_progress)
{
    int listener = listen_on(&address);
    int fd = fibril_posix_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ASSERT_ERRNO(fibril_posix_connect(fd, (struct sockaddr *)&address, sizeof(address)),
                 EINPROGRESS);
    check_accepted(fibril_posix_accept(listener, NULL, NULL), false, false);
    ASSERT_OK(fibril_posix_close(fd));
    ASSERT_OK(fibril_posix_close(listener));
    return 0;
}

/* A listener that takes no more: further connections hang. */
static int full_listener(int fds[8])
{
    int listener = listen_on(&address);
    ASSERT_OK(listen(listener, 0));
    for (int i = 0; i < 8; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fds[i], (struct sockaddr *)&address, sizeof(address));
    }
    io_settle();
    return listener;
}

POSIX_TEST(a_connect_that_hangs_ends_early_as_it_should)
{
    static struct rig_call c;
    int fds[8], listener = full_listener(fds);
    c = (struct rig_call){.call = connect_it, .fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0)};
    rig_timeout(c.fd, SO_SNDTIMEO, 20);
    rig_start(&c);
    if (c.over) {
        SKIP("this kernel lets connections to a full listener through");
    }
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT_EQ(c.error, EINPROGRESS);
    ASSERT_OK(fibril_posix_close(c.fd));
    c.fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0);
    rig_cancel_ends_it(&c);
    ASSERT_OK(fibril_posix_close(c.fd));
    c.fd = fibril_posix_socket(AF_INET, SOCK_STREAM, 0);
    rig_close_ends_it(&c);
    for (int i = 0; i < 8; i++) {
        close(fds[i]);
    }
    ASSERT_OK(fibril_posix_close(listener));
    return 0;
}

POSIX_TEST(datagrams_tell_where_they_come_from)
{
    struct sockaddr_in a, b, from;
    int one = listen_on(&address), fds[2];
    ASSERT_OK(fibril_posix_close(one));
    struct sockaddr_in *addresses[] = {&a, &b};
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in *at = addresses[i];
        *at =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fds[i] = fibril_posix_socket(AF_INET, SOCK_DGRAM, 0);
        ASSERT_OK(bind(fds[i], (struct sockaddr *)at, sizeof(*at)));
        ASSERT_OK(getsockname(fds[i], (struct sockaddr *)at, &(socklen_t){sizeof(*at)}));
    }
    ASSERT_EQ(fibril_posix_sendto(fds[0], "udp", 3, 0, (struct sockaddr *)&b, sizeof(b)), 3);
    socklen_t len = sizeof(from);
    ASSERT_EQ(fibril_posix_recvfrom(fds[1], space, 64, MSG_TRUNC, (struct sockaddr *)&from, &len),
              3);
    ASSERT_EQ(from.sin_port, a.sin_port);
    close_pair(fds);
    return 0;
}
