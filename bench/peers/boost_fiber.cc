/* SPDX-License-Identifier: MIT */
/*
 * Boost.Fiber, with its own round-robin scheduler, stacks of 64 KiB (the default of 128 KiB makes malloc
 * map each one and costs it two pages more) and, where fibers come and go, its pooled stack allocator.
 *
 * `echo` is a TCP echo server on an epoll loop: the main fiber waits in epoll_wait whenever the others
 * have all run, and wakes the fiber of each ready connection. Connections are registered once,
 * edge-triggered; a short read counts as drained.
 */
#include <vector>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/fiber/all.hpp>

#include "../measure.h"

namespace bf = boost::fibers;
using boost::this_fiber::yield;

static bf::fixedsize_stack stacks(STACK_BYTES);

static void bench_switch(long n)
{
    bool stop = false;
    bf::fiber other([&stop] {
        while (!stop) {
            yield();
        }
    });
    int64_t start = cpu_ns();
    for (long i = 0; i < n / 2; i++) {
        yield();
    }
    row("yield", "ns", double(cpu_ns() - start) / double(n));
    stop = true;
    other.join();
}

static void bench_spawn(long n)
{
    bf::pooled_fixedsize_stack pool(STACK_BYTES);
    long ran = 0;
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        bf::fiber(std::allocator_arg, pool, [&ran] { ran++; }).join();
    }
    row("join", "ns", double(cpu_ns() - start) / double(ran));
}

static void bench_channel(long n)
{
    bf::unbuffered_channel<long> there, back;
    bf::fiber echo([&] {
        long v;
        while (there.pop(v) == bf::channel_op_status::success) {
            back.push(v + 1);
        }
    });
    long got = 0;
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        there.push(got);
        back.pop(got);
    }
    int64_t ns = cpu_ns() - start;
    there.close();
    echo.join();
    if (got == n) {
        row("round trip", "ns", double(ns) / double(n));
    }
}

/* Suspended by the library's own primitive: waiting on its condition variable takes a page of stack more. */
static void bench_parked(long n)
{
    std::vector<bf::fiber> all;
    std::vector<bf::context *> waiters;
    all.reserve(std::size_t(n));
    waiters.reserve(std::size_t(n));
    int64_t before = memory_bytes(0);
    for (long i = 0; i < n; i++) {
        all.emplace_back(std::allocator_arg, stacks, [&] {
            waiters.push_back(bf::context::active());
            bf::context::active()->suspend();
        });
    }
    while (long(waiters.size()) < n) {
        yield();
    }
    row_at(n, "bytes", double(memory_bytes(0) - before) / double(n));
    for (auto w : waiters) {
        bf::context::active()->schedule(w);
    }
    for (auto &f : all) {
        f.join();
    }
}

static void bench_sleepers(long n)
{
    std::vector<bf::fiber> all;
    uint64_t seed = 1;
    long ready = 0;
    bool go = false;
    for (long i = 0; i < n; i++) {
        all.emplace_back(std::allocator_arg, stacks, [&] {
            ready++;
            while (!go) {
                yield();
            }
            for (int r = 0; r < SLEEP_ROUNDS; r++) {
                boost::this_fiber::sleep_for(std::chrono::milliseconds(next_sleep_ms(&seed)));
            }
        });
    }
    while (ready < n) {
        yield();
    }
    go = true;
    int64_t start = cpu_ns();
    for (auto &f : all) {
        f.join();
    }
    row_at(n, "ns", double(cpu_ns() - start) / double(n * SLEEP_ROUNDS));
}

/* n fibers that all yield, `turns` turns in all. */
static void bench_growth(long n, long turns)
{
    std::vector<bf::fiber> all;
    bool stop = false;
    long done = 0;
    for (long i = 0; i < n; i++) {
        all.emplace_back(std::allocator_arg, stacks, [&] {
            while (!stop) {
                yield();
                done++;
            }
        });
    }
    yield();
    done = 0;
    int64_t start = cpu_ns();
    while (done < turns) {
        yield();
    }
    row_at(n, "ns", double(cpu_ns() - start) / double(done));
    stop = true;
    for (auto &f : all) {
        f.join();
    }
}

struct conn {
    int fd;
    bf::context *waiter;
};

static void serve(conn *c)
{
    char buf[4096];
    c->waiter = nullptr;
    for (;;) {
        ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
        if (n > 0 && send(c->fd, buf, size_t(n), MSG_NOSIGNAL) == n) {
            if (size_t(n) == sizeof(buf)) {
                continue;
            }
        } else if (n >= 0 || errno != EAGAIN) {
            break;
        }
        c->waiter = bf::context::active();
        c->waiter->suspend();
    }
    close(c->fd);
    delete c;
}

static int bench_echo()
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
    struct sockaddr_in a = {};
    socklen_t len = sizeof(a);
    struct epoll_event ev = {}, events[256];
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ev.events = EPOLLIN;
    if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&a, &len) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev)) {
        perror("listen");
        return 1;
    }
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(ep, events, 256, -1);
        for (int i = 0; i < n; i++) {
            conn *c = static_cast<conn *>(events[i].data.ptr);
            if (c) {
                if (c->waiter) {
                    bf::context::active()->schedule(c->waiter);
                    c->waiter = nullptr;
                }
                continue;
            }
            int fd, one = 1;
            while ((fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                c = new conn{fd, nullptr};
                ev.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
                ev.data.ptr = c;
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
                bf::fiber(std::allocator_arg, stacks, serve, c).detach();
            }
        }
        yield();
    }
}

int main(int argc, char **argv)
{
    const char *bench = argc > 1 ? argv[1] : "";
    if (!strcmp(bench, "switch")) {
        bench_switch(count_arg(argc, argv, 10000000));
    } else if (!strcmp(bench, "spawn")) {
        bench_spawn(count_arg(argc, argv, 1000000));
    } else if (!strcmp(bench, "channel")) {
        bench_channel(count_arg(argc, argv, 2000000));
    } else if (!strcmp(bench, "parked")) {
        bench_parked(count_arg(argc, argv, 100000));
    } else if (!strcmp(bench, "sleepers")) {
        bench_sleepers(count_arg(argc, argv, 100000));
    } else if (!strcmp(bench, "growth")) {
        bench_growth(count_arg(argc, argv, 1000), 4000000);
    } else if (!strcmp(bench, "echo")) {
        return bench_echo();
    } else {
        fprintf(stderr, "usage: boost_fiber switch|spawn|channel|parked|sleepers|growth|echo [N]\n");
        return 2;
    }
    return 0;
}
