/* SPDX-License-Identifier: MIT */
/*
 * Names. getaddrinfo is replaced for hosts that end in ".gate": such a lookup stands until the test
 * lets it go on, and is counted; all others go to the C library. No name server is asked.
 */
#include "io_test.h"

#include "io/pool.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int gai(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static sem_t leave;
static _Atomic int entered, left;
static _Atomic int answer; /* what a gated lookup says */

static gai *real(void)
{
    return (gai *)(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    const char *dot = host ? strrchr(host, '.') : NULL;
    if (!dot || strcmp(dot, ".gate") != 0) {
        return real()(host, service, hints, ret_list);
    }
    atomic_fetch_add(&entered, 1);
    while (sem_wait(&leave) != 0) {}
    int rc = atomic_load(&answer);
    atomic_fetch_add(&left, 1);
    if (rc == 0) {
        rc = real()("127.0.0.7", service, hints, ret_list);
    }
    if (rc == 0) {
        rc = real()("::1", service, hints, &(*ret_list)->ai_next);
    }
    return rc;
}

static void wait_entered(int n)
{
    while (atomic_load(&entered) < n) {
        ASSERT_OK(fibril_sleep(100000));
    }
}

static const struct addrinfo stream = {.ai_socktype = SOCK_STREAM};

struct asking {
    char host[32];
    struct addrinfo *list;
    int gai;
};

static int ask(void *arg)
{
    struct asking *a = arg;
    return fibril_resolve(a->host, "80", &stream, &a->list, &a->gai, FIBRIL_FOREVER);
}

static void check_answer(struct addrinfo *list)
{
    ASSERT(list && list->ai_next && !list->ai_next->ai_next);
    const struct sockaddr_in *in = (const struct sockaddr_in *)(void *)list->ai_addr;
    ASSERT_EQ(list->ai_family, AF_INET);
    ASSERT_EQ(ntohl(in->sin_addr.s_addr), 0x7f000007u);
    ASSERT_EQ(ntohs(in->sin_port), 80);
    ASSERT_EQ(list->ai_socktype, SOCK_STREAM);
    ASSERT_EQ(list->ai_next->ai_family, AF_INET6);
    freeaddrinfo(list);
}

EACH_STACK(numbers_and_localhost_are_found)
{
    struct addrinfo *list;
    int gai_code = 1;
    ASSERT_OK(fibril_resolve("127.0.0.1", "80", &stream, &list, &gai_code, FIBRIL_FOREVER));
    ASSERT_EQ(gai_code, 0);
    freeaddrinfo(list);
    ASSERT_OK(fibril_resolve("localhost", "80", &stream, &list, NULL, FIBRIL_FOREVER));
    ASSERT(list->ai_family == AF_INET || list->ai_family == AF_INET6);
    freeaddrinfo(list);
    ASSERT_OK(fibril_resolve(NULL, "80", NULL, &list, NULL, FIBRIL_FOREVER));
    freeaddrinfo(list);
    return 0;
}

EACH_STACK(localhost_can_be_connected_to_by_name)
{
    struct fibril_addr addr;
    char service[8];
    int listener = io_listener(&addr);
    snprintf(service, sizeof(service), "%u",
             (unsigned)ntohs(((struct sockaddr_in *)&addr.ss)->sin_port));
    int fd = fibril_connect_host("localhost", service, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    ASSERT_OK(fibril_close(fd));
    fibril_close(listener);
    return 0;
}

EACH_STACK(failures_are_told_apart)
{
    struct addrinfo *list = NULL;
    int gai_code;
    const struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST};
    int rc = fibril_resolve("no.such", NULL, &numeric, &list, &gai_code, FIBRIL_FOREVER);
    ASSERT_ERR(rc, -ENOENT);
    ASSERT_EQ(gai_code, EAI_NONAME);
    ASSERT_ERR(fibril_resolve(NULL, NULL, NULL, &list, NULL, FIBRIL_FOREVER), -ENOENT);
    const struct {
        int gai, error;
    } table[] = {
        {EAI_AGAIN, -EAGAIN}, {EAI_FAIL, -EIO}, {EAI_MEMORY, -ENOMEM}, {EAI_NONAME, -ENOENT}};
    sem_init(&leave, 0, 100);
    for (int i = 0; i < 4; i++) {
        atomic_store(&answer, table[i].gai);
        ASSERT_ERR(fibril_resolve("bad.gate", "1", NULL, &list, &gai_code, FIBRIL_FOREVER),
                   table[i].error);
        ASSERT_EQ(gai_code, table[i].gai);
    }
    ASSERT(!list);
    return 0;
}

EACH_STACK(identical_lookups_are_one)
{
    enum { N = 20 };
    struct asking *a = calloc(N, sizeof(*a));
    struct fibril *f[N];
    sem_init(&leave, 0, 0);
    atomic_store(&entered, 0);
    atomic_store(&left, 0);
    atomic_store(&answer, 0);
    for (int i = 0; i < N; i++) {
        snprintf(a[i].host, sizeof(a[i].host), "same.gate");
        f[i] = io_start(ask, &a[i]);
    }
    io_settle();
    wait_entered(1);
    ASSERT_OK(fibril_cancel(f[3]));
    ASSERT_ERR(io_end(f[3]), -ECANCELED); /* leaves; the lookup goes on */
    sem_post(&leave);
    for (int i = 0; i < N; i++) {
        if (i != 3) {
            ASSERT_EQ(io_end(f[i]), 0);
            check_answer(a[i].list);
        }
    }
    ASSERT_EQ(atomic_load(&entered), 1);
    free(a);
    return 0;
}

EACH_STACK(a_lookup_is_left_at_the_deadline_and_ends_by_itself)
{
    static int run;
    char host[32];
    struct addrinfo *list;
    snprintf(host, sizeof(host), "slow%d.gate", run++);
    sem_init(&leave, 0, 0);
    atomic_store(&entered, 0);
    atomic_store(&left, 0);
    atomic_store(&answer, 0);
    for (int ms = 2; atomic_load(&entered) == 0; ms *= 2) { /* until a thread was quick enough */
        ASSERT_ERR(fibril_resolve(host, "1", &stream, &list, NULL, io_in(ms)), -ETIMEDOUT);
    }
    struct asking *a = calloc(1, sizeof(*a));
    snprintf(a->host, sizeof(a->host), "%s", host);
    struct fibril *f = io_start(ask, a); /* asks for another service: a lookup of its own */
    wait_entered(2);
    sem_post(&leave);
    sem_post(&leave);
    ASSERT_EQ(io_end(f), 0);
    check_answer(a->list);
    free(a);
    while (atomic_load(&left) < 2) { /* the abandoned one too, before the next run counts anew */
        ASSERT_OK(fibril_sleep(100000));
    }
    return 0;
}

static int add_up(void *arg)
{
    (void)arg;
    return 4;
}

EACH_STACK(hanging_lookups_leave_threads_for_others)
{
    enum { N = 100 };
    struct asking *a = calloc(N, sizeof(*a));
    struct fibril **f = calloc(N, sizeof(struct fibril *));
    sem_init(&leave, 0, 0);
    atomic_store(&entered, 0);
    atomic_store(&left, 0);
    atomic_store(&answer, 0);
    for (int i = 0; i < N; i++) {
        snprintf(a[i].host, sizeof(a[i].host), "host%d.gate", i);
        f[i] = io_start(ask, &a[i]);
    }
    wait_entered(FIBRIL__POOL_MAX / 2);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(fibril_offload(add_up, NULL, FIBRIL_FOREVER), 4);
    }
    ASSERT_EQ(atomic_load(&entered), FIBRIL__POOL_MAX / 2);
    ASSERT_OK(fibril_cancel(f[N - 1])); /* still queued */
    ASSERT_ERR(io_end(f[N - 1]), -ECANCELED);
    for (int i = 0; i < N; i++) {
        sem_post(&leave);
    }
    for (int i = 0; i < N - 1; i++) {
        ASSERT_EQ(io_end(f[i]), 0);
        check_answer(a[i].list);
    }
    ASSERT_EQ(atomic_load(&entered), N - 1);
    free(a);
    free(f);
    return 0;
}
