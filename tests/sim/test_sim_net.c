/* SPDX-License-Identifier: MIT */
/*
 * Fibrils on the simulated network: whatever the network does, a byte arrives in order or its
 * connection shows an error; no wait outlives its deadline or loses what came at the same moment;
 * and hours pass at once.
 */
#include "test.h"

#include <fibril/io.h>

#include "poll/poll.h"
#include "poll/poll_sim.h"
#include "sched/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int64_t SECOND = 1000000000, HOUR = INT64_C(3600000000000);

/* ---- an echo through faults ---------------------------------------------- */

enum { CLIENTS = 6, BYTES = 20000 };

struct client {
    int number, fd;
    int error; /* that either half has seen */
    size_t arrived;
};

struct echo {
    struct fibril_addr addr;
    int listener;
    uint64_t random;
    struct client clients[CLIENTS];
    int whole, broken, refused;
};

static struct echo echo;
static const char *seed_text; /* for messages */

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            test_fail(__FILE__, __LINE__, "seed %s: %s", seed_text, #x);                           \
        }                                                                                          \
    } while (0)

static size_t below(size_t n)
{
    echo.random = echo.random * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(echo.random >> 33) % n;
}

static uint8_t byte_at(int client, size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) + (size_t)client * 7);
}

static struct fibril_spawn_opts either_stack(void)
{
    return (struct fibril_spawn_opts){.stack = below(2) ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN};
}

static int serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buf[700];
    for (;;) {
        ssize_t n = fibril_recv(fd, buf, 1 + below(sizeof buf), 0, fibril_after(HOUR));
        CHECK(n != -ETIMEDOUT);
        if (n <= 0 || fibril_write_all(fd, buf, (size_t)n, fibril_after(HOUR)) < 0) {
            break;
        }
    }
    return fibril_close(fd);
}

static int accept_all(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = fibril_accept(echo.listener, NULL, FIBRIL_FOREVER);
        if (fd == -EBADF) {
            return 0; /* closed: the end */
        }
        CHECK(fd >= FIBRIL__SIM_FD);
        struct fibril_spawn_opts opts = either_stack();
        CHECK(fibril_spawn(serve, (void *)(intptr_t)fd, &opts, NULL) == 0);
    }
}

static int write_side(void *arg)
{
    struct client *c = arg;
    uint8_t buf[997];
    for (size_t sent = 0; sent < BYTES;) {
        size_t len = 1 + below(sizeof buf);
        len = len < BYTES - sent ? len : BYTES - sent;
        for (size_t i = 0; i < len; i++) {
            buf[i] = byte_at(c->number, sent + i);
        }
        ssize_t n = fibril_send(c->fd, buf, len, 0, fibril_after(HOUR));
        CHECK(n != 0 && n != -ETIMEDOUT && n <= (ssize_t)len);
        if (n < 0) {
            c->error = (int)n;
            return 0;
        }
        sent += (size_t)n;
    }
    int rc = fibril_shutdown(c->fd, SHUT_WR);
    c->error = rc < 0 ? rc : c->error;
    return 0;
}

static int read_side(void *arg)
{
    struct client *c = arg;
    uint8_t buf[1500];
    for (;;) {
        ssize_t n = fibril_recv(c->fd, buf, 1 + below(sizeof buf), 0, fibril_after(HOUR));
        CHECK(n != -ETIMEDOUT);
        if (n <= 0) {
            c->error = n < 0 ? (int)n : c->error;
            return 0;
        }
        for (ssize_t i = 0; i < n; i++) {
            CHECK(buf[i] == byte_at(c->number, c->arrived));
            c->arrived++;
        }
        CHECK(c->arrived <= BYTES);
    }
}

static int call(void *arg)
{
    struct client *c = arg;
    while ((c->fd = fibril_connect(&echo.addr, fibril_after(HOUR))) < 0) {
        CHECK(c->fd == -ECONNREFUSED);
        echo.refused++;
    }
    struct fibril_scope *scope;
    struct fibril_spawn_opts one = either_stack(), two = either_stack();
    CHECK(fibril_scope_open(&scope) == 0);
    CHECK(fibril_scope_spawn(scope, write_side, c, &one) == 0);
    CHECK(fibril_scope_spawn(scope, read_side, c, &two) == 0);
    CHECK(fibril_scope_close(scope, FIBRIL_FOREVER) == 0);
    CHECK(fibril_close(c->fd) == 0);
    CHECK(c->arrived == BYTES || c->error < 0);
    echo.whole += c->arrived == BYTES;
    echo.broken += c->arrived < BYTES;
    return 0;
}

