/* SPDX-License-Identifier: MIT */
/*
 * System calls that the simulation replaces, and a few that need care in several files. All return
 * -errno. The rule they keep: a simulated descriptor never reaches the kernel.
 */
#ifndef FIBRIL_IO_SYS_H
#define FIBRIL_IO_SYS_H

#include "poll/poll.h"

#include <stdbool.h>

/* Whether the calling loop is simulated. */
bool fibril__sys_simulated(void);

/* Non-blocking and close-on-exec. */
int fibril__sys_socket(int domain, int type);
int fibril__sys_bind(int fd, const struct sockaddr *addr, socklen_t len);
int fibril__sys_listen(int fd, int backlog);
int fibril__sys_pipe(int ret_fds[2]);
int fibril__sys_shutdown(int fd, int how);
int fibril__sys_getname(int fd, bool peer, struct sockaddr *addr, socklen_t *len);

/* close(2) that ends with the descriptor closed, whatever happens; for numbers that no poller knows
 * (any more). */
int fibril__sys_close(int fd);

/* Sets an option to 1; ignored in the simulation, which has none. */
int fibril__sys_set(int fd, int level, int option, int value);

/* Whether read and write on fd never block. */
bool fibril__sys_is_nonblocking(int fd);

/* Makes the operation's system call once without ever blocking: result, -EAGAIN or another -errno.
 * Only for the kernel's descriptors, and not for CONNECT. */
int64_t fibril__sys_attempt(struct fibril__op *op);

/*
 * A write to a pipe without a reader raises SIGPIPE in the kernel, and no flag of write(2) prevents
 * it. The first such write therefore gives the signal an empty handler if nobody has changed its
 * default. Not SIG_IGN, which programs started later would inherit, and not a mask changed and put
 * back around each write, which an io_uring write is out of reach of.
 */
void fibril__sys_guard_pipes(void);

#endif
