/* SPDX-License-Identifier: MIT */
/*
 * The simulated poller by itself: that it keeps the contract of poll.h, that its sockets behave as
 * Linux's do where programs can tell, that each fault happens, and that a seed replays.
 */
#include "sim_bench.h"

#include "base/compiler.h"
#include "test.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const uint64_t ALWAYS = UINT64_C(1) << 32, HALF = UINT64_C(1) << 31;

static char text[] = "the quick brown fox";

/* ---- options --------------------------------------------------------------------------------- */

TEST(options_set_what_they_name)
{
    struct fibril__sim_config c = bench_plain();
    char error[320] = "";
    ASSERT_OK(fibril__sim_parse("loss=0.25,reset=1,latency_us=50..2000,partial=0.5,buffer=512,"
                                "pipe=8192,fds=9,tick_ns=7,seed=0x10,local_us=3",
                                &c, error, sizeof error));
    ASSERT_EQ(c.loss, UINT64_C(1) << 30);
    ASSERT_EQ(c.reset, ALWAYS);
    ASSERT_EQ(c.latency_min_ns, 50000);
    ASSERT_EQ(c.latency_max_ns, 2000000);
    ASSERT_EQ(c.local_min_ns, 3000);
    ASSERT_EQ(c.local_max_ns, 3000);
    ASSERT_EQ(c.partial, HALF);
    ASSERT_EQ(c.buffer_bytes, 512);
    ASSERT_EQ(c.pipe_bytes, 8192);
    ASSERT_EQ(c.fds, 9);
    ASSERT_EQ(c.tick_ns, 7);
    ASSERT_EQ(c.seed, 16);
}

TEST(wrong_options_are_refused_by_name)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"loss", "loss: key=value"},
        {"loss=", "loss=: a rate from 0 to 1"},
        {"loss=1.5", "loss=1.5: a rate"},
        {"loss=nan", "loss=nan: a rate"},
        {"lost=0.1", "lost: no such option; there are seed latency_us"},
        {"latency_us=9..3", "microseconds"},
        {"latency_us=1..", "microseconds"},
        {"buffer=0", "a number from 1"},
        {"buffer=-1", "a number from 1"},
        {"loss=0.1,", "ends with a comma"},
        {",loss=0.1", "key=value is wanted"},
        {"fds=3x", "fds=3x: a number"},
        {"pipe=1", "pipe=1: a number from 4096"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct fibril__sim_config c = bench_plain();
        char error[320] = "";
        ASSERT_ERR(fibril__sim_parse(wrong[i].text, &c, error, sizeof error), -EINVAL);
        if (!strstr(error, wrong[i].says)) {
            test_fail(__FILE__, __LINE__, "%s: \"%s\" lacks \"%s\"", wrong[i].text, error,
                      wrong[i].says);
        }
    }
}

TEST(the_environment_is_read_and_its_mistakes_end_the_opening)
{
    struct fibril__poller *p;
    struct fibril__poll_opts opts = {.seed = 0};
    setenv("FIBRIL_SIM", "seed=77", 1);
    ASSERT_OK(fibril__poll_sim.open(&opts, &p));
    ASSERT_EQ(fibril__sim_seed(p), 77);
    p->ops->close(p);
    setenv("FIBRIL_SIM", "sed=77", 1);
    ASSERT_ERR(fibril__poll_sim.open(&opts, &p), -EINVAL);
}

/* ---- time ------------------------------------------------------------------------------------ */

TEST(waiting_for_a_deadline_jumps_there)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int64_t start = p->ops->now(p), year = INT64_C(31536000000000000);
    ASSERT_EQ(p->ops->wait(p, start + year), 0);
    ASSERT_EQ(p->ops->now(p), start + year);
    bench_close(p);
}

