/* SPDX-License-Identifier: MIT */
/*
 * Nodes: actors of other processes of this machine. Two processes join the ends of a UNIX stream
 * socket; from then on the actors of one that the other has heard of have numbers there too, which
 * work like those of its own actors: send, call, link, monitor, exit, names, topics and timers do
 * not know the difference, and neither does back-pressure.
 *
 *     fibril_worker_start(&(struct fibril_worker_opts){.argv = argv}, deadline_ns, &node);
 *     fibril_actor_whereis_at(node, "shop", deadline_ns, &shop);
 *     fibril_actor_call(shop, m, deadline_ns, &reply);
 *
 * The connection is an actor itself, and the node's number is its number: who monitors or links it
 * learns of the end of the connection, fibril_actor_exit ends it, and it can have a name. When it
 * ends, for whatever reason (the other process was killed, a frame was bad, nothing was heard for
 * too long), all actors of the other process have ended as far as this one knows, for the reason
 * FIBRIL_EXIT_NOCONNECTION. A new connection brings new numbers: the old ones stay dead.
 *
 * The other process is not trusted with more than it was told: it reaches actors that were named to
 * it (by a message that mentions them, a call that they made, or a name that it asked for) and no
 * others, cannot bring more than their mailboxes take, and is disconnected when it breaks the
 * rules. The child of a fork has no nodes: there all of them have ended.
 */
#ifndef FIBRIL_NODE_H
#define FIBRIL_NODE_H

#include <fibril/actor.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What messages are worth elsewhere ------------------------------------------------------- */

/* Messages without a type, and those whose type has no destroy, go as their bytes, and arrive
 * without a type. Others need encode and decode, and their type the same name in both processes,
 * where it must be made known: */

/* Makes a type with encode and decode known to the process, for ever; type and its name must stay
 * in place. Any OS thread, never parks. 0, also if it is known; -EEXIST: another one has that name;
 * -EINVAL (no name, or over 255 bytes; no decode), -ENOMEM. */
FIBRIL_API int fibril_message_type_register(const struct fibril_message_type *type);

/* Appends n bytes. For encode only. Never parks. -ENOMEM, -EMSGSIZE (over 64 MiB). */
FIBRIL_API int fibril_wire_put(struct fibril_wire *w, const void *bytes, size_t n);
/* Appends an actor, which the other process gets to know by that. For encode only. Never parks.
 * -ENOMEM, -E2BIG (over 1,024 in a message). */
FIBRIL_API int fibril_wire_put_actor(struct fibril_wire *w, uint64_t actor);
/* Takes the next n bytes. For decode only. Never parks. -EBADMSG if there are fewer. */
FIBRIL_API int fibril_wire_get(struct fibril_wire *w, void *ret_bytes, size_t n);
/* Takes an actor: the number that it has in this process. For decode only. Never parks. -EBADMSG.
 */
FIBRIL_API int fibril_wire_get_actor(struct fibril_wire *w, uint64_t *ret_actor);
/* Returns how many bytes are left, an actor being four. For decode only. Never parks. */
FIBRIL_API size_t fibril_wire_left(const struct fibril_wire *w);

/* ---- Connections ----------------------------------------------------------------------------- */

/* What carries the bytes of a connection: a stream that keeps their order. Functions get the object
 * that was given with them. receive and send MAY PARK, take a deadline as in io.h, and return how
 * many bytes (receive: 0 at the end) or -errno. */
struct fibril_transport {
    ssize_t (*receive)(void *object, void *buf, size_t len, int64_t deadline_ns);
    ssize_t (*send)(void *object, const void *buf, size_t len, int64_t deadline_ns);
    /* Ends receive and send at once, present ones and later ones. Never parks; may come twice. */
    void (*shut)(void *object);
    /* The last call, when nobody uses object any more. MAY PARK. */
    void (*close)(void *object);
    /* In the child of a fork: the child's share of object is given up, the connection itself is
     * not. May do only what a signal handler may. NULL: nothing to be done. */
    void (*forked)(void *object);
};

