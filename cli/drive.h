/* SPDX-License-Identifier: MIT */
/* The parent's side of the load: starts the process, follows what it tells, collects the result. */
#ifndef FIBRIL_CLI_DRIVE_H
#define FIBRIL_CLI_DRIVE_H

#include <fibril/io.h>

enum { DRIVE_ROUNDS = 8 }; /* rounds whose time is kept one by one */

struct drive {
    /* What to send; the strings are the caller's. */
    const char *address, *poller;
    unsigned ms, connections, rounds;
    void (*progress)(void *progress_arg, const struct drive *drive); /* may be NULL */
    void *progress_arg;
    /* What has come of it so far. */
    unsigned opened, in_flight, answered, failed;
    unsigned rounds_over;
    int64_t round_ns[DRIVE_ROUNDS], slowest_ns;
    char why[160]; /* of the first failure, "" without one */
    struct fibril_process *process;
};

/* Runs the whole load. Returns 0 when it came to its end, -EPIPE when its process ended before, or
 * what starting it said. MAY PARK. */
int drive_run(struct drive *drive);

/* Ends the load early, from another fibril. Never parks. */
void drive_kill(struct drive *drive);

#endif