TEST(with_nothing_to_come_it_says_that_it_is_stuck)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char byte;
    struct bench_op read = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    bench_start(p, &read, FIBRIL__OP_READ, fds[0], &byte, 1);
    ASSERT(fibril__sim_stuck(p)); /* nobody writes, whatever is pending */
    p->owed = 1;
    ASSERT(!fibril__sim_stuck(p));
    p->owed = 0;
    p->ops->wake(p);
    ASSERT(!fibril__sim_stuck(p));
    ASSERT_EQ(p->ops->wait(p, INT64_MAX), 0);
    ASSERT(fibril__sim_stuck(p));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], text, 1), 1);
    ASSERT(!fibril__sim_stuck(p));
    ASSERT_EQ(bench_finish(p, &read), 1);
    bench_close(p);
}

TEST(looking_costs_a_tick)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int64_t start = p->ops->now(p);
    ASSERT_EQ(p->ops->wait(p, 0), 0);
    ASSERT_EQ(p->ops->now(p), start + c.tick_ns);
    bench_close(p);
}

TEST(a_wake_ends_one_wait)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int64_t start = p->ops->now(p);
    p->ops->wake(p);
    p->ops->wake(p);
    ASSERT_EQ(p->ops->wait(p, start + 1000000000), 0);
    ASSERT_LT(p->ops->now(p), start + 1000000);
    ASSERT_EQ(p->ops->wait(p, start + 1000000000), 0);
    ASSERT_EQ(p->ops->now(p), start + 1000000000);
    bench_close(p);
}

static void *waker(void *p)
{
    struct fibril__poller *poller = p;
    poller->ops->wake(poller);
    return NULL;
}

TEST(an_owed_wake_is_really_waited_for)
{
    struct fibril__sim_config c = bench_plain();
    for (int i = 0; i < 200; i++) {
        struct fibril__poller *p = bench_open(&c, 1);
        int64_t start = p->ops->now(p);
        pthread_t thread;
        p->owed = 1;
        ASSERT_EQ(pthread_create(&thread, NULL, waker, p), 0);
        ASSERT_EQ(p->ops->wait(p, start + 1000000000), 0);
        ASSERT_LE(p->ops->now(p), start + c.tick_ns); /* no virtual time has passed */
        pthread_join(thread, NULL);
        bench_close(p);
    }
}

TEST(with_nothing_to_come_it_really_waits_for_a_wake)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int64_t start = p->ops->now(p);
    pthread_t thread;
    ASSERT_EQ(pthread_create(&thread, NULL, waker, p), 0);
    ASSERT_EQ(p->ops->wait(p, INT64_MAX), 0);
    ASSERT_LE(p->ops->now(p), start + c.tick_ns);
    pthread_join(thread, NULL);
    bench_close(p);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

TEST(numbers_are_given_out_lowest_first)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fd[200];
    for (int i = 0; i < 200; i++) {
        fd[i] = p->sys->socket(p, AF_INET, SOCK_STREAM);
        ASSERT_EQ(fd[i], FIBRIL__SIM_FD + i);
    }
    bench_drop(p, fd[150]);
    bench_drop(p, fd[7]);
    ASSERT_EQ(p->sys->socket(p, AF_INET, SOCK_DGRAM), fd[7]);
    ASSERT_EQ(p->sys->socket(p, AF_UNIX, SOCK_STREAM), fd[150]);
    ASSERT_EQ(p->sys->socket(p, AF_INET6, SOCK_STREAM), FIBRIL__SIM_FD + 200);
    bench_close(p);
}

TEST(descriptors_run_out)
{
    struct fibril__sim_config c = bench_plain();
    c.fds = 3;
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    ASSERT_OK(p->sys->socket(p, AF_INET, SOCK_STREAM));
    ASSERT_OK(p->sys->socket(p, AF_INET, SOCK_STREAM));
    ASSERT_ERR(p->sys->pipe(p, fds), -EMFILE);
    ASSERT_OK(p->sys->socket(p, AF_INET, SOCK_STREAM));
    ASSERT_ERR(p->sys->socket(p, AF_INET, SOCK_STREAM), -EMFILE);
    bench_close(p);
}

