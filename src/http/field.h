/* SPDX-License-Identifier: MIT */
/*
 * The field names the server knows, as small integers: a name is classified once, while it is
 * parsed, and everybody else compares a byte. The search is one step in a perfect hash (length,
 * first, middle and last byte) and one comparison; a collision in the table below does not compile
 * (-Woverride-init).
 *
 * A switch on the length was rejected: up to six known names have the same.
 */
#ifndef FIBRIL_HTTP_FIELD_H
#define FIBRIL_HTTP_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "http/span.h"

/*
 * X(id, name, first byte, byte at length / 2, last byte, forbidden in trailers). Forbidden are the
 * fields that frame a message, route it, authenticate it, negotiate its content or say who sent it:
 * RFC 9110, section 6.5.1.
 */
/* clang-format off */
#define FIBRIL__HTTP_FIELDS(X) \
    X(ACCEPT, "accept", 'a', 'e', 't', 1)                                      \
    X(ACCEPT_CHARSET, "accept-charset", 'a', 'c', 't', 1)                      \
    X(ACCEPT_ENCODING, "accept-encoding", 'a', 'e', 'g', 1)                    \
    X(ACCEPT_LANGUAGE, "accept-language", 'a', 'l', 'e', 1)                    \
    X(ALLOW, "allow", 'a', 'l', 'w', 1)                                        \
    X(AUTHORIZATION, "authorization", 'a', 'i', 'n', 1)                        \
    X(CACHE_CONTROL, "cache-control", 'c', 'c', 'l', 1)                        \
    X(CONNECTION, "connection", 'c', 'c', 'n', 1)                              \
    X(CONTENT_DISPOSITION, "content-disposition", 'c', 'i', 'n', 0)            \
    X(CONTENT_ENCODING, "content-encoding", 'c', 'e', 'g', 1)                  \
    X(CONTENT_LANGUAGE, "content-language", 'c', 'l', 'e', 1)                  \
    X(CONTENT_LENGTH, "content-length", 'c', '-', 'h', 1)                      \
    X(CONTENT_LOCATION, "content-location", 'c', 'l', 'n', 1)                  \
    X(CONTENT_RANGE, "content-range", 'c', 't', 'e', 1)                        \
    X(CONTENT_TYPE, "content-type", 'c', 't', 'e', 1)                          \
    X(COOKIE, "cookie", 'c', 'k', 'e', 1)                                      \
    X(DATE, "date", 'd', 't', 'e', 1)                                          \
    X(EARLY_DATA, "early-data", 'e', '-', 'a', 1)                              \
    X(ETAG, "etag", 'e', 'a', 'g', 0)                                          \
    X(EXPECT, "expect", 'e', 'e', 't', 1)                                      \
    X(EXPIRES, "expires", 'e', 'i', 's', 1)                                    \
    X(FORWARDED, "forwarded", 'f', 'a', 'd', 1)                                \
    X(FROM, "from", 'f', 'o', 'm', 1)                                          \
    X(HOST, "host", 'h', 's', 't', 1)                                          \
    X(HTTP2_SETTINGS, "http2-settings", 'h', 'e', 's', 1)                      \
    X(IF_MATCH, "if-match", 'i', 'a', 'h', 1)                                  \
    X(IF_MODIFIED_SINCE, "if-modified-since", 'i', 'i', 'e', 1)                \
    X(IF_NONE_MATCH, "if-none-match", 'i', 'e', 'h', 1)                        \
    X(IF_RANGE, "if-range", 'i', 'a', 'e', 1)                                  \
    X(IF_UNMODIFIED_SINCE, "if-unmodified-since", 'i', 'f', 'e', 1)            \
    X(KEEP_ALIVE, "keep-alive", 'k', 'a', 'e', 1)                              \
    X(LAST_EVENT_ID, "last-event-id", 'l', 'v', 'd', 0)                        \
    X(LAST_MODIFIED, "last-modified", 'l', 'o', 'd', 0)                        \
    X(LOCATION, "location", 'l', 't', 'n', 1)                                  \
    X(MAX_FORWARDS, "max-forwards", 'm', 'r', 's', 1)                          \
    X(ORIGIN, "origin", 'o', 'g', 'n', 1)                                      \
    X(PRAGMA, "pragma", 'p', 'g', 'a', 1)                                      \
    X(PRIORITY, "priority", 'p', 'r', 'y', 0)                                  \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", 'p', 'h', 'e', 1)              \
    X(PROXY_AUTHORIZATION, "proxy-authorization", 'p', 'h', 'n', 1)            \
    X(PROXY_CONNECTION, "proxy-connection", 'p', 'n', 'n', 1)                  \
    X(RANGE, "range", 'r', 'n', 'e', 1)                                        \
    X(REFERER, "referer", 'r', 'e', 'r', 1)                                    \
    X(RETRY_AFTER, "retry-after", 'r', '-', 'r', 1)                            \
    X(SEC_WEBSOCKET_ACCEPT, "sec-websocket-accept", 's', 'k', 't', 1)          \
    X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions", 's', 't', 's', 1)  \
    X(SEC_WEBSOCKET_KEY, "sec-websocket-key", 's', 'o', 'y', 1)                \
    X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol", 's', 'e', 'l', 1)      \
    X(SEC_WEBSOCKET_VERSION, "sec-websocket-version", 's', 'k', 'n', 1)        \
    X(SERVER, "server", 's', 'v', 'r', 0)                                      \
    X(SET_COOKIE, "set-cookie", 's', 'o', 'e', 1)                              \
    X(TE, "te", 't', 'e', 'e', 1)                                              \
    X(TRAILER, "trailer", 't', 'i', 'r', 1)                                    \
    X(TRANSFER_ENCODING, "transfer-encoding", 't', '-', 'g', 1)                \
    X(UPGRADE, "upgrade", 'u', 'r', 'e', 1)                                    \
    X(USER_AGENT, "user-agent", 'u', 'a', 't', 1)                              \
    X(VARY, "vary", 'v', 'r', 'y', 1)                                          \
    X(VIA, "via", 'v', 'i', 'a', 1)                                            \
    X(WWW_AUTHENTICATE, "www-authenticate", 'w', 'e', 'e', 1)                  \
    X(X_FORWARDED_FOR, "x-forwarded-for", 'x', 'r', 'r', 1)                    \
    X(X_FORWARDED_HOST, "x-forwarded-host", 'x', 'd', 't', 1)                  \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", 'x', 'd', 'o', 1)                \
    X(X_REAL_IP, "x-real-ip", 'x', 'a', 'p', 1)                                \
    X(X_REQUEST_ID, "x-request-id", 'x', 'e', 'd', 0)
