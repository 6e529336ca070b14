/* SPDX-License-Identifier: MIT */
/*
 * Pools: who wants a worker, and who has one. A request lives from the checkout until the worker is
 * back. Its caller is watched from the first, so that lending cannot fail for want of memory, and
 * the message of the call becomes the reply. Who gives up waiting says so with a message that was
 * made before it began to wait: a worker that was lent in that moment is taken back.
 */
#include "actor/pool.h"

#include "actor/actor.h"
#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <stdio.h>

enum { WAITING_MAX = 65536 };

/* ---- requests ---- */

static struct fibril__request *request_by_number(const struct fibril__pool *p, uint64_t number)
{
    return (struct fibril__request *)(void *)fibril__map_find(&p->requests, number);
}

static struct fibril__request *request_by_monitor(const struct fibril__pool *p, uint64_t ref)
{
    struct fibril__map_node *node = fibril__map_find(&p->monitors, ref);
    return node ? CONTAINER_OF(node, struct fibril__request, by_monitor) : NULL;
}

void fibril__request_forget(struct fibril__pool *p, struct fibril__request *r)
{
    fibril_actor_demonitor(r->by_monitor.key);
    fibril__map_remove(&p->requests, &r->by_number);
    fibril__map_remove(&p->monitors, &r->by_monitor);
    if (fibril__link_in_list(&r->link)) {
        fibril__link_remove(&r->link);
        p->status.waiting--;
    }
    if (r->worker) {
        r->worker->lent_to = NULL;
    }
    fibril_message_free(r->message);
    fibril__free(r);
}

/* r gets w: the reply is the message of the call. */
static void hand_over(struct fibril__request *r, struct fibril__worker *w)
{
    struct fibril_message *m = r->message;
    r->worker = w;
    w->lent_to = r;
    ((struct fibril__pool_ask *)fibril_message_data(m))->worker = w->actor;
    r->message = NULL;
    fibril_actor_reply(r->from, m);
}

bool fibril__request_serve(struct fibril__pool *p, struct fibril__worker *w)
{
    struct fibril__link *l = fibril__list_pop(&p->waiting);
    if (l) {
        p->status.waiting--;
        hand_over(CONTAINER_OF(l, struct fibril__request, link), w);
    }
    return l != NULL;
}

/* The loan or the wait is over; a worker that was lent is of use again. */
static void end_request(struct fibril__pool *p, struct fibril__request *r, bool discard)
{
    struct fibril__worker *w = r ? r->worker : NULL;
    if (r) {
        fibril__request_forget(p, r);
    }
    if (w) {
        p->status.lent--;
        p->status.discarded += discard;
        (discard ? fibril__worker_end : fibril__worker_ready)(p, w);
    }
}

static int request_new(struct fibril__pool *p, struct fibril_message *m,
                       struct fibril__request **ret_request)
{
    const struct fibril__pool_ask *ask = fibril_message_data(m);
    uint64_t ref;
    struct fibril__request *r = fibril__alloc_zero(sizeof *r);
    if (!r || fibril__map_reserve(&p->requests) < 0 || fibril__map_reserve(&p->monitors) < 0 ||
        fibril_actor_monitor(fibril_message_from(m).actor, &ref) < 0) {
        fibril__free(r);
        return -ENOMEM;
    }
    r->from = fibril_message_from(m);
    fibril__map_insert(&p->requests, &r->by_number, ask->number);
    fibril__map_insert(&p->monitors, &r->by_monitor, ref);
    *ret_request = r;
    return 0;
}

/* Whether nobody more may wait. */
static bool is_full(const struct fibril__pool *p)
{
    unsigned max = p->spec.waiting_max ? p->spec.waiting_max : WAITING_MAX;
    return p->status.idle == 0 && p->status.waiting >= max;
}

static void checkout(struct fibril_server *s, struct fibril__pool *p, struct fibril_message *m)
{
    bool idle_longest = ((struct fibril__pool_ask *)fibril_message_data(m))->idle_longest;
    struct fibril__request *r;
    int rc = is_full(p) || (idle_longest && p->status.idle == 0) ? -EAGAIN : request_new(p, m, &r);
    if (rc < 0) {
        fibril_actor_refuse(fibril_message_from(m), rc);
        return;
    }
    r->message = fibril_server_take(s);
    struct fibril__worker *w = fibril__worker_take(p, p->spec.newest_first && !idle_longest);
    fibril__list_push(&p->waiting, &r->link);
    p->status.waiting++;
    if (w) { /* then nobody else waits */
        fibril__worker_ready(p, w);
    }
}

/* ---- callbacks ---- */

