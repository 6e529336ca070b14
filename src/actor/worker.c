/* SPDX-License-Identifier: MIT */
/*
 * Workers of a pool. Each is linked to it, so its end is a message to the pool; what goes through
 * STARTING has said by a message that its init succeeded, and the pool waits for neither.
 *
 *     STARTING --begun--> IDLE <--> LENT
 *         |                 |         |
 *         |   (too many) ENDING <-----+ (discarded)
 *         +--------+--------+---------+---> ended: replaced if there are too few
 */
#include "actor/pool.h"

#include "actor/actor.h"
#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>

#define MILLISECOND_NS INT64_C(1000000)

static int64_t or_else(int64_t ns, int64_t usual_ns)
{
    return ns ? ns : usual_ns;
}

/* All but those that end. */
static unsigned alive(const struct fibril__pool *p)
{
    return p->status.idle + p->status.lent + p->status.starting;
}

struct fibril__worker *fibril__worker_find(const struct fibril__pool *p, uint64_t actor)
{
    return (struct fibril__worker *)(void *)fibril__map_find(&p->workers, actor);
}

/* ---- beginning ---- */

static int spawn(struct fibril__pool *p, struct fibril__worker *w)
{
    struct fibril_actor_opts opts = p->spec.worker;
    opts.link = true;
    opts.ret_monitor = NULL;
    if (p->spec.fn) {
        return fibril_actor_spawn(p->spec.fn, p->spec.arg, &opts, &w->actor);
    }
    int rc = fibril__server_new(p->spec.server, &w->behave);
    if (rc == 0) {
        rc = fibril__behave_spawn(w->behave, p->spec.arg, &opts, &w->actor);
    }
    if (rc < 0) {
        fibril__behave_release(w->behave);
    }
    return rc;
}

static int start(struct fibril__pool *p)
{
    struct fibril__worker *w =
        fibril__map_reserve(&p->workers) == 0 ? fibril__alloc_zero(sizeof *w) : NULL;
    int rc = w ? spawn(p, w) : -ENOMEM;
    if (rc < 0) {
        fibril__free(w);
        return rc;
    }
    fibril__map_insert(&p->workers, &w->by_actor, w->actor);
    fibril__list_push(&p->all, &w->in_all);
    p->status.starting++;
    if (p->spec.fn) {
        fibril__worker_begun(p, w);
    }
    return 0;
}

/* One did not begin, or was of no use: the next one has to wait. */
static void pause_starts(struct fibril__pool *p)
{
    int64_t max_ns = or_else(p->spec.pause_max_ns, 5000 * MILLISECOND_NS);
    int64_t first_ns = or_else(p->spec.pause_ns, 10 * MILLISECOND_NS);
    p->pause_ns = p->pause_ns ? p->pause_ns * 2 : first_ns;
    p->pause_ns = p->pause_ns < max_ns ? p->pause_ns : max_ns;
    p->retry_ns = fibril_after(p->pause_ns);
}

static void start_failed(struct fibril__pool *p, int error)
{
    p->status.failed++;
    p->status.last_error = error;
    pause_starts(p);
}

void fibril__worker_begun(struct fibril__pool *p, struct fibril__worker *w)
{
    if (w->state == FIBRIL__STARTING) {
        p->status.starting--;
        p->status.started++;
        fibril__worker_ready(p, w);
    }
}

/* ---- being of use ---- */

void fibril__worker_ready(struct fibril__pool *p, struct fibril__worker *w)
{
    if (fibril__request_serve(p, w)) {
        w->state = FIBRIL__LENT;
        w->was_lent = true;
        p->status.lent++;
    } else if (p->status.idle + p->status.lent >= p->spec.size) {
        fibril__worker_end(p, w); /* one that is still starting may hang, and does not count */
    } else {
        w->state = FIBRIL__IDLE;
        p->status.idle++;
        fibril__list_push(&p->idle, &w->link);
    }
}

struct fibril__worker *fibril__worker_take(struct fibril__pool *p, bool newest)
{
    struct fibril__link *l = newest ? p->idle.head.prev : p->idle.head.next;
    if (l == &p->idle.head) {
        return NULL;
    }
    fibril__link_remove(l);
    p->status.idle--;
    return CONTAINER_OF(l, struct fibril__worker, link);
}

/* ---- ending ---- */

/* w is in no list and counted nowhere. */
void fibril__worker_end(struct fibril__pool *p, struct fibril__worker *w)
{
    w->state = FIBRIL__ENDING;
    w->kill_ns = fibril_after(or_else(p->spec.shutdown_ns, 5000 * MILLISECOND_NS));
    p->status.ending++;
    fibril__list_push(&p->ending, &w->link);
    if (fibril_actor_exit(w->actor, FIBRIL_EXIT_SHUTDOWN) < 0) { /* no memory to say it kindly */
        fibril_actor_exit(w->actor, FIBRIL_EXIT_KILL);
    }
}

/* Takes w out of whatever counts it. */
static void uncount(struct fibril__pool *p, struct fibril__worker *w)
{
    fibril__link_remove(&w->link);
    switch (w->state) {
    case FIBRIL__STARTING: p->status.starting--; break;
    case FIBRIL__IDLE: p->status.idle--; break;
    case FIBRIL__LENT: p->status.lent--; break;
    default: p->status.ending--;
    }
}

static void note_end(struct fibril__pool *p, const struct fibril__worker *w, int reason)
{
    if (w->state == FIBRIL__ENDING) {
        return;
    }
    if (w->state == FIBRIL__STARTING) {
        start_failed(p, w->behave->error ? w->behave->error : reason ? reason : -EPIPE);
        return;
    }
    p->status.died++;
    if (reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN) {
        p->status.last_error = reason;
    }
    if (!w->was_lent) {
        pause_starts(p);
    }
}