TEST(operations_on_what_is_no_descriptor_fail)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    char byte;
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, 0, &byte, 1), -EBADF);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, FIBRIL__SIM_FD, &byte, 1), -EBADF);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, -1, &byte, 1), -EBADF);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_PREAD, 0, &byte, 1), -EOPNOTSUPP);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_FSYNC, 0, NULL, 0), -EOPNOTSUPP);
    ASSERT_EQ(bench_forget(p, FIBRIL__SIM_FD + 3), 0);
    ASSERT_ERR(p->sys->close(p, FIBRIL__SIM_FD), -EBADF);
    bench_close(p);
}

TEST(forget_ends_every_wait_and_is_over_last)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char byte[3];
    struct bench_op read[3] = {{.over = false}}, poll = {.op.events = POLLIN},
                    forget = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    for (int i = 0; i < 3; i++) {
        bench_start(p, &read[i], FIBRIL__OP_READ, fds[0], &byte[i], 1);
    }
    bench_start(p, &poll, FIBRIL__OP_POLL, fds[0], NULL, 0);
    ASSERT_EQ(p->pending, 4);
    bench_start(p, &forget, FIBRIL__OP_FORGET, fds[0], NULL, 0);
    ASSERT_EQ(bench_finish(p, &forget), 0);
    for (int i = 0; i < 3; i++) {
        ASSERT(read[i].over && read[i].op.result == -EBADF && read[i].order < forget.order);
    }
    ASSERT(poll.over && poll.op.result == -EBADF && poll.order < forget.order);
    ASSERT_OK(p->sys->close(p, fds[0]));
    bench_close(p);
}

/* ---- pipes ----------------------------------------------------------------------------------- */

TEST(a_pipe_carries_bytes_in_order_and_ends)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char got[64];
    ASSERT_OK(p->sys->pipe(p, fds));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], text, sizeof text), sizeof text);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], text, 3), 3);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, sizeof text), sizeof text);
    ASSERT_MEM(got, text, sizeof text);
    bench_drop(p, fds[1]);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, sizeof got), 3);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, sizeof got), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, sizeof got), 0);
    bench_close(p);
}

TEST(a_full_pipe_makes_its_writer_wait)
{
    struct fibril__sim_config c = bench_plain();
    c.pipe_bytes = 8192;
    struct fibril__poller *p = bench_open(&c, 1);
    static char block[10000];
    int fds[2];
    struct bench_op more = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], block, sizeof block), 8192);
    bench_start(p, &more, FIBRIL__OP_WRITE, fds[1], block, 4096);
    ASSERT_EQ(bench_finish(p, &more), BENCH_NOT_OVER);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], block, 4095), 4095);
    ASSERT_EQ(bench_finish(p, &more), BENCH_NOT_OVER); /* up to 4096 bytes are never torn */
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], block, 1), 1);
    ASSERT_EQ(bench_finish(p, &more), 4096);
    bench_close(p);
}

TEST(writing_to_a_pipe_without_reader_is_epipe)
{
    struct fibril__sim_config c = bench_plain();
    c.pipe_bytes = 4096;
    struct fibril__poller *p = bench_open(&c, 1);
    static char block[4096];
    int fds[2];
    struct bench_op wait = {.over = false}, poll = {.op.events = POLLIN};
    ASSERT_OK(p->sys->pipe(p, fds));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], block, sizeof block), 4096);
    bench_start(p, &wait, FIBRIL__OP_WRITE, fds[1], block, 1);
    bench_start(p, &poll, FIBRIL__OP_POLL, fds[1], NULL, 0);
    bench_drop(p, fds[0]);
    ASSERT_EQ(bench_finish(p, &wait), -EPIPE);
    ASSERT_EQ(bench_finish(p, &poll), POLLERR);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], block, 1), -EPIPE);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[1], block, 1), -EBADF);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[1], block, 1), -ENOTSOCK);
    bench_close(p);
}

TEST(pieces_of_memory_are_gathered_and_scattered)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char got[sizeof text] = "";
    struct iovec out[] = {{text, 4}, {text + 4, 0}, {text + 4, 7}, {text + 11, sizeof text - 11}};
    struct iovec in[] = {{got, 9}, {got + 9, sizeof text - 9}};
    ASSERT_OK(p->sys->pipe(p, fds));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITEV, fds[1], out, 4), sizeof text);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READV, fds[0], in, 2), sizeof text);
    ASSERT_STR(got, text);
    bench_close(p);
}

