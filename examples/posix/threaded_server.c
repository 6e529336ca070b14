/* SPDX-License-Identifier: MIT */
/*
 * A server as it has been written since there are threads: it blocks in accept, gives each
 * connection a thread, and the thread blocks in recv. It knows nothing of fibril.
 *
 *     cc -pthread -o threaded_server threaded_server.c
 *     ./threaded_server                                     an OS thread per connection
 *     LD_PRELOAD=libfibril-posix.so ./threaded_server       a fibril per connection
 *
 * It speaks a line protocol: "add N" adds to a total that all connections share and answers it,
 * "wait MS" answers after so long, "bye" ends the connection, "stop" the server. It prints its port
 * when it listens and the total at the end. An argument is the port to listen on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_BYTES = 128, BACKLOG = 4096, STACK_BYTES = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below */
static pthread_cond_t all_gone = PTHREAD_COND_INITIALIZER;
static long total, served;
static unsigned connections;
static int listener;

/* Reads up to a newline, byte by byte as far as the protocol needs: 0 at the end. */
static size_t read_line(int fd, char line[LINE_BYTES])
{
    size_t n = 0;
    while (n < LINE_BYTES - 1 && recv(fd, line + n, 1, 0) == 1) {
        if (line[n] == '\n') {
            line[n] = 0;
            return n + 1;
        }
        n++;
    }
    return 0;
}

static void answer(int fd, long number)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", number);
    send(fd, text, (size_t)n, MSG_NOSIGNAL);
}

static long add(long n)
{
    pthread_mutex_lock(&lock);
    long now = total += n;
    served++;
    pthread_mutex_unlock(&lock);
    return now;
}

/* Returns whether the connection goes on. */
static int serve_line(int fd, const char *line)
{
    if (strncmp(line, "add ", 4) == 0) {
        answer(fd, add(atol(line + 4)));
    } else if (strncmp(line, "wait ", 5) == 0) {
        usleep((useconds_t)atol(line + 5) * 1000);
        answer(fd, 0);
    } else if (strcmp(line, "stop") == 0) {
        shutdown(listener, SHUT_RDWR); /* ends the accept */
        return 0;
    } else {
        return 0;
    }
    return 1;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char line[LINE_BYTES];
    while (read_line(fd, line) > 0 && serve_line(fd, line)) {}
    close(fd);
    pthread_mutex_lock(&lock);
    if (--connections == 0) {
        pthread_cond_signal(&all_gone);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int listen_on(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t bytes = sizeof at;
    int on = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, bytes) != 0 ||
        listen(listener, BACKLOG) != 0) {
        return -1;
    }
    getsockname(listener, (struct sockaddr *)&at, &bytes);
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return 0;
}

static void accept_all(const pthread_attr_t *attr)
{
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0 || errno == EINTR || errno == ECONNABORTED) {
        pthread_t thread;
        if (fd < 0) {
            continue;
        }
        pthread_mutex_lock(&lock);
        connections++;
        pthread_mutex_unlock(&lock);
        if (pthread_create(&thread, attr, serve, (void *)(intptr_t)fd) != 0) {
            perror("pthread_create");
            serve((void *)(intptr_t)fd);
        }
    }
}

int main(int argc, char **argv)
{
    pthread_attr_t attr;
    if (listen_on(argc > 1 ? atoi(argv[1]) : 0) != 0) {
        perror("listen");
        return 1;
    }
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    accept_all(&attr);
    pthread_mutex_lock(&lock);
    while (connections > 0) {
        pthread_cond_wait(&all_gone, &lock);
    }
    printf("served %ld, total %ld\n", served, total);
    pthread_mutex_unlock(&lock);
    return 0;
}