void fibril__worker_ended(struct fibril__pool *p, struct fibril__worker *w, int reason)
{
    uncount(p, w);
    fibril__map_remove(&p->workers, &w->by_actor);
    fibril__link_remove(&w->in_all);
    if (w->lent_to) {
        fibril__request_forget(p, w->lent_to);
    }
    note_end(p, w, reason);
    fibril__behave_release(w->behave);
    fibril__free(w);
}

/* ---- tending ---- */

static bool wants_more(const struct fibril__pool *p)
{
    const struct fibril_pool_status *s = &p->status;
    return alive(p) < p->spec.size ||
           (alive(p) < p->spec.size + p->spec.overflow && s->starting < s->waiting);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Kills those whose time is up; returns when that of the next one is. */
static int64_t kill_late(struct fibril__pool *p, int64_t now_ns)
{
    for (struct fibril__link *l; (l = fibril__list_first(&p->ending)) != NULL;) {
        struct fibril__worker *w = CONTAINER_OF(l, struct fibril__worker, link);
        if (w->kill_ns > now_ns) {
            return w->kill_ns;
        }
        if (fibril_actor_exit(w->actor, FIBRIL_EXIT_KILL) < 0) {
            return now_ns + MILLISECOND_NS;
        }
        fibril__link_remove(l);
    }
    return FIBRIL_FOREVER;
}

int64_t fibril__workers_tend(struct fibril__pool *p)
{
    int64_t now_ns = fibril_now();
    while (now_ns >= p->retry_ns && wants_more(p)) {
        int rc = start(p);
        if (rc < 0) {
            start_failed(p, rc);
        }
    }
    int64_t retry_ns = wants_more(p) ? p->retry_ns : FIBRIL_FOREVER;
    return earlier(retry_ns, kill_late(p, now_ns));
}

/* ---- all of them ---- */

static bool is_of_worker(const struct fibril_message *m, void *arg)
{
    (void)arg;
    return (m->kind == FIBRIL_MESSAGE_SIGNAL && m->tag == FIBRIL_TAG_EXIT) ||
           m->tag == FIBRIL__TAG_STARTED;
}

/* Waits for news of one worker. 1: somebody else says that the pool is to end. */
static int await(struct fibril__pool *p, int64_t deadline_ns)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive_match(is_of_worker, NULL, deadline_ns, &m);
    if (rc < 0) {
        return rc;
    }
    bool started = m->tag == FIBRIL__TAG_STARTED;
    const struct fibril_signal *signal = fibril_message_data(m); /* both begin with the number */
    struct fibril__worker *w = fibril__worker_find(p, signal->actor);
    if (w && started) {
        fibril__worker_begun(p, w);
    } else if (w) {
        fibril__worker_ended(p, w, signal->reason);
    } else if (!started && signal->reason != FIBRIL_EXIT_NORMAL) {
        rc = 1;
    }
    fibril_message_free(m);
    return rc;
}

int fibril__workers_begin(struct fibril__pool *p)
{
    int rc = 0;
    while (rc == 0 && alive(p) < p->spec.size) {
        rc = start(p);
    }
    while (rc == 0 && p->status.starting > 0) {
        rc = await(p, FIBRIL_FOREVER);
        rc = p->status.failed || p->status.died ? p->status.last_error : rc;
    }
    if (rc != 0) {
        fibril__workers_end(p);
    }
    return rc > 0 ? -ECANCELED : rc;
}

static bool tell_all(struct fibril__pool *p, int reason)
{
    bool told = true;
    for (struct fibril__link *l = p->all.head.next; l != &p->all.head; l = l->next) {
        struct fibril__worker *w = CONTAINER_OF(l, struct fibril__worker, in_all);
        told = fibril_actor_exit(w->actor, reason) == 0 && told;
    }
    return told;
}

/* The pool was killed, and hears nothing any more. Its workers are waited for all the same, as what
 * servers live in is ours. */
static void outlive(struct fibril__pool *p)
{
    fibril_shield_begin();
    for (struct fibril__link *l; (l = fibril__list_first(&p->all)) != NULL;) {
        struct fibril__worker *w = CONTAINER_OF(l, struct fibril__worker, in_all);
        while (w->behave && fibril_actor_alive(w->actor)) {
            fibril_actor_exit(w->actor, FIBRIL_EXIT_KILL);
            fibril_sleep(MILLISECOND_NS);
        }
        fibril__worker_ended(p, w, FIBRIL_EXIT_KILLED);
    }
    fibril_shield_end();
}

void fibril__workers_end(struct fibril__pool *p)
{
    int64_t deadline_ns = fibril_after(or_else(p->spec.shutdown_ns, 5000 * MILLISECOND_NS));
    int rc = tell_all(p, FIBRIL_EXIT_SHUTDOWN) ? 0 : -ETIMEDOUT;
    while (!fibril__list_empty(&p->all) && rc >= 0) {
        rc = await(p, deadline_ns);
    }
    while (!fibril__list_empty(&p->all) && rc != -ECANCELED) {
        int64_t again_ns = fibril_after(MILLISECOND_NS);
        rc = await(p, tell_all(p, FIBRIL_EXIT_KILL) ? FIBRIL_FOREVER : again_ns);
    }
    if (!fibril__list_empty(&p->all)) {
        tell_all(p, FIBRIL_EXIT_KILL);
        outlive(p);
    }
}