/* ---- connections ----------------------------------------------------------------------------- */

TEST(a_connection_carries_bytes_both_ways_with_latency)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    char got[64];
    bench_connect(p, listener, 80, fds);
    int64_t sent = p->ops->now(p);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, sizeof text), sizeof text);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], got, sizeof got), sizeof text);
    ASSERT_EQ(p->ops->now(p), sent + 1000000);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[1], got, sizeof text), sizeof text);
    memset(got, 0, sizeof got);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, sizeof got), sizeof text);
    ASSERT_STR(got, text);
    bench_close(p);
}

TEST(nobody_listening_refuses)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in a = bench_addr(81);
    int fd = p->sys->socket(p, AF_INET, SOCK_STREAM);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, fd, &a, sizeof a), -ECONNREFUSED);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fd, &a, sizeof a), -ENOTCONN);
    int listener = bench_listen(p, 81, 5); /* the same socket may try again */
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, fd, &a, sizeof a), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, fd, &a, sizeof a), -EISCONN);
    bench_drop(p, listener);
    bench_close(p);
}

/* Starts a call by a new socket. */
static void call_up(struct fibril__poller *p, struct bench_op *b, int family, void *addr,
                    size_t len)
{
    bench_start(p, b, FIBRIL__OP_CONNECT, p->sys->socket(p, family, SOCK_STREAM), addr, len);
}

TEST(a_full_backlog_makes_callers_wait)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in a = bench_addr(82);
    int listener = bench_listen(p, 82, 1);
    struct bench_op call[3] = {{.over = false}};
    call_up(p, &call[0], AF_INET, &a, sizeof a);
    call_up(p, &call[1], AF_INET, &a, sizeof a);
    ASSERT_EQ(bench_finish(p, &call[0]), 0);
    ASSERT_EQ(bench_finish(p, &call[1]), 0);
    int64_t start = p->ops->now(p);
    call_up(p, &call[2], AF_INET, &a, sizeof a);
    ASSERT_EQ(p->ops->wait(p, start + 500000000), 0);
    ASSERT_OK(bench_do(p, FIBRIL__OP_ACCEPT, listener, NULL, 0));
    ASSERT_EQ(bench_finish(p, &call[2]), 0);
    ASSERT_GE(p->ops->now(p), start + 1000000000); /* by its second SYN */
    bench_close(p);
}

TEST(a_backlog_that_stays_full_times_out)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in a = bench_addr(82);
    bench_listen(p, 82, 0);
    int first = p->sys->socket(p, AF_INET, SOCK_STREAM);
    int second = p->sys->socket(p, AF_INET, SOCK_STREAM);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, first, &a, sizeof a), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, second, &a, sizeof a), -ETIMEDOUT);
    bench_close(p);
}

TEST(a_unix_caller_waits_for_room_in_the_backlog)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int listener = p->sys->socket(p, AF_UNIX, SOCK_STREAM);
    ASSERT_OK(p->sys->bind(p, listener, (struct sockaddr *)&a, sizeof a));
    ASSERT_OK(p->sys->listen(p, listener, 0));
    struct bench_op call[3] = {{.over = false}};
    call_up(p, &call[0], AF_UNIX, &a, sizeof a);
    ASSERT_EQ(bench_finish(p, &call[0]), 0);
    call_up(p, &call[1], AF_UNIX, &a, sizeof a);
    ASSERT_EQ(bench_finish(p, &call[1]), BENCH_NOT_OVER); /* a deadlock, seen as one */
    call_up(p, &call[2], AF_UNIX, &a, sizeof a);
    ASSERT_EQ(bench_finish(p, &call[2]), BENCH_NOT_OVER);
    ASSERT_OK(bench_do(p, FIBRIL__OP_ACCEPT, listener, NULL, 0));
    ASSERT_EQ(bench_finish(p, &call[1]), 0);
    bench_drop(p, listener);
    ASSERT_EQ(bench_finish(p, &call[2]), -ENOENT);
    bench_close(p);
}

