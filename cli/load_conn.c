/* SPDX-License-Identifier: MIT */
/*
 * An answer counts only when all of it came and all of it is right: a load generator that counts
 * status lines would call a server fast that answers nothing.
 *
 * A source address has about 28,000 free ports towards one server, so every 20,000 clients take
 * the next address of 127.0.0.0/8.
 */
#include "load_conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLIENTS_PER_SOURCE = 20000 };

/* Whether the server is at a loopback address of IPv4. */
static bool is_loopback(const struct fibril_addr *addr)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->ss;

    return in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

static int bind_source(int fd, unsigned source)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr = {htonl(INADDR_LOOPBACK + source)}};
    int on = 1;

    /* The port is chosen at connect, when the kernel knows that it need not be free everywhere. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (const struct sockaddr *)&from, sizeof(from)) == 0 ? 0 : -errno;
}

int load_open(const struct fibril_addr *to, unsigned i, int64_t deadline_ns)
{
    unsigned source = i / CLIENTS_PER_SOURCE;
    int on = 1, rc = 0;

    if (source == 0 || !is_loopback(to)) {
        return fibril_connect(to, deadline_ns);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    rc = bind_source(fd, source);
    if (rc == 0) {
        rc = fibril_connect_fd(fd, to, deadline_ns);
    }
    if (rc < 0) {
        fibril_close(fd);
        return rc;
    }
    return fd;
}

/* Where the body of a complete head begins and how long it is; 0 while the head is incomplete,
 * -EPROTO when it is not a 200 with a length. */
static int read_head(const char *text, size_t *ret_body, size_t *ret_len)
{
    const char *end = strstr(text, "\r\n\r\n");

    if (!end) {
        return 0;
    }
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || !length || length > end) {
        return -EPROTO;
    }
    *ret_body = (size_t)(end + 4 - text);
    *ret_len = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    return 1;
}

int load_read_answer(int fd, const char *body, int64_t deadline_ns)
{
    char text[1024];
    size_t have = 0, start = 0, len = 0, want = strlen(body);
    int rc = 0;

    while (rc == 0 || have < start + len) {
        if (have == sizeof(text) - 1) {
            return -EPROTO;
        }
        ssize_t n = fibril_read(fd, text + have, sizeof(text) - 1 - have, deadline_ns);
        if (n <= 0) {
            return n < 0 ? (int)n : -EPIPE;
        }
        have += (size_t)n;
        text[have] = 0;
        if (rc == 0) {
            rc = read_head(text, &start, &len);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return have == start + len && len == want && memcmp(text + start, body, len) == 0 ? 0 : -EPROTO;
}
