/* SPDX-License-Identifier: MIT */
/*
 * Closing: those who wait get -EBADF and never the number's next owner, on this loop and on others;
 * nothing leaks.
 */
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_one(void *arg)
{
    char byte;
    return (int)fibril_read(*(int *)arg, &byte, 1, FIBRIL_FOREVER);
}

static int wait_out(void *arg)
{
    return fibril_fd_wait(*(int *)arg, POLLPRI, FIBRIL_FOREVER);
}

EACH_STACK(a_close_ends_every_wait_on_this_loop)
{
    int *q = calloc(2, sizeof(*q));
    io_unix_pair(false, q);
    struct fibril *a = io_start(read_one, q), *b = io_start(read_one, q);
    struct fibril *c = io_start(wait_out, q);
    io_settle();
    ASSERT_OK(fibril_close(q[0]));
    ASSERT_ERR(io_end(a), -EBADF);
    ASSERT_ERR(io_end(b), -EBADF);
    ASSERT_ERR(io_end(c), -EBADF);
    ASSERT_ERR(fibril_close(q[0]), -EBADF);
    fibril_close(q[1]);
    free(q);
    return 0;
}

EACH_STACK(the_next_owner_of_a_number_starts_afresh)
{
    int *q = calloc(2, sizeof(*q)), *p = calloc(2, sizeof(*p));
    for (int i = 0; i < 50; i++) {
        io_unix_pair(i & 1, q);
        struct fibril *f = io_start(read_one, q);
        io_settle();
        ASSERT_OK(fibril_close(q[0]));
        ASSERT_OK(fibril_close(q[1]));
        if (i % 3 == 0) {
            ASSERT_OK(fibril_pipe(p)); /* the same numbers, and another sort of thing */
        } else {
            io_unix_pair(false, p);
            int swap = p[0];
            p[0] = i % 3 == 1 ? p[0] : p[1];
            p[1] = i % 3 == 1 ? p[1] : swap;
        }
        ASSERT_ERR(io_end(f), -EBADF);
        struct fibril *g = io_start(read_one, p);
        io_settle();
        ASSERT_EQ(fibril_write(p[1], "x", 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(io_end(g), 1);
        fibril_close(p[0]);
        fibril_close(p[1]);
    }
    free(q);
    free(p);
    return 0;
}

static int close_it(void *arg)
{
    while (!fibril_cancelled()) {
        fibril_yield();
    }
    return fibril_close(*(int *)arg);
}

EACH_STACK(a_cancelled_fibril_closes_all_the_same)
{
    int *q = calloc(2, sizeof(*q));
    io_unix_pair(false, q);
    struct fibril *reader = io_start(read_one, q), *closer = io_start(close_it, q);
    io_settle();
    ASSERT_OK(fibril_cancel(closer));
    ASSERT_EQ(io_end(closer), 0);
    ASSERT_ERR(io_end(reader), -EBADF);
    ASSERT_EQ(fcntl(q[0], F_GETFD), -1);
    fibril_close(q[1]);
    free(q);
    return 0;
}

/* ---- other loops ----------------------------------------------------------------------------- */

struct remote {
    int fd;
    _Atomic int waiting, stop;
    int rounds;
};

static int remote_reader(void *arg)
{
    struct remote *r = arg;
    char byte;
    atomic_fetch_add(&r->waiting, 1);
    return (int)fibril_read(r->fd, &byte, 1, FIBRIL_FOREVER);
}

static struct fibril *start_on(struct fibril_loop *loop, fibril_fn *fn, void *arg)
{
    struct fibril_spawn_opts opts = {.loop = loop};
    struct fibril *f;
    ASSERT_OK(fibril_spawn(fn, arg, &opts, &f));
    return f;
}

static int close_across_loops(void *arg)
{
    (void)arg;
    struct remote r = {.fd = -1};
    int q[2];
    for (int i = 0; i < 100; i++) {
        io_unix_pair(false, q);
        r.fd = q[0];
        atomic_store(&r.waiting, 0);
        struct fibril *f[3];
        for (unsigned l = 0; l < 3; l++) {
            f[l] = start_on(fibril_loop_at(l), remote_reader, &r);
        }
        while (atomic_load(&r.waiting) < 3) {
            fibril_yield();
        }
        if (i % 2) {
            ASSERT_OK(fibril_sleep(200000)); /* the others are asleep in their pollers */
        }
        ASSERT_OK(fibril_close(q[0]));
        for (unsigned l = 0; l < 3; l++) {
            ASSERT_ERR(io_end(f[l]), -EBADF);
        }
        ASSERT_OK(fibril_close(q[1]));
    }
    return 0;
}

TEST(a_close_ends_the_waits_of_other_loops)
{
    struct fibril_opts opts = {.loops = 3};
    ASSERT_OK(fibril_run(&opts, close_across_loops, NULL));
}

static int close_remote(void *arg)
{
    return fibril_close(((struct remote *)arg)->fd);
}

static int close_mutually(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct remote a = {.fd = -1}, b = {.fd = -1};
        int p[2], q[2];
        io_unix_pair(false, p);
        io_unix_pair(false, q);
        a.fd = p[0];
        b.fd = q[0];
        struct fibril *fa = start_on(fibril_loop_at(1), remote_reader, &a);
        struct fibril *fb = start_on(fibril_loop_at(0), remote_reader, &b);
        while (!atomic_load(&a.waiting) || !atomic_load(&b.waiting)) {
            fibril_yield();
        }
        struct fibril *closer = start_on(fibril_loop_at(1), close_remote, &b);
        ASSERT_OK(fibril_close(a.fd)); /* each loop waits for the other */
        ASSERT_EQ(io_end(closer), 0);
        ASSERT_ERR(io_end(fa), -EBADF);
        ASSERT_ERR(io_end(fb), -EBADF);
        fibril_close(p[1]);
        fibril_close(q[1]);
    }
    return 0;
}

TEST(two_loops_may_close_what_the_other_uses)
{
    struct fibril_opts opts = {.loops = 2};
    ASSERT_OK(fibril_run(&opts, close_mutually, NULL));
}

/* Reads whatever number it is told, and must only ever see its own byte. */
static int churn(void *arg)
{
    struct remote *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        int q[2];
        char byte = 0, mine = (char)(1 + (fibril_id(fibril_current()) & 63));
        io_unix_pair(false, q);
        ASSERT_EQ(fibril_write(q[1], &mine, 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(fibril_read(q[0], &byte, 1, FIBRIL_FOREVER), 1);
        ASSERT_EQ(byte, mine);
        ASSERT_OK(fibril_close(q[0]));
        ASSERT_OK(fibril_close(q[1]));
    }
    return 0;
}

static int churn_on_all(void *arg)
{
    struct remote *r = arg;
    struct fibril *f[9];
    for (unsigned i = 0; i < 9; i++) {
        f[i] = start_on(fibril_loop_at(i % 3), churn, r);
    }
    for (unsigned i = 0; i < 9; i++) {
        ASSERT_EQ(io_end(f[i]), 0);
    }
    return 0;
}

TEST(numbers_that_wander_between_loops_stay_clean)
{
    struct fibril_opts opts = {.loops = 3};
    struct remote r = {.rounds = test_is_slow() ? 100 : 2000};
    int before = io_count_fds();
    ASSERT_OK(fibril_run(&opts, churn_on_all, &r));
    ASSERT_EQ(io_count_fds(), before);
}
