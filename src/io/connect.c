/* SPDX-License-Identifier: MIT */
/*
 * Connecting: one socket to one address, and a host by several (RFC 8305, "happy eyeballs").
 *
 * The addresses of a host are tried in the resolver's order with the families taking turns. Each
 * attempt is a fibril of its own; the next one starts when the one before has failed or STAGGER_NS
 * have passed, whichever is first, and the first to connect wins. The others are cancelled and
 * waited for, so no socket outlives the call. What they share is on the heap, as the caller's stack
 * may be a copied one.
 */
#include <fibril/io.h>

#include "base/alloc.h"
#include "io/op.h"
#include "io/sys.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* ---- one address ----------------------------------------------------------------------------- */

enum { RETRY_FIRST_NS = 1000000, RETRY_MOST_NS = 50000000 };

/* A UNIX socket whose backlog is full says EAGAIN and cannot be waited for: only trying again
 * helps. */
static int64_t connect_patiently(int fd, const struct fibril_addr *addr, int64_t deadline_ns)
{
    for (int64_t nap_ns = RETRY_FIRST_NS;; nap_ns = nap_ns < RETRY_MOST_NS ? nap_ns * 2 : nap_ns) {
        struct fibril__io io = {.op = {.kind = FIBRIL__OP_CONNECT,
                                       .fd = fd,
                                       .buf = (void *)(uintptr_t)&addr->ss, /* only read */
                                       .len = addr->len}};
        int64_t rc = fibril__io_run(&io, deadline_ns);
        if (rc != -EAGAIN || addr->ss.ss_family != AF_UNIX) {
            return rc;
        }
        int64_t wake_ns = fibril_after(nap_ns);
        int slept = fibril_sleep_until(wake_ns < deadline_ns ? wake_ns : deadline_ns);
        if (slept < 0 || wake_ns >= deadline_ns) {
            return slept < 0 ? slept : -ETIMEDOUT;
        }
    }
}

int fibril_connect_fd(int fd, const struct fibril_addr *addr, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (addr->len > sizeof(addr->ss)) {
        return -EINVAL;
    }
    return (int)connect_patiently(fd, addr, deadline_ns);
}