/* After each message: too few workers, too many that end, and when to look again. */
static int tend(struct fibril_server *s, struct fibril__pool *p)
{
    int64_t next_ns = fibril__workers_tend(p), now_ns = fibril_now();
    int64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 1;
    fibril_server_set_idle(s, next_ns == FIBRIL_FOREVER ? 0 : wait_ns);
    return 0;
}

static int init(struct fibril_server *s, void *state, void *arg)
{
    struct fibril__pool *p = state;
    p->spec = *(const struct fibril_pool_spec *)arg;
    p->spec.size = p->spec.size ? p->spec.size : 1;
    p->self = fibril_actor_self();
    p->retry_ns = INT64_MIN;
    fibril__list_init(&p->all);
    fibril__list_init(&p->idle);
    fibril__list_init(&p->ending);
    fibril__list_init(&p->waiting);
    fibril_actor_trap_exits(true);
    int rc = fibril__workers_begin(p);
    if (rc == 0 && p->spec.check) {
        rc = fibril__pool_check_start(p);
        if (rc < 0) {
            fibril__workers_end(p);
        }
    }
    if (rc < 0) {
        fibril__map_fini(&p->workers);
        return rc;
    }
    return tend(s, p);
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct fibril__pool *p = state;
    switch (fibril_message_tag(m)) {
    case FIBRIL__POOL_CHECKOUT: checkout(s, p, m); break;
    case FIBRIL__POOL_STATUS:
        fibril_server_reply(fibril_message_from(m), &p->status, sizeof p->status);
        break;
    default: fibril_actor_refuse(fibril_message_from(m), -ENOSYS);
    }
    return tend(s, p);
}

/* The loan that a borrower says is over; NULL: there is none such. */
static struct fibril__request *loan(const struct fibril__pool *p,
                                    const struct fibril__pool_ask *ask)
{
    struct fibril__worker *w = fibril__worker_find(p, ask->worker);
    return w && w->lent_to && w->lent_to->from.actor == ask->borrower ? w->lent_to : NULL;
}

static int on_cast(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct fibril__pool *p = state;
    const struct fibril__pool_ask *ask = fibril_message_data(m);
    switch (fibril_message_tag(m)) {
    case FIBRIL__POOL_CHECKIN:
        p->pause_ns = 0; /* they are of use */
        end_request(p, loan(p, ask), /* discard= */ false);
        break;
    case FIBRIL__POOL_DISCARD: end_request(p, loan(p, ask), /* discard= */ true); break;
    case FIBRIL__POOL_CANCEL: end_request(p, request_by_number(p, ask->number), false); break;
    default: break;
    }
    return tend(s, p);
}

/* An exit signal from nobody of ours, unless it says that all is well, is an order. */
static int exit_came(struct fibril__pool *p, const struct fibril_signal *signal)
{
    struct fibril__worker *w = fibril__worker_find(p, signal->actor);
    if (w) {
        fibril__worker_ended(p, w, signal->reason);
        return 0;
    }
    return signal->reason;
}

static int on_info(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct fibril__pool *p = state;
    const struct fibril_signal *signal = fibril_message_data(m); /* a start has the number alone */
    struct fibril__worker *w;
    int rc = 0;
    switch (fibril_message_tag(m)) {
    case FIBRIL_TAG_EXIT: rc = exit_came(p, signal); break;
    case FIBRIL_TAG_DOWN: end_request(p, request_by_monitor(p, signal->ref), false); break;
    case FIBRIL__TAG_STARTED:
        w = fibril__worker_find(p, signal->actor);
        if (w) {
            fibril__worker_begun(p, w);
        }
        break;
    default: break;
    }
    return rc ? rc : tend(s, p);
}

static int on_idle(struct fibril_server *s, void *state)
{
    return tend(s, state);
}

static void terminate(struct fibril_server *s, void *state, int reason)
{
    struct fibril__pool *p = state;
    (void)s;
    (void)reason;
    fibril__workers_end(p);
    for (struct fibril__link *l; (l = fibril__list_first(&p->waiting)) != NULL;) {
        fibril__request_forget(p, CONTAINER_OF(l, struct fibril__request, link));
    }
    fibril__map_fini(&p->workers);
    fibril__map_fini(&p->requests);
    fibril__map_fini(&p->monitors);
}

static void describe(const void *state, char *text, size_t size)
{
    const struct fibril_pool_status *s = &((const struct fibril__pool *)state)->status;
    snprintf(text, size, "idle %u, lent %u, starting %u, ending %u; waiting %u; died %llu", s->idle,
             s->lent, s->starting, s->ending, s->waiting, (unsigned long long)s->died);
}

/* ---- the calls ---- */

