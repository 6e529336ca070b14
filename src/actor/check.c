/* SPDX-License-Identifier: MIT */
/*
 * What looks after the workers of a pool: an actor that borrows the idle ones in turn, those that
 * have been idle longest first, and hands each to the program's check. To the pool it is a borrower
 * like any other, so a check that hangs keeps one worker from use and nothing else.
 */
#include "actor/pool.h"

#include <errno.h>

struct checker {
    uint64_t pool;
    int (*check)(uint64_t worker, void *arg);
    void *arg;
    int64_t every_ns;
};

static int check_one(const struct checker *c)
{
    uint64_t worker;
    int rc = fibril__pool_checkout(c->pool, /* idle_longest= */ true, FIBRIL_FOREVER, &worker);
    if (rc < 0) {
        return rc;
    }
    rc = c->check(worker, c->arg);
    do {
        rc = (rc == 0 ? fibril_pool_checkin : fibril_pool_discard)(c->pool, worker);
    } while (rc == -ENOMEM && fibril_sleep(c->every_ns) == 0);
    return rc;
}

/* Those that are idle now; one that comes back meanwhile has been of use just so. */
static int check_all(const struct checker *c)
{
    struct fibril_pool_status status;
    int rc = fibril_pool_status(c->pool, FIBRIL_FOREVER, &status);
    for (unsigned i = 0; rc == 0 && i < status.idle; i++) {
        rc = check_one(c);
    }
    return rc == -ECANCELED || rc == -ESRCH || rc == -EPIPE ? rc : 0;
}

/* Ends with its pool, to which it is linked; so it cannot begin without it either. */
static int look_after(void *arg)
{
    const int64_t usual_ns = INT64_C(10000000000);
    const struct fibril__pool *p = arg;
    struct checker c = {.pool = p->self,
                        .check = p->spec.check,
                        .arg = p->spec.arg,
                        .every_ns = p->spec.check_ns ? p->spec.check_ns : usual_ns};
    int rc = 0;
    while (rc == 0) {
        rc = fibril_sleep(c.every_ns);
        rc = rc == 0 ? check_all(&c) : rc;
    }
    return 0;
}

int fibril__pool_check_start(struct fibril__pool *p)
{
    struct fibril_actor_opts opts = {.link = true, .stack = p->spec.worker.stack};
    return fibril_actor_spawn(look_after, p, &opts, NULL);
}
