/* SPDX-License-Identifier: MIT */
/*
 * fibril's side of the micro benchmarks: the same work as each program in peers/ does, through the
 * public API alone, on own or on copied stacks.
 *
 *     micro switch|spawn|channel|parked|sleepers|growth|loops [N] [--stack own|copied] [--poller
 *     NAME]
 *
 * What fibrils share is static, never on a stack: a copied stack is not there while its fibril is
 * parked.
 */
#include "options.h"

#include "measure.h"

enum {
    LIVE_BYTES = 200, /* kept alive across each switch, so that a copied stack has something to copy
                       */
    LOOP_FIBRILS = 1000,    /* of each loop in `loops` */
    LOOP_YIELDS = 50000,    /* of each of them */
    GROWTH_TURNS = 4000000, /* turns in all in `growth` */
};

static struct options options;
static long n, done, parked;
static bool stop;
static struct fibril_event *gate;
static struct fibril_group *all;
static struct fibril_chan *there, *back;

static struct fibril *spawn(fibril_fn *fn)
{
    struct fibril_spawn_opts o = {.stack = options.stack};
    struct fibril *f;

    must(fibril_spawn(fn, NULL, &o, &f), "fibril_spawn");
    return f;
}

static void spawn_many(fibril_fn *fn, long count)
{
    struct fibril_spawn_opts o = {.stack = options.stack};

    for (long i = 0; i < count; i++) {
        must(fibril_spawn(fn, NULL, &o, NULL), "fibril_spawn");
    }
}

static void join(struct fibril *f)
{
    must(fibril_join(f, FIBRIL_FOREVER, NULL), "fibril_join");
}

static int yield_half(void *arg)
{
    volatile char live[LIVE_BYTES];

    live[0] = live[LIVE_BYTES - 1] = 1;
    for (long i = 0; i < n / 2; i++) {
        fibril_yield();
    }
    return live[0] - live[LIVE_BYTES - 1];
}

static void bench_switch(void)
{
    int64_t start = cpu_ns();
    struct fibril *a = spawn(yield_half), *b = spawn(yield_half);

    join(a);
    join(b);
    row("yield", "ns", (double)(cpu_ns() - start) / (double)n);
}

static int count(void *arg)
{
    done++;
    return 0;
}

static void bench_spawn(void)
{
    int64_t start = cpu_ns();

    for (long i = 0; i < n; i++) {
        join(spawn(count));
    }
    row("join", "ns", (double)(cpu_ns() - start) / (double)done);
}

static int echo(void *arg)
{
    long v;

    while (fibril_chan_recv(there, &v, FIBRIL_FOREVER) == 0) {
        v++;
        fibril_chan_send(back, &v, FIBRIL_FOREVER);
    }
    return 0;
}

static int ping(void *arg)
{
    long v = 0;

    for (long i = 0; i < n; i++) {
        fibril_chan_send(there, &v, FIBRIL_FOREVER);
        fibril_chan_recv(back, &v, FIBRIL_FOREVER);
    }
    done = v;
    return 0;
}

static void bench_channel(void)
{
    must(fibril_chan_new(sizeof(long), 0, 0, &there), "fibril_chan_new");
    must(fibril_chan_new(sizeof(long), 0, 0, &back), "fibril_chan_new");
    struct fibril *other = spawn(echo);
    int64_t start = cpu_ns();
    join(spawn(ping));
    int64_t ns = cpu_ns() - start;
    fibril_chan_close(there);
    join(other);
    fibril_chan_free(there);
    fibril_chan_free(back);
    if (done == n) {
        row("round trip", "ns", (double)ns / (double)n);
    }
}

static int park(void *arg)
{
    parked++;
    return fibril_event_wait(gate, FIBRIL_FOREVER);
}

/* Lets `count` fibrils run until all of them are parked. */
static void wait_until_parked(long count_all)
{
    while (parked < count_all) {
        fibril_yield();
    }
}

static void bench_parked(void)
{
    must(fibril_event_new(0, &gate), "fibril_event_new");
    int64_t before = memory_bytes(0);
    spawn_many(park, n);
    wait_until_parked(n);
    row_at(n, "bytes", (double)(memory_bytes(0) - before) / (double)n);
    fibril_event_set(gate);
}

static uint64_t seed = 1;

