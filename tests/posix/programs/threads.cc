// SPDX-License-Identifier: MIT
//
// A C++ program that knows nothing of fibril: threads, locks, conditions, futures, guards of static
// variables, and exceptions that are being handled while others run. It prints the same with OS
// threads and with fibrils.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

template <class F> static void on_threads(int n, F f)
{
    std::vector<std::thread> threads;
    for (int i = 0; i < n; i++) {
        threads.emplace_back(f, i);
    }
    for (auto &t : threads) {
        t.join();
    }
}

static void queue()
{
    std::mutex m;
    std::condition_variable filled;
    std::deque<int> items;
    long sum = 0;
    std::thread consumer([&] {
        for (int left = 400; left > 0; left--) {
            std::unique_lock<std::mutex> lock(m);
            filled.wait(lock, [&] { return !items.empty(); });
            sum += items.front();
            items.pop_front();
        }
    });
    on_threads(4, [&](int) {
        for (int i = 0; i < 100; i++) {
            std::lock_guard<std::mutex> lock(m);
            items.push_back(i);
            filled.notify_one();
        }
    });
    consumer.join();
    std::printf("queue %ld\n", sum);
}

// While one exception is handled its thread sleeps, and others throw and handle theirs.
static void exceptions()
{
    std::atomic<int> right{0};
    on_threads(50, [&](int i) {
        std::string mine = "error " + std::to_string(i);
        try {
            throw std::runtime_error(mine);
        } catch (const std::runtime_error &e) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1 + i % 3));
            try {
                throw std::logic_error("inner " + mine);
            } catch (const std::logic_error &inner) {
                std::this_thread::sleep_for(1ms);
                right += inner.what() == "inner " + mine;
            }
            right += e.what() == mine && std::uncaught_exceptions() == 0;
            try {
                std::rethrow_exception(std::current_exception());
            } catch (const std::runtime_error &again) {
                right += again.what() == mine;
            }
        }
        right += std::current_exception() == nullptr;
    });
    std::printf("exceptions %d\n", right.load());
}

struct Sleeper {
    std::atomic<int> &uncaught;
    ~Sleeper()
    {
        std::this_thread::sleep_for(1ms);
        uncaught += std::uncaught_exceptions();
    }
};

// A destructor that sleeps while an exception passes through it.
static void unwinding()
{
    std::atomic<int> uncaught{0};
    on_threads(20, [&](int i) {
        try {
            Sleeper s{uncaught};
            if (i % 2 == 0) {
                throw i;
            }
        } catch (int) {
        }
    });
    std::printf("unwinding %d\n", uncaught.load());
}

static int slow_value(std::atomic<int> &made)
{
    std::this_thread::sleep_for(5ms);
    return ++made;
}

static void guards()
{
    static std::atomic<int> made{0};
    std::atomic<int> seen{0};
    on_threads(10, [&](int) {
        static int value = slow_value(made);
        seen += value;
    });
    std::printf("guards %d %d\n", made.load(), seen.load());
}

static void futures()
{
    std::vector<std::future<int>> all;
    for (int i = 0; i < 20; i++) {
        all.push_back(std::async(std::launch::async, [i] {
            std::this_thread::sleep_for(1ms);
            return i;
        }));
    }
    int sum = 0;
    for (auto &f : all) {
        sum += f.get();
    }
    std::promise<int> promise;
    std::thread keeper([&] { promise.set_exception(std::make_exception_ptr(std::string("kept"))); });
    std::string caught;
    try {
        promise.get_future().get();
    } catch (const std::string &s) {
        caught = s;
    }
    keeper.join();
    std::promise<void> never;
    bool late = never.get_future().wait_for(2ms) == std::future_status::timeout;
    std::printf("futures %d %s %d\n", sum, caught.c_str(), late);
}

static void locks()
{
    std::recursive_mutex recursive;
    std::timed_mutex timed;
    std::shared_mutex shared;
    std::once_flag once;
    int depth = 0, late = 0, ran = 0, read = 0;
    std::unique_lock<std::timed_mutex> held(timed);
    on_threads(10, [&](int i) {
        std::lock_guard<std::recursive_mutex> outer(recursive);
        std::lock_guard<std::recursive_mutex> inner(recursive);
        std::this_thread::yield();
        depth++;
        late += !timed.try_lock_for(1ms);
        std::call_once(once, [&] {
            std::this_thread::sleep_for(1ms);
            ran++;
        });
        if (i % 2 == 0) {
            std::unique_lock<std::shared_mutex> write(shared);
            read++;
        } else {
            std::shared_lock<std::shared_mutex> only_read(shared);
        }
    });
    std::printf("locks %d %d %d %d\n", depth, late, ran, read);
}

static void throwing_once()
{
    std::once_flag once;
    std::atomic<int> tries{0}, failed{0};
    on_threads(4, [&](int) {
        try {
            std::call_once(once, [&] {
                std::this_thread::sleep_for(1ms);
                if (tries++ == 0) {
                    throw std::runtime_error("not yet");
                }
            });
        } catch (const std::runtime_error &) {
            failed++;
        }
    });
    std::printf("throwing once %d %d\n", tries.load(), failed.load());
}

int main()
{
    queue();
    exceptions();
    unwinding();
    guards();
    futures();
    locks();
    throwing_once();
}
