/* SPDX-License-Identifier: MIT */
/*
 * Pools: a bounded number of workers (connections, parsers, what is dear to make) that are lent to
 * whoever asks, in the order of asking. A worker is an actor of its own: a server, or any function.
 *
 *     static const struct fibril_pool_spec spec = {
 *         .server = &connection, .size = 10, .overflow = 5};
 *     fibril_pool_start(&spec, NULL, FIBRIL_FOREVER, &pool);
 *
 *     rc = fibril_pool_checkout(pool, fibril_after(SECOND), &worker);
 *     if (rc == 0) {
 *         fibril_server_call(worker, QUERY, ...);
 *         fibril_pool_checkin(pool, worker);
 *     }
 *
 * What cannot get lost: a worker comes back when its borrower ends, or when whoever waited for it
 * gave up in the very moment in which it was lent. A worker that ends, lent or not, is replaced.
 * The pool itself never waits for a worker: one that begins slowly or hangs delays nobody else.
 */
#ifndef FIBRIL_POOL_H
#define FIBRIL_POOL_H

#include <fibril/server.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A pool; exactly one of server and fn is given. What server and arg point to is not copied. */
struct fibril_pool_spec {
    const struct fibril_server_type *server; /* of workers that say when their init is done */
    fibril_fn *fn;                           /* of workers that are ready at once */
    void *arg;                               /* of each */
    struct fibril_actor_opts worker; /* of each; no name; link and ret_monitor are ignored */
    unsigned size;                   /* workers that are there always; 0 means 1 */
    unsigned overflow;               /* more of them, as long as all are lent and somebody waits */
    unsigned waiting_max;            /* callers; 0 means 65,536 */
    bool newest_first;    /* lends the worker that came back last; else the one that came first */
    int64_t shutdown_ns;  /* how long a worker may take to end before it is killed; 0 means 5 s */
    int64_t pause_ns;     /* before a worker is replaced that did not begin, or ended without having
                             been lent; doubled each time up to pause_max_ns. 0 means 10 ms */
    int64_t pause_max_ns; /* 0 means 5 s */
    /* Looks after workers: every check_ns each one that has been idle since the last time is lent
     * to check(worker, arg), which MAY PARK; what it does not return 0 for is ended and replaced.
     * NULL: nobody does. */
    int (*check)(uint64_t worker, void *arg);
    int64_t check_ns; /* 0 means 10 s */
};

/* Starts a pool, and returns when `size` workers have begun. MAY PARK. As fibril_server_start, with
 * what the init of a worker returned; then none is left. */
FIBRIL_API int fibril_pool_start(const struct fibril_pool_spec *spec,
                                 const struct fibril_actor_opts *opts, int64_t deadline_ns,
                                 uint64_t *ret_pool);
/* The same for a supervisor: `.start = fibril_pool_child, .arg = (void *)&spec`. MAY PARK. */
FIBRIL_API int fibril_pool_child(void *spec, const struct fibril_actor_opts *opts,
                                 uint64_t *ret_pool);

/* Borrows a worker, which is the caller's until it gives it back or ends. MAY PARK: callers are
 * served in their order. -ETIMEDOUT, -ECANCELED: nothing is borrowed; -EAGAIN: as many wait as may;
 * -ENOMEM, -ESRCH, -EPIPE (the pool has ended). */
FIBRIL_API int fibril_pool_checkout(uint64_t pool, int64_t deadline_ns, uint64_t *ret_worker);
/* Gives a worker back that the caller has borrowed; of others, and of one that has ended, nothing
 * happens. MAY PARK only if the pool's mailbox is full. 0; -ENOMEM, -ECANCELED: it is still
 * borrowed. */
FIBRIL_API int fibril_pool_checkin(uint64_t pool, uint64_t worker);
/* The same with one that is no good any more: it is ended, and another one takes its place. */
FIBRIL_API int fibril_pool_discard(uint64_t pool, uint64_t worker);
/* Calls a worker: checks one out, calls it with m, which is taken in every case, and checks it in.
 * One that has not answered by the deadline, or when the caller is cancelled, is discarded, for
 * nobody knows what it is doing. MAY PARK. As fibril_pool_checkout and fibril_actor_call. */
FIBRIL_API int fibril_pool_call(uint64_t pool, struct fibril_message *m, int64_t deadline_ns,
                                struct fibril_message **ret_reply);

/* How a pool is. */
struct fibril_pool_status {
    unsigned idle, lent, starting, ending; /* workers */
    unsigned waiting;                      /* callers */
    uint64_t started, died; /* workers, ever: that have begun; that ended by themselves after it */
    uint64_t failed;        /* starts */
    uint64_t discarded;     /* by borrowers and checks */
    int last_error;         /* why one did not begin, or failed; 0: never */
};
/* Asks how the pool is. MAY PARK. -ETIMEDOUT, -ESRCH, ... */
FIBRIL_API int fibril_pool_status(uint64_t pool, int64_t deadline_ns,
                                  struct fibril_pool_status *ret_status);

#ifdef __cplusplus
}
#endif

#endif