TEST(addresses_are_told)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 0, 5);
    struct sockaddr_in local, peer;
    socklen_t len = sizeof local;
    ASSERT_OK(p->sys->getname(p, listener, 0, (struct sockaddr *)&local, &len));
    ASSERT_EQ(len, sizeof local);
    ASSERT_NE(local.sin_port, 0);
    bench_connect(p, listener, ntohs(local.sin_port), fds);
    struct sockaddr_in caller;
    len = sizeof caller;
    ASSERT_OK(p->sys->getname(p, fds[0], 0, (struct sockaddr *)&caller, &len));
    len = sizeof peer;
    ASSERT_OK(p->sys->getname(p, fds[1], 1, (struct sockaddr *)&peer, &len));
    ASSERT_MEM(&caller, &peer, sizeof peer);
    ASSERT_ERR(p->sys->getname(p, listener, 1, (struct sockaddr *)&peer, &len), -ENOTCONN);
    bench_close(p);
}

TEST(a_name_is_taken_once)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in a = bench_addr(83), any = a;
    any.sin_addr.s_addr = htonl(INADDR_ANY);
    int first = bench_listen(p, 83, 1), second = p->sys->socket(p, AF_INET, SOCK_STREAM);
    ASSERT_ERR(p->sys->bind(p, second, (struct sockaddr *)&a, sizeof a), -EADDRINUSE);
    ASSERT_ERR(p->sys->bind(p, second, (struct sockaddr *)&any, sizeof any), -EADDRINUSE);
    int other = p->sys->socket(p, AF_INET, SOCK_DGRAM);
    ASSERT_OK(p->sys->bind(p, other, (struct sockaddr *)&a, sizeof a)); /* UDP's own */
    bench_drop(p, first);
    ASSERT_OK(p->sys->bind(p, second, (struct sockaddr *)&any, sizeof any));
    ASSERT_OK(p->sys->listen(p, second, 1));
    int fds[2];
    bench_connect(p, second, 83, fds); /* by the address of the machine */
    bench_close(p);
}

TEST(shutting_down_one_half_leaves_the_other)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    char got[64];
    struct bench_op poll = {.op.events = POLLIN | POLLRDHUP};
    bench_connect(p, listener, 80, fds);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), 5);
    ASSERT_OK(p->sys->shutdown(p, fds[0], SHUT_WR));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), -EPIPE);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], got, sizeof got), 5);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], got, sizeof got), 0);
    bench_start(p, &poll, FIBRIL__OP_POLL, fds[1], NULL, 0);
    ASSERT_EQ(bench_finish(p, &poll), POLLIN | POLLRDHUP);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[1], text, 7), 7);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[0], got, sizeof got), 7);
    bench_drop(p, fds[1]);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[0], got, sizeof got), 0);
    bench_close(p);
}

TEST(shutting_down_a_listener_ends_those_who_accept)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int listener = bench_listen(p, 80, 5);
    struct bench_op accept = {.over = false};
    bench_start(p, &accept, FIBRIL__OP_ACCEPT, listener, NULL, 0);
    ASSERT(!accept.over);
    ASSERT_OK(p->sys->shutdown(p, listener, SHUT_RDWR));
    ASSERT_EQ(bench_finish(p, &accept), -EINVAL);
    bench_close(p);
}

TEST(closing_with_unread_data_resets_the_peer)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    char got[64];
    struct bench_op read = {.over = false}, poll = {.op.events = POLLIN};
    bench_connect(p, listener, 80, fds);
    bench_start(p, &poll, FIBRIL__OP_POLL, fds[1], NULL, 0);
    bench_start(p, &read, FIBRIL__OP_RECV, fds[0], got, sizeof got);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), 5);
    ASSERT_EQ(bench_finish(p, &poll), POLLIN);
    bench_drop(p, fds[1]);
    ASSERT_EQ(bench_finish(p, &read), -ECONNRESET);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[0], got, sizeof got), 0); /* an error is told once */
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), -EPIPE);
    bench_close(p);
}

