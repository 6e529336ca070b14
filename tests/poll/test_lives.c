/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that live long enough for a poller to keep something of its own on them (a
 * registration, a lasting poll): ends, cancellation and FORGET in that state; duplicates; several
 * pollers on one descriptor; no memory; many wakers.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "rig.h"

/* Reads that had to wait, so often that whatever a poller does for frequent readers has been done.
 */
static void settle_in(struct fibril__poller *p, int in, int out)
{
    char buf[64];
    struct waiter w;
    for (int i = 0; i < 8; i++) {
        START(&w, RECV, in, .buf = buf, .len = sizeof(buf));
        rig_look(p);
        ASSERT_EQ(rig_over(&w), 0);
        ASSERT_EQ(write(out, "settle", 6), 6);
        ASSERT_EQ(rig_finish(p, &w), 6);
    }
}

BOTH(a_long_life_ends_with_what_is_left_and_then_the_end)
{
    for (int with_data = 0; with_data < 2; with_data++) {
        int fds[2];
        char buf[64];
        struct waiter w;
        rig_tcp(fds);
        settle_in(p, fds[0], fds[1]);
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        rig_look(p);
        if (with_data) {
            ASSERT_EQ(write(fds[1], "last", 4), 4);
        }
        close(fds[1]);
        if (with_data) {
            ASSERT_EQ(rig_finish(p, &w), 4);
            START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        }
        ASSERT_EQ(rig_finish(p, &w), 0);
        rig_close(p, fds[0]);
    }
}

BOTH(an_end_that_came_while_nobody_read_is_found)
{
    int fds[2];
    char buf[4];
    struct waiter w;
    rig_tcp(fds);
    settle_in(p, fds[0], fds[1]);
    ASSERT_EQ(write(fds[1], "abcdef", 6), 6);
    close(fds[1]);
    rig_look(p);
    int64_t want[] = {4, 2, 0, 0};
    for (int i = 0; i < 4; i++) {
        START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
        ASSERT_EQ(rig_finish(p, &w), want[i]);
    }
    rig_close(p, fds[0]);
}

