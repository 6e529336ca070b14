/* SPDX-License-Identifier: MIT */
/*
 * The model that scripts are checked against, and the fibrils that play them. One world at a time.
 */
#ifndef FIBRIL_TESTS_SIM_WORLD_H
#define FIBRIL_TESTS_SIM_WORLD_H

#include "script.h"

#include <fibril/fibril.h>

enum {
    PLAYERS = 24,
    CHANS = 4,
    LOCKS = 3,
    SEMS = 2,
    PARTIES = 3,
    SENDS = 64, /* by one player to one channel */
    WORDS = 5,  /* of a large element */
    QUEUE = 64,
};

/* What has become of one element. */
enum { UNUSED_YET = 0, TRYING = 1, TAKEN = 2, REFUSED = 4, ARRIVED = 8 };

struct chan {
    struct fibril_chan *chan;
    size_t words; /* of an element */
    bool closed;
    int64_t closed_ns;
    uint8_t fate[PLAYERS][SENDS];
};

struct lock {
    struct fibril_mutex *mutex;
    int owner;        /* player or -1 */
    int queue[QUEUE]; /* players that wait, first come first; those overtaken are skipped */
    int queued;
    bool overtaken[PLAYERS]; /* somebody behind has the lock: this wait can only fail */
    int64_t unlocked_ns;
    struct fibril_cond *cond;
    unsigned signals;
};

struct sem {
    struct fibril_sem *sem;
    int64_t tokens;
};

struct shared { /* rwlock */
    struct fibril_rwlock *lock;
    int readers, writer;
    int64_t asked_or_unlocked_ns; /* whoever asks may have it before the model knows */
};

struct tasks { /* wait group */
    struct fibril_group *group;
    int count;
    unsigned ends; /* how often the count came back to zero */
    int64_t ended_ns;
};

struct meeting { /* barrier */
    struct fibril_barrier *barrier;
    int came, passed, last; /* calls begun, those that met the others, those that came last */
};

struct first { /* once */
    struct fibril_once once;
    bool running, done;
    int inside; /* calls that have not returned */
};

struct group {
    struct fibril_scope *scope;
    int first_error;
    int alive;
    bool cancelled, closing;
    int64_t deadline_ns;
    int owner;
};

struct player {
    int index;
    struct fibril *handle; /* NULL: none, or joined */
    int64_t ended_ns;
    bool ended, claimed; /* claimed: somebody joins it */
    int result;
    bool born_cancelled; /* into a scope that had been */
    bool cancelled;      /* surely */
    int shield;
    int operations;      /* still to do */
    struct group *group; /* the scope it is in, or NULL */
    bool owns[LOCKS];
    int holds; /* rwlock: 0, 1 read, 2 write */
    unsigned sends[CHANS];
    int last[CHANS][PLAYERS]; /* number of the last element it had from each sender */
};

struct world {
    const struct script *script;
    size_t at;
    uint64_t random;
    int64_t now_ns;
    uint64_t steps; /* operations begun, by anybody */
    struct script_result result;
    struct player players[PLAYERS];
    int count;
    struct chan chans[CHANS];
    struct lock locks[LOCKS];
    struct sem sems[SEMS];
    struct shared shared;
    struct tasks tasks;
    struct meeting meeting;
    struct first first;
    struct fibril_event *event;
    struct group groups[PLAYERS]; /* not with their owners: others look at them, and stacks move */
    int group_count;
    unsigned event_sets;
    int64_t event_set_ns;
    bool event_is_set;
};

extern struct world world;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            script_failed(world.script, __FILE__, __LINE__, #x);                                   \
        }                                                                                          \
    } while (0)

/* A choice below n. When the bytes of a fuzzer are used up, always 0. */
unsigned choose(unsigned n);
/* Whether there is nothing left to choose from. */
bool used_up(void);

/* An operation that may wait. */
struct step {
    struct player *self;
    int64_t deadline_ns;
    uint64_t number;       /* steps when it began */
    bool cancelled_before; /* and not shielded */
};

struct step step_begin(struct player *self, const char *what, int object);
/* The same with a deadline of its own choice. */
struct step step_wait(struct player *self, const char *what, int object);
/* Checks a result against what is allowed to any wait and returns it. */
int step_end(struct step *step, int rc);

/* Whether a wait that timed out should have been ended by what happened at at_ns: clearly before
 * its deadline. */
bool was_missed(const struct step *step, int64_t at_ns);

/* Starts a player, NULL when there are enough; in a scope if group is given. */
struct player *player_new(struct group *group);
/* What a player does, from the stack up. */
int player_main(void *arg);

/* Plays one operation; they are in ops_*.c. */
void play_chan(struct player *self);
void play_select(struct player *self);
void play_sync(struct player *self);
void play_life(struct player *self);
void play_meet(struct player *self);
void meet_begin(void);
void meet_end(void);
void sync_leave(struct player *self);            /* gives back all that self holds */
void chan_drain(void);                           /* the end: what is left in buffers arrives */
void scope_end(struct player *self, int result); /* a member has ended */
bool may_be_cancelled(const struct player *self);

#endif