int fibril_connect(const struct fibril_addr *addr, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    int fd = fibril__sys_socket(addr->ss.ss_family, SOCK_STREAM);
    if (fd < 0) {
        return fd;
    }
    int rc = 0;
    if (addr->ss.ss_family == AF_INET || addr->ss.ss_family == AF_INET6) {
        rc = fibril__sys_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    rc = rc < 0 ? rc : fibril_connect_fd(fd, addr, deadline_ns);
    if (rc < 0) {
        fibril_close(fd);
        return rc;
    }
    return fd;
}

/* ---- several --------------------------------------------------------------------------------- */

#define STAGGER_NS INT64_C(250000000)
enum { ADDRESSES_MAX = 32, ATTEMPT_STACK_BYTES = 32 * 1024 };

struct race;

struct attempt {
    struct race *race;
    struct fibril_addr addr;
    struct fibril *fibril;
    int64_t deadline_ns;
};

struct race {
    struct fibril *waiter; /* parked until something happens, else NULL */
    bool news;             /* an attempt has ended since the waiter last looked */
    int winner;            /* a connected socket, or -1 */
    int error;             /* of the attempt that failed first */
    unsigned running, started, n;
    bool left; /* the caller has gone without waiting: the last attempt frees this */
    struct attempt attempts[ADDRESSES_MAX];
};

static bool abort_race(struct fibril *f, int error)
{
    (void)error;
    struct race *r = f->wait_on;
    r->waiter = NULL;
    return true;
}

static const struct fibril__wait_kind kind_race = {
    .name = "connect to a host", .reason = FIBRIL__BY_IO, .abort = abort_race};

/* Waits until an attempt ends: 0, or as fibril__park. */
static int wait_news(struct race *r, int64_t deadline_ns)
{
    if (!r->news) {
        r->waiter = fibril__self();
        int rc = (int)fibril__park(&kind_race, r, deadline_ns);
        if (rc < 0) {
            return rc;
        }
    }
    r->news = false;
    return 0;
}

static int run_attempt(void *arg)
{
    struct attempt *a = arg;
    struct race *r = a->race;
    int fd = fibril_connect(&a->addr, a->deadline_ns);
    if (fd >= 0 && (r->winner >= 0 || r->left)) {
        fibril_close(fd); /* a photo finish, or nobody is there to see it */
    } else if (fd >= 0) {
        r->winner = fd;
    } else if (r->error == 0) {
        r->error = fd;
    }
    r->running--;
    r->news = true;
    if (r->left && r->running == 0) {
        fibril__free(r);
        return 0;
    }
    if (r->waiter) {
        struct fibril *waiter = r->waiter;
        r->waiter = NULL;
        fibril__wake(waiter, 0);
    }
    return 0;
}

static int start_next(struct race *r)
{
    const struct fibril_spawn_opts opts = {.name = "connect", .stack_bytes = ATTEMPT_STACK_BYTES};
    struct attempt *a = &r->attempts[r->started];
    int rc = fibril_spawn(run_attempt, a, &opts, &a->fibril);
    if (rc == 0) {
        r->started++;
        r->running++;
    }
    return rc;
}

/* Returns 0 when the race is decided or lost, or why it was broken off. */
static int hold(struct race *r, int64_t deadline_ns)
{
    while (r->winner < 0) {
        bool more = r->started < r->n;
        if (more) {
            int rc = start_next(r);
            if (rc < 0 && !r->running) {
                return rc;
            }
            more = r->started < r->n;
        } else if (!r->running) {
            return 0;
        }
        int64_t next_ns = more ? fibril_after(STAGGER_NS) : deadline_ns;
        int rc = wait_news(r, next_ns < deadline_ns ? next_ns : deadline_ns);
        if (rc < 0 && (rc != -ETIMEDOUT || next_ns >= deadline_ns)) {
            return rc;
        }
    }
    return 0;
}

static void call_off(struct race *r)
{
    fibril_shield_begin();
    for (unsigned i = 0; i < r->started; i++) {
        fibril_cancel(r->attempts[i].fibril);
    }
    for (unsigned i = 0; i < r->started; i++) {
        if (fibril_join(r->attempts[i].fibril, FIBRIL_FOREVER, NULL) < 0) {
            fibril_detach(r->attempts[i].fibril); /* no memory to park: they end by themselves */
        }
    }
    fibril_shield_end();
}

/* ---- the addresses --------------------------------------------------------------------------- */

static const struct addrinfo *next_of(const struct addrinfo *ai, int family, bool same)
{
    while (ai && (ai->ai_family == family) != same) {
        ai = ai->ai_next;
    }
    return ai;
}

static void add(struct race *r, const struct addrinfo *ai, int64_t deadline_ns)
{
    if (r->n < ADDRESSES_MAX && ai->ai_addrlen <= sizeof(struct sockaddr_storage)) {
        struct attempt *a = &r->attempts[r->n++];
        a->race = r;
        a->deadline_ns = deadline_ns;
        a->addr.len = ai->ai_addrlen;
        memcpy(&a->addr.ss, ai->ai_addr, ai->ai_addrlen);
    }
}

/* The families by turns, beginning with that of the first address. */
static void interleave(struct race *r, const struct addrinfo *list, int64_t deadline_ns)
{
    int family = list->ai_family;
    const struct addrinfo *same = list, *other = next_of(list, family, false);
    while (same || other) {
        if (same) {
            add(r, same, deadline_ns);
            same = next_of(same->ai_next, family, true);
        }
        if (other) {
            add(r, other, deadline_ns);
            other = next_of(other->ai_next, family, false);
        }
    }
}

static int connect_any(const struct addrinfo *list, int64_t deadline_ns)
{
    struct race *r = fibril__alloc_zero(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->winner = -1;
    interleave(r, list, deadline_ns);
    int rc = hold(r, deadline_ns);
    call_off(r);
    if (r->winner >= 0) {
        rc = r->winner; /* also when it came with the deadline */
    } else if (rc == 0) {
        rc = r->error ? r->error : -ECONNREFUSED;
    }
    if (r->running == 0) {
        fibril__free(r);
    } else {
        r->left = true;
    }
    return rc;
}

int fibril_connect_host(const char *host, const char *service, int64_t deadline_ns)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int rc = fibril_resolve(host, service, &hints, &list, NULL, deadline_ns);
    if (rc < 0) {
        return rc;
    }
    rc = connect_any(list, deadline_ns);
    freeaddrinfo(list);
    return rc;
}
