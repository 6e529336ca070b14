/* SPDX-License-Identifier: MIT */
/*
 * Chunked decoding, one byte of framing at a time and data in whole runs.
 *
 *     SIZE -+----------> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *           |  ;            ^ \
 *           +-> EXT_NAME ---+  \ size 0
 *                |   = |    |   +-> TRAILERS -> END
 *                |     v    |
 *                |  EXT_VALUE / EXT_QUOTED / EXT_ESCAPE / EXT_CLOSED
 *
 * Stricter than the grammar in one place: no whitespace around `;` and `=`. Refusals are for the
 * ways in which decoders were found to disagree: a size with a sign, 0x, spaces, nothing at all or
 * more than sixteen digits; a bare LF; a stray CR in an extension; data that does not end where its
 * size said.
 *
 * The overhead limit stops a peer that sends a byte of data with a kilobyte of framing, over and
 * over.
 */
#include "http/chunk.h"

#include <errno.h>

#include "http/token.h"

enum step {
    STEP_SIZE,
    STEP_SIZE_LF,
    STEP_EXT_NAME,   /* after ';', at least one tchar */
    STEP_EXT_NAMED,  /* within the name */
    STEP_EXT_VALUE,  /* after '=' */
    STEP_EXT_VALUED, /* within a token value */
    STEP_EXT_QUOTED,
    STEP_EXT_ESCAPE, /* after a backslash within quotes */
    STEP_EXT_CLOSED, /* after the closing quote */
    STEP_DATA,
    STEP_DATA_CR,
    STEP_DATA_LF,
    STEP_TRAILERS,
};

#define SIZE_DIGITS_MAX 16

void fibril__http_chunk_init(struct fibril__http_chunk *c, const struct fibril__http_limits *limits,
                             struct fibril__http_field *fields, size_t fields_count)
{
    memset(c, 0, sizeof(*c));
    c->limits = limits;
    c->result = -EAGAIN;
    fibril__http_parser_init_trailers(&c->trailer, limits, fields, fields_count);
}

static int refuse(struct fibril__http_chunk *c, int status, const char *why)
{
    c->why = why;
    return status;
}

/* One more byte of extension. */
static int count_ext(struct fibril__http_chunk *c)
{
    c->ext++;
    c->exts++;
    if (c->ext > c->limits->chunk_ext_bytes || c->exts > c->limits->chunk_exts_bytes) {
        return refuse(c, 400, "chunk extensions too long");
    }
    return 0;
}

static int step_size(struct fibril__http_chunk *c, char b)
{
    int digit = fibril__hex_value(b);
    if (digit >= 0) {
        if (++c->digits > SIZE_DIGITS_MAX) {
            return refuse(c, 400, "chunk size too long");
        }
        c->size = c->size << 4 | (uint64_t)digit;
        return 0;
    }
    if (c->digits == 0 || (b != '\r' && b != ';')) {
        return refuse(c, 400, "bad chunk size");
    }
    if (b == '\r') {
        c->step = STEP_SIZE_LF;
        return 0;
    }
    c->step = STEP_EXT_NAME;
    return count_ext(c);
}

static bool overhead_excessive(const struct fibril__http_chunk *c)
{
    const struct fibril__http_limits *limits = c->limits;
    uint64_t allowed = 0;
    if (__builtin_mul_overflow(c->announced, (uint64_t)limits->chunk_overhead_ratio, &allowed) ||
        __builtin_add_overflow(allowed, (uint64_t)limits->chunk_overhead_bytes, &allowed)) {
        return false;
    }
    return c->overhead > allowed;
}

/* The size line is complete: what comes next, and whether the body may go on like this. */
static int step_size_lf(struct fibril__http_chunk *c, char b)
{
    if (b != '\n') {
        return refuse(c, 400, "CR without LF in a chunk line");
    }
    if (c->size > INT64_MAX || c->announced > INT64_MAX - c->size) {
        return refuse(c, 400, "chunk size too large");
    }
    if (overhead_excessive(c)) {
        return refuse(c, 400, "more framing than data");
    }
    c->announced += c->size;
    c->left = c->size;
    c->step = c->size == 0 ? STEP_TRAILERS : STEP_DATA;
    c->size = 0;
    c->digits = 0;
    c->ext = 0;
    return 0;
}

/* What may follow a complete extension: another, or the end of the line. */
static int ext_ends(struct fibril__http_chunk *c, char b)
{
    if (b != ';' && b != '\r') {
        return refuse(c, 400, "bad byte in a chunk extension");
    }
    c->step = b == ';' ? STEP_EXT_NAME : STEP_SIZE_LF;
    return 0;
}

