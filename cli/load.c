/* SPDX-License-Identifier: MIT */
/*
 * Ten thousand clients as ten thousand fibrils that each read like one: open, wait for the start,
 * send, read the answer. The connections are opened before the clock starts, some hundreds at a
 * time (the kernel queues only so many for a listener and drops the rest for a second); then
 * every request is sent at once. A request that failed is counted and never tried again.
 */
#include "load.h"

#include "load_conn.h"
#include "options.h"
#include "process.h"
#include "say.h"
#include "start.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

enum { OPENING_AT_ONCE = 256, PROGRESS_NS = 100000000 };
#define PATIENCE_NS 60000000000 /* beyond what the request itself takes */

struct load {
    struct fibril_addr address;
    unsigned ms, connections, rounds;
    char request[256];
    char expected[64];
    struct fibril_sem *opening;
    struct fibril_event **go;     /* one per round, and one more: the end of all */
    struct fibril_group *pending; /* clients that are not ready, then requests not yet over */
    unsigned next;                /* number of the next client */
    unsigned opened, in_flight, answered, failed;
    bool told_why, over;
};

static void fail(struct load *load, const char *what, int rc)
{
    load->failed++;
    if (!load->told_why) {
        load->told_why = true;
        printf("why %s: %s\n", what, rc == -EPROTO ? "not the answer asked for" : strerror(-rc));
        fflush(stdout);
    }
}

/* Returns the descriptor or -errno. */
static int open_client(struct load *load, unsigned number)
{
    int fd = fibril_sem_wait(load->opening, FIBRIL_FOREVER);

    if (fd < 0) {
        return fd;
    }
    fd = load_open(&load->address, number, fibril_after(PATIENCE_NS));
    fibril_sem_post(load->opening);
    if (fd >= 0) {
        load->opened++;
    }
    return fd;
}

static int ask(struct load *load, int fd)
{
    int64_t deadline = fibril_after(PATIENCE_NS + (int64_t)load->ms * 1000000);
    ssize_t n = fibril_write_all(fd, load->request, strlen(load->request), deadline);

    return n < 0 ? (int)n : load_read_answer(fd, load->expected, deadline);
}

/* One round of one client. Returns its descriptor, or -errno when it has none any more. */
static int play(struct load *load, unsigned number, int fd)
{
    if (fd < 0) {
        fd = open_client(load, number); /* what broke in the round before is opened again */
    }
    if (fd < 0) {
        fail(load, "opening", fd);
        return fd;
    }
    load->in_flight++;
    int rc = ask(load, fd);
    load->in_flight--;
    if (rc == 0) {
        load->answered++;
        return fd;
    }
    fail(load, "asking", rc);
    load->opened--;
    fibril_close(fd);
    return rc;
}

static int client(void *arg)
{
    struct load *load = arg;
    unsigned number = load->next++;
    int fd = open_client(load, number);
    int rc = 0;

    fibril_group_done(load->pending);
    for (unsigned r = 0; r < load->rounds && rc == 0; r++) {
        rc = fibril_event_wait(load->go[r], FIBRIL_FOREVER);
        if (rc == 0) {
            fd = play(load, number, fd);
        }
        fibril_group_done(load->pending);
    }
    if (rc == 0) {
        rc = fibril_event_wait(load->go[load->rounds], FIBRIL_FOREVER);
    }
    if (fd >= 0) {
        fibril_close(fd);
    }
    return rc;
}

static int tell_progress(void *arg)
{
    const struct load *load = arg;

    while (fibril_sleep(PROGRESS_NS) == 0 && !load->over) {
        printf("progress %u %u %u %u\n", load->opened, load->in_flight, load->answered,
               load->failed);
        if (fflush(stdout) != 0) {
            break; /* nobody listens any more */
        }
    }
    return 0;
}

