/* SPDX-License-Identifier: MIT */
/*
 * getaddrinfo and getnameinfo. What can be answered from the arguments alone is asked of libc at
 * once; anything else may read files or ask a name server, and goes to the pool. A thread of the
 * pool works on copies: the caller's strings may lie on a stack that is elsewhere meanwhile.
 */
#include "posix/process_calls.h"

#include "base/alloc.h"

#include <fibril/io.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

/* ---- getaddrinfo ---- */

static bool is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    char text[INET6_ADDRSTRLEN];
    const char *scope = strchr(host, '%');
    size_t len = scope ? (size_t)(scope - host) : strlen(host);
    if (len >= sizeof text) {
        return false;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    return inet_aton(text, (struct in_addr *)(void *)address) != 0 ||
           inet_pton(AF_INET6, text, address) == 1;
}

static bool is_number(const char *service)
{
    return service[strspn(service, "0123456789")] == '\0';
}

/* Whether no file and no server is needed. */
static bool is_at_once(const char *host, const char *service, const struct addrinfo *hints)
{
    int flags = hints ? hints->ai_flags : 0;
    bool host_ok = !host || (flags & AI_NUMERICHOST) || is_numeric(host);
    bool service_ok = !service || (flags & AI_NUMERICSERV) || is_number(service);
    return host_ok && service_ok;
}

/* What getaddrinfo returns for what fibril_resolve says. */
static int answer(int rc, int gai, int saved_errno)
{
    if (rc == 0) {
        errno = saved_errno;
        return 0;
    }
    if (rc == -ENOMEM) {
        return EAI_MEMORY;
    }
    if (gai == 0 || gai == EAI_SYSTEM) {
        fibril__posix_result(rc, saved_errno); /* sets errno; a cancelled thread ends here */
        return EAI_SYSTEM;
    }
    errno = saved_errno;
    return gai;
}

int fibril_posix_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                             struct addrinfo **ret_list)
{
    if (!fibril__on_loop() || is_at_once(host, service, hints)) {
        return getaddrinfo(host, service, hints, ret_list);
    }
    int saved = errno, rc, gai;
    do {
        gai = 0;
        rc = fibril_resolve(host, service, hints, ret_list, &gai, FIBRIL_FOREVER);
    } while (rc == -EINTR && gai == 0);
    return answer(rc, gai, saved);
}

/* ---- getnameinfo ---- */

enum { HOST_MAX = NI_MAXHOST, SERVICE_MAX = NI_MAXSERV };

struct reverse {
    struct sockaddr_storage addr;
    socklen_t addr_len, host_len, service_len;
    int flags, result, error;
    char host[HOST_MAX], service[SERVICE_MAX];
};

static int run_reverse(void *arg)
{
    struct reverse *r = arg;
    r->result =
        getnameinfo((const struct sockaddr *)&r->addr, r->addr_len, r->host_len ? r->host : NULL,
                    r->host_len, r->service_len ? r->service : NULL, r->service_len, r->flags);
    r->error = errno;
    return 0;
}

static socklen_t least(socklen_t a, socklen_t b)
{
    return a < b ? a : b;
}

static int finish_reverse(const struct reverse *r, char *host, char *service, int saved_errno)
{
    if (r->result == 0 && r->host_len) {
        memcpy(host, r->host, strlen(r->host) + 1);
    }
    if (r->result == 0 && r->service_len) {
        memcpy(service, r->service, strlen(r->service) + 1);
    }
    errno = r->result == EAI_SYSTEM ? r->error : saved_errno;
    return r->result;
}

static int look_up(struct reverse *r, char *host, char *service)
{
    int saved = errno, rc;
    do {
        rc = fibril_offload(run_reverse, r, FIBRIL_FOREVER);
    } while (rc == -EINTR);
    if (rc < 0) {
        fibril__posix_result(rc, saved);
        return rc == -ENOMEM ? EAI_MEMORY : EAI_SYSTEM;
    }
    return finish_reverse(r, host, service, saved);
}

int fibril_posix_getnameinfo(const struct sockaddr *addr, socklen_t addr_len, char *host,
                             socklen_t host_len, char *service, socklen_t service_len, int flags)
{
    bool host_at_once = !host || host_len == 0 || (flags & NI_NUMERICHOST);
    bool service_at_once = !service || service_len == 0 || (flags & NI_NUMERICSERV);
    if (!fibril__on_loop() || (host_at_once && service_at_once) ||
        addr_len > sizeof(struct sockaddr_storage)) {
        return getnameinfo(addr, addr_len, host, host_len, service, service_len, flags);
    }
    struct reverse *r = fibril__alloc_zero(sizeof *r);
    if (!r) {
        return EAI_MEMORY;
    }
    memcpy(&r->addr, addr, addr_len);
    r->addr_len = addr_len;
    r->host_len = host ? least(host_len, HOST_MAX) : 0;
    r->service_len = service ? least(service_len, SERVICE_MAX) : 0;
    r->flags = flags;
    int result = look_up(r, host, service);
    fibril__free(r);
    return result;
}

const struct fibril__call fibril__calls_name[] = {
    FIBRIL__CALL(getaddrinfo),      FIBRIL__CALL(getnameinfo),     FIBRIL__CALL(gethostbyname),
    FIBRIL__CALL(gethostbyname2),   FIBRIL__CALL(gethostbyaddr),   FIBRIL__CALL(gethostbyname_r),
    FIBRIL__CALL(gethostbyname2_r), FIBRIL__CALL(gethostbyaddr_r), {NULL, NULL, false, NULL},
};