TEST(sending_to_a_closed_end_resets_the_sender)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    bench_connect(p, listener, 80, fds);
    bench_drop(p, fds[1]);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), 5);
    ASSERT_EQ(p->ops->wait(p, p->ops->now(p) + 10000000), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, 5), -EPIPE); /* its end came before */
    bench_close(p);
}

TEST(connections_nobody_accepted_break_with_their_listener)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in a = bench_addr(80);
    int listener = bench_listen(p, 80, 5), fd = p->sys->socket(p, AF_INET, SOCK_STREAM);
    char byte;
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, fd, &a, sizeof a), 0);
    bench_drop(p, listener);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fd, &byte, 1), -ECONNRESET);
    bench_close(p);
}

TEST(a_full_socket_makes_its_sender_wait)
{
    struct fibril__sim_config c = bench_plain();
    c.buffer_bytes = 1000;
    struct fibril__poller *p = bench_open(&c, 1);
    static char block[4096];
    int fds[2], listener = bench_listen(p, 80, 5);
    struct bench_op more = {.over = false}, poll = {.op.events = POLLOUT};
    bench_connect(p, listener, 80, fds);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], block, sizeof block), 1000);
    bench_start(p, &more, FIBRIL__OP_SEND, fds[0], block, sizeof block);
    bench_start(p, &poll, FIBRIL__OP_POLL, fds[0], NULL, 0);
    ASSERT_EQ(bench_finish(p, &more), BENCH_NOT_OVER);
    ASSERT(!poll.over);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], block, 300), 300);
    ASSERT_EQ(bench_finish(p, &more), 300);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], block, 1), 1);
    ASSERT_EQ(bench_finish(p, &poll), POLLOUT);
    bench_close(p);
}

TEST(peeking_leaves_the_bytes)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    char got[64] = "";
    struct bench_op peek = {.op.flags = MSG_PEEK};
    bench_connect(p, listener, 80, fds);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], text, sizeof text), sizeof text);
    bench_start(p, &peek, FIBRIL__OP_RECV, fds[1], got, 9);
    ASSERT_EQ(bench_finish(p, &peek), 9);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[1], got, sizeof got), sizeof text);
    ASSERT_STR(got, text);
    bench_close(p);
}

/* ---- cancelling and deferring -------------------------------------------- */

TEST(a_cancelled_wait_is_over_at_once)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char byte;
    struct bench_op read = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    bench_start(p, &read, FIBRIL__OP_READ, fds[0], &byte, 1);
    ASSERT_EQ(p->ops->cancel(p, &read.op), 1);
    ASSERT_EQ(read.op.result, -ECANCELED);
    ASSERT_EQ(p->pending, 0);
    bench_close(p);
}

TEST(a_slow_cancel_ends_by_done_with_what_came_first)
{
    struct fibril__sim_config c = bench_plain();
    c.slow_cancel = ALWAYS;
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char byte;
    struct bench_op read = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    bench_start(p, &read, FIBRIL__OP_READ, fds[0], &byte, 1);
    ASSERT_EQ(p->ops->cancel(p, &read.op), 0);
    ASSERT_EQ(p->ops->cancel(p, &read.op), 0);
    ASSERT_EQ(bench_finish(p, &read), -ECANCELED);
    ASSERT(read.late);
    bench_start(p, &read, FIBRIL__OP_READ, fds[0], &byte, 1);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_WRITE, fds[1], text, 1), 1);
    p->ops->wait(p, p->ops->now(p) + 999); /* the byte is all but there */
    ASSERT_EQ(p->ops->cancel(p, &read.op), 0);
    ASSERT_EQ(bench_finish(p, &read), 1);
    bench_close(p);
}

