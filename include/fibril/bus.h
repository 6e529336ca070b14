/* SPDX-License-Identifier: MIT */
/*
 * Event buses: an actor that hands each message it gets, an event, to handlers that can be added
 * and removed while it runs, as Erlang's gen_event. A handler has a state of its own. One that
 * fails is removed and reported, and the others go on. An event is sent as any message is: with
 * fibril_actor_send, from a timer, or with fibril_bus_notify where the sender wants to know that
 * all have had it.
 *
 *     static int count(void *state, const struct fibril_message *event)
 *     {
 *         ++*(long *)state;
 *         return 0;
 *     }
 *
 *     static const struct fibril_handler_type counting = {
 *         .state_bytes = sizeof(long), .event = count};
 *
 *     fibril_bus_start(NULL, FIBRIL_FOREVER, &bus);
 *     fibril_bus_add(bus, "count", &counting, NULL, false, FIBRIL_FOREVER);
 *
 * For a message to many actors that nobody handles in between there are topics (actor.h). What is
 * said of servers (server.h: stop, status) holds for buses too. An event's handlers are those that
 * were there when its turn came, in the order in which they were added.
 */
#ifndef FIBRIL_BUS_H
#define FIBRIL_BUS_H

#include <fibril/server.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The code of a handler; it must stay in place while there is one. Callbacks run on the bus's own
 * fibril, and MAY PARK; meanwhile events wait. What is NULL is not done. */
struct fibril_handler_type {
    const char *name;
    size_t state_bytes; /* zero before init, aligned for anything */
    /* Begins. Not 0: it is not added, and whoever wanted that gets it. */
    int (*init)(void *state, void *arg);
    /* An event, which is the bus's. 0 goes on; FIBRIL_STOP removes this handler; anything else does
     * so too, as a failure, which is reported. */
    int (*event)(void *state, const struct fibril_message *m);
    /* A call of fibril_bus_call, which is replied to as any other. Results as of event. NULL:
     * -ENOSYS. */
    int (*call)(void *state, struct fibril_message *m);
    /* The end: it was removed (0), has failed, its owner has ended (for that reason), or the bus
     * has. */
    void (*terminate)(void *state, int reason);
    /* Writes a string that says the state, for the report of a failure. Must not park. */
    void (*describe)(const void *state, char *text, size_t size);
};

/* The data of FIBRIL_TAG_HANDLER_END: what the owner of a handler gets, as a plain message, when
 * that has ended otherwise than by fibril_bus_remove. */
struct fibril_handler_end {
    uint64_t bus;
    int reason;
    char id[64];
};

/* Starts a bus without handlers. MAY PARK. As fibril_server_start. */
FIBRIL_API int fibril_bus_start(const struct fibril_actor_opts *opts, int64_t deadline_ns,
                                uint64_t *ret_bus);
/* The same for a supervisor: `.start = fibril_bus_child`. One that is started again has no
 * handlers. MAY PARK. */
FIBRIL_API int fibril_bus_child(void *unused, const struct fibril_actor_opts *opts,
                                uint64_t *ret_bus);

/* Adds a handler under an id, of at most 63 bytes. `owned`: the caller is its owner; it is removed
 * when that ends, and the owner is told if it ends before. arg is not used any more when this has
 * returned without -ETIMEDOUT or -ECANCELED. MAY PARK. -EEXIST, -EINVAL, what init returned,
 * -ENOMEM, and as fibril_actor_call; at a timeout the handler may be there. */
FIBRIL_API int fibril_bus_add(uint64_t bus, const char *id, const struct fibril_handler_type *type,
                              void *arg, bool owned, int64_t deadline_ns);
/* Removes a handler; its terminate has been called when this returns 0. MAY PARK. -ENOENT, and as
 * fibril_actor_call. */
FIBRIL_API int fibril_bus_remove(uint64_t bus, const char *id, int64_t deadline_ns);

/* From now on the actor gets a copy of each event, until it ends. One whose mailbox has no room is
 * not waited for: the copy is dropped, and counted. MAY PARK. -EEXIST, -ENOMEM, and as
 * fibril_actor_call. */
FIBRIL_API int fibril_bus_subscribe(uint64_t bus, uint64_t actor, int64_t deadline_ns);
/* Ends that. MAY PARK. -ENOENT, and as fibril_actor_call. */
FIBRIL_API int fibril_bus_unsubscribe(uint64_t bus, uint64_t actor, int64_t deadline_ns);

/* Sends an event and waits until all handlers have had it. m is taken in every case. MAY PARK.
 * Errors as fibril_actor_call: at a timeout they may have it yet. */
FIBRIL_API int fibril_bus_notify(uint64_t bus, struct fibril_message *m, int64_t deadline_ns);
/* Calls one handler with m, which is taken in every case. MAY PARK. -ENOENT, -ENOSYS, and as
 * fibril_actor_call; -EPIPE also if the handler is removed without a reply. */
FIBRIL_API int fibril_bus_call(uint64_t bus, const char *id, struct fibril_message *m,
                               int64_t deadline_ns, struct fibril_message **ret_reply);

/* A handler, or with an actor a subscriber. */
struct fibril_handler {
    char id[64]; /* "" of a subscriber */
    uint64_t actor;
    uint64_t owner; /* 0: nobody */
};
/* Stores up to n of them in order; ret_n: how many there are. MAY PARK. As fibril_actor_call. */
FIBRIL_API int fibril_bus_handlers(uint64_t bus, struct fibril_handler *ret_handlers, size_t n,
                                   int64_t deadline_ns, size_t *ret_n);

#ifdef __cplusplus
}
#endif

#endif
