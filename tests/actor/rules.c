/* SPDX-License-Identifier: MIT */
/* See rules.h. */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int place_of(const struct r_model *model, uint64_t actor)
{
    for (int i = 0; i < R_ACTORS; i++) {
        if (actor && model->actor[i].actor == actor && model->actor[i].state != R_DEAD) {
            return i;
        }
    }
    return -1;
}

static void expect(struct r_model *model, struct r_log *log, struct r_event e)
{
    e.step = model->step;
    if (log->n == R_LOG) {
        abort();
    }
    log->event[log->n++] = e;
}

/* ---- ends ---- */

static void dies(struct r_model *model, int i, int reason);

static void told(struct r_model *model, int i, int reason)
{
    struct r_actor *p = &model->actor[i];
    if (p->state == R_TOLD) {
        return;
    }
    p->state = R_TOLD;
    p->reason = reason;
    model->told++;
    if (!p->shielded) {
        dies(model, i, reason);
    }
}

/* kill: it was sent so, and comes through no link. self: to oneself. */
static void signalled(struct r_model *model, int i, uint64_t from, int reason, bool kill, bool self)
{
    struct r_actor *p = &model->actor[i];
    if (p->state == R_DEAD) {
        return;
    }
    if (kill) {
        told(model, i, FIBRIL_EXIT_KILLED);
    } else if (p->traps) {
        expect(model, &p->signals, (struct r_event){FIBRIL_TAG_EXIT, from, 0, reason, 0, false});
    } else if (reason != FIBRIL_EXIT_NORMAL || self) {
        told(model, i, reason);
    }
}

void r_signalled(struct r_model *model, int i, uint64_t from, int reason)
{
    signalled(model, i, from, reason, reason == FIBRIL_EXIT_KILL, model->actor[i].actor == from);
}

static void down(struct r_model *model, int watcher, int slot, int reason, uint64_t whom)
{
    struct r_actor *p = &model->actor[watcher];
    p->monitored[slot] = -1;
    expect(model, &p->signals,
           (struct r_event){FIBRIL_TAG_DOWN, whom, (uint64_t)slot, reason, 0, false});
}

static void dies(struct r_model *model, int i, int reason)
{
    struct r_actor *p = &model->actor[i];
    p->state = R_DEAD;
    if (p->waits_until) { /* else it had them, and they have been compared or are no matter */
        model->dead_letters += (uint64_t)p->messages.n;
    }
    p->waits_until = 0;
    p->shielded = false;
    p->signals.n = p->messages.n = 0;
    if (p->name >= 0) {
        model->names[p->name] = -1;
        p->name = -1;
    }
    for (int k = 0; k < R_ACTORS; k++) {
        struct r_actor *other = &model->actor[k];
        for (int slot = 0; other->state != R_DEAD && slot < R_MONITORS; slot++) {
            if (other->monitored[slot] == i) {
                down(model, k, slot, reason, p->actor);
            }
        }
        if (p->linked[k]) {
            p->linked[k] = other->linked[i] = false;
            signalled(model, k, p->actor, reason, false, false);
        }
    }
}

/* ---- mailboxes ---- */

/* A message comes; returns what its sender gets. */
static int arrives(struct r_model *model, uint64_t actor, uint64_t value, bool is_call, bool timer)
{
    int i = place_of(model, actor);
    if (i < 0) {
        model->dead_letters += !is_call || timer;
        return is_call ? -ESRCH : 0;
    }
    struct r_actor *p = &model->actor[i];
    bool *calls = model->calls_wait[i];
    if (p->waits_until && p->messages.n >= (int)p->mailbox.messages) {
        enum fibril_overflow overflow = p->mailbox.overflow;
        if (overflow == FIBRIL_OVERFLOW_DROP_OLDEST) {
            p->messages.n--;
            memmove(p->messages.event, p->messages.event + 1,
                    sizeof p->messages.event[0] * (size_t)p->messages.n);
            memmove(calls, calls + 1, (size_t)p->messages.n);
        } else if (overflow == FIBRIL_OVERFLOW_DROP_NEWEST || timer) {
            model->dropped++;
            return is_call ? -ETIMEDOUT : 0;
        } else {
            return overflow == FIBRIL_OVERFLOW_FAIL ? -EAGAIN : -ETIMEDOUT;
        }
        model->dropped++;
    }
    calls[p->messages.n] = is_call;
    expect(model, &p->messages, (struct r_event){.value = value});
    return !is_call ? 0 : p->waits_until ? -ETIMEDOUT : 0;
}

