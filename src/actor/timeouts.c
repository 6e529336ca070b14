/* SPDX-License-Identifier: MIT */
/*
 * Timeouts of state machines: deadlines that its loop looks at, not messages. A full mailbox cannot
 * lose them, and one that is over cannot be found in the mailbox later. A machine has few at a
 * time, so they are a list; each that is set looks through it.
 */
#include "actor/machine.h"

#include "base/alloc.h"

#include <errno.h>

/* The place of the timeout with an id that is due first, NULL if there is none. */
static struct fibril__timeout **first_of_list(struct fibril_machine *m)
{
    struct fibril__timeout **first = m->timeouts ? &m->timeouts : NULL;
    for (struct fibril__timeout **at = first; first && *at; at = &(*at)->next) {
        first = (*at)->deadline_ns < (*first)->deadline_ns ? at : first;
    }
    return first;
}

int64_t fibril__timeout_first(struct fibril_machine *m)
{
    struct fibril__timeout **t = first_of_list(m);
    return t && (*t)->deadline_ns < m->state_ns ? (*t)->deadline_ns : m->state_ns;
}

/* Ends the timeout at this place, if there is one. */
static void drop(struct fibril__timeout **at)
{
    struct fibril__timeout *t = *at;
    *at = t ? t->next : NULL;
    fibril__free(t);
}

bool fibril__timeout_take(struct fibril_machine *m, uint64_t *ret_id)
{
    struct fibril__timeout **t = first_of_list(m);
    bool of_state = !t || m->state_ns <= (*t)->deadline_ns;
    *ret_id = of_state ? 0 : (*t)->id;
    if (of_state) {
        m->state_ns = FIBRIL_FOREVER;
    } else {
        drop(t);
    }
    return of_state;
}

void fibril__timeout_free(struct fibril_machine *m)
{
    while (m->timeouts) {
        drop(&m->timeouts);
    }
}

/* ---- the calls ---- */

void fibril_machine_state_timeout(struct fibril_machine *m, int64_t ns)
{
    m->state_ns = fibril_after(ns);
    m->new_state_timeout = true;
}

void fibril_machine_quiet_timeout(struct fibril_machine *m, int64_t ns)
{
    m->quiet_ns = fibril_after(ns);
    m->quiet_now = ns <= 0;
}

int fibril_machine_timeout(struct fibril_machine *m, uint64_t id, int64_t ns)
{
    struct fibril__timeout **at = &m->timeouts;
    while (*at && (*at)->id != id) {
        at = &(*at)->next;
    }
    if (ns == FIBRIL_FOREVER) {
        drop(at);
        return 0;
    }
    if (!*at) {
        struct fibril__timeout *t = fibril__alloc(sizeof *t);
        if (!t) {
            return -ENOMEM;
        }
        *t = (struct fibril__timeout){.id = id};
        *at = t;
    }
    (*at)->deadline_ns = fibril_after(ns);
    return 0;
}
