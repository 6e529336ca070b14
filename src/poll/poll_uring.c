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
 * when it was cancelled: its buffers are in use. FORGET cancels by operation, not by descriptor, as
 * the kernel would match duplicates of the file too.
 */
#include "poll/poll.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "poll/attempt.h"
#include "poll/fd_table.h"
#include "poll/finished.h"
#include "poll/uring.h"
#include "poll/uring_prep.h"
#include "poll/wakeup.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { SQ_ENTRIES = 1024, CQ_ENTRIES = 8192 };

enum state {
    QUEUED = 1, /* behind another in its list */
    RINGING,    /* in the ring */
    WATCHING,   /* in the ring as a poll */
    AWAITING,   /* an edge from the lasting poll will begin it again */
    FINISHED,   /* over, done is still to be called */
    STATE_MASK = 7,
    CANCELLED = 8,  /* a flag: nothing new is begun */
    FORGOTTEN = 16, /* a flag: -ECANCELED becomes -EBADF */
};

/* What the low bits of user_data say it is: the address of an operation; to be ignored; the poll of
 * the wake-up counter; the lasting poll of the descriptor in the upper bits. */
enum { DATA_OP = 0, DATA_IGNORE = 1, DATA_WAKE = 2, DATA_EDGE = 3, DATA_MASK = 3, DATA_SHIFT = 2 };

/* From this read on that has to wait, a descriptor gets a lasting poll: one that lives as long does
 * not repay it. */
enum { READS_BEFORE_ARMING = 3 };

struct uring_poller {
    struct fibril__poller base;
    struct fibril__uring ring;
    struct fibril__fd_table table;
    struct fibril__list finished;
    struct fibril__wakeup wakeup;
    bool wake_armed; /* the poll of the counter is in the ring or queued */
};

static inline struct uring_poller *self_of(struct fibril__poller *p)
{
    return CONTAINER_OF(p, struct uring_poller, base);
}

static inline void set_state(struct fibril__op *op, enum state state)
{
    op->poller_state = (uint8_t)((op->poller_state & ~STATE_MASK) | state);
}

static inline enum state state_of(const struct fibril__op *op)
{
    return op->poller_state & STATE_MASK;
}

static bool is_in_ring(const struct fibril__op *op)
{
    return state_of(op) == RINGING || state_of(op) == WATCHING;
}

/* Polls and operations on files keep no order. */
static bool is_ordered(const struct fibril__op *op)
{
    return op->kind != FIBRIL__OP_POLL && op->kind < FIBRIL__OP_PREAD;
}

/* Reads and writes of what may be no socket. */
static bool is_plain(const struct fibril__op *op)
{
    return op->kind >= FIBRIL__OP_READ && op->kind <= FIBRIL__OP_WRITEV;
}

/* Whether op waits for readiness instead of being the kernel's to do. */
static bool is_polled(const struct fibril__fd_record *r, const struct fibril__op *op)
{
    return is_plain(op) && r->kind != FIBRIL__KIND_FILE;
}

static struct fibril__list *list_of(struct fibril__fd_record *r, const struct fibril__op *op)
{
    return !is_ordered(op) ? &r->watchers : fibril__op_writes(op) ? &r->writers : &r->readers;
}

/* ---- beginning ----------------------------------------------------------------------------------
 */

static bool has(const struct fibril__fd_record *r, enum fibril__fd_flag flag)
{
    return r->flags & flag;
}

/* Whether a direct try is worth its system call. A receive is left to the ring unless bytes may be
 * there. */
static bool try_first(const struct fibril__fd_record *r, const struct fibril__op *op)
{
    switch (op->kind) {
    case FIBRIL__OP_SEND:
    case FIBRIL__OP_SENDMSG: return true;
    case FIBRIL__OP_RECV:
    case FIBRIL__OP_RECVMSG:
    case FIBRIL__OP_ACCEPT: return has(r, FIBRIL__FD_READABLE);
    case FIBRIL__OP_READ:
    case FIBRIL__OP_READV:
        return is_polled(r, op) && (has(r, FIBRIL__FD_READABLE) || !has(r, FIBRIL__FD_ARMED));
    default: return is_polled(r, op);
    }
}

