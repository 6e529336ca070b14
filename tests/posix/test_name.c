/* SPDX-License-Identifier: MIT */
/*
 * Names: the same answers as libc's, which is asked beside, from numbers and from the hosts file;
 * nobody is held up. No name server is needed.
 */
#include "process_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static void same_lists(const struct addrinfo *a, const struct addrinfo *b)
{
    for (; a && b; a = a->ai_next, b = b->ai_next) {
        ASSERT_EQ(a->ai_family, b->ai_family);
        ASSERT_EQ(a->ai_socktype, b->ai_socktype);
        ASSERT_EQ(a->ai_protocol, b->ai_protocol);
        ASSERT_EQ(a->ai_addrlen, b->ai_addrlen);
        ASSERT_MEM(a->ai_addr, b->ai_addr, a->ai_addrlen);
        ASSERT_EQ(a->ai_canonname == NULL, b->ai_canonname == NULL);
        if (a->ai_canonname) {
            ASSERT_STR(a->ai_canonname, b->ai_canonname);
        }
    }
    ASSERT_EQ(a, NULL);
    ASSERT_EQ(b, NULL);
}

static void compare(const char *host, const char *service, const struct addrinfo *hints)
{
    struct addrinfo *ours = NULL, *theirs = NULL;
    errno = 12345;
    int rc = fibril_posix_getaddrinfo(host, service, hints, &ours);
    if (rc == 0) {
        ASSERT_EQ(errno, 12345);
    }
    ASSERT_EQ(rc, getaddrinfo(host, service, hints, &theirs));
    if (rc == 0) {
        same_lists(ours, theirs);
        freeaddrinfo(ours);
        freeaddrinfo(theirs);
    }
}

PROCESS_TEST(getaddrinfo_answers_as_libc_does)
{
    (void)arg;
    const struct addrinfo stream = {.ai_socktype = SOCK_STREAM};
    const struct addrinfo inet = {.ai_family = AF_INET, .ai_flags = AI_CANONNAME};
    const struct addrinfo passive = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_DGRAM};
    const struct addrinfo wrong = {.ai_family = 12345};
    compare("127.0.0.1", "80", NULL);
    compare("::1", "443", &stream);
    compare("localhost", "80", &stream);
    compare("localhost", "80", &inet);
    compare("localhost", "http", &stream);
    compare(NULL, "80", &passive);
    compare(NULL, NULL, NULL);
    compare("127.0.0.1", "no-such-service", &stream);
    compare("localhost", NULL, &wrong);
    compare("::1", NULL, &inet);
    return 0;
}

/* A thread of the pool that is at work when the clock is looked at. */
PROCESS_TEST(lookup_lets_others_run)
{
    (void)arg;
    const struct addrinfo stream = {.ai_socktype = SOCK_STREAM};
    struct process_clock clock;
    struct fibril_metrics before, after;
    struct addrinfo *list;
    process_clock_start(&clock);
    ASSERT_OK(fibril_metrics(NULL, &before));
    ASSERT_EQ(fibril_posix_getaddrinfo("localhost", "80", &stream, &list), 0);
    ASSERT_OK(fibril_metrics(NULL, &after));
    ASSERT_GT(after.parks_offload, before.parks_offload);
    freeaddrinfo(list);
    ASSERT_OK(fibril_metrics(NULL, &before));
    ASSERT_EQ(fibril_posix_getaddrinfo("127.0.0.1", "80", &stream, &list), 0);
    ASSERT_OK(fibril_metrics(NULL, &after));
    ASSERT_EQ(after.parks_offload, before.parks_offload);
    freeaddrinfo(list);
    process_clock_stop(&clock);
    return 0;
}

PROCESS_TEST(getnameinfo_answers_as_libc_does)
{
    (void)arg;
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const int flags[] = {
        0, NI_NUMERICHOST, NI_NUMERICSERV, NI_NUMERICHOST | NI_NUMERICSERV, NI_NAMEREQD, NI_DGRAM};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        char host[2][200] = {"", ""}, service[2][50] = {"", ""};
        const struct sockaddr *sa = (const struct sockaddr *)&in;
        int ours = fibril_posix_getnameinfo(sa, sizeof in, host[0], 200, service[0], 50, flags[i]);
        ASSERT_EQ(ours, getnameinfo(sa, sizeof in, host[1], 200, service[1], 50, flags[i]));
        ASSERT_STR(host[0], host[1]);
        ASSERT_STR(service[0], service[1]);
        ours = fibril_posix_getnameinfo(sa, sizeof in, host[0], 3, NULL, 0, flags[i]);
        ASSERT_EQ(ours, getnameinfo(sa, sizeof in, host[1], 3, NULL, 0, flags[i]));
        ours = fibril_posix_getnameinfo(sa, 3, host[0], 200, NULL, 0, flags[i]);
        ASSERT_EQ(ours, getnameinfo(sa, 3, host[1], 200, NULL, 0, flags[i]));
    }
    return 0;
}