TEST(a_deferred_operation_is_over_by_done)
{
    struct fibril__sim_config c = bench_plain();
    c.defer = ALWAYS;
    struct fibril__poller *p = bench_open(&c, 1);
    int fds[2];
    char got[4];
    struct bench_op write = {.over = false};
    ASSERT_OK(p->sys->pipe(p, fds));
    bench_start(p, &write, FIBRIL__OP_WRITE, fds[1], text, 4);
    ASSERT(!write.over);
    ASSERT_EQ(bench_finish(p, &write), 4);
    ASSERT(write.late);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_READ, fds[0], got, 4), 4);
    bench_close(p);
}

/* ---- datagrams ------------------------------------------------------------------------------- */

static int udp(struct fibril__poller *p, uint16_t port)
{
    struct sockaddr_in a = bench_addr(port);
    int fd = p->sys->socket(p, AF_INET, SOCK_DGRAM);
    ASSERT_OK(fd);
    if (port) {
        ASSERT_OK(p->sys->bind(p, fd, (struct sockaddr *)&a, sizeof a));
    }
    return fd;
}

static int64_t send_to(struct fibril__poller *p, int fd, uint16_t port, void *data, size_t len)
{
    struct sockaddr_in a = bench_addr(port);
    struct iovec iov = {data, len};
    struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &iov, .msg_iovlen = 1};
    return bench_do(p, FIBRIL__OP_SENDMSG, fd, &m, 0);
}

TEST(a_datagram_arrives_whole_with_its_sender)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    int a = udp(p, 5000), b = udp(p, 5001);
    struct sockaddr_in from;
    char got[8];
    struct iovec iov = {got, sizeof got};
    struct msghdr m = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1};
    ASSERT_EQ(send_to(p, a, 5001, text, sizeof text), sizeof text);
    ASSERT_EQ(send_to(p, a, 5001, text, 0), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECVMSG, b, &m, 0), sizeof got);
    ASSERT_EQ(m.msg_flags, MSG_TRUNC);
    ASSERT_EQ(ntohs(from.sin_port), 5000);
    ASSERT_MEM(got, text, sizeof got);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, b, got, sizeof got), 0); /* the empty one, not the end */
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, b, got, 1), -EDESTADDRREQ);
    bench_close(p);
}

TEST(datagrams_are_lost_reordered_and_dropped)
{
    struct fibril__sim_config c = bench_plain();
    enum { N = 400 };
    c.loss = ALWAYS / 4;
    c.reorder = HALF;
    struct fibril__poller *p = bench_open(&c, 9);
    int a = udp(p, 0), b = udp(p, 5001), got = 0, swaps = 0, last = -1, i;
    for (i = 0; i < N; i++) {
        ASSERT_EQ(send_to(p, a, 5001, &i, sizeof i), sizeof i);
    }
    p->ops->wait(p, p->ops->now(p) + 1000000000);
    struct bench_op recv = {.over = false};
    for (;; got++) {
        bench_start(p, &recv, FIBRIL__OP_RECV, b, &i, sizeof i);
        if (!recv.over) {
            break;
        }
        swaps += i < last;
        last = i;
    }
    ASSERT_EQ(p->ops->cancel(p, &recv.op), 1);
    ASSERT(got > N / 2 && got < N);
    ASSERT_GT(swaps, N / 10);
    bench_close(p);
}

TEST(a_datagram_to_nobody_comes_back_to_a_connected_sender)
{
    struct fibril__sim_config c = bench_plain();
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_in to = bench_addr(5009);
    int a = udp(p, 0);
    char byte = 1;
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, a, &to, sizeof to), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, a, &byte, 1), 1);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, a, &byte, 1), -ECONNREFUSED);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, a, &byte, 1), BENCH_NOT_OVER);
    bench_close(p);
}

TEST(a_unix_datagram_waits_for_room)
{
    struct fibril__sim_config c = bench_plain();
    c.buffer_bytes = 100;
    struct fibril__poller *p = bench_open(&c, 1);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0dgram"};
    int to = p->sys->socket(p, AF_UNIX, SOCK_DGRAM), from = p->sys->socket(p, AF_UNIX, SOCK_DGRAM);
    char block[60] = "";
    struct bench_op send = {.over = false};
    ASSERT_OK(p->sys->bind(p, to, (struct sockaddr *)&a, 8));
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, from, &a, 8), 0);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, from, block, 60), 60);
    p->ops->wait(p, p->ops->now(p) + 1000000);
    bench_start(p, &send, FIBRIL__OP_SEND, from, block, 60);
    ASSERT_EQ(bench_finish(p, &send), BENCH_NOT_OVER);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, to, block, 60), 60);
    ASSERT_EQ(bench_finish(p, &send), 60);
    bench_drop(p, to);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, from, block, 1), -ECONNREFUSED);
    bench_close(p);
}

