/* SPDX-License-Identifier: MIT */
/*
 * The head parser: every row of the strictness table, whole, cut at every byte and byte by byte,
 * always right before a guard page; then what the spans say, and the limits to the byte.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cases.h"
#include "guard.h"
#include "http/parse.h"
#include "http/token.h"

#define FIELDS_MAX 100

static const struct fibril__http_limits default_limits = FIBRIL__HTTP_LIMITS_DEFAULT;

struct run {
    struct fibril__http_parser p;
    struct fibril__http_field fields[FIELDS_MAX];
    int rc;
};

static void run_init(struct run *r)
{
    fibril__http_parser_init(&r->p, &default_limits, r->fields, FIELDS_MAX);
}

static void check_status(const char *how, const struct http_case *c, int rc)
{
    if (rc != c->status) {
        test_fail(__FILE__, __LINE__, "%s, %s: got %d, expected %d", c->name, how, rc, c->status);
    }
}

/* A span of head a at the same place in its buffer as b in the other; literals compare by content.
 */
static bool same_span(struct fibril__span a, const struct run *run_a, struct fibril__span b,
                      const struct run *run_b)
{
    const char *base_a = run_a->p.base;
    bool inside = a.ptr >= base_a && a.ptr <= base_a + run_a->p.head.bytes;
    if ((a.ptr == NULL) != (b.ptr == NULL) || !fibril__span_equal(a, b)) {
        return false;
    }
    return !inside || a.ptr - base_a == b.ptr - run_b->p.base;
}

/* Two complete parses of the same bytes at different addresses found the same things in the same
 * places. */
static bool same_head(const struct run *a, const struct run *b)
{
    const struct fibril__http_head *x = &a->p.head;
    const struct fibril__http_head *y = &b->p.head;
    bool same = same_span(x->method, a, y->method, b) && same_span(x->target, a, y->target, b) &&
                same_span(x->path, a, y->path, b) && same_span(x->query, a, y->query, b) &&
                same_span(x->authority, a, y->authority, b) &&
                same_span(x->upgrade, a, y->upgrade, b) && x->bytes == y->bytes &&
                x->field_count == y->field_count && x->content_length == y->content_length &&
                x->method_id == y->method_id && x->form == y->form && x->minor == y->minor &&
                x->chunked == y->chunked && x->keep_alive == y->keep_alive &&
                x->expect_continue == y->expect_continue;
    for (size_t i = 0; same && i < x->field_count; i++) {
        same = same_span(x->fields[i].name, a, y->fields[i].name, b) &&
               same_span(x->fields[i].value, a, y->fields[i].value, b) &&
               x->fields[i].id == y->fields[i].id && x->fields[i].flags == y->fields[i].flags;
    }
    return same;
}

TEST(table_whole)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < http_case_count; i++) {
        const struct http_case *c = &http_cases[i];
        struct run r;
        run_init(&r);
        check_status("whole", c, fibril__http_parse(&r.p, guard_put(&g, c->raw, c->len), c->len));
        ASSERT_EQ(c->status > 0, r.p.why != NULL);
    }
}

/* The buffer ends where the bytes received so far end, so each call sees it at another address. */
static int feed_moving(struct guard *g, struct run *r, const struct http_case *c, size_t first,
                       size_t step)
{
    int rc = -EAGAIN;
    run_init(r);
    for (size_t len = first; rc == -EAGAIN; len = len + step < c->len ? len + step : c->len) {
        rc = fibril__http_parse(&r->p, guard_put(g, c->raw, len), len);
        if (len == c->len) {
            break;
        }
    }
    return rc;
}

TEST(table_byte_by_byte)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < http_case_count; i++) {
        struct run r;
        check_status("byte by byte", &http_cases[i], feed_moving(&g, &r, &http_cases[i], 0, 1));
    }
}

TEST(table_cut_at_every_byte)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < http_case_count; i++) {
        const struct http_case *c = &http_cases[i];
        for (size_t cut = 0; cut <= c->len; cut++) {
            struct run r;
            check_status("cut in two", c, feed_moving(&g, &r, c, cut, c->len));
        }
    }
}

