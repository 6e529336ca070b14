/* SPDX-License-Identifier: MIT */
/*
 * The request head parser of HTTP/1.0 and 1.1: bytes in, spans out. No I/O, no memory of its own,
 * no copying.
 *
 *     struct fibril__http_field fields[100];
 *     struct fibril__http_parser p;
 *     fibril__http_parser_init(&p, &limits, fields, 100);
 *     while ((rc = fibril__http_parse(&p, buf, len)) == -EAGAIN) {
 *         len += receive more at buf + len;
 *     }
 *
 * rc 0: p.head is complete, the body begins at buf + p.head.bytes. rc > 0: the status to answer
 * before closing, with p.why for the log. The whole head stays in one buffer; the buffer may move
 * between calls (its bytes may not change). Whatever is scanned is not scanned again.
 *
 * Invariant: the outcome depends on the bytes alone, never on how they were cut into calls.
 *
 * Strict where the RFCs allow leniency: CRLF only, no obsolete folding, no whitespace but the one
 * SP of the request line, one Content-Length or one `Transfer-Encoding: chunked`, and never both. A
 * callback per token was rejected: a blocking thread wants the whole head or nothing.
 */
#ifndef FIBRIL_HTTP_PARSE_H
#define FIBRIL_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/field.h"
#include "http/limits.h"
#include "http/span.h"

/* A method of any other name is FIBRIL__HTTP_METHOD_OTHER: whether that is 501 is the application's
 * to say. */
enum fibril__http_method {
    FIBRIL__HTTP_METHOD_OTHER = 0,
    FIBRIL__HTTP_GET,
    FIBRIL__HTTP_HEAD,
    FIBRIL__HTTP_POST,
    FIBRIL__HTTP_PUT,
    FIBRIL__HTTP_DELETE,
    FIBRIL__HTTP_CONNECT,
    FIBRIL__HTTP_OPTIONS,
    FIBRIL__HTTP_TRACE,
    FIBRIL__HTTP_PATCH,
};

enum fibril__http_form {
    FIBRIL__HTTP_ORIGIN,    /* /path?query */
    FIBRIL__HTTP_ABSOLUTE,  /* http://host/path?query */
    FIBRIL__HTTP_AUTHORITY, /* host:port, CONNECT only */
    FIBRIL__HTTP_ASTERISK,  /* *, OPTIONS only */
};

struct fibril__http_head {
    struct fibril__span method; /* as sent; case matters */
    struct fibril__span target; /* as sent */
    struct fibril__span path;   /* still percent-encoded; the literal "/" or "*" when absolute-form
                                   has none */
    struct fibril__span query;  /* after the '?'; ptr NULL without one, len 0 when empty */
    struct fibril__span authority; /* of the target if it has one, else of Host; empty in 1.0
                                      without Host */
    struct fibril__span upgrade;   /* the protocols offered, when `Connection: upgrade` makes it
                                      valid; else empty */
    const struct fibril__http_field *fields; /* in order of arrival, in the caller's array */
    size_t field_count;
    size_t bytes;           /* length of the head, the empty line included */
    int64_t content_length; /* -1 without one */
    uint8_t method_id;      /* enum fibril__http_method */
    uint8_t form;           /* enum fibril__http_form */
    uint8_t minor;          /* 0 or 1: HTTP/1.minor */
    bool chunked;           /* the body is chunked; content_length is -1 */
    bool keep_alive;        /* the connection may be used again, as far as the request goes */
    bool expect_continue;   /* send 100 before reading the body */
};

struct fibril__http_parser {
    struct fibril__http_head head;
    const char *why; /* after a refusal: what was wrong, a constant string */
    /* The rest is private. */
    const struct fibril__http_limits *limits;
    struct fibril__http_field *fields;
    size_t fields_max;
    size_t head_max;      /* limit of the section at hand: head or trailers */
    const char *base;     /* the buffer as of the last call */
    const char *at;       /* everything before it is dealt with */
    const char *line;     /* first byte of the line at hand */
    const char *token;    /* first byte of the token at hand */
    size_t host_index;    /* which field, when SEEN_HOST */
    size_t upgrade_index; /* which field, when SEEN_UPGRADE */
    int result;           /* -EAGAIN while there is no outcome */
    uint16_t seen;        /* what the fields said so far, see meaning.c */
    uint8_t step;         /* enum step of parse.c */
    uint8_t name_classes; /* character classes of the name at hand, or-ed */
    bool trailers;        /* fields after a body: no request line, no meaning */
};

/* `fields` holds up to `fields_count` fields; limits->fields_max applies as well. Both must outlive
 * the parser. */
void fibril__http_parser_init(struct fibril__http_parser *p,
                              const struct fibril__http_limits *limits,
                              struct fibril__http_field *fields, size_t fields_count);

/* The same machine for a trailer section: only head.fields, head.field_count and head.bytes are set
 * by it. */
void fibril__http_parser_init_trailers(struct fibril__http_parser *p,
                                       const struct fibril__http_limits *limits,
                                       struct fibril__http_field *fields, size_t fields_count);

/*
 * buf[0 .. len) is all that came of the head so far. Returns 0, -EAGAIN for "more bytes", or a
 * status: 400, 414 (request line too long), 417 (unknown expectation), 431 (fields too large or too
 * many), 501 (unknown transfer coding, or a method name longer than any known), 505. An outcome is
 * final: further calls repeat it.
 */
int fibril__http_parse(struct fibril__http_parser *p, const char *buf, size_t len);

#endif
