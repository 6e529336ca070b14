/* SPDX-License-Identifier: MIT */
/*
 * What servers and state machines have in common: a start that waits for init, a loop, requests
 * that every behaviour answers, and an end that describes, terminates and frees.
 *
 * Who has the record: whoever starts the actor makes it and keeps it until the actor has said that
 * its init succeeded; from then on it is the actor's own. If init fails, or never begins, the
 * starter frees it when the actor has ended; so do starters that do not wait, in any case. So
 * nobody needs to count references, and an actor that is told to end before it has begun leaks
 * nothing.
 */
#ifndef FIBRIL_ACTOR_BEHAVE_H
#define FIBRIL_ACTOR_BEHAVE_H

#include <fibril/server.h>

struct fibril__behave;

enum fibril__behave_sort { FIBRIL__SERVER, FIBRIL__MACHINE };

struct fibril__behave_ops {
    enum fibril__behave_sort sort;
    int (*init)(struct fibril__behave *b, void *arg);
    /* Before each wait: does what is due without a message, and says until when to wait. */
    int (*before)(struct fibril__behave *b, int64_t *ret_deadline_ns);
    /* Nothing came until then. */
    int (*timeout)(struct fibril__behave *b);
    /* Takes m. */
    int (*message)(struct fibril__behave *b, struct fibril_message *m);
    void (*terminate)(struct fibril__behave *b, int reason);
    int (*replace)(struct fibril__behave *b, const void *type, void *extra);
    /* Returns false if there is nothing to say. */
    bool (*describe)(struct fibril__behave *b, char *text, size_t size);
    void (*free)(struct fibril__behave *b);
};

/* What an actor of a behaviour begins with. */
struct fibril__behave {
    const struct fibril__behave_ops *ops;
    uint64_t parent; /* who is linked to it as its starter; 0: nobody */
    /* Until init has succeeded: */
    void *arg;
    struct fibril_message *ack; /* what tells the starter so */
    struct fibril_from starter; /* ref 0: the ack is sent, not a reply */
    int error;                  /* of init */
};

/* Starts b and waits for its init; b is taken in every case. */
int fibril__behave_start(struct fibril__behave *b, void *arg, const struct fibril_actor_opts *opts,
                         int64_t deadline_ns, uint64_t *ret_actor);

/* Starts b, linked to the caller, without waiting: the caller gets a message FIBRIL__TAG_STARTED
 * with the number, unless the exit signal overtakes it. b stays the caller's, to be released when
 * the actor has ended, or on -errno. */
int fibril__behave_spawn(struct fibril__behave *b, void *arg, const struct fibril_actor_opts *opts,
                         uint64_t *ret_actor);
void fibril__behave_release(struct fibril__behave *b);

/* A server that has not been started. */
int fibril__server_new(const struct fibril_server_type *type, struct fibril__behave **ret_b);

int fibril__behave_replace(uint64_t actor, enum fibril__behave_sort sort, const void *type,
                           void *extra, int64_t deadline_ns);

/* Nobody handles m, which is taken: a call is refused, anything else a dead letter. */
void fibril__behave_unhandled(struct fibril_message *m);

enum {
    FIBRIL__TAG_STOP_ = 200,
    FIBRIL__TAG_STATUS_,
    FIBRIL__TAG_REPLACE_,
    FIBRIL__TAG_STARTED_,
};
#define FIBRIL__TAG(what) (UINT64_C(1) << 63 | (uint64_t)(what))
#define FIBRIL__TAG_STARTED FIBRIL__TAG(FIBRIL__TAG_STARTED_)

#endif
