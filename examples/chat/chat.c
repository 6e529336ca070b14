/* SPDX-License-Identifier: MIT */
/*
 * A chat on the web server: rooms are actors under supervision, each user is the handler of an
 * event stream, which is an actor from the moment it enters a room. Kill a room, on the page or
 * with --kill MS: its users are told, and go on in the one that is started in its place; those of
 * other rooms notice nothing.
 *
 *     chat [--kill MS] [ADDRESS]      then open http://127.0.0.1:8080/
 */
#include "room.h"

#include <fibril/http.h>
#include <fibril/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL
enum { WAITING_MAX = 1000 };

static const char plain[] = "text/plain; charset=utf-8";

/* ---- a user ---------------------------------------------------------------------------------- */

static int respond(struct fibril_http_req *req, int status, const char *text)
{
    return fibril_http_respond(req, status, plain, text, strlen(text));
}

/* Asks the room for its last lines and watches it; waits while it is being started again. */
static int enter(const struct room *r, uint64_t *ret_ref)
{
    uint64_t self = fibril_actor_self(), actor = room_actor(r);
    struct fibril_message *m;
    int rc = 0;

    while (!actor && rc == 0) {
        rc = fibril_sleep(1 * MS);
        actor = room_actor(r);
    }
    if (rc == 0) {
        rc = fibril_actor_monitor(actor, ret_ref);
    }
    if (rc == 0 && (rc = fibril_message_of(ROOM_ENTER, &self, sizeof(self), &m)) == 0) {
        rc = fibril_actor_send(actor, m, FIBRIL_FOREVER);
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    return rc;
}

static int pass_on(struct fibril_http_req *req, const struct room *r, struct fibril_message *m)
{
    uint64_t ref;
    int rc = 0;

    if (fibril_message_tag(m) == ROOM_LINE) {
        rc = fibril_http_sse_send(req, "line", fibril_message_data(m));
    } else if (fibril_message_tag(m) == FIBRIL_TAG_DOWN) {
        rc = fibril_http_sse_send(req, "room", "it was killed, and is there again");
        rc = rc < 0 ? rc : enter(r, &ref);
    }
    fibril_message_free(m);
    return rc;
}

/* Who is too slow loses the oldest lines, and holds nobody up. */
static int listen_in(struct fibril_http_req *req, const struct room *r)
{
    const struct fibril_mailbox bounds = {.messages = WAITING_MAX,
                                          .overflow = FIBRIL_OVERFLOW_DROP_OLDEST};
    struct fibril_message *m;
    uint64_t ref;

    int rc = fibril_actor_set_mailbox(&bounds);
    rc = rc < 0 ? rc : fibril_topic_join(r->topic, fibril_actor_self());
    rc = rc < 0 ? rc : fibril_http_sse_start(req);
    rc = rc < 0 ? rc : enter(r, &ref);
    while (rc == 0) {
        rc = fibril_actor_receive(fibril_after(5000 * MS), &m);
        if (rc == 0) {
            rc = pass_on(req, r, m);
        } else if (rc == -ETIMEDOUT) {
            rc = fibril_http_gone(req) ? -EPIPE : 0;
        }
    }
    return rc == -EPIPE ? 0 : rc;
}

static int events(struct fibril_http_req *req, void *arg)
{
    struct room *r;

    (void)arg;
    int rc = room_open(fibril_http_param(req, "room"), &r);
    return rc < 0 ? rc : listen_in(req, r);
}

/* ---- other requests -------------------------------------------------------------------------- */

static int say(struct fibril_http_req *req, void *arg)
{
    struct said said = {.who = "somebody"};
    struct fibril_message *m;
    struct room *r;
    const char *text;

    (void)arg;
    int rc = room_open(fibril_http_param(req, "room"), &r);
    ssize_t len = rc < 0 ? rc : fibril_http_body_all(req, TEXT_MAX, &text, FIBRIL_FOREVER);
    if (len < 0) {
        return (int)len;
    }
    if (fibril_http_query_get(req, "who", said.who, sizeof(said.who)) == -ENOSPC) {
        return respond(req, 400, "that name is too long\n");
    }
    snprintf(said.text, sizeof(said.text), "%s", text);
    rc = fibril_message_of(ROOM_SAY, &said, sizeof(said), &m);
    if (rc < 0) {
        return rc;
    }
    uint64_t actor = room_actor(r);
    rc = actor ? fibril_actor_send(actor, m, fibril_after(1000 * MS)) : -ESRCH;
    if (rc < 0) {
        fibril_message_free(m);
        return respond(req, 503, "the room is being started again\n");
    }
    return respond(req, 202, "said\n");
}

static int kill_room(struct fibril_http_req *req, void *arg)
{
    struct room *r;

    (void)arg;
    int rc = room_open(fibril_http_param(req, "room"), &r);
    rc = rc < 0 ? rc : room_kill(r);
    return rc < 0 ? rc : respond(req, 202, "killed\n");
}

/* One line a room. */
static int list(struct fibril_http_req *req, void *arg)
{
    char line[ROOM_NAME_MAX + 80];

    (void)arg;
    int rc = fibril_http_header(req, "Content-Type", plain);
    for (const struct room *r = rooms; r && rc == 0; r = r->next) {
        int len = snprintf(line, sizeof(line), "%s %zu users %lu lines %lu kills\n", r->name,
                           room_users(r), r->lines, r->kills);
        rc = fibril_http_write(req, line, (size_t)len);
    }
    return rc;
}

/* ---- the program ----------------------------------------------------------------------------- */

struct chat {
    const char *address;
    int64_t kill_every_ns; /* 0: nobody is killed */
    struct fibril_http_server *srv;
    struct fibril_signals *signals;
};

static int stop_when_told(void *arg)
{
    struct chat *chat = arg;

    int rc = fibril_signals_wait(chat->signals, NULL, FIBRIL_FOREVER);
    fibril_http_server_stop(chat->srv, fibril_now());
    return rc < 0 ? rc : 0;
}

/* Kills one room after the other, the newest first. */
static int kill_rooms(void *arg)
{
    const struct chat *chat = arg;
    struct room *next = NULL;
    int rc;

    do {
        next = next ? next : rooms;
        rc = next ? room_kill(next) : 0;
        next = next ? next->next : NULL;
        rc = rc < 0 ? rc : fibril_sleep(chat->kill_every_ns);
    } while (rc == 0);
    return rc;
}

static int add_routes(struct fibril_http_server *srv)
{
    int rc = fibril_http_route(srv, "GET", "/rooms", list, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/rooms/{room}", events, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "POST", "/rooms/{room}", say, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "DELETE", "/rooms/{room}", kill_room, NULL);
    return rc < 0 ? rc : fibril_http_static(srv, "/", CHAT_PAGE, NULL);
}

static int start_helpers(struct chat *chat)
{
    struct fibril_spawn_opts opts = {.daemon = true};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    int rc = fibril_signals_open(&set, &chat->signals);
    rc = rc < 0 ? rc : fibril_spawn(stop_when_told, chat, &opts, NULL);
    if (rc == 0 && chat->kill_every_ns > 0) {
        rc = fibril_spawn(kill_rooms, chat, &opts, NULL);
    }
    return rc;
}

static int serve(struct chat *chat)
{
    char address[128];

    int rc = add_routes(chat->srv);
    rc = rc < 0 ? rc : fibril_http_server_listen(chat->srv, chat->address);
    rc = rc < 0 ? rc : rooms_start();
    rc = rc < 0 ? rc : start_helpers(chat);
    if (rc == 0 && fibril_http_server_address(chat->srv, 0, address, sizeof(address)) > 0) {
        printf("listening on http://%s/\n", address);
        fflush(stdout);
        rc = fibril_http_server_run(chat->srv);
        rc = rc == -ETIMEDOUT ? 0 : rc; /* streams that were open were cancelled */
    }
    fibril_signals_close(chat->signals);
    return rc;
}

static int run(void *arg)
{
    struct chat *chat = arg;

    int rc = fibril_http_server_new(NULL, &chat->srv);
    if (rc == 0) {
        rc = serve(chat);
        fibril_http_server_free(chat->srv);
    }
    return rc;
}

/* A killed room is no news here. */
static void quiet(const struct fibril_actor_report *report)
{
    if (report->trouble == FIBRIL_TROUBLE_CRASH && report->reason != FIBRIL_EXIT_KILLED) {
        fprintf(stderr, "chat: %s: %s\n", report->name, fibril_exit_text(report->reason));
    }
}

static bool parse(int argc, char **argv, struct chat *chat)
{
    int i = 1;

    if (argc > 2 && strcmp(argv[1], "--kill") == 0) {
        chat->kill_every_ns = atol(argv[2]) * MS;
        i = 3;
        if (chat->kill_every_ns <= 0) {
            fprintf(stderr, "chat: --kill takes milliseconds, not %s\n", argv[2]);
            return false;
        }
    }
    chat->address = i < argc ? argv[i++] : "127.0.0.1:8080";
    if (i < argc || chat->address[0] == '-') {
        fprintf(stderr, "usage: chat [--kill MS] [ADDRESS], not %s\n", argv[i < argc ? i : i - 1]);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct chat chat = {0};

    if (!parse(argc, argv, &chat)) {
        return 2;
    }
    fibril_actor_on_trouble(quiet);
    int rc = fibril_run(NULL, run, &chat);
    if (rc < 0) {
        fprintf(stderr, "chat: %s: %s\n", chat.address, strerror(-rc));
    }
    while (rooms) {
        struct room *r = rooms;
        rooms = r->next;
        free(r);
    }
    return rc < 0;
}
