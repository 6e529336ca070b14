/* SPDX-License-Identifier: MIT */
/*
 * On a terminal progress is one line that is written over and over; elsewhere (a file, a pipe, CI)
 * it is a plain line a second. What is printed at the end is the same on both.
 */
#include "show.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NUMBER_BYTES = 32 };

/* 1234567 as "1,234,567". */
static const char *grouped(int64_t number, char *text)
{
    char plain[NUMBER_BYTES];
    int len = snprintf(plain, sizeof(plain), "%lld", (long long)number);
    char *to = text;

    for (int i = 0; i < len; i++) {
        *to++ = plain[i];
        if (plain[i] != '-' && i + 1 < len && (len - i - 1) % 3 == 0) {
            *to++ = ',';
        }
    }
    *to = 0;
    return text;
}

void show_begin(struct show *show)
{
    show->tty = isatty(STDOUT_FILENO);
    show->began_ns = fibril_now();
    show->told_ns = show->began_ns;
}

void show_progress(void *arg, const struct drive *drive)
{
    struct show *show = arg;
    int64_t now = fibril_now();
    char a[NUMBER_BYTES], b[NUMBER_BYTES], c[NUMBER_BYTES], d[NUMBER_BYTES];

    if (!show->tty && now - show->told_ns < 1000000000) {
        return;
    }
    show->told_ns = now;
    printf("%sopened %s   in flight %s   answered %s   failed %s   %.1f s%s",
           show->tty ? "\r\033[K" : "", grouped(drive->opened, a), grouped(drive->in_flight, b),
           grouped(drive->answered, c), grouped(drive->failed, d),
           (double)(now - show->began_ns) / 1e9, show->tty ? "" : "\n");
    fflush(stdout);
}

void show_end(struct show *show)
{
    if (show->tty) {
        fputs("\r\033[K", stdout);
        fflush(stdout);
    }
}

static void row(const char *name, const char *value, const char *meaning)
{
    printf("  %-25s %12s%s%s\n", name, value, *meaning ? "   " : "", meaning);
}

static void seconds_row(const struct drive *drive)
{
    char text[NUMBER_BYTES], name[NUMBER_BYTES];

    for (unsigned i = 0; i < drive->rounds_over && i < DRIVE_ROUNDS; i++) {
        snprintf(name, sizeof(name), drive->rounds == 1 ? "seconds" : "seconds, round %u", i + 1);
        snprintf(text, sizeof(text), "%.3f", (double)drive->round_ns[i] / 1e9);
        row(name, text, "at the client, first request sent to last answer read");
    }
    if (drive->rounds_over > DRIVE_ROUNDS) {
        snprintf(text, sizeof(text), "%.3f", (double)drive->slowest_ns / 1e9);
        row("seconds, slowest round", text, "of all rounds");
    }
}

void show_table(const struct drive *drive, const struct pulse *pulse, const char *poller)
{
    char text[NUMBER_BYTES], meaning[96];
    int64_t each = pulse_bytes_each(pulse);

    putchar('\n');
    row("concurrent at the peak", grouped(pulse->peak, text),
        "requests, each in a fibril of its own, counted by the server");
    row("answered", grouped(drive->answered, text), "complete and correct");
    row("failed", grouped(drive->failed, text), drive->why);
    seconds_row(drive);
    snprintf(meaning, sizeof(meaning), "bytes of user memory in the server, page tables included");
    row("memory per request", each ? grouped(each, text) : "-",
        each ? meaning : "too few requests to tell");
    row("poller", poller, "");
    row("OS threads", grouped(pulse->threads, text), "of the server, at the peak");
    putchar('\n');
    fflush(stdout);
}
