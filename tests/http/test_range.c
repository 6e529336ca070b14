/* SPDX-License-Identifier: MIT */
/* Ranges against a size, and conditions against a tag and a date. */
#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guard.h"
#include "http/range.h"

#define RANGES_MAX 4

struct range_case {
    const char *value;
    uint64_t size;
    const char *expected; /* "first-last ..."; "" send everything; "416" */
};

static const struct range_case ranges[] = {
    {"bytes=0-0", 10, "0-0"},
    {"bytes=0-9", 10, "0-9"},
    {"bytes=2-4", 10, "2-4"},
    {"bytes=5-", 10, "5-9"},
    {"bytes=-3", 10, "7-9"},
    {"bytes=-10", 10, "0-9"},
    {"bytes=-11", 10, "0-9"},
    {"bytes=9-99", 10, "9-9"},
    {"BYTES=1-2", 10, "1-2"},
    {"bytes=0-0,-1", 10, "0-0 9-9"},
    {"bytes=0-0 , 2-3\t,  5-", 10, "0-0 2-3 5-9"},
    {"bytes=,0-0,,2-2,", 10, "0-0 2-2"},
    {"bytes=4-5,0-1", 10, "4-5 0-1"},
    {"bytes=0-1,20-30", 10, "0-1"},
    {"bytes=0-18446744073709551615", 10, "0-9"},
    {"bytes=0-99999999999999999999999", 10, "0-9"},
    {"bytes=-99999999999999999999999", 10, "0-9"},
    {"bytes=18446744073709551614-", UINT64_MAX, "18446744073709551614-18446744073709551614"},
    {"bytes=10-", 10, "416"},
    {"bytes=10-20", 10, "416"},
    {"bytes=-0", 10, "416"},
    {"bytes=0-", 0, "416"},
    {"bytes=-1", 0, "416"},
    {"bytes=99999999999999999999999-", 10, "416"},
    {"", 10, ""},
    {"bytes", 10, ""},
    {"bytes=", 10, ""},
    {"bytes=,", 10, ""},
    {"bytes=-", 10, ""},
    {"bytes=5", 10, ""},
    {"bytes=4-2", 10, ""},
    {"bytes=a-b", 10, ""},
    {"bytes=0-1x", 10, ""},
    {"bytes=0 -1", 10, ""},
    {"bytes=0- 1", 10, ""},
    {"bytes=+0-1", 10, ""},
    {"bytes=0--1", 10, ""},
    {"bytes=0x0-1", 10, ""},
    {"bytes =0-1", 10, ""},
    {"byte=0-1", 10, ""},
    {"items=0-1", 10, ""},
    {"bytes=0-1;2-3", 10, ""},
    {"bytes=0-1,x", 10, ""},
    {"bytes=0-,0-,0-", 10, ""},
    {"bytes=0-5,3-9", 10, ""},
    {"bytes=0-0,1-1,2-2,3-3", 10, "0-0 1-1 2-2 3-3"},
    {"bytes=0-0,1-1,2-2,3-3,4-4", 10, ""},
};

TEST(ranges_are_resolved_against_the_size)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        const struct range_case *c = &ranges[i];
        struct fibril__http_range out[RANGES_MAX];
        char got[200] = "";
        size_t len = strlen(c->value);
        int n = fibril__http_range_parse((struct fibril__span){guard_put(&g, c->value, len), len},
                                         c->size, out, RANGES_MAX);
        for (int r = 0; r < n; r++) {
            size_t at = strlen(got);
            snprintf(got + at, sizeof(got) - at, "%s%" PRIu64 "-%" PRIu64, r > 0 ? " " : "",
                     out[r].first, out[r].last);
        }
        if (n == -ERANGE) {
            snprintf(got, sizeof(got), "416");
        }
        if (strcmp(got, c->expected) != 0) {
            test_fail(__FILE__, __LINE__, "%s of %" PRIu64 ": %s, expected %s", c->value, c->size,
                      got, c->expected);
        }
    }
}

static struct fibril__span span(const char *text)
{
    return (struct fibril__span){text, strlen(text)};
}

