/* SPDX-License-Identifier: MIT */
/*
 * What completions of the ring mean: an operation is over, or begun again, and then the next in its
 * list begins; the lasting poll of a descriptor speaks, and its readers and watchers are looked at.
 */
#include "poll/uring_poller.h"

#include "poll/uring_prep.h"

#include <poll.h>

static void learn_from_ring(struct fibril__fd_record *r, const struct fibril__op *op,
                            const struct io_uring_cqe *cqe)
{
    if (op->kind != FIBRIL__OP_RECV && op->kind != FIBRIL__OP_RECVMSG &&
        op->kind != FIBRIL__OP_ACCEPT) {
        return;
    }
    r->flags &= (uint8_t) ~(FIBRIL__FD_READABLE | FIBRIL__FD_DRAINED);
    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) {
        r->flags |= FIBRIL__FD_READABLE;
    } else if (cqe->res > 0 && !(op->flags & MSG_PEEK)) {
        r->flags |= FIBRIL__FD_DRAINED;
    }
}

/* A poll has ended: what op comes to now. */
static int64_t outcome_of_watch(struct fibril__fd_record *r, struct fibril__op *op, int32_t res)
{
    if (op->poller_state & FIBRIL__URING_CANCELLED) {
        return -ECANCELED;
    }
    if (res < 0) {
        return res == -EINTR ? -EAGAIN : res;
    }
    int64_t result = fibril__attempt(r, op);
    fibril__uring_learn(r, op, result);
    return result;
}

/* What a completion means for op: its result, or -EAGAIN if it must be begun again. */
static int64_t outcome(struct fibril__fd_record *r, struct fibril__op *op,
                       const struct io_uring_cqe *cqe)
{
    if (fibril__uring_state(op) == FIBRIL__URING_WATCHING) {
        return outcome_of_watch(r, op, cqe->res);
    }
    if (r) {
        learn_from_ring(r, op, cqe);
    }
    if (cqe->res == -EINTR || (cqe->res == -EAGAIN && fibril__uring_orders(op))) {
        return op->poller_state & FIBRIL__URING_CANCELLED ? -ECANCELED : -EAGAIN;
    }
    return op->kind == FIBRIL__OP_POLL ? fibril__uring_poll_result(op, cqe->res) : cqe->res;
}

static void complete(struct fibril__uring_poller *p, struct fibril__op *op,
                     const struct io_uring_cqe *cqe)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, op->fd);
    int64_t result = outcome(r, op, cqe);
    if (UNLIKELY(result == -EAGAIN && (cqe->res != -EAGAIN || fibril__uring_orders(op)))) {
        bool as_itself =
            fibril__uring_state(op) == FIBRIL__URING_RINGING &&
            (cqe->res == -EINTR || !fibril__uring_orders(op) || op->kind == FIBRIL__OP_CONNECT);
        if (fibril__uring_ring(p, r, op,
                               as_itself ? FIBRIL__URING_RINGING : FIBRIL__URING_WATCHING) == 0) {
            return;
        }
        result = -ENOMEM;
    }
    struct fibril__list *list = r ? fibril__uring_list(r, op) : NULL;
    fibril__uring_finish(p, op, result);
    if (list && list != &r->watchers) {
        fibril__uring_begin_next(p, r, list);
    }
    if (UNLIKELY(r && r->forgetting)) {
        fibril__uring_settle(p, r);
    }
}

/* What the lasting poll's word comes to for a watcher, -EAGAIN if it goes on waiting. When a reader
 * was there before it, nothing may be left. */
static int64_t outcome_of_edge(const struct fibril__op *op, int32_t res, bool moved)
{
    if (UNLIKELY(moved && res >= 0)) {
        res = fibril__attempt_poll(op->fd, op->events);
    }
    return res == -EINTR ? -EAGAIN : fibril__uring_poll_result(op, res);
}

static void run_watchers(struct fibril__uring_poller *p, struct fibril__fd_record *r, int32_t res,
                         bool moved)
{
    struct fibril__link *link = r->watchers.head.next;
    while (link != &r->watchers.head) {
        struct fibril__op *op = fibril__op_of(link);
        link = link->next;
        if (fibril__uring_state(op) != FIBRIL__URING_AWAITING) {
            continue;
        }
        int64_t result = outcome_of_edge(op, res, moved);
        if (result == -EAGAIN && !fibril__fd_has(r, FIBRIL__FD_ARMED)) {
            result = fibril__uring_arm(p, r, op->fd) < 0 ? -ENOMEM : -EAGAIN;
        }
        if (result != -EAGAIN) {
            fibril__uring_finish(p, op, result);
        }
    }
}

/* The kernel says POLLPRI with any bytes that arrive, so it only means that urgent ones may be
 * among them. */
static void note_edge(struct fibril__fd_record *r, int32_t events)
{
    r->flags &= (uint8_t)~FIBRIL__FD_DRAINED;
    r->flags |= FIBRIL__FD_READABLE;
    if (events & POLLPRI) {
        r->flags |= FIBRIL__FD_URGENT;
    }
    if (events & (POLLRDHUP | POLLHUP | POLLERR)) {
        r->flags |= FIBRIL__FD_ENDING;
    }
}

/* The lasting poll of a descriptor speaks: readers are begun again, and the poll too if it has
 * ended but is wanted. */
static void on_edge(struct fibril__uring_poller *p, int fd, const struct io_uring_cqe *cqe)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, fd);
    if (UNLIKELY(!(cqe->flags & IORING_CQE_F_MORE))) {
        r->flags &= (uint8_t)~FIBRIL__FD_ARMED;
    }
    if (UNLIKELY(r->forgetting)) {
        fibril__uring_settle(p, r);
        return;
    }
    if (UNLIKELY(cqe->res < 0)) {
        struct fibril__link *first = fibril__list_first(&r->readers);
        if (first && cqe->res != -EINTR && cqe->res != -EAGAIN) {
            fibril__uring_finish(p, fibril__op_of(first), cqe->res);
        }
    } else {
        note_edge(r, cqe->res);
    }
    bool moved = !fibril__list_empty(&r->readers);
    fibril__uring_begin_next(p, r, &r->readers);
    run_watchers(p, r, cqe->res, moved);
}

static void on_completion(struct fibril__uring_poller *p, const struct io_uring_cqe *cqe)
{
    switch (cqe->user_data & FIBRIL__URING_DATA_MASK) {
    case FIBRIL__URING_DATA_OP:
        complete(p, (struct fibril__op *)(uintptr_t)cqe->user_data, cqe);
        break;
    case FIBRIL__URING_DATA_EDGE:
        on_edge(p, (int)(cqe->user_data >> FIBRIL__URING_DATA_SHIFT), cqe);
        break;
    case FIBRIL__URING_DATA_WAKE:
        if (!(cqe->flags & IORING_CQE_F_MORE)) {
            p->wake_armed = false;
        }
        break;
    default: break;
    }
}

/* The rest stays in the queue until those who were woken have run. */
void fibril__uring_reap(struct fibril__uring_poller *p)
{
    const struct io_uring_cqe *cqe;
    for (int n = 0; n < FIBRIL__BATCH && (cqe = fibril__uring_peek(&p->ring)) != NULL; n++) {
        struct io_uring_cqe copy = *cqe;
        fibril__uring_pass(&p->ring);
        on_completion(p, &copy);
    }
}
