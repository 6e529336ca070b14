/* SPDX-License-Identifier: MIT */
/*
 * Servers: the behaviour whose callbacks are a table that can be replaced while it runs. The state
 * lies behind the record until a replacement wants another one. Replacing makes the new state out
 * of the old one before it gives that up, so that a change which fails has changed nothing.
 */
#include "actor/actor.h"
#include "actor/behave.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>

struct fibril_server {
    struct fibril__behave behave; /* first */
    const struct fibril_server_type *type;
    void *state;                    /* `room`, or memory of its own */
    struct fibril_message *message; /* that is being handled; NULL: none, or taken */
    void *go_on_arg;
    int64_t idle_ns; /* 0: for ever */
    bool goes_on;
    _Alignas(16) char room[];
};

static struct fibril_server *server_of(struct fibril__behave *b)
{
    return CONTAINER_OF(b, struct fibril_server, behave);
}

/* ---- what the loop asks ---- */

static int init(struct fibril__behave *b, void *arg)
{
    struct fibril_server *s = server_of(b);
    return s->type->init ? s->type->init(s, s->state, arg) : 0;
}

static int before(struct fibril__behave *b, int64_t *ret_deadline_ns)
{
    struct fibril_server *s = server_of(b);
    while (UNLIKELY(s->goes_on)) {
        s->goes_on = false;
        int rc = s->type->go_on ? s->type->go_on(s, s->state, s->go_on_arg) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    if (s->idle_ns > 0) {
        *ret_deadline_ns = fibril_after(s->idle_ns);
    }
    return 0;
}

static int timeout(struct fibril__behave *b)
{
    struct fibril_server *s = server_of(b);
    return s->type->idle ? s->type->idle(s, s->state) : 0;
}

typedef int callback(struct fibril_server *s, void *state, struct fibril_message *m);

static callback *callback_for(const struct fibril_server_type *type, const struct fibril_message *m)
{
    switch (m->kind) {
    case FIBRIL_MESSAGE_CALL: return type->call;
    case FIBRIL_MESSAGE_CAST: return type->cast;
    default: return type->info;
    }
}

static int message(struct fibril__behave *b, struct fibril_message *m)
{
    struct fibril_server *s = server_of(b);
    callback *fn = callback_for(s->type, m);
    if (UNLIKELY(!fn)) {
        fibril__behave_unhandled(m);
        return 0;
    }
    s->message = m;
    int rc = fn(s, s->state, m);
    fibril_message_free(s->message);
    s->message = NULL;
    return rc;
}

static void terminate(struct fibril__behave *b, int reason)
{
    struct fibril_server *s = server_of(b);
    if (s->type->terminate) {
        s->type->terminate(s, s->state, reason);
    }
}

static bool describe(struct fibril__behave *b, char *text, size_t size)
{
    struct fibril_server *s = server_of(b);
    if (s->type->describe) {
        s->type->describe(s->state, text, size);
    }
    return s->type->describe != NULL;
}

static void free_state(struct fibril_server *s)
{
    if (s->state != s->room) {
        fibril__free(s->state);
    }
}

static int replace(struct fibril__behave *b, const void *new_type, void *extra)
{
    struct fibril_server *s = server_of(b);
    const struct fibril_server_type *type = new_type;
    if (!type->change) {
        if (type->state_bytes != s->type->state_bytes) {
            return -EINVAL;
        }
        s->type = type;
        return 0;
    }
    void *state = fibril__alloc_zero(type->state_bytes + 1);
    if (!state) {
        return -ENOMEM;
    }
    int rc = type->change(s, state, s->type, s->state, extra);
    if (rc != 0) {
        fibril__free(state);
        return rc;
    }
    free_state(s);
    s->state = state;
    s->type = type;
    return 0;
}

static void free_server(struct fibril__behave *b)
{
    free_state(server_of(b));
    fibril__free(server_of(b));
}

/* ---- the calls ---- */

int fibril__server_new(const struct fibril_server_type *type, struct fibril__behave **ret_b)
{
    static const struct fibril__behave_ops ops = {.sort = FIBRIL__SERVER,
                                                  .init = init,
                                                  .before = before,
                                                  .timeout = timeout,
                                                  .message = message,
                                                  .terminate = terminate,
                                                  .replace = replace,
                                                  .describe = describe,
                                                  .free = free_server};
    struct fibril_server *s = fibril__alloc_zero(sizeof *s + type->state_bytes);
    if (!s) {
        return -ENOMEM;
    }
    s->behave.ops = &ops;
    s->type = type;
    s->state = s->room;
    *ret_b = &s->behave;
    return 0;
}

int fibril_server_start(const struct fibril_server_type *type, void *arg,
                        const struct fibril_actor_opts *opts, int64_t deadline_ns,
                        uint64_t *ret_actor)
{
    struct fibril__behave *b;
    int rc = fibril__server_new(type, &b);
    return rc == 0 ? fibril__behave_start(b, arg, opts, deadline_ns, ret_actor) : rc;
}

int fibril_server_replace(uint64_t actor, const struct fibril_server_type *type, void *extra,
                          int64_t deadline_ns)
{
    return fibril__behave_replace(actor, FIBRIL__SERVER, type, extra, deadline_ns);
}

struct fibril_message *fibril_server_take(struct fibril_server *s)
{
    struct fibril_message *m = s->message;
    s->message = NULL;
    return m;
}

void fibril_server_set_idle(struct fibril_server *s, int64_t ns)
{
    s->idle_ns = ns;
}

void fibril_server_go_on(struct fibril_server *s, void *arg)
{
    s->go_on_arg = arg;
    s->goes_on = true;
}
