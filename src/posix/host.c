/* SPDX-License-Identifier: MIT */
/*
 * The gethostby family, by the pool. One request stands for all six: the reentrant call of libc,
 * made on copies of the arguments into a buffer on the heap. The answer is then moved into the
 * caller's buffer, its pointers with it; the heap buffer begins at the same place within an
 * alignment, so that everything fits as libc laid it out.
 *
 * The calls that are not reentrant answer in memory of the calling fibril's, where POSIX would
 * allow the whole process one: a fibril that parks does not find another one's host afterwards.
 */
#include "posix/process_calls.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>

enum { ALIGN = 16, NAME_MAX_BYTES = 1025, BUF_FIRST = 1024, BUF_MAX = 1 << 20 };

struct request {
    bool by_addr;
    int family;
    socklen_t addr_len;
    union {
        char name[NAME_MAX_BYTES];
        unsigned char addr[sizeof(struct in6_addr)];
    };
    struct hostent host, *answer;
    size_t len;
    char *buf; /* in memory */
    int error, h_error;
    char memory[];
};

static int run_request(void *arg)
{
    struct request *r = arg;
    r->error = r->by_addr ? gethostbyaddr_r(r->addr, r->addr_len, r->family, &r->host, r->buf,
                                            r->len, &r->answer, &r->h_error)
                          : gethostbyname2_r(r->name, r->family, &r->host, r->buf, r->len,
                                             &r->answer, &r->h_error);
    return 0;
}

static bool is_at_once(const struct request *r)
{
    unsigned char address[sizeof(struct in6_addr)];
    return !r->by_addr && inet_pton(r->family, r->name, address) == 1;
}

/* An error number. */
static int run(struct request *r)
{
    int saved = errno, rc = 0;
    if (is_at_once(r)) {
        run_request(r);
    } else {
        do {
            rc = fibril_offload(run_request, r, FIBRIL_FOREVER);
        } while (rc == -EINTR);
    }
    if (rc < 0) {
        r->answer = NULL;
        r->h_error = NETDB_INTERNAL;
        r->error = fibril__posix_error(rc, saved);
    }
    errno = saved;
    return r->error;
}

static struct request *new_request(size_t len, const void *like)
{
    struct request *r = len <= SIZE_MAX - sizeof *r - 2 * ALIGN
                            ? fibril__alloc_zero(sizeof *r + len + 2 * ALIGN)
                            : NULL;
    if (r) {
        uintptr_t at = ((uintptr_t)r->memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1);
        r->buf = (char *)(at + ((uintptr_t)like & (ALIGN - 1)));
        r->len = len;
    }
    return r;
}

/* ---- moving an answer ---- */

struct move {
    const char *from;
    size_t len;
    char *to;
};

static void *moved(const struct move *m, void *p)
{
    bool inside = (char *)p >= m->from && (char *)p < m->from + m->len;
    return inside ? m->to + ((char *)p - m->from) : p;
}

static char **moved_list(const struct move *m, char **list)
{
    char **at = moved(m, list);
    for (size_t i = 0; at && at[i]; i++) {
        at[i] = moved(m, at[i]);
    }
    return at;
}

static void deliver(const struct request *r, struct hostent *ret_host, char *buf)
{
    const struct move m = {r->buf, r->len, buf};
    memcpy(buf, r->buf, r->len);
    *ret_host = r->host;
    ret_host->h_name = moved(&m, r->host.h_name);
    ret_host->h_aliases = moved_list(&m, r->host.h_aliases);
    ret_host->h_addr_list = moved_list(&m, r->host.h_addr_list);
}

/* ---- the reentrant ones ---- */

static int ask_r(struct request *r, struct hostent *ret_host, char *buf,
                 struct hostent **ret_answer, int *ret_h_error)
{
    *ret_answer = NULL;
    if (!r) {
        *ret_h_error = NETDB_INTERNAL;
        return ENOMEM;
    }
    int error = run(r);
    *ret_h_error = r->h_error;
    if (r->answer) {
        deliver(r, ret_host, buf);
        *ret_answer = ret_host;
    }
    fibril__free(r);
    return error;
}

