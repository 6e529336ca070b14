/* SPDX-License-Identifier: MIT */
/*
 * fibril serve: a folder over HTTP until a signal comes. Everything that can be wrong with the
 * command line is found before the runtime starts, and what only the kernel knows (a port in use)
 * before the first line on standard output: whoever reads "listening" can connect.
 */
#include "serve.h"

#include "limits.h"
#include "options.h"
#include "process.h"
#include "python.h"
#include "say.h"
#include "start.h"
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct serve {
    const char *dir;
    struct words binds;
    unsigned loops;
    int log;    /* enum fibril_http_log, -1: not given */
    int poller; /* index in start_pollers, -1: not given */
    const char *log_file;
    struct fibril_http_limits limits;
    int64_t drain_ns, stall_ns;
    const char *index;
    bool dotfiles;
    int log_fd; /* 0: standard output */
    struct stop stop;
};

/* In the order of enum fibril_http_log. */
static const char *const logs[] = {"off", "combined", "json", NULL};

#define FIELD(name) offsetof(struct serve, name)
static const struct option options[] = {
    {.name = "--bind",
     .value = "ADDR",
     .set = option_address,
     .offset = FIELD(binds),
     .help = "listen on this address; may be given several times. Port 0 lets the kernel choose.\n"
             "default 127.0.0.1:8080. example: --bind '[::]:80' --bind unix:/run/site.sock"},
    {.name = "--loops",
     .value = "N",
     .set = option_number,
     .offset = FIELD(loops),
     .min = 1,
     .max = 256,
     .help = "OS threads that serve, each with a listening socket of its own.\n"
             "default 1. example: --loops 4"},
    {.name = "--log",
     .value = "FORMAT",
     .set = option_choice,
     .offset = FIELD(log),
     .choices = logs,
     .help = "access log, one line a request: combined (the common format, with the microseconds\n"
             "it took at the end), json (one object a line) or off.\n"
             "default combined. example: --log json"},
    {.name = "--access-log",
     .value = "FILE",
     .set = option_text,
     .offset = FIELD(log_file),
     .help = "append the access log to this file, and open it anew on SIGHUP.\n"
             "default standard output. example: --access-log access.log"},
    {.name = "--index",
     .value = "NAME",
     .set = option_text,
     .offset = FIELD(index),
     .help = "file that is served for a folder; '' serves none.\n"
             "default index.html. example: --index home.html"},
    {.name = "--dotfiles",
     .set = option_flag,
     .offset = FIELD(dotfiles),
     .help = "serve names that begin with a dot too.\n"
             "default: they are not found. example: --dotfiles"},
    {.name = "--keep-alive",
     .value = "S",
     .set = option_seconds,
     .offset = FIELD(limits.keep_alive_ns),
     .min = 0.001,
     .max = 31536000,
     .help = "seconds that an idle connection is kept, or none for no limit.\n"
             "default 65. example: --keep-alive 5.5"},
    {.name = "--drain",
     .value = "S",
     .set = option_seconds,
     .offset = FIELD(drain_ns),
     .min = 0,
     .max = 31536000,
     .help =
         "seconds that requests in flight may go on after the first SIGINT or SIGTERM, or none\n"
         "for no limit. default 30. example: --drain 5"},
    {.name = "--limits",
     .value = "KEY=VALUE,...",
     .set = option_limits,
     .offset = FIELD(limits),
     .help = "what a peer may make the server hold, read or wait for; the keys are below.\n"
             "may be given several times. default: as listed there.\n"
             "example: --limits body_bytes=10m,head_s=5"},
    {.name = "--poller",
     .value = "P",
     .set = option_choice,
     .offset = FIELD(poller),
     .choices = start_pollers,
     .help =
         "how to wait for the kernel: uring, epoll, or auto (uring where the kernel allows it).\n"
         "default auto, or what the environment's FIBRIL_POLLER says. example: --poller epoll"},
    {.name = "--stall-ms",
     .value = "N",
     .set = option_milliseconds,
     .offset = FIELD(stall_ns),
     .min = 0,
     .max = 3600000,
     .help = "report a fibril that keeps its loop longer than this many milliseconds, with a\n"
             "backtrace; 0 never does. default 0. example: --stall-ms 50"},
    {0}};

static char notes[4608];
static const struct command command = {
    .name = "serve",
    .summary =
        "usage: fibril serve DIR [OPTION]...\n\n"
        "Serves the files below DIR over HTTP/1.1, one fibril a request, until SIGINT or\n"
        "SIGTERM. The first of these signals drains: no new connections, requests in flight\n"
        "are finished. The second ends them.\n\n"
        "fibril serve MODULE:APP serves a Python application (WSGI) instead: see\n"
        "fibril serve MODULE:APP --help.\n",
    .notes = notes,
    .operand = "DIR",
    .operand_offset = FIELD(dir),
    .options = options,
};

