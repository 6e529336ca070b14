/* SPDX-License-Identifier: MIT */
/*
 * Event buses: a server whose state is a list of handlers. A subscriber is one of them, so that
 * both keep one order. An event that is waited for, and a call to one handler, travel as a message
 * in a message.
 *
 * A call that makes its handler end is refused, unless it has its reply. Calls that the handler had
 * kept for later nobody knows but itself: their callers have their deadlines.
 */
#include "actor/actor.h"
#include "actor/behave.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <fibril/bus.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { STATE_TEXT = 256 };

/* What a bus is asked, in the tags of calls. */
enum { ADD = 300, REMOVE, SUBSCRIBE, UNSUBSCRIBE, NOTIFY, CALL, LIST };

struct ask {
    char id[64];
    const struct fibril_handler_type *type;
    void *arg;
    uint64_t actor; /* the owner; the subscriber */
    struct fibril_message *message;
};

struct handler {
    struct fibril__link link;
    const struct fibril_handler_type *type; /* NULL: a subscriber */
    struct fibril_handler public;
    uint64_t ref; /* monitor of the owner or subscriber; 0: none */
    _Alignas(16) char state[];
};

struct bus {
    struct fibril__list handlers;
};

/* ---- handlers ---- */

static struct handler *handler_at(struct fibril__link *l)
{
    return CONTAINER_OF(l, struct handler, link);
}

/* By id, or with "" by the subscriber, or with a ref by the monitor. */
static struct handler *find(const struct bus *bus, const char *id, uint64_t actor, uint64_t ref)
{
    const struct fibril__list *all = &bus->handlers;
    for (struct fibril__link *l = all->head.next; l != &all->head; l = l->next) {
        struct handler *h = handler_at(l);
        bool same = strcmp(h->public.id, id) == 0 && h->public.actor == actor;
        if (ref ? h->ref == ref : same) {
            return h;
        }
    }
    return NULL;
}

static void drop(struct handler *h)
{
    if (h->ref) {
        fibril_actor_demonitor(h->ref);
    }
    fibril__link_remove(&h->link);
    fibril__free(h);
}

static void end(struct handler *h, int reason)
{
    if (h->type && h->type->terminate) {
        h->type->terminate(h->state, reason);
    }
    drop(h);
}

static void tell_owner(const struct handler *h, int reason)
{
    struct fibril_handler_end e = {.bus = fibril_actor_self(), .reason = reason};
    struct fibril_message *m;
    memcpy(e.id, h->public.id, sizeof e.id);
    if (!h->public.owner || fibril_message_of(FIBRIL_TAG_HANDLER_END, &e, sizeof e, &m) < 0) {
        return;
    }
    if (fibril__actor_send_as(h->public.owner, m, FIBRIL_MESSAGE_PLAIN, FIBRIL__NEVER_PARK) < 0) {
        fibril__message_dropped(h->public.owner, m);
    }
}

/* A callback of h has returned this. */
static void take_result(struct handler *h, int result)
{
    if (result == 0) {
        return;
    }
    int reason = result == FIBRIL_STOP ? FIBRIL_EXIT_NORMAL : result;
    if (reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN) {
        char state[STATE_TEXT] = "";
        if (h->type->describe) {
            h->type->describe(h->state, state, sizeof state);
        }
        fibril__log_handler(fibril__actor_self(), h->public.id, reason, state);
    }
    tell_owner(h, reason);
    end(h, reason);
}

static int watch(struct handler *h, uint64_t actor)
{
    return actor ? fibril_actor_monitor(actor, &h->ref) : 0;
}

static int add(struct bus *bus, const struct ask *ask)
{
    bool handles = ask->type != NULL;
    if (find(bus, ask->id, handles ? 0 : ask->actor, 0)) {
        return -EEXIST;
    }
    struct handler *h = fibril__alloc_zero(sizeof *h + (handles ? ask->type->state_bytes : 0));
    if (!h) {
        return -ENOMEM;
    }
    h->type = ask->type;
    memcpy(h->public.id, ask->id, sizeof h->public.id);
    h->public.owner = handles ? ask->actor : 0;
    h->public.actor = handles ? 0 : ask->actor;
    int rc = watch(h, ask->actor);
    if (rc == 0 && handles && h->type->init) {
        rc = h->type->init(h->state, ask->arg);
    }
    if (rc != 0) {
        drop(h);
        return rc > 0 || rc == FIBRIL_STOP ? -ECANCELED : rc;
    }
    fibril__list_push(&bus->handlers, &h->link);
    return 0;
}

static int take_out(struct bus *bus, const struct ask *ask, bool handles)
{
    struct handler *h = find(bus, ask->id, handles ? 0 : ask->actor, 0);
    if (h) {
        end(h, FIBRIL_EXIT_NORMAL);
    }
    return h ? 0 : -ENOENT;
}

