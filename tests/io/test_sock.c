/* SPDX-License-Identifier: MIT */
/*
 * TCP, UNIX and UDP sockets: listening, accepting, connecting, resets, datagrams, and a thousand
 * connections at once.
 */
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void check_flags(int fd)
{
    ASSERT(fcntl(fd, F_GETFL) & O_NONBLOCK);
    ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static int nodelay_of(int fd)
{
    int on = -1;
    ASSERT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof(on)}), 0);
    return on;
}

EACH_STACK(both_ends_of_a_connection_know_each_other)
{
    struct fibril_addr addr, local, peer, far;
    int listener = io_listener(&addr);
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    int other = fibril_accept(listener, &peer, FIBRIL_FOREVER);
    ASSERT_OK(other);
    check_flags(listener);
    check_flags(fd);
    check_flags(other);
    ASSERT_NE(nodelay_of(fd), 0);
    ASSERT_NE(nodelay_of(other), 0);
    ASSERT_OK(fibril_addr_local(fd, &local));
    ASSERT_OK(fibril_addr_peer(fd, &far));
    ASSERT_EQ(peer.len, local.len);
    ASSERT_MEM(&peer.ss, &local.ss, local.len);
    ASSERT_MEM(&far.ss, &addr.ss, addr.len);
    fibril_close(fd);
    fibril_close(other);
    fibril_close(listener);
    return 0;
}

EACH_STACK(what_a_foreign_listener_accepts_has_no_delay_either)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0); /* and it is a blocking one */
    struct fibril_addr addr;
    ASSERT_EQ(listen(listener, 5), 0);
    ASSERT_OK(fibril_addr_local(listener, &addr));
    ((struct sockaddr_in *)&addr.ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_ERR(fibril_accept(listener, NULL, io_in(2)), -ETIMEDOUT);
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    int other = fibril_accept(listener, NULL, FIBRIL_FOREVER);
    ASSERT_OK(other);
    check_flags(other);
    ASSERT_NE(nodelay_of(other), 0);
    fibril_close(fd);
    fibril_close(other);
    fibril_close(listener);
    return 0;
}

static int accept_one(void *arg)
{
    return fibril_accept(*(int *)arg, NULL, FIBRIL_FOREVER);
}

EACH_STACK(an_accept_waits_times_out_and_is_cancelled)
{
    static int listener;
    struct fibril_addr addr;
    listener = io_listener(&addr);
    ASSERT_ERR(fibril_accept(listener, NULL, 0), -ETIMEDOUT);
    ASSERT_ERR(fibril_accept(listener, NULL, io_in(5)), -ETIMEDOUT);
    struct fibril *f = io_start(accept_one, &listener);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(io_end(f), -ECANCELED);
    f = io_start(accept_one, &listener);
    io_settle();
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    int other = io_end(f);
    ASSERT_OK(other);
    fibril_close(fd);
    fibril_close(other);
    fibril_close(listener);
    return 0;
}

EACH_STACK(a_refused_connection_says_so_and_leaks_nothing)
{
    struct fibril_addr addr;
    fibril_close(io_listener(&addr));
    int before = io_count_fds();
    for (int i = 0; i < 5; i++) {
        ASSERT_ERR(fibril_connect(&addr, FIBRIL_FOREVER), -ECONNREFUSED);
    }
    ASSERT_EQ(io_count_fds(), before);
    return 0;
}

