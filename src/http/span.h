/* SPDX-License-Identifier: MIT */
/*
 * A span is a run of bytes that somebody else owns: the unit in which the HTTP machinery answers.
 * Nothing in this folder's pure part copies a request; it points into the buffer the caller
 * received it in.
 *
 * Invariant: len == 0 allows ptr == NULL; a span is never NUL terminated on purpose. Offsets
 * instead of pointers were rejected: every reader would have to carry the buffer along.
 */
#ifndef FIBRIL_HTTP_SPAN_H
#define FIBRIL_HTTP_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct fibril__span {
    const char *ptr; /* first byte, borrowed */
    size_t len;      /* number of bytes */
};

/* For string literals: FIBRIL__SPAN("chunked"). */
#define FIBRIL__SPAN(literal) ((struct fibril__span){(literal), sizeof(literal) - 1})

/* ASCII only, on purpose: tolower() follows the locale. */
static inline char fibril__ascii_lower(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c;
}

static inline bool fibril__span_equal(struct fibril__span a, struct fibril__span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Equal but for the case of ASCII letters. */
static inline bool fibril__span_equal_nocase(struct fibril__span a, struct fibril__span b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (fibril__ascii_lower(a.ptr[i]) != fibril__ascii_lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

/* Optional whitespace of HTTP: SP and HTAB, and nothing a locale might call a space. */
static inline bool fibril__is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static inline struct fibril__span fibril__span_trim(struct fibril__span s)
{
    while (s.len > 0 && fibril__is_ows(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && fibril__is_ows(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

/*
 * Cuts the next element off a comma separated list: *list advances past the comma, *ret_item is
 * trimmed and may be empty. False when the list is used up. Quoted strings are not known here: only
 * lists of tokens.
 */
static inline bool fibril__list_next(struct fibril__span *list, struct fibril__span *ret_item)
{
    if (list->ptr == NULL) {
        return false;
    }
    const char *comma = list->len > 0 ? memchr(list->ptr, ',', list->len) : NULL;
    size_t len = comma != NULL ? (size_t)(comma - list->ptr) : list->len;
    *ret_item = fibril__span_trim((struct fibril__span){list->ptr, len});
    if (comma != NULL) {
        list->ptr = comma + 1;
        list->len -= len + 1;
    } else {
        *list = (struct fibril__span){NULL, 0};
    }
    return true;
}

#endif
