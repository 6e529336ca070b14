/* SPDX-License-Identifier: MIT */
/*
 * The chunk decoder on arbitrary bytes. Properties: any cut gives the same data, outcome, trailers
 * and length; what was decoded, encoded again by our own writer, decodes to the same data.
 *
 * The first two bytes choose the cuts, the rest is the input.
 */
#include <errno.h>

#include "fuzz.h"
#include "http/chunk.h"
#include "http/encode.h"

#define FIELDS_MAX 8
#define INPUT_BYTES_MAX 4096

static const struct fibril__http_limits limits = {.field_bytes = 100,
                                                  .trailer_bytes = 200,
                                                  .trailers_max = FIELDS_MAX,
                                                  .chunk_ext_bytes = 20,
                                                  .chunk_exts_bytes = 60,
                                                  .chunk_overhead_bytes = 200,
                                                  .chunk_overhead_ratio = 8};

struct body {
    struct fibril__http_chunk c;
    struct fibril__http_field fields[FIELDS_MAX];
    char data[INPUT_BYTES_MAX];
    size_t len;
    size_t used;
    char trailers[4 * INPUT_BYTES_MAX]; /* written out while the spans are good */
    size_t trailers_len;
    int rc;
};

static void note_trailers(struct body *b)
{
    struct fibril__http_out out = {b->trailers, 0, sizeof(b->trailers)};
    for (size_t i = 0; i < b->c.field_count; i++) {
        REQUIRE(fibril__http_put_field(&out, b->fields[i].name, b->fields[i].value) == 0);
        REQUIRE(!fibril__http_field_forbidden_in_trailer((enum fibril__http_id)b->fields[i].id));
    }
    b->trailers_len = out.len;
}

/* Offers what is there of raw[b->used .. len). */
static void feed(struct body *b, const char *raw, size_t len)
{
    char *copy = fuzz_copy(raw + b->used, len - b->used);
    size_t at = 0;
    size_t left = len - b->used;
    do {
        struct fibril__span data = {NULL, 0};
        size_t used = 0;
        b->rc = fibril__http_chunk_next(&b->c, copy + at, left - at, &used, &data);
        REQUIRE(used <= left - at);
        if (b->rc == FIBRIL__HTTP_CHUNK_DATA) {
            REQUIRE(data.len > 0 && data.ptr >= copy + at &&
                    data.ptr + data.len <= copy + at + used);
            memcpy(b->data + b->len, data.ptr, data.len);
            b->len += data.len;
        }
        at += used;
    } while (b->rc == FIBRIL__HTTP_CHUNK_DATA);
    b->used += at;
    if (b->rc == FIBRIL__HTTP_CHUNK_END) {
        note_trailers(b);
    }
    free(copy);
}

static void decode(struct body *b, const char *raw, size_t len, size_t first, size_t step)
{
    size_t n = first < len ? first : len;
    b->len = b->used = b->trailers_len = 0;
    fibril__http_chunk_init(&b->c, &limits, b->fields, FIELDS_MAX);
    for (;;) {
        feed(b, raw, n);
        if (n == len || b->rc != -EAGAIN) {
            return;
        }
        n = len - n > step ? n + step : len;
    }
}

static void check_same(const struct body *a, const struct body *b)
{
    REQUIRE(a->rc == b->rc && a->len == b->len && a->c.total == b->c.total);
    REQUIRE(memcmp(a->data, b->data, a->len) == 0);
    REQUIRE(a->rc != 0 || a->used == b->used);
    REQUIRE(a->trailers_len == b->trailers_len);
    REQUIRE(memcmp(a->trailers, b->trailers, a->trailers_len) == 0);
}

static void check_encoded(const struct body *b, struct body *again)
{
    static char text[INPUT_BYTES_MAX + 300];
    struct fibril__http_out out = {text, 0, sizeof(text)};
    if (b->len > 0) {
        REQUIRE(fibril__http_put_chunk_head(&out, b->len) == 0);
        REQUIRE(fibril__http_put_raw(&out, (struct fibril__span){b->data, b->len}) == 0);
        REQUIRE(fibril__http_put_end(&out) == 0);
    }
    REQUIRE(fibril__http_put_last_chunk(&out) == 0);
    REQUIRE(fibril__http_put_raw(&out, (struct fibril__span){b->trailers, b->trailers_len}) == 0);
    REQUIRE(fibril__http_put_end(&out) == 0);
    decode(again, text, out.len, out.len, 1);
    /* Trailers may have grown by the blank after the colon, past their limit. */
    REQUIRE((again->rc == 0 && again->used == out.len) || again->rc == 431);
    REQUIRE(again->len == b->len && memcmp(again->data, b->data, b->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct body whole;
    static struct body cut;
    if (size < 2 || size > INPUT_BYTES_MAX) {
        return 0;
    }
    size_t len = size - 2;
    const char *raw = (const char *)data + 2;
    decode(&whole, raw, len, len, 1);
    REQUIRE(whole.rc == 0 || whole.rc == -EAGAIN || whole.rc == 400 || whole.rc == 431);
    REQUIRE((whole.rc > 0) == (whole.c.why != NULL));
    decode(&cut, raw, len, data[0], data[1] + 1u);
    check_same(&whole, &cut);
    decode(&cut, raw, len, 0, 1);
    check_same(&whole, &cut);
    if (whole.rc == 0) {
        check_encoded(&whole, &cut);
    }
    return 0;
}
