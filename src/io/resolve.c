/* SPDX-License-Identifier: MIT */
/*
 * Names by getaddrinfo on the offload pool. Why not c-ares or a resolver of our own: which names
 * exist is the system's answer (nsswitch.conf, the hosts file, mDNS, LDAP, containers' own modules,
 * the order of gai.conf), and only the C library gives it; another resolver answers differently on
 * some machine, and its users then debug two. The price is an OS thread per lookup under way. It is
 * bounded: lookups get at most half of the pool (32), the rest wait in order; a dead name server
 * holds a thread as long as resolv.conf says (timeout times attempts times servers, often 10 to 30
 * seconds). The caller need not wait so long: a deadline or a cancellation leaves the lookup at
 * once, and it ends by itself.
 *
 * Identical lookups under way are joined: a thousand connections to one host at start-up ask once.
 * Each waiter gets a list of its own to free. Copies are made by asking getaddrinfo for the numeric
 * addresses, which is the only way to make something that freeaddrinfo is sure to accept. Canonical
 * names do not survive that, so lookups for them are not joined.
 */
#include <fibril/io.h>

#include "base/alloc.h"
#include "io/pool.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

struct waiter {
    struct fibril__link link; /* of the lookup */
    struct lookup *lookup;
    struct fibril *fibril;
    struct addrinfo *list;
    int gai;
    bool taken; /* its wake-up is on the way */
};

struct lookup {
    struct fibril__job job;
    struct fibril__link link; /* of `lookups` while it can be joined */
    struct fibril__list waiters;
    struct addrinfo hints;
    const char *host, *service; /* in text, or NULL */
    char text[];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* taken before the pool's */
static struct fibril__list lookups = {{&lookups.head, &lookups.head}};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

/* Nobody carries out the parent's lookups here: they cannot be joined. */
static void after_fork_child(void)
{
    pthread_mutex_init(&mutex, NULL);
    while (fibril__list_pop(&lookups)) {}
}

/* After the pool has set up: preparations for a fork run last registered first, and this mutex is
 * taken first. */
static void set_up(void)
{
    fibril__pool_threads();
    pthread_atfork(before_fork, after_fork, after_fork_child);
}

static int error_of(int gai)
{
    switch (gai) {
    case 0: return 0;
    case EAI_SYSTEM: return errno ? -errno : -EIO;
    case EAI_NONAME: return -ENOENT;
    case EAI_AGAIN: return -EAGAIN;
    case EAI_MEMORY: return -ENOMEM;
    default: return -EIO;
    }
}

/* ---- copies ---------------------------------------------------------------------------------- */

static struct addrinfo *copy_one(const struct addrinfo *ai)
{
    char host[INET6_ADDRSTRLEN + 64], service[16];
    struct addrinfo *copy = NULL;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_family = ai->ai_family,
                             .ai_socktype = ai->ai_socktype,
                             .ai_protocol = ai->ai_protocol};
    bool raw = ai->ai_socktype == SOCK_RAW;
    if (getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
        getaddrinfo(host, raw ? NULL : service, &hints, &copy) != 0) {
        return NULL;
    }
    copy->ai_flags = ai->ai_flags;
    return copy;
}

static struct addrinfo *copy_list(const struct addrinfo *list)
{
    struct addrinfo *first = NULL, **end = &first;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        *end = copy_one(ai);
        if (!*end) {
            if (first) {
                freeaddrinfo(first);
            }
            return NULL;
        }
        end = &(*end)->ai_next;
    }
    return first;
}

/* ---- on the pool ----------------------------------------------------------------------------- */

/* Ends the lookup for those who may still join or leave it; its waiters are then ours alone. */
static void seal(struct lookup *l, struct fibril__list *ret_waiters)
{
    fibril__list_init(ret_waiters);
    pthread_mutex_lock(&mutex);
    fibril__link_remove(&l->link);
    struct fibril__link *n;
    while ((n = fibril__list_pop(&l->waiters))) {
        CONTAINER_OF(n, struct waiter, link)->taken = true;
        fibril__list_push(ret_waiters, n);
    }
    pthread_mutex_unlock(&mutex);
}

