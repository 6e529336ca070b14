/* SPDX-License-Identifier: MIT */
/*
 * The table of character classes and the small grammars that are checked in more than one place.
 * The table is written out as numbers, sixteen a line, because it is read on every byte of every
 * field name; test_parse.c checks each of its 256 entries against the definition of the class.
 */
#include "http/token.h"

#include <arpa/inet.h>

#include "http/scan.h"

const uint8_t fibril__char_class[256] = {
    /* clang-format off */
      0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
      0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
      0,  81,  64,  65,  81,  65,  81,  81,  80,  80,  81,  81,  64,  81,  81,  64,
     93,  93,  93,  93,  93,  93,  93,  93,  93,  93,  64,  80,  64,  80,  64,  64,
     64, 121, 121, 121, 121, 121, 121, 113, 113, 113, 113, 113, 113, 113, 113, 113,
    113, 113, 113, 113, 113, 113, 113, 113, 113, 113, 113,  64,  64,  64,  65,  83,
     65, 121, 121, 121, 121, 121, 121, 113, 113, 113, 113, 113, 113, 113, 113, 113,
    113, 113, 113, 113, 113, 113, 113, 113, 113, 113, 113,  64,  65,  64,  81,   0,
    /* clang-format on */
};

int fibril__hex_value(char c)
{
    if (!fibril__char_is(c, FIBRIL__HEX)) {
        return -1;
    }
    return fibril__char_is(c, FIBRIL__DIGIT) ? c - '0' : (c | 0x20) - 'a' + 10;
}

bool fibril__is_token(struct fibril__span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!fibril__char_is(s.ptr[i], FIBRIL__TCHAR)) {
            return false;
        }
    }
    return s.len > 0;
}

/* ":" and its digits, or nothing at all. `host:` with no digits is in the grammar of RFC 3986. */
static bool is_port_part(struct fibril__span s, bool need_port)
{
    if (s.len == 0) {
        return !need_port;
    }
    if (s.ptr[0] != ':' || s.len > 6 || (s.len == 1 && need_port)) {
        return false;
    }
    unsigned port = 0;
    for (size_t i = 1; i < s.len; i++) {
        if (!fibril__char_is(s.ptr[i], FIBRIL__DIGIT)) {
            return false;
        }
        port = port * 10 + (unsigned)(s.ptr[i] - '0');
    }
    return port <= 65535;
}

/* The length of "[...]" when it holds an IPv6 address, else 0. inet_pton() is pure: it asks nobody.
 */
static size_t bracket_len(struct fibril__span s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    const char *close = memchr(s.ptr, ']', s.len);
    size_t len = close != NULL ? (size_t)(close - s.ptr) - 1 : 0;
    if (len == 0 || len >= sizeof(text) || memchr(s.ptr + 1, '\0', len) != NULL) {
        return 0;
    }
    memcpy(text, s.ptr + 1, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &addr) == 1 ? len + 2 : 0;
}

static size_t regname_len(struct fibril__span s)
{
    size_t i = (size_t)(fibril__scan_plain(s.ptr, s.ptr + s.len) - s.ptr);
    while (i < s.len) {
        if (fibril__char_is(s.ptr[i], FIBRIL__REGNAME)) {
            i++;
        } else if (s.ptr[i] == '%' && s.len - i >= 3 &&
                   fibril__char_is(s.ptr[i + 1], FIBRIL__HEX) &&
                   fibril__char_is(s.ptr[i + 2], FIBRIL__HEX)) {
            i += 3;
        } else {
            break;
        }
    }
    return i;
}

bool fibril__is_authority(struct fibril__span s, bool need_port)
{
    if (s.len == 0) {
        return false;
    }
    size_t host = s.ptr[0] == '[' ? bracket_len(s) : regname_len(s);
    return host > 0 && is_port_part((struct fibril__span){s.ptr + host, s.len - host}, need_port);
}
