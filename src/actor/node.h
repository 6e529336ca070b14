/* SPDX-License-Identifier: MIT */
/*
 * A connection to another process, and what the files about it share.
 *
 *   frame.c    frames as bytes              remote.c   records of actors over there
 *   wire.c     messages as bytes            export.c   actors of here that are known there
 *   out.c      what is to be written        in.c       what was read
 *   node.c     the connection's life        worker.c   processes that are started connected
 *
 * The actor of a connection writes; a second fibril reads and never waits for anything but bytes,
 * so that signals are heard however full the mailboxes are. What goes out stands in three lanes:
 * control, which goes first and needs no room; replies and ends, in their order, since the end of
 * an actor must not overtake its reply; messages, which wait in the mailboxes of remote.c for
 * credit of their targets. A large message or reply is cut up, so none holds up what is urgent.
 *
 * All of it belongs to the loop of the connection. What cannot be told to the other side, for want
 * of memory, ends the connection: a lost signal is worse than a lost connection, which all see.
 */
#ifndef FIBRIL_ACTOR_NODE_H
#define FIBRIL_ACTOR_NODE_H

#include <fibril/node.h>

#include "actor/frame.h"
#include "actor/remote.h"
#include "actor/wire.h"
#include "base/compiler.h"
#include "base/map.h"

struct fibril__node;

/* ---- remote.c ---- */

/* What the record of an actor elsewhere has besides. */
struct fibril__remote {
    struct fibril__map_node by_far; /* first; by its number over there */
    struct fibril__link dirty;      /* in the node's list, while there is something to send */
    struct fibril__actor *actor;
    struct fibril__node *node;
    uint64_t far;
    uint32_t window, unacked; /* messages that may be, and are, under way */
    uint64_t unacked_bytes;
};

/* The record of an actor over there, made if need be. NULL: no memory, or too many. */
struct fibril__remote *fibril__remote_import(struct fibril__node *node, struct fibril__ref ref);
/* NULL: it is not known. */
struct fibril__remote *fibril__remote_find(struct fibril__node *node, uint64_t far);
/* The record's own part; a is remote. */
struct fibril__remote *fibril__remote_of(const struct fibril__actor *a);
/* Its process tells what its mailbox takes now. */
void fibril__remote_terms(struct fibril__remote *r, struct fibril__ref ref);
/* It has ended. */
void fibril__remote_end(struct fibril__remote *r, int reason);
/* The record that all streams of the node hang on: makes it, ends it. */
int fibril__remote_open(struct fibril__node *node);
void fibril__remote_close(struct fibril__node *node);
/* The giver of a stream that is taken here has ended. */
void fibril__remote_broken(struct fibril__node *node, uint64_t stream, int error);
/* The half of the link or stream that has this number and was asked for by that side. */
struct fibril__half *fibril__remote_half(struct fibril__remote *r, uint8_t kind, unsigned side,
                                         uint64_t number);

/* ---- export.c ---- */

/* An actor of this process that the other one knows. Lives until both the actor has ended, or the
 * connection, and all that came for it is delivered. */
struct fibril__export {
    struct fibril__map_node by_id;       /* first */
    struct fibril__node *node;           /* NULL: over there it has ended */
    struct fibril_message *first, *last; /* came for a full mailbox; by next */
    bool delivering;                     /* a fibril does so */
    uint32_t window, window_max;         /* that was told last; the largest */
    uint32_t came, done; /* messages not credited yet, and those of them that were delivered */
    uint64_t came_bytes, done_bytes;
};

