/* SPDX-License-Identifier: MIT */
/* Paths and queries: what they become, what is refused, and that nothing climbs out. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include "guard.h"
#include "http/uri.h"

struct path_case {
    const char *in;
    const char *out; /* NULL: refused with -EINVAL */
};

static const struct path_case paths[] = {
    {"/", "/"},
    {"/a/b", "/a/b"},
    {"/a/b/", "/a/b/"},
    {"//", "/"},
    {"//a///b//", "/a/b/"},
    {"/.", "/"},
    {"/./", "/"},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/..", "/"},
    {"/a/../", "/"},
    {"/a/../b", "/b"},
    {"/a/b/../../c", "/c"},
    {"/a//../b", "/b"},
    {"/...", "/..."},
    {"/..a", "/..a"},
    {"/a.", "/a."},
    {"/.a/b", "/.a/b"},
    {"/%41%2d%7E", "/A-~"},
    {"/a%2fb", "/a/b"},
    {"/a/%2e%2e/b", "/b"},
    {"/a/%2E./b", "/b"},
    {"/a%2f..%2fb", "/b"},
    {"/%25", "/%"},
    {"/%252e%252e/", "/%2e%2e/"},
    {"/a+b", "/a+b"},
    {"/%c3%a9", "/\xc3\xa9"},
    {"", NULL},
    {"a", NULL},
    {"*", NULL},
    {"%2f", NULL},
    {"/..", NULL},
    {"/../", NULL},
    {"/../a", NULL},
    {"/a/../..", NULL},
    {"/a/../../b", NULL},
    {"/%2e%2e/a", NULL},
    {"/.%2e/", NULL},
    {"/..%2f", NULL},
    {"/./../a", NULL},
    {"//../a", NULL},
    {"/%", NULL},
    {"/%4", NULL},
    {"/%4g", NULL},
    {"/%g4", NULL},
    {"/%%41", NULL},
    {"/%00", NULL},
    {"/a%00.html", NULL},
    {"/%u0041", NULL},
};

static void check_path(struct guard *g, const struct path_case *c, bool in_place)
{
    char other[64];
    size_t in_len = strlen(c->in);
    size_t len = 99;
    char *in = guard_put(g, c->in, in_len);
    char *out = in_place ? in : other;
    int rc = fibril__http_path_normalise((struct fibril__span){in, in_len}, out,
                                         in_place ? in_len : sizeof(other), &len);
    if (c->out == NULL) {
        if (rc != -EINVAL || len != 99) {
            test_fail(__FILE__, __LINE__, "%s: %d, should have been refused", c->in, rc);
        }
        return;
    }
    if (rc != 0 || len != strlen(c->out) || memcmp(out, c->out, len) != 0) {
        test_fail(__FILE__, __LINE__, "%s: %d %.*s", c->in, rc, rc == 0 ? (int)len : 0, out);
    }
}

TEST(paths_are_normalised)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        check_path(&g, &paths[i], false);
    }
}

TEST(paths_are_normalised_in_place)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        check_path(&g, &paths[i], true);
    }
}

TEST(output_too_small_is_an_error)
{
    char out[4];
    size_t len = 0;
    ASSERT_ERR(fibril__http_path_normalise(FIBRIL__SPAN("/abcd"), out, 4, &len), -ENOBUFS);
    ASSERT_OK(fibril__http_path_normalise(FIBRIL__SPAN("/abc"), out, 4, &len));
    ASSERT_EQ(len, 4);
}

TEST(plus_is_a_space_only_in_forms)
{
    char out[16];
    size_t len = 0;
    ASSERT_OK(fibril__http_percent_decode(FIBRIL__SPAN("a+b%2B"), true, out, sizeof(out), &len));
    ASSERT_EQ(len, 4);
    ASSERT_MEM(out, "a b+", 4);
    ASSERT_OK(fibril__http_percent_decode(FIBRIL__SPAN("a+b%2B"), false, out, sizeof(out), &len));
    ASSERT_MEM(out, "a+b+", 4);
}

TEST(query_is_cut_into_pairs)
{
    struct fibril__span query = FIBRIL__SPAN("&a=1&b&=c&d=&&e=f=g&");
    static const char *const expected[][2] = {
        {"a", "1"}, {"b", NULL}, {"", "c"}, {"d", ""}, {"e", "f=g"}};
    struct fibril__span name;
    struct fibril__span value;
    for (size_t i = 0; i < 5; i++) {
        ASSERT(fibril__http_query_next(&query, &name, &value));
        ASSERT_EQ(name.len, strlen(expected[i][0]));
        ASSERT_MEM(name.ptr, expected[i][0], name.len);
        ASSERT_EQ(value.ptr == NULL, expected[i][1] == NULL);
        if (expected[i][1] != NULL) {
            ASSERT_EQ(value.len, strlen(expected[i][1]));
            ASSERT_MEM(value.ptr, expected[i][1], value.len);
        }
    }
    ASSERT_EQ(fibril__http_query_next(&query, &name, &value), false);
}

TEST(empty_query_has_no_pairs)
{
    struct fibril__span none = {NULL, 0};
    struct fibril__span name;
    struct fibril__span value;
    ASSERT_EQ(fibril__http_query_next(&none, &name, &value), false);
}
