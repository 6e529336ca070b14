/* SPDX-License-Identifier: MIT */
/* See sim_bench.h. */
#include "sim_bench.h"

#include "base/alloc.h"
#include "base/compiler.h"
#include "test.h"

#include <arpa/inet.h>
#include <string.h>

static int64_t live_before;
static int orders;

struct fibril__sim_config bench_plain(void)
{
    struct fibril__sim_config c;
    fibril__sim_configure(NULL);
    fibril__sim_defaults(&c);
    c.latency_min_ns = c.latency_max_ns = 1000000;
    c.local_min_ns = c.local_max_ns = 1000;
    c.defer = c.slow_cancel = 0;
    return c;
}

struct fibril__poller *bench_open(const struct fibril__sim_config *config, uint64_t seed)
{
    struct fibril__poller *p = NULL;
    live_before = fibril__alloc_live();
    orders = 0;
    fibril__sim_configure(config);
    ASSERT_OK(fibril__poll_sim.open(&(struct fibril__poll_opts){.seed = seed}, &p));
    return p;
}

void bench_close(struct fibril__poller *p)
{
    ASSERT_EQ(p->pending, 0);
    p->ops->close(p);
    fibril__sim_configure(NULL);
    ASSERT_EQ(fibril__alloc_live(), live_before);
}

static void done(struct fibril__op *op)
{
    struct bench_op *b = CONTAINER_OF(op, struct bench_op, op);
    ASSERT(!b->over);
    b->over = b->late = true;
    b->order = orders++;
}

void bench_start(struct fibril__poller *p, struct bench_op *b, int kind, int fd, void *buf,
                 size_t len)
{
    /* What the caller has set in op already (events, flags, addr_len) stays. */
    b->over = b->late = false;
    b->op.done = done;
    b->op.kind = (uint8_t)kind;
    b->op.fd = fd;
    b->op.buf = buf;
    b->op.len = len;
    if (p->ops->start(p, &b->op)) {
        b->over = true;
        b->order = orders++;
    }
}

int64_t bench_finish(struct fibril__poller *p, struct bench_op *b)
{
    while (!b->over) {
        if (fibril__sim_stuck(p)) {
            return BENCH_NOT_OVER;
        }
        p->ops->wait(p, INT64_MAX);
    }
    return b->op.result;
}

int64_t bench_do(struct fibril__poller *p, int kind, int fd, void *buf, size_t len)
{
    struct bench_op b = {.over = false};
    bench_start(p, &b, kind, fd, buf, len);
    int64_t result = bench_finish(p, &b);
    if (!b.over && !p->ops->cancel(p, &b.op)) {
        bench_finish(p, &b);
    }
    return result;
}

int64_t bench_forget(struct fibril__poller *p, int fd)
{
    return bench_do(p, FIBRIL__OP_FORGET, fd, NULL, 0);
}

void bench_drop(struct fibril__poller *p, int fd)
{
    ASSERT_EQ(bench_forget(p, fd), 0);
    ASSERT_OK(p->sys->close(p, fd));
}

struct sockaddr_in bench_addr(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

int bench_listen(struct fibril__poller *p, uint16_t port, int backlog)
{
    struct sockaddr_in a = bench_addr(port);
    int fd = p->sys->socket(p, AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    ASSERT_OK(fd);
    ASSERT_OK(p->sys->bind(p, fd, (struct sockaddr *)&a, sizeof a));
    ASSERT_OK(p->sys->listen(p, fd, backlog));
    return fd;
}

void bench_connect(struct fibril__poller *p, int listener, uint16_t port, int fds[2])
{
    struct sockaddr_in a = bench_addr(port);
    fds[0] = p->sys->socket(p, AF_INET, SOCK_STREAM);
    ASSERT_OK(fds[0]);
    ASSERT_OK(bench_do(p, FIBRIL__OP_CONNECT, fds[0], &a, sizeof a));
    fds[1] = (int)bench_do(p, FIBRIL__OP_ACCEPT, listener, NULL, 0);
    ASSERT_OK(fds[1]);
}