int fibril_pool_start(const struct fibril_pool_spec *spec, const struct fibril_actor_opts *opts,
                      int64_t deadline_ns, uint64_t *ret_pool)
{
    static const struct fibril_server_type type = {.name = "pool",
                                                   .state_bytes = sizeof(struct fibril__pool),
                                                   .init = init,
                                                   .call = on_call,
                                                   .cast = on_cast,
                                                   .info = on_info,
                                                   .idle = on_idle,
                                                   .terminate = terminate,
                                                   .describe = describe};
    if (!spec->server == !spec->fn || spec->worker.name || spec->shutdown_ns < 0 ||
        spec->pause_ns < 0 || spec->pause_max_ns < 0 || spec->check_ns < 0) {
        return -EINVAL;
    }
    struct fibril_pool_spec copy = *spec;
    return fibril_server_start(&type, &copy, opts, deadline_ns, ret_pool);
}

int fibril_pool_child(void *spec, const struct fibril_actor_opts *opts, uint64_t *ret_pool)
{
    return fibril_pool_start(spec, opts, FIBRIL_FOREVER, ret_pool);
}

/* The pool takes its messages whatever happens, so this ends. */
static void cast_surely(uint64_t pool, struct fibril_message *m)
{
    fibril_shield_begin();
    int rc = fibril_actor_cast(pool, m, FIBRIL_FOREVER);
    fibril_shield_end();
    if (rc < 0) {
        fibril_message_free(m);
    }
}

int fibril__pool_checkout(uint64_t pool, bool idle_longest, int64_t deadline_ns,
                          uint64_t *ret_worker)
{
    struct fibril_message *m, *cancel, *reply = NULL;
    if (!fibril_actor_self()) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    struct fibril__pool_ask ask = {.number = fibril__ref_new(), .idle_longest = idle_longest};
    int rc = fibril_message_of(FIBRIL__POOL_CANCEL, &ask, sizeof ask, &cancel);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_message_of(FIBRIL__POOL_CHECKOUT, &ask, sizeof ask, &m);
    rc = rc == 0 ? fibril_actor_call(pool, m, deadline_ns, &reply) : rc;
    if (rc == 0) {
        *ret_worker = ((struct fibril__pool_ask *)fibril_message_data(reply))->worker;
        fibril_message_free(reply);
    }
    if (rc == -ETIMEDOUT || rc == -ECANCELED) {
        cast_surely(pool, cancel);
    } else {
        fibril_message_free(cancel);
    }
    return rc;
}

int fibril_pool_checkout(uint64_t pool, int64_t deadline_ns, uint64_t *ret_worker)
{
    return fibril__pool_checkout(pool, /* idle_longest= */ false, deadline_ns, ret_worker);
}

static int give(uint64_t pool, uint64_t worker, uint64_t tag)
{
    struct fibril__pool_ask ask = {.worker = worker, .borrower = fibril_actor_self()};
    return fibril_server_cast(pool, tag, &ask, sizeof ask, FIBRIL_FOREVER);
}

int fibril_pool_checkin(uint64_t pool, uint64_t worker)
{
    return give(pool, worker, FIBRIL__POOL_CHECKIN);
}

int fibril_pool_discard(uint64_t pool, uint64_t worker)
{
    return give(pool, worker, FIBRIL__POOL_DISCARD);
}

int fibril_pool_call(uint64_t pool, struct fibril_message *m, int64_t deadline_ns,
                     struct fibril_message **ret_reply)
{
    struct fibril__pool_ask ask = {.borrower = fibril_actor_self()};
    struct fibril_message *back;
    int rc = fibril_message_of(FIBRIL__POOL_CHECKIN, &ask, sizeof ask, &back);
    if (rc < 0) {
        fibril_message_free(m);
        return rc;
    }
    uint64_t worker = 0;
    rc = fibril_pool_checkout(pool, deadline_ns, &worker);
    if (rc < 0) {
        fibril_message_free(back);
        fibril_message_free(m);
        return rc;
    }
    rc = fibril_actor_call(worker, m, deadline_ns, ret_reply);
    ((struct fibril__pool_ask *)fibril_message_data(back))->worker = worker;
    if (rc == -ETIMEDOUT || rc == -ECANCELED) {
        fibril_message_set_tag(back, FIBRIL__POOL_DISCARD);
    }
    cast_surely(pool, back);
    return rc;
}

int fibril_pool_status(uint64_t pool, int64_t deadline_ns, struct fibril_pool_status *ret_status)
{
    return fibril_server_call(pool, FIBRIL__POOL_STATUS, NULL, 0, deadline_ns, ret_status,
                              sizeof *ret_status);
}
