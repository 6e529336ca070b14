/* SPDX-License-Identifier: MIT */
/*
 * The meaning of a parsed head: target forms, framing, connection options, expectations.
 *
 * What one line can prove wrong is refused when the line is complete; what needs the whole head (a
 * missing Host, both kinds of framing) at its end, 400 before 501 before 417. The rule throughout:
 * if two readers could disagree about where this message ends or whom it is for, it is refused.
 * That is why equal duplicates of Content-Length and lists with an empty coding are errors here
 * although the RFC lets a recipient mend them.
 */
#include "http/meaning.h"

#include "http/token.h"

enum {
    SEEN_HOST = 1,
    SEEN_LENGTH = 2,          /* Content-Length */
    SEEN_CODING = 4,          /* Transfer-Encoding */
    SEEN_UNKNOWN_CODING = 8,  /* ... that is well formed but not ours */
    SEEN_CLOSE = 16,          /* Connection: close */
    SEEN_KEEP_ALIVE = 32,     /* Connection: keep-alive */
    SEEN_UPGRADE_OPTION = 64, /* Connection: upgrade */
    SEEN_UPGRADE = 128,       /* Upgrade itself */
    SEEN_CONTINUE = 256,      /* Expect: 100-continue */
    SEEN_EXPECTATION = 512,   /* Expect: anything else */
};

#define LENGTH_DIGITS_MAX 19

static bool is(struct fibril__span s, const char *word, size_t len)
{
    return s.len == len && memcmp(s.ptr, word, len) == 0;
}

#define IS(span, literal) is((span), (literal), sizeof(literal) - 1)

static enum fibril__http_method method_id(struct fibril__span m)
{
    switch (m.len) {
    case 3:
        return IS(m, "GET")   ? FIBRIL__HTTP_GET
               : IS(m, "PUT") ? FIBRIL__HTTP_PUT
                              : FIBRIL__HTTP_METHOD_OTHER;
    case 4:
        return IS(m, "POST")   ? FIBRIL__HTTP_POST
               : IS(m, "HEAD") ? FIBRIL__HTTP_HEAD
                               : FIBRIL__HTTP_METHOD_OTHER;
    case 5:
        return IS(m, "PATCH")   ? FIBRIL__HTTP_PATCH
               : IS(m, "TRACE") ? FIBRIL__HTTP_TRACE
                                : FIBRIL__HTTP_METHOD_OTHER;
    case 6: return IS(m, "DELETE") ? FIBRIL__HTTP_DELETE : FIBRIL__HTTP_METHOD_OTHER;
    case 7:
        return IS(m, "OPTIONS")   ? FIBRIL__HTTP_OPTIONS
               : IS(m, "CONNECT") ? FIBRIL__HTTP_CONNECT
                                  : FIBRIL__HTTP_METHOD_OTHER;
    default: return FIBRIL__HTTP_METHOD_OTHER;
    }
}

static void split_query(struct fibril__http_head *head, struct fibril__span s)
{
    const char *mark = s.len > 0 ? memchr(s.ptr, '?', s.len) : NULL;
    head->path = s;
    if (mark != NULL) {
        head->path.len = (size_t)(mark - s.ptr);
        head->query = (struct fibril__span){mark + 1, s.len - head->path.len - 1};
    }
}

/* The bytes of `http://` or `https://` in front, in any case; 0 for any other scheme. */
static size_t scheme_len(struct fibril__span s)
{
    size_t https = sizeof("https://") - 1;
    size_t http = sizeof("http://") - 1;
    if (s.len >= http &&
        fibril__span_equal_nocase((struct fibril__span){s.ptr, http}, FIBRIL__SPAN("http://"))) {
        return http;
    }
    if (s.len >= https &&
        fibril__span_equal_nocase((struct fibril__span){s.ptr, https}, FIBRIL__SPAN("https://"))) {
        return https;
    }
    return 0;
}

/* The authority of an absolute-form target; ptr NULL when it is not of that form. */
static struct fibril__span target_authority(struct fibril__span target)
{
    size_t skip = scheme_len(target);
    size_t end = skip;
    if (skip == 0) {
        return (struct fibril__span){NULL, 0};
    }
    while (end < target.len && target.ptr[end] != '/' && target.ptr[end] != '?') {
        end++;
    }
    return (struct fibril__span){target.ptr + skip, end - skip};
}

static int note_absolute(struct fibril__http_parser *p)
{
    struct fibril__span authority = target_authority(p->head.target);
    if (authority.ptr == NULL) {
        return fibril__http_refuse(p, 400, "request target of no known form");
    }
    if (!fibril__is_authority(authority, false)) {
        return fibril__http_refuse(p, 400, "bad authority in the request target");
    }
    p->head.form = FIBRIL__HTTP_ABSOLUTE;
    return 0;
}

