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
 * windows on the input for the same reason: no step looks past its window, so a long line is
 * refused for its length at the same byte however it came.
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
    memset(p, 0, sizeof(*p));
    p->head.fields = fields;
    p->head.content_length = -1;
    p->limits = limits;
    p->fields = fields;
    p->fields_max = fields_max;
    p->result = -EAGAIN;
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

/* The end of what a step may look at: `max` bytes from the line's start, or the end of the input.
 */
static const char *window(const struct fibril__http_parser *p, size_t max, const char *end)
{
    return (size_t)(end - p->line) > max ? p->line + max : end;
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
    const char *limit = window(p, smaller(METHOD_BYTES_MAX, p->limits->request_line_bytes), end);
    const char *at = p->at;
    while (at < limit && fibril__char_is(*at, FIBRIL__TCHAR)) {
        at++;
    }
    p->at = at;
    if (at == end) {
        return -EAGAIN;
    }
    if (at == limit && fibril__char_is(*at, FIBRIL__TCHAR)) {
        return fibril__http_refuse(p, 501, "method name too long");
    }
    if (*at != ' ' || at == p->line) {
        return fibril__http_refuse(p, 400, "bad method");
    }
    p->head.method = (struct fibril__span){p->line, (size_t)(at - p->line)};
    p->at = at + 1;
    p->token = p->at;
    p->step = STEP_TARGET;
    return 0;
}

static int step_target(struct fibril__http_parser *p, const char *end)
{
    size_t max = p->limits->request_line_bytes;
    if ((size_t)(p->at - p->line) > max) {
        return fibril__http_refuse(p, 414, "request line too long");
    }
    const char *limit = window(p, max, end);
    const char *at = fibril__scan_target(p->at, limit);
    p->at = at;
    if ((size_t)(at - p->line) >= max) {
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
    if ((size_t)(p->at - p->line) + VERSION_BYTES > max) {
        return fibril__http_refuse(p, 414, "request line too long");
    }
    return 0;
}

/* `HTTP/` DIGIT `.` DIGIT CRLF, each byte judged as soon as it is there. */
static int step_version(struct fibril__http_parser *p, const char *end)
{
    static const char form[] = "HTTP/0.0\r\n";
    const char *at = p->at;
    size_t count = smaller((size_t)(end - at), sizeof(form) - 1);
    for (size_t i = 0; i < count; i++) {
        bool good = form[i] == '0' ? fibril__char_is(at[i], FIBRIL__DIGIT) : at[i] == form[i];
        if (!good) {
            return fibril__http_refuse(p, 400, "bad HTTP version or line end");
        }
    }
    if (count < sizeof(form) - 1) {
        return -EAGAIN;
    }
    if (at[5] != '1' || at[7] > '1') {
        return fibril__http_refuse(p, 505, "HTTP version not supported");
    }
    p->head.minor = (uint8_t)(at[7] - '0');
    p->at = at + count;
    p->step = STEP_LINE;
    return fibril__http_note_request(p);
}

/* Runs through the steps of the request line from wherever the last call ended. */
static int request_line(struct fibril__http_parser *p, const char *end)
{
    static int (*const steps[])(struct fibril__http_parser *, const char *) = {
        [STEP_START] = step_start,
        [STEP_METHOD] = step_method,
        [STEP_TARGET] = step_target,
        [STEP_VERSION] = step_version,
    };
    int rc = 0;
    while (rc == 0 && p->step < STEP_LINE) {
        rc = steps[p->step](p, end);
    }
    return rc;
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
    const char *limit = window(p, p->limits->field_bytes, end);
    const char *at = p->at;
    uint8_t seen = p->name_classes;
    uint8_t classes;
    while (at < limit &&
           ((classes = fibril__char_class[(unsigned char)*at]) & FIBRIL__TCHAR) != 0) {
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
    p->at = at + 1;
    p->token = p->at;
    p->step = STEP_VALUE;
    return 0;
}

static int step_value(struct fibril__http_parser *p, const char *end)
{
    size_t max = p->limits->field_bytes;
    const char *at = fibril__scan_value(p->at, window(p, max + 1, end));
    p->at = at;
    if ((size_t)(at - p->line) > max) {
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
    field->value = fibril__span_trim((struct fibril__span){p->token, (size_t)(at - p->token)});
    p->at = at + 2;
    p->step = STEP_LINE;
    int rc = p->trailers || field->id == FIBRIL__FIELD_OTHER ? 0 : fibril__http_note_field(p);
    p->head.field_count += rc == 0 ? 1 : 0;
    return rc;
}

static int field_lines(struct fibril__http_parser *p, const char *end)
{
    bool ended = false;
    int rc = 0;
    while (rc == 0 && !ended) {
        switch ((enum step)p->step) {
        case STEP_NAME: rc = step_name(p, end); break;
        case STEP_VALUE: rc = step_value(p, end); break;
        default: rc = step_line(p, end, &ended); break;
        }
    }
    return rc == 0 && !p->trailers ? fibril__http_note_end(p) : rc;
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
