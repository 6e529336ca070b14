/* SPDX-License-Identifier: MIT */
/* The covered calls on processes, signals and names, declared with the very type that libc gives to
 * its own. */
#ifndef FIBRIL_POSIX_PROCESS_CALLS_H
#define FIBRIL_POSIX_PROCESS_CALLS_H

#include "base/list.h"
#include "posix/layer.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COVERS_PROCESS(name) extern __typeof__(name) fibril_posix_##name

/* fork.c */
COVERS_PROCESS(fork);
COVERS_PROCESS(_Fork);
COVERS_PROCESS(vfork);

/* child.c, system.c */
COVERS_PROCESS(wait);
COVERS_PROCESS(waitpid);
COVERS_PROCESS(waitid);
COVERS_PROCESS(wait3);
COVERS_PROCESS(wait4);
COVERS_PROCESS(system);
COVERS_PROCESS(pclose);

/* signal.c, sigwait.c */
COVERS_PROCESS(sigaction);
COVERS_PROCESS(pthread_sigmask);
COVERS_PROCESS(sigprocmask);
COVERS_PROCESS(signal);
COVERS_PROCESS(raise);
COVERS_PROCESS(pthread_kill);
COVERS_PROCESS(pthread_sigqueue);
COVERS_PROCESS(pause);
COVERS_PROCESS(sigsuspend);
COVERS_PROCESS(sigwait);
COVERS_PROCESS(sigwaitinfo);
COVERS_PROCESS(sigtimedwait);

/* name.c, host.c */
COVERS_PROCESS(getaddrinfo);
COVERS_PROCESS(getnameinfo);
COVERS_PROCESS(gethostbyname);
COVERS_PROCESS(gethostbyname2);
COVERS_PROCESS(gethostbyaddr);
COVERS_PROCESS(gethostbyname_r);
COVERS_PROCESS(gethostbyname2_r);
COVERS_PROCESS(gethostbyaddr_r);

/* ---- between the files ----------------------------------------------------------------------- */

/* Whether the calling code is the child of a vfork, which shares all memory with its parent. */
bool fibril__vfork_child(void);

/* Sees to it that the child of any fork of this process goes on with the calling fibril alone.
 * Returns 0 or -ENOMEM. */
int fibril__fork_watch(void);

/* As waitpid(2) with WEXITED only, through signals; -errno. MAY PARK. */
int fibril__child_wait(pid_t pid, int *ret_status);

/* Wraps the handlers that the process has now, so that covered calls in them are the real ones;
 * puts them back. */
int fibril__signal_wrap_all(void);
void fibril__signal_unwrap_all(void);

/* Whether the calling code runs inside a wrapped handler. */
bool fibril__signal_inside(void);

/* In a handler: whether it has been left by siglongjmp; then covered calls are on again. */
bool fibril__signal_left(void);

/* How many wrapped handlers have run on this OS thread. */
unsigned fibril__signal_count(void);

/* Whether the caller is the main fibril and a handler has run since *count, which is brought up to
 * date; and whether the last one had SA_RESTART. For calls that park more than once: a signal in
 * between finds no wait to end. */
bool fibril__signal_hit(unsigned *count, bool *ret_restart);

/* In the child of a fork: no interruption is on its way. */
void fibril__signal_forked(void);

/* A fibril that waits for any handler to have run: it is woken like the main fibril. */
struct fibril__suspended {
    struct fibril__link link;
    struct fibril *fibril;
};
void fibril__signal_suspend(struct fibril__suspended *s);
void fibril__signal_resume(struct fibril__suspended *s);

#endif
