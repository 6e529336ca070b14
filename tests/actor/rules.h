/* SPDX-License-Identifier: MIT */
/*
 * A model of the rules of actors: plain arrays that say who lives, who has which name, what each
 * order of a script must return, and which signals and messages each actor is to receive, in which
 * order. The rules are Erlang's with the deviations of docs/actors.md: who is told to end lives
 * until its function has returned; mailboxes are bounded; signals overtake messages.
 *
 * Time goes in steps. In each of them one order is given, then timers send, then waits end. A step
 * is over when all loops rest, so what it brings has all arrived: signals of one step may come in
 * any order, for they come from different pairs, but none before those of an earlier step.
 */
#ifndef FIBRIL_TESTS_ACTOR_RULES_H
#define FIBRIL_TESTS_ACTOR_RULES_H

#include <fibril/actor.h>

enum {
    R_ACTORS = 8, /* and the conductor, who gives the orders, as number R_ACTORS */
    R_NAMES = 3,
    R_MONITORS = 6, /* of one actor */
    R_LOG = 160,    /* what one receives between two looks at it */
    R_TIMERS = 8,
    R_FOR_EVER = 1 << 30,
    R_BURST = 3, /* messages that one order sends */
};

enum r_command {
    R_LINK,
    R_UNLINK,
    R_MONITOR,
    R_DEMONITOR,
    R_TRAP,
    R_EXIT,
    R_END,
    R_SPAWN,
    R_TELL,
    R_CALL,
    R_TIMER,
    R_REGISTER,
    R_UNREGISTER,
    R_WAIT,
    R_COMMANDS,
};

/* Where one waits: a place to be killed in. */
enum r_place {
    R_SLEEPS,
    R_CALLS,
    R_SENDS,
    R_OPENS, /* a stream, and waits for its messages */
    R_CHOOSES,
    R_LOCKS,
    R_JOINS,
    R_TAKES, /* from a channel */
    R_GIVES, /* to a channel */
    R_DOWNS, /* a semaphore */
    R_READS, /* from a pipe */
    R_SHIELDED,
    R_PLACES,
};

/* What an actor is ordered to do, and what the model says it returns. */
struct r_order {
    enum r_command what;
    int whom;       /* an actor by its place */
    uint64_t actor; /* its number */
    int value;      /* reason, flag, count, name, place */
    int steps;      /* timers, waits */
    int slot;       /* of a monitor, a timer */
    bool link, monitor, trap;
    int name; /* of one that is spawned; -1: none */
    int expected;
    uint64_t first; /* value of the first message of a burst */
    struct fibril_mailbox mailbox;
    unsigned loop;
    bool least_loaded, copied;
    int64_t now_ns; /* the beginning of the step */
};

/* Something received, or to be received. */
struct r_event {
    uint64_t tag; /* EXIT, DOWN, or 0: a message */
    uint64_t actor, value;
    int reason, step;
    bool either; /* or NOPROC: it ended while it was linked or monitored */
};

struct r_log {
    struct r_event event[R_LOG];
    int n;
};

enum r_state { R_DEAD, R_ALIVE, R_TOLD };

struct r_actor {
    uint64_t actor; /* its number, set by who spawned it */
    enum r_state state;
    int reason; /* TOLD */
    bool traps, shielded;
    int waits_until; /* a step; 0: it receives */
    int name;        /* -1: none */
    bool linked[R_ACTORS];
    int monitored[R_MONITORS]; /* whom; -1: nobody */
    struct fibril_mailbox mailbox;
    struct r_log signals, messages; /* to be received */
};

struct r_timer {
    int step; /* 0: there is none */
    uint64_t to, value;
};

struct r_model {
    struct r_actor actor[R_ACTORS];
    struct r_timer timers[R_TIMERS];
    int step;
    int names[R_NAMES]; /* whose; -1: nobody's */
    uint64_t dead_letters, dropped, late_replies, told, timeouts;
    bool calls_wait[R_ACTORS][R_LOG]; /* which of the messages that wait are calls */
};

void r_begin(struct r_model *model);

/* An actor begins in a place that is free. */
void r_born(struct r_model *model, int i, const struct r_order *o);
/* Actor i is given the order; says what it returns. */
void r_ordered(struct r_model *model, int i, struct r_order *o);
/* An exit signal comes, from a number. */
void r_signalled(struct r_model *model, int i, uint64_t from, int reason);
/* Actor i, who traps exits, was ordered to link or monitor `actor`, and that one is killed at the
 * same moment. */
void r_raced(struct r_model *model, int i, uint64_t actor);
/* The rest of the step: timers, ends of waits. */
void r_passed(struct r_model *model);

/* Compares what one has received, and forgets it; NULL: it is right. */
const char *r_differs(struct r_model *model, int i, struct r_log *signals, struct r_log *messages);

#endif
