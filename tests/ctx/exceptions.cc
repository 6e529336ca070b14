/* SPDX-License-Identifier: MIT */
/*
 * C++ exceptions thrown and caught inside fibrils: the unwinder walks a stack of ours and stops where it should. A fibril
 * must not park while one is being handled, as the C++ library counts those per OS thread; so none does here.
 */
#include <fibril/fibril.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

int destroyed;

struct Counted {
    ~Counted() { destroyed++; }
};

void fail(bool condition, const char *what)
{
    if (!condition) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

[[gnu::noinline]] void throw_deep(int depth)
{
    Counted counted;
    fibril_yield();
    if (depth == 0) {
        throw std::runtime_error("deep");
    }
    throw_deep(depth - 1);
}

int catch_often(void *)
{
    for (int i = 0; i < 10; i++) {
        int before = 0;
        std::string caught;
        try {
            before = 1;
            throw_deep(10);
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        fail(before == 1 && caught == "deep", "not caught as it was thrown");
        fibril_yield();
    }
    return 0;
}

int spawn_catchers(void *)
{
    for (int i = 0; i < 20; i++) {
        fibril_spawn_opts opts = {};
        opts.stack = i % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN;
        fail(fibril_spawn(catch_often, nullptr, &opts, nullptr) == 0, "spawn");
    }
    return catch_often(nullptr);
}

} // namespace

int main()
{
    fail(fibril_run(nullptr, spawn_catchers, nullptr) == 0, "run");
    fail(destroyed == 21 * 10 * 11, "destructors did not all run");
    return 0;
}