/* What to call `actor` over there, which gets to know it by that. No memory: the node fails. */
struct fibril__ref fibril__export(struct fibril__node *node, uint64_t actor);
struct fibril__export *fibril__export_find(struct fibril__node *node, uint64_t id);
/* Whether the other side may send one more message for e. */
bool fibril__export_admits(const struct fibril__export *e);
/* m, of that many bytes on the way, is for e; its kind and from are set. */
void fibril__export_deliver(struct fibril__export *e, struct fibril_message *m, uint64_t bytes);
/* Puts m behind those that wait for room. */
void fibril__export_hold(struct fibril__export *e, struct fibril_message *m, uint64_t bytes);
/* It came for e, and there is nothing to deliver. */
void fibril__export_skip(struct fibril__export *e, uint64_t bytes);
/* The actor has ended, or the connection has: nothing more comes for it. */
void fibril__export_end(struct fibril__export *e);

/* ---- out.c ---- */

struct fibril__buffer {
    uint8_t *bytes;
    size_t at, len, room; /* from at to len they are to go out */
};

/* A message on its way out, by frames. */
struct fibril__outgoing {
    struct fibril_message *message; /* NULL: none */
    uint64_t to;                    /* over there */
    size_t at;                      /* how far */
    uint8_t type;
};

struct fibril__out {
    struct fibril__buffer control, replies, now; /* whole frames; now: being written */
    struct fibril__outgoing message;
    struct fibril__list dirty; /* of struct fibril__remote */
    bool replied;              /* the last frame of the two lower lanes was a reply's */
};

/* Appends a frame to the control lane, or to that of replies. */
void fibril__out_control(struct fibril__node *node, const struct fibril__frame *f);
void fibril__out_reply(struct fibril__node *node, const struct fibril__frame *f);
/* Appends a whole reply, which is taken. */
void fibril__out_whole(struct fibril__node *node, struct fibril_message *m, uint64_t to);
/* Moves what may go out into `now`, up to a limit; returns how many bytes stand there. */
size_t fibril__out_fill(struct fibril__node *node);
void fibril__out_fini(struct fibril__node *node);

/* ---- in.c ---- */

/* A message that comes in, by frames. */
struct fibril__incoming {
    struct fibril_message *message; /* NULL: none, or it needs decode */
    struct fibril_wire *wire;       /* what decode will read */
    size_t have, total;
    struct fibril_from from; /* the caller, as it is called here, or the call of a reply */
    uint64_t to, tag;
    uint8_t kind;
    bool busy, unknown; /* no such type here */
};

struct fibril__in {
    struct fibril__incoming message, reply;
};

/* Does what the frame says. Returns 0, or -errno, and then the node has failed. Never parks. */
int fibril__in_frame(struct fibril__node *node, const struct fibril__frame *f);
void fibril__in_fini(struct fibril__node *node);

/* ---- node.c ---- */

/* Somebody who has asked for a name over there. */
struct fibril__asked {
    struct fibril__link link;
    struct fibril_from from;
    uint64_t number;
};

struct fibril__node {
    struct fibril__link link;    /* of all nodes of the process, for forks */
    struct fibril__actor *actor; /* NULL: has not begun */
    const struct fibril_transport *transport;
    void *object;
    struct fibril *reader;
    struct fibril__map remotes, exports;
    struct fibril__remote *streams; /* see fibril__remote_open */
    struct fibril__out out;
    struct fibril__in in;
    struct fibril__list asked;
    uint64_t numbers; /* given to links and questions */
    size_t remotes_max;
    uint64_t window_bytes, far_window_bytes; /* to one actor here; to one over there */
    uint32_t far_frame_max;                  /* that the other side reads */
    int64_t silence_ns, heard_ns, spoke_ns;
    size_t held;                  /* messages that came for full mailboxes */
    struct fibril_node_info info; /* what came with the greeting, and the sums */
    int reason;                   /* over: why */
    char text[160];
    bool over; /* nothing is read or written any more */
};

/* The connection ends for a reason, which the text names. */
void fibril__node_fail(struct fibril__node *node, int reason, const char *format, ...) PRINTF(3, 4);
/* There is something to do for its actor. */
void fibril__node_wake(struct fibril__node *node);

#endif
