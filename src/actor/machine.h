/* SPDX-License-Identifier: MIT */
/*
 * The record of a state machine, and its timeouts.
 */
#ifndef FIBRIL_ACTOR_MACHINE_H
#define FIBRIL_ACTOR_MACHINE_H

#include "actor/behave.h"

#include <fibril/machine.h>

struct fibril__timeout {
    struct fibril__timeout *next;
    uint64_t id;
    int64_t deadline_ns;
};

/* First in, first out. */
struct fibril__events {
    struct fibril_message *first, *last;
};

struct fibril_machine {
    struct fibril__behave behave; /* first */
    const struct fibril_machine_type *type;
    void *data; /* `room`, or memory of its own */
    unsigned state;
    unsigned n_postponed;
    int64_t state_ns, quiet_ns; /* deadlines; FIBRIL_FOREVER: none */
    struct fibril__timeout *timeouts;
    struct fibril__events coming;    /* before what is in the mailbox */
    struct fibril__events postponed; /* until the state changes */
    /* Of the present callback: */
    struct fibril_message *message;
    struct fibril__events own;
    const char *wrong; /* what it asked for and may not; NULL: nothing */
    unsigned next;     /* state */
    bool postpones, again, enters;
    bool new_state_timeout, quiet_now;
    _Alignas(16) char room[];
};

/* ---- timeouts.c ---- */

/* When the first timeout comes that does not depend on messages; FIBRIL_FOREVER: none will. */
int64_t fibril__timeout_first(struct fibril_machine *m);
/* Takes that one out. Returns whether it is the state's, else stores the id. */
bool fibril__timeout_take(struct fibril_machine *m, uint64_t *ret_id);
void fibril__timeout_free(struct fibril_machine *m);

#endif
