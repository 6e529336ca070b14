/* SPDX-License-Identifier: MIT */
/*
 * State Threads 1.9, as Debian packages it, with its default stacks (64 KiB). It has no yield of
 * its own: st_usleep(0) goes through the sleep queue and the event loop, so `switch` has a second
 * case where two threads wake each other by conditions. It has no channels either: `channel` is a
 * pair of conditions.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <st.h>

#include "../measure.h"

static int stop;
static long done, parked;

static void *yielder(void *arg)
{
    while (!stop) {
        st_usleep(0);
        done++;
    }
    return arg;
}

static st_cond_t there, back;

static void *signaller(void *arg)
{
    while (!stop) {
        st_cond_wait(there);
        st_cond_signal(back);
    }
    return arg;
}

static void bench_condition(long n)
{
    there = st_cond_new();
    back = st_cond_new();
    st_thread_create(signaller, NULL, 0, 0);
    st_usleep(0);
    int64_t start = cpu_ns();
    for (long i = 0; i < n / 2; i++) {
        st_cond_signal(there);
        st_cond_wait(back);
    }
    row("condition", "ns", (double)(cpu_ns() - start) / (double)n);
}

static void bench_switch(long n)
{
    st_thread_t other = st_thread_create(yielder, NULL, 1, 0);
    int64_t start = cpu_ns();
    for (long i = 0; i < n / 2; i++) {
        st_usleep(0);
    }
    row("yield", "ns", (double)(cpu_ns() - start) / (double)n);
    stop = 1;
    st_thread_join(other, NULL);
    stop = 0;
    bench_condition(n);
}

static void *count(void *arg)
{
    done++;
    return arg;
}

static void bench_spawn(long n)
{
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        st_thread_join(st_thread_create(count, NULL, 1, 0), NULL);
    }
    row("join", "ns", (double)(cpu_ns() - start) / (double)done);
}

static long slot;

static void *echoer(void *arg)
{
    for (;;) {
        st_cond_wait(there);
        if (stop) {
            return arg;
        }
        slot++;
        st_cond_signal(back);
    }
}

static void bench_channel(long n)
{
    there = st_cond_new();
    back = st_cond_new();
    st_thread_t other = st_thread_create(echoer, NULL, 1, 0);
    st_usleep(0);
    int64_t start = cpu_ns();
    for (long i = 0; i < n; i++) {
        st_cond_signal(there);
        st_cond_wait(back);
    }
    int64_t ns = cpu_ns() - start;
    stop = 1;
    st_cond_signal(there);
    st_thread_join(other, NULL);
    if (slot == n) {
        row("round trip", "ns", (double)ns / (double)n);
    }
}

static void *waiter(void *arg)
{
    parked++;
    st_cond_wait(there);
    return arg;
}

static void bench_parked(long n)
{
    there = st_cond_new();
    int64_t before = memory_bytes(0);
    for (long i = 0; i < n; i++) {
        if (!st_thread_create(waiter, NULL, 0, 0)) {
            perror("st_thread_create");
            exit(1);
        }
    }
    while (parked < n) {
        st_usleep(0);
    }
    row_at(n, "bytes", (double)(memory_bytes(0) - before) / (double)n);
}

static uint64_t seed = 1;

static void *sleeper(void *arg)
{
    parked++;
    st_cond_wait(there);
    for (int r = 0; r < SLEEP_ROUNDS; r++) {
        st_usleep((st_utime_t)next_sleep_ms(&seed) * 1000);
    }
    done++;
    return arg;
}

static void bench_sleepers(long n)
{
    there = st_cond_new();
    for (long i = 0; i < n; i++) {
        st_thread_create(sleeper, NULL, 0, 0);
    }
    while (parked < n) {
        st_usleep(0);
    }
    int64_t start = cpu_ns();
    st_cond_broadcast(there);
    while (done < n) {
        st_usleep(50000);
    }
    row_at(n, "ns", (double)(cpu_ns() - start) / (double)(n * SLEEP_ROUNDS));
}

/* n threads that all yield, `turns` turns in all. */
static void bench_growth(long n, long turns)
{
    for (long i = 0; i < n; i++) {
        if (!st_thread_create(yielder, NULL, 0, 0)) {
            perror("st_thread_create");
            exit(1);
        }
    }
    st_usleep(0);
    done = 0;
    int64_t start = cpu_ns();
    while (done < turns) {
        st_usleep(0);
    }
    row_at(n, "ns", (double)(cpu_ns() - start) / (double)done);
}

static void *serve(void *arg)
{
    st_netfd_t fd = arg;
    char buf[4096];
    ssize_t n;
    while ((n = st_read(fd, buf, sizeof(buf), ST_UTIME_NO_TIMEOUT)) > 0) {
        if (st_write(fd, buf, (size_t)n, ST_UTIME_NO_TIMEOUT) != n) {
            break;
        }
    }
    st_netfd_close(fd);
    return NULL;
}

static int bench_echo(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (bind(fd, (struct sockaddr *)&a, len) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&a, &len)) {
        perror("listen");
        return 1;
    }
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    st_netfd_t listener = st_netfd_open_socket(fd), c;
    while ((c = st_accept(listener, NULL, NULL, ST_UTIME_NO_TIMEOUT))) {
        setsockopt(st_netfd_fileno(c), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        st_thread_create(serve, c, 0, 0);
    }
    return 1;
}

int main(int argc, char **argv)
{
    const char *bench = argc > 1 ? argv[1] : "";
    st_set_eventsys(ST_EVENTSYS_ALT);
    st_init();
    if (!strcmp(bench, "switch")) {
        bench_switch(count_arg(argc, argv, 10000000));
    } else if (!strcmp(bench, "spawn")) {
        bench_spawn(count_arg(argc, argv, 2000000));
    } else if (!strcmp(bench, "channel")) {
        bench_channel(count_arg(argc, argv, 5000000));
    } else if (!strcmp(bench, "parked")) {
        bench_parked(count_arg(argc, argv, 100000));
    } else if (!strcmp(bench, "sleepers")) {
        bench_sleepers(count_arg(argc, argv, 100000));
    } else if (!strcmp(bench, "growth")) {
        bench_growth(count_arg(argc, argv, 1000), 4000000);
    } else if (!strcmp(bench, "echo")) {
        return bench_echo();
    } else {
        fprintf(stderr, "usage: st switch|spawn|channel|parked|sleepers|growth|echo [N]\n");
        return 2;
    }
    return 0;
}
