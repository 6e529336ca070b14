/* SPDX-License-Identifier: MIT */
/* The chunk decoder: its table in every cut, what it points out, trailers, and the limits. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cases.h"
#include "guard.h"
#include "http/chunk.h"

static const struct fibril__http_limits default_limits = FIBRIL__HTTP_LIMITS_DEFAULT;

struct body {
    char data[65536];
    size_t len;
    size_t used; /* of the input */
    struct fibril__http_chunk c;
    struct fibril__http_field fields[32];
    int rc;
};

static void body_init(struct body *b, const struct fibril__http_limits *limits)
{
    b->len = b->used = 0;
    b->rc = -EAGAIN;
    fibril__http_chunk_init(&b->c, limits, b->fields, 32);
}

/* Decodes what is there of raw[used .. len), which is offered right before a guard page. */
static void body_feed(struct guard *g, struct body *b, const char *raw, size_t len)
{
    const char *at = guard_put(g, raw + b->used, len - b->used);
    size_t left = len - b->used;
    do {
        struct fibril__span data = {NULL, 0};
        size_t used = 0;
        b->rc = fibril__http_chunk_next(&b->c, at, left, &used, &data);
        ASSERT_LE(used, left);
        at += used;
        left -= used;
        b->used += used;
        if (b->rc == FIBRIL__HTTP_CHUNK_DATA) {
            ASSERT_GT(data.len, 0);
            ASSERT_LE(b->len + data.len, sizeof(b->data));
            memcpy(b->data + b->len, data.ptr, data.len);
            b->len += data.len;
        }
    } while (b->rc == FIBRIL__HTTP_CHUNK_DATA);
}

static void decode(struct guard *g, struct body *b, const char *raw, size_t len, size_t first,
                   size_t step)
{
    body_init(b, &default_limits);
    for (size_t n = first; b->rc == -EAGAIN; n = n + step < len ? n + step : len) {
        body_feed(g, b, raw, n);
        if (n == len) {
            break;
        }
    }
}

static void check_status(const char *how, const struct http_case *c, const struct body *b)
{
    if (b->rc != c->status) {
        test_fail(__FILE__, __LINE__, "%s, %s: got %d, expected %d", c->name, how, b->rc,
                  c->status);
    }
    if ((c->status > 0) != (b->c.why != NULL)) {
        test_fail(__FILE__, __LINE__, "%s, %s: no reason given", c->name, how);
    }
}

TEST(table_in_every_cut_gives_the_same_data)
{
    struct guard g = guard_new(65536);
    static struct body whole;
    static struct body cut;
    for (size_t i = 0; i < chunk_case_count; i++) {
        const struct http_case *c = &chunk_cases[i];
        decode(&g, &whole, c->raw, c->len, c->len, 1);
        check_status("whole", c, &whole);
        for (size_t first = 0; first < c->len; first++) {
            decode(&g, &cut, c->raw, c->len, first, c->len);
            check_status("cut in two", c, &cut);
            ASSERT_EQ(cut.len, whole.len);
            ASSERT_MEM(cut.data, whole.data, whole.len);
        }
        decode(&g, &cut, c->raw, c->len, 0, 1);
        check_status("byte by byte", c, &cut);
        ASSERT_EQ(cut.len, whole.len);
        ASSERT_EQ(cut.c.field_count, whole.c.field_count);
        ASSERT_EQ(whole.rc != 0 || cut.used == whole.used, true);
    }
}

TEST(data_and_length_come_out)
{
    static const char raw[] = "5;a=b\r\nhello\r\n7\r\n, world\r\n0\r\n\r\nrest";
    struct guard g = guard_new(4096);
    static struct body b;
    decode(&g, &b, raw, sizeof(raw) - 1, 1, 3);
    ASSERT_EQ(b.rc, FIBRIL__HTTP_CHUNK_END);
    ASSERT_EQ(b.len, 12);
    ASSERT_MEM(b.data, "hello, world", 12);
    ASSERT_EQ(b.c.total, 12);
    decode(&g, &b, raw, sizeof(raw) - 1, sizeof(raw) - 1, 1);
    ASSERT_EQ(b.used, sizeof(raw) - 1 - strlen("rest"));
}

TEST(outcome_is_final)
{
    struct guard g = guard_new(4096);
    static struct body b;
    decode(&g, &b, "0\r\n\r\n", 5, 5, 1);
    size_t used = 1;
    struct fibril__span data;
    ASSERT_EQ(fibril__http_chunk_next(&b.c, "5\r\nhello", 8, &used, &data), FIBRIL__HTTP_CHUNK_END);
    ASSERT_EQ(used, 0);
}