static int echo_main(void *arg)
{
    struct fibril *server, *clients[CLIENTS];
    CHECK(fibril_addr_parse("127.0.0.1:7", &echo.addr) == 0);
    echo.listener = fibril_listen(&echo.addr, 3, 0);
    CHECK(echo.listener >= 0);
    CHECK(fibril_spawn(accept_all, NULL, NULL, &server) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        struct fibril_spawn_opts opts = either_stack();
        echo.clients[i].number = i;
        CHECK(fibril_spawn(call, &echo.clients[i], &opts, &clients[i]) == 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        CHECK(fibril_join(clients[i], FIBRIL_FOREVER, NULL) == 0);
    }
    CHECK(fibril_close(echo.listener) == 0);
    CHECK(fibril_join(server, FIBRIL_FOREVER, NULL) == 0);
    *(uint64_t *)arg = fibril__sim_hash(fibril_loop_current()->poller);
    return 0;
}

static uint64_t run_echo(uint64_t seed)
{
    static char text[24];
    uint64_t hash = 0;
    memset(&echo, 0, sizeof echo);
    echo.random = seed;
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    seed_text = text;
    struct fibril_opts opts = {.poller = "sim", .seed = seed};
    ASSERT_OK(fibril_run(&opts, echo_main, &hash));
    return hash;
}

TEST_WITHIN(every_byte_arrives_or_the_connection_shows_an_error, 300)
{
    struct fibril__sim_config config;
    char error[320];
    int whole = 0, broken = 0, refused = 0;
    fibril__sim_defaults(&config);
    ASSERT_OK(fibril__sim_parse("loss=0.01,reset=0.002,refuse=0.2,partial=0.3,buffer=4000", &config,
                                error, sizeof error));
    fibril__sim_configure(&config);
    uint64_t n = test_is_long() ? 500 : test_is_slow() ? 15 : 60;
    for (uint64_t seed = 1; seed <= n; seed++) {
        uint64_t hash = run_echo(seed);
        whole += echo.whole;
        broken += echo.broken;
        refused += echo.refused;
        CHECK(hash == run_echo(seed));
    }
    fprintf(stderr, "%d whole, %d broken, %d refused\n", whole, broken, refused);
    ASSERT_GT(whole, (int)n);
    ASSERT_GT(broken, (int)n / 4);
    ASSERT_GT(refused, (int)n / 4);
}

/* ---- deadlines ----------------------------------------------------------- */

enum { NUMBERS = 500 };

static int send_numbers(void *arg)
{
    int fd = *(int *)arg;
    for (int i = 0; i < NUMBERS; i++) {
        ASSERT_OK(fibril_sleep((int64_t)below(300000)));
        ASSERT_EQ(fibril_write_all(fd, &i, sizeof i, FIBRIL_FOREVER), sizeof i);
    }
    return 0;
}

/* Each wait is so short that most give up, many in the very moment in which a number comes. */
static int receive_numbers(void *arg)
{
    int fds[2], next = 0, timeouts = 0;
    (void)arg;
    ASSERT_OK(fibril_pipe(fds));
    ASSERT_OK(fibril_spawn(send_numbers, &fds[1], NULL, NULL));
    while (next < NUMBERS) {
        int got;
        int64_t deadline_ns = fibril_after((int64_t)below(20000));
        ssize_t n = fibril_read(fds[0], &got, sizeof got, deadline_ns);
        if (n == -ETIMEDOUT) {
            ASSERT_GE(fibril_now(), deadline_ns);
            timeouts++;
            continue;
        }
        ASSERT_EQ(n, sizeof got);
        ASSERT_EQ(got, next);
        next++;
    }
    ASSERT_GT(timeouts, NUMBERS);
    ASSERT_OK(fibril_close(fds[0]));
    return fibril_close(fds[1]);
}

TEST(a_wait_that_gives_up_loses_nothing)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fibril_opts opts = {.poller = "sim", .seed = seed};
        echo.random = seed;
        ASSERT_OK(fibril_run(&opts, receive_numbers, NULL));
    }
}

/* ---- closing ------------------------------------------------------------- */

static int reads_until_closed(void *arg)
{
    char byte;
    return (int)fibril_read(*(int *)arg, &byte, 1, FIBRIL_FOREVER);
}

static int close_under_reader(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        int old[2], new[2], result = 0;
        struct fibril *reader;
        struct fibril_spawn_opts opts = either_stack();
        ASSERT_OK(fibril_pipe(old));
        int number = old[0];
        ASSERT_OK(fibril_spawn(reads_until_closed, &number, &opts, &reader));
        ASSERT_OK(fibril_sleep(1000000));
        ASSERT_OK(fibril_close(old[0]));
        ASSERT_OK(fibril_pipe(new));
        ASSERT_EQ(new[0], old[0]); /* the number is somebody else's now */
        ASSERT_EQ(fibril_write(new[1], "x", 1, FIBRIL_FOREVER), 1);
        ASSERT_OK(fibril_join(reader, FIBRIL_FOREVER, &result));
        ASSERT_EQ(result, -EBADF);
        ASSERT_OK(fibril_close(old[1]));
        ASSERT_OK(fibril_close(new[0]));
        ASSERT_OK(fibril_close(new[1]));
    }
    return 0;
}

TEST(closing_ends_the_waits_before_the_number_is_used_again)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 5};
    ASSERT_OK(fibril_run(&opts, close_under_reader, NULL));
}

/* ---- time ---------------------------------------------------------------- */

