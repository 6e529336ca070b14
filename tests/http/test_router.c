/* SPDX-License-Identifier: MIT */
/*
 * The router alone: which pattern wins, what its names stand for, what is refused; and the table of
 * addresses against a plain count.
 */
#include "test.h"

#include "http/address.h"
#include "http/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int handler(struct fibril_http_req *req, void *arg)
{
    (void)req;
    (void)arg;
    return 0;
}

/* What route a path leads to, by its argument, or the status. */
static const char *find(const struct fibril__http_router *r, const char *method, const char *path,
                        struct fibril__http_match *m)
{
    struct fibril__span span = {path, strlen(path)};
    uint8_t id = strcmp(method, "HEAD") == 0      ? FIBRIL__HTTP_HEAD
                 : strcmp(method, "OPTIONS") == 0 ? FIBRIL__HTTP_OPTIONS
                                                  : FIBRIL__HTTP_GET;
    switch (fibril__http_router_find(r, method, id, span, m)) {
    case 0: return m->route->arg;
    case 204: return "204";
    case 404: return "404";
    default: return "405";
    }
}

static void add(struct fibril__http_router *r, const char *method, const char *pattern, char *name)
{
    ASSERT_OK(fibril__http_router_add(r, method, pattern, handler, name));
}

TEST(the_most_specific_pattern_wins_in_any_order)
{
    static const char *const patterns[] = {"/{a*}", "/x/{b}", "/x/y", "/x/{b}/z", "/x/{c*}", "/"};
    for (int shift = 0; shift < 6; shift++) {
        struct fibril__http_router r = {.params_max = 0};
        struct fibril__http_match m;
        for (int i = 0; i < 6; i++) {
            const char *p = patterns[(i + shift) % 6];
            add(&r, "GET", p, (char *)(uintptr_t)p);
        }
        ASSERT_STR(find(&r, "GET", "/x/y", &m), "/x/y");
        ASSERT_STR(find(&r, "GET", "/x/w", &m), "/x/{b}");
        ASSERT_STR(find(&r, "GET", "/x/w/z", &m), "/x/{b}/z");
        ASSERT_STR(find(&r, "GET", "/x/w/v", &m), "/x/{c*}");
        ASSERT_STR(find(&r, "GET", "/x/", &m), "/x/{c*}");
        ASSERT_STR(find(&r, "GET", "/q/w", &m), "/{a*}");
        ASSERT_EQ(m.begin[0], 1);
        ASSERT_EQ(m.len[0], 3);
        ASSERT_STR(find(&r, "GET", "/", &m), "/");
        fibril__http_router_fini(&r);
    }
}

TEST(methods_choose_and_fall_through_to_other_patterns)
{
    struct fibril__http_router r = {.params_max = 0};
    struct fibril__http_match m;
    char allow[64];
    add(&r, NULL, "/any", "any");
    add(&r, "GET", "/any", "get");
    add(&r, "POST", "/a/b", "post");
    add(&r, "GET", "/a/{x}", "named");
    ASSERT_STR(find(&r, "GET", "/any", &m), "get");
    ASSERT_STR(find(&r, "PUT", "/any", &m), "any");
    ASSERT_STR(find(&r, "POST", "/a/b", &m), "post");
    ASSERT_STR(find(&r, "GET", "/a/b", &m), "named");
    ASSERT_STR(find(&r, "HEAD", "/a/b", &m), "named");
    ASSERT_STR(find(&r, "DELETE", "/a/b", &m), "405");
    ASSERT_STR(find(&r, "OPTIONS", "/a/b", &m), "204");
    ASSERT_STR(find(&r, "GET", "/a", &m), "404");
    ASSERT_STR(find(&r, "GET", "/a/", &m), "404");
    fibril__http_router_allow(&r, FIBRIL__SPAN("/a/b"), allow, sizeof(allow));
    ASSERT_STR(allow, "POST, GET, HEAD, OPTIONS");
    fibril__http_router_allow(&r, FIBRIL__SPAN("/a/b"), allow, 12);
    ASSERT_STR(allow, "POST, GET");
    fibril__http_router_fini(&r);
}

