/* SPDX-License-Identifier: MIT */
/*
 * A TCP echo server: one fibril accepts, and each connection has a fibril that reads and writes as
 * if nothing else were going on. Without an argument it talks to itself for a moment, on a port
 * that the kernel chooses, and ends.
 *
 *     echo_server [ADDRESS]       then: nc 127.0.0.1 7000
 */
#include <fibril/io.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CLIENTS = 100 };

static int echo(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char part[512];
    ssize_t n;

    while ((n = fibril_read(fd, part, sizeof(part), FIBRIL_FOREVER)) > 0) {
        if (fibril_write_all(fd, part, (size_t)n, FIBRIL_FOREVER) < 0) {
            break;
        }
    }
    return fibril_close(fd);
}

static int accept_all(void *arg)
{
    int listener = (int)(intptr_t)arg;
    int fd;

    while ((fd = fibril_accept(listener, NULL, FIBRIL_FOREVER)) >= 0) {
        int rc = fibril_spawn(echo, (void *)(intptr_t)fd, NULL, NULL);
        if (rc < 0) {
            fibril_close(fd);
        }
    }
    return fd == -ECANCELED || fd == -EBADF ? 0 : fd;
}

static int client(void *arg)
{
    const struct fibril_addr *server = arg;
    const char said[] = "is anybody there?";
    char heard[sizeof(said)];
    int64_t deadline = fibril_after(10000000000);
    int fd = fibril_connect(server, deadline);

    if (fd < 0) {
        return fd;
    }
    ssize_t n = fibril_write_all(fd, said, sizeof(said), deadline);
    if (n > 0) {
        n = fibril_read_all(fd, heard, sizeof(heard), deadline);
    }
    fibril_close(fd);
    return n < 0 ? (int)n : memcmp(said, heard, sizeof(said)) == 0 ? 0 : -EPROTO;
}

/* A hundred clients at once; the scope ends when all of them have, or fails with the first. */
static int talk_to_itself(int listener)
{
    struct fibril_addr address;
    struct fibril_scope *scope;
    int rc = fibril_addr_local(listener, &address);

    if (rc < 0 || (rc = fibril_scope_open(&scope)) < 0) {
        return rc;
    }
    for (int i = 0; rc == 0 && i < CLIENTS; i++) {
        rc = fibril_scope_spawn(scope, client, &address, NULL);
    }
    int ended = fibril_scope_close(scope, FIBRIL_FOREVER);
    printf("%d clients, each heard what it said: %s\n", CLIENTS, ended ? strerror(-ended) : "yes");
    return rc < 0 ? rc : ended;
}

static int serve(void *arg)
{
    const char *text = arg;
    struct fibril_addr address;
    struct fibril *acceptor;
    int listener, rc = fibril_addr_parse(text ? text : "127.0.0.1:0", &address);

    if (rc < 0 || (listener = rc = fibril_listen(&address, 128, 0)) < 0) {
        return rc;
    }
    rc = fibril_spawn(accept_all, (void *)(intptr_t)listener, NULL, &acceptor);
    if (rc == 0) {
        rc = text ? 0 : talk_to_itself(listener);
        if (!text) {
            fibril_cancel(acceptor);
        }
        fibril_join(acceptor, FIBRIL_FOREVER, NULL);
    }
    fibril_close(listener);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = fibril_run(NULL, serve, argc > 1 ? argv[1] : NULL);

    if (rc < 0) {
        fprintf(stderr, "echo_server: %s\n", strerror(-rc));
    }
    return rc < 0;
}
