/* SPDX-License-Identifier: MIT */
/*
 * Many slow requests at once: C keep-alive connections, and in every round one GET /slow?ms=M on
 * each of them. Prints how many requests were lost (no answer, or not a complete 200), the median
 * seconds of a round, and how much the server's memory (resident pages and page tables) had grown:
 *   - per idle connection, when each has been answered one quick request (ms=0), one by one;
 *   - per request in flight, halfway through a round, the connection included;
 *   - per connection, kept a second after the last round: what it holds back for the next rush.
 *
 *     slow PORT CONNECTIONS ROUNDS MILLISECONDS PID-OF-SERVER
 *
 * A lost connection is opened again for the next round: a server that drops requests is charged
 * with each of them once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

struct conn {
    int fd;
    int got;         /* bytes of the answer in text */
    int left;        /* bytes of the body still to come, -1 while the head is incomplete */
    int busy;        /* this round's answer is not complete yet */
    char text[1000]; /* the head; must fit */
};

static struct conn *conns;
static int count, port, ep, open_requests;
static long lost;
static char request[128];
static size_t request_bytes;

static void set_request(int ms)
{
    request_bytes = (size_t)snprintf(request, sizeof(request),
                                     "GET /slow?ms=%d HTTP/1.1\r\nHost: localhost\r\n\r\n", ms);
}

static void drop(struct conn *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd = -1;
    if (c->busy) {
        c->busy = 0;
        open_requests--;
        lost++;
    }
}

static int open_conn(struct conn *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) || epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev)) {
        perror("connect");
        return -1;
    }
    return 0;
}

/* Returns the body's length that a complete head in c->text announces, -1 if it is incomplete, -2
 * if it is no 200 with a Content-Length. *ret_head is the length of the head. */
static int parse_head(struct conn *c, int *ret_head)
{
    char *end, *length;

    c->text[c->got] = 0;
    end = strstr(c->text, "\r\n\r\n");
    if (!end) {
        return c->got == (int)sizeof(c->text) - 1 ? -2 : -1;
    }
    *ret_head = (int)(end + 4 - c->text);
    length = strcasestr(c->text, "\r\nContent-Length:");
    if (strncmp(c->text, "HTTP/1.1 200 ", 13) || !length || length > end) {
        return -2;
    }
    return atoi(length + 17);
}

static void answered(struct conn *c)
{
    c->busy = 0;
    open_requests--;
}

static void receive(struct conn *c)
{
    char body[4096];
    int head = 0;
    ssize_t n;

    if (c->left >= 0) {
        n = recv(c->fd, body, sizeof(body), 0);
        if (n > 0) {
            c->left = n <= c->left ? c->left - (int)n : -2;
        }
    } else {
        n = recv(c->fd, c->text + c->got, sizeof(c->text) - 1 - (size_t)c->got, 0);
        if (n > 0) {
            c->got += (int)n;
            c->left = parse_head(c, &head);
            if (c->left >= 0) {
                c->left = c->got - head <= c->left ? c->left - (c->got - head) : -2;
            }
        }
    }
    if (n == 0 || (n < 0 && errno != EAGAIN) || c->left == -2 || (n > 0 && !c->busy)) {
        drop(c);
    } else if (c->busy && c->left == 0) {
        answered(c);
    }
}

static void send_one(struct conn *c)
{
    if (c->fd < 0 && open_conn(c)) {
        lost++;
        return;
    }
    c->busy = 1;
    c->got = 0;
    c->left = -1;
    open_requests++;
    if (send(c->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes) {
        drop(c);
    }
}

/* Receives what there is, waiting for it up to 10 ms. */
static void poll_once(void)
{
    struct epoll_event events[1024];
    int n = epoll_wait(ep, events, 1024, 10);

    for (int i = 0; i < n; i++) {
        receive(events[i].data.ptr);
    }
}

/* One quick request on each connection, one after the other. */
static void touch_all(void)
{
    set_request(0);
    for (int i = 0; i < count; i++) {
        int64_t end = wall_ns() + 10000000000;
        send_one(&conns[i]);
        while (conns[i].busy && wall_ns() < end) {
            poll_once();
        }
        if (conns[i].busy) {
            drop(&conns[i]);
        }
    }
}

/* One round. Stores the server's memory as it is when half of the wait is over. Returns seconds. */
static double run_round(int ms, int pid, int64_t *ret_peak)
{
    int64_t start = wall_ns(), half, end = start + 30000000000 + (int64_t)ms * 1000000;

    *ret_peak = 0;
    for (int i = 0; i < count; i++) {
        send_one(&conns[i]);
    }
    half = wall_ns() + (int64_t)ms * 500000;
    while (open_requests && wall_ns() < end) {
        poll_once();
        if (!*ret_peak && wall_ns() >= half) {
            *ret_peak = memory_bytes(pid);
        }
    }
    for (int i = 0; i < count; i++) {
        if (conns[i].busy) {
            drop(&conns[i]);
        }
    }
    return (double)(wall_ns() - start) / 1e9;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    enum { ROUNDS_MAX = 100 };
    double seconds[ROUNDS_MAX];
    int64_t base, idle, peak = 0, most = 0;

    if (argc != 6) {
        fprintf(stderr, "usage: slow PORT CONNECTIONS ROUNDS MILLISECONDS PID-OF-SERVER\n");
        return 2;
    }
    port = atoi(argv[1]);
    count = atoi(argv[2]);
    int rounds = atoi(argv[3]), ms = atoi(argv[4]), pid = atoi(argv[5]);
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    conns = calloc((size_t)count, sizeof(*conns));
    ep = epoll_create1(EPOLL_CLOEXEC);
    base = memory_bytes(pid);
    if (!conns || ep < 0 || base < 0 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "slow: no such process, or bad counts\n");
        return 1;
    }
    for (int i = 0; i < count; i++) {
        if (open_conn(&conns[i])) {
            return 1;
        }
    }
    touch_all();
    idle = memory_bytes(pid);
    set_request(ms);
    for (int r = 0; r < rounds; r++) {
        seconds[r] = run_round(ms, pid, &peak);
        most = peak > most ? peak : most;
    }
    sleep(1);
    row("requests lost", "count", (double)lost);
    qsort(seconds, (size_t)rounds, sizeof(*seconds), by_size);
    row("one round", "s", seconds[rounds / 2]);
    row("memory per request", "bytes", (double)(most - base) / count);
    row("memory per idle connection", "bytes", (double)(idle - base) / count);
    row("memory kept after the rush", "bytes", (double)(memory_bytes(pid) - base) / count);
    return 0;
}
