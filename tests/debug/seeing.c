/* SPDX-License-Identifier: MIT */
/* See seeing.h. */
#include "seeing.h"

#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT_BYTES = 256 << 10 };

int catch_new(void)
{
    int fd = memfd_create("report", MFD_CLOEXEC);
    ASSERT_OK(fd);
    return fd;
}

int catch_stderr(void)
{
    int fd = catch_new();
    ASSERT_OK(dup2(fd, STDERR_FILENO));
    return fd;
}

const char *caught(int fd)
{
    static char text[TEXT_BYTES];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    ASSERT_OK(n);
    text[n] = 0;
    return text;
}

static const char *next_line(const char *at)
{
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

const char *record_of(const char *dump, const char *name)
{
    static char record[8192];
    char quoted[128];
    snprintf(quoted, sizeof quoted, "\"%s\" ", name);
    record[0] = 0;
    for (const char *line = dump; *line; line = next_line(line)) {
        const char *end = next_line(line), *found = strstr(line, quoted);
        if (strncmp(line, "fibril ", 7) != 0 || !found || found - line > 24 || found >= end) {
            continue;
        }
        while (*end == ' ') {
            end = next_line(end);
        }
        snprintf(record, sizeof record, "%.*s", (int)(end - line), line);
        break;
    }
    return record;
}

int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) {
        n++;
    }
    return n;
}
