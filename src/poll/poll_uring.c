/* SPDX-License-Identifier: MIT */
/*
 * The poller on io_uring. Each descriptor has one operation under way per direction, the first of
 * its list; the others wait behind it, so that bytes and waiters keep their order. Polls are all
 * under way at once, and so are operations on files. One system call per wait(): it hands over what
 * is queued and brings what is over.
 *
 *   start: queued behind others, or begun
 *   begin: tried directly where that is likely to succeed (sends, a receive when the last one left
 * bytes)
 *          -> over
 *          -> in the ring as itself (RINGING): sockets, files
 *          -> in the ring as a poll, tried again when that ends (WATCHING): pipes, terminals,
 * vectors completion: over, or begun again; then the next in the list is begun
 *
 * Pipes and terminals are polled because kernels before 6.4 answer EAGAIN to a non-blocking one
 * instead of waiting. An operation that the kernel knows of stays until its completion comes, also
 * when it was cancelled: its buffers are in use.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "poll/uring_poller.h"
#include "poll/uring_prep.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { SQ_ENTRIES = 1024, CQ_ENTRIES = 8192 };

/* ---- starting -------------------------------------------------------------------------------- */

static int64_t uring_attempt(struct fibril__poller *base, struct fibril__op *op)
{
    struct fibril__fd_record nobody = {.kind = FIBRIL__KIND_UNKNOWN};
    struct fibril__fd_record *r =
        fibril__fd_table_get(&fibril__uring_self(base)->kernel.table, op->fd);
    r = r ? r : &nobody;
    int64_t result = fibril__attempt(r, op);
    bool received = result > 0 && op->kind == FIBRIL__OP_RECV;
    if (UNLIKELY(received && r->reads == FIBRIL__READS_BEFORE_ARMING &&
                 r->kind == FIBRIL__KIND_UNKNOWN)) {
        fibril__fd_classify_socket(r, op->fd); /* if this was all, a watch may await an edge */
    }
    fibril__uring_learn(r, op, result);
    return result;
}

static int start_ordered(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                         struct fibril__op *op)
{
    if (fibril__list_empty(fibril__uring_list(r, op))) {
        return fibril__uring_begin(p, r, op) ? 1 : fibril__uring_enlist(p, r, op);
    }
    if (UNLIKELY(fibril__op_is_empty(op))) {
        int64_t result = fibril__attempt(r, op);
        if (result != -EAGAIN) {
            return fibril__op_over(op, result);
        }
    }
    fibril__uring_set_state(op, FIBRIL__URING_QUEUED);
    return fibril__uring_enlist(p, r, op);
}

/* Polls and operations on files: each goes into the ring at once. */
static int start_free(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                      struct fibril__op *op)
{
    if (fibril__uring_ring(p, r, op, FIBRIL__URING_RINGING) < 0) {
        return fibril__op_over(op, -ENOMEM);
    }
    if (r) {
        return fibril__uring_enlist(p, r, op);
    }
    p->kernel.base.pending++;
    return 0;
}

/* A poll for bytes by one who receives them directly waits for an edge as his reads do. The first
 * few go into the ring by themselves, and so do those that may find bytes left there. */
static bool awaits_edge(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                        struct fibril__op *op)
{
    if (!fibril__op_awaits_bytes(op) || fibril__fd_has(r, FIBRIL__FD_ENDING)) {
        return false;
    }
    if (fibril__fd_has(r, FIBRIL__FD_ARMED)) {
        bool trusted = fibril__fd_has(r, FIBRIL__FD_DRAINED) && (op->flags & FIBRIL__POLL_TRUSTS);
        return trusted || !fibril__fd_has(r, FIBRIL__FD_READABLE);
    }
    if (r->reads < FIBRIL__READS_BEFORE_ARMING) {
        r->reads++;
        return false;
    }
    return fibril__fd_has(r, FIBRIL__FD_DRAINED) && fibril__uring_arm(p, r, op->fd) == 0;
}

static int start_poll(struct fibril__uring_poller *p, struct fibril__fd_record *r,
                      struct fibril__op *op)
{
    if (!awaits_edge(p, r, op)) {
        return start_free(p, r, op);
    }
    fibril__uring_set_state(op, FIBRIL__URING_AWAITING);
    return fibril__uring_enlist(p, r, op);
}

