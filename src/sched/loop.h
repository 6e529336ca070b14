/* SPDX-License-Identifier: MIT */
/*
 * A loop: the run queue, timers, poller and stacks of one OS thread. There is no scheduler stack to
 * switch to: whoever parks takes the next fibril from the queue and switches straight to it, and
 * polls where it stands when the queue is empty.
 */
#ifndef FIBRIL_SCHED_LOOP_H
#define FIBRIL_SCHED_LOOP_H

#include "base/heap.h"
#include "ctx/context.h"
#include "ctx/slots.h"
#include "sched/fibril.h"
#include "sched/inbox.h"
#include "sched/wait.h"

#include <pthread.h>
#include <stdatomic.h>

struct fibril__poller;
struct stop;

enum {
    FIBRIL__TICKS = 256, /* switches between two looks at the clock, the poller and the inbox */
    FIBRIL__SAMPLE_MASK = 63, /* one switch in 64 measures the run-queue delay */
};

struct fibril__counters {
    uint64_t switches, spawned, ended, yields, budget_yields, timeouts, cancels;
    uint64_t remote_wakes, polls, poll_events, stalls;
    uint64_t parks[FIBRIL__REASONS];
    uint64_t delay[FIBRIL_DELAY_BUCKETS], delay_ns; /* their sum */
};

struct fibril_loop {
    /* hot: touched by each switch */
    struct fibril *current;
    struct fibril *run_head, **run_tail; /* linked by link.next */
    int32_t ticks;                       /* until the next look outside */
    int32_t budget, budget_full; /* operations without a wait that the current fibril may still do
                                  */
    unsigned nopark;             /* nesting of fibril_nopark_begin */
    int64_t now_ns;              /* the poller's clock when last looked at */
    void (*on_switch)(struct fibril *from, struct fibril *to);
    struct fibril__machine machine;
    struct fibril__counters counters;

    struct fibril__slot_cache stacks;  /* of the default size */
    struct fibril__slot_cache records; /* of copied-stack fibrils */
    struct fibril__slot_cache *other_stacks[FIBRIL__SLOT_LOG2_MAX + 1];
    struct fibril__heap sleepers; /* deadlines of parked fibrils */
    struct fibril__heap timers;   /* struct fibril__timer */
    struct fibril__poller *poller;
    struct fibril__inbox inbox;
    _Atomic bool asleep; /* in the poller without a deadline of zero: senders must wake it */

    _Atomic unsigned senders; /* OS threads in the middle of sending to the inbox */
    _Atomic uint64_t sleeps;  /* how often `asleep` was set */
    uint64_t alive;           /* fibrils that are not daemons, the main one excluded */
    uint64_t daemons;
    uint64_t outside;               /* parked fibrils that an OS thread without a loop may wake */
    uint64_t next_id, last_id;      /* a block of fibril numbers */
    struct fibril__link *io_spares; /* records of waits from copied stacks, see io/op.c */
    unsigned io_spare_count;
    uint64_t random;        /* hard flavour: state of the shuffle */
    int64_t trimmed_ns;     /* when caches were last trimmed */
    struct fibril *drainer; /* the main fibril, waiting until the others have ended */
    struct fibril *serving; /* a started loop: its main fibril, waiting for orders */
    struct stop *stop;      /* a started loop: told to end, by whom */
    bool ending;            /* its daemons are being cancelled: new ones begin so */
    void (*on_still)(struct fibril_loop *loop); /* see fibril_embed_on_standstill */
    int64_t patience_ns, patience_max_ns;       /* until it is called */
    unsigned index;                             /* number in the process */
    uint32_t select_turn;                       /* where the next select starts to look */
    uint32_t forks;                             /* how often the process has become its own child */
    pthread_t thread;
    struct fibril_opts opts;
    struct fibril main;
    struct fibril__sites *sites;       /* per spawn site, under measure_stacks */
    void *signal_stack;                /* of the OS thread, for reports */
    _Atomic int64_t stalled_since_ns;  /* the stall watch asks for a report; 0: none wanted */
    _Atomic uint64_t stalled_progress; /* and what it saw: a report that comes later names the wrong
                                          fibril */
};

