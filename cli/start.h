/* SPDX-License-Identifier: MIT */
/*
 * What serve and demo have in common: running under a poller, listening, telling where.
 */
#ifndef FIBRIL_CLI_START_H
#define FIBRIL_CLI_START_H

#include "options.h"

#include <fibril/http.h>

/* "auto", "uring", "epoll", NULL: the choices of --poller, in the order of their index. */
extern const char *const start_pollers[];

/* fibril_run for a command: what the runtime refuses becomes one line on standard error and
 * EXIT_USAGE. Returns the exit status, which is what fn returned otherwise. */
int start_run(const char *command, struct fibril_opts *opts, fibril_fn *fn, void *arg);

/* Listens on every address; after a failure it has been said which. Returns 0 or -errno. */
int start_listen(const char *command, struct fibril_http_server *srv, const struct words *binds);

/* Writes listener i as a URL, or as unix:/path. */
void start_url(const struct fibril_http_server *srv, unsigned i, char *text, size_t size);

#endif