/* ---- events ---- */

/* A subscriber without room, or without memory for its copy, goes without. */
static void forward(const struct handler *h, const struct fibril_message *m)
{
    struct fibril_message *copy;
    if (fibril_message_copy(m, &copy) < 0) {
        FIBRIL__TALLY(dropped);
    } else if (fibril__actor_send_as(h->public.actor, copy, FIBRIL_MESSAGE_PLAIN,
                                     FIBRIL__NEVER_PARK) < 0) {
        fibril__message_dropped(h->public.actor, copy);
    }
}

static void happen(struct bus *bus, const struct fibril_message *m)
{
    struct fibril__list *all = &bus->handlers;
    for (struct fibril__link *l = all->head.next, *next; l != &all->head; l = next) {
        struct handler *h = handler_at(l);
        next = l->next;
        if (!h->type) {
            forward(h, m);
        } else if (h->type->event) {
            take_result(h, h->type->event(h->state, m));
        }
    }
}

/* The message in ask goes to a handler as if it had been called itself. */
static int call(struct bus *bus, struct ask *ask, struct fibril_from from)
{
    struct handler *h = find(bus, ask->id, 0, 0);
    if (!h || !h->type->call) {
        return h ? -ENOSYS : -ENOENT;
    }
    struct fibril_message *m = ask->message;
    m->kind = FIBRIL_MESSAGE_CALL;
    m->from = from;
    int result = h->type->call(h->state, m);
    take_result(h, result);
    return result == 0 ? 0 : -EPIPE;
}

/* ---- callbacks ---- */

static void list(const struct bus *bus, struct fibril_from from)
{
    const struct fibril__list *all = &bus->handlers;
    struct fibril_message *m;
    size_t n = 0;
    for (struct fibril__link *l = all->head.next; l != &all->head; l = l->next) {
        n++;
    }
    int rc = fibril_message_new(0, n * sizeof(struct fibril_handler), NULL, &m);
    if (rc < 0) {
        fibril_actor_refuse(from, rc);
        return;
    }
    struct fibril_handler *to = fibril_message_data(m);
    for (struct fibril__link *l = all->head.next; l != &all->head; l = l->next) {
        *to++ = handler_at(l)->public;
    }
    fibril_actor_reply(from, m);
}

static int init(struct fibril_server *s, void *state, void *arg)
{
    (void)s;
    (void)arg;
    fibril__list_init(&((struct bus *)state)->handlers);
    return 0;
}

/* Replies with nothing, or refuses; a call that has its reply already drops a second one. */
static void answer(struct fibril_from from, int rc)
{
    if (rc == 0) {
        fibril_server_reply(from, NULL, 0);
    } else {
        fibril_actor_refuse(from, rc);
    }
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    struct bus *bus = state;
    struct fibril_from from = fibril_message_from(m);
    struct ask *ask = fibril_message_data(m);
    int rc = -ENOSYS;
    (void)s;
    switch (fibril_message_tag(m) & UINT32_MAX) {
    case ADD:
    case SUBSCRIBE: rc = add(bus, ask); break;
    case REMOVE: rc = take_out(bus, ask, /* handles= */ true); break;
    case UNSUBSCRIBE: rc = take_out(bus, ask, /* handles= */ false); break;
    case LIST: list(bus, from); return 0;
    case NOTIFY:
        happen(bus, ask->message);
        rc = 0;
        break;
    case CALL:
        rc = call(bus, ask, from);
        if (rc == 0) {
            return 0; /* the handler replies */
        }
        break;
    default: break;
    }
    answer(from, rc);
    return 0;
}

static int on_event(struct fibril_server *s, void *state, struct fibril_message *m)
{
    (void)s;
    happen(state, m);
    return 0;
}

/* Whoever owned a handler has ended; any other message is an event. */
static int on_info(struct fibril_server *s, void *state, struct fibril_message *m)
{
    if (fibril_message_kind(m) != FIBRIL_MESSAGE_SIGNAL) {
        return on_event(s, state, m);
    }
    const struct fibril_signal *signal = fibril_message_data(m);
    struct handler *h =
        fibril_message_tag(m) == FIBRIL_TAG_DOWN ? find(state, "", 0, signal->ref) : NULL;
    if (h) {
        h->ref = 0;
        end(h, signal->reason);
    }
    return 0;
}

static void terminate(struct fibril_server *s, void *state, int reason)
{
    struct bus *bus = state;
    (void)s;
    for (struct fibril__link *l; (l = fibril__list_first(&bus->handlers)) != NULL;) {
        tell_owner(handler_at(l), reason);
        end(handler_at(l), reason);
    }
}

