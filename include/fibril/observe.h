/* SPDX-License-Identifier: MIT */
/*
 * Seeing a program from inside: its loops, its fibrils, its actors and their supervisors, as rows
 * that are sorted and cut into pages here, so that 100,000 of them can be looked at; and the same
 * as a page, as JSON and for Prometheus, from a server of the program's own.
 *
 *     fibril_observe_serve("127.0.0.1:7000", NULL, 0);
 *
 * Conventions as in fibril.h. Tables are searched on an OS thread of the pool, not on a loop; what
 * only an object's own loop may look at is filled in there, for the rows of the page alone. So the
 * rows of a page are each right, but not of one moment.
 */
#ifndef FIBRIL_OBSERVE_H
#define FIBRIL_OBSERVE_H

#include <fibril/fibril.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What rows are sorted by. Ties, and the unsorted, come in the order of their numbers. */
enum fibril_observe_sort {
    FIBRIL_SORT_ID = 0,
    FIBRIL_SORT_WAITING,  /* actors: messages in the mailbox */
    FIBRIL_SORT_BYTES,    /* actors: their bytes */
    FIBRIL_SORT_OLDEST,   /* actors: age of the oldest message; looks at the 4,096 longest mailboxes
                           */
    FIBRIL_SORT_RATE,     /* actors: messages taken per second */
    FIBRIL_SORT_RECEIVED, /* actors: messages taken */
    FIBRIL_SORT_CPU,      /* processor time since it is observed */
    FIBRIL_SORT_SINCE,    /* how long it has been in its state */
    FIBRIL_SORTS
};

enum { FIBRIL_OBSERVE_ROWS_MAX = 1 << 20 /* skip and rows together */ };

/* Which rows; all zero: all, by number. */
struct fibril_observe_query {
    enum fibril_observe_sort sort;
    bool descending;
    bool supervisors; /* actors: only those that supervise */
    size_t skip;      /* rows before the page */
};

struct fibril_observed_fibril {
    uint64_t fibril;    /* its number */
    char name[64];      /* "" for none */
    char state[128];    /* "running", "ready", "waits: read on descriptor 5", ... */
    char site[96];      /* the code that spawned it */
    int64_t since_ns;   /* how long it has been in that state */
    size_t stack_bytes; /* used of its stack, as fibril_stack_used */
    int64_t cpu_ns;     /* processor time since it is observed, see fibril_observe_cpu */
    unsigned loop;      /* the number of its loop */
    bool daemon;
    bool answered; /* false: its loop is busy, or it has just ended; only `fibril`, `loop`,
                      `since_ns` and `cpu_ns` are known */
};

struct fibril_observed_actor {
    uint64_t actor;
    uint64_t fibril;     /* its number; 0: it has not begun */
    uint64_t supervisor; /* whose child it is, 0: nobody's */
    char name[64];       /* registered; or else the id of the child; "" for none */
    char function[96];   /* what it runs */
    char state[128];     /* as of a fibril; "not begun" */
    int64_t since_ns;
    uint64_t waiting, waiting_bytes; /* messages in the mailbox; signals are not counted */
    int64_t oldest_ns; /* age of the oldest of them, as far as it came under observation */
    uint64_t received; /* messages taken */
    double per_second; /* of them lately; 0 at the first look */
    uint64_t memory;   /* record, used stack and waiting messages, in bytes */
    uint64_t restarts; /* of this child, by its supervisor on the same loop */
    int64_t cpu_ns;    /* as of a fibril */
    uint64_t children; /* of a supervisor */
    unsigned loop;
    bool supervises, traps_exits, exiting;
    bool answered; /* false: as of a fibril; of its mailbox all is known but the age */
};

/* A child of a supervisor, running or not. */
struct fibril_observed_child {
    char id[64];
    uint64_t actor; /* 0: does not run */
    uint64_t restarts;
    bool supervises;
};

struct fibril_observed_loop {
    unsigned loop;         /* its number */
    bool answered;         /* false: busy for more than 100 ms; nothing else is known */
    bool run_queue_more;   /* there are more than were counted */
    unsigned run_queue;    /* ready fibrils, the first 4,096 of them */
    int64_t time_ns;       /* when this was so */
    int64_t cpu_ns;        /* processor time of its OS thread; over a span of time: its load */
    uint64_t delay_sum_ns; /* of the delays that metrics.delay counts */
    struct fibril_metrics metrics;
};

/* Sums over all actors. */
struct fibril_observed_sum {
    uint64_t actors, supervisors, waiting, waiting_bytes, received;
    double per_second;
};

/* Fills a page of the actors of all loops; returns how many rows. ret_sum (may be NULL): of all of
 * them. MAY PARK. -EINVAL, -ENOMEM, -EPERM outside fibrils, -ECANCELED. */
FIBRIL_API int fibril_observe_actors(const struct fibril_observe_query *query,
                                     struct fibril_observed_actor *ret_rows, size_t n,
                                     struct fibril_observed_sum *ret_sum);

/* Fills a page of the fibrils of all loops; ret_total (may be NULL): how many there are. Otherwise
 * as fibril_observe_actors; sorts by ID, CPU and SINCE. MAY PARK. */
FIBRIL_API int fibril_observe_fibrils(const struct fibril_observe_query *query,
                                      struct fibril_observed_fibril *ret_rows, size_t n,
                                      size_t *ret_total);

/* Fills the children of a supervisor from number `skip` on, in the order of their starting; returns
 * how many rows. Does not ask the supervisor, which may be busy. MAY PARK. -ESRCH: there is no such
 * supervisor; -ETIMEDOUT: its loop is busy; -ENOMEM, -EPERM. */
FIBRIL_API int fibril_observe_children(uint64_t supervisor, size_t skip,
                                       struct fibril_observed_child *ret_rows, size_t n,
                                       size_t *ret_total);

/* Fills one row per loop; returns how many. MAY PARK. -ENOMEM, -EPERM. */
FIBRIL_API int fibril_observe_loops(struct fibril_observed_loop *ret_rows, size_t n);

/* Begins or ends the counting of processor time of each fibril, on all loops, and the dating of
 * messages; later loops are not taken in until the next call. Costs up to two readings of the clock
 * per switch while it is on, nothing otherwise. Of each loop the busiest 16,384 fibrils are kept. A
 * language runtime that sets fibril_embed_on_switch later takes the loop out. MAY PARK. 0, -ENOMEM,
 * -EPERM. */
FIBRIL_API int fibril_observe_cpu(bool on);

/* Serves on an address as fibril_addr_parse takes it, or a port alone, which means 127.0.0.1, on
 * the calling loop, until that ends or fibril_observe_stop. `/` is a page; the others are `/text`,
 * which `fibril observe` shows, `/events`, server-sent events, `/json`, and `/metrics` for
 * Prometheus. There is no password: keep it on loopback, where only requests for a Host that is
 * local are answered. Where it is bound to goes to ret_address (may be NULL with size 0). One
 * server in a process. Returns 0; -EBUSY: one serves already; -EINVAL, -ENOSPC, -ENOMEM, -EPERM,
 * and what bind and listen said. MAY PARK. The environment variable FIBRIL_OBSERVE=ADDRESS has it
 * called when the first loop begins, in programs that are linked to the shared library. */
FIBRIL_API int fibril_observe_serve(const char *address, char *ret_address, size_t size);

/* Ends the server, if there is one, and waits until it has ended. MAY PARK. Only on the loop that
 * serves: -EPERM. */
FIBRIL_API int fibril_observe_stop(void);

#ifdef __cplusplus
}
#endif

#endif
