/* SPDX-License-Identifier: MIT */
/*
 * The load is this same program, started again by /proc/self/exe: it is there whatever the
 * directory, the PATH or the name, and it is the same version. A round is over when the child says
 * so; a child that dies without saying so has lost every request that it still owed.
 */
#include "drive.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1024 };

/* The caller's line has no newline any more. */
static void take_line(struct drive *drive, const char *line)
{
    unsigned answered, failed;
    long long ns;

    if (sscanf(line, "progress %u %u %u %u", &drive->opened, &drive->in_flight, &drive->answered,
               &drive->failed) == 4) {
        if (drive->progress) {
            drive->progress(drive->progress_arg, drive);
        }
    } else if (sscanf(line, "round %u %u %lld", &answered, &failed, &ns) == 3) {
        if (drive->rounds_over < DRIVE_ROUNDS) {
            drive->round_ns[drive->rounds_over] = ns;
        }
        drive->slowest_ns = ns > drive->slowest_ns ? ns : drive->slowest_ns;
        drive->rounds_over++;
    } else if (strncmp(line, "why ", 4) == 0) {
        snprintf(drive->why, sizeof(drive->why), "%.*s", (int)sizeof(drive->why) - 1, line + 4);
    }
}

/* The progress lines come ten times a second; the sums that count are those of the rounds. */
static void take_round(struct drive *drive, const char *line, unsigned *answered, unsigned *failed)
{
    unsigned a, f;

    if (sscanf(line, "round %u %u", &a, &f) == 2) {
        *answered += a;
        *failed += f;
    }
}

static int follow(struct drive *drive, struct fibril_reader *reader)
{
    unsigned answered = 0, failed = 0;
    const char *span;
    ssize_t n;

    while ((n = fibril_read_until(reader, "\n", 1, &span, FIBRIL_FOREVER)) > 0) {
        char line[LINE_BYTES];
        memcpy(line, span, (size_t)n - 1);
        line[n - 1] = 0;
        take_line(drive, line);
        take_round(drive, line, &answered, &failed);
    }
    drive->answered = answered;
    drive->failed = failed + drive->connections * (drive->rounds - drive->rounds_over);
    drive->in_flight = 0;
    return n < 0 ? (int)n : drive->rounds_over == drive->rounds ? 0 : -EPIPE;
}

static int start(struct drive *drive)
{
    char ms[16], connections[16], rounds[16];
    const char *const argv[] = {"/proc/self/exe", "demo-load", drive->address, ms,
                                connections,      rounds,      drive->poller,  NULL};
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdout = true};

    snprintf(ms, sizeof(ms), "%u", drive->ms);
    snprintf(connections, sizeof(connections), "%u", drive->connections);
    snprintf(rounds, sizeof(rounds), "%u", drive->rounds);
    return fibril_process_start(&opts, &drive->process);
}

int drive_run(struct drive *drive)
{
    struct fibril_reader *reader = NULL;
    int status, rc = start(drive);

    if (rc < 0) {
        return rc;
    }
    rc = fibril_reader_new(fibril_process_pipe(drive->process, 1), LINE_BYTES, &reader);
    if (rc == 0) {
        rc = follow(drive, reader);
        fibril_reader_free(reader);
    }
    if (rc < 0) {
        fibril_process_kill(drive->process, SIGKILL);
    }
    fibril_process_wait(drive->process, FIBRIL_FOREVER, &status);
    fibril_process_free(drive->process);
    drive->process = NULL;
    return rc;
}

void drive_kill(struct drive *drive)
{
    if (drive->process) {
        fibril_process_kill(drive->process, SIGKILL);
    }
}