struct etag_case {
    const char *list;
    const char *etag;
    int weak;   /* result of the weak comparison */
    int strong; /* ... and of the strong one */
};

static const struct etag_case etags[] = {
    {"\"a\"", "\"a\"", 1, 1},
    {"\"a\"", "\"b\"", 0, 0},
    {"W/\"a\"", "\"a\"", 1, 0},
    {"\"a\"", "W/\"a\"", 1, 0},
    {"W/\"a\"", "W/\"a\"", 1, 0},
    {"\"x\", \"a\" ,W/\"y\"", "\"a\"", 1, 1},
    {"\"x,y\",\"a\"", "\"a\"", 1, 1},
    {"\"x,\\\",\"a\"", "\"a\"", 1, 1},
    {",, \"a\",", "\"a\"", 1, 1},
    {"\"\"", "\"\"", 1, 1},
    {"\"\x80\xff\"", "\"\x80\xff\"", 1, 1},
    {"*", "\"a\"", 1, 1},
    {" * ", "\"a\"", 1, 1},
    {"*", "", 1, 1},
    {"\"a\"", "", 0, 0},
    {"\"A\"", "\"a\"", 0, 0},
    {"", "\"a\"", -EINVAL, -EINVAL},
    {",", "\"a\"", -EINVAL, -EINVAL},
    {"a", "\"a\"", -EINVAL, -EINVAL},
    {"\"a", "\"a\"", -EINVAL, -EINVAL},
    {"w/\"a\"", "\"a\"", -EINVAL, -EINVAL},
    {"W/a", "\"a\"", -EINVAL, -EINVAL},
    {"W/", "\"a\"", -EINVAL, -EINVAL},
    {"\"a\" \"b\"", "\"a\"", -EINVAL, -EINVAL},
    {"\"a\"x", "\"a\"", -EINVAL, -EINVAL},
    {"\"a b\"", "\"a b\"", -EINVAL, -EINVAL},
    {"\"a\x01\"", "\"a\"", -EINVAL, -EINVAL},
    {"*, \"a\"", "\"a\"", -EINVAL, -EINVAL},
    {"\"a\", *", "\"a\"", -EINVAL, -EINVAL},
};

TEST(etag_lists_match_weakly_and_strongly)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < sizeof(etags) / sizeof(etags[0]); i++) {
        const struct etag_case *c = &etags[i];
        size_t len = strlen(c->list);
        struct fibril__span list = {guard_put(&g, c->list, len), len};
        int weak = fibril__http_etag_match(list, span(c->etag), true);
        int strong = fibril__http_etag_match(list, span(c->etag), false);
        if (weak != c->weak || strong != c->strong) {
            test_fail(__FILE__, __LINE__, "%s with %s: %d %d", c->list, c->etag, weak, strong);
        }
    }
}

TEST(if_range_takes_a_strong_tag_or_the_exact_date)
{
    const int64_t modified = 784111777;
    const struct fibril__span tag = FIBRIL__SPAN("\"a\"");
    const struct fibril__span none = {NULL, 0};
    ASSERT_EQ(fibril__http_if_range(span("\"a\""), tag, modified, modified), true);
    ASSERT_EQ(fibril__http_if_range(span("\"b\""), tag, modified, modified), false);
    ASSERT_EQ(fibril__http_if_range(span("W/\"a\""), tag, modified, modified), false);
    ASSERT_EQ(fibril__http_if_range(span("\"a\""), none, modified, modified), false);
    ASSERT_EQ(fibril__http_if_range(span("\"a\", \"a\""), tag, modified, modified), false);
    ASSERT_EQ(fibril__http_if_range(span("Sun, 06 Nov 1994 08:49:37 GMT"), tag, modified, modified),
              true);
    ASSERT_EQ(fibril__http_if_range(span("Sun, 06 Nov 1994 08:49:38 GMT"), tag, modified, modified),
              false);
    ASSERT_EQ(fibril__http_if_range(span("Sun, 06 Nov 1994 08:49:37 GMT"), tag, -1, modified),
              false);
    ASSERT_EQ(fibril__http_if_range(span(""), tag, modified, modified), false);
    ASSERT_EQ(fibril__http_if_range(span("*"), tag, modified, modified), false);
}
