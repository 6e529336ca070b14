/* SPDX-License-Identifier: MIT */
/*
 * Signals arrive as events, on a fibril like any other: no handler, no flag that must be volatile.
 * Whoever presses Ctrl-C a third time means the process and not the server.
 */
#include "stop.h"

#include <stdio.h>
#include <unistd.h>

static void all(const struct stop *stop, sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    if (stop->hangup) {
        sigaddset(set, SIGHUP);
    }
}

void stop_block(const struct stop *stop)
{
    sigset_t set;

    all(stop, &set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static void say_draining(const struct stop *stop)
{
    struct fibril_http_stats stats;
    char limit[48] = "";

    fibril_http_server_stats(stop->srv, &stats);
    if (stop->drain_ns != FIBRIL_FOREVER) {
        snprintf(limit, sizeof(limit), " for %g s at most", (double)stop->drain_ns / 1e9);
    }
    if (stats.in_flight) {
        fprintf(stderr, "draining%s, requests in flight: %llu (a second signal ends them)\n", limit,
                (unsigned long long)stats.in_flight);
    }
}

static void end_sooner(struct stop *stop)
{
    stop->signals++;
    if (stop->signals == 1) {
        say_draining(stop);
        fibril_http_server_stop(stop->srv, fibril_after(stop->drain_ns));
        if (stop->also) {
            stop->also(stop->also_arg);
        }
    } else if (stop->signals == 2) {
        fibril_http_server_stop(stop->srv, fibril_now());
    } else {
        _exit(130);
    }
}

static int listen_for_signals(void *arg)
{
    struct stop *stop = arg;
    int signo;

    while ((signo = fibril_signals_wait(stop->queue, NULL, FIBRIL_FOREVER)) > 0) {
        if (signo == SIGHUP) {
            stop->hangup(stop->hangup_arg);
        } else {
            end_sooner(stop);
        }
    }
    return 0;
}

int stop_watch(struct stop *stop)
{
    struct fibril_spawn_opts opts = {.name = "signals", .daemon = true};
    sigset_t set;

    all(stop, &set);
    int rc = fibril_signals_open(&set, &stop->queue);
    return rc < 0 ? rc : fibril_spawn(listen_for_signals, stop, &opts, &stop->fibril);
}

void stop_end(struct stop *stop)
{
    if (stop->fibril) {
        fibril_cancel(stop->fibril);
        fibril_join(stop->fibril, FIBRIL_FOREVER, NULL);
        stop->fibril = NULL;
    }
    if (stop->queue) {
        fibril_signals_close(stop->queue);
        stop->queue = NULL;
    }
}
