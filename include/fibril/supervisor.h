/* SPDX-License-Identifier: MIT */
/*
 * Supervisors: actors that start others, watch them, and start them again when they fail, as
 * Erlang's supervisor does. A tree of them is described in data:
 *
 *     static const struct fibril_child_spec workers[] = {
 *         {.id = "db", .fn = run_db, .restart = FIBRIL_RESTART_PERMANENT},
 *         {.id = "web", .fn = run_web},
 *     };
 *     static const struct fibril_supervisor_spec tree = {
 *         .strategy = FIBRIL_REST_FOR_ONE, .children = workers, .n_children = 2};
 *     fibril_supervisor_start(&tree, NULL, &top);
 *
 * Specifications are copied, with the strings and the children in them; what `arg` and `argv` point
 * to is not. To stop a supervisor send it an exit signal with FIBRIL_EXIT_SHUTDOWN.
 */
#ifndef FIBRIL_SUPERVISOR_H
#define FIBRIL_SUPERVISOR_H

#include <fibril/actor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who is started again when one child has failed. */
enum fibril_strategy {
    FIBRIL_ONE_FOR_ONE = 0, /* that child */
    FIBRIL_ONE_FOR_ALL,     /* all children: the others are ended first */
    FIBRIL_REST_FOR_ONE,    /* that child and those started after it */
    FIBRIL_SIMPLE, /* as one for one; the one specification is a pattern, children are started by
                      fibril_supervisor_add only, and have no id */
};

/* Whether a child that has ended is started again. */
enum fibril_restart {
    FIBRIL_RESTART_PERMANENT = 0, /* always */
    FIBRIL_RESTART_TRANSIENT,     /* unless its reason is normal or shutdown */
    FIBRIL_RESTART_TEMPORARY,     /* never; and it is forgotten */
};

/* How long a child may take to end before it is killed, beside a number of nanoseconds. */
#define FIBRIL_SHUTDOWN_DEFAULT 0 /* 5 s; a supervisor: for ever */
#define FIBRIL_SHUTDOWN_KILL (-1) /* not at all: it is killed at once */

struct fibril_supervisor_spec;

struct fibril_server_type;

/* A child; exactly one of fn, server, start, process and supervisor is given. Of SIMPLE children
 * `arg` comes from fibril_supervisor_add. */
struct fibril_child_spec {
    const char *id; /* unique in its supervisor; NULL only under SIMPLE */
    fibril_fn *fn;  /* an actor, or any function that a fibril can run */
    void *arg;
    /* A server (server.h): the supervisor waits for its init, and if that fails so does the start
     * of the child: of the supervisor, if it is among the first; fibril_supervisor_add returns it;
     * a restart is tried again, and counts. */
    const struct fibril_server_type *server;
    /* The same for actors of any kind that say how their start went: starts one with these opts,
     * linked to the caller, and returns when it has begun; 0 or -errno. MAY PARK. */
    int (*start)(void *arg, const struct fibril_actor_opts *opts, uint64_t *ret_actor);
    /* An OS process; argv[0] is looked up in PATH, NULL at the end. It ends normally with status 0;
     * else its reason is the status, or 128 and the signal's number. To be ended it gets SIGTERM,
     * and SIGKILL to be killed. */
    const char *const *process;
    const struct fibril_supervisor_spec *supervisor; /* a supervisor of its own */
    enum fibril_restart restart;
    int64_t shutdown_ns;
    /* For an `arg` that does not stay for ever: told true for each copy of the specification that
     * is made, and false when a copy is forgotten. Must not park. NULL: nobody is told. */
    void (*hold)(void *arg, bool on);
    struct fibril_actor_opts opts; /* link and ret_monitor are ignored */
};

struct fibril_supervisor_spec {
    const char *name; /* to be registered under; NULL: none */
    enum fibril_strategy strategy;
    unsigned intensity; /* more restarts than that within the period: it gives up, ends its children
                           and itself with FIBRIL_EXIT_SHUTDOWN. 0 means 1, UINT_MAX no limit */
    int64_t period_ns;  /* 0 means 5 s */
    int64_t backoff_ns; /* pause before the first restart of a series, doubled for each further one
                           up to backoff_max_ns; a series is over after a period without a restart.
                           0: none */
    int64_t backoff_max_ns;                   /* 0 means 30 s */
    const struct fibril_child_spec *children; /* started in this order, ended in the reverse one */
    size_t n_children;
};

/* Starts a supervisor and its children; returns when all of them have been started, those of its
 * supervisors included. It traps exits: an exit signal from anybody but a child ends it, its
 * children first, the last one first. opts (may be NULL) as for any actor. MAY PARK. -EINVAL (the
 * specification), -ENOMEM, -EEXIST, and what a child's start failed with: then nothing is left
 * running, and the caller gets no exit signal. */
FIBRIL_API int fibril_supervisor_start(const struct fibril_supervisor_spec *spec,
                                       const struct fibril_actor_opts *opts, uint64_t *ret_actor);

/* Starts one more child: of spec, or under FIBRIL_SIMPLE of the pattern, with spec NULL and this
 * argument. ret_child may be NULL. MAY PARK. -EEXIST (the id), -EINVAL, -ENOMEM, -ESRCH. */
FIBRIL_API int fibril_supervisor_add(uint64_t supervisor, const struct fibril_child_spec *spec,
                                     void *arg, int64_t deadline_ns, uint64_t *ret_child);
/* Ends a child and keeps its specification, unless it is temporary; it is not started again by
 * itself. MAY PARK. -ENOENT. */
FIBRIL_API int fibril_supervisor_end(uint64_t supervisor, const char *id, int64_t deadline_ns);
/* Ends the child with this number, which under FIBRIL_SIMPLE is forgotten. MAY PARK. -ENOENT. */
FIBRIL_API int fibril_supervisor_end_child(uint64_t supervisor, uint64_t child,
                                           int64_t deadline_ns);
/* Starts a child that was ended, or has ended, again. MAY PARK. -ENOENT, -EBUSY (it runs). */
FIBRIL_API int fibril_supervisor_restart(uint64_t supervisor, const char *id, int64_t deadline_ns,
                                         uint64_t *ret_child);
/* Forgets a child that has ended. MAY PARK. -ENOENT, -EBUSY (it runs). */
FIBRIL_API int fibril_supervisor_remove(uint64_t supervisor, const char *id, int64_t deadline_ns);

/* One child. */
struct fibril_child {
    char id[64];    /* "" under SIMPLE */
    uint64_t actor; /* 0: it does not run */
    uint64_t restarts;
    bool is_supervisor;
};
/* Stores up to n children in order; ret_n: how many there are. MAY PARK. */
FIBRIL_API int fibril_supervisor_children(uint64_t supervisor, struct fibril_child *ret_children,
                                          size_t n, int64_t deadline_ns, size_t *ret_n);

#ifdef __cplusplus
}
#endif

#endif
