/* SPDX-License-Identifier: MIT */
/*
 * See behave.h. The start is a call without a message: the starter waits for a reply that the actor
 * gives when its init has succeeded, and for the end of the actor otherwise. A message in its
 * mailbox instead could be refused or dropped there, and be read by the init.
 */
#include "actor/behave.h"

#include "actor/actor.h"
#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { STATUS_TEXT = 256 };

/* ---- the end ---- */

void fibril__behave_release(struct fibril__behave *b)
{
    if (b) {
        fibril_message_free(b->ack);
        b->ops->free(b);
    }
}

static void print_text(void *arg, char *text, size_t size)
{
    snprintf(text, size, "%s", (const char *)arg);
}

/* The log of the crash is written when the state is gone already: what there is to say of it is
 * kept until then. */
static void keep_description(struct fibril__behave *b)
{
    char *text = fibril__alloc(STATUS_TEXT);
    if (!text || !b->ops->describe(b, text, STATUS_TEXT) ||
        fibril_at_exit(fibril__free, text) != 0) {
        fibril__free(text);
        return;
    }
    fibril_actor_set_describe(print_text, text);
}

/* A result of a callback that failed because the actor was told to end is that reason. */
static int reason_of(int result)
{
    int reason = FIBRIL_EXIT_SHUTDOWN;
    if (result == -ECANCELED && (fibril_actor_exiting(&reason) || fibril_cancelled())) {
        return reason;
    }
    return result == FIBRIL_STOP ? FIBRIL_EXIT_NORMAL : result;
}

static int end(struct fibril__behave *b, int reason)
{
    if (reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN) {
        keep_description(b);
    }
    b->ops->terminate(b, reason);
    if (b->starter.ref) {
        b->ops->free(b);
    }
    return reason;
}

/* ---- what every behaviour is asked ---- */

struct replacement {
    const void *type;
    void *extra;
    enum fibril__behave_sort sort;
};

static void answer(struct fibril_from from, int rc, const char *text)
{
    if (rc == 0) {
        fibril_server_reply(from, text, text ? strlen(text) + 1 : 0);
    } else {
        fibril_actor_refuse(from, rc);
    }
}

static void tell_status(struct fibril__behave *b, struct fibril_from from)
{
    char text[STATUS_TEXT] = "";
    b->ops->describe(b, text, sizeof text);
    answer(from, 0, text);
}

static void do_replace(struct fibril__behave *b, struct fibril_from from,
                       const struct replacement *r)
{
    int rc = r->sort == b->ops->sort ? b->ops->replace(b, r->type, r->extra) : -EINVAL;
    answer(from, rc > 0 ? -EINVAL : rc, NULL);
}

/* A call with a tag of fibril's own. Returns whether it was one of these; a stop stores its reason
 * and is answered by the end. */
static bool system_call(struct fibril__behave *b, struct fibril_message *m, int *ret_result)
{
    struct fibril_from from = fibril_message_from(m);
    if (m->tag == FIBRIL__TAG(FIBRIL__TAG_STOP_)) {
        int reason = *(int *)fibril_message_data(m);
        *ret_result = reason == FIBRIL_EXIT_NORMAL ? FIBRIL_STOP : reason;
    } else if (m->tag == FIBRIL__TAG(FIBRIL__TAG_STATUS_)) {
        tell_status(b, from);
    } else if (m->tag == FIBRIL__TAG(FIBRIL__TAG_REPLACE_)) {
        do_replace(b, from, fibril_message_data(m));
    } else {
        return false;
    }
    fibril_message_free(m);
    return true;
}

static bool is_from_parent(const struct fibril__behave *b, struct fibril_message *m)
{
    const struct fibril_signal *signal = fibril_message_data(m);
    return m->kind == FIBRIL_MESSAGE_SIGNAL && m->tag == FIBRIL_TAG_EXIT && b->parent != 0 &&
           signal->actor == b->parent;
}

/* A message whose tag is fibril's own. */
static int special(struct fibril__behave *b, struct fibril_message *m)
{
    int result = 0;
    if (is_from_parent(b, m)) {
        int reason = ((struct fibril_signal *)fibril_message_data(m))->reason;
        fibril_message_free(m);
        return reason == FIBRIL_EXIT_NORMAL ? FIBRIL_STOP : reason;
    }
    if (m->kind == FIBRIL_MESSAGE_CALL && system_call(b, m, &result)) {
        return result;
    }
    return b->ops->message(b, m);
}

