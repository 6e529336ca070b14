/* SPDX-License-Identifier: MIT */
/*
 * One OS thread that exists only while there are such children: it sleeps in an epoll set of their
 * pidfds. Not a watch on a loop, since children may outlive every loop; not the offload pool, where
 * each would hold a thread. The set needs no memory of ours, so freeing a process cannot fail for
 * want of it.
 */
#include "io/reap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    pthread_mutex_t mutex;
    unsigned children; /* in the set */
    int set;           /* the epoll descriptor: while there is a thread */
    pid_t owner;       /* the process that has it; a fork has neither thread nor children */
} reaper = {.mutex = PTHREAD_MUTEX_INITIALIZER, .set = -1};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void after_fork_child(void)
{
    pthread_mutex_init(&reaper.mutex, NULL);
}

static void set_up(void)
{
    pthread_atfork(NULL, NULL, after_fork_child);
}

/* Returns whether the child is no more, by us or by others. */
static bool is_reaped(int pidfd)
{
    siginfo_t info = {.si_pid = 0};
    int rc;
    do {
        rc = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 || info.si_pid != 0;
}

static void *work(void *arg)
{
    int set = (int)(intptr_t)arg;
    for (bool over = false; !over;) {
        struct epoll_event e;
        int n = epoll_wait(set, &e, 1, -1);
        pthread_mutex_lock(&reaper.mutex);
        if (n == 1 && is_reaped(e.data.fd)) {
            /* By hand: a duplicate elsewhere would keep the closed number in the set. */
            epoll_ctl(set, EPOLL_CTL_DEL, e.data.fd, NULL);
            close(e.data.fd);
            reaper.children--;
        }
        over = reaper.children == 0;
        if (over) {
            close(set);
            reaper.set = -1;
        }
        pthread_mutex_unlock(&reaper.mutex);
    }
    return NULL;
}

/* With all signals blocked: handlers run elsewhere. */
static bool start_thread(int set)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, work, (void *)(intptr_t)set);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) {
        pthread_detach(thread);
        pthread_setname_np(thread, "fibril-reaper");
    }
    return rc == 0;
}

/* Under the mutex. */
static bool add(int pidfd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = pidfd};
    if (reaper.set >= 0) {
        return epoll_ctl(reaper.set, EPOLL_CTL_ADD, pidfd, &e) == 0;
    }
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, pidfd, &e) < 0 || !start_thread(set)) {
        if (set >= 0) {
            close(set);
        }
        return false;
    }
    reaper.set = set;
    return true;
}

void fibril__reap_later(int pidfd)
{
    if (is_reaped(pidfd)) {
        close(pidfd);
        return;
    }
    pthread_once(&once, set_up);
    pthread_mutex_lock(&reaper.mutex);
    if (reaper.owner != getpid()) {
        if (reaper.set >= 0) {
            close(reaper.set);
        }
        reaper.owner = getpid();
        reaper.set = -1;
        reaper.children = 0;
    }
    if (add(pidfd)) {
        reaper.children++;
    } else {
        close(pidfd); /* no descriptor or thread to be had: the child's entry stays until we end */
    }
    pthread_mutex_unlock(&reaper.mutex);
}