/* Options of a connection; all zero is the default. */
struct fibril_node_opts {
    const char *name;    /* of this process, for the other one; NULL: none; at most 255 bytes */
    int64_t silence_ns;  /* ends when nothing came, or nothing could be sent, for so long, as with a
                            process that was stopped; 0 means 30 s, FIBRIL_FOREVER never */
    size_t window_bytes; /* that may be under way to one actor here; 0 means 1 MiB */
    unsigned actors_max; /* of the other process that may be known here; 0 means 1,048,576 */
};

/* Greets whoever is at the other end of fd, a connected stream socket, and makes that process a
 * node of the calling loop. fd is taken in every case. opts may be NULL. MAY PARK, until the other
 * side has greeted. -EPROTO (it is no node), -EPROTONOSUPPORT (of another version), -EPIPE,
 * -ENOMEM, -EINVAL. */
FIBRIL_API int fibril_node_join(int fd, const struct fibril_node_opts *opts, int64_t deadline_ns,
                                uint64_t *ret_node);
/* The same over any transport; object is closed in every case. */
FIBRIL_API int fibril_node_join_by(const struct fibril_transport *transport, void *object,
                                   const struct fibril_node_opts *opts, int64_t deadline_ns,
                                   uint64_t *ret_node);
/* Ends a connection in good order: what was sent before goes out, for a second at most. The node
 * ends with FIBRIL_EXIT_SHUTDOWN, on the other side too. Never parks. 0, also if it has ended;
 * -ENOMEM. */
FIBRIL_API int fibril_node_leave(uint64_t node);

/* Asks the node who has a name there, 0 for nobody. MAY PARK. As fibril_actor_call: -EPIPE or
 * -ESRCH if the connection ends or has ended; -EINVAL. */
FIBRIL_API int fibril_actor_whereis_at(uint64_t node, const char *name, int64_t deadline_ns,
                                       uint64_t *ret_actor);

/* Returns the node that an actor of another process belongs to, 0 for actors of this process, for
 * those that have ended, and on other loops than the node's. Never parks. */
FIBRIL_API uint64_t fibril_node_of(uint64_t actor);

/* One connection. */
struct fibril_node_info {
    char name[256]; /* of the other process, as it says */
    pid_t pid;      /* the same */
    uint64_t boot;  /* differs from process to process */
    size_t actors;  /* of the other process that are known here */
    size_t known;   /* actors of this process that are known there */
    size_t held;    /* messages that came for full mailboxes */
    size_t backlog; /* bytes of signals and replies that are to go out */
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
};
/* Fills ret_info for a node of the calling loop. Never parks. -ESRCH. */
FIBRIL_API int fibril_node_info(uint64_t node, struct fibril_node_info *ret_info);

/* ---- Worker processes ------------------------------------------------------------------------ */

/* A process that this one starts, and is connected to from the first. */
struct fibril_worker_opts {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
    const char *const *envp; /* NULL: the caller's */
    const char *cwd;         /* NULL: the caller's */
    const char *name;        /* that the node is registered under; NULL: none */
    int64_t start_ns;        /* it has so long to greet, by fibril_worker_join; 0 means 10 s */
    int64_t shutdown_ns;     /* to end after its node has ended, before SIGKILL; 0 means 5 s */
    struct fibril_node_opts node;
};

/* Starts the process and joins it. When its node ends, so does the process, which gets SIGTERM and,
 * if it does not end by that, SIGKILL; when it ends, its node does. When it cannot be
 * joined it has been killed. opts is the caller's again. MAY PARK. As fibril_process_start and
 * fibril_node_join; -EEXIST (the name). */
FIBRIL_API int fibril_worker_start(const struct fibril_worker_opts *opts, int64_t deadline_ns,
                                   uint64_t *ret_node);
/* The same as the function of a supervisor's child (or of any actor); arg is a struct
 * fibril_worker_opts, which must stay in place. Returns when the process has ended: 0 if with
 * status 0, else the status, 128 and the signal's number, or what kept it from starting. MAY PARK.
 */
FIBRIL_API int fibril_worker_run(void *arg);
/* In the worker: joins the process that has started this one. opts may be NULL. MAY PARK. As
 * fibril_node_join; -ENOTCONN if this process was not started as a worker, or has joined already.
 */
FIBRIL_API int fibril_worker_join(const struct fibril_node_opts *opts, int64_t deadline_ns,
                                  uint64_t *ret_node);

#ifdef __cplusplus
}
#endif

#endif
