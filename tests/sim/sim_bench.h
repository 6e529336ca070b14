/* SPDX-License-Identifier: MIT */
/*
 * A bench for tests of the simulated poller alone: opens one with a config of the test's own,
 * starts operations and lets time pass until they are over.
 */
#ifndef FIBRIL_TESTS_SIM_BENCH_H
#define FIBRIL_TESTS_SIM_BENCH_H

#include "poll/poll_sim.h"

#include <netinet/in.h>

/* An operation and whether its done has been called, and as which of all. */
struct bench_op {
    struct fibril__op op; /* first */
    bool over;
    bool late; /* by done, not by start */
    int order;
};

struct fibril__poller *bench_open(const struct fibril__sim_config *config, uint64_t seed);
/* Without faults, latency 1 ms and 1 us, everything over as early as can be. */
struct fibril__sim_config bench_plain(void);
/* Closes and checks that nothing is leaked. */
void bench_close(struct fibril__poller *p);

void bench_start(struct fibril__poller *p, struct bench_op *b, int kind, int fd, void *buf,
                 size_t len);
/* Lets time pass until b is over or nothing can happen any more; returns its result, 1 << 30 if it
 * is not over. */
int64_t bench_finish(struct fibril__poller *p, struct bench_op *b);
/* Start and finish in one; what cannot finish is cancelled. */
int64_t bench_do(struct fibril__poller *p, int kind, int fd, void *buf, size_t len);
int64_t bench_forget(struct fibril__poller *p, int fd);
/* Forget and close. */
void bench_drop(struct fibril__poller *p, int fd);

struct sockaddr_in bench_addr(uint16_t port);
/* A listener on 127.0.0.1:port, and a connection to it: fds[0] called, fds[1] accepted. */
int bench_listen(struct fibril__poller *p, uint16_t port, int backlog);
void bench_connect(struct fibril__poller *p, int listener, uint16_t port, int fds[2]);

enum { BENCH_NOT_OVER = 1 << 30 };

#endif
