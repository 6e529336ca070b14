/* SPDX-License-Identifier: MIT */
/*
 * Ending operations early. One that the kernel knows of stays until its completion comes, as its
 * buffers are in use; one that was not handed over yet is taken back. FORGET cancels by operation,
 * not by descriptor, as the kernel would match duplicates of the file too.
 */
#include "poll/uring_poller.h"

#include "base/assert.h"

/* Tells the kernel to end what has that user_data. */
static void cancel_in_ring(struct fibril__uring_poller *p, uint64_t user_data)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    FIBRIL_ASSERT(sqe); /* without it the operation might never end */
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = user_data;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = FIBRIL__URING_DATA_IGNORE;
}

void fibril__uring_cancel_op(struct fibril__uring_poller *p, struct fibril__op *op)
{
    if (!(op->poller_state & FIBRIL__URING_CANCELLED)) {
        op->poller_state |= FIBRIL__URING_CANCELLED;
        cancel_in_ring(p, (uintptr_t)op);
    }
}

/* FORGET operations wait in the list of watchers and are over when nothing else is left. */
void fibril__uring_settle(struct fibril__uring_poller *p, struct fibril__fd_record *r)
{
    struct fibril__link *first = fibril__list_first(&r->watchers);
    if (!fibril__uring_is_idle(r) || (first && fibril__op_of(first)->kind != FIBRIL__OP_FORGET)) {
        return;
    }
    while ((first = fibril__list_first(&r->watchers)) != NULL) {
        fibril__uring_finish(p, fibril__op_of(first), 0);
    }
    fibril__fd_record_reset(r);
}

static void forget_list(struct fibril__uring_poller *p, struct fibril__list *list)
{
    struct fibril__link *link = list->head.next;
    while (link != &list->head) {
        struct fibril__op *op = fibril__op_of(link);
        link = link->next;
        if (op->kind == FIBRIL__OP_FORGET) {
            continue;
        }
        op->poller_state |= FIBRIL__URING_FORGOTTEN;
        if (fibril__uring_holds(op)) {
            fibril__uring_cancel_op(p, op);
        } else {
            fibril__uring_finish(p, op, -EBADF);
        }
    }
}

int fibril__uring_forget(struct fibril__uring_poller *p, struct fibril__op *op)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, op->fd);
    if (!r) {
        return fibril__op_over(op, 0);
    }
    if (fibril__uring_is_idle(r) && fibril__list_empty(&r->watchers)) {
        fibril__fd_record_reset(r);
        return fibril__op_over(op, 0);
    }
    if (fibril__fd_has(r, FIBRIL__FD_ARMED) && !r->forgetting) {
        cancel_in_ring(p, (uint64_t)(uint32_t)op->fd << FIBRIL__URING_DATA_SHIFT |
                              FIBRIL__URING_DATA_EDGE);
    }
    r->forgetting = 1;
    forget_list(p, &r->readers);
    forget_list(p, &r->writers);
    forget_list(p, &r->watchers);
    fibril__list_push(&r->watchers, &op->link);
    p->kernel.base.pending++;
    fibril__uring_settle(p, r);
    return 0;
}

/* An operation that was not handed over yet is taken back: its place in the queue becomes an empty
 * operation. */
static bool take_back(struct fibril__uring_poller *p, struct fibril__op *op)
{
    struct io_uring_sqe *sqe = fibril__uring_find(&p->ring, (uintptr_t)op);
    if (sqe) {
        *sqe = (struct io_uring_sqe){
            .opcode = IORING_OP_NOP, .fd = -1, .user_data = FIBRIL__URING_DATA_IGNORE};
    }
    return sqe != NULL;
}

int fibril__uring_cancel(struct fibril__poller *base, struct fibril__op *op)
{
    struct fibril__uring_poller *p = fibril__uring_self(base);
    if (fibril__uring_state(op) == FIBRIL__URING_FINISHED || op->kind == FIBRIL__OP_FORGET ||
        (op->poller_state & (FIBRIL__URING_CANCELLED | FIBRIL__URING_FORGOTTEN))) {
        return 0;
    }
    bool was_first = fibril__uring_state(op) != FIBRIL__URING_QUEUED;
    if (fibril__uring_holds(op) && !take_back(p, op)) {
        fibril__uring_cancel_op(p, op);
        return 0;
    }
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, op->fd);
    struct fibril__list *list = r ? fibril__uring_list(r, op) : NULL;
    fibril__link_remove(&op->link);
    p->kernel.base.pending--;
    if (list && list != &r->watchers && was_first) {
        fibril__uring_begin_next(p, r, list);
    }
    return fibril__op_over(op, -ECANCELED);
}
