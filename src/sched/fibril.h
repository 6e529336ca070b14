/* SPDX-License-Identifier: MIT */
/*
 * The record of a fibril. It is the price of a parked fibril beyond its stack, so it holds what
 * nearly every fibril needs and nothing else; names, local values, exit handlers and scope
 * membership are in `extra`, made on first use. With an own stack the record lies at the top of the
 * stack's first page, with a copied one in a slab.
 */
#ifndef FIBRIL_SCHED_FIBRIL_H
#define FIBRIL_SCHED_FIBRIL_H

#include <fibril/fibril.h>

#include "base/heap.h"
#include "base/list.h"
#include "ctx/context.h"

struct fibril__wait_kind;
struct fibril__extra;
struct fibril_embed_node;

/*
 *   spawn -> READY -> (running) -> EXITING -> DONE -> (joined or detached) FREE
 *              ^         |
 *              |         v
 *              +----- PARKED          wake() or an abort ends the wait, exactly once
 *
 * The running fibril is loop->current; its state is READY, so that a yield changes nothing but the
 * queue.
 */
enum fibril__state {
    FIBRIL__FREE = 0,
    FIBRIL__READY,
    FIBRIL__PARKED,
    FIBRIL__EXITING, /* the result is known; still running on its stack */
    FIBRIL__DONE,
};

enum fibril__flags {
    FIBRIL__F_HANDLE = 1u << 0,    /* somebody will join or detach */
    FIBRIL__F_CANCELLED = 1u << 1, /* sticky until cleared */
    FIBRIL__F_DAEMON = 1u << 2,
    FIBRIL__F_MAIN = 1u << 3,   /* runs on the OS thread's own stack; the record belongs to the loop
                                 */
    FIBRIL__F_REMOTE = 1u << 4, /* `joiner` is a struct fibril__join of another loop */
    FIBRIL__F_TURNS = 1u << 5,  /* takes turns with others, see turns.c */
    FIBRIL__F_LABEL = 1u << 7,  /* `site` is a label */
};

struct fibril {
    struct fibril__link link; /* run queue (next only), inbox (next only) or the list of a wait */
    struct fibril_loop *loop;
    struct fibril__context ctx;
    const struct fibril__wait_kind *wait; /* while parked: what kind of wait */
    void *wait_on;                        /* while parked: the object; the kind knows its type */
    union {
        void *wait_data; /* while parked: the kind's own */
        int64_t result;  /* after the wake-up: how the wait ended; when done: the result */
    };
    int64_t since_ns; /* loop time of its last change of state */
    struct fibril__heap_node timer;
    uint8_t state, flags;
    uint16_t shield; /* nesting of fibril_shield_begin */
    void *joiner;    /* who joins it: a struct fibril, or see FIBRIL__F_REMOTE */
    struct fibril__extra *extra;
    const void *site; /* return address of the spawn; with F_LABEL: a fibril_label that keeps it */
    uint64_t id;
    struct fibril_embed_node *embed; /* what embedders keep for it */
};

#endif
