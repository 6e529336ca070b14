/* SPDX-License-Identifier: MIT */
/*
 * A web server in a page: a greeting with a name from the path, an echo of the body, and a clock as
 * server-sent events. Every handler is plain code in a fibril of its own; ten thousand clocks are
 * ten thousand sleeping handlers.
 *
 *     hello_http [ADDRESS]        then: curl http://127.0.0.1:8080/hello/you
 */
#include <fibril/http.h>

#include <stdio.h>
#include <string.h>

static int hello(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char text[128];
    int len = snprintf(text, sizeof(text), "hello, %.100s\n", fibril_http_param(req, "name"));
    return fibril_http_respond(req, 200, "text/plain; charset=utf-8", text, (size_t)len);
}

static int echo(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    char part[1024];
    ssize_t n;
    int rc = fibril_http_header(req, "Content-Type", "application/octet-stream");
    while (rc == 0 && (n = fibril_http_body_read(req, part, sizeof(part), FIBRIL_FOREVER)) != 0) {
        rc = n < 0 ? (int)n : fibril_http_write(req, part, (size_t)n);
    }
    return rc;
}

static int clock_events(struct fibril_http_req *req, void *arg)
{
    (void)arg;
    int rc = fibril_http_sse_start(req);
    for (int second = 0; rc == 0 && second < 3600; second++) {
        char text[32];
        snprintf(text, sizeof(text), "%d", second);
        rc = fibril_http_sse_send(req, "second", text);
        if (rc == 0 && fibril_http_gone_wait(req, fibril_after(1000000000)) == 0) {
            break;
        }
    }
    return rc;
}

static int serve(void *arg)
{
    struct fibril_http_server *srv;
    int rc = fibril_http_server_new(NULL, &srv);
    if (rc < 0) {
        return rc;
    }
    fibril_http_route(srv, "GET", "/hello/{name}", hello, NULL);
    fibril_http_route(srv, "POST", "/echo", echo, NULL);
    fibril_http_route(srv, "GET", "/clock", clock_events, NULL);
    rc = fibril_http_server_listen(srv, arg);
    char address[128];
    if (rc >= 0 && fibril_http_server_address(srv, 0, address, sizeof(address)) > 0) {
        printf("listening on http://%s/hello/you\n", address);
        fflush(stdout);
        rc = fibril_http_server_run(srv);
    }
    fibril_http_server_free(srv);
    return rc;
}

int main(int argc, char **argv)
{
    char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";
    int rc = fibril_run(NULL, serve, address);
    if (rc < 0) {
        fprintf(stderr, "hello_http: %s\n", strerror(-rc));
    }
    return rc < 0;
}
