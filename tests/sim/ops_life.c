/* SPDX-License-Identifier: MIT */
/* Scripts on fibrils themselves: sleep, yield, spawn, cancel, shield, join, scopes. */
#include "world.h"

#include <errno.h>

/* ---- cancellation ---------------------------------------------------------------------------- */

bool may_be_cancelled(const struct player *self)
{
    const struct group *g = self->group;
    if (!g) {
        return false;
    }
    const struct player *owner = &world.players[g->owner];
    return g->cancelled || (g->closing && (fibril_now() >= g->deadline_ns || owner->cancelled ||
                                           may_be_cancelled(owner)));
}

static void cancel_group(struct group *g)
{
    g->cancelled = true;
    for (int i = 0; i < world.count; i++) {
        struct player *p = &world.players[i];
        if (p->group == g && !p->ended) {
            p->cancelled = true;
        }
    }
}

static void cancel(struct player *self)
{
    struct player *p = &world.players[choose((unsigned)world.count)];
    if (!p->handle) {
        return;
    }
    step_begin(self, "cancel", p->index);
    p->cancelled |= !p->ended;
    CHECK(fibril_cancel(p->handle) == 0);
}

static void clear(struct player *self)
{
    step_begin(self, "clear", 0);
    bool was = fibril_cancel_clear();
    CHECK(was == self->cancelled || may_be_cancelled(self));
    self->cancelled = false;
}

static void shield(struct player *self)
{
    if (self->shield && choose(2)) {
        fibril_shield_end();
        self->shield--;
    } else if (self->shield < 3) {
        fibril_shield_begin();
        self->shield++;
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void sleep_some(struct player *self)
{
    struct step step = step_wait(self, "sleep", 0);
    int rc = step_end(&step, fibril_sleep_until(step.deadline_ns));
    CHECK(rc == 0 || rc == -ECANCELED);
    CHECK(rc != 0 || fibril_now() >= step.deadline_ns);
    CHECK(!step.cancelled_before || rc == -ECANCELED);
}

static void yield(struct player *self)
{
    step_begin(self, "yield", 0);
    CHECK(fibril_yield() == 0); /* also to one who is cancelled */
}

/* ---- others ---------------------------------------------------------------------------------- */

static void join(struct player *self)
{
    struct player *p = &world.players[choose((unsigned)world.count)];
    if (!p->handle || p->claimed) {
        return;
    }
    struct step step = step_wait(self, "join", p->index);
    if (p == self) {
        CHECK(fibril_join(p->handle, step.deadline_ns, NULL) == -EDEADLK);
        return;
    }
    int result = -12345;
    p->claimed = true;
    int rc = step_end(&step, fibril_join(p->handle, step.deadline_ns, &result));
    p->claimed = false;
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        CHECK(p->ended && result == p->result);
        p->handle = NULL;
    } else {
        CHECK(result == -12345);
        CHECK(rc != -ETIMEDOUT || !p->ended || !was_missed(&step, p->ended_ns));
    }
}

/* ---- scopes ---------------------------------------------------------------------------------- */

/* The first that fails ends the others; what those make of it that have been cancelled is no news.
 */
void scope_end(struct player *self, int result)
{
    struct group *g = self->group;
    g->alive--;
    bool told_to = g->cancelled && result == -ECANCELED;
    if (result < 0 && g->first_error == 0 && !told_to) {
        g->first_error = result;
        cancel_group(g);
    }
}

static void scope(struct player *self)
{
    if (world.group_count == PLAYERS) {
        return;
    }
    struct group *g = &world.groups[world.group_count++];
    *g = (struct group){.owner = self->index};
    step_begin(self, "scope", 0);
    CHECK(fibril_scope_open(&g->scope) == 0);
    for (unsigned n = choose(4); n > 0; n--) {
        player_new(g);
    }
    if (choose(3) == 0) {
        sleep_some(self);
    }
    if (choose(5) == 0) {
        fibril_scope_cancel(g->scope);
        cancel_group(g);
        struct player *late = player_new(g);
        if (late) {
            late->cancelled = late->born_cancelled = true; /* those spawned later included */
        }
    }
    struct step step = step_wait(self, "scope close", g->alive);
    g->deadline_ns = step.deadline_ns;
    g->closing = true;
    int rc = fibril_scope_close(g->scope, step.deadline_ns);
    CHECK(g->alive == 0);
    step_end(&step, rc);
    CHECK(rc == -ETIMEDOUT || rc == -ECANCELED || rc == g->first_error);
}

void play_life(struct player *self)
{
    switch (choose(16)) {
    case 0:
    case 1: player_new(NULL); break;
    case 2: cancel(self); break;
    case 3: shield(self); break;
    case 4:
    case 5: clear(self); break;
    case 6:
    case 7: join(self); break;
    case 8: scope(self); break;
    case 9:
    case 10:
    case 11: yield(self); break;
    default: sleep_some(self);
    }
}
