/* SPDX-License-Identifier: MIT */
/*
 * Response writing. The checks are those of the parser, by the same functions: what this server
 * would refuse to read in a request it refuses to write in a response.
 */
#include "http/encode.h"

#include <errno.h>

#include "http/scan.h"
#include "http/status.h"
#include "http/token.h"

#define NUMBER_DIGITS_MAX 20

static bool is_text(struct fibril__span s)
{
    return s.len == 0 || fibril__scan_value(s.ptr, s.ptr + s.len) == s.ptr + s.len;
}

static bool fits(const struct fibril__http_out *out, size_t len)
{
    return out->bytes - out->len >= len;
}

static void append(struct fibril__http_out *out, struct fibril__span s)
{
    if (s.len > 0) {
        memcpy(out->ptr + out->len, s.ptr, s.len);
        out->len += s.len;
    }
}

int fibril__http_put_raw(struct fibril__http_out *out, struct fibril__span bytes)
{
    if (!fits(out, bytes.len)) {
        return -ENOBUFS;
    }
    append(out, bytes);
    return 0;
}

int fibril__http_put_status(struct fibril__http_out *out, int status, struct fibril__span reason)
{
    char line[] = "HTTP/1.1 000 ";
    const size_t line_len = sizeof(line) - 1;
    if (status < 100 || status > 999 || !is_text(reason)) {
        return -EINVAL;
    }
    if (reason.len == 0) {
        reason.ptr = fibril__http_reason(status);
        reason.len = strlen(reason.ptr);
    }
    if (reason.len > out->bytes || !fits(out, line_len + reason.len + 2)) {
        return -ENOBUFS;
    }
    line[9] = (char)('0' + status / 100);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    append(out, (struct fibril__span){line, line_len});
    append(out, reason);
    append(out, FIBRIL__SPAN("\r\n"));
    return 0;
}

int fibril__http_put_field(struct fibril__http_out *out, struct fibril__span name,
                           struct fibril__span value)
{
    if (!fibril__is_token(name) || !is_text(value)) {
        return -EINVAL;
    }
    if (name.len > out->bytes || value.len > out->bytes || !fits(out, name.len + value.len + 4)) {
        return -ENOBUFS;
    }
    append(out, name);
    append(out, FIBRIL__SPAN(": "));
    append(out, value);
    append(out, FIBRIL__SPAN("\r\n"));
    return 0;
}

int fibril__http_put_field_number(struct fibril__http_out *out, struct fibril__span name,
                                  uint64_t value)
{
    char text[NUMBER_DIGITS_MAX];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return fibril__http_put_field(out, name, (struct fibril__span){text + at, sizeof(text) - at});
}

int fibril__http_put_end(struct fibril__http_out *out)
{
    return fibril__http_put_raw(out, FIBRIL__SPAN("\r\n"));
}

int fibril__http_put_chunk_head(struct fibril__http_out *out, uint64_t bytes)
{
    char text[FIBRIL__HTTP_CHUNK_HEAD_BYTES];
    size_t at = sizeof(text);
    if (bytes == 0) {
        return -EINVAL;
    }
    text[--at] = '\n';
    text[--at] = '\r';
    for (; bytes != 0; bytes >>= 4) {
        text[--at] = "0123456789abcdef"[bytes & 15];
    }
    return fibril__http_put_raw(out, (struct fibril__span){text + at, sizeof(text) - at});
}

int fibril__http_put_last_chunk(struct fibril__http_out *out)
{
    return fibril__http_put_raw(out, FIBRIL__SPAN("0\r\n"));
}
