/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses as text. "*:80" is the IPv6 any-address, which fibril_listen makes take IPv4 too
 * (and falls back to IPv4 where the kernel has no IPv6), so it is the same as "[::]:80". An IPv4
 * peer of such a socket (::ffff:a.b.c.d) is written as plain IPv4, since that is what it is.
 */
#include <fibril/io.h>

#include "io/sys.h"
#include "sched/current.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* ---- parsing --------------------------------------------------------------------------------- */

static int parse_port(const char *text, uint16_t *ret_port)
{
    unsigned port = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -EINVAL;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    *ret_port = htons((uint16_t)port);
    return port <= UINT16_MAX ? 0 : -EINVAL;
}

static int parse_unix(const char *path, struct fibril_addr *a)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->ss;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(un->sun_path) || (path[0] == '@' && n == 1)) {
        return -EINVAL;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    if (path[0] == '@') { /* abstract: a zero byte in front, none at the end */
        un->sun_path[0] = '\0';
        a->len--;
    }
    return 0;
}

/* "ADDRESS" or "ADDRESS%INTERFACE". */
static int parse_ip6(const char *text, uint16_t port, struct fibril_addr *a)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->ss;
    char host[INET6_ADDRSTRLEN];
    const char *zone = strchr(text, '%');
    size_t n = zone ? (size_t)(zone - text) : strlen(text);
    if (n >= sizeof(host)) {
        return -EINVAL;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    if (zone && !(in6->sin6_scope_id = if_nametoindex(zone + 1))) {
        return -EINVAL;
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = port;
    a->len = sizeof(*in6);
    return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -EINVAL;
}

static int parse_ip4(const char *text, uint16_t port, struct fibril_addr *a)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&a->ss;
    in->sin_family = AF_INET;
    in->sin_port = port;
    a->len = sizeof(*in);
    return inet_pton(AF_INET, text, &in->sin_addr) == 1 ? 0 : -EINVAL;
}

static int parse_inet(const char *text, struct fibril_addr *a)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 2];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    uint16_t port;
    if (n == 0 || n >= sizeof(host) || parse_port(colon + 1, &port) < 0) {
        return -EINVAL;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    if (strcmp(host, "*") == 0) {
        return parse_ip6("::", port, a);
    }
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        return parse_ip6(host + 1, port, a);
    }
    return parse_ip4(host, port, a);
}

int fibril_addr_parse(const char *text, struct fibril_addr *ret_addr)
{
    struct fibril_addr a;
    memset(&a, 0, sizeof(a));
    int rc = strncmp(text, "unix:", 5) == 0 ? parse_unix(text + 5, &a) : parse_inet(text, &a);
    if (rc == 0) {
        *ret_addr = a;
    }
    return rc;
}

/* ---- formatting ------------------------------------------------------------------------------ */

static int format_unix(const struct fibril_addr *a, char *text, size_t size)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->ss;
    size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t n = a->len > start ? a->len - start : 0;
    if (n == 0) {
        return snprintf(text, size, "unix:");
    }
    if (un->sun_path[0] == '\0') {
        return snprintf(text, size, "unix:@%.*s", (int)n - 1, un->sun_path + 1);
    }
    return snprintf(text, size, "unix:%.*s", (int)n, un->sun_path);
}

static int format_ip6(const struct sockaddr_in6 *in6, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 1] = "";
    unsigned port = ntohs(in6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
        return snprintf(text, size, "%s:%u", host, port);
    }
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    if (in6->sin6_scope_id && if_indextoname(in6->sin6_scope_id, zone + 1)) {
        zone[0] = '%';
    }
    return snprintf(text, size, "[%s%s]:%u", host, zone, port);
}

static int format_ip4(const struct sockaddr_in *in, char *text, size_t size)
{
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
    return snprintf(text, size, "%s:%u", host, (unsigned)ntohs(in->sin_port));
}

int fibril_addr_format(const struct fibril_addr *addr, char *ret_text, size_t size)
{
    int n;
    if (size == 0) {
        return -ENOSPC;
    }
    ret_text[0] = '\0';
    switch (addr->ss.ss_family) {
    case AF_INET: n = format_ip4((const struct sockaddr_in *)&addr->ss, ret_text, size); break;
    case AF_INET6: n = format_ip6((const struct sockaddr_in6 *)&addr->ss, ret_text, size); break;
    case AF_UNIX: n = format_unix(addr, ret_text, size); break;
    default: return -EAFNOSUPPORT;
    }
    return (size_t)n < size ? n : -ENOSPC;
}

/* ---- of descriptors -------------------------------------------------------------------------- */

static int name_of(int fd, bool peer, struct fibril_addr *ret_addr)
{
    struct fibril_addr a;
    memset(&a, 0, sizeof(a));
    a.len = sizeof(a.ss);
    if (!fibril__loop) {
        return -EPERM;
    }
    int rc = fibril__sys_getname(fd, peer, (struct sockaddr *)&a.ss, &a.len);
    if (rc == 0) {
        *ret_addr = a;
    }
    return rc;
}

int fibril_addr_local(int fd, struct fibril_addr *ret_addr)
{
    return name_of(fd, false, ret_addr);
}

int fibril_addr_peer(int fd, struct fibril_addr *ret_addr)
{
    return name_of(fd, true, ret_addr);
}