/* clang-format on */

enum fibril__http_id {
    FIBRIL__FIELD_OTHER = 0, /* a name not in the table */
#define FIBRIL__HTTP_FIELD_ENUM(id, name, first, middle, last, forbidden) FIBRIL__FIELD_##id,
    FIBRIL__HTTP_FIELDS(FIBRIL__HTTP_FIELD_ENUM)
#undef FIBRIL__HTTP_FIELD_ENUM
        FIBRIL__FIELD_IDS
};

/* Flags of a field. */
enum {
    FIBRIL__FIELD_HAS_UNDERSCORE = 1, /* keep it out of CGI and WSGI environments: `-` becomes `_`
                                         there */
};

struct fibril__http_field {
    struct fibril__span name;  /* as sent */
    struct fibril__span value; /* optional whitespace trimmed, may be empty */
    uint8_t id;                /* enum fibril__http_id */
    uint8_t flags;
};

/* The id of a name in any case, FIBRIL__FIELD_OTHER when unknown. The name must be a token. */
enum fibril__http_id fibril__http_field_id(struct fibril__span name);

static inline uint64_t fibril__load8(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static inline uint32_t fibril__load4(const char *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

/*
 * Equal but for case: `lower` is made of a-z, 0-9 and '-', `token` of tchars, both of `len` bytes.
 * For arbitrary bytes use fibril__span_equal_nocase().
 */
static inline bool fibril__token_equal(const char *lower, const char *token, size_t len)
{
    const uint64_t bit5 = UINT64_C(0x2020202020202020);
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            if ((fibril__load8(token + i) | bit5) != fibril__load8(lower + i)) {
                return false;
            }
        }
        return (fibril__load8(token + len - 8) | bit5) == fibril__load8(lower + len - 8);
    }
    if (len >= 4) {
        const uint32_t bit5_4 = (uint32_t)bit5;
        return (fibril__load4(token) | bit5_4) == fibril__load4(lower) &&
               (fibril__load4(token + len - 4) | bit5_4) == fibril__load4(lower + len - 4);
    }
    for (size_t i = 0; i < len; i++) {
        if ((token[i] | 0x20) != lower[i]) {
            return false;
        }
    }
    return true;
}

/* The lower-case name of an id; empty for FIBRIL__FIELD_OTHER. */
struct fibril__span fibril__http_field_name(enum fibril__http_id id);

/* Whether a field must be ignored when it comes after the body. */
bool fibril__http_field_forbidden_in_trailer(enum fibril__http_id id);

/* The first field with that id, or NULL. */
const struct fibril__http_field *fibril__http_field_find(const struct fibril__http_field *fields,
                                                         size_t count, enum fibril__http_id id);

#endif