static int sleeper(void *arg)
{
    park(NULL);
    for (int r = 0; r < SLEEP_ROUNDS; r++) {
        must(fibril_sleep(next_sleep_ms(&seed) * 1000000), "fibril_sleep");
    }
    return fibril_group_done(all);
}

static void bench_sleepers(void)
{
    must(fibril_event_new(0, &gate), "fibril_event_new");
    must(fibril_group_new(0, &all), "fibril_group_new");
    must(fibril_group_add(all, (int)n), "fibril_group_add");
    spawn_many(sleeper, n);
    wait_until_parked(n);
    int64_t start = cpu_ns();
    fibril_event_set(gate);
    must(fibril_group_wait(all, FIBRIL_FOREVER), "fibril_group_wait");
    row_at(n, "ns", (double)(cpu_ns() - start) / (double)(n * SLEEP_ROUNDS));
}

static int yield_on(void *arg)
{
    while (!stop) {
        fibril_yield();
        done++;
    }
    return 0;
}

static void bench_growth(void)
{
    spawn_many(yield_on, n);
    fibril_yield();
    done = 0;
    int64_t start = cpu_ns();
    while (done < GROWTH_TURNS) {
        fibril_yield();
    }
    row_at(n, "ns", (double)(cpu_ns() - start) / (double)done);
    stop = true;
}

static int yield_some(void *arg)
{
    fibril_event_wait(gate, FIBRIL_FOREVER);
    for (int i = 0; i < LOOP_YIELDS; i++) {
        fibril_yield();
    }
    return fibril_group_done(all);
}

/* The same work on each of n loops: what a yield costs over all of them, by the clock on the wall
 * and in processor time. Other work on the machine moves the first one much more. */
static void bench_loops(void)
{
    double yields = (double)n * LOOP_FIBRILS * LOOP_YIELDS;
    char what[64];

    must(fibril_event_new(FIBRIL_SHARED, &gate), "fibril_event_new");
    must(fibril_group_new(FIBRIL_SHARED, &all), "fibril_group_new");
    must(fibril_group_add(all, (int)n * LOOP_FIBRILS), "fibril_group_add");
    for (unsigned i = 0; i < (unsigned)n * LOOP_FIBRILS; i++) {
        struct fibril_loop *loop = fibril_loop_at(i % (unsigned)n);
        struct fibril_spawn_opts o = {.stack = options.stack, .loop = loop};
        must(fibril_spawn(yield_some, NULL, &o, NULL), "fibril_spawn");
    }
    must(fibril_sleep(100000000), "fibril_sleep"); /* all loops have theirs at the gate */
    int64_t wall = wall_ns(), cpu = cpu_ns();
    fibril_event_set(gate);
    must(fibril_group_wait(all, FIBRIL_FOREVER), "fibril_group_wait");
    wall = wall_ns() - wall;
    cpu = cpu_ns() - cpu;
    snprintf(what, sizeof(what), "loops: %ld, wall", n);
    row(what, "ns", (double)wall / yields);
    snprintf(what, sizeof(what), "loops: %ld, processor", n);
    row(what, "ns", (double)cpu / yields);
}

static const struct bench {
    const char *name;
    void (*run)(void);
    long n; /* unless the command line gives one */
} benches[] = {
    {"switch", bench_switch, 20000000},
    {"spawn", bench_spawn, 5000000},
    {"channel", bench_channel, 5000000},
    {"parked", bench_parked, 100000},
    {"sleepers", bench_sleepers, 100000},
    {"growth", bench_growth, 1000},
    {"loops", bench_loops, 1},
};

static int run(void *arg)
{
    ((const struct bench *)arg)->run();
    return 0;
}

int main(int argc, char **argv)
{
    options = parse_options(argc, argv);
    for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++) {
        struct bench b = benches[i];
        if (options.n_args && !strcmp(options.args[0], b.name)) {
            n = options.n_args > 1 ? strtol(options.args[1], NULL, 10) : b.n;
            bool loops = b.run == bench_loops;
            struct fibril_opts o = {
                .poller = options.poller, .loops = loops ? (unsigned)n : 1, .pin = loops};
            must(fibril_run(&o, run, &b), "fibril_run");
            return 0;
        }
    }
    fprintf(
        stderr,
        "usage: micro switch|spawn|channel|parked|sleepers|growth|loops [N] [--stack own|copied] "
        "[--poller NAME]\n");
    return 2;
}
