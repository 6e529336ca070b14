/* SPDX-License-Identifier: MIT */
/*
 * fibril's side of the actor benchmarks: the same work as peers/erlang_peer.erl does.
 *
 *     actor ping|ping2|link|idle|many|selective|restart [N] [--stack own|copied] [--poller NAME]
 */
#include "options.h"

#include "measure.h"

#include <fibril/supervisor.h>

#include <limits.h>

enum {
    PING = 1,
    STOP,
    WANTED,
    OTHERS = 100000, /* messages that wait while others are chosen */
    SENDERS = 1000,
};

static struct options options;
static long n, arrived;
static uint64_t first;

static uint64_t spawn_at(fibril_fn *fn, void *arg, bool link, struct fibril_loop *loop)
{
    struct fibril_actor_opts o = {.stack = options.stack, .link = link, .loop = loop};
    uint64_t actor;
    must(fibril_actor_spawn(fn, arg, &o, &actor), "fibril_actor_spawn");
    return actor;
}

static void send_note(uint64_t to, uint64_t tag, uint64_t value)
{
    struct fibril_message *m;
    must(fibril_message_of(tag, &value, sizeof value, &m), "fibril_message_of");
    must(fibril_actor_send(to, m, FIBRIL_FOREVER), "fibril_actor_send");
}

/* Answers with a new message each time, as Erlang does. */
static int echo(void *arg)
{
    struct fibril_message *m;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        uint64_t from = *(uint64_t *)fibril_message_data(m);
        bool stop = fibril_message_tag(m) == STOP;
        fibril_message_free(m);
        if (stop) {
            break;
        }
        send_note(from, PING, from);
    }
    return 0;
}

static void ping(struct fibril_loop *loop)
{
    uint64_t self = fibril_actor_self(), other = spawn_at(echo, NULL, false, loop);
    int64_t cpu = cpu_ns(), wall = wall_ns();
    for (long i = 0; i < n; i++) {
        struct fibril_message *m;
        send_note(other, PING, self);
        must(fibril_actor_receive(FIBRIL_FOREVER, &m), "fibril_actor_receive");
        fibril_message_free(m);
    }
    wall = wall_ns() - wall;
    cpu = cpu_ns() - cpu;
    send_note(other, STOP, self);
    if (loop) {
        row("round trip, wall", "ns", (double)wall / (double)n);
    }
    row(loop ? "round trip, processor" : "round trip", "ns", (double)cpu / (double)n);
}

static void bench_ping(void)
{
    ping(NULL);
}

static void bench_ping2(void)
{
    ping(fibril_loop_at(1));
}

static int ends(void *arg)
{
    arrived++;
    return 0;
}

static void bench_link(void)
{
    struct fibril_message *m;
    fibril_actor_trap_exits(true);
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        spawn_at(ends, NULL, true, NULL);
        must(fibril_actor_receive(FIBRIL_FOREVER, &m), "fibril_actor_receive");
        fibril_message_free(m);
    }
    row("spawn, exit", "ns", (double)(cpu_ns() - start) / (double)arrived);
}

static int idle(void *arg)
{
    struct fibril_message *m;
    arrived++;
    return fibril_actor_receive(FIBRIL_FOREVER, &m);
}

static void bench_idle(void)
{
    fibril_actor_self();
    int64_t before = memory_bytes(0);
    for (long i = 0; i < n; i++) {
        spawn_at(idle, NULL, false, NULL);
    }
    while (arrived < n) {
        fibril_yield();
    }
    row_at(n, "bytes", (double)(memory_bytes(0) - before) / (double)n);
}

static int sender(void *arg)
{
    for (long i = 0; i < n / SENDERS; i++) {
        send_note(first, PING, 0);
    }
    return 0;
}

