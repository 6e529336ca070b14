/* SPDX-License-Identifier: MIT */
/*
 * The parts of the debug floor that debug.c puts together when a loop starts and ends.
 */
#ifndef FIBRIL_DEBUG_DEBUG_H
#define FIBRIL_DEBUG_DEBUG_H

struct fibril;
struct fibril_loop;

/* Installs the handlers of stack overflow (SIGSEGV, SIGBUS), once per process; what they do not
 * understand goes to the handler that was there before. */
void fibril__overflow_install(void);

/* Installs the handler of SIGQUIT, once per process, where the signal has its default action. */
void fibril__sigquit_install(void);

/* Begins and ends watching a loop for stalls, where its options ask for it. Return 0 or -errno. */
int fibril__stall_watch(struct fibril_loop *loop);
void fibril__stall_unwatch(struct fibril_loop *loop);

/* In the child of a fork: the watching thread, and a dump that was asked for, are the parent's. */
void fibril__stall_forked(void);
void fibril__sigquit_forked(void);

/* Writes a backtrace of where the caller is to descriptor fd, leaving out the `skip` innermost
 * frames. */
void fibril__backtrace_write(int fd, int skip);

#endif