static void learn(struct fibril__fd_record *r, const struct fibril__op *op, int64_t result)
{
    if (!fibril__op_writes(op) && op->kind != FIBRIL__OP_POLL &&
        (result == -EAGAIN || fibril__attempt_was_short(r, op, result))) {
        bool sure = result == -EAGAIN || !has(r, FIBRIL__FD_URGENT);
        r->flags &= (uint8_t) ~(sure ? FIBRIL__FD_READABLE : 0);
        r->flags |= FIBRIL__FD_DRAINED;
    }
}

static int64_t uring_attempt(struct fibril__poller *base, struct fibril__op *op)
{
    struct fibril__fd_record nobody = {.kind = FIBRIL__KIND_UNKNOWN};
    struct fibril__fd_record *r = fibril__fd_table_get(&self_of(base)->table, op->fd);
    r = r ? r : &nobody;
    int64_t result = fibril__attempt(r, op);
    bool received = result > 0 && op->kind == FIBRIL__OP_RECV;
    if (UNLIKELY(received && r->reads == READS_BEFORE_ARMING && r->kind == FIBRIL__KIND_UNKNOWN)) {
        fibril__fd_classify_socket(r, op->fd); /* if this was all, a watch may await an edge */
    }
    learn(r, op, result);
    return result;
}

/* Puts op into the ring. Returns 0, or -EAGAIN if the kernel takes nothing. */
static int ring(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op,
                enum state state)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (UNLIKELY(!sqe)) {
        return -EAGAIN;
    }
    if (state == WATCHING) {
        fibril__uring_prep_poll(sqe, op->fd, fibril__op_writes(op) ? POLLOUT : POLLIN);
    } else {
        fibril__uring_prep(sqe, op, r && (r->flags & FIBRIL__FD_DRAINED));
    }
    sqe->user_data = (uintptr_t)op;
    set_state(op, state);
    return 0;
}

/* A lasting poll, edge-triggered: one completion for each burst, and one at once if the descriptor
 * is ready. */
static int arm(struct uring_poller *p, struct fibril__fd_record *r, int fd)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (UNLIKELY(!sqe)) {
        return -EAGAIN;
    }
    if (r->kind == FIBRIL__KIND_UNKNOWN) {
        fibril__fd_classify_socket(r, fd); /* plain reads have it classified already */
    }
    fibril__uring_prep_poll(sqe, fd, POLLIN | POLLPRI | POLLRDHUP);
    sqe->len = IORING_POLL_ADD_MULTI;
    sqe->user_data = (uint64_t)(uint32_t)fd << DATA_SHIFT | DATA_EDGE;
    r->flags |= FIBRIL__FD_ARMED;
    return 0;
}

/* A read has to wait: for an edge, or by itself in the ring. */
static int wait_to_read(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (!has(r, FIBRIL__FD_ARMED)) {
        if (r->reads < READS_BEFORE_ARMING) {
            r->reads++;
            return ring(p, r, op, is_polled(r, op) ? WATCHING : RINGING);
        }
        int rc = arm(p, r, op->fd);
        if (rc < 0) {
            return rc;
        }
    }
    set_state(op, AWAITING);
    return 0;
}

/* Returns 1 if op is over, with its result set; 0 if it waits. */
static int begin(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (UNLIKELY(is_plain(op) && r->kind == FIBRIL__KIND_UNKNOWN && op->kind < FIBRIL__OP_READV)) {
        int rc = fibril__fd_classify(r, op->fd);
        if (rc < 0) {
            return fibril__op_over(op, rc);
        }
    }
    if (try_first(r, op)) {
        int64_t result = fibril__attempt(r, op);
        learn(r, op, result);
        if (result != -EAGAIN) {
            return fibril__op_over(op, result);
        }
    }
    int rc;
    if (fibril__op_writes(op) || (is_plain(op) && !is_polled(r, op))) {
        rc = ring(p, r, op, is_polled(r, op) ? WATCHING : RINGING);
    } else {
        rc = wait_to_read(p, r, op);
    }
    return rc < 0 ? fibril__op_over(op, -ENOMEM) : 0;
}