/* ---- orders ---- */

void r_born(struct r_model *model, int i, const struct r_order *o)
{
    model->actor[i] = (struct r_actor){
        .state = R_ALIVE, .traps = o->trap, .name = o->name, .mailbox = o->mailbox};
    for (int slot = 0; slot < R_MONITORS; slot++) {
        model->actor[i].monitored[slot] = -1;
    }
    if (o->name >= 0) {
        model->names[o->name] = i;
    }
}

static void spawned(struct r_model *model, int i, struct r_order *o)
{
    struct r_actor *p = &model->actor[i];
    if (o->name >= 0 && model->names[o->name] >= 0) {
        o->expected = -EEXIST;
        return;
    }
    r_born(model, o->whom, o);
    if (o->link) {
        p->linked[o->whom] = model->actor[o->whom].linked[i] = true;
    }
    if (o->monitor) {
        p->monitored[o->slot] = o->whom;
    }
}

static void linked(struct r_model *model, int i, const struct r_order *o)
{
    int other = place_of(model, o->actor);
    if (other < 0) {
        signalled(model, i, o->actor, FIBRIL_EXIT_NOPROC, false, false);
    } else if (other != i) {
        model->actor[i].linked[other] = model->actor[other].linked[i] = true;
    }
}

static void unlinked(struct r_model *model, int i, const struct r_order *o)
{
    int other = place_of(model, o->actor);
    if (other >= 0) {
        model->actor[i].linked[other] = model->actor[other].linked[i] = false;
    }
}

static void monitors(struct r_model *model, int i, const struct r_order *o)
{
    int other = place_of(model, o->actor);
    model->actor[i].monitored[o->slot] = other;
    if (other < 0) {
        down(model, i, o->slot, FIBRIL_EXIT_NOPROC, o->actor);
    }
}

static void named(struct r_model *model, int i, struct r_order *o)
{
    int *whose = &model->names[o->value];
    struct r_actor *p = &model->actor[i];
    if (o->what == R_UNREGISTER) {
        o->expected = *whose >= 0 ? 0 : -ENOENT;
        if (*whose >= 0) {
            model->actor[*whose].name = -1;
        }
        *whose = -1;
    } else if (*whose >= 0 || p->name >= 0) {
        o->expected = -EEXIST;
    } else {
        *whose = i;
        p->name = o->value;
    }
}

static void tells(struct r_model *model, const struct r_order *o, int *ret_rcs)
{
    for (int k = 0; k < o->value; k++) {
        int rc = arrives(model, o->actor, o->first + (uint64_t)k, false, false);
        *ret_rcs |= rc == 0 ? 0 : 1 << k;
        *ret_rcs |= rc == -EAGAIN ? 1 << (R_BURST + k) : 0;
    }
}

static void waits(struct r_model *model, int i, const struct r_order *o)
{
    struct r_actor *p = &model->actor[i];
    p->waits_until = o->steps == R_FOR_EVER ? R_FOR_EVER : model->step + o->steps;
    p->shielded = o->value == R_SHIELDED;
}

