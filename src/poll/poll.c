/* SPDX-License-Identifier: MIT */
/*
 * Choosing a poller by name. "auto" falls back without a word when io_uring is refused, because
 * containers refuse it every day; a poller asked for by its name is either granted or an error.
 */
#include "poll/poll.h"

#include <errno.h>
#include <string.h>

static const struct fibril__poll_ops *const pollers[] = {
    &fibril__poll_uring,
    &fibril__poll_epoll,
    &fibril__poll_sim,
};

static bool is_refusal(int rc)
{
    return rc == -EPERM || rc == -ENOSYS || rc == -EINVAL || rc == -ENOMEM || rc == -EACCES ||
           rc == -EOPNOTSUPP;
}

static int open_auto(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller)
{
    int rc = fibril__poll_uring.open(opts, ret_poller);
    return is_refusal(rc) ? fibril__poll_epoll.open(opts, ret_poller) : rc;
}

int fibril__poll_open(const char *name, const struct fibril__poll_opts *opts,
                      struct fibril__poller **ret_poller)
{
    static const struct fibril__poll_opts defaults = {.seed = 0};
    opts = opts ? opts : &defaults;
    if (strcmp(name, "auto") == 0) {
        return open_auto(opts, ret_poller);
    }
    for (size_t i = 0; i < sizeof(pollers) / sizeof(pollers[0]); i++) {
        if (strcmp(name, pollers[i]->name) == 0) {
            return pollers[i]->open(opts, ret_poller);
        }
    }
    return -EINVAL;
}
