/* SPDX-License-Identifier: MIT */
/*
 * Boost.Context: the bare machine switch, without any scheduler. It is the floor that the scheduled
 * switches are held against. One way counts as one switch: a resume and the way back are two.
 *
 * Command line of all micro peers: PROG BENCH [N]; prints one JSON line per figure.
 */
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

#include "../measure.h"

namespace ctx = boost::context;

static void bench_switch(long n)
{
    bool stop = false;
    ctx::fiber other{[&stop](ctx::fiber &&back) {
        while (!stop) {
            back = std::move(back).resume();
        }
        return std::move(back);
    }};
    int64_t start = cpu_ns();
    for (long i = 0; i < n / 2; i++) {
        other = std::move(other).resume();
    }
    row("yield", "ns", double(cpu_ns() - start) / double(n));
    stop = true;
    other = std::move(other).resume();
}

/* Make, run to the end, give the stack back to a pool. */
static void bench_spawn(long n)
{
    ctx::pooled_fixedsize_stack pool(STACK_BYTES);
    long ran = 0;
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        ctx::fiber f{std::allocator_arg, pool, [&ran](ctx::fiber &&back) {
            ran++;
            return std::move(back);
        }};
        f = std::move(f).resume();
    }
    row("join", "ns", double(cpu_ns() - start) / double(ran));
}

static void bench_parked(long n)
{
    ctx::fixedsize_stack stacks(STACK_BYTES);
    std::vector<ctx::fiber> all;
    bool stop = false;
    all.reserve(std::size_t(n));
    int64_t before = memory_bytes(0);
    for (long i = 0; i < n; i++) {
        ctx::fiber f{std::allocator_arg, stacks, [&stop](ctx::fiber &&back) {
            while (!stop) {
                back = std::move(back).resume();
            }
            return std::move(back);
        }};
        all.push_back(std::move(f).resume());
    }
    row_at(n, "bytes", double(memory_bytes(0) - before) / double(n));
    stop = true;
    for (auto &f : all) {
        f = std::move(f).resume();
    }
}

int main(int argc, char **argv)
{
    const char *bench = argc > 1 ? argv[1] : "";
    if (!strcmp(bench, "switch")) {
        bench_switch(count_arg(argc, argv, 100000000));
    } else if (!strcmp(bench, "spawn")) {
        bench_spawn(count_arg(argc, argv, 5000000));
    } else if (!strcmp(bench, "parked")) {
        bench_parked(count_arg(argc, argv, 100000));
    } else {
        fprintf(stderr, "usage: boost_context switch|spawn|parked [N]\n");
        return 2;
    }
    return 0;
}
