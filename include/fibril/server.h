/* SPDX-License-Identifier: MIT */
/*
 * Servers: an actor in callbacks, as Erlang's gen_server. What every actor needs again (a loop that
 * receives, a start that says whether it succeeded, an end that releases, replacement of the code
 * while it runs) is written once, here, and the program writes what happens at each message:
 *
 *     struct counter { long n; };
 *
 *     static int count_call(struct fibril_server *s, void *state, struct fibril_message *m)
 *     {
 *         struct counter *c = state;
 *         fibril_server_reply(fibril_message_from(m), &c->n, sizeof c->n);
 *         return 0;
 *     }
 *
 *     static const struct fibril_server_type counter = {
 *         .name = "counter", .state_bytes = sizeof(struct counter),
 *         .call = count_call, .cast = count_cast};
 *
 *     fibril_server_start(&counter, NULL, NULL, FIBRIL_FOREVER, &actor);
 *     fibril_server_call(actor, GET, NULL, 0, fibril_after(SECOND), &n, sizeof n);
 *
 * Callbacks run on the server's own fibril, one at a time, and MAY PARK; meanwhile messages wait.
 * Those that return int go on with 0; anything else ends the server for that reason, FIBRIL_STOP
 * for the reason "normal".
 */
#ifndef FIBRIL_SERVER_H
#define FIBRIL_SERVER_H

#include <fibril/actor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a callback returns to end its actor normally. */
#define FIBRIL_STOP (-10010)

/* A server, as its own callbacks see it. */
struct fibril_server;

/* The code of a server. It must stay in place while servers of it run. What is NULL is not done. */
struct fibril_server_type {
    const char *name;   /* for logs; may be NULL */
    size_t state_bytes; /* of the state, which is zero before init and aligned for anything */

    /* Begins. Whoever starts the server waits for it: a negative errno is what the start returns,
     * FIBRIL_STOP and positive results make that -ECANCELED; nothing else of it is called then. */
    int (*init)(struct fibril_server *s, void *state, void *arg);
    /* A call, a cast, and anything else: plain messages and signals. m is freed afterwards, unless
     * it is taken. A call is replied to with fibril_server_reply or fibril_actor_reply, now or
     * later, by anybody. Without `call` calls are refused with -ENOSYS; what comes without a
     * callback for it is a dead letter. */
    int (*call)(struct fibril_server *s, void *state, struct fibril_message *m);
    int (*cast)(struct fibril_server *s, void *state, struct fibril_message *m);
    int (*info)(struct fibril_server *s, void *state, struct fibril_message *m);
    /* Nothing has come for as long as fibril_server_set_idle said. */
    int (*idle)(struct fibril_server *s, void *state);
    /* What fibril_server_go_on has asked for. */
    int (*go_on)(struct fibril_server *s, void *state, void *arg);
    /* The end, always called after an init that succeeded, to release what the state holds. If it
     * was told to end, without trapping that, or was killed, every wait in it fails with
     * -ECANCELED. */
    void (*terminate)(struct fibril_server *s, void *state, int reason);
    /* This type takes over from another: it makes its own state, zero at first, out of the old one.
     * Not 0: all stays as it was, and whoever asked gets that. NULL: the memory of the state goes
     * on as it is, which must have the same size. */
    int (*change)(struct fibril_server *s, void *state, const struct fibril_server_type *old,
                  void *old_state, void *extra);
    /* Writes a string that says the state: into the report of a crash, before terminate, and for
     * fibril_server_status. Must not park. */
    void (*describe)(const void *state, char *text, size_t size);
};

/* Starts a server and returns when its init has. With opts->link the caller is its parent: if it
 * traps exits, the parent's exit signal does not go to `info` but ends it in good order. At the
 * deadline, and when the caller is cancelled, the server is killed, and waited for all the same:
 * arg is not used any more when this fails. MAY PARK. What init returned, without an exit signal
 * then; -EPIPE (it was told to end before it began), -ETIMEDOUT, -ECANCELED, and the errors of
 * fibril_actor_spawn. */
FIBRIL_API int fibril_server_start(const struct fibril_server_type *type, void *arg,
                                   const struct fibril_actor_opts *opts, int64_t deadline_ns,
                                   uint64_t *ret_actor);

/* ---- Inside its callbacks -------------------------------------------------------------------- */

/* Makes the message that is being handled the caller's own: to keep, to send on, or to free. */
FIBRIL_API struct fibril_message *fibril_server_take(struct fibril_server *s);

/* From now on `idle` is called whenever nothing has come for ns nanoseconds, again and again. 0
 * ends it. */
FIBRIL_API void fibril_server_set_idle(struct fibril_server *s, int64_t ns);

/* Has `go_on` called with arg before the next message is looked at: for the long part of an init,
 * and for work in steps. Once; a second time before that replaces arg. */
FIBRIL_API void fibril_server_go_on(struct fibril_server *s, void *arg);

/* Replies to a call with a copy of the data. Any actor, never parks. If there is no memory the call
 * fails with -ENOMEM, and so does this. */
FIBRIL_API int fibril_server_reply(struct fibril_from from, const void *data, size_t size);

/* ---- From outside ---------------------------------------------------------------------------- */

/* Calls with a copy of the data, and copies the reply into ret_reply, which it must fill exactly
 * (-EMSGSIZE otherwise). Both may be NULL with size 0. MAY PARK. Errors as fibril_actor_call. */
FIBRIL_API int fibril_server_call(uint64_t actor, uint64_t tag, const void *data, size_t size,
                                  int64_t deadline_ns, void *ret_reply, size_t reply_size);
/* Casts a copy of the data. MAY PARK, and fails, as fibril_actor_send; -ENOMEM. */
FIBRIL_API int fibril_server_cast(uint64_t actor, uint64_t tag, const void *data, size_t size,
                                  int64_t deadline_ns);

/* The following go to servers and to the other behaviours (machine.h, bus.h, pool.h), in order with
 * messages that were sent before. A plain actor does not answer them. */

/* Has it end for a reason, with its terminate, and waits for that. MAY PARK. 0; -ESRCH if it had
 * ended before, -ETIMEDOUT, -ECANCELED, -EDEADLK (itself). */
FIBRIL_API int fibril_server_stop(uint64_t actor, int reason, int64_t deadline_ns);
/* Writes what its `describe` says, "" if it has none. MAY PARK. -ESRCH, -EPIPE, -ETIMEDOUT, ... */
FIBRIL_API int fibril_server_status(uint64_t actor, char *ret_text, size_t size,
                                    int64_t deadline_ns);
/* Has the server go on with other code, between two messages: type->change gets `extra`. Waiting
 * messages, timers, links and the actor's number stay. The type that was is not used any more when
 * this has returned 0. MAY PARK. What change returned, -EINVAL (no server, or no change and another
 * size), -ENOMEM, -ESRCH, -EPIPE, -ETIMEDOUT (it may still happen), ... */
FIBRIL_API int fibril_server_replace(uint64_t actor, const struct fibril_server_type *type,
                                     void *extra, int64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#endif
