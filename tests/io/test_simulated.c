/* SPDX-License-Identifier: MIT */
/*
 * The calls in the simulation: its descriptors never reach the kernel, and a copied stack's buffers
 * go through the heap (bounce.c), since the simulation may end an operation later than it was given
 * up.
 */
#include "io_test.h"

#include "poll/poll_sim.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static int many(void *arg)
{
    fibril_fn *fn = *(fibril_fn **)arg;
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(io_end(io_start(fn, NULL)), 0);
    }
    return 0;
}

/* Runs the body under a few seeds, on either stack. */
#define SIM_TEST(name)                                                                             \
    static int body_##name(void *arg);                                                             \
    TEST(name)                                                                                     \
    {                                                                                              \
        simulate(body_##name);                                                                     \
    }                                                                                              \
    static int body_##name(void *arg)

static void simulate(fibril_fn *fn)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fibril_opts opts = {.poller = "sim", .seed = seed};
        io_policy(seed % 2 ? FIBRIL_STACK_OWN : FIBRIL_STACK_COPIED);
        ASSERT_OK(fibril_run(&opts, many, &fn));
    }
}

struct reading {
    int fd;
    size_t len;
};

static int read_pattern(void *arg)
{
    struct reading *r = arg;
    char bytes[700];
    size_t at = 0;
    for (;;) {
        struct iovec iov[3] = {{bytes, 100}, {bytes + 100, 0}, {bytes + 100, 600}};
        ssize_t n = at % 3 == 0   ? fibril_readv(r->fd, iov, 3, FIBRIL_FOREVER)
                    : at % 3 == 1 ? fibril_read(r->fd, bytes, sizeof(bytes), FIBRIL_FOREVER)
                                  : fibril_read(r->fd, bytes, 1, FIBRIL_FOREVER);
        ASSERT_OK(n);
        if (n == 0) {
            break;
        }
        for (ssize_t i = 0; i < n; i++, at++) {
            ASSERT_EQ(bytes[i], io_byte(at));
        }
    }
    ASSERT_EQ(at, r->len);
    return 0;
}

static void pass_pattern(int from, int to)
{
    struct reading *r = calloc(1, sizeof(*r));
    char bytes[997];
    *r = (struct reading){.fd = to, .len = 20 * sizeof(bytes)};
    struct fibril *f = io_start(read_pattern, r);
    for (size_t i = 0; i < 20; i++) {
        for (size_t k = 0; k < sizeof(bytes); k++) {
            bytes[k] = io_byte(i * sizeof(bytes) + k);
        }
        struct iovec iov[2] = {{bytes, 400}, {bytes + 400, sizeof(bytes) - 400}};
        ssize_t n = i % 2 ? fibril_writev_all(from, iov, 2, FIBRIL_FOREVER)
                          : fibril_write_all(from, bytes, sizeof(bytes), FIBRIL_FOREVER);
        ASSERT_EQ(n, (ssize_t)sizeof(bytes));
        memset(bytes, 0, sizeof(bytes));
    }
    ASSERT_OK(fibril_close(from));
    ASSERT_EQ(io_end(f), 0);
    ASSERT_OK(fibril_close(to));
    free(r);
}

SIM_TEST(streams_and_pipes_carry_every_byte)
{
    int q[2];
    io_tcp_pair(q);
    ASSERT_GE(q[0], FIBRIL__SIM_FD);
    ASSERT_GE(q[1], FIBRIL__SIM_FD);
    pass_pattern(q[0], q[1]);
    ASSERT_OK(fibril_pipe(q));
    ASSERT_GE(q[0], FIBRIL__SIM_FD);
    pass_pattern(q[1], q[0]);
    return 0;
}

SIM_TEST(an_accepted_connection_knows_its_peer)
{
    struct fibril_addr addr, peer, local;
    int listener = io_listener(&addr);
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    int other = fibril_accept(listener, &peer, FIBRIL_FOREVER);
    ASSERT_OK(other);
    ASSERT_OK(fibril_addr_local(fd, &local));
    ASSERT_EQ(peer.len, local.len);
    ASSERT_MEM(&peer.ss, &local.ss, local.len);
    ASSERT_ERR(fibril_accept(listener, NULL, io_in(10)), -ETIMEDOUT);
    ASSERT_OK(fibril_close(fd));
    ASSERT_OK(fibril_close(other));
    ASSERT_OK(fibril_close(listener));
    ASSERT_ERR(fibril_connect(&addr, FIBRIL_FOREVER), -ECONNREFUSED);
    return 0;
}

static int read_one(void *arg)
{
    char byte = 0;
    return (int)fibril_read(*(int *)arg, &byte, 1, FIBRIL_FOREVER);
}

SIM_TEST(closing_and_cancelling_end_waits)
{
    int *p = calloc(2, sizeof(*p));
    ASSERT_OK(fibril_pipe(p));
    struct fibril *closed = io_start(read_one, p), *cancelled = io_start(read_one, p);
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_OK(fibril_cancel(cancelled));
    ASSERT_ERR(io_end(cancelled), -ECANCELED);
    ASSERT_OK(fibril_close(p[0]));
    ASSERT_ERR(io_end(closed), -EBADF);
    ASSERT_OK(fibril_close(p[1]));
    free(p);
    return 0;
}

SIM_TEST(datagrams_name_their_sender)
{
    struct fibril_addr addr, from, local;
    char bytes[16];
    ASSERT_OK(fibril_addr_parse("127.0.0.1:0", &addr));
    int a = fibril_udp(&addr), b = fibril_udp(&addr);
    ASSERT_OK(a);
    ASSERT_OK(b);
    ASSERT_OK(fibril_addr_local(a, &addr));
    ASSERT_OK(fibril_addr_local(b, &local));
    ASSERT_EQ(fibril_sendto(b, "hello", 5, &addr, FIBRIL_FOREVER), 5);
    ASSERT_EQ(fibril_recvfrom(a, bytes, 16, &from, FIBRIL_FOREVER), 5);
    ASSERT_MEM(bytes, "hello", 5);
    ASSERT_MEM(&from.ss, &local.ss, local.len);
    ASSERT_EQ(fibril_fd_wait(a, POLLOUT, FIBRIL_FOREVER), POLLOUT);
    ASSERT_OK(fibril_close(a));
    ASSERT_OK(fibril_close(b));
    return 0;
}

static int seven(void *arg)
{
    return 7 + (arg != NULL);
}

SIM_TEST(nothing_leaves_the_simulation)
{
    struct fibril_process *p;
    struct fibril_signals *s;
    sigset_t none;
    const char *const argv[] = {"true", NULL};
    sigemptyset(&none);
    ASSERT_ERR(fibril_process_start(&(struct fibril_process_opts){.argv = argv}, &p), -ENOSYS);
    ASSERT_ERR(fibril_signals_open(&none, &s), -ENOSYS);
    ASSERT_EQ(fibril_offload(seven, NULL, FIBRIL_FOREVER), 7); /* on this very thread */
    return 0;
}
