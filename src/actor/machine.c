/* SPDX-License-Identifier: MIT */
/*
 * State machines. An event is a message wherever it waits: in the mailbox, among those to come
 * again, among the postponed, so postponing needs no memory. Timeouts are deadlines of the wait,
 * not messages: a full mailbox cannot lose them, and one that is over cannot be found in the
 * mailbox later.
 *
 * Rejected: leaving postponed messages in the mailbox behind a mark. They would count for its
 * bound, and so could keep out the very message that changes the state.
 */
#include "actor/machine.h"

#include "actor/actor.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { POSTPONED_MAX = 65536 };

static struct fibril_machine *machine_of(struct fibril__behave *b)
{
    return CONTAINER_OF(b, struct fibril_machine, behave);
}

/* ---- queues ---- */

static void push(struct fibril__events *q, struct fibril_message *m)
{
    m->next = NULL;
    if (q->first) {
        q->last->next = m;
    } else {
        q->first = m;
    }
    q->last = m;
}

static struct fibril_message *pop(struct fibril__events *q)
{
    struct fibril_message *m = q->first;
    if (m) {
        q->first = m->next;
    }
    return m;
}

/* Moves all of `from` before what is in q. */
static void put_before(struct fibril__events *q, struct fibril__events *from)
{
    if (from->first) {
        from->last->next = q->first;
        q->last = q->first ? q->last : from->last;
        q->first = from->first;
        from->first = NULL;
    }
}

/* The machine has ended: what waited for it reaches nobody. */
static void clear(struct fibril__events *q)
{
    for (struct fibril_message *m; (m = pop(q)) != NULL;) {
        if (m->kind <= FIBRIL_MESSAGE_CALL) {
            fibril__dead_letter(fibril_actor_self(), m);
        } else {
            fibril_message_free(m);
        }
    }
}

/* ---- what a callback has asked for ---- */

static void begin_callback(struct fibril_machine *m, struct fibril_message *message)
{
    m->message = message;
    m->next = m->state;
    m->wrong = NULL;
    m->postpones = m->again = m->new_state_timeout = false;
}

static void postpone(struct fibril_machine *m)
{
    struct fibril_message *message = m->message;
    unsigned max = m->type->postponed_max ? m->type->postponed_max : POSTPONED_MAX;
    if (m->n_postponed < max) {
        push(&m->postponed, message);
        m->n_postponed++;
    } else if (message->kind == FIBRIL_MESSAGE_CALL) {
        fibril_actor_refuse(message->from, -EAGAIN);
        fibril_message_free(message);
    } else {
        fibril__message_dropped(fibril_actor_self(), message);
    }
}

static int fail(const struct fibril_machine *m)
{
    return fibril_actor_fail(-EINVAL, "machine \"%s\" %s", m->type->name ? m->type->name : "",
                             m->wrong);
}

static int enter(struct fibril_machine *m, unsigned old)
{
    const struct fibril_machine_state *state = &m->type->states[m->state];
    begin_callback(m, NULL);
    m->enters = true;
    int rc = state->enter ? state->enter(m, m->data, old) : 0;
    m->enters = false;
    return rc == 0 && m->wrong ? fail(m) : rc;
}

/* The callback has returned 0. */
static int end_callback(struct fibril_machine *m)
{
    unsigned old = m->state;
    if (m->postpones && m->message && !m->wrong) {
        postpone(m);
    } else {
        fibril_message_free(m->message);
    }
    m->message = NULL;
    if (m->wrong) {
        return fail(m);
    }
    bool changes = m->next != old;
    if (changes) {
        m->state = m->next;
        m->state_ns = m->new_state_timeout ? m->state_ns : FIBRIL_FOREVER;
        put_before(&m->coming, &m->postponed);
        m->n_postponed = 0;
    }
    put_before(&m->coming, &m->own);
    return changes || m->again ? enter(m, old) : 0;
}

/* ---- events ---- */

static int unhandled(struct fibril_machine *m)
{
    if (m->message && m->message->kind == FIBRIL__MSG_OWN) {
        fibril__dead_letter(fibril_actor_self(), m->message);
    } else if (m->message) {
        fibril__behave_unhandled(m->message);
    }
    m->message = NULL;
    return 0;
}