int fibril__http_note_request(struct fibril__http_parser *p)
{
    struct fibril__http_head *head = &p->head;
    head->method_id = (uint8_t)method_id(head->method);
    if (head->method_id == FIBRIL__HTTP_CONNECT) {
        head->form = FIBRIL__HTTP_AUTHORITY;
        return fibril__is_authority(head->target, true)
                   ? 0
                   : fibril__http_refuse(p, 400, "CONNECT needs host:port");
    }
    if (head->target.ptr[0] == '/') {
        head->form = FIBRIL__HTTP_ORIGIN;
        return 0;
    }
    if (IS(head->target, "*")) {
        head->form = FIBRIL__HTTP_ASTERISK;
        return head->method_id == FIBRIL__HTTP_OPTIONS
                   ? 0
                   : fibril__http_refuse(p, 400, "only OPTIONS may ask for *");
    }
    return note_absolute(p);
}

static int note_host(struct fibril__http_parser *p, struct fibril__span value)
{
    if ((p->seen & SEEN_HOST) != 0) {
        return fibril__http_refuse(p, 400, "more than one Host");
    }
    if (!fibril__is_authority(value, false)) {
        return fibril__http_refuse(p, 400, "bad Host");
    }
    p->seen |= SEEN_HOST;
    p->host_index = p->head.field_count;
    return 0;
}

/*
 * A tab round the value of a framing field: it is optional whitespace, but nginx trims none and
 * llhttp only in front, so a chain of servers could disagree about the body.
 */
static bool tab_around(const struct fibril__http_parser *p, struct fibril__span value)
{
    const char *after = value.ptr + value.len;
    const char *line_end = p->at - 2;
    return memchr(p->token, '\t', (size_t)(value.ptr - p->token)) != NULL ||
           memchr(after, '\t', (size_t)(line_end - after)) != NULL;
}

