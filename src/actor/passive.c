/* SPDX-License-Identifier: MIT */
/*
 * Passive actors: those that have no fibril while there is nothing to be done for them. A language
 * runtime whose fibrils are large (Python's have a stack and a thread state) serves any number of
 * them by as many fibrils as are at work at the same time, which act as one actor after the other.
 *
 *     idle --mail, or told to end--> called for --enter--> served --leave, nothing to do--> idle
 *
 * While it is served an actor is like any other: its fibril receives, calls, is cancelled. Its end
 * is the server's fibril__actor_die.
 *
 * Rejected: a copied stack for each. It is as small while it waits for mail, but no C library below
 * a handler could keep a pointer into the stack across a wait.
 */
#include "actor/actor.h"

#include "base/assert.h"

void (*fibril__passive_ready)(struct fibril__actor *a);
void (*fibril__passive_name)(const struct fibril__actor *a, char *text, size_t size);

void fibril__passive_rouse(struct fibril__actor *a)
{
    a->flags &= (uint8_t)~FIBRIL__A_IDLE;
    fibril__passive_ready(a);
}

void fibril__passive_enter(struct fibril__actor *a)
{
    FIBRIL_ASSERT(!a->fibril && !(a->flags & FIBRIL__A_IDLE));
    fibril__actor_move_in(a, fibril_current());
    if (a->flags & FIBRIL__A_EXITING) {
        fibril_cancel(a->fibril);
    }
}

bool fibril__passive_leave(struct fibril__actor *a)
{
    if (a->urgent || a->first || (a->flags & FIBRIL__A_EXITING)) {
        return false;
    }
    fibril_embed_remove(a->fibril, &a->node);
    a->fibril = NULL;
    a->flags |= FIBRIL__A_IDLE;
    return true;
}