static int happen(struct fibril_machine *m, const struct fibril_happening *h)
{
    const struct fibril_machine_state *state = &m->type->states[m->state];
    m->quiet_ns = FIBRIL_FOREVER;
    m->quiet_now = false;
    begin_callback(m, h->message);
    int rc = state->happens ? state->happens(m, m->data, h) : FIBRIL_UNHANDLED;
    if (rc == FIBRIL_UNHANDLED) {
        rc = m->type->other ? m->type->other(m, m->data, h) : FIBRIL_UNHANDLED;
    }
    rc = rc == FIBRIL_UNHANDLED ? unhandled(m) : rc;
    if (LIKELY(rc == 0)) {
        return end_callback(m);
    }
    fibril_message_free(m->message);
    m->message = NULL;
    return rc;
}

static enum fibril_happening_kind kind_of(const struct fibril_message *m)
{
    switch (m->kind) {
    case FIBRIL_MESSAGE_CALL: return FIBRIL_HAPPENS_CALL;
    case FIBRIL_MESSAGE_CAST: return FIBRIL_HAPPENS_CAST;
    case FIBRIL__MSG_OWN: return FIBRIL_HAPPENS_OWN;
    default: return FIBRIL_HAPPENS_INFO;
    }
}

static int message(struct fibril__behave *b, struct fibril_message *m)
{
    struct fibril_happening h = {.kind = kind_of(m), .tag = m->tag, .message = m};
    return happen(machine_of(b), &h);
}

static int time_out(struct fibril_machine *m, enum fibril_happening_kind kind, uint64_t id)
{
    struct fibril_happening h = {.kind = kind, .tag = id};
    return happen(m, &h);
}

static int due(struct fibril_machine *m)
{
    uint64_t id;
    bool of_state = fibril__timeout_take(m, &id);
    return time_out(m, of_state ? FIBRIL_HAPPENS_STATE_TIMEOUT : FIBRIL_HAPPENS_TIMEOUT, id);
}

/* ---- what the loop asks ---- */

/* One thing that is to come before any message; false: there is none. */
static bool step(struct fibril_machine *m, int *ret_result)
{
    struct fibril_message *next = pop(&m->coming);
    int64_t deadline_ns = fibril__timeout_first(m);
    if (next) {
        *ret_result = message(&m->behave, next);
    } else if (deadline_ns != FIBRIL_FOREVER && deadline_ns <= fibril_now()) {
        *ret_result = due(m);
    } else if (m->quiet_now) {
        *ret_result = time_out(m, FIBRIL_HAPPENS_QUIET, 0);
    } else {
        return false;
    }
    return true;
}

static int before(struct fibril__behave *b, int64_t *ret_deadline_ns)
{
    struct fibril_machine *m = machine_of(b);
    int rc = 0;
    while (step(m, &rc)) {
        if (rc != 0 || fibril_cancelled()) {
            return rc ? rc : -ECANCELED;
        }
        fibril_embed_spend();
    }
    int64_t deadline_ns = fibril__timeout_first(m);
    *ret_deadline_ns = m->quiet_ns < deadline_ns ? m->quiet_ns : deadline_ns;
    return 0;
}

/* What else is due comes at the next step. */
static int timeout(struct fibril__behave *b)
{
    struct fibril_machine *m = machine_of(b);
    bool quiet = m->quiet_ns <= fibril__timeout_first(m) && m->quiet_ns <= fibril_now();
    return quiet ? time_out(m, FIBRIL_HAPPENS_QUIET, 0) : 0;
}

static int init(struct fibril__behave *b, void *arg)
{
    struct fibril_machine *m = machine_of(b);
    begin_callback(m, NULL);
    int rc = m->type->init ? m->type->init(m, m->data, arg) : 0;
    if (rc == 0 && m->wrong) {
        return fail(m);
    }
    m->state = m->next;
    put_before(&m->coming, &m->own);
    return rc == 0 ? enter(m, m->state) : rc;
}

static void terminate(struct fibril__behave *b, int reason)
{
    struct fibril_machine *m = machine_of(b);
    if (m->type->terminate) {
        m->type->terminate(m, m->data, reason);
    }
}

