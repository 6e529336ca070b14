/* SPDX-License-Identifier: MIT */
/*
 * The model that scripts on several loops are checked against. Its OS threads run in turns
 * (base/turns.h), and pass the turn inside fibril's calls only, so the model needs no lock.
 *
 * What another loop does arrives late, but no virtual time goes by while it is on its way: so a
 * wait that gave up although what it waited for had been there for SLACK_NS has lost a wake-up.
 */
#ifndef FIBRIL_TESTS_SIM_LOOPS_H
#define FIBRIL_TESTS_SIM_LOOPS_H

#include "script.h"

#include <fibril/embed.h>

enum {
    L_LOOPS = 4, /* at most, all through */
    L_SHORT = 3, /* that start and end meanwhile */
    L_PLAYERS = 32,
    L_CHANS = 4,
    L_LOCKS = 2,
    L_SEMS = 2,
    L_SENDS = 48,
    L_WORDS = 5,
    SLACK_NS = 1000000,
    L_ANYWHERE = 1000, /* struct lplayer.waits_on: in a select, or in a try */
};

#define L_NEVER INT64_MAX

enum { L_UNUSED = 0, L_TRYING = 1, L_TAKEN = 2, L_REFUSED = 4, L_ARRIVED = 8 };

struct lplayer {
    int index;
    struct fibril_loop *loop;
    struct fibril *handle; /* NULL: none, or joined */
    struct fibril_waker *waker;
    int64_t woken_ns; /* since when a wake waits to be taken; L_NEVER: none */
    int64_t ended_ns;
    int64_t cancel_ns, cancel_last_ns; /* asked for since, and not cleared; asked for last */
    bool cancel_maybe; /* one that was asked for may still be on its way, past a clear */
    bool ended, claimed, inside;
    int result, operations;
    int waits_on; /* a plain wait in progress: +1+c receives, -1-c sends, 0 neither, L_ANYWHERE */
    int64_t since_ns, deadline_ns;
    bool owns[L_LOCKS];
    int holds;
    unsigned sends[L_CHANS];
    int last[L_CHANS][L_PLAYERS];
};

struct lchan {
    struct fibril_chan *chan;
    size_t words;
    bool closed;
    int64_t closed_ns, put_ns;
    uint8_t fate[L_PLAYERS][L_SENDS];
};

struct llock {
    struct fibril_mutex *mutex;
    struct fibril_cond *cond;
    int owner;
    int64_t unlocked_ns;
    unsigned signals, signals_over; /* begun, and over: in between they may reach who comes later */
};

struct lsem {
    struct fibril_sem *sem;
    int64_t tokens, posted_ns;
};

struct lworld {
    const struct script *script;
    uint64_t random;
    int64_t now_ns;
    struct script_result result;
    struct lplayer players[L_PLAYERS];
    int count, alive;
    unsigned loops; /* all through */
    struct fibril_loop *loop[L_LOOPS];
    int shorts;
    struct lchan chans[L_CHANS];
    struct llock locks[L_LOCKS];
    struct lsem sems[L_SEMS];
    struct fibril_rwlock *rwlock;
    int readers, writer;
    int64_t rw_unlocked_ns;
    struct fibril_event *event;
    unsigned event_sets;
    int64_t event_set_ns;
};

extern struct lworld lworld;

/* Runs a script. Whatever it breaks ends in script_failed. */
void loops_run(const struct script *script, struct script_result *ret_result);

#define LCHECK(x)                                                                                  \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            script_failed(lworld.script, __FILE__, __LINE__, #x);                                  \
        }                                                                                          \
    } while (0)

unsigned lchoose(unsigned n);

/* Brackets an operation, and gives it a deadline. */
struct lstep {
    struct lplayer *self;
    int64_t since_ns, deadline_ns;
};
struct lstep lstep_begin(struct lplayer *self, const char *what, int object);
int lstep_end(struct lstep *step, int rc);

/* Whether a wait that timed out should have been ended by what was there at at_ns. */
bool lmissed(const struct lstep *step, int64_t at_ns);

/* Starts a player on a loop; without a handle if that loop will end. */
struct lplayer *lplayer_new(struct fibril_loop *loop, bool handle);

void lplay_chan(struct lplayer *self);
void lplay_select(struct lplayer *self);
void lplay_sync(struct lplayer *self);
void lplay_life(struct lplayer *self);
void lsync_leave(struct lplayer *self);
void lchan_drain(void);

#endif
