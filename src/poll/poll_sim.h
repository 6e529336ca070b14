/* SPDX-License-Identifier: MIT */
/*
 * The simulated poller, as its tests and the scheduler see it: what can go wrong how often, the
 * seed, and a hash of all that happened. The same seed and the same program give the same hash.
 *
 * Rates are kept as parts of 2^32, not as floating point, so that every machine takes the same
 * turns.
 */
#ifndef FIBRIL_POLL_POLL_SIM_H
#define FIBRIL_POLL_POLL_SIM_H

#include "poll/poll.h"

#include <stdbool.h>

/* Descriptors of the simulation start here: the kernel gives no such number out. */
enum { FIBRIL__SIM_FD = 1 << 28 };

struct fibril__sim_config {
    uint64_t seed;                          /* used when fibril__poll_opts.seed is 0 */
    int64_t latency_min_ns, latency_max_ns; /* one way over the network; drawn for each packet */
    int64_t local_min_ns, local_max_ns;     /* the same for pipes and UNIX sockets */
    int64_t tick_ns;                        /* how much time a look without waiting takes */
    uint64_t loss;                          /* of packets: datagrams vanish, streams lose 200 ms */
    uint64_t reorder;                       /* of datagrams: up to ten latencies late */
    uint64_t reset;                         /* of stream packets: the connection breaks */
    uint64_t refuse;                        /* of connection attempts */
    uint64_t partial;      /* of stream reads and writes: fewer bytes than could be */
    uint64_t defer;        /* of operations that could be over at once: done is called later */
    uint64_t slow_cancel;  /* of cancellations: the operation may still succeed */
    uint32_t buffer_bytes; /* of a socket, each direction */
    uint32_t pipe_bytes;   /* of a pipe; at least 4096 */
    uint32_t fds;          /* descriptors at most, then -EMFILE */
};

/* What holds where nothing is said: 50..2000 us latency, half of the operations deferred, no
 * faults. */
void fibril__sim_defaults(struct fibril__sim_config *ret_config);

/* Changes *config by "key=value,key=value", the form of $FIBRIL_SIM: see docs/simulation.md. NULL
 * and "" change nothing. Returns 0, or -EINVAL with a sentence in ret_error; *config may then be
 * half changed. */
int fibril__sim_parse(const char *text, struct fibril__sim_config *config, char *ret_error,
                      size_t error_size);

/* Simulated pollers opened from now on take *config instead of the defaults and $FIBRIL_SIM; NULL
 * ends it. config is not copied. For tests; not thread-safe. */
void fibril__sim_configure(const struct fibril__sim_config *config);

/* Whether nothing can come but a wake() from another OS thread: no event is under way, nothing is
 * over, none is owed. wait() for ever would then really wait. false for other pollers. */
bool fibril__sim_stuck(const struct fibril__poller *p);

/* Mixes a value, and the virtual time, into the hash of what happened. A no-op for other pollers.
 */
void fibril__sim_trace(struct fibril__poller *p, uint64_t value);

/* The hash so far; 0 for other pollers. */
uint64_t fibril__sim_hash(const struct fibril__poller *p);

/* The seed in use; 0 for other pollers. */
uint64_t fibril__sim_seed(const struct fibril__poller *p);

#endif
