/* SPDX-License-Identifier: MIT */
/*
 * Text that grows, in memory that can run out: then nothing more is added and the error stays, so
 * that a writer need not look after each piece.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ROOM_MIN = 4096 };

/* Makes room for n bytes and a NUL. */
static bool reserve(struct fibril__sheet *o, size_t n)
{
    if (o->error) {
        return false;
    }
    if (o->len + n + 1 > o->room) {
        size_t room = o->room ? o->room : ROOM_MIN;
        while (room < o->len + n + 1) {
            room *= 2;
        }
        char *text = fibril__realloc(o->text, room);
        if (!text) {
            o->error = -ENOMEM;
            return false;
        }
        o->text = text;
        o->room = room;
    }
    return true;
}

static void add(struct fibril__sheet *o, const char *bytes, size_t n)
{
    if (reserve(o, n)) {
        memcpy(o->text + o->len, bytes, n);
        o->len += n;
        o->text[o->len] = '\0';
    }
}

void fibril__sheet_text(struct fibril__sheet *o, const char *text)
{
    add(o, text, strlen(text));
}

void fibril__sheet_format(struct fibril__sheet *o, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0) {
        add(o, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    }
}

/* How many bytes of well-formed UTF-8 one character at s has; 0: it is none. */
static size_t utf8(const unsigned char *s)
{
    size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : *s >= 0xe0 && *s < 0xf0 ? 3 : 4;
    if ((*s >= 0x80 && *s < 0xc2) || *s > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool wrong = (*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
                 (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f);
    return wrong ? 0 : n;
}

void fibril__sheet_json(struct fibril__sheet *o, const char *text)
{
    add(o, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = utf8(s);
        if (n == 0) {
            add(o, "?", 1);
        } else if (*s < ' ' || *s == 0x7f) {
            fibril__sheet_format(o, "\\u%04x", *s);
        } else {
            if (*s == '"' || *s == '\\') {
                add(o, "\\", 1);
            }
            add(o, (const char *)s, n);
        }
        s += n ? n : 1;
    }
    add(o, "\"", 1);
}

void fibril__sheet_fini(struct fibril__sheet *o)
{
    fibril__free(o->text);
    *o = (struct fibril__sheet){0};
}
