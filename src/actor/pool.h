/* SPDX-License-Identifier: MIT */
/*
 * A pool: its workers, and those who want one. Touched by the pool's actor only.
 */
#ifndef FIBRIL_ACTOR_POOL_H
#define FIBRIL_ACTOR_POOL_H

#include "actor/behave.h"

#include "base/list.h"
#include "base/map.h"

#include <fibril/pool.h>

enum fibril__worker_state { FIBRIL__STARTING, FIBRIL__IDLE, FIBRIL__LENT, FIBRIL__ENDING };

struct fibril__worker {
    struct fibril__map_node by_actor; /* first */
    struct fibril__link link;         /* among the idle, or those that end */
    struct fibril__link in_all;       /* in the order of starting */
    uint64_t actor;
    struct fibril__behave *behave;   /* of a server: freed when it has ended */
    struct fibril__request *lent_to; /* LENT */
    int64_t kill_ns;                 /* ENDING */
    enum fibril__worker_state state;
    bool was_lent;
};

/* Somebody who wants a worker, or has one. */
struct fibril__request {
    struct fibril__map_node by_number; /* first */
    struct fibril__map_node by_monitor;
    struct fibril__link link;       /* while it waits */
    struct fibril_message *message; /* the call, and the reply; NULL: lent to */
    struct fibril_from from;
    struct fibril__worker *worker; /* lent to it */
};

struct fibril__pool {
    uint64_t self;
    struct fibril_pool_spec spec;
    struct fibril__map workers;
    struct fibril__list all;    /* of them */
    struct fibril__list idle;   /* the longest first */
    struct fibril__list ending; /* the first to be killed first */
    struct fibril__map requests, monitors;
    struct fibril__list waiting; /* the longest first */
    struct fibril_pool_status status;
    int64_t retry_ns; /* no worker is started before that */
    int64_t pause_ns; /* the last one; 0: all is well */
};

/* ---- worker.c ---- */

/* Starts workers as long as there are too few, ends the wait of those that take too long to end;
 * returns when to look again. */
int64_t fibril__workers_tend(struct fibril__pool *p);
/* The worker with this number, NULL: none of ours. */
struct fibril__worker *fibril__worker_find(const struct fibril__pool *p, uint64_t actor);
/* It has begun; it has ended; it is to end. */
void fibril__worker_begun(struct fibril__pool *p, struct fibril__worker *w);
void fibril__worker_ended(struct fibril__pool *p, struct fibril__worker *w, int reason);
void fibril__worker_end(struct fibril__pool *p, struct fibril__worker *w);
/* It is of use again: goes to whoever waits, or among the idle, or if there are too many ends. */
void fibril__worker_ready(struct fibril__pool *p, struct fibril__worker *w);
/* Takes one of the idle, NULL: there is none. */
struct fibril__worker *fibril__worker_take(struct fibril__pool *p, bool newest);
/* Starts the first ones and waits until they have begun. */
int fibril__workers_begin(struct fibril__pool *p);
/* Ends all and waits for that. */
void fibril__workers_end(struct fibril__pool *p);

/* ---- pool.c ---- */

/* Lends w, which is in no list, to whoever has waited longest; false: nobody waits. */
bool fibril__request_serve(struct fibril__pool *p, struct fibril__worker *w);
/* The loan is over; the worker is in no list then. */
void fibril__request_forget(struct fibril__pool *p, struct fibril__request *r);

/* ---- check.c ---- */

/* Starts what looks after the workers, linked to the caller. */
int fibril__pool_check_start(struct fibril__pool *p);

/* What a pool is asked. */
enum {
    FIBRIL__POOL_CHECKOUT = 1, /* call: struct fibril__pool_ask */
    FIBRIL__POOL_STATUS,       /* call */
    FIBRIL__POOL_CHECKIN,      /* casts: struct fibril__pool_ask */
    FIBRIL__POOL_DISCARD,
    FIBRIL__POOL_CANCEL,
};
struct fibril__pool_ask {
    uint64_t number;   /* of the request */
    uint64_t worker;   /* in the reply */
    uint64_t borrower; /* CHECKIN, DISCARD */
    bool idle_longest; /* CHECKOUT: only if one is idle, and of those that one */
};
int fibril__pool_checkout(uint64_t pool, bool idle_longest, int64_t deadline_ns,
                          uint64_t *ret_worker);

#endif