static void bench_many(void)
{
    struct fibril_message *m;
    first = fibril_actor_self();
    int64_t start = cpu_ns();
    for (int i = 0; i < SENDERS; i++) {
        spawn_at(sender, NULL, false, NULL);
    }
    for (long i = 0; i < n / SENDERS * SENDERS; i++) {
        must(fibril_actor_receive(FIBRIL_FOREVER, &m), "fibril_actor_receive");
        fibril_message_free(m);
    }
    row("1000 senders", "ns", (double)(cpu_ns() - start) / (double)n);
}

static double choose(void)
{
    uint64_t self = fibril_actor_self();
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        struct fibril_message *m;
        send_note(self, WANTED, 0);
        must(fibril_actor_receive_tag(WANTED, FIBRIL_FOREVER, &m), "fibril_actor_receive_tag");
        fibril_message_free(m);
    }
    return (double)(cpu_ns() - start) / (double)n;
}

static void bench_selective(void)
{
    struct fibril_mailbox large = {.messages = 2 * OTHERS};
    must(fibril_actor_set_mailbox(&large), "fibril_actor_set_mailbox");
    choose();
    double alone = choose();
    for (int i = 0; i < OTHERS; i++) {
        send_note(fibril_actor_self(), PING, 0);
    }
    double among = choose();
    row("none waiting", "ns", alone);
    row("100000 waiting", "ns", among);
    row("100000 to none", "x", among / alone);
}

/* n children under one supervisor, killed and started again ten times over. */
static void bench_restart(void)
{
    enum { ROUNDS = 10 };
    static const struct fibril_child_spec pattern[] = {{.fn = idle}};
    struct fibril_supervisor_spec spec = {
        .strategy = FIBRIL_SIMPLE, .intensity = UINT_MAX, .children = pattern, .n_children = 1};
    struct fibril_child *now = calloc((size_t)n, sizeof *now);
    uint64_t supervisor, child;
    size_t count;
    must(fibril_supervisor_start(&spec, NULL, &supervisor), "fibril_supervisor_start");
    for (long i = 0; i < n; i++) {
        must(fibril_supervisor_add(supervisor, NULL, NULL, FIBRIL_FOREVER, &child), "add");
    }
    fibril_yield();
    int64_t ns = 0;
    for (int r = 0; r < ROUNDS; r++) {
        must(fibril_supervisor_children(supervisor, now, (size_t)n, FIBRIL_FOREVER, &count),
             "list");
        arrived = 0;
        int64_t start = cpu_ns();
        for (size_t i = 0; i < count; i++) {
            must(fibril_actor_exit(now[i].actor, FIBRIL_EXIT_KILL), "fibril_actor_exit");
        }
        while (arrived < n) {
            fibril_yield();
        }
        ns += cpu_ns() - start;
    }
    row("kill, restart", "us", (double)ns / 1000 / ROUNDS / (double)n);
    free(now);
}

static void ignore(const struct fibril_actor_report *report)
{
}

static const struct bench {
    const char *name;
    void (*run)(void);
    long n; /* unless the command line gives one */
} benches[] = {
    {"ping", bench_ping, 5000000},     {"ping2", bench_ping2, 300000},
    {"link", bench_link, 3000000},     {"idle", bench_idle, 100000},
    {"many", bench_many, 5000000},     {"selective", bench_selective, 3000000},
    {"restart", bench_restart, 10000},
};

static int run(void *arg)
{
    ((const struct bench *)arg)->run();
    return 0;
}

int main(int argc, char **argv)
{
    options = parse_options(argc, argv);
    fibril_actor_on_trouble(ignore); /* thousands are killed */
    for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++) {
        struct bench b = benches[i];
        if (options.n_args && !strcmp(options.args[0], b.name)) {
            n = options.n_args > 1 ? strtol(options.args[1], NULL, 10) : b.n;
            struct fibril_opts o = {.poller = options.poller,
                                    .loops = b.run == bench_ping2 ? 2 : 1};
            must(fibril_run(&o, run, &b), "fibril_run");
            return 0;
        }
    }
    fprintf(stderr, "usage: actor ping|ping2|link|idle|many|selective|restart [N] "
                    "[--stack own|copied] [--poller NAME]\n");
    return 2;
}
