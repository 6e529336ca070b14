/* SPDX-License-Identifier: MIT */
/*
 * The state machine of the head parser. A step deals with one token and either completes it, moving
 * to the next step, or has used up the bytes and says -EAGAIN with p->at where it stopped: the next
 * call goes on there.
 *
 *     START -> METHOD -> TARGET -> VERSION -> LINE -> NAME -> VALUE -+
 *                                              ^  \-> (done)         |
 *                                              +---------------------+
 *
 * Invariant: a byte is judged only with the help of bytes before it and of at most nine after it,
 * and a step that lacks those waits; so any cut of the input gives the same outcome. Limits are
 * checked before the byte at hand is judged, for the same reason: a long line is refused for its
 * length however it came.
 */
#include "http/parse.h"

#include <errno.h>

#include "http/meaning.h"
#include "http/scan.h"
#include "http/token.h"

enum step { STEP_START, STEP_METHOD, STEP_TARGET, STEP_VERSION, STEP_LINE, STEP_NAME, STEP_VALUE };

/* RFC 9112, section 3: a method longer than any implemented is answered 501. The longest registered
 * has 17. */
#define METHOD_BYTES_MAX 32
#define VERSION_BYTES 8

static void parser_reset(struct fibril__http_parser *p, const struct fibril__http_limits *limits,
                         struct fibril__http_field *fields, size_t fields_max)
{
    /* Field by field: for a struct of this size compilers turn memset into a slow string store. */
    const struct fibril__span none = {NULL, 0};
    p->head.method = none;
    p->head.target = none;
    p->head.path = none;
    p->head.query = none;
    p->head.authority = none;
    p->head.upgrade = none;
    p->head.fields = fields;
    p->head.field_count = 0;
    p->head.bytes = 0;
    p->head.content_length = -1;
    p->head.method_id = FIBRIL__HTTP_METHOD_OTHER;
    p->head.form = FIBRIL__HTTP_ORIGIN;
    p->head.minor = 0;
    p->head.chunked = p->head.keep_alive = p->head.expect_continue = false;
    p->why = NULL;
    p->limits = limits;
    p->fields = fields;
    p->fields_max = fields_max;
    p->base = p->at = p->line = p->token = NULL;
    p->host_index = p->upgrade_index = 0;
    p->result = -EAGAIN;
    p->seen = 0;
    p->step = STEP_START;
    p->name_classes = 0;
    p->trailers = false;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void fibril__http_parser_init(struct fibril__http_parser *p,
                              const struct fibril__http_limits *limits,
                              struct fibril__http_field *fields, size_t fields_count)
{
    parser_reset(p, limits, fields, smaller(limits->fields_max, fields_count));
    p->head_max = limits->head_bytes;
}

void fibril__http_parser_init_trailers(struct fibril__http_parser *p,
                                       const struct fibril__http_limits *limits,
                                       struct fibril__http_field *fields, size_t fields_count)
{
    parser_reset(p, limits, fields, smaller(limits->trailers_max, fields_count));
    p->head_max = limits->trailer_bytes;
    p->trailers = true;
    p->step = STEP_LINE;
}

int fibril__http_refuse(struct fibril__http_parser *p, int status, const char *why)
{
    p->why = why;
    return status;
}

/* Through integers: `base` may be the address of memory that realloc() has taken back. */
static void rebase_one(const char **ptr, uintptr_t from, const char *to)
{
    if (*ptr != NULL) {
        *ptr = to + ((uintptr_t)*ptr - from);
    }
}

/* The buffer has moved: everything that points into it follows. Derived spans do not exist yet. */
static void rebase(struct fibril__http_parser *p, const char *buf)
{
    uintptr_t from = (uintptr_t)p->base;
    size_t count = p->head.field_count + (p->step == STEP_VALUE ? 1 : 0);
    rebase_one(&p->at, from, buf);
    rebase_one(&p->line, from, buf);
    rebase_one(&p->token, from, buf);
    rebase_one(&p->head.method.ptr, from, buf);
    rebase_one(&p->head.target.ptr, from, buf);
    for (size_t i = 0; i < count; i++) {
        rebase_one(&p->fields[i].name.ptr, from, buf);
        rebase_one(&p->fields[i].value.ptr, from, buf);
    }
    p->base = buf;
}

/* One empty line before the request line is allowed: some clients end a body with a CRLF too many.
 */
static int step_start(struct fibril__http_parser *p, const char *end)
{
    if (p->at == end) {
        return -EAGAIN;
    }
    if (*p->at == '\r') {
        if (end - p->at < 2) {
            return -EAGAIN;
        }
        if (p->at[1] != '\n') {
            return fibril__http_refuse(p, 400, "CR without LF before the request line");
        }
        p->at += 2;
    }
    p->line = p->at;
    p->step = STEP_METHOD;
    return 0;
}

static int step_method(struct fibril__http_parser *p, const char *end)
{
    const char *at = p->at;
    while (at < end && fibril__char_is(*at, FIBRIL__TCHAR)) {
        at++;
    }
    p->at = at;
    if (at - p->line > METHOD_BYTES_MAX) {
        return fibril__http_refuse(p, 501, "method name too long");
    }
    if (at == end) {
        return -EAGAIN;
    }
    if (*at != ' ' || at == p->line) {
        return fibril__http_refuse(p, 400, "bad method");
    }
    p->head.method = (struct fibril__span){p->line, (size_t)(at - p->line)};
    p->at = p->token = at + 1;
    p->step = STEP_TARGET;
    return 0;
}

static int step_target(struct fibril__http_parser *p, const char *end)
{
    const char *at = fibril__scan_target(p->at, end);
    p->at = at;
    if ((size_t)(at - p->line) + 1 + VERSION_BYTES > p->limits->request_line_bytes) {
        return fibril__http_refuse(p, 414, "request line too long");
    }
    if (at == end) {
        return -EAGAIN;
    }
    if (*at != ' ' || at == p->token) {
        return fibril__http_refuse(p, 400, "bad byte in the request target");
    }
    p->head.target = (struct fibril__span){p->token, (size_t)(at - p->token)};
    p->at = at + 1;
    p->step = STEP_VERSION;
    return 0;
}

/* Any version but the usual one, or less than a line of it: each byte judged as soon as it is
 * there. */
static int check_version(struct fibril__http_parser *p, const char *end)
{
    static const char form[] = "HTTP/0.0\r\n";
    const char *at = p->at;
    size_t count = smaller((size_t)(end - at), VERSION_BYTES + 2);
    for (size_t i = 0; i < count; i++) {
        bool good = form[i] == '0' ? fibril__char_is(at[i], FIBRIL__DIGIT) : at[i] == form[i];
        if (!good) {
            return fibril__http_refuse(p, 400, "bad HTTP version or line end");
        }
    }
    if (count < VERSION_BYTES + 2) {
        return -EAGAIN;
    }
    if (at[5] != '1' || at[7] > '1') {
        return fibril__http_refuse(p, 505, "HTTP version not supported");
    }
    return 0;
}

/* `HTTP/` DIGIT `.` DIGIT CRLF */
static int step_version(struct fibril__http_parser *p, const char *end)
{
    const char *at = p->at;
    bool usual = end - at >= VERSION_BYTES + 2 && memcmp(at, "HTTP/1.1", VERSION_BYTES) == 0 &&
                 memcmp(at + VERSION_BYTES, "\r\n", 2) == 0;
    int rc = usual ? 0 : check_version(p, end);
    if (rc != 0) {
        return rc;
    }
    p->head.minor = (uint8_t)(at[7] - '0');
    p->at = at + VERSION_BYTES + 2;
    p->step = STEP_LINE;
    return fibril__http_note_request(p);
}

/* Runs through the steps of the request line from wherever the last call ended. */
static int request_line(struct fibril__http_parser *p, const char *end)
{
    int rc = 0;
    if (p->step == STEP_START) {
        rc = step_start(p, end);
    }
    if (rc == 0 && p->step == STEP_METHOD) {
        rc = step_method(p, end);
    }
    if (rc == 0 && p->step == STEP_TARGET) {
        rc = step_target(p, end);
    }
    return rc == 0 ? step_version(p, end) : rc;
}

/* The empty line ends the section (ret_end), anything else must be a field there is room for. */
static int step_line(struct fibril__http_parser *p, const char *end, bool *ret_end)
{
    const char *at = p->at;
    if (at == end || (*at == '\r' && end - at < 2)) {
        return -EAGAIN;
    }
    if (*at == '\r') {
        if (at[1] != '\n') {
            return fibril__http_refuse(p, 400, "CR without LF");
        }
        p->at = at + 2;
        p->head.bytes = (size_t)(p->at - p->base);
        *ret_end = true;
        return 0;
    }
    if (p->head.field_count == p->fields_max) {
        return fibril__http_refuse(p, 431, "too many fields");
    }
    p->line = at;
    p->name_classes = 0;
    p->step = STEP_NAME;
    return 0;
}

static int step_name(struct fibril__http_parser *p, const char *end)
{
    const char *at = fibril__scan_plain(p->at, end);
    uint8_t seen = p->name_classes;
    uint8_t classes;
    while (at < end && ((classes = fibril__char_class[(unsigned char)*at]) & FIBRIL__TCHAR) != 0) {
        seen |= classes;
        at++;
    }
    p->at = at;
    p->name_classes = seen;
    if ((size_t)(at - p->line) >= p->limits->field_bytes) {
        return fibril__http_refuse(p, 431, "field name too long");
    }
    if (at == end) {
        return -EAGAIN;
    }
    if (*at != ':' || at == p->line) {
        return fibril__http_refuse(p, 400, "bad byte in a field name, or a folded line");
    }
    struct fibril__http_field *field = &p->fields[p->head.field_count];
    field->name = (struct fibril__span){p->line, (size_t)(at - p->line)};
    field->value = (struct fibril__span){NULL, 0};
    field->id = (uint8_t)fibril__http_field_id(field->name);
    field->flags = (seen & FIBRIL__UNDERSCORE) != 0 ? FIBRIL__FIELD_HAS_UNDERSCORE : 0;
    p->at = p->token = at + 1;
    p->step = STEP_VALUE;
    return 0;
}

/* [from, to) without the optional whitespace round it. */
static struct fibril__span trimmed(const char *from, const char *to)
{
    while (from < to && fibril__is_ows(*from)) {
        from++;
    }
    while (from < to && fibril__is_ows(to[-1])) {
        to--;
    }
    return (struct fibril__span){from, (size_t)(to - from)};
}

static int step_value(struct fibril__http_parser *p, const char *end)
{
    const char *at = fibril__scan_value(p->at, end);
    p->at = at;
    if ((size_t)(at - p->line) > p->limits->field_bytes) {
        return fibril__http_refuse(p, 431, "field line too long");
    }
    if (at == end) {
        return -EAGAIN;
    }
    if (*at != '\r') {
        return fibril__http_refuse(p, 400, "control byte in a field value");
    }
    if (end - at < 2) {
        return -EAGAIN;
    }
    if (at[1] != '\n') {
        return fibril__http_refuse(p, 400, "CR without LF");
    }
    struct fibril__http_field *field = &p->fields[p->head.field_count];
    field->value = trimmed(p->token, at);
    p->at = at + 2;
    p->step = STEP_LINE;
    int rc = p->trailers || field->id == FIBRIL__FIELD_OTHER ? 0 : fibril__http_note_field(p);
    p->head.field_count += rc == 0 ? 1 : 0;
    return rc;
}

static int field_lines(struct fibril__http_parser *p, const char *end)
{
    for (;;) {
        bool ended = false;
        int rc = p->step == STEP_LINE ? step_line(p, end, &ended) : 0;
        if (ended) {
            return p->trailers ? 0 : fibril__http_note_end(p);
        }
        if (rc == 0 && p->step == STEP_NAME) {
            rc = step_name(p, end);
        }
        if (rc == 0) {
            rc = step_value(p, end);
        }
        if (rc != 0) {
            return rc;
        }
    }
}

int fibril__http_parse(struct fibril__http_parser *p, const char *buf, size_t len)
{
    if (p->result != -EAGAIN) {
        return p->result;
    }
    if (p->at == NULL) {
        p->base = p->at = p->line = buf;
    } else if (p->base != buf) {
        rebase(p, buf);
    }
    const char *end = buf + smaller(len, p->head_max);
    int rc = p->step < STEP_LINE ? request_line(p, end) : 0;
    if (rc == 0) {
        rc = field_lines(p, end);
    }
    if (rc == -EAGAIN && len >= p->head_max) {
        bool early = p->step < STEP_LINE;
        rc = fibril__http_refuse(p, early ? 414 : 431,
                                 early ? "request line too long" : "head too large");
    }
    p->result = rc;
    return rc;
}