BOTH(waiting_late_in_life_can_be_cancelled)
{
    int fds[2];
    char buf[8];
    struct waiter w[3];
    rig_tcp(fds);
    settle_in(p, fds[0], fds[1]);
    for (int i = 0; i < 3; i++) {
        START(&w[i], RECV, fds[0], .buf = &buf[i], .len = 1);
    }
    rig_look(p);
    for (int i = 0; i < 2; i++) {
        if (p->ops->cancel(p, &w[i].op)) {
            w[i].at_once = 1;
        }
        ASSERT_EQ(rig_finish(p, &w[i]), -ECANCELED);
    }
    ASSERT_EQ(write(fds[1], "z", 1), 1);
    ASSERT_EQ(rig_finish(p, &w[2]), 1);
    ASSERT_EQ(buf[2], 'z');
    settle_in(p, fds[0], fds[1]);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(forget_late_in_life_frees_the_number)
{
    for (int with_waiter = 0; with_waiter < 2; with_waiter++) {
        int fds[2], again[2];
        char buf[8];
        struct waiter w;
        rig_tcp(fds);
        int filler = dup(0); /* so that the closed number is the lowest free one */
        settle_in(p, fds[0], fds[1]);
        if (with_waiter) {
            START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
            rig_look(p);
        }
        ASSERT_EQ(write(fds[1], "late", 4), 4);
        rig_close(p, fds[0]);
        if (with_waiter) {
            ASSERT_EQ(w.calls, 1);
            ASSERT_EQ(w.op.result == 4 || w.op.result == -EBADF, 1);
        }
        rig_pair(again);
        ASSERT_EQ(again[0], fds[0]);
        settle_in(p, again[0], again[1]);
        rig_close(p, again[0]);
        close(again[1]);
        close(fds[1]);
        close(filler);
    }
}

/* What forgetting must not do is let go of the file late: the peer is to see the end. */
BOTH(closing_after_forget_is_seen_by_the_peer)
{
    int fds[2];
    char c;
    rig_tcp(fds);
    settle_in(p, fds[0], fds[1]);
    rig_close(p, fds[0]);
    struct waiter w;
    START(&w, RECV, fds[1], .buf = &c, .len = 1);
    ASSERT_EQ(rig_finish(p, &w), 0);
    rig_close(p, fds[1]);
}

BOTH(forgetting_a_duplicate_leaves_the_other_alone)
{
    int fds[2];
    char buf[8];
    struct waiter w, f, other;
    rig_tcp(fds);
    settle_in(p, fds[0], fds[1]);
    int copy = dup(fds[0]);
    START(&w, RECV, fds[0], .buf = buf, .len = sizeof(buf));
    START(&other, POLL, copy, .events = POLLIN);
    rig_look(p);
    START(&f, FORGET, copy, .buf = NULL);
    ASSERT_EQ(rig_finish(p, &f), 0);
    ASSERT_EQ(other.op.result, -EBADF);
    close(copy);
    rig_look(p);
    ASSERT_EQ(rig_over(&w), 0);
    ASSERT_EQ(write(fds[1], "here", 4), 4);
    ASSERT_EQ(rig_finish(p, &w), 4);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(two_pollers_can_use_one_descriptor)
{
    struct fibril__poller *a = p, *b = NULL;
    int fds[2];
    char buf[8];
    struct waiter wa, wb;
    ASSERT_OK(fibril__poll_open(a->ops->name, NULL, &b));
    rig_tcp(fds);
    settle_in(a, fds[0], fds[1]);
    settle_in(b, fds[0], fds[1]);
    wa = OP(RECV, fds[0], .buf = buf, .len = 2);
    rig_start(a, &wa);
    rig_look(a);
    wb = OP(RECV, fds[0], .buf = buf, .len = 2);
    rig_start(b, &wb);
    rig_look(b);
    ASSERT_EQ(write(fds[1], "abcd", 4), 4);
    ASSERT_EQ(rig_finish(a, &wa), 2);
    ASSERT_EQ(rig_finish(b, &wb), 2);
    rig_close(b, dup(fds[0]));
    struct waiter f;
    f = OP(FORGET, fds[0], .buf = NULL);
    rig_start(b, &f);
    ASSERT_EQ(rig_finish(b, &f), 0);
    ASSERT_EQ(b->pending, 0);
    b->ops->close(b);
    settle_in(a, fds[0], fds[1]);
    rig_close(a, fds[0]);
    close(fds[1]);
}

BOTH(a_reader_and_a_writer_share_a_descriptor)
{
    int fds[2];
    static char filler[1 << 20], sink[1 << 16];
    char c;
    struct waiter r, s;
    rig_tcp(fds);
    settle_in(p, fds[0], fds[1]);
    while (send(fds[0], filler, sizeof(filler), MSG_DONTWAIT) > 0) {}
    START(&r, RECV, fds[0], .buf = &c, .len = 1);
    START(&s, SEND, fds[0], .buf = filler, .len = 1);
    rig_look(p);
    ASSERT_EQ(rig_over(&r), 0);
    ASSERT_EQ(rig_over(&s), 0);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &r), 1);
    for (int i = 0; i < 10000 && !rig_over(&s); i++) {
        ASSERT_NE(recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT), 0);
        rig_look(p);
    }
    ASSERT_EQ(rig_finish(p, &s), 1);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(without_memory_an_operation_fails_and_the_next_works)
{
    int fds[2];
    char c = 0;
    struct waiter w;
    rig_pair(fds);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    for (int allowed = 0; allowed < 2; allowed++) {
        fibril__alloc_fail_after(allowed);
        START(&w, RECV, fds[0], .buf = &c, .len = 1);
        fibril__alloc_fail_after(-1);
        ASSERT_EQ(w.at_once, 1);
        ASSERT_EQ(w.op.result, -ENOMEM);
    }
    START(&w, RECV, fds[0], .buf = &c, .len = 1);
    ASSERT_EQ(rig_finish(p, &w), 1);
    rig_close(p, fds[0]);
    close(fds[1]);
}

BOTH(opening_without_memory_fails_and_leaks_nothing)
{
    int64_t live = fibril__alloc_live();
    struct fibril__poller *other = NULL;
    for (int allowed = 0;; allowed++) {
        int before = dup(0);
        close(before);
        fibril__alloc_fail_after(allowed);
        int rc = fibril__poll_open(p->ops->name, NULL, &other);
        fibril__alloc_fail_after(-1);
        if (rc == 0) {
            break;
        }
        ASSERT_LT(allowed, 10);
        ASSERT_EQ(rc, -ENOMEM);
        int after = dup(0);
        close(after);
        ASSERT_EQ(after, before);
        ASSERT_EQ(fibril__alloc_live(), live);
    }
    other->ops->close(other);
    ASSERT_EQ(fibril__alloc_live(), live);
}

/* ---- many wakers --------------------------------------------------------- */

enum { WAKERS = 4 };

struct storm {
    struct fibril__poller *p;
    _Atomic int64_t sent;
    int64_t each;
};

static void *waker(void *arg)
{
    struct storm *s = arg;
    for (int64_t i = 0; i < s->each; i++) {
        atomic_fetch_add(&s->sent, 1);
        s->p->ops->wake(s->p);
    }
    return NULL;
}

/* Whoever adds to `sent` and then wakes is seen: the sleeper never sleeps on a number it has not
 * looked at. */
BOTH(no_wake_up_is_lost_in_a_storm)
{
    struct storm s = {.p = p, .each = test_is_slow() ? 500 : 20000};
    pthread_t threads[WAKERS];
    for (int i = 0; i < WAKERS; i++) {
        ASSERT_EQ(pthread_create(&threads[i], NULL, waker, &s), 0);
    }
    while (atomic_load(&s.sent) < WAKERS * s.each) {
        p->ops->wait(p, INT64_MAX);
    }
    for (int i = 0; i < WAKERS; i++) {
        pthread_join(threads[i], NULL);
    }
}
