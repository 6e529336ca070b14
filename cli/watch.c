/* SPDX-License-Identifier: MIT */
/*
 * See watch.h. HTTP/1.0, so that the body is all that comes until the end. Nothing here needs a
 * fibril: the command waits for one connection and one keyboard.
 */
#include "watch.h"

#include <fibril/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 8192 };

static const char *const views[] = {"actors", "fibrils", "tree"};
static char wrong[512];

/* HOST:PORT of "7000", "http://127.0.0.1:7000/" and the like. */
static void host_of(const char *target, char *host, size_t size)
{
    const char *at = strncmp(target, "http://", 7) == 0 ? target + 7 : target;
    size_t len = strcspn(at, "/");
    bool port_alone = len > 0 && strspn(at, "0123456789") == len;
    snprintf(host, size, "%s%.*s", port_alone ? "127.0.0.1:" : "", (int)len, at);
}

static int open_to(const char *host)
{
    struct fibril_addr addr;
    int rc = fibril_addr_parse(host, &addr);
    if (rc < 0) {
        snprintf(wrong, sizeof wrong, "is no PORT, HOST:PORT or http://HOST:PORT/");
        return -1;
    }
    int fd = socket(addr.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&addr.ss, addr.len) < 0) {
        snprintf(wrong, sizeof wrong, "cannot be reached: %s", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static bool ask(int fd, const struct watch *w, const char *what, bool live, const char *host)
{
    char request[1024];
    bool sorts = w->view != WATCH_TREE && *w->sort;
    int len =
        snprintf(request, sizeof request,
                 "GET /%s?view=%s&skip=%u&count=%u%s%s%s%s HTTP/1.0\r\nHost: %s\r\n\r\n", what,
                 views[w->view], w->skip, w->count, sorts ? "&sort=" : "", sorts ? w->sort : "",
                 sorts && !w->ascending ? "&order=desc" : "", live ? "&watch=1" : "", host);
    return len < (int)sizeof request && send(fd, request, (size_t)len, MSG_NOSIGNAL) == len;
}

/* Reads the head; what came of the body is moved to the beginning. */
static bool read_head(int fd, char *head, size_t size, size_t *ret_len)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = len < size - 1 ? read(fd, head + len, size - 1 - len) : 0;
        if (n <= 0) {
            snprintf(wrong, sizeof wrong, "is no observer: it closed the connection");
            return false;
        }
        len += (size_t)n;
        head[len] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end) {
            size_t body = len - (size_t)(end + 4 - head);
            int status = strncmp(head, "HTTP/1.", 7) == 0 ? atoi(head + 8) : 0;
            memmove(head, end + 4, body + 1);
            *ret_len = body;
            if (status != 200) {
                snprintf(wrong, sizeof wrong,
                         "is no observer, or does not know this: status %d %.*s", status,
                         (int)strcspn(head, "\r\n"), head);
            }
            return status == 200;
        }
    }
}

int watch_open(const struct watch *w, const char *what, bool live, char *first, size_t size,
               size_t *ret_len, const char **ret_wrong)
{
    char host[256], head[HEAD_MAX];
    host_of(w->target, host, sizeof host);
    *ret_wrong = wrong;
    int fd = open_to(host);
    if (fd < 0) {
        return -1;
    }
    size_t len = 0;
    bool good = ask(fd, w, what, live, host) && read_head(fd, head, sizeof head, &len);
    if (!good || len > size) {
        close(fd);
        return -1;
    }
    memcpy(first, head, len);
    *ret_len = len;
    return fd;
}
