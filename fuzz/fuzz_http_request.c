/* SPDX-License-Identifier: MIT */
/*
 * The head parser on arbitrary bytes. Properties: every span lies inside the head (or is one of two
 * literals); any cut, with the buffer at another address each time, ends the same way; what follows
 * the head does not matter; a head written out again from its spans is accepted with the same
 * meaning.
 *
 * The first two bytes choose the cuts, the rest is the input.
 */
#include <errno.h>

#include "fuzz.h"
#include "http/parse.h"

#define FIELDS_MAX 20

/* Small limits, so that short inputs reach them. */
static const struct fibril__http_limits limits = {
    .request_line_bytes = 200, .field_bytes = 150, .head_bytes = 700, .fields_max = FIELDS_MAX};

struct run {
    struct fibril__http_parser p;
    struct fibril__http_field fields[FIELDS_MAX];
    int rc;
};

static void run_whole(struct run *r, const char *buf, size_t len)
{
    fibril__http_parser_init(&r->p, &limits, r->fields, FIELDS_MAX);
    r->rc = fibril__http_parse(&r->p, buf, len);
}

/* Steps of one byte and more; every call gets a fresh copy. Returns the copy the spans point into.
 */
static char *run_cut(struct run *r, const char *buf, size_t len, size_t first, size_t step)
{
    size_t n = first < len ? first : len;
    char *copy = NULL;
    fibril__http_parser_init(&r->p, &limits, r->fields, FIELDS_MAX);
    for (;;) {
        char *next = fuzz_copy(buf, n);
        r->rc = fibril__http_parse(&r->p, next, n);
        free(copy);
        copy = next;
        if (n == len || r->rc != -EAGAIN) {
            return copy;
        }
        n = len - n > step ? n + step : len;
    }
}

static void check_span(const struct run *r, struct fibril__span s, const char *buf)
{
    const char *end = buf + r->p.head.bytes;
    bool inside = s.ptr >= buf && s.ptr <= end && s.len <= (size_t)(end - s.ptr);
    bool literal =
        s.len == 1 && (*s.ptr == '/' || *s.ptr == '*') && r->p.head.form == FIBRIL__HTTP_ABSOLUTE;
    REQUIRE(s.len == 0 || inside || literal);
}

static void check_spans(const struct run *r, const char *buf, size_t len)
{
    const struct fibril__http_head *h = &r->p.head;
    REQUIRE(h->bytes <= len && h->bytes <= limits.head_bytes && h->field_count <= FIELDS_MAX);
    REQUIRE(h->method.len > 0 && h->target.len > 0);
    REQUIRE(!h->chunked || h->content_length == -1);
    check_span(r, h->method, buf);
    check_span(r, h->target, buf);
    check_span(r, h->path, buf);
    check_span(r, h->query, buf);
    check_span(r, h->authority, buf);
    check_span(r, h->upgrade, buf);
    for (size_t i = 0; i < h->field_count; i++) {
        check_span(r, h->fields[i].name, buf);
        check_span(r, h->fields[i].value, buf);
        REQUIRE(h->fields[i].name.len > 0);
        REQUIRE(memchr(h->fields[i].value.ptr, '\n', h->fields[i].value.len) == NULL);
    }
}

static void check_same(const struct run *a, const struct run *b)
{
    const struct fibril__http_head *x = &a->p.head;
    const struct fibril__http_head *y = &b->p.head;
    REQUIRE(fibril__span_equal(x->method, y->method) && fibril__span_equal(x->target, y->target));
    REQUIRE(fibril__span_equal(x->path, y->path) && fibril__span_equal(x->query, y->query));
    REQUIRE(fibril__span_equal(x->authority, y->authority));
    REQUIRE(fibril__span_equal(x->upgrade, y->upgrade));
    REQUIRE(x->field_count == y->field_count && x->content_length == y->content_length);
    REQUIRE(x->chunked == y->chunked && x->keep_alive == y->keep_alive && x->minor == y->minor);
    REQUIRE(x->expect_continue == y->expect_continue && x->form == y->form);
    for (size_t i = 0; i < x->field_count; i++) {
        REQUIRE(fibril__span_equal(x->fields[i].name, y->fields[i].name));
        REQUIRE(fibril__span_equal(x->fields[i].value, y->fields[i].value));
        REQUIRE(x->fields[i].id == y->fields[i].id && x->fields[i].flags == y->fields[i].flags);
    }
}

static size_t put(char *out, size_t at, struct fibril__span s, const char *after)
{
    if (s.len > 0) {
        memcpy(out + at, s.ptr, s.len);
    }
    memcpy(out + at + s.len, after, strlen(after));
    return at + s.len + strlen(after);
}

/* Writes the head anew. It is never longer than it was: blanks are left out. */
static size_t rewrite(const struct fibril__http_head *h, char *out)
{
    size_t at = put(out, 0, h->method, " ");
    at = put(out, at, h->target, h->minor == 1 ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
    for (size_t i = 0; i < h->field_count; i++) {
        at = put(out, at, h->fields[i].name, ":");
        at = put(out, at, h->fields[i].value, "\r\n");
    }
    return put(out, at, (struct fibril__span){NULL, 0}, "\r\n");
}

static void check_accepted(const struct run *whole, const char *buf, size_t len)
{
    struct run again;
    char *shorter = fuzz_copy(buf, whole->p.head.bytes);
    char out[1024];
    check_spans(whole, buf, len);
    run_whole(&again, shorter, whole->p.head.bytes);
    REQUIRE(again.rc == 0 && again.p.head.bytes == whole->p.head.bytes);
    check_same(whole, &again);
    size_t rewritten = rewrite(&whole->p.head, out);
    REQUIRE(rewritten <= whole->p.head.bytes);
    run_whole(&again, out, rewritten);
    REQUIRE(again.rc == 0 && again.p.head.bytes == rewritten);
    check_same(whole, &again);
    free(shorter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 4096) {
        return 0;
    }
    size_t len = size - 2;
    char *buf = fuzz_copy(data + 2, len);
    struct run whole;
    struct run cut;
    run_whole(&whole, buf, len);
    REQUIRE(whole.rc == 0 || whole.rc == -EAGAIN || (whole.rc >= 400 && whole.rc <= 505));
    REQUIRE((whole.rc > 0) == (whole.p.why != NULL));
    char *copy = run_cut(&cut, buf, len, data[0], data[1] + 1u);
    REQUIRE(cut.rc == whole.rc);
    REQUIRE(whole.rc <= 0 || strcmp(whole.p.why, cut.p.why) == 0);
    if (whole.rc == 0) {
        check_accepted(&whole, buf, len);
        check_same(&whole, &cut);
    }
    free(copy);
    copy = run_cut(&cut, buf, len, 0, 1);
    REQUIRE(cut.rc == whole.rc);
    free(copy);
    free(buf);
    return 0;
}
