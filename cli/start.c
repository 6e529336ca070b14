/* SPDX-License-Identifier: MIT */
/*
 * The beginning of both servers. An address that cannot be had is the most common mistake of all,
 * so its line names the address and the reason and nothing else.
 */
#include "start.h"

#include "say.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const start_pollers[] = {"auto", "uring", "epoll", NULL};

int start_run(const char *command, struct fibril_opts *opts, fibril_fn *fn, void *arg)
{
    const char *asked = opts->poller ? opts->poller : getenv("FIBRIL_POLLER");
    int rc = fibril_run(opts, fn, arg);

    if (rc >= 0) {
        return rc;
    }
    if (rc == -EINVAL) {
        return say_wrong(command, "no poller is called '%s' (FIBRIL_POLLER)", asked ? asked : "");
    }
    if (rc == -ENOSYS) {
        return say_wrong(command, "the kernel refuses the poller '%s'; auto or epoll work",
                         asked ? asked : "auto");
    }
    return say_wrong(command, "cannot start the runtime: %s", strerror(-rc));
}

int start_listen(const char *command, struct fibril_http_server *srv, const struct words *binds)
{
    for (unsigned i = 0; i < binds->count; i++) {
        int rc = fibril_http_server_listen(srv, binds->at[i]);
        if (rc < 0) {
            say_wrong(command, "cannot listen on %s: %s", binds->at[i], strerror(-rc));
            return rc;
        }
    }
    return 0;
}

void start_url(const struct fibril_http_server *srv, unsigned i, char *text, size_t size)
{
    char address[160];

    if (fibril_http_server_address(srv, i, address, sizeof(address)) < 0) {
        snprintf(address, sizeof(address), "?");
    }
    if (strncmp(address, "unix:", 5) == 0) {
        snprintf(text, size, "%s", address);
    } else {
        snprintf(text, size, "http://%s/", address);
    }
}
