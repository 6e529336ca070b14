/* SPDX-License-Identifier: MIT */
/*
 * What the values of options look like. Each is refused here, before anything has been started, and
 * the refusal says what would be taken. Numbers are plain decimals: strtol would take " +0x1".
 */
#include "options.h"

#include <fibril/fibril.h>
#include <fibril/io.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *option_wants(const char *format, ...)
{
    static char text[320];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return text;
}

/* Digits only, at most 15 of them: exact in a double too. Returns the first byte behind, or NULL.
 */
static const char *digits(const char *text, uint64_t *ret_number)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 15) {
        return NULL;
    }
    *ret_number = 0;
    for (size_t i = 0; i < len; i++) {
        *ret_number = *ret_number * 10 + (uint64_t)(text[i] - '0');
    }
    return text + len;
}

bool option_parse_number(const char *text, double min, double max, uint64_t *ret_number)
{
    uint64_t number;
    const char *end = digits(text, &number);

    if (!end || *end || (double)number < min || (double)number > max) {
        return false;
    }
    *ret_number = number;
    return true;
}

bool option_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "kmg";
    uint64_t number;
    const char *end = digits(text, &number);

    if (!end || number == 0) {
        return false;
    }
    if (*end) {
        const char *unit = strchr(units, *end | 0x20);
        if (!unit || end[1] || number > (1u << 30)) {
            return false;
        }
        number <<= 10 * (unit - units + 1);
    }
    *ret_bytes = number;
    return true;
}

bool option_parse_seconds(const char *text, double min, double max, int64_t *ret_ns)
{
    uint64_t whole, part = 0, scale = 1;

    if (strcmp(text, "none") == 0) {
        *ret_ns = FIBRIL_FOREVER;
        return true;
    }
    const char *end = digits(text, &whole);
    if (end && *end == '.') {
        const char *from = end + 1;
        end = digits(from, &part);
        for (const char *at = from; end && at < end; at++) {
            scale *= 10;
        }
    }
    if (!end || *end) {
        return false;
    }
    double seconds = (double)whole + (double)part / (double)scale;
    if (seconds < min || seconds > max) {
        return false;
    }
    *ret_ns = (int64_t)(seconds * 1e9);
    return true;
}

const char *option_flag(const struct option *option, const char *value, void *field)
{
    (void)option;
    (void)value;
    *(bool *)field = true;
    return NULL;
}

const char *option_text(const struct option *option, const char *value, void *field)
{
    (void)option;
    *(const char **)field = value;
    return NULL;
}

const char *option_address(const struct option *option, const char *value, void *field)
{
    struct words *words = field;
    struct fibril_addr ignored;

    (void)option;
    if (fibril_addr_parse(value, &ignored) < 0) {
        return option_wants("wants an address like 127.0.0.1:8080, [::1]:80, *:80 or unix:/path");
    }
    if (words->count == WORDS_MAX) {
        return option_wants("can be given %d times", WORDS_MAX);
    }
    words->at[words->count++] = value;
    return NULL;
}

const char *option_number(const struct option *option, const char *value, void *field)
{
    uint64_t number;

    if (!option_parse_number(value, option->min, option->max, &number)) {
        return option_wants("wants a number from %.0f to %.0f", option->min, option->max);
    }
    *(unsigned *)field = (unsigned)number;
    return NULL;
}

const char *option_seconds(const struct option *option, const char *value, void *field)
{
    if (!option_parse_seconds(value, option->min, option->max, field)) {
        return option_wants("wants seconds from %g to %.0f, or none", option->min, option->max);
    }
    return NULL;
}

const char *option_milliseconds(const struct option *option, const char *value, void *field)
{
    uint64_t number;

    if (!option_parse_number(value, option->min, option->max, &number)) {
        return option_wants("wants milliseconds from %.0f to %.0f", option->min, option->max);
    }
    *(int64_t *)field = (int64_t)number * 1000000;
    return NULL;
}

const char *option_choice(const struct option *option, const char *value, void *field)
{
    char all[160] = "";
    size_t len = 0;

    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *(int *)field = i;
            return NULL;
        }
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "",
                                option->choices[i]);
    }
    return option_wants("wants one of %s", all);
}
