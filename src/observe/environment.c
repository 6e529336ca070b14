/* SPDX-License-Identifier: MIT */
/*
 * FIBRIL_OBSERVE=ADDRESS: the first loop of a process serves the observer there, whatever program
 * it is; where, or why not, is said on standard error. Processes that inherit the variable and find
 * the port taken say so and go on.
 */
#include "observe/observe.h"

#include <fibril/fibril.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int serve(void *arg)
{
    const char *wanted = arg;
    char address[128];
    int rc = fibril_observe_serve(wanted, address, sizeof address);
    if (rc < 0) {
        fprintf(stderr, "fibril: FIBRIL_OBSERVE=%s: %s\n", wanted, strerror(-rc));
    } else {
        fprintf(stderr, "fibril: process %d is observed at http://%s/\n", (int)getpid(), address);
    }
    return 0;
}

void fibril__observe_loop_started(struct fibril_loop *loop)
{
    static atomic_flag begun = ATOMIC_FLAG_INIT;
    const struct fibril_spawn_opts opts = {.name = "observer's start", .daemon = true};
    char *wanted = getenv("FIBRIL_OBSERVE"); /* NOLINT(concurrency-mt-unsafe): only read */
    struct fibril_metrics m;
    bool simulated = fibril_metrics(loop, &m) == 0 && strcmp(m.poller, "sim") == 0;
    if (wanted && *wanted && !simulated && !atomic_flag_test_and_set(&begun)) {
        fibril_spawn(serve, wanted, &opts, NULL);
    }
}
