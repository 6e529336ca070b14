/* SPDX-License-Identifier: MIT */
/*
 * The TCP echo server as one writes it with fibril: a fibril per connection, which reads and writes
 * as if it had a thread to block. Held against raw_epoll_echo and raw_uring_echo.
 *
 *     echo [--stack own|copied] [--poller NAME]
 */
#include <netinet/in.h>
#include <unistd.h>

#include <fibril/io.h>

#include "options.h"

static struct options options;

static int serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buf[4096];
    ssize_t n;

    while ((n = fibril_read(fd, buf, sizeof(buf), FIBRIL_FOREVER)) > 0) {
        if (fibril_write_all(fd, buf, (size_t)n, FIBRIL_FOREVER) != n) {
            break;
        }
    }
    fibril_close(fd);
    return 0;
}

static int listen_and_serve(void *arg)
{
    struct fibril_spawn_opts o = {.stack = options.stack};
    struct fibril_addr addr;
    int listener, fd;

    must(fibril_addr_parse("127.0.0.1:0", &addr), "fibril_addr_parse");
    must(listener = fibril_listen(&addr, 4096, 0), "fibril_listen");
    must(fibril_addr_local(listener, &addr), "fibril_addr_local");
    printf("port %d\n", ntohs(((struct sockaddr_in *)&addr.ss)->sin_port));
    fflush(stdout);
    while ((fd = fibril_accept(listener, NULL, FIBRIL_FOREVER)) >= 0) {
        must(fibril_spawn(serve, (void *)(intptr_t)fd, &o, NULL), "fibril_spawn");
    }
    return fd;
}

int main(int argc, char **argv)
{
    options = parse_options(argc, argv);
    struct fibril_opts o = {.poller = options.poller};
    must(fibril_run(&o, listen_and_serve, NULL), "echo");
    return 0;
}