static void finish(struct uring_poller *p, struct fibril__op *op, int64_t result)
{
    fibril__link_remove(&op->link);
    op->result = result == -ECANCELED && (op->poller_state & FORGOTTEN) ? -EBADF : result;
    set_state(op, FINISHED);
    fibril__list_push(&p->finished, &op->link);
}

/* The first of a list has gone: begins those behind it until one has to wait. */
static void begin_next(struct uring_poller *p, struct fibril__fd_record *r,
                       struct fibril__list *list)
{
    struct fibril__link *first;
    while ((first = fibril__list_first(list)) != NULL && !is_in_ring(fibril__op_of(first))) {
        if (begin(p, r, fibril__op_of(first)) == 0) {
            return;
        }
        finish(p, fibril__op_of(first), fibril__op_of(first)->result);
    }
}

static int enlist(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    fibril__list_push(list_of(r, op), &op->link);
    p->base.pending++;
    return 0;
}

/* ---- completions --------------------------------------------------------------------------------
 */

static bool is_idle(const struct fibril__fd_record *r)
{
    return fibril__list_empty(&r->readers) && fibril__list_empty(&r->writers) &&
           !has(r, FIBRIL__FD_ARMED);
}

/* FORGET operations wait in the list of watchers and are over when nothing else is left. */
static void settle_forget(struct uring_poller *p, struct fibril__fd_record *r)
{
    struct fibril__link *first = fibril__list_first(&r->watchers);
    if (!is_idle(r) || (first && fibril__op_of(first)->kind != FIBRIL__OP_FORGET)) {
        return;
    }
    while ((first = fibril__list_first(&r->watchers)) != NULL) {
        finish(p, fibril__op_of(first), 0);
    }
    fibril__fd_record_reset(r);
}

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
    if (op->poller_state & CANCELLED) {
        return -ECANCELED;
    }
    if (res < 0) {
        return res == -EINTR ? -EAGAIN : res;
    }
    int64_t result = fibril__attempt(r, op);
    learn(r, op, result);
    return result;
}

/* What a completion means for op: its result, or -EAGAIN if it must be begun again. */
static int64_t outcome(struct fibril__fd_record *r, struct fibril__op *op,
                       const struct io_uring_cqe *cqe)
{
    if (state_of(op) == WATCHING) {
        return outcome_of_watch(r, op, cqe->res);
    }
    if (r) {
        learn_from_ring(r, op, cqe);
    }
    if (cqe->res == -EINTR || (cqe->res == -EAGAIN && is_ordered(op))) {
        return op->poller_state & CANCELLED ? -ECANCELED : -EAGAIN;
    }
    return op->kind == FIBRIL__OP_POLL ? fibril__uring_poll_result(op, cqe->res) : cqe->res;
}

