/* SPDX-License-Identifier: MIT */
/*
 * fibril demo: a web site and 10,000 requests at once, in one command. The server runs here on one
 * OS thread; the load runs in a process of its own (drive.h, load.h), so that what is told of the
 * server's memory is the server's alone.
 */
#include "demo.h"

#include "drive.h"
#include "options.h"
#include "process.h"
#include "say.h"
#include "show.h"
#include "site.h"
#include "start.h"
#include "stop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SLOW_MS = 1000, SPARE_DESCRIPTORS = 100 };

struct demo {
    bool exit;
    struct words binds;
    unsigned connections, rounds;
    int poller; /* index in start_pollers, -1: not given */
    struct site site;
    struct drive *drive; /* the load that runs now */
    struct stop stop;
    struct fibril *server;
    char address[160];
};

#define FIELD(name) offsetof(struct demo, name)
static const struct option options[] = {
    {.name = "--exit",
     .set = option_flag,
     .offset = FIELD(exit),
     .help = "end after the table instead of serving on; the exit status then tells whether all\n"
             "requests were answered. default: serve on until Ctrl-C. example: --exit"},
    {.name = "--bind",
     .value = "ADDR",
     .set = option_address,
     .offset = FIELD(binds),
     .help = "serve the site on this address; may be given several times, the load goes to the\n"
             "first. Port 0 lets the kernel choose. default 127.0.0.1:8080. example: --bind "
             "127.0.0.1:0"},
    {.name = "--connections",
     .value = "N",
     .set = option_number,
     .offset = FIELD(connections),
     .min = 1,
     .max = 1000000,
     .help = "connections, each with one request in flight. default 10000. example: --connections "
             "500"},
    {.name = "--rounds",
     .value = "N",
     .set = option_number,
     .offset = FIELD(rounds),
     .min = 1,
     .max = 1000,
     .help = "times that every connection sends a request, all at once each time.\n"
             "default 1. example: --rounds 5"},
    {.name = "--poller",
     .value = "P",
     .set = option_choice,
     .offset = FIELD(poller),
     .choices = start_pollers,
     .help =
         "how to wait for the kernel: uring, epoll, or auto (uring where the kernel allows it).\n"
         "default auto, or what the environment's FIBRIL_POLLER says. example: --poller epoll"},
    {0}};

static const struct command command = {
    .name = "demo",
    .summary =
        "usage: fibril demo [OPTION]...\n\n"
        "Serves the demo site on one OS thread, opens 10,000 connections to it from a second\n"
        "process, sends a request of one second on each, all at once, and prints one table.\n"
        "Then it serves on, to be looked at in a browser.\n",
    .notes = "\nexit status: 0 when every request was answered, 1 when some failed or Ctrl-C came\n"
             "before the table, 2 when it could not begin.\n"
             "example: fibril demo --exit --connections 2000 --rounds 3\n",
    .options = options,
};

/* Both processes need a descriptor per connection. Says so when there are too few. */
static void fit_descriptors(struct demo *demo)
{
    unsigned limit = process_raise_descriptors();
    unsigned room = limit > 2 * SPARE_DESCRIPTORS ? limit - SPARE_DESCRIPTORS : limit / 2;

    if (demo->connections > room) {
        printf(
            "a process may open %u descriptors here (ulimit -Hn): %u connections instead of %u\n",
            limit, room, demo->connections);
        demo->connections = room;
    }
}

/* ---- the load ------------------------------------------------------------ */

static int run_load(struct demo *demo, struct drive *drive)
{
    drive->address = demo->address;
    drive->poller = fibril_loop_poller(fibril_loop_current());
    drive->ms = SLOW_MS;
    pulse_begin_peak(&demo->site.pulse);
    demo->drive = drive;
    int rc = drive_run(drive);
    demo->drive = NULL;
    return rc;
}

/* A load that a button of the page asked for. */
static int load_for_page(struct site *site, unsigned count, char *ret_json, size_t size)
{
    struct demo *demo = (struct demo *)(void *)((char *)site - offsetof(struct demo, site));
    struct drive drive = {.connections = count, .rounds = 1};
    int rc = run_load(demo, &drive);

    if (rc < 0) {
        return rc;
    }
    snprintf(ret_json, size, "{\"peak\":%u,\"answered\":%u,\"failed\":%u,\"seconds\":%.3f}\n",
             site->pulse.peak, drive.answered, drive.failed, (double)drive.round_ns[0] / 1e9);
    return 0;
}

