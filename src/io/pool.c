/* SPDX-License-Identifier: MIT */
/*
 * The threads of pool.h: one mutex, two queues (usual and slow), one condition. A job in a queue is
 * withdrawn by unlinking it; one that has been taken is its thread's until run() has returned. The
 * mutex is held for a few instructions, never while a job runs. (Rejected: a queue per thread with
 * stealing. A hand-over to a thread that sleeps costs microseconds, beside which the mutex does not
 * show.)
 */
#include "io/pool.h"

#include "base/alloc.h"
#include "poll/poll.h"
#include "sched/current.h"
#include "sched/wait.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { IDLE_SECONDS = 10, SLOW_MAX = FIBRIL__POOL_MAX / 2 };

struct worker {
    struct fibril__link link;
    int fd; /* what its job uses, -1 for none */
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t more; /* monotonic clock */
    struct fibril__list usual, slow;
    struct fibril__list workers;
    unsigned n_usual, n_slow; /* queued */
    unsigned threads, idle, slow_running;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Calls in the pool that use a descriptor: fibril_close looks here before it takes the mutex. */
static _Atomic unsigned calls_with_fd;

/* ---- set-up and fork ------------------------------------------------------------------------- */

static void reset(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.more, &attr);
    pthread_condattr_destroy(&attr);
    fibril__list_init(&pool.usual);
    fibril__list_init(&pool.slow);
    fibril__list_init(&pool.workers);
    pool.n_usual = pool.n_slow = pool.threads = pool.idle = pool.slow_running = 0;
}

static void before_fork(void)
{
    pthread_mutex_lock(&pool.mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.mutex);
}

static void empty(struct fibril__list *jobs)
{
    while (fibril__list_pop(jobs)) {}
}

/* The threads stayed behind, and so did all who wait for them: no job is queued or withdrawn. */
static void after_fork_child(void)
{
    empty(&pool.usual);
    empty(&pool.slow);
    atomic_store(&calls_with_fd, 0);
    pthread_mutex_init(&pool.mutex, NULL);
    reset();
}

static void set_up(void)
{
    reset();
    pthread_atfork(before_fork, after_fork, after_fork_child);
}

static void lock(void)
{
    pthread_once(&once, set_up);
    pthread_mutex_lock(&pool.mutex);
}

static void unlock(void)
{
    pthread_mutex_unlock(&pool.mutex);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* How many queued jobs could begin if there were threads. */
static unsigned startable(void)
{
    unsigned room = SLOW_MAX - pool.slow_running;
    return pool.n_usual + (pool.n_slow < room ? pool.n_slow : room);
}

static struct fibril__job *take(void)
{
    struct fibril__link *l = NULL;
    if (pool.n_usual) {
        l = fibril__list_pop(&pool.usual);
        pool.n_usual--;
    } else if (pool.n_slow && pool.slow_running < SLOW_MAX) {
        l = fibril__list_pop(&pool.slow);
        pool.n_slow--;
    }
    return l ? CONTAINER_OF(l, struct fibril__job, link) : NULL;
}

static void run(struct worker *me, struct fibril__job *job)
{
    bool slow = job->slow;
    me->fd = job->fd;
    pool.slow_running += slow;
    unlock();
    job->run(job);
    lock();
    pool.slow_running -= slow;
    me->fd = -1;
}

/* Returns false when nothing has come for a while. */
static bool nap(void)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    pool.idle++;
    int rc = pthread_cond_timedwait(&pool.more, &pool.mutex, &until);
    pool.idle--;
    return rc == 0 || startable();
}

static void *work(void *arg)
{
    (void)arg;
    struct worker me = {.fd = -1};
    lock();
    fibril__list_push(&pool.workers, &me.link);
    do {
        struct fibril__job *job;
        while ((job = take())) {
            run(&me, job);
        }
    } while (nap());
    fibril__link_remove(&me.link);
    pool.threads--;
    unlock();
    return NULL;
}

/* With all signals blocked, which the thread inherits. */
static int add_thread(void)
{
    if (fibril__alloc_refuse()) {
        return -ENOMEM;
    }
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, work, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        pthread_setname_np(thread, "fibril-offload");
        pool.threads++;
    }
    return rc == 0 ? 0 : -ENOMEM;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void unqueue(struct fibril__job *job)
{
    fibril__link_remove(&job->link);
    *(job->slow ? &pool.n_slow : &pool.n_usual) -= 1;
}

