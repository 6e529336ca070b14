/* SPDX-License-Identifier: MIT */
/*
 * Character classes of RFC 9110 and 3986 as one table of bits, so that every check of every file
 * reads the same truth. Eight-bit bytes belong to no class. ctype.h was rejected: it follows the
 * locale and takes an int.
 */
#ifndef FIBRIL_HTTP_TOKEN_H
#define FIBRIL_HTTP_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "http/span.h"

enum {
    FIBRIL__TCHAR = 1,      /* may stand in a method or a field name */
    FIBRIL__UNDERSCORE = 2, /* '_' alone: collides with '-' in a CGI environment */
    FIBRIL__DIGIT = 4,
    FIBRIL__HEX = 8,      /* 0-9 a-f A-F */
    FIBRIL__REGNAME = 16, /* unreserved and sub-delims but the comma: a host name's bytes */
    FIBRIL__ALPHA = 32,
    FIBRIL__VISIBLE = 64, /* 0x21 to 0x7e */
};

extern const uint8_t fibril__char_class[256];

static inline bool fibril__char_is(char c, int class_bits)
{
    return (fibril__char_class[(unsigned char)c] & class_bits) != 0;
}

/* The value of a hexadecimal digit, -1 for anything else. */
int fibril__hex_value(char c);

/* True for 1*tchar. */
bool fibril__is_token(struct fibril__span s);

/*
 * True for a valid `host [":" port]`: a registered name of unreserved and sub-delims bytes (no
 * comma) and complete percent escapes, an IPv4 address (which is such a name) or a bracketed IPv6
 * address; the port at most 65535. With need_port the port must be there, as CONNECT demands. An
 * empty host is refused.
 */
bool fibril__is_authority(struct fibril__span s, bool need_port);

#endif