/* ---- faults and seeds ---------------------------------------------------- */

TEST(refusals_and_resets_happen)
{
    struct fibril__sim_config c = bench_plain();
    struct sockaddr_in a = bench_addr(80);
    char byte = 0;
    c.refuse = ALWAYS;
    struct fibril__poller *p = bench_open(&c, 1);
    bench_listen(p, 80, 5);
    int fd = p->sys->socket(p, AF_INET, SOCK_STREAM);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_CONNECT, fd, &a, sizeof a), -ECONNREFUSED);
    bench_close(p);
    c.refuse = 0;
    c.reset = ALWAYS;
    p = bench_open(&c, 1);
    int fds[2], listener = bench_listen(p, 80, 5);
    bench_connect(p, listener, 80, fds);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_SEND, fds[0], &byte, 1), 1);
    ASSERT_EQ(bench_do(p, FIBRIL__OP_RECV, fds[0], &byte, 1), -ECONNRESET);
    bench_close(p);
}

/* Sends a megabyte through a connection with faults and returns the trace; every byte that arrives
 * must be right. */
static uint64_t megabyte(uint64_t seed)
{
    struct fibril__sim_config c = bench_plain();
    c.latency_min_ns = 50000;
    c.latency_max_ns = 2000000;
    c.partial = c.defer = HALF;
    c.loss = ALWAYS / 100;
    struct fibril__poller *p = bench_open(&c, seed);
    int fds[2], listener = bench_listen(p, 80, 5);
    enum { BYTES = 1 << 20 };
    static uint8_t out[BYTES], in[BYTES];
    for (int i = 0; i < BYTES; i++) {
        out[i] = (uint8_t)(i * 7 + (i >> 9));
    }
    memset(in, 0, sizeof in);
    bench_connect(p, listener, 80, fds);
    struct bench_op send = {.over = true}, recv = {.over = true};
    size_t sent = 0, received = 0;
    while (received < BYTES) {
        if (send.over && sent < BYTES) {
            bench_start(p, &send, FIBRIL__OP_SEND, fds[0], out + sent, BYTES - sent);
            sent += send.over ? (size_t)send.op.result : 0;
        }
        if (recv.over) {
            bench_start(p, &recv, FIBRIL__OP_RECV, fds[1], in + received, BYTES - received);
            received += recv.over ? (size_t)recv.op.result : 0;
        }
        if (!send.over || !recv.over) {
            bool sending = !send.over, receiving = !recv.over;
            ASSERT_GT(p->ops->wait(p, INT64_MAX), 0);
            sent += sending && send.over ? (size_t)send.op.result : 0;
            received += receiving && recv.over ? (size_t)recv.op.result : 0;
        }
    }
    ASSERT_MEM(in, out, BYTES);
    uint64_t hash = fibril__sim_hash(p);
    bench_close(p);
    return hash;
}

TEST(bytes_survive_loss_and_partial_calls_and_a_seed_replays)
{
    uint64_t first = megabyte(42);
    ASSERT(first == megabyte(42));
    ASSERT(first != megabyte(43));
}

TEST(what_others_trace_counts)
{
    struct fibril__sim_config c = bench_plain();
    uint64_t hash[3];
    for (uint64_t i = 0; i < 3; i++) {
        struct fibril__poller *p = bench_open(&c, 1);
        fibril__sim_trace(p, i / 2);
        hash[i] = fibril__sim_hash(p);
        bench_close(p);
    }
    ASSERT(hash[0] == hash[1]);
    ASSERT(hash[0] != hash[2]);
}
