/* SPDX-License-Identifier: MIT */
/*
 * The child of a fork: of all actors there is the caller's alone, if it is one, and it knows
 * nobody. The others are forgotten, not ended: their memory is the parent's too, and writing to
 * each would copy it. So the table lets go of whole chunks of records, and keeps the caller's;
 * numbers begin far above those that the parent has given, and are still never used twice.
 */
#include "actor/actor.h"

#include "base/compiler.h"

#include <pthread.h>

/* What others have to do with it. The calling fibril waits for nothing. */
static void forget_others(struct fibril__actor *self)
{
    fibril__list_init(&self->bonds);
    fibril__list_init(&self->callers);
    self->calling = (struct fibril__link){NULL, NULL};
    if (self->extra) {
        fibril__list_init(&self->extra->parked);
        fibril__streams_forked(self);
    }
}

void fibril__actors_forked(void)
{
    char name[256];
    struct fibril__actor *self = fibril__actor_self();
    fibril__registry_forked(self, name, sizeof name);
    fibril__members_forked();
    fibril_actor_dead_letters_to(0);
    fibril__table_forked(self);
    if (self) {
        forget_others(self);
        if (*name) {
            fibril_actor_register(self->id, name); /* without memory it has none */
        }
    }
}

/* A fork by an OS thread that runs no loop leaves no loop at all. That of a fibril calls
 * fibril_embed_forked. */
static void forked(void)
{
    if (!fibril_current()) {
        fibril__actors_forked();
    }
}

static void watch(void)
{
    pthread_atfork(NULL, NULL, forked);
}

void fibril__actors_watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}