TEST(cut_anywhere_gives_the_same_spans)
{
    struct guard g = guard_new(4096);
    for (size_t i = 0; i < http_case_count; i++) {
        const struct http_case *c = &http_cases[i];
        if (c->status != 0) {
            continue;
        }
        struct run whole;
        run_init(&whole);
        ASSERT_EQ(fibril__http_parse(&whole.p, c->raw, c->len), 0);
        for (size_t step = 1; step < 20; step++) {
            struct run r;
            ASSERT_EQ(feed_moving(&g, &r, c, 0, step), 0);
            ASSERT(same_head(&whole, &r));
        }
    }
}

TEST(outcome_is_final)
{
    struct run r;
    run_init(&r);
    ASSERT_EQ(fibril__http_parse(&r.p, "GET  /", 6), 400);
    ASSERT_EQ(fibril__http_parse(&r.p, "GET / HTTP/1.0\r\n\r\n", 18), 400);
}

/* A parse of a literal that must be accepted. */
#define PARSE(r, text)                                                                             \
    run_init(&(r));                                                                                \
    ASSERT_EQ(fibril__http_parse(&(r).p, text, sizeof(text) - 1), 0)

#define ASSERT_SPAN(span, text)                                                                    \
    do {                                                                                           \
        ASSERT_EQ((span).len, sizeof(text) - 1);                                                   \
        ASSERT_MEM((span).ptr, text, sizeof(text) - 1);                                            \
    } while (0)

TEST(spans_of_a_plain_request)
{
    struct run r;
    PARSE(r, "POST /a%20b?c=d?e HTTP/1.1\r\nHOST: a.example:80\r\nX-Y:\t v w \t\r\n"
             "content-LENGTH: 12\r\n\r\nbody");
    ASSERT_SPAN(r.p.head.method, "POST");
    ASSERT_EQ(r.p.head.method_id, FIBRIL__HTTP_POST);
    ASSERT_EQ(r.p.head.form, FIBRIL__HTTP_ORIGIN);
    ASSERT_SPAN(r.p.head.target, "/a%20b?c=d?e");
    ASSERT_SPAN(r.p.head.path, "/a%20b");
    ASSERT_SPAN(r.p.head.query, "c=d?e");
    ASSERT_SPAN(r.p.head.authority, "a.example:80");
    ASSERT_EQ(r.p.head.minor, 1);
    ASSERT_EQ(r.p.head.field_count, 3);
    ASSERT_SPAN(r.fields[0].name, "HOST");
    ASSERT_EQ(r.fields[0].id, FIBRIL__FIELD_HOST);
    ASSERT_SPAN(r.fields[1].name, "X-Y");
    ASSERT_SPAN(r.fields[1].value, "v w");
    ASSERT_EQ(r.fields[1].id, FIBRIL__FIELD_OTHER);
    ASSERT_EQ(r.fields[2].id, FIBRIL__FIELD_CONTENT_LENGTH);
    ASSERT_EQ(r.p.head.content_length, 12);
    ASSERT_EQ(r.p.head.chunked, false);
    ASSERT_SPAN(((struct fibril__span){r.p.base + r.p.head.bytes, 4}), "body");
}

TEST(absolute_form_overrides_host)
{
    struct run r;
    PARSE(r, "GET http://b.example:8/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n");
    ASSERT_SPAN(r.p.head.authority, "b.example:8");
    ASSERT_SPAN(r.p.head.path, "/x");
    ASSERT_SPAN(r.p.head.query, "y");
    PARSE(r, "GET http://b.example?y HTTP/1.1\r\nHost: a.example\r\n\r\n");
    ASSERT_SPAN(r.p.head.path, "/");
    ASSERT_SPAN(r.p.head.query, "y");
    PARSE(r, "OPTIONS https://b.example HTTP/1.1\r\nHost: a.example\r\n\r\n");
    ASSERT_SPAN(r.p.head.path, "*");
    ASSERT(r.p.head.query.ptr == NULL);
}