static int play_round(struct load *load, unsigned r)
{
    unsigned answered = load->answered, failed = load->failed;
    int64_t began = fibril_now();

    fibril_group_add(load->pending, (int)load->connections);
    fibril_event_set(load->go[r]);
    int rc = fibril_group_wait(load->pending, FIBRIL_FOREVER);
    printf("round %u %u %lld\n", load->answered - answered, load->failed - failed,
           (long long)(fibril_now() - began));
    fflush(stdout);
    return rc;
}

/* Everything that the clients wait on. */
static int make_events(struct load *load)
{
    int rc = fibril_sem_new(OPENING_AT_ONCE, 0, &load->opening);

    if (rc == 0) {
        rc = fibril_group_new(0, &load->pending);
    }
    load->go = calloc(load->rounds + 1, sizeof(struct fibril_event *));
    if (!load->go) {
        return -ENOMEM;
    }
    for (unsigned r = 0; rc == 0 && r <= load->rounds; r++) {
        rc = fibril_event_new(0, &load->go[r]);
    }
    return rc;
}

static void free_events(struct load *load)
{
    for (unsigned r = 0; load->go && r <= load->rounds; r++) {
        fibril_event_free(load->go[r]);
    }
    free(load->go);
    fibril_group_free(load->pending);
    fibril_sem_free(load->opening);
}

static int play_all(struct load *load)
{
    struct fibril_scope *scope;
    int rc = fibril_scope_open(&scope);

    if (rc < 0) {
        return rc;
    }
    fibril_group_add(load->pending, (int)load->connections);
    for (unsigned i = 0; rc == 0 && i < load->connections; i++) {
        rc = fibril_scope_spawn(scope, client, load, NULL);
    }
    if (rc == 0) {
        rc = fibril_group_wait(load->pending, FIBRIL_FOREVER);
    }
    for (unsigned r = 0; rc == 0 && r < load->rounds; r++) {
        rc = play_round(load, r);
    }
    if (rc == 0) {
        fibril_event_set(load->go[load->rounds]);
    } else {
        fibril_scope_cancel(scope);
    }
    int ended = fibril_scope_close(scope, FIBRIL_FOREVER);
    load->over = true;
    return rc < 0 ? rc : ended;
}

static int run(void *arg)
{
    struct load *load = arg;
    struct fibril *progress;
    int rc = make_events(load);

    if (rc == 0) {
        rc = fibril_spawn(tell_progress, load, NULL, &progress);
    }
    if (rc == 0) {
        rc = play_all(load);
        fibril_cancel(progress);
        fibril_join(progress, FIBRIL_FOREVER, NULL);
    }
    free_events(load);
    if (rc < 0) {
        printf("why %s\n", strerror(-rc));
        return EXIT_LOST;
    }
    return load->failed ? EXIT_LOST : EXIT_FINE;
}

int load_main(int argc, char **argv)
{
    struct load load = {0};
    uint64_t ms, connections, rounds;

    if (argc != 6 || fibril_addr_parse(argv[1], &load.address) < 0 ||
        !option_parse_number(argv[2], 0, 60000, &ms) ||
        !option_parse_number(argv[3], 1, 1e7, &connections) ||
        !option_parse_number(argv[4], 1, 1e6, &rounds)) {
        return say_wrong("demo-load", "is started by fibril demo, not by hand");
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* no load without the demo that asked for it */
    process_raise_descriptors();
    load.ms = (unsigned)ms;
    load.connections = (unsigned)connections;
    load.rounds = (unsigned)rounds;
    snprintf(load.request, sizeof(load.request), "GET /slow?ms=%u HTTP/1.1\r\nHost: %.120s\r\n\r\n",
             load.ms, strncmp(argv[1], "unix:", 5) == 0 ? "localhost" : argv[1]);
    snprintf(load.expected, sizeof(load.expected), "waited %u ms\n", load.ms);
    struct fibril_opts opts = {.poller = argv[5], .no_sigquit_dump = true};
    return start_run("demo-load", &opts, run, &load);
}