static int answer_slowly(void *arg)
{
    int *fds = arg;
    char byte;
    while (fibril_read(fds[0], &byte, 1, FIBRIL_FOREVER) == 1) {
        ASSERT_OK(fibril_sleep(HOUR));
        ASSERT_EQ(fibril_write(fds[1], &byte, 1, FIBRIL_FOREVER), 1);
    }
    return 0;
}

static int ask_for_weeks(void *arg)
{
    int there[2], back[2];
    char byte = 0;
    (void)arg;
    ASSERT_OK(fibril_pipe(there));
    ASSERT_OK(fibril_pipe(back));
    int fds[2] = {there[0], back[1]};
    int64_t start = fibril_now();
    ASSERT_OK(fibril_spawn(answer_slowly, fds, NULL, NULL));
    for (int i = 0; i < 1000; i++) {
        ASSERT_EQ(fibril_write(there[1], &byte, 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(fibril_read(back[0], &byte, 1, fibril_after(2 * HOUR)), 1);
    }
    ASSERT_GE(fibril_now(), start + 1000 * HOUR);
    ASSERT_LT(fibril_now(), start + 1000 * HOUR + SECOND);
    return fibril_close(there[1]);
}

TEST_WITHIN(weeks_pass_at_once, 10)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 3};
    ASSERT_OK(fibril_run(&opts, ask_for_weeks, NULL));
}

static int spin_until(void *arg)
{
    int64_t *until = arg;
    while (fibril_now() < *until) {
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

static int spin_beside_a_sleeper(void *arg)
{
    int64_t until = fibril_after(1000000);
    struct fibril *spinner;
    (void)arg;
    ASSERT_OK(fibril_spawn(spin_until, &until, NULL, &spinner));
    ASSERT_OK(fibril_sleep_until(until));
    return fibril_join(spinner, FIBRIL_FOREVER, NULL);
}

TEST(time_passes_for_those_who_never_wait)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 3};
    ASSERT_OK(fibril_run(&opts, spin_beside_a_sleeper, NULL));
}

static int really_wait(void *arg)
{
    struct timespec t = {.tv_nsec = 5000000};
    nanosleep(&t, NULL);
    return *(int *)arg;
}

static int nap(void *arg)
{
    (void)arg;
    return fibril_sleep(HOUR);
}

static int offload_beside_a_sleeper(void *arg)
{
    static int answer = 7;
    int64_t start = fibril_now();
    (void)arg;
    ASSERT_OK(fibril_spawn(nap, NULL, NULL, NULL));
    ASSERT_EQ(fibril_offload(really_wait, &answer, FIBRIL_FOREVER), 7);
    ASSERT_LT(fibril_now(), start + SECOND);
    return 0;
}

TEST(no_virtual_time_passes_while_an_offloaded_call_runs)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 3};
    ASSERT_OK(fibril_run(&opts, offload_beside_a_sleeper, NULL));
}

/* ---- deadlock ------------------------------------------------------------ */

static int reads_what_nobody_writes(void *arg)
{
    int fds[2];
    char byte;
    (void)arg;
    ASSERT_OK(fibril_pipe(fds));
    return (int)fibril_read(fds[0], &byte, 1, FIBRIL_FOREVER);
}

TEST(a_read_that_nothing_can_end_is_a_deadlock)
{
    struct fibril_opts opts = {.poller = "sim", .seed = 3};
    EXPECT_ABORT(fibril_run(&opts, reads_what_nobody_writes, NULL), "deadlock");
}

/* ---- datagrams ----------------------------------------------------------- */

enum { DATAGRAMS = 300 };

static int count_datagrams(void *arg)
{
    struct fibril_addr addr, from;
    uint8_t seen[DATAGRAMS] = {0};
    uint32_t data[8];
    int got = 0;
    (void)arg;
    ASSERT_OK(fibril_addr_parse("127.0.0.1:9", &addr));
    int fd = fibril_udp(&addr), to = fibril_udp(NULL);
    ASSERT_OK(fd);
    ASSERT_OK(to);
    for (uint32_t i = 0; i < DATAGRAMS; i++) {
        uint32_t out[8] = {i, i, i, i, i, i, i, i};
        ASSERT_EQ(fibril_sendto(to, out, sizeof out, &addr, FIBRIL_FOREVER), sizeof out);
    }
    for (;;) {
        ssize_t n = fibril_recvfrom(fd, data, sizeof data, &from, fibril_after(SECOND));
        if (n == -ETIMEDOUT) {
            break;
        }
        ASSERT_EQ(n, sizeof data);
        ASSERT(data[0] < DATAGRAMS && data[0] == data[7] && !seen[data[0]]);
        seen[data[0]] = 1;
        got++;
    }
    ASSERT(got > DATAGRAMS / 2 && got < DATAGRAMS);
    ASSERT_OK(fibril_close(fd));
    return fibril_close(to);
}

TEST(datagrams_come_whole_and_once_or_not_at_all)
{
    setenv("FIBRIL_SIM", "loss=0.2,reorder=0.3", 1);
    struct fibril_opts opts = {.poller = "sim", .seed = 3};
    ASSERT_OK(fibril_run(&opts, count_datagrams, NULL));
}