static void complete(struct uring_poller *p, struct fibril__op *op, const struct io_uring_cqe *cqe)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->table, op->fd);
    int64_t result = outcome(r, op, cqe);
    if (UNLIKELY(result == -EAGAIN && (cqe->res != -EAGAIN || is_ordered(op)))) {
        bool as_itself = state_of(op) == RINGING &&
                         (cqe->res == -EINTR || !is_ordered(op) || op->kind == FIBRIL__OP_CONNECT);
        if (ring(p, r, op, as_itself ? RINGING : WATCHING) == 0) {
            return;
        }
        result = -ENOMEM;
    }
    struct fibril__list *list = r ? list_of(r, op) : NULL;
    finish(p, op, result);
    if (list && list != &r->watchers) {
        begin_next(p, r, list);
    }
    if (UNLIKELY(r && r->forgetting)) {
        settle_forget(p, r);
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

static void run_watchers(struct uring_poller *p, struct fibril__fd_record *r, int32_t res,
                         bool moved)
{
    struct fibril__link *link = r->watchers.head.next;
    while (link != &r->watchers.head) {
        struct fibril__op *op = fibril__op_of(link);
        link = link->next;
        if (state_of(op) != AWAITING) {
            continue;
        }
        int64_t result = outcome_of_edge(op, res, moved);
        if (result == -EAGAIN && !has(r, FIBRIL__FD_ARMED)) {
            result = arm(p, r, op->fd) < 0 ? -ENOMEM : -EAGAIN;
        }
        if (result != -EAGAIN) {
            finish(p, op, result);
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
static void on_edge(struct uring_poller *p, int fd, const struct io_uring_cqe *cqe)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->table, fd);
    if (UNLIKELY(!(cqe->flags & IORING_CQE_F_MORE))) {
        r->flags &= (uint8_t)~FIBRIL__FD_ARMED;
    }
    if (UNLIKELY(r->forgetting)) {
        settle_forget(p, r);
        return;
    }
    if (UNLIKELY(cqe->res < 0)) {
        struct fibril__link *first = fibril__list_first(&r->readers);
        if (first && cqe->res != -EINTR && cqe->res != -EAGAIN) {
            finish(p, fibril__op_of(first), cqe->res);
        }
    } else {
        note_edge(r, cqe->res);
    }
    bool moved = !fibril__list_empty(&r->readers);
    begin_next(p, r, &r->readers);
    run_watchers(p, r, cqe->res, moved);
}

static void on_completion(struct uring_poller *p, const struct io_uring_cqe *cqe)
{
    switch (cqe->user_data & DATA_MASK) {
    case DATA_OP: complete(p, (struct fibril__op *)(uintptr_t)cqe->user_data, cqe); break;
    case DATA_EDGE: on_edge(p, (int)(cqe->user_data >> DATA_SHIFT), cqe); break;
    case DATA_WAKE:
        if (!(cqe->flags & IORING_CQE_F_MORE)) {
            p->wake_armed = false;
        }
        break;
    default: break;
    }
}

/* The rest stays in the queue until those who were woken have run. */
static void reap(struct uring_poller *p)
{
    const struct io_uring_cqe *cqe;
    for (int n = 0; n < FIBRIL__BATCH && (cqe = fibril__uring_peek(&p->ring)) != NULL; n++) {
        struct io_uring_cqe copy = *cqe;
        fibril__uring_pass(&p->ring);
        on_completion(p, &copy);
    }
}

/* ---- starting and ending ------------------------------------------------------------------------
 */

static int start_ordered(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (fibril__list_empty(list_of(r, op))) {
        return begin(p, r, op) ? 1 : enlist(p, r, op);
    }
    if (UNLIKELY(fibril__op_is_empty(op))) {
        int64_t result = fibril__attempt(r, op);
        if (result != -EAGAIN) {
            return fibril__op_over(op, result);
        }
    }
    set_state(op, QUEUED);
    return enlist(p, r, op);
}

/* Tells the kernel to end what has that user_data. */
static void cancel_in_ring(struct uring_poller *p, uint64_t user_data)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    FIBRIL_ASSERT(sqe); /* without it the operation might never end */
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = user_data;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = DATA_IGNORE;
}

static void cancel_op(struct uring_poller *p, struct fibril__op *op)
{
    if (!(op->poller_state & CANCELLED)) {
        op->poller_state |= CANCELLED;
        cancel_in_ring(p, (uintptr_t)op);
    }
}

static void forget_list(struct uring_poller *p, struct fibril__list *list)
{
    struct fibril__link *link = list->head.next;
    while (link != &list->head) {
        struct fibril__op *op = fibril__op_of(link);
        link = link->next;
        if (op->kind == FIBRIL__OP_FORGET) {
            continue;
        }
        op->poller_state |= FORGOTTEN;
        if (is_in_ring(op)) {
            cancel_op(p, op);
        } else {
            finish(p, op, -EBADF);
        }
    }
}

static int start_forget(struct uring_poller *p, struct fibril__op *op)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->table, op->fd);
    if (!r) {
        return fibril__op_over(op, 0);
    }
    if (is_idle(r) && fibril__list_empty(&r->watchers)) {
        fibril__fd_record_reset(r);
        return fibril__op_over(op, 0);
    }
    if (has(r, FIBRIL__FD_ARMED) && !r->forgetting) {
        cancel_in_ring(p, (uint64_t)(uint32_t)op->fd << DATA_SHIFT | DATA_EDGE);
    }
    r->forgetting = 1;
    forget_list(p, &r->readers);
    forget_list(p, &r->writers);
    forget_list(p, &r->watchers);
    fibril__list_push(&r->watchers, &op->link);
    p->base.pending++;
    settle_forget(p, r);
    return 0;
}

