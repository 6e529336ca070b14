/* SPDX-License-Identifier: MIT */
/* One connection of the load: opening it, and one request and its answer. */
#ifndef FIBRIL_CLI_LOAD_CONN_H
#define FIBRIL_CLI_LOAD_CONN_H

#include <fibril/io.h>

/* Connects to `to` as client number i. -errno. MAY PARK. */
int load_open(const struct fibril_addr *to, unsigned i, int64_t deadline_ns);

/* Reads one response and compares it: status 200, and exactly this body. Returns 0, -EPROTO for any
 * other response, -EPIPE for a connection that ended early, or what reading said. MAY PARK. */
int load_read_answer(int fd, const char *body, int64_t deadline_ns);

#endif
