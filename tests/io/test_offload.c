/* SPDX-License-Identifier: MIT */
/*
 * The offload pool: calls side by side, called off before and while they run, and without memory.
 * The tests order themselves by semaphores, not by time.
 */
#include "io_test.h"

#include "base/alloc.h"
#include "io/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct gate {
    sem_t entered, leave;
    _Atomic int runs;
};

static void gate_init(struct gate *g)
{
    sem_init(&g->entered, 0, 0);
    sem_init(&g->leave, 0, 0);
}

static int pass(void *arg)
{
    struct gate *g = arg;
    atomic_fetch_add(&g->runs, 1);
    sem_post(&g->entered);
    sem_wait(&g->leave);
    return 7;
}

static int offload_pass(void *arg)
{
    return fibril_offload(pass, arg, FIBRIL_FOREVER);
}

static void wait_entered(struct gate *g)
{
    while (sem_trywait(&g->entered) != 0) {
        ASSERT_OK(fibril_sleep(100000));
    }
}

EACH_STACK(calls_run_side_by_side)
{
    enum { N = 8 };
    struct gate *g = calloc(1, sizeof(*g));
    struct fibril *f[N];
    gate_init(g);
    for (int i = 0; i < N; i++) {
        f[i] = io_start(offload_pass, g);
    }
    for (int i = 0; i < N; i++) {
        wait_entered(g); /* all are inside before one may leave */
    }
    for (int i = 0; i < N; i++) {
        sem_post(&g->leave);
    }
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(io_end(f[i]), 7);
    }
    ASSERT_GE(fibril__pool_threads(), 8u);
    free(g);
    return 0;
}

/* Takes all threads of the pool. */
static void occupy(struct gate *g, struct fibril *f[FIBRIL__POOL_MAX])
{
    gate_init(g);
    for (int i = 0; i < FIBRIL__POOL_MAX; i++) {
        f[i] = io_start(offload_pass, g);
    }
    for (int i = 0; i < FIBRIL__POOL_MAX; i++) {
        wait_entered(g);
    }
    ASSERT_EQ(fibril__pool_threads(), (unsigned)FIBRIL__POOL_MAX);
}

static void release(struct gate *g, struct fibril *f[FIBRIL__POOL_MAX])
{
    for (int i = 0; i < FIBRIL__POOL_MAX; i++) {
        sem_post(&g->leave);
    }
    for (int i = 0; i < FIBRIL__POOL_MAX; i++) {
        ASSERT_EQ(io_end(f[i]), 7);
    }
}

static int offload_soon(void *arg)
{
    return fibril_offload(pass, arg, io_in(5));
}

EACH_STACK(what_has_not_begun_can_be_called_off)
{
    struct gate *g = calloc(2, sizeof(*g));
    struct fibril **f = calloc(FIBRIL__POOL_MAX, sizeof(struct fibril *));
    occupy(&g[0], f);
    gate_init(&g[1]);
    struct fibril *cancelled = io_start(offload_pass, &g[1]);
    struct fibril *late = io_start(offload_soon, &g[1]);
    io_settle();
    ASSERT_OK(fibril_cancel(cancelled));
    ASSERT_ERR(io_end(cancelled), -ECANCELED);
    ASSERT_ERR(io_end(late), -ETIMEDOUT);
    release(&g[0], f);
    ASSERT_EQ(atomic_load(&g[1].runs), 0);
    free(g);
    free(f);
    return 0;
}

struct brief {
    struct gate gate;
    int ms;
    bool ended;
};

static int offload_briefly(void *arg)
{
    struct brief *b = arg;
    int result = fibril_offload(pass, &b->gate, io_in(b->ms));
    b->ended = true;
    return result;
}

/* Starts a call with a deadline, and returns once a thread has begun with it in time. */
static struct fibril *begin_briefly(struct brief *b)
{
    for (b->ms = 2;; b->ms *= 2) {
        struct fibril *f = io_start(offload_briefly, b);
        b->ended = false;
        while (!b->ended) {
            ASSERT_OK(fibril_sleep(100000));
            if (sem_trywait(&b->gate.entered) == 0) {
                return f;
            }
        }
        ASSERT_ERR(io_end(f), -ETIMEDOUT);
    }
}