TEST(forbidden_trailers_are_dropped)
{
    static const char raw[] = "0\r\nX-Sum: 7\r\nContent-Length: 5\r\ntransfer-ENCODING: chunked\r\n"
                              "Host: evil\r\nAuthorization: x\r\nCookie: y\r\nLast: 1\r\n\r\n";
    struct guard g = guard_new(4096);
    static struct body b;
    decode(&g, &b, raw, sizeof(raw) - 1, sizeof(raw) - 1, 1);
    ASSERT_EQ(b.rc, FIBRIL__HTTP_CHUNK_END);
    ASSERT_EQ(b.c.field_count, 2);
    ASSERT_MEM(b.fields[0].name.ptr, "X-Sum", 5);
    ASSERT_MEM(b.fields[0].value.ptr, "7", 1);
    ASSERT_MEM(b.fields[1].name.ptr, "Last", 4);
}

static int decode_repeated(const char *piece, size_t times, const char *end,
                           const struct fibril__http_limits *limits)
{
    struct guard g = guard_new(1 << 20);
    static struct body b;
    static char raw[1 << 20];
    size_t len = 0;
    size_t piece_len = strlen(piece);
    ASSERT_LE(piece_len * times + strlen(end), sizeof(raw));
    for (size_t i = 0; i < times; i++) {
        memcpy(raw + len, piece, piece_len);
        len += piece_len;
    }
    memcpy(raw + len, end, strlen(end));
    len += strlen(end);
    body_init(&b, limits);
    body_feed(&g, &b, raw, len);
    return b.rc;
}

TEST(extension_limit_of_a_chunk_is_exact)
{
    char raw[400];
    for (int over = 0; over < 2; over++) {
        memset(raw, 'x', sizeof(raw));
        memcpy(raw, "5;", 2);
        memcpy(raw + 1 + 256 + over, "\r\nhello\r\n0\r\n\r\n", 15);
        ASSERT_EQ(decode_repeated(raw, 1, "", &default_limits), over ? 400 : 0);
    }
}

TEST(extension_limit_of_a_body_is_exact)
{
    /* 128 bytes of extension a time, ';' included. */
    char piece[300];
    memset(piece, 'x', sizeof(piece));
    memcpy(piece, "20;", 3);
    memcpy(piece + 2 + 128, "\r\n01234567890123456789012345678901\r\n", 37);
    ASSERT_EQ(decode_repeated(piece, 32, "0\r\n\r\n", &default_limits), 0);
    ASSERT_EQ(decode_repeated(piece, 33, "0\r\n\r\n", &default_limits), 400);
    ASSERT_EQ(decode_repeated(piece, 32, "0;x\r\n\r\n", &default_limits), 400);
}

TEST(framing_may_not_outweigh_the_data)
{
    /* 20 bytes of framing for one of data: beyond 8 to 1 and the free 16 KB. One byte a chunk is 5
     * to 1. */
    ASSERT_EQ(decode_repeated("0000000000000001\r\nx\r\n", 500, "0\r\n\r\n", &default_limits), 0);
    ASSERT_EQ(decode_repeated("0000000000000001\r\nx\r\n", 2000, "0\r\n\r\n", &default_limits),
              400);
    ASSERT_EQ(decode_repeated("1\r\nx\r\n", 20000, "0\r\n\r\n", &default_limits), 0);
}

TEST(trailer_limits_are_kept)
{
    ASSERT_EQ(decode_repeated("0\r\n", 1, "X: y\r\n\r\n", &default_limits), 0);
    struct fibril__http_limits limits = default_limits;
    limits.trailer_bytes = 8;
    ASSERT_EQ(decode_repeated("0\r\n", 1, "X: y\r\n\r\n", &limits), 0);
    ASSERT_EQ(decode_repeated("0\r\n", 1, "X: yz\r\n\r\n", &limits), 431);
    limits = default_limits;
    limits.trailers_max = 2;
    ASSERT_EQ(decode_repeated("0\r\n", 1, "X: y\r\nX: y\r\n\r\n", &limits), 0);
    ASSERT_EQ(decode_repeated("0\r\n", 1, "X: y\r\nX: y\r\nX: y\r\n\r\n", &limits), 431);
}

TEST(no_room_for_trailers_refuses_any)
{
    struct fibril__http_chunk c;
    struct fibril__span data;
    size_t used = 0;
    fibril__http_chunk_init(&c, &default_limits, NULL, 0);
    ASSERT_EQ(fibril__http_chunk_next(&c, "0\r\n\r\n", 5, &used, &data), FIBRIL__HTTP_CHUNK_END);
    ASSERT_EQ(used, 5);
    fibril__http_chunk_init(&c, &default_limits, NULL, 0);
    ASSERT_EQ(fibril__http_chunk_next(&c, "0\r\nX: y\r\n\r\n", 11, &used, &data), 431);
}