static int ext_token(struct fibril__http_chunk *c, char b, enum step next)
{
    if (!fibril__char_is(b, FIBRIL__TCHAR)) {
        return refuse(c, 400, "bad byte in a chunk extension");
    }
    c->step = (uint8_t)next;
    return 0;
}

/* Inside quotes: anything but controls. A tab is a control here, whatever qdtext allows. */
static int ext_quoted(struct fibril__http_chunk *c, char b)
{
    unsigned char u = (unsigned char)b;
    if (u < 0x20 || u == 0x7f) {
        return refuse(c, 400, "control byte in a chunk extension");
    }
    if (c->step == STEP_EXT_ESCAPE) {
        c->step = STEP_EXT_QUOTED;
    } else if (b == '"') {
        c->step = STEP_EXT_CLOSED;
    } else if (b == '\\') {
        c->step = STEP_EXT_ESCAPE;
    }
    return 0;
}

static int step_ext(struct fibril__http_chunk *c, char b)
{
    int rc = b != '\r' ? count_ext(c) : 0;
    if (rc != 0) {
        return rc;
    }
    switch ((enum step)c->step) {
    case STEP_EXT_NAMED:
        if (b == '=') {
            c->step = STEP_EXT_VALUE;
            return 0;
        }
        return fibril__char_is(b, FIBRIL__TCHAR) ? 0 : ext_ends(c, b);
    case STEP_EXT_VALUE:
        if (b == '"') {
            c->step = STEP_EXT_QUOTED;
            return 0;
        }
        return ext_token(c, b, STEP_EXT_VALUED);
    case STEP_EXT_VALUED: return fibril__char_is(b, FIBRIL__TCHAR) ? 0 : ext_ends(c, b);
    case STEP_EXT_QUOTED:
    case STEP_EXT_ESCAPE: return ext_quoted(c, b);
    case STEP_EXT_CLOSED: return ext_ends(c, b);
    default: return ext_token(c, b, STEP_EXT_NAMED);
    }
}

/* One byte of framing. */
static int framing(struct fibril__http_chunk *c, char b)
{
    c->overhead++;
    switch ((enum step)c->step) {
    case STEP_SIZE: return step_size(c, b);
    case STEP_SIZE_LF: return step_size_lf(c, b);
    case STEP_DATA_CR:
        c->step = STEP_DATA_LF;
        return b == '\r' ? 0 : refuse(c, 400, "no CR after chunk data");
    case STEP_DATA_LF:
        c->step = STEP_SIZE;
        return b == '\n' ? 0 : refuse(c, 400, "no LF after chunk data");
    default: return step_ext(c, b);
    }
}

static void drop_forbidden(struct fibril__http_chunk *c)
{
    struct fibril__http_field *fields = c->trailer.fields;
    size_t kept = 0;
    for (size_t i = 0; i < c->trailer.head.field_count; i++) {
        if (!fibril__http_field_forbidden_in_trailer((enum fibril__http_id)fields[i].id)) {
            fields[kept++] = fields[i];
        }
    }
    c->field_count = kept;
}

static int trailers(struct fibril__http_chunk *c, const char *buf, size_t len, size_t *ret_used)
{
    int rc = fibril__http_parse(&c->trailer, buf, len);
    if (rc == 0) {
        drop_forbidden(c);
        *ret_used += c->trailer.head.bytes;
    } else if (rc > 0) {
        c->why = c->trailer.why;
    }
    return rc;
}

static void data_run(struct fibril__http_chunk *c, const char *buf, size_t len,
                     struct fibril__span *ret_data)
{
    size_t run = len < c->left ? len : (size_t)c->left;
    *ret_data = (struct fibril__span){buf, run};
    c->left -= run;
    c->total += run;
    if (c->left == 0) {
        c->step = STEP_DATA_CR;
    }
}

int fibril__http_chunk_next(struct fibril__http_chunk *c, const char *buf, size_t len,
                            size_t *ret_used, struct fibril__span *ret_data)
{
    size_t at = 0;
    int rc = 0;
    *ret_used = 0;
    if (c->result != -EAGAIN) {
        return c->result;
    }
    while (rc == 0 && at < len && c->step != STEP_TRAILERS) {
        if (c->step == STEP_DATA) {
            data_run(c, buf + at, len - at, ret_data);
            *ret_used = at + ret_data->len;
            return FIBRIL__HTTP_CHUNK_DATA;
        }
        rc = framing(c, buf[at++]);
    }
    *ret_used = at;
    if (rc == 0) {
        rc = c->step == STEP_TRAILERS ? trailers(c, buf + at, len - at, ret_used) : -EAGAIN;
    }
    c->result = rc;
    return rc;
}