static int note_length(struct fibril__http_parser *p, struct fibril__span value)
{
    if ((p->seen & SEEN_LENGTH) != 0) {
        return fibril__http_refuse(p, 400, "more than one Content-Length");
    }
    if (value.len == 0 || value.len > LENGTH_DIGITS_MAX) {
        return fibril__http_refuse(p, 400, "Content-Length empty or too long");
    }
    if (tab_around(p, value)) {
        return fibril__http_refuse(p, 400, "tab round Content-Length");
    }
    uint64_t length = 0; /* nineteen digits cannot overflow it */
    for (size_t i = 0; i < value.len; i++) {
        if (!fibril__char_is(value.ptr[i], FIBRIL__DIGIT)) {
            return fibril__http_refuse(p, 400, "Content-Length is not a number");
        }
        length = length * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    if (length > INT64_MAX) {
        return fibril__http_refuse(p, 400, "Content-Length too large");
    }
    p->seen |= SEEN_LENGTH;
    p->head.content_length = (int64_t)length;
    return 0;
}

/*
 * Exactly `chunked` is ours. A well-formed list of other codings, with `chunked` at most once and
 * last, is a request that somebody else could serve: 501. Everything else is an attempt at
 * confusion.
 */
static int note_coding(struct fibril__http_parser *p, struct fibril__span value)
{
    struct fibril__span chunked = FIBRIL__SPAN("chunked");
    struct fibril__span item;
    bool last = false;
    if ((p->seen & SEEN_CODING) != 0) {
        return fibril__http_refuse(p, 400, "more than one Transfer-Encoding");
    }
    p->seen |= SEEN_CODING;
    if (tab_around(p, value)) {
        return fibril__http_refuse(p, 400, "tab round Transfer-Encoding");
    }
    if (fibril__span_equal_nocase(value, chunked)) {
        return 0;
    }
    while (fibril__list_next(&value, &item)) {
        if (last || !fibril__is_token(item)) {
            return fibril__http_refuse(p, 400, "bad Transfer-Encoding");
        }
        last = fibril__span_equal_nocase(item, chunked);
    }
    p->seen |= SEEN_UNKNOWN_CODING;
    return 0;
}

/* What a Connection option asks of us; 0 for the ones that do not concern this server. */
static uint16_t connection_option(struct fibril__span option)
{
    switch (option.len) {
    case 5: return fibril__token_equal("close", option.ptr, 5) ? SEEN_CLOSE : 0;
    case 7: return fibril__token_equal("upgrade", option.ptr, 7) ? SEEN_UPGRADE_OPTION : 0;
    case 10: return fibril__token_equal("keep-alive", option.ptr, 10) ? SEEN_KEEP_ALIVE : 0;
    default: return 0;
    }
}

static int note_connection(struct fibril__http_parser *p, struct fibril__span value)
{
    struct fibril__span item;
    while (fibril__list_next(&value, &item)) {
        if (item.len == 0) {
            continue;
        }
        if (!fibril__is_token(item)) {
            return fibril__http_refuse(p, 400, "bad Connection option");
        }
        p->seen |= connection_option(item);
    }
    return 0;
}

int fibril__http_note_field(struct fibril__http_parser *p)
{
    const struct fibril__http_field *field = &p->fields[p->head.field_count];
    switch ((enum fibril__http_id)field->id) {
    case FIBRIL__FIELD_HOST: return note_host(p, field->value);
    case FIBRIL__FIELD_CONTENT_LENGTH: return note_length(p, field->value);
    case FIBRIL__FIELD_TRANSFER_ENCODING: return note_coding(p, field->value);
    case FIBRIL__FIELD_CONNECTION: return note_connection(p, field->value);
    case FIBRIL__FIELD_EXPECT:
        p->seen |= fibril__span_equal_nocase(field->value, FIBRIL__SPAN("100-continue"))
                       ? SEEN_CONTINUE
                       : SEEN_EXPECTATION;
        return 0;
    case FIBRIL__FIELD_UPGRADE:
        if ((p->seen & SEEN_UPGRADE) == 0) {
            p->seen |= SEEN_UPGRADE;
            p->upgrade_index = p->head.field_count;
        }
        return 0;
    default: return 0;
    }
}

static int check_framing(struct fibril__http_parser *p)
{
    if (p->head.minor == 1 && (p->seen & SEEN_HOST) == 0) {
        return fibril__http_refuse(p, 400, "no Host");
    }
    if ((p->seen & SEEN_CODING) != 0) {
        if ((p->seen & SEEN_LENGTH) != 0) {
            return fibril__http_refuse(p, 400, "both Content-Length and Transfer-Encoding");
        }
        if (p->head.minor == 0) {
            return fibril__http_refuse(p, 400, "Transfer-Encoding in HTTP/1.0");
        }
    }
    if ((p->seen & SEEN_UNKNOWN_CODING) != 0) {
        return fibril__http_refuse(p, 501, "transfer coding not supported");
    }
    if ((p->seen & SEEN_EXPECTATION) != 0) {
        return fibril__http_refuse(p, 417, "expectation not supported");
    }
    return 0;
}

static bool offers_h2c(struct fibril__span list)
{
    struct fibril__span item;
    while (fibril__list_next(&list, &item)) {
        if (fibril__span_equal_nocase(item, FIBRIL__SPAN("h2c"))) {
            return true;
        }
    }
    return false;
}

/* An offer stands only in 1.1, named by Connection; h2c with a body on its way is ignored (RFC
 * 7540, 3.2). */
static void settle_upgrade(struct fibril__http_parser *p, bool has_body)
{
    const unsigned both = SEEN_UPGRADE | SEEN_UPGRADE_OPTION;
    if ((p->seen & both) != both || p->head.minor == 0) {
        return;
    }
    struct fibril__span value = p->fields[p->upgrade_index].value;
    if (!has_body || !offers_h2c(value)) {
        p->head.upgrade = value;
    }
}

static void settle_absolute(struct fibril__http_head *head)
{
    struct fibril__span authority = target_authority(head->target);
    size_t skip = (size_t)(authority.ptr - head->target.ptr) + authority.len;
    head->authority = authority;
    split_query(head, (struct fibril__span){head->target.ptr + skip, head->target.len - skip});
    if (head->path.len == 0) {
        bool server = head->method_id == FIBRIL__HTTP_OPTIONS && head->query.ptr == NULL;
        head->path = server ? FIBRIL__SPAN("*") : FIBRIL__SPAN("/");
    }
}

/* Only now, when the buffer moves no more, are spans derived from spans. */
static void settle_target(struct fibril__http_parser *p)
{
    struct fibril__http_head *head = &p->head;
    if ((p->seen & SEEN_HOST) != 0) {
        head->authority = p->fields[p->host_index].value;
    }
    if (head->form == FIBRIL__HTTP_AUTHORITY) {
        head->authority = head->target;
    } else if (head->form == FIBRIL__HTTP_ABSOLUTE) {
        settle_absolute(head);
    } else {
        split_query(head, head->target);
    }
}

int fibril__http_note_end(struct fibril__http_parser *p)
{
    struct fibril__http_head *head = &p->head;
    int rc = check_framing(p);
    if (rc != 0) {
        return rc;
    }
    head->chunked = (p->seen & SEEN_CODING) != 0;
    bool has_body = head->chunked || head->content_length > 0;
    bool asked = (p->seen & SEEN_KEEP_ALIVE) != 0 || head->minor == 1;
    head->keep_alive = asked && (p->seen & SEEN_CLOSE) == 0;
    head->expect_continue = (p->seen & SEEN_CONTINUE) != 0 && head->minor == 1 && has_body;
    settle_upgrade(p, has_body);
    settle_target(p);
    return 0;
}