static int uring_start(struct fibril__poller *base, struct fibril__op *op)
{
    struct fibril__uring_poller *p = fibril__uring_self(base);
    op->poller_state = 0;
    op->link = (struct fibril__link){NULL, NULL};
    if (UNLIKELY(op->kind == FIBRIL__OP_FORGET)) {
        return fibril__uring_forget(p, op);
    }
    if (UNLIKELY(op->fd < 0)) { /* the directory of OPENAT2 may be AT_FDCWD */
        return op->kind == FIBRIL__OP_OPENAT2 ? start_free(p, NULL, op)
                                              : fibril__op_over(op, -EBADF);
    }
    struct fibril__fd_record *r = fibril__fd_table_get(&p->kernel.table, op->fd);
    if (UNLIKELY(!r)) {
        return fibril__op_over(op, -ENOMEM);
    }
    if (UNLIKELY(r->forgetting)) {
        return fibril__op_over(op, -EBADF);
    }
    if (op->kind == FIBRIL__OP_POLL) {
        return start_poll(p, r, op);
    }
    return fibril__uring_orders(op) ? start_ordered(p, r, op) : start_free(p, r, op);
}

/* ---- the wait ------------------------------------------------------------ */

static void arm_wake(struct fibril__uring_poller *p)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (sqe) {
        fibril__uring_prep_poll(sqe, p->kernel.wakeup.fd, POLLIN);
        sqe->len = IORING_POLL_ADD_MULTI; /* one completion per write, nobody reads the counter */
        sqe->user_data = FIBRIL__URING_DATA_WAKE;
        p->wake_armed = true;
    }
}

static void enter(struct fibril__uring_poller *p, int64_t left_ns)
{
    int rc = fibril__uring_enter(&p->ring, /* look= */ true, left_ns);
    FIBRIL_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM);
}

static void look(struct fibril__uring_poller *p, int64_t left_ns)
{
    bool needed = left_ns > 0 || fibril__uring_queued(&p->ring) || fibril__uring_due(&p->ring);
    if (needed) {
        enter(p, left_ns);
    }
    fibril__uring_reap(p);
    if (UNLIKELY(fibril__uring_due(&p->ring))) { /* more than the queue holds */
        enter(p, 0);
        fibril__uring_reap(p);
    }
}

static int uring_wait(struct fibril__poller *base, int64_t deadline_ns)
{
    struct fibril__uring_poller *p = fibril__uring_self(base);
    bool woken = false;
    bool ready = !fibril__list_empty(&p->kernel.finished) || fibril__uring_peek(&p->ring);
    int64_t left_ns = ready ? 0 : fibril__time_left(deadline_ns);
    for (;;) {
        if (UNLIKELY(!p->wake_armed)) {
            arm_wake(p);
        }
        if (left_ns == 0) {
            woken |= fibril__wakeup_taken(&p->kernel.wakeup);
            look(p, 0);
        } else if (fibril__wakeup_sleep(&p->kernel.wakeup)) {
            look(p, left_ns);
            woken = fibril__wakeup_awake(&p->kernel.wakeup);
        } else {
            woken = true;
            look(p, 0);
        }
        if (!fibril__list_empty(&p->kernel.finished) || woken || left_ns == 0) {
            return fibril__finished_call(&p->kernel.base, &p->kernel.finished);
        }
        left_ns = fibril__time_left(deadline_ns);
    }
}

/* ---- opening ------------------------------------------------------------- */

static int uring_open(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller)
{
    (void)opts;
    struct fibril__uring_poller *p = fibril__alloc_zero(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    int rc = fibril__wakeup_open(&p->kernel.wakeup);
    if (rc < 0) {
        fibril__free(p);
        return rc;
    }
    rc = fibril__uring_open(&p->ring, SQ_ENTRIES, CQ_ENTRIES);
    if (rc < 0) {
        fibril__wakeup_close(&p->kernel.wakeup);
        fibril__free(p);
        return rc;
    }
    fibril__list_init(&p->kernel.finished);
    p->kernel.base.ops = &fibril__poll_uring;
    fibril__kernel_owns(&p->kernel, p->ring.fd);
    p->kernel.base.files_by_ring = 1;
    *ret_poller = &p->kernel.base;
    return 0;
}

static void free_poller(struct fibril__uring_poller *p)
{
    fibril__wakeup_close(&p->kernel.wakeup);
    fibril__fd_table_fini(&p->kernel.table);
    fibril__free(p);
}

static void uring_close(struct fibril__poller *base)
{
    struct fibril__uring_poller *p = fibril__uring_self(base);
    fibril__uring_close(&p->ring);
    free_poller(p);
}

static void uring_abandon(struct fibril__poller *base)
{
    struct fibril__uring_poller *p = fibril__uring_self(base);
    fibril__uring_abandon(&p->ring);
    free_poller(p);
}

const struct fibril__poll_ops fibril__poll_uring = {
    .name = "uring",
    .open = uring_open,
    .close = uring_close,
    .abandon = uring_abandon,
    .start = uring_start,
    .attempt = uring_attempt,
    .cancel = fibril__uring_cancel,
    .wait = uring_wait,
    .wake = fibril__kernel_wake,
    .now = fibril__kernel_now,
};
