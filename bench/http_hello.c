/* SPDX-License-Identifier: MIT */
/*
 * The smallest server on fibril's HTTP: /hello from memory, /4k from memory, /slow?ms=1000
 * sleeping, and the files of a folder below /static/ when one is given. Prints the port it listens
 * on, serves until SIGTERM or SIGINT, drains, and prints its figures as one line of JSON.
 *
 *     http_hello [ADDRESS [FOLDER [LOOPS [own|copied]]]]
 */
#include <fibril/http.h>
#include <fibril/io.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct setup {
    const char *address, *folder;
    unsigned loops;
    enum fibril_stack stack;
};

static char four_k[4096];

static int hello(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    return fibril_http_respond(req, 200, "text/plain", "hello world\n", 12);
}

static int from_memory(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    return fibril_http_respond(req, 200, "text/plain", four_k, sizeof(four_k));
}

static int slow(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[16] = "1000";
    fibril_http_query_get(req, "ms", text, sizeof(text));
    int rc = fibril_sleep((int64_t)atoi(text) * 1000000);
    return rc < 0 ? rc : fibril_http_respond(req, 200, "text/plain", "hello world\n", 12);
}

static int stop_on_signal(void *arg)
{
    struct fibril_http_server *srv = arg;
    struct fibril_signals *signals;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int rc = fibril_signals_open(&set, &signals);
    if (rc == 0) {
        fibril_signals_wait(signals, NULL, FIBRIL_FOREVER);
        fibril_signals_close(signals);
        fibril_http_server_stop(srv, fibril_after(5000000000));
    }
    return rc;
}

static int set_up(struct fibril_http_server *srv, const struct setup *s)
{
    int rc = fibril_http_route(srv, "GET", "/hello", hello, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/4k", from_memory, NULL);
    rc = rc < 0 ? rc : fibril_http_route(srv, "GET", "/slow", slow, NULL);
    if (rc == 0 && s->folder && *s->folder) {
        rc = fibril_http_static(srv, "/static/", s->folder, NULL);
    }
    return rc < 0 ? rc : fibril_http_server_listen(srv, s->address);
}

static void print_figures(const struct fibril_http_server *srv)
{
    struct fibril_http_stats st;
    fibril_http_server_stats(srv, &st);
    printf("{\"poller\": \"%s\", \"requests\": %llu, \"sends\": %llu, \"receives\": %llu, "
           "\"in_flight_max\": %llu, \"accepted\": %llu}\n",
           fibril_loop_poller(fibril_loop_current()), (unsigned long long)st.requests,
           (unsigned long long)st.sends, (unsigned long long)st.receives,
           (unsigned long long)st.in_flight_max, (unsigned long long)st.accepted);
}

static int serve(void *arg)
{
    const struct setup *s = arg;
    struct fibril_http_opts opts = {.loops = s->loops > 1 ? s->loops : 0, .stack = s->stack};
    struct fibril_http_server *srv;
    int rc = fibril_http_server_new(&opts, &srv);
    if (rc < 0) {
        return rc;
    }
    rc = set_up(srv, s);
    char address[128];
    if (rc >= 0 && fibril_http_server_address(srv, 0, address, sizeof(address)) > 0) {
        printf("%s\n", strrchr(address, ':') + 1);
        fflush(stdout);
        struct fibril_spawn_opts daemon = {.name = "signals", .daemon = true};
        rc = fibril_spawn(stop_on_signal, srv, &daemon, NULL);
    }
    rc = rc < 0 ? rc : fibril_http_server_run(srv);
    print_figures(srv);
    fibril_http_server_free(srv);
    return rc;
}

int main(int argc, char **argv)
{
    struct setup s = {
        .address = argc > 1 ? argv[1] : "127.0.0.1:0",
        .folder = argc > 2 ? argv[2] : NULL,
        .loops = argc > 3 ? (unsigned)atoi(argv[3]) : 1,
        .stack =
            argc > 4 && strcmp(argv[4], "copied") == 0 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN,
    };
    struct fibril_opts opts = {.loops = s.loops};
    memset(four_k, 'x', sizeof(four_k));
    int rc = fibril_run(&opts, serve, &s);
    if (rc < 0) {
        fprintf(stderr, "http_hello: %s\n", strerror(-rc));
    }
    return rc < 0;
}