TEST(connect_and_asterisk_have_their_forms)
{
    struct run r;
    PARSE(r, "CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    ASSERT_EQ(r.p.head.form, FIBRIL__HTTP_AUTHORITY);
    ASSERT_SPAN(r.p.head.authority, "b.example:443");
    PARSE(r, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n");
    ASSERT_EQ(r.p.head.form, FIBRIL__HTTP_ASTERISK);
    ASSERT_SPAN(r.p.head.path, "*");
}

TEST(methods_are_told_apart)
{
    static const char *const names[] = {"BREW",   "GET",     "HEAD",    "POST",  "PUT",
                                        "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    for (int id = 0; id < 10; id++) {
        struct run r;
        char text[100];
        int len = snprintf(text, sizeof(text), "%s %s HTTP/1.0\r\n\r\n", names[id],
                           id == FIBRIL__HTTP_CONNECT ? "a:1" : "/");
        run_init(&r);
        ASSERT_EQ(fibril__http_parse(&r.p, text, (size_t)len), 0);
        ASSERT_EQ(r.p.head.method_id, id);
    }
}

struct keep_alive_case {
    const char *head;
    bool keep;
};

TEST(keep_alive_follows_version_and_options)
{
    static const struct keep_alive_case cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nHost: a\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: xclose, closex\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run r;
        run_init(&r);
        ASSERT_EQ(fibril__http_parse(&r.p, cases[i].head, strlen(cases[i].head)), 0);
        ASSERT_EQ(r.p.head.keep_alive, cases[i].keep);
    }
}

TEST(expectation_counts_only_with_a_body_in_1_1)
{
    struct run r;
    PARSE(r, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
    ASSERT_EQ(r.p.head.expect_continue, true);
    PARSE(r, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    ASSERT_EQ(r.p.head.expect_continue, false);
    PARSE(r, "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    ASSERT_EQ(r.p.head.expect_continue, false);
}

TEST(upgrade_needs_the_connection_option)
{
    struct run r;
    PARSE(r, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: x, Upgrade\r\n\r\n");
    ASSERT_SPAN(r.p.head.upgrade, "websocket");
    PARSE(r, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
    ASSERT_EQ(r.p.head.upgrade.len, 0);
    PARSE(r, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n");
    ASSERT_EQ(r.p.head.upgrade.len, 0);
    PARSE(r, "GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    ASSERT_EQ(r.p.head.upgrade.len, 0);
}

TEST(upgrade_to_h2c_is_ignored_with_a_body)
{
    struct run r;
    PARSE(r, "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
             "Content-Length: 1\r\n\r\nx");
    ASSERT_EQ(r.p.head.upgrade.len, 0);
    PARSE(r, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    ASSERT_SPAN(r.p.head.upgrade, "h2c");
}

TEST(underscore_names_are_marked)
{
    struct run r;
    PARSE(r,
          "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nX-Very-Long-Field-Name_: 1\r\n\r\n");
    ASSERT_EQ(r.fields[0].flags, 0);
    ASSERT_EQ(r.fields[1].flags, FIBRIL__FIELD_HAS_UNDERSCORE);
    ASSERT_EQ(r.fields[1].id, FIBRIL__FIELD_OTHER);
    ASSERT_EQ(r.fields[2].flags, FIBRIL__FIELD_HAS_UNDERSCORE);
    ASSERT_EQ(r.p.head.content_length, -1);
}

TEST(every_known_field_is_found_by_its_name_in_any_case)
{
    for (int id = FIBRIL__FIELD_OTHER + 1; id < FIBRIL__FIELD_IDS; id++) {
        struct fibril__span name = fibril__http_field_name((enum fibril__http_id)id);
        char upper[64];
        ASSERT_GT(name.len, 0);
        ASSERT_LT(name.len, 32);
        ASSERT_EQ(fibril__http_field_id(name), id);
        for (size_t i = 0; i < name.len; i++) {
            char c = name.ptr[i];
            upper[i] = c >= 'a' && c <= 'z' ? (char)(c - 0x20) : c;
        }
        ASSERT_EQ(fibril__http_field_id((struct fibril__span){upper, name.len}), id);
        for (size_t i = 0; i < name.len; i++) {
            char kept = upper[i];
            upper[i] = '!';
            ASSERT_EQ(fibril__http_field_id((struct fibril__span){upper, name.len}),
                      FIBRIL__FIELD_OTHER);
            upper[i] = kept;
        }
    }
}

static bool in(const char *set, int c)
{
    return c != 0 && strchr(set, c) != NULL;
}

TEST(character_classes_are_those_of_the_rfcs)
{
    for (int c = 0; c < 256; c++) {
        bool digit = c >= '0' && c <= '9';
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        char b = (char)c;
        ASSERT_EQ(fibril__char_is(b, FIBRIL__DIGIT), digit);
        ASSERT_EQ(fibril__char_is(b, FIBRIL__ALPHA), alpha);
        ASSERT_EQ(fibril__char_is(b, FIBRIL__HEX), digit || in("abcdefABCDEF", c));
        ASSERT_EQ(fibril__char_is(b, FIBRIL__TCHAR), digit || alpha || in("!#$%&'*+-.^_`|~", c));
        ASSERT_EQ(fibril__char_is(b, FIBRIL__REGNAME), digit || alpha || in("-._~!$&'()*+;=", c));
        ASSERT_EQ(fibril__char_is(b, FIBRIL__VISIBLE), c > 0x20 && c < 0x7f);
        ASSERT_EQ(fibril__char_is(b, FIBRIL__UNDERSCORE), c == '_');
    }
}

/* Each byte at each place of a 40-byte run, so that every lane of the vector scan is tried. */
static int with_byte_at(const char *before, size_t run, const char *after, size_t place, int byte)
{
    char text[256];
    size_t len = strlen(before);
    struct run r;
    memcpy(text, before, len);
    memset(text + len, 'a', run);
    text[len + place] = (char)byte;
    memcpy(text + len + run, after, strlen(after));
    run_init(&r);
    return fibril__http_parse(&r.p, text, len + run + strlen(after));
}

TEST(every_byte_at_every_place_of_a_value)
{
    for (int byte = 0; byte < 256; byte++) {
        bool good = (byte >= 0x20 && byte != 0x7f) || byte == '\t';
        for (size_t place = 0; place < 40; place++) {
            int rc = with_byte_at("GET / HTTP/1.1\r\nHost: a\r\nX: ", 40, "\r\n\r\n", place, byte);
            ASSERT_EQ(rc, good ? 0 : 400);
        }
    }
}

TEST(every_byte_at_every_place_of_a_target)
{
    for (int byte = 0; byte < 256; byte++) {
        bool good = byte > 0x20 && byte < 0x7f && byte != '#';
        for (size_t place = 0; place < 40; place++) {
            int rc = with_byte_at("GET /", 40, " HTTP/1.1\r\nHost: a\r\n\r\n", place, byte);
            ASSERT_EQ(rc, good ? 0 : 400);
        }
    }
}

TEST(every_byte_at_every_place_of_a_name)
{
    for (int byte = 0; byte < 256; byte++) {
        /* A colon ends the name, and a second one begins the value: fine unless it is the first
         * byte. */
        for (size_t place = 0; place < 40; place++) {
            bool good = fibril__char_is((char)byte, FIBRIL__TCHAR) || (byte == ':' && place > 0);
            int rc = with_byte_at("GET / HTTP/1.1\r\nHost: a\r\n", 40, ": v\r\n\r\n", place, byte);
            ASSERT_EQ(rc, good ? 0 : 400);
        }
    }
}

/* Builds `before`, `count` times 'a', `after` on the heap and parses it whole and in steps; both
 * must agree. */
static int parse_long(const char *before, size_t count, const char *after)
{
    size_t len = strlen(before) + count + strlen(after);
    char *text = malloc(len);
    struct run whole;
    struct run steps;
    ASSERT(text != NULL);
    memcpy(text, before, strlen(before));
    memset(text + strlen(before), 'a', count);
    memcpy(text + strlen(before) + count, after, strlen(after));
    run_init(&whole);
    run_init(&steps);
    int rc = fibril__http_parse(&whole.p, text, len);
    int rc_steps = -EAGAIN;
    for (size_t n = 0; n <= len && rc_steps == -EAGAIN; n++) {
        rc_steps = fibril__http_parse(&steps.p, text, n);
    }
    ASSERT_EQ(rc, rc_steps);
    free(text);
    return rc;
}

TEST(request_line_limit_is_exact)
{
    size_t room = default_limits.request_line_bytes - strlen("GET / HTTP/1.1");
    ASSERT_EQ(parse_long("GET /", room, " HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    ASSERT_EQ(parse_long("GET /", room + 1, " HTTP/1.1\r\nHost: a\r\n\r\n"), 414);
    ASSERT_EQ(parse_long("GET /", 100000, ""), 414);
}

TEST(field_limit_is_exact)
{
    size_t room = default_limits.field_bytes - strlen("X: ");
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\nX: ", room, "\r\n\r\n"), 0);
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\nX: ", room + 1, "\r\n\r\n"), 431);
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\nX: ", 20000, "\x01"), 431);
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\n", room + 2, ":\r\n\r\n"), 0);
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\n", room + 3, ":\r\n\r\n"), 431);
    ASSERT_EQ(parse_long("GET / HTTP/1.1\r\nHost: a\r\n", 20000, ""), 431);
}

/* A head of exactly `bytes`, made of four fields that are each within their limit. */
static int head_of(size_t bytes, bool steps)
{
    static char text[70000];
    static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\n";
    size_t len = sizeof(start) - 1;
    memcpy(text, start, len);
    while (len + 2 < bytes) {
        size_t line = bytes - 2 - len;
        line = line > 8000 ? 7000 : line;
        memset(text + len, 'v', line);
        memcpy(text + len, "X:", 2);
        memcpy(text + len + line - 2, "\r\n", 2);
        len += line;
    }
    memcpy(text + len, "\r\n", 2);
    len += 2;
    ASSERT_EQ(len, bytes);
    struct run r;
    int rc = -EAGAIN;
    run_init(&r);
    for (size_t n = steps ? 0 : len; n <= len && rc == -EAGAIN; n++) {
        rc = fibril__http_parse(&r.p, text, n);
    }
    return rc;
}

TEST(head_limit_is_exact)
{
    for (int steps = 0; steps < 2; steps++) {
        ASSERT_EQ(head_of(default_limits.head_bytes, steps), 0);
        ASSERT_EQ(head_of(default_limits.head_bytes + 1, steps), 431);
        ASSERT_EQ(head_of(default_limits.head_bytes + 2, steps), 431);
    }
}

static int head_with_fields(size_t count)
{
    char text[4096] = "GET / HTTP/1.1\r\nHost: a\r\n";
    struct run r;
    size_t len = strlen(text);
    for (size_t i = 1; i < count; i++) {
        memcpy(text + len, "X: y\r\n", 6);
        len += 6;
    }
    memcpy(text + len, "\r\n", 2);
    run_init(&r);
    return fibril__http_parse(&r.p, text, len + 2);
}

TEST(field_count_limit_is_exact)
{
    ASSERT_EQ(head_with_fields(FIELDS_MAX), 0);
    ASSERT_EQ(head_with_fields(FIELDS_MAX + 1), 431);
}

TEST(callers_array_limits_the_fields_too)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nX: z\r\n\r\n";
    struct fibril__http_field two[2];
    struct fibril__http_parser p;
    fibril__http_parser_init(&p, &default_limits, two, 2);
    ASSERT_EQ(fibril__http_parse(&p, text, sizeof(text) - 1), 431);
}

TEST(pipelined_requests_are_parsed_one_after_the_other)
{
    static const char text[] =
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    struct run r;
    run_init(&r);
    ASSERT_EQ(fibril__http_parse(&r.p, text, sizeof(text) - 1), 0);
    ASSERT_SPAN(r.p.head.path, "/1");
    size_t used = r.p.head.bytes;
    run_init(&r);
    ASSERT_EQ(fibril__http_parse(&r.p, text + used, sizeof(text) - 1 - used), 0);
    ASSERT_SPAN(r.p.head.path, "/2");
    ASSERT_EQ(used + r.p.head.bytes, sizeof(text) - 1);
}
