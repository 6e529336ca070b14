/* SPDX-License-Identifier: MIT */
/*
 * Two nodes in one process and one simulated loop: what one side knows of an actor of this process
 * is a record like those of another process. `here` is the node that the test uses, `there` the one
 * that its peer has.
 */
#ifndef FIBRIL_TESTS_ACTOR_PAIR_H
#define FIBRIL_TESTS_ACTOR_PAIR_H

#include "rig.h"

#include <fibril/io.h>
#include <fibril/node.h>

struct pair {
    uint64_t here, there;
};

/* Two connected stream sockets of the loop. */
void socket_pair(int ret_fds[2]);
/* opts: of both sides, may be NULL. */
struct pair pair_open(const struct fibril_node_opts *opts);
/* Ends it from this side and waits until both nodes have ended. */
void pair_close(struct pair p);
/* The actor that is registered under the name, as the other side would see it. */
uint64_t as_remote(struct pair p, uint64_t actor);

#endif
