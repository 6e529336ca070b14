/* SPDX-License-Identifier: MIT */
/*
 * Connecting to slow, dead and several addresses. A black hole is a listener on loopback whose
 * backlog is full: it drops what asks for a connection, so nothing leaves the machine. getaddrinfo
 * is replaced in this program for the host "two.test", which gives the addresses that a test has
 * set.
 */
#include "io_test.h"

#include "sched/current.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- names with chosen addresses ------------------------------------------------------------- */

static struct fibril_addr answers[4];
static int n_answers;

typedef int gai(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static gai *real(void)
{
    return (gai *)(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
}

static struct addrinfo *numeric(const struct fibril_addr *addr)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char host[64], service[16];
    int rc = getnameinfo((const struct sockaddr *)&addr->ss, addr->len, host, sizeof(host), service,
                         sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
    ASSERT_EQ(rc, 0);
    ASSERT_EQ(real()(host, service, &hints, &list), 0);
    return list;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    if (!host || strcmp(host, "two.test") != 0) {
        return real()(host, service, hints, ret_list);
    }
    struct addrinfo **end = ret_list;
    for (int i = 0; i < n_answers; i++) {
        *end = numeric(&answers[i]);
        end = &(*end)->ai_next;
    }
    return n_answers ? 0 : EAI_NONAME;
}

/* ---- black holes ----------------------------------------------------------------------------- */

struct hole {
    int listener, fds[8], n;
    struct fibril_addr addr;
};

static void dig(struct hole *h)
{
    ASSERT_OK(fibril_addr_parse("127.0.0.2:0", &h->addr));
    h->listener = fibril_listen(&h->addr, 1, 0);
    ASSERT_OK(h->listener);
    ASSERT_OK(fibril_addr_local(h->listener, &h->addr));
    int fd;
    while ((fd = fibril_connect(&h->addr, io_in(50))) >= 0) {
        ASSERT_LT(h->n, 8);
        h->fds[h->n++] = fd;
    }
    ASSERT_ERR(fd, -ETIMEDOUT);
}

static void fill_up(struct hole *h)
{
    for (int i = 0; i < h->n; i++) {
        fibril_close(h->fds[i]);
    }
    fibril_close(h->listener);
}

static int connect_to(void *arg)
{
    return fibril_connect(arg, FIBRIL_FOREVER);
}

EACH_STACK(a_connect_into_nothing_times_out_and_is_cancelled)
{
    struct hole *h = calloc(1, sizeof(*h));
    dig(h);
    int before = io_count_fds();
    int64_t deadline = io_in(20);
    ASSERT_ERR(fibril_connect(&h->addr, deadline), -ETIMEDOUT);
    ASSERT_GE(fibril_now(), deadline);
    struct fibril *f = io_start(connect_to, &h->addr);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(io_end(f), -ECANCELED);
    ASSERT_EQ(io_count_fds(), before);
    fill_up(h);
    free(h);
    return 0;
}

static void answer(int n, const struct fibril_addr *a, const struct fibril_addr *b)
{
    answers[0] = *a;
    answers[1] = *b;
    n_answers = n;
}

static void check_peer(int fd, const struct fibril_addr *addr)
{
    struct fibril_addr peer;
    ASSERT_OK(fd);
    ASSERT_OK(fibril_addr_peer(fd, &peer));
    ASSERT_MEM(&peer.ss, &addr->ss, addr->len);
    ASSERT_OK(fibril_close(fd));
}

EACH_STACK(the_second_address_is_tried_while_the_first_is_silent)
{
    struct hole *h = calloc(1, sizeof(*h));
    struct fibril_addr good;
    dig(h);
    int listener = io_listener(&good), before = io_count_fds();
    answer(2, &h->addr, &good);
    int64_t start = fibril_now();
    check_peer(fibril_connect_host("two.test", "1", FIBRIL_FOREVER), &good);
    ASSERT_GE(fibril_now() - start, 250000000); /* not before its turn */
    ASSERT_EQ(io_count_fds(), before);          /* the silent attempt is gone */
    ASSERT_ERR(fibril_connect_host("two.test", "1", io_in(30)), -ETIMEDOUT);
    ASSERT_EQ(io_count_fds(), before);
    fibril_close(listener);
    fill_up(h);
    free(h);
    return 0;
}

EACH_STACK(the_first_address_may_still_win)
{
    struct hole *h = calloc(1, sizeof(*h));
    struct fibril_addr good;
    dig(h);
    int listener = io_listener(&good);
    answer(2, &good, &h->addr);
    check_peer(fibril_connect_host("two.test", "1", FIBRIL_FOREVER), &good);
    fibril_close(listener);
    fill_up(h);
    free(h);
    return 0;
}

EACH_STACK(after_a_refusal_the_next_address_comes_at_once)
{
    struct fibril_addr bad, good;
    int closed = io_listener(&bad), listener = io_listener(&good);
    fibril_close(closed);
    answer(2, &bad, &good);
    uint64_t before = fibril__loop->counters.timeouts;
    check_peer(fibril_connect_host("two.test", "1", FIBRIL_FOREVER), &good);
    ASSERT_EQ(fibril__loop->counters.timeouts, before); /* no stagger has run out */
    answer(2, &bad, &bad);
    ASSERT_ERR(fibril_connect_host("two.test", "1", FIBRIL_FOREVER), -ECONNREFUSED);
    n_answers = 0;
    ASSERT_ERR(fibril_connect_host("two.test", "1", FIBRIL_FOREVER), -ENOENT);
    fibril_close(listener);
    return 0;
}

static int connect_host(void *arg)
{
    (void)arg;
    return fibril_connect_host("two.test", "1", FIBRIL_FOREVER);
}

EACH_STACK(a_cancelled_race_leaves_nothing_behind)
{
    struct hole *h = calloc(1, sizeof(*h));
    dig(h);
    answer(2, &h->addr, &h->addr);
    int before = io_count_fds();
    struct fibril *f = io_start(connect_host, NULL);
    ASSERT_OK(fibril_sleep(300000000)); /* both are on their way */
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(io_end(f), -ECANCELED);
    ASSERT_EQ(io_count_fds(), before);
    fill_up(h);
    free(h);
    return 0;
}

EACH_STACK(a_blocking_socket_is_connected_without_blocking)
{
    struct hole *h = calloc(1, sizeof(*h));
    struct fibril_addr good;
    dig(h);
    int listener = io_listener(&good);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_OK(fibril_connect_fd(fd, &good, FIBRIL_FOREVER));
    check_peer(fd, &good);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_ERR(fibril_connect_fd(fd, &h->addr, io_in(10)), -ETIMEDOUT);
    ASSERT_OK(fibril_close(fd));
    fibril_close(listener);
    fill_up(h);
    free(h);
    return 0;
}