void r_ordered(struct r_model *model, int i, struct r_order *o)
{
    struct r_actor *p = &model->actor[i];
    uint64_t self = p->actor;
    o->expected = 0;
    switch (o->what) {
    case R_LINK: linked(model, i, o); break;
    case R_UNLINK: unlinked(model, i, o); break;
    case R_MONITOR: monitors(model, i, o); break;
    case R_DEMONITOR:
        o->expected = p->monitored[o->slot] >= 0 ? 0 : -ENOENT;
        p->monitored[o->slot] = -1;
        break;
    case R_TRAP: p->traps = o->value; break;
    case R_EXIT:
        if (place_of(model, o->actor) >= 0) {
            r_signalled(model, place_of(model, o->actor), self, o->value);
        }
        break;
    case R_END: dies(model, i, o->value); break;
    case R_SPAWN: spawned(model, i, o); break;
    case R_TELL: tells(model, o, &o->expected); break;
    case R_CALL:
        o->expected = o->actor == self ? -EDEADLK : arrives(model, o->actor, o->first, true, false);
        model->timeouts += o->expected == -ETIMEDOUT;
        break;
    case R_TIMER:
        model->timers[o->slot] = (struct r_timer){model->step + o->steps, o->actor, o->first};
        break;
    case R_REGISTER:
    case R_UNREGISTER: named(model, i, o); break;
    default: waits(model, i, o);
    }
}

void r_raced(struct r_model *model, int i, uint64_t actor)
{
    struct r_log *log = &model->actor[i].signals;
    r_signalled(model, place_of(model, actor), 0, FIBRIL_EXIT_KILL);
    for (int k = 0; k < log->n; k++) {
        struct r_event *e = &log->event[k];
        e->either = e->either || (e->step == model->step && e->actor == actor);
    }
}

/* ---- the rest of a step ---- */

static void wait_ends(struct r_model *model, int i)
{
    struct r_actor *p = &model->actor[i];
    model->timeouts++;
    if (p->state == R_TOLD) {
        dies(model, i, p->reason);
        return;
    }
    p->waits_until = 0;
    p->shielded = false;
    for (int k = 0; k < p->messages.n; k++) {
        model->late_replies += model->calls_wait[i][k];
    }
}

void r_passed(struct r_model *model)
{
    for (int k = 0; k < R_TIMERS; k++) { /* also those of actors that have ended */
        struct r_timer *t = &model->timers[k];
        if (t->step == model->step) {
            t->step = 0;
            arrives(model, t->to, t->value, /* is_call= */ false, /* timer= */ true);
        }
    }
    for (int i = 0; i < R_ACTORS; i++) {
        if (model->actor[i].state != R_DEAD && model->actor[i].waits_until == model->step) {
            wait_ends(model, i);
        }
    }
}

void r_begin(struct r_model *model)
{
    *model = (struct r_model){.step = 1};
    for (int k = 0; k < R_NAMES; k++) {
        model->names[k] = -1;
    }
}

/* ---- comparing ---- */

/* a: what is expected. */
static bool same(const struct r_event *a, const struct r_event *b)
{
    return a->tag == b->tag && a->actor == b->actor && a->value == b->value &&
           (a->reason == b->reason || (a->either && b->reason == FIBRIL_EXIT_NOPROC));
}

/* Takes an event of this step out of the log. */
static bool take(struct r_log *log, const struct r_event *got)
{
    for (int k = 0; k < log->n && log->event[k].step == log->event[0].step; k++) {
        if (same(&log->event[k], got)) {
            memmove(&log->event[k], &log->event[k + 1],
                    sizeof log->event[0] * (size_t)(log->n - k - 1));
            log->n--;
            return true;
        }
    }
    return false;
}

static const char *compare(struct r_log *expected, const struct r_log *got)
{
    for (int k = 0; k < got->n; k++) {
        if (!take(expected, &got->event[k])) {
            return got->event[k].tag ? "a signal that is not expected, or not yet"
                                     : "a message that is not expected, or not yet";
        }
    }
    return expected->n > 0 ? "something is missing" : NULL;
}

const char *r_differs(struct r_model *model, int i, struct r_log *signals, struct r_log *messages)
{
    struct r_actor *p = &model->actor[i];
    const char *what = compare(&p->signals, signals);
    for (int k = 0; !what && k < messages->n; k++) { /* the order of messages is the whole order */
        what = k < p->messages.n && p->messages.event[k].value == messages->event[k].value
                   ? NULL
                   : "a message out of turn";
    }
    if (!what && messages->n < p->messages.n) {
        what = "a message is missing";
    }
    signals->n = messages->n = p->signals.n = p->messages.n = 0;
    return what;
}