EACH_STACK(a_reset_by_the_peer_reaches_reader_and_writer)
{
    int q[2];
    char bytes[16];
    struct linger hard = {1, 0};
    io_tcp_pair(q);
    ASSERT_EQ(setsockopt(q[1], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    fibril_close(q[1]);
    ASSERT_ERR(fibril_read(q[0], bytes, sizeof(bytes), FIBRIL_FOREVER), -ECONNRESET);
    ASSERT_ERR(fibril_write(q[0], "x", 1, FIBRIL_FOREVER), -EPIPE);
    fibril_close(q[0]);
    return 0;
}

static int read_one(void *arg)
{
    char byte;
    return (int)fibril_read(*(int *)arg, &byte, 1, FIBRIL_FOREVER);
}

EACH_STACK(a_reset_wakes_who_waits_already)
{
    static int q[2];
    struct linger hard = {1, 0};
    io_tcp_pair(q);
    struct fibril *f = io_start(read_one, q);
    io_settle();
    setsockopt(q[1], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    fibril_close(q[1]);
    ASSERT_ERR(io_end(f), -ECONNRESET);
    fibril_close(q[0]);
    return 0;
}

EACH_STACK(a_shutdown_ends_the_stream_one_way)
{
    int q[2];
    char byte;
    io_tcp_pair(q);
    ASSERT_OK(fibril_shutdown(q[0], SHUT_WR));
    ASSERT_EQ(fibril_read(q[1], &byte, 1, FIBRIL_FOREVER), 0);
    ASSERT_ERR(fibril_write(q[0], "x", 1, FIBRIL_FOREVER), -EPIPE);
    ASSERT_EQ(fibril_write(q[1], "y", 1, FIBRIL_FOREVER), 1);
    ASSERT_EQ(fibril_read(q[0], &byte, 1, FIBRIL_FOREVER), 1);
    ASSERT_ERR(fibril_shutdown(9999, SHUT_RD), -EBADF);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(without_descriptors_accept_says_so_and_goes_on_later)
{
    struct fibril_addr addr;
    struct rlimit now, low;
    if (test_is_valgrind()) {
        SKIP("valgrind enforces no limit of descriptors");
    }
    int listener = io_listener(&addr);
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
    low = now;
    int next = dup(0); /* the next number to be given out */
    close(next);
    low.rlim_cur = (rlim_t)next;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    ASSERT_ERR(fibril_accept(listener, NULL, FIBRIL_FOREVER), -EMFILE);
    ASSERT_ERR(fibril_connect(&addr, FIBRIL_FOREVER), -EMFILE);
    int p[2];
    ASSERT_ERR(fibril_pipe(p), -EMFILE);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
    int other = fibril_accept(listener, NULL, FIBRIL_FOREVER);
    ASSERT_OK(other);
    fibril_close(fd);
    fibril_close(other);
    fibril_close(listener);
    return 0;
}

EACH_STACK(receive_flags_mean_what_they_mean)
{
    int q[2];
    char bytes[8];
    io_tcp_pair(q);
    ASSERT_ERR(fibril_recv(q[0], bytes, 8, MSG_DONTWAIT, FIBRIL_FOREVER), -EAGAIN);
    ASSERT_EQ(fibril_send(q[1], "abcd", 4, 0, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_recv(q[0], bytes, 8, MSG_PEEK, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_recv(q[0], bytes, 2, MSG_DONTWAIT, FIBRIL_FOREVER), 2);
    ASSERT_EQ(fibril_recv(q[0], bytes, 8, MSG_WAITALL, io_in(10)), 2);
    ASSERT_EQ(fibril_send(q[1], "abcd", 4, MSG_MORE, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_send(q[1], "efgh", 4, 0, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_recv(q[0], bytes, 8, MSG_WAITALL, FIBRIL_FOREVER), 8);
    ASSERT_MEM(bytes, "abcdefgh", 8);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(a_message_carries_a_descriptor)
{
    int q[2], p[2], got = -1;
    char byte = 'd';
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.room = {0}};
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    io_unix_pair(false, q);
    ASSERT_OK(fibril_pipe(p));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p[1], sizeof(int));
    ASSERT_EQ(fibril_sendmsg(q[0], &msg, 0, FIBRIL_FOREVER), 1);
    memset(control.room, 0, sizeof(control.room));
    ASSERT_EQ(fibril_recvmsg(q[1], &msg, 0, FIBRIL_FOREVER), 1);
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    ASSERT_EQ(fibril_write(got, "through", 7, FIBRIL_FOREVER), 7);
    char bytes[8];
    ASSERT_EQ(fibril_read(p[0], bytes, 8, FIBRIL_FOREVER), 7);
    int all[] = {q[0], q[1], p[0], p[1], got};
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_close(all[i]));
    }
    return 0;
}

/* ---- UNIX sockets ---------------------------------------------------------------------------- */

static void unix_addr(const char *name, struct fibril_addr *ret_addr)
{
    char text[128];
    snprintf(text, sizeof(text), "unix:/tmp/fibril-%d-%s.sock", (int)getpid(), name);
    ASSERT_OK(fibril_addr_parse(text, ret_addr));
    unlink(text + 5);
}

static void remove_addr(const struct fibril_addr *addr)
{
    char text[128];
    ASSERT_OK(fibril_addr_format(addr, text, sizeof(text)));
    ASSERT_EQ(unlink(text + 5), 0);
}

EACH_STACK(a_stale_socket_file_is_replaced_a_live_one_is_not)
{
    struct fibril_addr addr;
    unix_addr("stale", &addr);
    int first = fibril_listen(&addr, 5, 0);
    ASSERT_OK(first);
    ASSERT_ERR(fibril_listen(&addr, 5, 0), -EADDRINUSE);
    int fd = fibril_connect(&addr, FIBRIL_FOREVER); /* the refused one did no harm */
    ASSERT_OK(fd);
    fibril_close(fd);
    fibril_close(first); /* the file stays, as after a crash */
    int second = fibril_listen(&addr, 5, 0);
    ASSERT_OK(second);
    fd = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    int other = fibril_accept(second, NULL, FIBRIL_FOREVER);
    ASSERT_OK(other);
    fibril_close(fd);
    fibril_close(other);
    fibril_close(second);
    remove_addr(&addr);
    return 0;
}

EACH_STACK(a_file_that_is_no_socket_is_never_replaced)
{
    struct fibril_addr addr;
    char text[128];
    unix_addr("file", &addr);
    ASSERT_OK(fibril_addr_format(&addr, text, sizeof(text)));
    int file = open(text + 5, O_CREAT | O_WRONLY, 0600);
    ASSERT_GE(file, 0);
    close(file);
    ASSERT_ERR(fibril_listen(&addr, 5, 0), -EADDRINUSE);
    remove_addr(&addr);
    ASSERT_ERR(fibril_connect(&addr, FIBRIL_FOREVER), -ENOENT);
    return 0;
}

struct late {
    struct fibril_addr addr;
    int fd;
};

static int connect_late(void *arg)
{
    struct late *l = arg;
    l->fd = fibril_connect(&l->addr, FIBRIL_FOREVER);
    return 0;
}

EACH_STACK(a_full_backlog_of_a_unix_socket_is_waited_out)
{
    struct late *l = calloc(1, sizeof(*l));
    char text[64];
    snprintf(text, sizeof(text), "unix:@fibril-%d-full", (int)getpid());
    ASSERT_OK(fibril_addr_parse(text, &l->addr));
    int listener = fibril_listen(&l->addr, 1, 0), fds[8], n = 0, fd;
    ASSERT_OK(listener);
    while ((fd = fibril_connect(&l->addr, io_in(20))) >= 0) {
        ASSERT_LT(n, 8);
        fds[n++] = fd;
    }
    ASSERT_ERR(fd, -ETIMEDOUT);
    struct fibril *f = io_start(connect_late, l);
    ASSERT_OK(fibril_sleep(5000000));
    for (int i = 0; i <= n; i++) {
        int other = fibril_accept(listener, NULL, FIBRIL_FOREVER);
        ASSERT_OK(other);
        fibril_close(other);
    }
    io_end(f);
    ASSERT_OK(l->fd);
    for (int i = 0; i < n; i++) {
        fibril_close(fds[i]);
    }
    fibril_close(l->fd);
    fibril_close(listener);
    free(l);
    return 0;
}

/* ---- datagrams ------------------------------------------------------------------------------- */

EACH_STACK(datagrams_keep_their_bounds_and_senders)
{
    struct fibril_addr addr, from, local;
    char bytes[16];
    ASSERT_OK(fibril_addr_parse("127.0.0.1:0", &addr));
    int a = fibril_udp(&addr), b = fibril_udp(&addr);
    ASSERT_OK(a);
    ASSERT_OK(b);
    check_flags(a);
    ASSERT_OK(fibril_addr_local(a, &addr));
    ASSERT_OK(fibril_addr_local(b, &local));
    ASSERT_ERR(fibril_recvfrom(a, bytes, 16, &from, io_in(3)), -ETIMEDOUT);
    ASSERT_EQ(fibril_sendto(b, "one", 3, &addr, FIBRIL_FOREVER), 3);
    ASSERT_EQ(fibril_sendto(b, "", 0, &addr, FIBRIL_FOREVER), 0);
    ASSERT_EQ(fibril_sendto(b, "three", 5, &addr, FIBRIL_FOREVER), 5);
    ASSERT_EQ(fibril_recvfrom(a, bytes, 16, &from, FIBRIL_FOREVER), 3);
    ASSERT_EQ(from.len, local.len);
    ASSERT_MEM(&from.ss, &local.ss, local.len);
    ASSERT_EQ(fibril_recvfrom(a, bytes, 16, NULL, FIBRIL_FOREVER), 0);
    ASSERT_EQ(fibril_recvfrom(a, bytes, 2, &from, FIBRIL_FOREVER), 2);
    ASSERT_OK(fibril_connect_fd(b, &addr, FIBRIL_FOREVER));
    ASSERT_EQ(fibril_send(b, "four", 4, 0, FIBRIL_FOREVER), 4);
    ASSERT_EQ(fibril_recv(a, bytes, 16, 0, FIBRIL_FOREVER), 4);
    int unbound = fibril_udp(NULL);
    ASSERT_OK(unbound);
    ASSERT_ERR(fibril_udp(&local), -EADDRINUSE);
    fibril_close(unbound);
    fibril_close(a);
    fibril_close(b);
    return 0;
}

/* ---- many ------------------------------------------------------------------------------------ */

struct echo {
    int listener, clients, rounds;
    int done, served;
    struct fibril_addr addr;
};

static struct echo *echo;

static int serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char bytes[64];
    ssize_t n;
    while ((n = fibril_read(fd, bytes, sizeof(bytes), FIBRIL_FOREVER)) > 0) {
        ASSERT_EQ(fibril_write_all(fd, bytes, (size_t)n, FIBRIL_FOREVER), n);
    }
    ASSERT_EQ(n, 0);
    ASSERT_OK(fibril_close(fd));
    echo->served++;
    return 0;
}

static int serve(void *arg)
{
    struct echo *e = arg;
    for (int i = 0; i < e->clients; i++) {
        int fd = fibril_accept(e->listener, NULL, FIBRIL_FOREVER);
        ASSERT_OK(fd);
        fibril_detach(io_start(serve_one, (void *)(intptr_t)fd));
    }
    return 0;
}

static int talk(void *arg)
{
    struct echo *e = arg;
    int fd = fibril_connect(&e->addr, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    for (int i = 0; i < e->rounds; i++) {
        char out[32], in[32];
        int n = snprintf(out, sizeof(out), "%d-%d", fd, i);
        ASSERT_EQ(fibril_write_all(fd, out, (size_t)n, FIBRIL_FOREVER), n);
        ASSERT_EQ(fibril_read_all(fd, in, (size_t)n, FIBRIL_FOREVER), n);
        ASSERT_MEM(in, out, (size_t)n);
    }
    ASSERT_OK(fibril_close(fd));
    e->done++;
    return 0;
}

EACH_STACK(a_thousand_connections_echo)
{
    struct rlimit now;
    struct echo *e = echo = calloc(1, sizeof(*e));
    *e = (struct echo){.clients = test_is_slow() ? 100 : 1000, .rounds = 5};
    getrlimit(RLIMIT_NOFILE, &now);
    now.rlim_cur = now.rlim_max < 4096 ? now.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &now);
    e->listener = io_listener(&e->addr);
    int before = io_count_fds();
    struct fibril *server = io_start(serve, e);
    for (int i = 0; i < e->clients; i++) {
        fibril_detach(io_start(talk, e));
    }
    io_end(server);
    while (e->done < e->clients || e->served < e->clients) {
        ASSERT_OK(fibril_sleep(1000000));
    }
    ASSERT_LE(io_count_fds(), before + 4); /* the poller may have grown one */
    fibril_close(e->listener);
    free(e);
    return 0;
}