static void make_notes(void)
{
    int len = snprintf(notes, sizeof(notes),
                       "\nlimits (key, default, meaning); bytes may end in k, m or g, and times\n"
                       "(..._s) are seconds, a fraction allowed, or none:\n");

    limits_describe(notes + len, sizeof(notes) - (size_t)len - 400);
    len = (int)strlen(notes);
    snprintf(
        notes + len, sizeof(notes) - (size_t)len,
        "\nexit status: 0 after a drain in which every request was finished, 1 when some were\n"
        "cut off, 2 when it could not begin.\n"
        "example: fibril serve public --bind 0.0.0.0:8000 --loops 2 --log json\n");
}

static int make_server(const struct serve *serve, struct fibril_http_server **ret_srv)
{
    struct fibril_http_static_opts files = {.index = serve->index, .dotfiles = serve->dotfiles};
    struct fibril_http_opts opts = {.limits = serve->limits,
                                    .loops = serve->loops,
                                    .access_log = (enum fibril_http_log)serve->log,
                                    .access_log_fd = serve->log_fd};
    int rc = fibril_http_server_new(&opts, ret_srv);

    if (rc < 0) {
        return say_wrong(command.name, "cannot make a server: %s", strerror(-rc));
    }
    rc = fibril_http_static(*ret_srv, "/", serve->dir, &files);
    if (rc < 0) {
        return say_wrong(command.name, "cannot serve '%s': %s", serve->dir, strerror(-rc));
    }
    return start_listen(command.name, *ret_srv, &serve->binds) < 0 ? EXIT_USAGE : EXIT_FINE;
}

static void tell(const struct serve *serve, const struct fibril_http_server *srv)
{
    for (unsigned i = 0; i < serve->binds.count; i++) {
        char url[192];
        start_url(srv, i, url, sizeof(url));
        printf("listening on %s\n", url);
    }
    printf("serving %s, poller %s, %u loop%s\n", serve->dir,
           fibril_loop_poller(fibril_loop_current()), serve->loops, serve->loops == 1 ? "" : "s");
    fflush(stdout);
}

static int run(void *arg)
{
    struct serve *serve = arg;
    struct fibril_http_server *srv = NULL;
    int status = make_server(serve, &srv);

    if (status == EXIT_FINE) {
        serve->stop.srv = srv;
        serve->stop.drain_ns = serve->drain_ns;
        int rc = stop_watch(&serve->stop);
        if (rc >= 0) {
            tell(serve, srv);
            rc = fibril_http_server_run(srv);
        }
        if (rc < 0 && rc != -ETIMEDOUT) {
            say_wrong(command.name, "the server ended: %s", strerror(-rc));
        }
        status = rc < 0 ? EXIT_LOST : EXIT_FINE;
    }
    stop_end(&serve->stop);
    fibril_http_server_free(srv);
    return status;
}

static int open_log(const struct serve *serve)
{
    int fd = open(serve->log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    return fd < 0 ? -errno : fd;
}

/* The log has been renamed, or taken away, by whoever rotates logs: the name stands for a new file
 * from now on. The descriptor's number stays, so no line is lost or waits for this. */
static void reopen_log(void *arg)
{
    const struct serve *serve = arg;
    int fd = open_log(serve);

    if (fd >= 0 && dup3(fd, serve->log_fd, O_CLOEXEC) < 0) {
        close(fd);
        fd = -errno;
    }
    if (fd < 0) {
        fprintf(stderr, "fibril serve: cannot reopen log '%s', the old file goes on: %s\n",
                serve->log_file, strerror(-fd));
        return;
    }
    close(fd);
}

/* Opens what the options name. Returns an exit status. */
static int open_all(struct serve *serve)
{
    int dir = open(serve->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0) {
        return say_wrong(command.name, "cannot read folder '%s': %s", serve->dir, strerror(errno));
    }
    close(dir);
    if (serve->log_file && serve->log != FIBRIL_HTTP_LOG_NONE) {
        serve->log_fd = open_log(serve);
        if (serve->log_fd < 0) {
            return say_wrong(command.name, "cannot open log '%s': %s", serve->log_file,
                             strerror(-serve->log_fd));
        }
        serve->stop.hangup = reopen_log;
        serve->stop.hangup_arg = serve;
    }
    return EXIT_FINE;
}

int serve_main(int argc, char **argv)
{
    struct serve serve = {
        .loops = 1, .log = FIBRIL_HTTP_LOG_COMBINED, .poller = -1, .drain_ns = 30000000000};
    int status;

    if (python_wants(argc, argv)) {
        return python_serve(argc, argv);
    }
    make_notes();
    if (options_read(&command, argc, argv, &serve, &status) < 0) {
        return status;
    }
    if (!serve.binds.count) {
        serve.binds = (struct words){.count = 1, .at = {"127.0.0.1:8080"}};
    }
    status = open_all(&serve);
    if (status != EXIT_FINE) {
        return status;
    }
    process_raise_descriptors();
    stop_block(&serve.stop);
    struct fibril_opts opts = {.loops = serve.loops,
                               .stall_ns = serve.stall_ns,
                               .poller = serve.poller < 0 ? NULL : start_pollers[serve.poller]};
    status = start_run(command.name, &opts, run, &serve);
    if (serve.log_fd > 0) {
        close(serve.log_fd);
    }
    return status;
}