static void describe(const void *state, char *text, size_t size)
{
    const struct fibril__list *all = &((const struct bus *)state)->handlers;
    size_t n = 0;
    for (struct fibril__link *l = all->head.next; l != &all->head; l = l->next) {
        n++;
    }
    snprintf(text, size, "%zu handlers", n);
}

/* ---- the calls ---- */

int fibril_bus_start(const struct fibril_actor_opts *opts, int64_t deadline_ns, uint64_t *ret_bus)
{
    static const struct fibril_server_type type = {.name = "bus",
                                                   .state_bytes = sizeof(struct bus),
                                                   .init = init,
                                                   .call = on_call,
                                                   .cast = on_event,
                                                   .info = on_info,
                                                   .terminate = terminate,
                                                   .describe = describe};
    return fibril_server_start(&type, NULL, opts, deadline_ns, ret_bus);
}

int fibril_bus_child(void *unused, const struct fibril_actor_opts *opts, uint64_t *ret_bus)
{
    (void)unused;
    return fibril_bus_start(opts, FIBRIL_FOREVER, ret_bus);
}

static void free_ask(void *data, size_t size)
{
    (void)size;
    fibril_message_free(((struct ask *)data)->message);
}

static const struct fibril_message_type ask_type = {.name = "bus", .destroy = free_ask};

/* Asks, with ask->message taken in every case. */
static int ask_bus(uint64_t bus, int what, const char *id, struct ask *ask, int64_t deadline_ns,
                   struct fibril_message **ret_reply)
{
    struct fibril_message *m;
    size_t n = strlen(id);
    int rc =
        n < sizeof ask->id ? fibril_message_new(FIBRIL__TAG(what), sizeof *ask, NULL, &m) : -EINVAL;
    if (rc < 0) {
        fibril_message_free(ask->message);
        return rc;
    }
    memcpy(ask->id, id, n + 1);
    *(struct ask *)fibril_message_data(m) = *ask;
    m->type = &ask_type;
    return fibril_actor_call(bus, m, deadline_ns, ret_reply);
}

static int order(uint64_t bus, int what, const char *id, struct ask *ask, int64_t deadline_ns)
{
    struct fibril_message *reply = NULL;
    int rc = ask_bus(bus, what, id, ask, deadline_ns, &reply);
    if (rc == 0) {
        fibril_message_free(reply);
    }
    return rc;
}

int fibril_bus_add(uint64_t bus, const char *id, const struct fibril_handler_type *type, void *arg,
                   bool owned, int64_t deadline_ns)
{
    struct ask ask = {.type = type, .arg = arg, .actor = owned ? fibril_actor_self() : 0};
    return *id && type ? order(bus, ADD, id, &ask, deadline_ns) : -EINVAL;
}

int fibril_bus_remove(uint64_t bus, const char *id, int64_t deadline_ns)
{
    struct ask ask = {.type = NULL};
    return order(bus, REMOVE, id, &ask, deadline_ns);
}

int fibril_bus_subscribe(uint64_t bus, uint64_t actor, int64_t deadline_ns)
{
    struct ask ask = {.actor = actor};
    return actor ? order(bus, SUBSCRIBE, "", &ask, deadline_ns) : -EINVAL;
}

int fibril_bus_unsubscribe(uint64_t bus, uint64_t actor, int64_t deadline_ns)
{
    struct ask ask = {.actor = actor};
    return order(bus, UNSUBSCRIBE, "", &ask, deadline_ns);
}

int fibril_bus_notify(uint64_t bus, struct fibril_message *m, int64_t deadline_ns)
{
    struct ask ask = {.message = m};
    return order(bus, NOTIFY, "", &ask, deadline_ns);
}

int fibril_bus_call(uint64_t bus, const char *id, struct fibril_message *m, int64_t deadline_ns,
                    struct fibril_message **ret_reply)
{
    struct ask ask = {.message = m};
    return ask_bus(bus, CALL, id, &ask, deadline_ns, ret_reply);
}

int fibril_bus_handlers(uint64_t bus, struct fibril_handler *ret_handlers, size_t n,
                        int64_t deadline_ns, size_t *ret_n)
{
    struct ask ask = {.type = NULL};
    struct fibril_message *reply = NULL;
    int rc = ask_bus(bus, LIST, "", &ask, deadline_ns, &reply);
    if (rc < 0) {
        return rc;
    }
    size_t all = fibril_message_size(reply) / sizeof(struct fibril_handler);
    memcpy(ret_handlers, fibril_message_data(reply),
           (all < n ? all : n) * sizeof(struct fibril_handler));
    *ret_n = all;
    fibril_message_free(reply);
    return 0;
}