/* Appends f to the run queue. */
static inline void fibril__loop_push(struct fibril_loop *loop, struct fibril *f)
{
    f->link.next = NULL;
    *loop->run_tail = f;
    loop->run_tail = (struct fibril **)(void *)&f->link.next;
}

/* f, which takes turns with others, is ready; returns whether it has to wait until it is let. */
bool fibril__turns_back(struct fibril *f);

/* Makes f, parked on this loop and unlinked, ready. */
static inline void fibril__loop_ready(struct fibril_loop *loop, struct fibril *f)
{
    if (f->timer.index != FIBRIL__HEAP_OUT) {
        fibril__heap_remove(&loop->sleepers, &f->timer);
    }
    f->state = FIBRIL__READY;
    f->since_ns = loop->now_ns;
    if (UNLIKELY(f->flags & FIBRIL__F_TURNS) && fibril__turns_back(f)) {
        return;
    }
    fibril__loop_push(loop, f);
}

/* Takes the next fibril to run, waiting for one if need be. May return the caller's own. */
struct fibril *fibril__loop_next_slow(struct fibril_loop *loop);

static ALWAYS_INLINE struct fibril *fibril__loop_next(struct fibril_loop *loop)
{
    struct fibril *f = loop->run_head;
    if (UNLIKELY(FIBRIL_HARD || !f || --loop->ticks <= 0)) {
        return fibril__loop_next_slow(loop);
    }
    loop->run_head = (struct fibril *)(void *)f->link.next;
    if (!loop->run_head) {
        loop->run_tail = &loop->run_head;
    }
    return f;
}

/* Appends self and takes the next, which may be self only when nobody else is ready. */
static ALWAYS_INLINE struct fibril *fibril__loop_swap(struct fibril_loop *loop, struct fibril *self)
{
    struct fibril *f = loop->run_head;
    if (UNLIKELY(FIBRIL_HARD || !f || --loop->ticks <= 0)) {
        fibril__loop_push(loop, self);
        return fibril__loop_next_slow(loop);
    }
    fibril__loop_push(loop, self);
    loop->run_head = (struct fibril *)(void *)f->link.next; /* self at the latest */
    return f;
}

/* Samples how long `to` stood in the run queue. */
void fibril__loop_sample(struct fibril_loop *loop, struct fibril *to);

/* Runs `to` instead of `self`. */
static ALWAYS_INLINE void fibril__loop_switch(struct fibril_loop *loop, struct fibril *self,
                                              struct fibril *to)
{
    loop->current = to;
    loop->budget = loop->budget_full;
    if (UNLIKELY((++loop->counters.switches & FIBRIL__SAMPLE_MASK) == 0)) {
        fibril__loop_sample(loop, to);
    }
    if (UNLIKELY(loop->on_switch)) {
        loop->on_switch(self, to);
    }
    fibril__context_switch(&loop->machine, &self->ctx, &to->ctx);
}

/* Returns the loop's cache of own stacks of that size, NULL if there is no memory for one. */
struct fibril__slot_cache *fibril__loop_stacks(struct fibril_loop *loop, uint8_t log2);

/* In the child of a fork: `loop` is the only one. */
void fibril__loops_forked(struct fibril_loop *loop);

/* What the main fibril of a loop does, in the child of a fork by another one: waits until the
 * others have ended, and ends the process. */
int fibril__loop_outlive(void *of);

/* Loop number i of the process or NULL; stable while that loop lives. At most FIBRIL__LOOPS_MAX. */
enum { FIBRIL__LOOPS_MAX = 256 };
struct fibril_loop *fibril__loop_slot(unsigned i);

/* Whether the loops are this process's: false in the child of a fork or vfork by an OS thread
 * without a loop. Async-signal-safe. */
bool fibril__loops_ours(void);

/* The lowest descriptor from first to last that a loop itself lives on (its epoll set, its ring,
 * its way to be woken), or -1. */
int fibril__loops_owned(int first, int last);

/* Makes room for a parked fibril's wake-up where it stands, without running others: for one that
 * must wait and has no memory to be copied out. */
void fibril__loop_wait_in_place(struct fibril_loop *loop, struct fibril *self);

#endif
