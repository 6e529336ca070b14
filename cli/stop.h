/* SPDX-License-Identifier: MIT */
/*
 * Ends a server on SIGINT and SIGTERM: the first drains it, the second cuts off what still runs.
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
    int signals; /* that came */
    struct fibril_signals *queue;
    struct fibril *fibril;
};

/* Blocks both signals: to be called before fibril_run, so that no OS thread that it starts can be
 * interrupted by them. */
void stop_block(void);

/* Begins to listen for them, on a fibril. srv must stay until stop_end. Returns 0 or -errno. */
int stop_watch(struct stop *stop);

void stop_end(struct stop *stop);

#endif
