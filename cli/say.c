/* SPDX-License-Identifier: MIT */
/*
 * One line on standard error. Values that the user typed are part of it, so it is made whole
 * first and cleaned then; printing piece by piece would let a newline in a file name make two
 * lines of one. A long value is cut short: the line always ends with a newline.
 */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>

int say_wrong(const char *command, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (char *at = line; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
    fprintf(stderr, "fibril%s%s: %s\n", command ? " " : "", command ? command : "", line);
    return EXIT_USAGE;
}