/* ---- the gethostby family ---- */

static void same_hosts(const struct hostent *a, const struct hostent *b)
{
    ASSERT_EQ(a == NULL, b == NULL);
    if (!a) {
        return;
    }
    int i;
    ASSERT_STR(a->h_name, b->h_name);
    ASSERT_EQ(a->h_addrtype, b->h_addrtype);
    ASSERT_EQ(a->h_length, b->h_length);
    for (i = 0; a->h_aliases[i] && b->h_aliases[i]; i++) {
        ASSERT_STR(a->h_aliases[i], b->h_aliases[i]);
    }
    ASSERT_EQ(a->h_aliases[i], b->h_aliases[i]);
    for (i = 0; a->h_addr_list[i] && b->h_addr_list[i]; i++) {
        ASSERT_MEM(a->h_addr_list[i], b->h_addr_list[i], (size_t)a->h_length);
    }
    ASSERT_EQ(a->h_addr_list[i], b->h_addr_list[i]);
}

PROCESS_TEST(gethostbyname_answers_as_libc_does)
{
    (void)arg;
    const uint32_t loopback = htonl(INADDR_LOOPBACK);
    same_hosts(fibril_posix_gethostbyname("localhost"), (gethostbyname)("localhost"));
    same_hosts(fibril_posix_gethostbyname("127.0.0.1"), (gethostbyname)("127.0.0.1"));
    same_hosts(fibril_posix_gethostbyname2("::1", AF_INET6), gethostbyname2("::1", AF_INET6));
    same_hosts(fibril_posix_gethostbyaddr(&loopback, 4, AF_INET),
               gethostbyaddr(&loopback, 4, AF_INET));
    h_errno = -7;
    const struct hostent *none = fibril_posix_gethostbyname("256.1.1.1.");
    int ours = h_errno;
    same_hosts(none, (gethostbyname)("256.1.1.1."));
    ASSERT_EQ(ours, h_errno);
    return 0;
}

static int asks_other(void *arg)
{
    (void)arg;
    const struct hostent *h = fibril_posix_gethostbyname("127.0.0.2");
    return h && memcmp(h->h_addr_list[0], "\x7f\0\0\x02", 4) == 0 ? 0 : -1;
}

PROCESS_TEST(answers_are_the_fibrils_own)
{
    (void)arg;
    int result;
    const struct hostent *h = fibril_posix_gethostbyname("127.0.0.1");
    ASSERT_OK(fibril_join(process_start(asks_other, NULL), FIBRIL_FOREVER, &result));
    ASSERT_EQ(result, 0);
    ASSERT_MEM(h->h_addr_list[0], "\x7f\0\0\x01", 4);
    return 0;
}

/* Every size of the buffer and every place in an alignment: the answer fits where libc's fits, and
 * lies inside. */
PROCESS_TEST(reentrant_answers_lie_in_the_callers_buffer)
{
    (void)arg;
    static char ours[2048], theirs[2048];
    bool any = false;
    for (size_t len = 0; len < 1200; len = len * 2 + 37) {
        for (size_t at = 0; at < 8; at += 3) {
            struct hostent a, b, *ret_a = &a, *ret_b = &b;
            int error_a = 0, error_b = 0;
            memset(ours, 1, sizeof ours);
            int rc =
                fibril_posix_gethostbyname_r("localhost", &a, ours + at, len, &ret_a, &error_a);
            ASSERT_EQ(rc, gethostbyname_r("localhost", &b, theirs + at, len, &ret_b, &error_b));
            ASSERT_EQ(error_a, error_b);
            same_hosts(ret_a, ret_b);
            if (ret_a) {
                any = true;
                ASSERT_GE(ret_a->h_name, ours + at);
                ASSERT_LT(ret_a->h_name, ours + at + len);
                ASSERT_LT((char *)ret_a->h_addr_list, ours + at + len);
                ASSERT_EQ(ours[at + len], 1);
            }
        }
    }
    ASSERT(any);
    return 0;
}

static int looks_up(void *arg)
{
    struct addrinfo *list;
    const struct addrinfo stream = {.ai_socktype = SOCK_STREAM};
    (void)arg;
    int rc = fibril_posix_getaddrinfo("localhost", "80", &stream, &list);
    if (rc == 0) {
        freeaddrinfo(list);
    }
    return rc;
}

PROCESS_TEST(hundred_lookups_side_by_side)
{
    (void)arg;
    struct fibril *f[100];
    for (int i = 0; i < 100; i++) {
        f[i] = process_start(looks_up, NULL);
    }
    for (int i = 0; i < 100; i++) {
        int result;
        ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, &result));
        ASSERT_EQ(result, 0);
    }
    return 0;
}

TEST(without_a_loop_all_is_real)
{
    const struct hostent *h = fibril_posix_gethostbyname("127.0.0.1");
    ASSERT_NE(h, NULL);
    compare("localhost", "80", NULL);
}