/* Polls and operations on files: each goes into the ring at once. */
static int start_free(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (ring(p, r, op, RINGING) < 0) {
        return fibril__op_over(op, -ENOMEM);
    }
    if (r) {
        return enlist(p, r, op);
    }
    p->base.pending++;
    return 0;
}

/* A poll for bytes by one who receives them directly waits for an edge as his reads do. The first
 * few go into the ring by themselves, and so do those that may find bytes left there. */
static bool awaits_edge(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (!fibril__op_awaits_bytes(op) || has(r, FIBRIL__FD_ENDING)) {
        return false;
    }
    if (has(r, FIBRIL__FD_ARMED)) {
        bool trusted = has(r, FIBRIL__FD_DRAINED) && (op->flags & FIBRIL__POLL_TRUSTS);
        return trusted || !has(r, FIBRIL__FD_READABLE);
    }
    if (r->reads < READS_BEFORE_ARMING) {
        r->reads++;
        return false;
    }
    return has(r, FIBRIL__FD_DRAINED) && arm(p, r, op->fd) == 0;
}

static int start_poll(struct uring_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (!awaits_edge(p, r, op)) {
        return start_free(p, r, op);
    }
    set_state(op, AWAITING);
    return enlist(p, r, op);
}

static int uring_start(struct fibril__poller *base, struct fibril__op *op)
{
    struct uring_poller *p = self_of(base);
    op->poller_state = 0;
    op->link = (struct fibril__link){NULL, NULL};
    if (UNLIKELY(op->kind == FIBRIL__OP_FORGET)) {
        return start_forget(p, op);
    }
    if (UNLIKELY(op->fd < 0)) { /* the directory of OPENAT2 may be AT_FDCWD */
        return op->kind == FIBRIL__OP_OPENAT2 ? start_free(p, NULL, op)
                                              : fibril__op_over(op, -EBADF);
    }
    struct fibril__fd_record *r = fibril__fd_table_get(&p->table, op->fd);
    if (UNLIKELY(!r)) {
        return fibril__op_over(op, -ENOMEM);
    }
    if (UNLIKELY(r->forgetting)) {
        return fibril__op_over(op, -EBADF);
    }
    if (op->kind == FIBRIL__OP_POLL) {
        return start_poll(p, r, op);
    }
    return is_ordered(op) ? start_ordered(p, r, op) : start_free(p, r, op);
}

/* An operation that was not handed over yet is taken back: its place in the queue becomes an empty
 * operation. */
static bool take_back(struct uring_poller *p, struct fibril__op *op)
{
    struct io_uring_sqe *sqe = fibril__uring_find(&p->ring, (uintptr_t)op);
    if (sqe) {
        *sqe = (struct io_uring_sqe){.opcode = IORING_OP_NOP, .fd = -1, .user_data = DATA_IGNORE};
    }
    return sqe != NULL;
}

static int uring_cancel(struct fibril__poller *base, struct fibril__op *op)
{
    struct uring_poller *p = self_of(base);
    if (state_of(op) == FINISHED || op->kind == FIBRIL__OP_FORGET ||
        (op->poller_state & (CANCELLED | FORGOTTEN))) {
        return 0;
    }
    bool was_first = state_of(op) != QUEUED;
    if (is_in_ring(op) && !take_back(p, op)) {
        cancel_op(p, op);
        return 0;
    }
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->table, op->fd);
    struct fibril__list *list = r ? list_of(r, op) : NULL;
    fibril__link_remove(&op->link);
    p->base.pending--;
    if (list && list != &r->watchers && was_first) {
        begin_next(p, r, list);
    }
    return fibril__op_over(op, -ECANCELED);
}