int fibril__pool_submit(struct fibril__job *job)
{
    int rc = 0;
    lock();
    fibril__list_push(job->slow ? &pool.slow : &pool.usual, &job->link);
    *(job->slow ? &pool.n_slow : &pool.n_usual) += 1;
    if (startable() > pool.idle && pool.threads < FIBRIL__POOL_MAX) {
        rc = add_thread();
        if (rc < 0 && pool.threads > 0) {
            rc = 0; /* one of those that there are will come to it */
        }
        if (rc < 0) {
            unqueue(job);
        }
    }
    if (pool.idle) {
        pthread_cond_signal(&pool.more);
    }
    unlock();
    return rc;
}

bool fibril__pool_withdraw(struct fibril__job *job)
{
    lock();
    bool queued = fibril__link_in_list(&job->link);
    if (queued) {
        unqueue(job);
    }
    unlock();
    return queued;
}

unsigned fibril__pool_threads(void)
{
    lock();
    unsigned n = pool.threads;
    unlock();
    return n;
}

/* ---- calls of fibrils ------------------------------------------------------------------------ */

struct call {
    struct fibril__job job;
    fibril_fn *fn;
    void *arg;
    struct fibril *fibril;
};

static void run_call(struct fibril__job *job)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    struct fibril *f = c->fibril;
    fibril__wake(f, c->fn(c->arg)); /* c is gone from here on */
}

static bool abort_call(struct fibril *f, int error)
{
    (void)error;
    struct call *c = f->wait_on;
    return fibril__pool_withdraw(&c->job);
}

static const struct fibril__wait_kind kind_offload = {
    .name = "offload", .reason = FIBRIL__BY_OFFLOAD, .abort = abort_call};
static const struct fibril__wait_kind kind_file = {
    .name = "file", .reason = FIBRIL__BY_OFFLOAD, .of_file = true, .abort = abort_call};

static int park_call(struct call *c, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    c->job.run = run_call;
    c->fibril = loop->current;
    int rc = fibril__pool_submit(&c->job);
    if (rc == 0) {
        loop->outside++; /* or the loop would take the wait for a deadlock */
        loop->poller->owed++;
        const struct fibril__wait_kind *kind = c->job.fd == -1 ? &kind_offload : &kind_file;
        rc = (int)fibril__park(kind, c, deadline_ns);
        loop->poller->owed--;
        loop->outside--;
    }
    return rc;
}

int fibril__pool_call(fibril_fn *fn, void *arg, int fd, int64_t deadline_ns)
{
    int rc;
    atomic_fetch_add(&calls_with_fd, fd >= 0);
    if (fibril__stack_stays()) {
        struct call c = {.job = {.fd = fd}, .fn = fn, .arg = arg};
        rc = park_call(&c, deadline_ns);
    } else {
        struct call *c = fibril__alloc_zero(sizeof(*c));
        if (c) {
            c->job.fd = fd;
            c->fn = fn;
            c->arg = arg;
        }
        rc = c ? park_call(c, deadline_ns) : -ENOMEM;
        fibril__free(c);
    }
    atomic_fetch_sub(&calls_with_fd, fd >= 0);
    return rc;
}

bool fibril__pool_forget(int fd)
{
    if (!atomic_load(&calls_with_fd)) {
        return false;
    }
    lock();
    struct fibril__link *l = pool.usual.head.next, *next;
    for (; l != &pool.usual.head; l = next) {
        next = l->next;
        struct fibril__job *job = CONTAINER_OF(l, struct fibril__job, link);
        if (job->fd == fd) {
            unqueue(job);
            fibril__wake(CONTAINER_OF(job, struct call, job)->fibril, -EBADF);
        }
    }
    bool busy = false;
    for (l = pool.workers.head.next; l != &pool.workers.head; l = l->next) {
        busy |= CONTAINER_OF(l, struct worker, link)->fd == fd;
    }
    unlock();
    return busy;
}

int fibril_offload(fibril_fn *fn, void *arg, int64_t deadline_ns)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (fibril__loop->poller->sys) { /* the simulation has one thread */
        int result = fn(arg);
        fibril_yield();
        return result;
    }
    return fibril__pool_call(fn, arg, -1, deadline_ns);
}