static void run_lookup(struct fibril__job *job)
{
    struct lookup *l = CONTAINER_OF(job, struct lookup, job);
    struct addrinfo *list = NULL;
    struct fibril__list waiters;
    struct fibril__link *n;
    int gai = getaddrinfo(l->host, l->service, &l->hints, &list);
    int error = error_of(gai);
    seal(l, &waiters);
    while ((n = fibril__list_pop(&waiters))) {
        struct waiter *w = CONTAINER_OF(n, struct waiter, link);
        bool last = fibril__list_empty(&waiters);
        w->gai = gai;
        if (gai == 0) {
            w->list = last ? list : copy_list(list);
            w->gai = w->list ? 0 : EAI_MEMORY;
            list = last ? NULL : list;
        }
        fibril__wake(w->fibril, w->gai == gai ? error : error_of(w->gai));
    }
    if (gai == 0 && list) {
        freeaddrinfo(list); /* nobody has waited to the end */
    }
    fibril__free(l);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_hints(const struct addrinfo *a, const struct addrinfo *b)
{
    return a->ai_flags == b->ai_flags && a->ai_family == b->ai_family &&
           a->ai_socktype == b->ai_socktype && a->ai_protocol == b->ai_protocol;
}

/* Under the mutex. */
static struct lookup *find(const char *host, const char *service, const struct addrinfo *hints)
{
    if (hints->ai_flags & AI_CANONNAME) {
        return NULL;
    }
    for (struct fibril__link *n = lookups.head.next; n != &lookups.head; n = n->next) {
        struct lookup *l = CONTAINER_OF(n, struct lookup, link);
        if (same_text(l->host, host) && same_text(l->service, service) &&
            same_hints(&l->hints, hints)) {
            return l;
        }
    }
    return NULL;
}

static struct lookup *make(const char *host, const char *service, const struct addrinfo *hints)
{
    size_t host_bytes = host ? strlen(host) + 1 : 0;
    size_t service_bytes = service ? strlen(service) + 1 : 0;
    struct lookup *l = fibril__alloc_zero(sizeof(*l) + host_bytes + service_bytes);
    if (l) {
        l->job.run = run_lookup;
        l->job.fd = -1;
        l->job.slow = true;
        l->hints = *hints;
        l->host = host ? memcpy(l->text, host, host_bytes) : NULL;
        l->service = service ? memcpy(l->text + host_bytes, service, service_bytes) : NULL;
        fibril__list_init(&l->waiters);
    }
    return l;
}

/* Under the mutex. Returns a lookup that is under way, or NULL without memory. */
static struct lookup *find_or_start(const char *host, const char *service,
                                    const struct addrinfo *hints)
{
    struct lookup *l = find(host, service, hints);
    if (l) {
        return l;
    }
    l = make(host, service, hints);
    if (l && fibril__pool_submit(&l->job) < 0) {
        fibril__free(l);
        return NULL;
    }
    if (l) {
        fibril__list_push(&lookups, &l->link); /* run_lookup needs the mutex first */
    }
    return l;
}

static bool abort_resolve(struct fibril *f, int error)
{
    (void)error;
    struct waiter *w = f->wait_on;
    pthread_mutex_lock(&mutex);
    bool left = !w->taken;
    if (left) {
        struct lookup *l = w->lookup;
        fibril__link_remove(&w->link);
        if (fibril__list_empty(&l->waiters) && fibril__pool_withdraw(&l->job)) {
            fibril__link_remove(&l->link);
            fibril__free(l);
        }
    }
    pthread_mutex_unlock(&mutex);
    return left;
}

static const struct fibril__wait_kind kind_resolve = {
    .name = "resolve", .reason = FIBRIL__BY_OFFLOAD, .abort = abort_resolve};

static int wait_for(struct waiter *w, const char *host, const char *service,
                    const struct addrinfo *hints, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    w->fibril = loop->current;
    pthread_once(&once, set_up);
    pthread_mutex_lock(&mutex);
    w->lookup = find_or_start(host, service, hints);
    if (w->lookup) {
        fibril__list_push(&w->lookup->waiters, &w->link);
    }
    pthread_mutex_unlock(&mutex);
    if (!w->lookup) {
        return -ENOMEM;
    }
    loop->outside++;
    int rc = (int)fibril__park(&kind_resolve, w, deadline_ns);
    loop->outside--;
    return rc;
}

/* ---- at once --------------------------------------------------------------------------------- */

static bool is_numeric_host(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    return !host || inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1;
}

static bool is_numeric_service(const char *service)
{
    return !service || service[strspn(service, "0123456789")] == '\0';
}

int fibril_resolve(const char *host, const char *service, const struct addrinfo *hints,
                   struct addrinfo **ret_list, int *ret_gai, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    const struct addrinfo usual = {.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG}; /* what NULL means */
    hints = hints ? hints : &usual;
    struct waiter *w = fibril__alloc_zero(sizeof(*w)); /* the stack may be a copied one */
    if (!w) {
        return -ENOMEM;
    }
    int rc;
    bool at_once = is_numeric_host(host) && is_numeric_service(service);
    if (at_once || fibril__loop->poller->sys) {
        w->gai = getaddrinfo(host, service, hints, &w->list);
        rc = error_of(w->gai);
        if (rc == 0) {
            fibril__spend();
        }
    } else {
        rc = wait_for(w, host, service, hints, deadline_ns);
    }
    if (rc == 0) {
        *ret_list = w->list;
    }
    if (ret_gai) {
        *ret_gai = w->gai;
    }
    fibril__free(w);
    return rc;
}