void fibril__behave_unhandled(struct fibril_message *m)
{
    if (m->kind == FIBRIL_MESSAGE_CALL) {
        fibril_actor_refuse(m->from, -ENOSYS);
        fibril_message_free(m);
    } else if (m->kind == FIBRIL_MESSAGE_SIGNAL) {
        fibril_message_free(m);
    } else {
        fibril__dead_letter(fibril_actor_self(), m);
    }
}

/* ---- its life ---- */

/* One turn: what is due, or the next message. */
static int turn(struct fibril__behave *b)
{
    struct fibril_message *m;
    int64_t deadline_ns = FIBRIL_FOREVER;
    int rc = b->ops->before(b, &deadline_ns);
    if (UNLIKELY(rc != 0)) {
        return rc;
    }
    rc = fibril_actor_receive(deadline_ns, &m);
    if (LIKELY(rc == 0)) {
        return UNLIKELY(m->tag >> 63) ? special(b, m) : b->ops->message(b, m);
    }
    if (rc == -ETIMEDOUT) {
        return b->ops->timeout(b);
    }
    if (rc == -ENOMEM) { /* for the deadline */
        fibril_yield();
        return 0;
    }
    return rc;
}

static void tell_starter(struct fibril__behave *b)
{
    struct fibril_message *ack = b->ack;
    b->ack = NULL;
    if (b->starter.ref) {
        fibril_actor_reply(b->starter, ack);
        return;
    }
    *(uint64_t *)fibril_message_data(ack) = fibril_actor_self();
    if (fibril_actor_send(b->starter.actor, ack, FIBRIL_FOREVER) < 0) {
        fibril_message_free(ack); /* told to end meanwhile: the end tells as much */
    }
}

static int run(void *arg)
{
    struct fibril__behave *b = arg;
    int rc = b->ops->init(b, b->arg);
    if (rc != 0) {
        b->error = rc < 0 && rc != FIBRIL_STOP ? rc : -ECANCELED;
        if (b->starter.ref) {
            fibril_actor_unlink(b->parent);
        }
        return reason_of(rc);
    }
    tell_starter(b);
    while (rc == 0) {
        rc = turn(b);
    }
    return end(b, reason_of(rc));
}

/* ---- starting ---- */

/* The start has failed: the actor, which may be in its init, is ended and waited for. Without
 * memory to watch it the wait is tried again. */
static int abandon(struct fibril__actor *a, uint64_t actor)
{
    enum { PAUSE_NS = 1000000 };
    int rc = 0;
    fibril_actor_unlink(actor);
    fibril_shield_begin();
    while (fibril_actor_exit(actor, FIBRIL_EXIT_KILL) == -ENOMEM ||
           (rc = fibril__call_await(a, actor, FIBRIL_FOREVER)) == -ENOMEM) {
        fibril_sleep(PAUSE_NS);
    }
    fibril_shield_end();
    return rc;
}

/* Returns 0 when init has succeeded: b is the actor's then; *ret_ours says whether it is not. */
static int await_start(struct fibril__actor *a, struct fibril__behave *b, uint64_t actor,
                       int64_t deadline_ns, bool *ret_ours)
{
    struct fibril_message *ack = NULL;
    int rc = fibril__call_await(a, actor, deadline_ns);
    int error = rc;
    if (rc < 0 && rc != -EPIPE && rc != -ESRCH) {
        rc = abandon(a, actor);
    }
    rc = fibril__call_close(a, rc, &ack);
    fibril_message_free(ack);
    *ret_ours = rc < 0;
    if (error != -EPIPE && error != -ESRCH) {
        return error;
    }
    return b->error ? b->error : -EPIPE;
}

static int spawn(struct fibril__behave *b, void *arg, const struct fibril_actor_opts *opts,
                 uint64_t *ret_actor)
{
    b->arg = arg;
    b->parent = opts && opts->link ? b->starter.actor : 0;
    return fibril_actor_spawn(run, b, opts, ret_actor);
}