static void by_name(struct request *r, const char *name, int family)
{
    if (r) {
        r->family = family;
        memcpy(r->name, name, strlen(name) + 1);
    }
}

static void by_addr(struct request *r, const void *addr, socklen_t len, int family)
{
    if (r) {
        r->by_addr = true;
        r->family = family;
        r->addr_len = len;
        memcpy(r->addr, addr, len);
    }
}

static bool fits(const char *name)
{
    return strlen(name) < NAME_MAX_BYTES;
}

int fibril_posix_gethostbyname2_r(const char *name, int family, struct hostent *ret_host, char *buf,
                                  size_t len, struct hostent **ret_answer, int *ret_h_error)
{
    if (!fibril__on_loop() || !fits(name)) {
        return gethostbyname2_r(name, family, ret_host, buf, len, ret_answer, ret_h_error);
    }
    struct request *r = new_request(len, buf);
    by_name(r, name, family);
    return ask_r(r, ret_host, buf, ret_answer, ret_h_error);
}

int fibril_posix_gethostbyname_r(const char *name, struct hostent *ret_host, char *buf, size_t len,
                                 struct hostent **ret_answer, int *ret_h_error)
{
    return fibril_posix_gethostbyname2_r(name, AF_INET, ret_host, buf, len, ret_answer,
                                         ret_h_error);
}

int fibril_posix_gethostbyaddr_r(const void *addr, socklen_t addr_len, int family,
                                 struct hostent *ret_host, char *buf, size_t len,
                                 struct hostent **ret_answer, int *ret_h_error)
{
    if (!fibril__on_loop() || addr_len > sizeof(struct in6_addr)) {
        return gethostbyaddr_r(addr, addr_len, family, ret_host, buf, len, ret_answer, ret_h_error);
    }
    struct request *r = new_request(len, buf);
    by_addr(r, addr, addr_len, family);
    return ask_r(r, ret_host, buf, ret_answer, ret_h_error);
}

/* ---- the others ---- */

static void free_request(void *request)
{
    fibril__free(request);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned key;
static int key_rc;

static void make_key(void)
{
    key_rc = fibril_key_new(free_request, &key);
}

/* Keeps the request as the calling fibril's last one. */
static struct hostent *keep(struct request *r)
{
    fibril__free(fibril_local_get(key));
    if (fibril_local_set(key, r) < 0) {
        fibril_local_set(key, NULL);
        fibril__free(r);
        h_errno = NETDB_INTERNAL;
        return NULL;
    }
    return r->answer;
}

/* Asks with more and more room. `like` is the request without a buffer. */
static struct hostent *ask(const struct request *like)
{
    int error = ERANGE;
    pthread_once(&once, make_key);
    struct request *r = NULL;
    for (size_t len = BUF_FIRST; error == ERANGE && len <= BUF_MAX && key_rc == 0; len *= 2) {
        fibril__free(r);
        r = new_request(len, NULL);
        if (!r) {
            break;
        }
        r->by_addr = like->by_addr;
        r->family = like->family;
        r->addr_len = like->addr_len;
        memcpy(r->name, like->name, sizeof r->name);
        error = run(r);
    }
    if (r && r->answer) {
        return keep(r);
    }
    h_errno = r && error != ERANGE ? r->h_error : NETDB_INTERNAL;
    fibril__free(r);
    return NULL;
}

struct hostent *fibril_posix_gethostbyname2(const char *name, int family)
{
    if (!fibril__on_loop() || !fits(name)) {
        return gethostbyname2(name, family);
    }
    struct request like = {.family = AF_UNSPEC};
    by_name(&like, name, family);
    return ask(&like);
}

struct hostent *fibril_posix_gethostbyname(const char *name)
{
    return fibril__on_loop() ? fibril_posix_gethostbyname2(name, AF_INET) : (gethostbyname)(name);
}

struct hostent *fibril_posix_gethostbyaddr(const void *addr, socklen_t len, int family)
{
    if (!fibril__on_loop() || len > sizeof(struct in6_addr)) {
        return gethostbyaddr(addr, len, family);
    }
    struct request like = {.family = AF_UNSPEC};
    by_addr(&like, addr, len, family);
    return ask(&like);
}
