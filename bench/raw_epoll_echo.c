/* SPDX-License-Identifier: MIT */
/*
 * The least that a TCP echo server on epoll can do: no threads of any kind, each connection
 * registered once and edge-triggered, a read that did not fill the buffer taken as the last one,
 * the answer sent at once. It is the limit that `echo` on the epoll poller is held against.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_here(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&a, &len)) {
        perror("raw_epoll_echo");
        return -1;
    }
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(int ep, int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    }
}

static void serve(int fd)
{
    char buf[4096];
    ssize_t n;

    do {
        n = recv(fd, buf, sizeof(buf), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            close(fd);
            return;
        }
        if (n > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n) {
            close(fd);
            return;
        }
    } while (n == (ssize_t)sizeof(buf));
}

int main(void)
{
    struct epoll_event events[1024];
    int listener = listen_here(), ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};

    if (listener < 0 || ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev)) {
        return 1;
    }
    for (;;) {
        int n = epoll_wait(ep, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(ep, listener);
            } else {
                serve(events[i].data.fd);
            }
        }
    }
}
