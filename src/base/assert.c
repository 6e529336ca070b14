/* SPDX-License-Identifier: MIT */
/*
 * How fibril stops the process when going on would corrupt it.
 */
#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

NORETURN void fibril__panic(const char *text)
{
    static const char prefix[] = "fibril: ";
    (void)!write(STDERR_FILENO, prefix, sizeof prefix - 1);
    (void)!write(STDERR_FILENO, text, strlen(text));
    (void)!write(STDERR_FILENO, "\n", 1);
    abort();
}

NORETURN void fibril__panicf(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fibril__panic(text);
}