static int offload_then_cancelled(void *arg)
{
    int result = fibril_offload(pass, arg, FIBRIL_FOREVER);
    ASSERT(fibril_cancelled()); /* it lost, and stays pending */
    ASSERT_ERR(fibril_sleep(1), -ECANCELED);
    return result;
}

EACH_STACK(what_has_begun_is_waited_for)
{
    struct brief *b = calloc(1, sizeof(*b));
    struct gate *g = &b->gate;
    gate_init(g);
    struct fibril *late = begin_briefly(b);
    ASSERT_OK(fibril_sleep((int64_t)b->ms * 1000000)); /* its deadline is past now */
    ASSERT(!b->ended);
    struct fibril *cancelled = io_start(offload_then_cancelled, g);
    wait_entered(g);
    ASSERT_OK(fibril_cancel(cancelled));
    io_settle();
    sem_post(&g->leave);
    sem_post(&g->leave);
    ASSERT_EQ(io_end(cancelled), 7);
    ASSERT_EQ(io_end(late), 7);
    free(b);
    return 0;
}

static int blocked_signals(void *arg)
{
    (void)arg;
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, SIGTERM) && sigismember(&now, SIGALRM) ? 1 : 0;
}

EACH_STACK(the_pool_takes_no_signals)
{
    ASSERT_EQ(fibril_offload(blocked_signals, NULL, FIBRIL_FOREVER), 1);
    return 0;
}

static int negative(void *arg)
{
    return *(int *)arg;
}

EACH_STACK(without_memory_it_fails_and_works_again_later)
{
    int *value = malloc(sizeof(*value));
    *value = -42;
    int failed = 0;
    for (int n = 0;; n++) {
        fibril__alloc_fail_after(n);
        int rc = fibril_offload(negative, value, FIBRIL_FOREVER);
        fibril__alloc_fail_after(-1);
        if (rc == -42) {
            break;
        }
        ASSERT_ERR(rc, -ENOMEM);
        ASSERT_LT(failed++, 20);
    }
    ASSERT_EQ(fibril_offload(negative, value, FIBRIL_FOREVER), -42);
    free(value);
    return 0;
}

/* ---- closing what the pool uses -------------------------------------------------------------- */

struct use {
    struct gate gate;
    int fd;
};

static int use_fd(void *arg)
{
    struct use *u = arg;
    return fibril__pool_call(pass, &u->gate, u->fd, FIBRIL_FOREVER);
}

static int close_fd(void *arg)
{
    return fibril_close(((struct use *)arg)->fd);
}

IO_TEST(a_close_waits_for_the_thread_that_uses_the_descriptor)
{
    struct use u = {.fd = open("/dev/null", O_RDONLY)};
    gate_init(&u.gate);
    struct fibril *user = io_start(use_fd, &u);
    wait_entered(&u.gate);
    struct fibril *closer = io_start(close_fd, &u);
    ASSERT_OK(fibril_sleep(2000000));
    ASSERT_NE(fcntl(u.fd, F_GETFD), -1);
    sem_post(&u.gate.leave);
    ASSERT_EQ(io_end(user), 7);
    ASSERT_EQ(io_end(closer), 0);
    ASSERT_EQ(fcntl(u.fd, F_GETFD), -1);
    return 0;
}

IO_TEST(a_close_ends_what_the_pool_has_not_begun)
{
    struct gate g = {.runs = 0};
    struct fibril *f[FIBRIL__POOL_MAX];
    struct use u = {.fd = open("/dev/null", O_RDONLY)};
    occupy(&g, f);
    gate_init(&u.gate);
    struct fibril *user = io_start(use_fd, &u);
    io_settle();
    ASSERT_OK(fibril_close(u.fd));
    ASSERT_ERR(io_end(user), -EBADF);
    ASSERT_EQ(atomic_load(&u.gate.runs), 0);
    release(&g, f);
    return 0;
}
