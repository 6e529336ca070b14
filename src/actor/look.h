/* SPDX-License-Identifier: MIT */
/*
 * What the observer, above, asks about actors. Looking goes two ways, as in debug/look.h: records
 * lie in a table that stays, so any OS thread may read figures for sorting; what a record points to
 * is looked at on its own loop.
 */
#ifndef FIBRIL_ACTOR_LOOK_H
#define FIBRIL_ACTOR_LOOK_H

#include <fibril/observe.h>

/* What is known of an actor from outside. */
struct fibril__figures {
    uint64_t actor;
    const struct fibril *fibril; /* of the record, not to be looked into; NULL: not begun */
    uint64_t received;
    uint64_t bytes;
    uint32_t waiting;
    unsigned loop;
    bool supervises;
};

/* How many places the table of actors has by now. Any OS thread. */
uint32_t fibril__actors_room(void);

/* Reads the actor at a place; false: there is none. Any OS thread. */
bool fibril__actor_figures(uint32_t place, struct fibril__figures *ret_figures);

/* How long the oldest message of an actor of the calling loop has waited; 0: it is not known. */
int64_t fibril__actor_oldest(uint64_t actor);

/* Fills in what only its loop knows of row->actor, but its fibril, which is returned (NULL: not
 * begun); false: it has ended, or is of another loop. */
bool fibril__actor_look(struct fibril_observed_actor *row, const struct fibril **ret_fibril);

/* The code that an actor of the calling loop runs. */
const void *fibril__actor_code(uint64_t actor);

/* Passive actors of the calling loop (false: others): what they run, and whether they wait for
 * mail without a fibril. */
bool fibril__actor_called(uint64_t actor, char *text, size_t size);
bool fibril__actor_idle(uint64_t actor);

/* As fibril_observe_children, on the loop of the supervisor. */
int fibril__actor_children(uint64_t supervisor, size_t skip, struct fibril_observed_child *ret_rows,
                           size_t n, size_t *ret_total);

/* Sets the time by which messages that come are dated; 0: they are not. Any OS thread. */
void fibril__mail_date(int64_t now_ns);
/* The same, if they are dated at all. */
void fibril__mail_redate(int64_t now_ns);

#endif