/* ---- the wait -----------------------------------------------------------------------------------
 */

static void arm_wake(struct uring_poller *p)
{
    struct io_uring_sqe *sqe = fibril__uring_sqe(&p->ring);
    if (sqe) {
        fibril__uring_prep_poll(sqe, p->wakeup.fd, POLLIN);
        sqe->len = IORING_POLL_ADD_MULTI; /* one completion per write, nobody reads the counter */
        sqe->user_data = DATA_WAKE;
        p->wake_armed = true;
    }
}

static void enter(struct uring_poller *p, int64_t left_ns)
{
    int rc = fibril__uring_enter(&p->ring, /* look= */ true, left_ns);
    FIBRIL_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM);
}

static void look(struct uring_poller *p, int64_t left_ns)
{
    bool needed = left_ns > 0 || fibril__uring_queued(&p->ring) || fibril__uring_due(&p->ring);
    if (needed) {
        enter(p, left_ns);
    }
    reap(p);
    if (UNLIKELY(fibril__uring_due(&p->ring))) { /* more than the queue holds */
        enter(p, 0);
        reap(p);
    }
}

static int uring_wait(struct fibril__poller *base, int64_t deadline_ns)
{
    struct uring_poller *p = self_of(base);
    bool woken = false;
    bool ready = !fibril__list_empty(&p->finished) || fibril__uring_peek(&p->ring);
    int64_t left_ns = ready ? 0 : fibril__time_left(deadline_ns);
    for (;;) {
        if (UNLIKELY(!p->wake_armed)) {
            arm_wake(p);
        }
        if (left_ns == 0) {
            woken |= fibril__wakeup_taken(&p->wakeup);
            look(p, 0);
        } else if (fibril__wakeup_sleep(&p->wakeup)) {
            look(p, left_ns);
            woken = fibril__wakeup_awake(&p->wakeup);
        } else {
            woken = true;
            look(p, 0);
        }
        if (!fibril__list_empty(&p->finished) || woken || left_ns == 0) {
            return fibril__finished_call(&p->base, &p->finished);
        }
        left_ns = fibril__time_left(deadline_ns);
    }
}

static void uring_wake(struct fibril__poller *base)
{
    fibril__wakeup_send(&self_of(base)->wakeup);
}

static int64_t uring_now(struct fibril__poller *base)
{
    (void)base;
    return fibril__clock_now();
}

/* ---- opening ------------------------------------------------------------------------------------
 */

static int uring_open(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller)
{
    (void)opts;
    struct uring_poller *p = fibril__alloc_zero(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    int rc = fibril__wakeup_open(&p->wakeup);
    if (rc < 0) {
        fibril__free(p);
        return rc;
    }
    rc = fibril__uring_open(&p->ring, SQ_ENTRIES, CQ_ENTRIES);
    if (rc < 0) {
        fibril__wakeup_close(&p->wakeup);
        fibril__free(p);
        return rc;
    }
    fibril__list_init(&p->finished);
    p->base.ops = &fibril__poll_uring;
    p->base.files_by_ring = 1;
    *ret_poller = &p->base;
    return 0;
}

static void free_poller(struct uring_poller *p)
{
    fibril__wakeup_close(&p->wakeup);
    fibril__fd_table_fini(&p->table);
    fibril__free(p);
}

static void uring_close(struct fibril__poller *base)
{
    struct uring_poller *p = self_of(base);
    fibril__uring_close(&p->ring);
    free_poller(p);
}

static void uring_abandon(struct fibril__poller *base)
{
    struct uring_poller *p = self_of(base);
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
    .cancel = uring_cancel,
    .wait = uring_wait,
    .wake = uring_wake,
    .now = uring_now,
};
