/* SPDX-License-Identifier: MIT */
/* What the demo prints: a line of progress, and the table. */
#ifndef FIBRIL_CLI_SHOW_H
#define FIBRIL_CLI_SHOW_H

#include "drive.h"
#include "pulse.h"

struct show {
    bool tty;
    int64_t began_ns, told_ns;
};

void show_begin(struct show *show);
/* The progress callback of a drive; arg is the struct show. */
void show_progress(void *arg, const struct drive *drive);
void show_end(struct show *show);

void show_table(const struct drive *drive, const struct pulse *pulse, const char *poller);

#endif