int fibril__behave_start(struct fibril__behave *b, void *arg, const struct fibril_actor_opts *opts,
                         int64_t deadline_ns, uint64_t *ret_actor)
{
    struct fibril__actor *a = fibril__actor_attach();
    uint64_t actor;
    bool ours = true;
    int rc = a ? fibril_message_new(0, 0, NULL, &b->ack) : fibril_current() ? -ENOMEM : -EPERM;
    if (rc == 0) {
        b->starter = fibril__call_expect(a);
        rc = spawn(b, arg, opts, &actor);
        if (rc < 0) {
            fibril__call_close(a, rc, NULL);
        } else {
            rc = await_start(a, b, actor, deadline_ns, &ours);
        }
    }
    if (ours) {
        fibril__behave_release(b);
    }
    if (rc == 0) {
        *ret_actor = actor;
    }
    return rc;
}

int fibril__behave_spawn(struct fibril__behave *b, void *arg, const struct fibril_actor_opts *opts,
                         uint64_t *ret_actor)
{
    int rc = fibril_message_new(FIBRIL__TAG_STARTED, sizeof *ret_actor, NULL, &b->ack);
    b->starter.actor = rc == 0 ? fibril_actor_self() : 0;
    if (rc == 0) {
        rc = b->starter.actor ? spawn(b, arg, opts, ret_actor) : -ENOMEM;
    }
    return rc;
}

/* ---- the calls ---- */

int fibril_server_reply(struct fibril_from from, const void *data, size_t size)
{
    struct fibril_message *m;
    int rc = fibril_message_of(0, data, size, &m);
    if (rc == 0) {
        fibril_actor_reply(from, m);
    } else {
        fibril_actor_refuse(from, rc);
    }
    return rc;
}

int fibril_server_call(uint64_t actor, uint64_t tag, const void *data, size_t size,
                       int64_t deadline_ns, void *ret_reply, size_t reply_size)
{
    struct fibril_message *m, *reply = NULL;
    int rc = fibril_message_of(tag, data, size, &m);
    rc = rc == 0 ? fibril_actor_call(actor, m, deadline_ns, &reply) : rc;
    if (rc < 0) {
        return rc;
    }
    if (fibril_message_size(reply) == reply_size && reply_size > 0) {
        memcpy(ret_reply, fibril_message_data(reply), reply_size);
    }
    rc = fibril_message_size(reply) == reply_size ? 0 : -EMSGSIZE;
    fibril_message_free(reply);
    return rc;
}

int fibril_server_cast(uint64_t actor, uint64_t tag, const void *data, size_t size,
                       int64_t deadline_ns)
{
    struct fibril_message *m;
    int rc = fibril_message_of(tag, data, size, &m);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_actor_cast(actor, m, deadline_ns);
    if (rc < 0) {
        fibril_message_free(m);
    }
    return rc;
}

int fibril_server_stop(uint64_t actor, int reason, int64_t deadline_ns)
{
    int rc = fibril_server_call(actor, FIBRIL__TAG(FIBRIL__TAG_STOP_), &reason, sizeof reason,
                                deadline_ns, NULL, 0);
    return rc == -EPIPE ? 0 : rc;
}

int fibril_server_status(uint64_t actor, char *ret_text, size_t size, int64_t deadline_ns)
{
    struct fibril_message *m, *reply = NULL;
    int rc = fibril_message_new(FIBRIL__TAG(FIBRIL__TAG_STATUS_), 0, NULL, &m);
    rc = rc == 0 ? fibril_actor_call(actor, m, deadline_ns, &reply) : rc;
    if (rc < 0) {
        return rc;
    }
    snprintf(ret_text, size, "%s", (const char *)fibril_message_data(reply));
    fibril_message_free(reply);
    return 0;
}

int fibril__behave_replace(uint64_t actor, enum fibril__behave_sort sort, const void *type,
                           void *extra, int64_t deadline_ns)
{
    struct replacement r = {.type = type, .extra = extra, .sort = sort};
    return fibril_server_call(actor, FIBRIL__TAG(FIBRIL__TAG_REPLACE_), &r, sizeof r, deadline_ns,
                              NULL, 0);
}