static bool describe(struct fibril__behave *b, char *text, size_t size)
{
    struct fibril_machine *m = machine_of(b);
    const char *state = m->type->states[m->state].name;
    snprintf(text, size, "%s", state ? state : "");
    size_t n = strlen(text);
    if (m->type->describe && n + 2 < size) {
        memcpy(text + n, ": ", 3);
        m->type->describe(m->data, text + n + 2, size - n - 2);
    }
    return true;
}

static void free_data(struct fibril_machine *m)
{
    if (m->data != m->room) {
        fibril__free(m->data);
    }
}

/* The old data go on; the types must agree on them, and on the states. */
static int replace_code(struct fibril_machine *m, const struct fibril_machine_type *type)
{
    if (type->data_bytes != m->type->data_bytes || type->n_states != m->type->n_states) {
        return -EINVAL;
    }
    m->type = type;
    return 0;
}

static int replace(struct fibril__behave *b, const void *new_type, void *extra)
{
    struct fibril_machine *m = machine_of(b);
    const struct fibril_machine_type *type = new_type;
    unsigned state = m->state;
    if (!type->change) {
        return replace_code(m, type);
    }
    void *data = fibril__alloc_zero(type->data_bytes + 1);
    if (!data) {
        return -ENOMEM;
    }
    int rc = type->change(m, data, &state, m->type, m->data, extra);
    rc = rc == 0 && state >= type->n_states ? -EINVAL : rc;
    if (rc != 0) {
        fibril__free(data);
        return rc;
    }
    free_data(m);
    m->data = data;
    m->state = m->next = state;
    m->type = type;
    return 0;
}

static void free_machine(struct fibril__behave *b)
{
    struct fibril_machine *m = machine_of(b);
    clear(&m->own);
    clear(&m->coming);
    clear(&m->postponed);
    fibril__timeout_free(m);
    free_data(m);
    fibril__free(m);
}

/* ---- the calls ---- */

int fibril_machine_start(const struct fibril_machine_type *type, void *arg,
                         const struct fibril_actor_opts *opts, int64_t deadline_ns,
                         uint64_t *ret_actor)
{
    static const struct fibril__behave_ops ops = {.sort = FIBRIL__MACHINE,
                                                  .init = init,
                                                  .before = before,
                                                  .timeout = timeout,
                                                  .message = message,
                                                  .terminate = terminate,
                                                  .replace = replace,
                                                  .describe = describe,
                                                  .free = free_machine};
    if (type->n_states == 0) {
        return -EINVAL;
    }
    struct fibril_machine *m = fibril__alloc_zero(sizeof *m + type->data_bytes);
    if (!m) {
        return -ENOMEM;
    }
    m->behave.ops = &ops;
    m->type = type;
    m->data = m->room;
    m->state_ns = m->quiet_ns = FIBRIL_FOREVER;
    return fibril__behave_start(&m->behave, arg, opts, deadline_ns, ret_actor);
}

int fibril_machine_replace(uint64_t actor, const struct fibril_machine_type *type, void *extra,
                           int64_t deadline_ns)
{
    return fibril__behave_replace(actor, FIBRIL__MACHINE, type, extra, deadline_ns);
}

unsigned fibril_machine_state(const struct fibril_machine *m)
{
    return m->state;
}

void fibril_machine_go(struct fibril_machine *m, unsigned state)
{
    if (m->enters) {
        m->wrong = "asks for another state while it enters one";
    } else if (state >= m->type->n_states) {
        m->wrong = "asks for a state that it does not have";
    } else {
        m->next = state;
    }
}

void fibril_machine_enter_again(struct fibril_machine *m)
{
    m->again = true;
}

void fibril_machine_postpone(struct fibril_machine *m)
{
    m->postpones = true;
}

void fibril_machine_happen(struct fibril_machine *m, struct fibril_message *message)
{
    if (m->enters) {
        m->wrong = "has something happen while it enters a state";
    }
    message->kind = FIBRIL__MSG_OWN;
    push(&m->own, message);
}

struct fibril_message *fibril_machine_take(struct fibril_machine *m)
{
    struct fibril_message *message = m->message;
    m->message = NULL;
    return message;
}
