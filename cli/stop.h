/* SPDX-License-Identifier: MIT */
/*
 * Ends a server on SIGINT and SIGTERM: the first drains it, the second cuts off what still runs.
 * SIGHUP, where the server has a use for it, is one call.
 */
#ifndef FIBRIL_CLI_STOP_H
#define FIBRIL_CLI_STOP_H

#include <fibril/http.h>
#include <fibril/io.h>

struct stop {
    struct fibril_http_server *srv;
    int64_t drain_ns;             /* how long requests in flight may go on */
    void (*also)(void *also_arg); /* called at the first signal besides; may be NULL */
    void *also_arg;
    void (*hangup)(void *hangup_arg); /* called at each SIGHUP; NULL: that ends the process */
    void *hangup_arg;
    int signals; /* that came and mean an end */
    struct fibril_signals *queue;
    struct fibril *fibril;
};

/* Blocks the signals: to be called before fibril_run, so that no OS thread that it starts can be
 * interrupted by them. Only `hangup` must be set. */
void stop_block(const struct stop *stop);

/* Begins to listen for them, on a fibril. srv must stay until stop_end. Returns 0 or -errno. */
int stop_watch(struct stop *stop);

void stop_end(struct stop *stop);

#endif