TEST(malformed_and_double_patterns_are_refused)
{
    static const char *const bad[] = {"",        "x",      "/{}",   "/{a",    "/a}",
                                      "/{a*}/b", "/{a-b}", "/a//b", "/./a",   "/..",
                                      "/{*}",    "/x{a}",  "//",    "/{a}{b}"};
    struct fibril__http_router r = {.params_max = 0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ASSERT_ERR(fibril__http_router_add(&r, "GET", bad[i], handler, NULL), -EINVAL);
    }
    ASSERT_ERR(fibril__http_router_add(&r, "G T", "/a", handler, NULL), -EINVAL);
    ASSERT_ERR(fibril__http_router_add(&r, "GET", "/a", NULL, NULL), -EINVAL);
    add(&r, "GET", "/a/{x}", "first");
    ASSERT_ERR(fibril__http_router_add(&r, "GET", "/a/{y}", handler, NULL), -EEXIST);
    add(&r, "PUT", "/a/{y}", "second");
    ASSERT_ERR(fibril__http_router_add(&r, "PUT", "/a/{y}", handler, NULL), -EEXIST);
    fibril__http_router_fini(&r);
}

TEST(thousands_of_fixed_patterns_are_told_apart)
{
    struct fibril__http_router r = {.params_max = 0};
    struct fibril__http_match m;
    static char names[3000][16];
    for (int i = 0; i < 3000; i++) {
        snprintf(names[i], sizeof(names[i]), "/p%d/q", i);
        add(&r, "GET", names[i], names[i]);
    }
    for (int i = 0; i < 3000; i++) {
        ASSERT_STR(find(&r, "GET", names[i], &m), names[i]);
    }
    ASSERT_STR(find(&r, "GET", "/p3000/q", &m), "404");
    fibril__http_router_fini(&r);
}

/* ---- addresses ----------------------------------------------------------- */

TEST(the_table_of_addresses_counts_as_a_plain_array_does)
{
    enum { PEERS = 300, STEPS = 20000, MAX = 5 };
    struct fibril__http_addresses a;
    unsigned counts[PEERS] = {0};
    uint32_t chance = 12345;
    fibril__http_addresses_init(&a);
    for (int step = 0; step < STEPS; step++) {
        chance = chance * 1664525u + 1013904223u;
        unsigned i = (chance >> 8) % PEERS;
        struct fibril__http_peer peer = {.family = i % 2 ? 4 : 6, .bytes = {0x20, 1}};
        peer.bytes[3] = (uint8_t)(i >> 8);
        peer.bytes[2] = (uint8_t)i;
        peer.bytes[12] = (uint8_t)chance; /* within the 64 bits of one IPv6 customer */
        if (chance >> 31 && counts[i] > 0) {
            fibril__http_addresses_remove(&a, &peer);
            counts[i]--;
        } else {
            int rc = fibril__http_addresses_add(&a, &peer, MAX);
            ASSERT_EQ(rc, counts[i] < MAX ? 0 : -EAGAIN);
            counts[i] += rc == 0;
        }
    }
    for (unsigned i = 0; i < PEERS; i++) {
        struct fibril__http_peer peer = {.family = i % 2 ? 4 : 6, .bytes = {0x20, 1}};
        peer.bytes[3] = (uint8_t)(i >> 8);
        peer.bytes[2] = (uint8_t)i;
        for (; counts[i] > 0; counts[i]--) {
            fibril__http_addresses_remove(&a, &peer);
        }
    }
    ASSERT_EQ(a.used, 0);
    fibril__http_addresses_fini(&a);
}

TEST(peers_are_written_as_text)
{
    struct fibril__http_peer four = {.family = 4, .port = 80, .bytes = {127, 0, 0, 1}};
    struct fibril__http_peer six = {.family = 6, .port = 80, .bytes = {[15] = 1}};
    struct fibril__http_peer none = {.family = 0};
    char text[64];
    ASSERT_EQ(fibril__http_peer_format(&four, true, text, sizeof(text)), 12);
    ASSERT_STR(text, "127.0.0.1:80");
    ASSERT_OK(fibril__http_peer_format(&four, false, text, sizeof(text)));
    ASSERT_STR(text, "127.0.0.1");
    ASSERT_OK(fibril__http_peer_format(&six, true, text, sizeof(text)));
    ASSERT_STR(text, "[::1]:80");
    ASSERT_OK(fibril__http_peer_format(&none, true, text, sizeof(text)));
    ASSERT_STR(text, "unix:");
    ASSERT_ERR(fibril__http_peer_format(&four, true, text, 12), -ENOSPC);
}
