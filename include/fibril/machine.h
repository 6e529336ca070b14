/* SPDX-License-Identifier: MIT */
/*
 * State machines: an actor whose reaction to an event depends on a state, as Erlang's gen_statem.
 * States are a table; each has a function for its events and may have one for being entered:
 *
 *     enum { LOCKED, OPEN };
 *
 *     static int locked(struct fibril_machine *m, void *data, const struct fibril_happening *h)
 *     {
 *         if (h->kind == FIBRIL_HAPPENS_CAST && h->tag == BUTTON) {
 *             fibril_machine_go(m, OPEN);
 *             fibril_machine_state_timeout(m, 10 * SECOND);
 *             return 0;
 *         }
 *         return FIBRIL_UNHANDLED;
 *     }
 *
 *     static const struct fibril_machine_state states[] = {
 *         [LOCKED] = {.name = "locked", .happens = locked},
 *         [OPEN] = {.name = "open", .happens = open}};
 *     static const struct fibril_machine_type door = {
 *         .name = "door", .states = states, .n_states = 2};
 *
 * What a callback asks for (another state, a postponement, timeouts, events of its own) is done
 * when it has returned 0, in this order: the event is postponed; if the state changes, the state
 * timeout ends, what was postponed comes again, the oldest first, and the new state is entered;
 * events of its own come before all others. Any other result ends the machine for that reason,
 * FIBRIL_STOP for the reason "normal", and nothing of this is done.
 */
#ifndef FIBRIL_MACHINE_H
#define FIBRIL_MACHINE_H

#include <fibril/server.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A state machine, as its own callbacks see it. */
struct fibril_machine;

enum fibril_happening_kind {
    FIBRIL_HAPPENS_CALL,          /* somebody wants a reply */
    FIBRIL_HAPPENS_CAST,          /* fibril_actor_cast */
    FIBRIL_HAPPENS_INFO,          /* plain messages, signals */
    FIBRIL_HAPPENS_OWN,           /* of fibril_machine_happen */
    FIBRIL_HAPPENS_STATE_TIMEOUT, /* of fibril_machine_state_timeout */
    FIBRIL_HAPPENS_QUIET,         /* of fibril_machine_quiet_timeout: there was no other event */
    FIBRIL_HAPPENS_TIMEOUT,       /* of fibril_machine_timeout */
};

/* An event. */
struct fibril_happening {
    enum fibril_happening_kind kind;
    uint64_t tag; /* of the message; of a timeout: its id */
    /* Freed after the callback, unless it is taken or the event postponed. NULL: a timeout. */
    struct fibril_message *message;
};

/* What a state's function returns for what it has nothing to say to: the type's `other` is called,
 * and without that a call is refused with -ENOSYS, a timeout forgotten, any other message a dead
 * letter. */
#define FIBRIL_UNHANDLED (-10011)

struct fibril_machine_state {
    const char *name;
    int (*happens)(struct fibril_machine *m, void *data, const struct fibril_happening *h);
    /* The state is entered: from `old`, which is the same one at the beginning and after
     * fibril_machine_enter_again. Before any event. It may set timeouts; it must not ask for
     * another state, postpone, or have something happen. NULL: nothing. */
    int (*enter)(struct fibril_machine *m, void *data, unsigned old);
};

/* The code of a machine. It must stay in place while machines of it run. */
struct fibril_machine_type {
    const char *name;
    size_t data_bytes; /* of what it knows beside its state: zero before init, aligned for anything
                        */
    const struct fibril_machine_state *states;
    unsigned n_states;
    unsigned postponed_max; /* events; 0 means 65,536. Beyond it a call that is postponed is refused
                               with -EAGAIN, anything else dropped, and counted */
    /* As that of a server. fibril_machine_go says the first state; else it is state 0. */
    int (*init)(struct fibril_machine *m, void *data, void *arg);
    /* An event that its state left unhandled. */
    int (*other)(struct fibril_machine *m, void *data, const struct fibril_happening *h);
    void (*terminate)(struct fibril_machine *m, void *data, int reason);
    /* This type takes over: as of a server, and *ret_state, which is the number of the old state at
     * first, is the number in this one. NULL: both the same, with as many states. */
    int (*change)(struct fibril_machine *m, void *data, unsigned *ret_state,
                  const struct fibril_machine_type *old, void *old_data, void *extra);
    /* As that of a server; the name of the state and ": " are put before it. */
    void (*describe)(const void *data, char *text, size_t size);
};

/* Starts a machine and returns when its init has, and its first state been entered. As
 * fibril_server_start. */
FIBRIL_API int fibril_machine_start(const struct fibril_machine_type *type, void *arg,
                                    const struct fibril_actor_opts *opts, int64_t deadline_ns,
                                    uint64_t *ret_actor);
/* As fibril_server_replace, of a machine. No state is entered by that; timeouts and what was
 * postponed stay. MAY PARK. */
FIBRIL_API int fibril_machine_replace(uint64_t actor, const struct fibril_machine_type *type,
                                      void *extra, int64_t deadline_ns);

/* ---- Inside its callbacks; none parks -------------------------------------------------------- */

/* Returns the state it is in. */
FIBRIL_API unsigned fibril_machine_state(const struct fibril_machine *m);
/* Goes to a state. If that is the present one nothing changes. If there is no such state, or this
 * is said while one is entered, the machine fails with -EINVAL. */
FIBRIL_API void fibril_machine_go(struct fibril_machine *m, unsigned state);
/* Has the present state entered anew; nothing else happens by that. */
FIBRIL_API void fibril_machine_enter_again(struct fibril_machine *m);
/* The present event comes again after the next change of state. Not for timeouts. */
FIBRIL_API void fibril_machine_postpone(struct fibril_machine *m);
/* Has a message, which is taken, come as an event of the machine's own, before all that waits; of
 * several in one callback the first one first. */
FIBRIL_API void fibril_machine_happen(struct fibril_machine *m, struct fibril_message *message);
/* Makes the message of the present event the caller's own. NULL for timeouts. */
FIBRIL_API struct fibril_message *fibril_machine_take(struct fibril_machine *m);

/* Timeouts, in nanoseconds from now; 0 comes before any message that waits, FIBRIL_FOREVER cancels,
 * a new one takes the place of the old one. They need no message and no room in the mailbox. One
 * that is due comes before messages that wait, but for the quiet one. */

/* Comes if the machine is in this state, or in the one that it is going to, for so long. */
FIBRIL_API void fibril_machine_state_timeout(struct fibril_machine *m, int64_t ns);
/* Comes if there is no other event for so long: any ends it. */
FIBRIL_API void fibril_machine_quiet_timeout(struct fibril_machine *m, int64_t ns);
/* Comes in any state. There can be many, told apart by id. -ENOMEM. */
FIBRIL_API int fibril_machine_timeout(struct fibril_machine *m, uint64_t id, int64_t ns);

#ifdef __cplusplus
}
#endif

#endif
