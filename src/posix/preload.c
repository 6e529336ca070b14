/* SPDX-License-Identifier: MIT */
/*
 * What makes libfibril-posix.so work by being there, preloaded or linked: before main() the main
 * thread is adopted and the layer installed. A program that cannot be served so runs as it would
 * have without, after a line that says why.
 */
#include "posix/layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STACK_BYTES = 256 << 10 };

static int read_threads(enum fibril_posix_threads *ret_threads)
{
    const char *text = getenv("FIBRIL_POSIX_THREADS");
    *ret_threads = FIBRIL_POSIX_THREADS_ALL;
    if (!text || strcmp(text, "all") == 0) {
        return 0;
    }
    *ret_threads = FIBRIL_POSIX_THREADS_NONE;
    if (strcmp(text, "none") == 0) {
        return 0;
    }
    fprintf(stderr, "fibril: FIBRIL_POSIX_THREADS is \"%s\", which is neither all nor none\n",
            text);
    return -EINVAL;
}

/* $FIBRIL_POSIX_REPORT, which fibril doctor sets: "FD PID". What is covered when that process ends
 * is written to that descriptor. */
static int report_to = -1;

static void report(void)
{
    fibril_posix_report(report_to);
}

static void read_report(void)
{
    const char *text = getenv("FIBRIL_POSIX_REPORT");
    int fd, pid;
    if (text && sscanf(text, "%d %d", &fd, &pid) == 2 && pid == getpid()) {
        report_to = fd;
        atexit(report);
    }
}

__attribute__((constructor)) static void start(void)
{
    static const struct fibril_opts loop_opts = {.stack_bytes = STACK_BYTES,
                                                 .deadlock = FIBRIL_DEADLOCK_RETURN};
    struct fibril_posix_opts opts = {0};
    struct fibril_loop *loop;
    int rc = read_threads(&opts.threads);
    rc = rc ? rc : fibril_loop_attach(&loop_opts, &loop);
    rc = rc ? rc : fibril_posix_install(&opts);
    if (rc == 0) {
        read_report();
    }
    if (rc < 0) {
        fprintf(stderr, "fibril: the POSIX layer is not in use: %s\n", strerror(-rc));
    }
}