static void end_load(void *arg)
{
    struct demo *demo = arg;

    if (demo->drive) {
        drive_kill(demo->drive);
    }
}

/* The load of the command itself, with its table. Returns an exit status. */
static int first_load(struct demo *demo)
{
    struct show show;
    struct drive drive = {.connections = demo->connections,
                          .rounds = demo->rounds,
                          .progress = show_progress,
                          .progress_arg = &show};

    show_begin(&show);
    demo->site.loading = true;
    int rc = run_load(demo, &drive);
    demo->site.loading = false;
    show_end(&show);
    if (demo->stop.signals) {
        return EXIT_LOST;
    }
    if (rc < 0 && rc != -EPIPE) {
        say_wrong(command.name, "cannot run the load: %s", strerror(-rc));
        return EXIT_LOST;
    }
    show_table(&drive, &demo->site.pulse, drive.poller);
    return drive.failed ? EXIT_LOST : EXIT_FINE;
}

/* ---- the server ---------------------------------------------------------- */

static int serve(void *arg)
{
    return fibril_http_server_run(arg);
}

static int begin(struct demo *demo)
{
    struct fibril_spawn_opts opts = {.name = "server"};
    int rc = site_open(&demo->site, demo->connections);

    if (rc < 0) {
        return say_wrong(command.name, "cannot make the site: %s", strerror(-rc));
    }
    if (start_listen(command.name, demo->site.srv, &demo->binds) < 0) {
        return EXIT_USAGE;
    }
    demo->stop.srv = demo->site.srv;
    fibril_http_server_address(demo->site.srv, 0, demo->address, sizeof(demo->address));
    rc = stop_watch(&demo->stop);
    if (rc == 0) {
        rc = site_start(&demo->site);
    }
    if (rc == 0) {
        rc = fibril_spawn(serve, demo->site.srv, &opts, &demo->server);
    }
    return rc < 0 ? say_wrong(command.name, "cannot start: %s", strerror(-rc)) : EXIT_FINE;
}

static void tell_where(const struct demo *demo)
{
    for (unsigned i = 0; i < demo->binds.count; i++) {
        char url[192];
        start_url(demo->site.srv, i, url, sizeof(url));
        printf("listening on %s, poller %s\n", url, fibril_loop_poller(fibril_loop_current()));
    }
    printf("sending GET /slow?ms=%d on %u connections at once, from another process\n", SLOW_MS,
           demo->connections);
    fflush(stdout);
}

static void invite(const struct demo *demo)
{
    char url[192];

    start_url(demo->site.srv, 0, url, sizeof(url));
    printf("open %s in a browser (Ctrl-C ends)\n", url);
    fflush(stdout);
}

static int run(void *arg)
{
    struct demo *demo = arg;
    int status = begin(demo);

    if (status == EXIT_FINE) {
        tell_where(demo);
        status = first_load(demo);
        if (!demo->exit && !demo->stop.signals) {
            invite(demo);
        } else {
            fibril_http_server_stop(demo->site.srv, fibril_after(demo->stop.drain_ns));
        }
    }
    if (demo->server) {
        fibril_join(demo->server, FIBRIL_FOREVER, NULL);
    }
    stop_end(&demo->stop);
    site_close(&demo->site);
    return status;
}

int demo_main(int argc, char **argv)
{
    static struct demo demo = {.connections = 10000, .rounds = 1, .poller = -1};
    int status;

    if (options_read(&command, argc, argv, &demo, &status) < 0) {
        return status;
    }
    if (!demo.binds.count) {
        demo.binds = (struct words){.count = 1, .at = {"127.0.0.1:8080"}};
    }
    fit_descriptors(&demo);
    stop_block(&demo.stop);
    demo.site.load = load_for_page;
    demo.site.load_max = demo.connections;
    demo.stop.drain_ns = 1000000000;
    demo.stop.also = end_load;
    demo.stop.also_arg = &demo;
    struct fibril_opts opts = {.poller = demo.poller < 0 ? NULL : start_pollers[demo.poller]};
    return start_run(command.name, &opts, run, &demo);
}
