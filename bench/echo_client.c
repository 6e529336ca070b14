/* SPDX-License-Identifier: MIT */
/*
 * Load for the echo servers: C connections, each with one message of 64 bytes outstanding, for N
 * seconds. Connecting and a warm-up of 0.3 s are outside of what is counted; so is the server's
 * processor time of that while, which the client reads itself from /proc so that both cover the
 * same window. Latencies go into buckets of an eighth of a power of two: the percentiles are exact
 * to 9 %.
 *
 *     echo_client PORT CONNECTIONS SECONDS PID-OF-SERVER
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum { MESSAGE = 64, BUCKETS = 64 * 8 };

struct conn {
    int fd;
    int got; /* bytes of the answer so far */
    int64_t sent_at;
};

static uint64_t buckets[BUCKETS], requests;

static unsigned bucket_of(uint64_t ns)
{
    unsigned log = ns < 8 ? 3 : 63 - (unsigned)__builtin_clzll(ns);
    return log * 8 + (unsigned)(ns >> (log - 3) & 7);
}

/* Microseconds that `share` of the requests took no longer than. */
static double percentile(double share)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += buckets[i];
        if (seen && (double)seen >= share * (double)requests) {
            return (double)((uint64_t)(8 + i % 8 + 1) << (i / 8 - 3)) / 1000;
        }
    }
    return 0;
}

/* User and system time of process pid in seconds, by ticks of 10 ms. */
static double cpu_of(int pid)
{
    char path[64], text[1024];
    unsigned long user = 0, sys = 0;
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(1);
    }
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    char *p = strrchr(text, ')');
    if (!p ||
        sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2) {
        exit(1);
    }
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void send_one(struct conn *c)
{
    static const char message[MESSAGE] = "a message of sixty-four bytes";
    c->got = 0;
    c->sent_at = wall_ns();
    if (send(c->fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
        fail("send");
    }
}

static void open_conn(struct conn *c, int ep, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a))) {
        fail("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev)) {
        fail("epoll_ctl");
    }
}

static void answer(struct conn *c)
{
    char buf[MESSAGE];
    ssize_t n = recv(c->fd, buf, (size_t)(MESSAGE - c->got), 0);

    if (n <= 0) {
        fail("the server closed a connection");
    }
    c->got += (int)n;
    if (c->got == MESSAGE) {
        buckets[bucket_of((uint64_t)(wall_ns() - c->sent_at))]++;
        requests++;
        send_one(c);
    }
}

static void run_until(int ep, int64_t end)
{
    struct epoll_event events[256];

    while (wall_ns() < end) {
        int n = epoll_wait(ep, events, 256, 5000);
        if (n == 0) {
            errno = ETIMEDOUT;
            fail("no answer for five seconds");
        }
        for (int i = 0; i < n; i++) {
            answer(events[i].data.ptr);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: echo_client PORT CONNECTIONS SECONDS PID-OF-SERVER\n");
        return 2;
    }
    int port = atoi(argv[1]), n = atoi(argv[2]), pid = atoi(argv[4]), ep = epoll_create1(0);
    int64_t seconds = (int64_t)(atof(argv[3]) * 1e9);
    struct conn *conns = calloc((size_t)n, sizeof(*conns));

    if (!conns || ep < 0) {
        fail("echo_client");
    }
    for (int i = 0; i < n; i++) {
        open_conn(&conns[i], ep, port);
    }
    for (int i = 0; i < n; i++) {
        send_one(&conns[i]);
    }
    run_until(ep, wall_ns() + 300000000);
    memset(buckets, 0, sizeof(buckets));
    requests = 0;
    double cpu = cpu_of(pid);
    int64_t start = wall_ns();
    run_until(ep, start + seconds);
    cpu = cpu_of(pid) - cpu;
    double wall = (double)(wall_ns() - start) / 1e9;
    printf("{\"requests\": %llu, \"rate\": %.0f, \"us\": %.3f, \"busy\": %.2f, \"p50_us\": %.0f, "
           "\"p99_us\": %.0f}\n",
           (unsigned long long)requests, (double)requests / wall, cpu * 1e6 / (double)requests,
           cpu / wall, percentile(0.50), percentile(0.99));
    return 0;
}
