/* SPDX-License-Identifier: MIT */
/*
 * The poller on epoll. Completion by retrying: an operation is tried at once; if it would block, it
 * waits in the descriptor's record until an edge says that another try is worth it.
 *
 *   start: tried at once, unless others wait before it or a hint says "surely not"
 *     -> over, or waits in readers / writers / watchers
 *   edge:  hints up, the lists are tried in order until one would block
 *   over:  taken out of its list; done is called, from wait() only
 *
 * A descriptor is registered once, edge-triggered for everything, when something on it has to wait
 * for the first time. The hints are only ever wrong in the harmless direction: clear means that the
 * kernel owes us an edge. A short read of a byte stream clears the hint too, which saves the call
 * that would say EAGAIN. Rejected: EPOLLONESHOT or level-triggered interest, which cost one
 * epoll_ctl per wait.
 *
 * FORGET does not unregister, as close(2) does that; an event with an old generation comes from a
 * duplicate that is still open, and is dropped.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "poll/attempt.h"
#include "poll/finished.h"
#include "poll/kernel.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum state { WAITING = 1, CONNECTING, FINISHED };

#define WAKE_DATA UINT64_MAX

static const uint32_t all_edges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | (uint32_t)EPOLLET;

struct epoll_poller {
    struct fibril__kernel kernel; /* first */
    int epoll_fd;
    bool no_pwait2; /* the kernel lacks epoll_pwait2 */
    struct epoll_event events[FIBRIL__BATCH];
};

static inline struct epoll_poller *self_of(struct fibril__poller *p)
{
    return CONTAINER_OF(p, struct epoll_poller, kernel.base);
}

/* ---- trying -------------------------------------------------------------- */

/* The hint that is cleared when op would block. */
static unsigned blocked_side(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_POLL ? 0
           : fibril__op_writes(op)     ? FIBRIL__FD_WRITABLE
                                       : FIBRIL__FD_READABLE;
}

/* Tries op and learns from it. The hints mean nothing before the descriptor is registered, but do
 * no harm. */
static int64_t attempt(struct fibril__fd_record *r, struct fibril__op *op)
{
    int64_t result =
        op->poller_state == CONNECTING ? fibril__attempt_connected(op->fd) : fibril__attempt(r, op);
    if (result == -EAGAIN || fibril__attempt_was_short(r, op, result)) {
        unsigned side = blocked_side(op);
        r->flags &= (uint8_t)~side;
        r->flags |= side == FIBRIL__FD_READABLE ? FIBRIL__FD_DRAINED : 0;
    }
    return result;
}

static int64_t epoll_attempt(struct fibril__poller *base, struct fibril__op *op)
{
    struct fibril__fd_record nobody = {.kind = FIBRIL__KIND_UNKNOWN};
    struct fibril__fd_record *r = fibril__fd_table_get(&self_of(base)->kernel.table, op->fd);
    return attempt(r ? r : &nobody, op);
}

/* ---- waiting for edges --------------------------------------------------- */

/* From now on edges are reported; one comes at once if the descriptor is ready already. */
static int add_to_epoll(struct epoll_poller *p, struct fibril__fd_record *r, int fd)
{
    struct epoll_event e = {.events = all_edges};
    e.data.u64 = (uint64_t)r->generation << 32 | (uint32_t)fd;
    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0) {
        return 0;
    }
    /* Left from a life before FORGET, and the same file again. */
    if (errno == EEXIST && epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, fd, &e) == 0) {
        return 0;
    }
    return -errno;
}

static int enter_epoll(struct epoll_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (LIKELY(r->flags & FIBRIL__FD_REGISTERED)) {
        return 0;
    }
    if (r->kind == FIBRIL__KIND_UNKNOWN) {
        /* What was drained without being looked at is a socket. */
        if (op->kind == FIBRIL__OP_POLL && !(r->flags & FIBRIL__FD_DRAINED)) {
            int rc = fibril__fd_classify(r, op->fd);
            if (rc < 0) {
                return rc;
            }
        } else {
            fibril__fd_classify_socket(r, op->fd);
        }
    }
    int rc = add_to_epoll(p, r, op->fd);
    if (rc == 0) {
        r->flags |= FIBRIL__FD_REGISTERED | FIBRIL__FD_READABLE | FIBRIL__FD_WRITABLE;
        r->flags &= (uint8_t)~blocked_side(op);
    }
    return rc;
}

static int queue(struct epoll_poller *p, struct fibril__list *list, struct fibril__op *op)
{
    if (op->poller_state != CONNECTING) {
        op->poller_state = WAITING;
    }
    fibril__list_push(list, &op->link);
    p->kernel.base.pending++;
    return 0;
}

/* op would block. Files that epoll refuses are always ready, so for them that is an answer. */
static int wait_for_edge(struct epoll_poller *p, struct fibril__fd_record *r,
                         struct fibril__list *list, struct fibril__op *op)
{
    int rc = enter_epoll(p, r, op);
    if (rc == -EPERM) {
        r->kind = FIBRIL__KIND_FILE;
        return fibril__op_over(op, op->kind == FIBRIL__OP_POLL ? op->events : -EAGAIN);
    }
    return rc < 0 ? fibril__op_over(op, rc) : queue(p, list, op);
}

static void finish(struct epoll_poller *p, struct fibril__op *op, int64_t result)
{
    fibril__link_remove(&op->link);
    op->result = result;
    op->poller_state = FINISHED;
    fibril__list_push(&p->kernel.finished, &op->link);
}

static void run_list(struct epoll_poller *p, struct fibril__fd_record *r, struct fibril__list *list,
                     unsigned hint)
{
    struct fibril__link *first;
    while ((r->flags & hint) && (first = fibril__list_first(list)) != NULL) {
        int64_t result = attempt(r, fibril__op_of(first));
        if (result == -EAGAIN) {
            return;
        }
        finish(p, fibril__op_of(first), result);
    }
}

/* `known` is what the edge said, or 0 when it may have been used up since then. epoll reports the
 * whole state in the bits of poll(2), so a watcher needs no call of its own. */
static void run_watchers(struct epoll_poller *p, struct fibril__fd_record *r, uint32_t known)
{
    struct fibril__link *link = r->watchers.head.next;
    while (link != &r->watchers.head) {
        struct fibril__op *op = fibril__op_of(link);
        link = link->next;
        int result = known ? (int)known & (op->events | POLLERR | POLLHUP)
                           : fibril__attempt_poll(op->fd, op->events);
        if (result != 0) {
            finish(p, op, result);
        }
    }
}

/* An edge with an old generation. If nothing is registered now, the number still names the same
 * file or none that we know, so that taking it out can only hit what sent the event. */
static void drop_stale(struct epoll_poller *p, const struct fibril__fd_record *r, int fd)
{
    if (!r || !(r->flags & FIBRIL__FD_REGISTERED)) {
        epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    }
}

static void on_edge(struct epoll_poller *p, const struct epoll_event *e)
{
    int fd = (int)(uint32_t)e->data.u64;
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, fd);
    if (UNLIKELY(!r || r->generation != (uint32_t)(e->data.u64 >> 32))) {
        drop_stale(p, r, fd);
        return;
    }
    if (e->events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        r->flags |= FIBRIL__FD_READABLE;
    }
    if (e->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        r->flags |= FIBRIL__FD_WRITABLE;
    }
    if (UNLIKELY(e->events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        r->flags |= FIBRIL__FD_ENDING;
    }
    bool moved = !fibril__list_empty(&r->readers) || !fibril__list_empty(&r->writers);
    run_list(p, r, &r->readers, FIBRIL__FD_READABLE);
    run_list(p, r, &r->writers, FIBRIL__FD_WRITABLE);
    if (UNLIKELY(!fibril__list_empty(&r->watchers))) {
        run_watchers(p, r, moved ? 0 : e->events);
    }
}

/* ---- starting and ending ------------------------------------------------- */

/* Whether all that op waits for was used up by a receive: there is no need to ask, an edge is owed,
 * or will be when the descriptor is registered. */
static bool awaits_reading(const struct fibril__fd_record *r, const struct fibril__op *op)
{
    unsigned drained = r->flags & (FIBRIL__FD_REGISTERED | FIBRIL__FD_DRAINED);
    return drained && !(r->flags & (FIBRIL__FD_READABLE | FIBRIL__FD_ENDING)) &&
           fibril__op_awaits_bytes(op);
}

static int start_poll(struct epoll_poller *p, struct fibril__fd_record *r, struct fibril__op *op)
{
    if (awaits_reading(r, op)) {
        return wait_for_edge(p, r, &r->watchers, op);
    }
    int result = fibril__attempt_poll(op->fd, op->events);
    return result ? fibril__op_over(op, result) : wait_for_edge(p, r, &r->watchers, op);
}

static int start_transfer(struct epoll_poller *p, struct fibril__fd_record *r,
                          struct fibril__op *op)
{
    struct fibril__list *list = fibril__op_writes(op) ? &r->writers : &r->readers;
    unsigned hint = blocked_side(op);
    if (r->flags & FIBRIL__FD_REGISTERED) {
        /* An edge is owed: nothing to gain from a try. An empty transfer never waits, so it is
         * always tried. */
        bool waits = !fibril__list_empty(list) || !(r->flags & hint);
        if (waits && op->kind != FIBRIL__OP_CONNECT && !fibril__op_is_empty(op)) {
            return queue(p, list, op);
        }
    }
    int64_t result = attempt(r, op);
    if (result == -EINPROGRESS && op->kind == FIBRIL__OP_CONNECT) {
        op->poller_state = CONNECTING;
        result = -EAGAIN;
    } else if (result == -EAGAIN && op->kind == FIBRIL__OP_CONNECT) {
        return fibril__op_over(op, result); /* a full UNIX backlog tells nobody when there is room
                                             */
    }
    return result == -EAGAIN ? wait_for_edge(p, r, list, op) : fibril__op_over(op, result);
}

static bool forget_list(struct epoll_poller *p, struct fibril__list *list)
{
    bool any = false;
    for (struct fibril__link *link; (link = fibril__list_first(list)) != NULL; any = true) {
        finish(p, fibril__op_of(link), -EBADF);
    }
    return any;
}

static int start_forget(struct epoll_poller *p, struct fibril__op *op)
{
    struct fibril__fd_record *r = fibril__fd_table_peek(&p->kernel.table, op->fd);
    if (!r) {
        return fibril__op_over(op, 0);
    }
    bool any = forget_list(p, &r->readers);
    any |= forget_list(p, &r->writers);
    any |= forget_list(p, &r->watchers);
    fibril__fd_record_reset(r);
    if (!any) {
        return fibril__op_over(op, 0);
    }
    p->kernel.base.pending++;
    finish(p, op, 0);
    return 0;
}

static int epoll_start(struct fibril__poller *base, struct fibril__op *op)
{
    struct epoll_poller *p = self_of(base);
    op->poller_state = 0;
    op->link = (struct fibril__link){NULL, NULL};
    if (UNLIKELY(op->kind >= FIBRIL__OP_PREAD)) {
        return op->kind == FIBRIL__OP_FORGET ? start_forget(p, op)
                                             : fibril__op_over(op, -EOPNOTSUPP);
    }
    if (UNLIKELY(op->fd < 0)) {
        return fibril__op_over(op, -EBADF);
    }
    struct fibril__fd_record *r = fibril__fd_table_get(&p->kernel.table, op->fd);
    if (UNLIKELY(!r)) {
        return fibril__op_over(op, -ENOMEM);
    }
    if (op->kind == FIBRIL__OP_POLL) {
        return start_poll(p, r, op);
    }
    return start_transfer(p, r, op);
}

static int epoll_cancel(struct fibril__poller *base, struct fibril__op *op)
{
    struct epoll_poller *p = self_of(base);
    if (op->poller_state == FINISHED) {
        return 0;
    }
    fibril__link_remove(&op->link);
    p->kernel.base.pending--;
    return fibril__op_over(op, -ECANCELED);
}

/* ---- the wait ------------------------------------------------------------ */

static int wait_ms(struct epoll_poller *p, int64_t left_ns)
{
    int64_t ms = left_ns == INT64_MAX ? -1 : left_ns / 1000000 + (left_ns % 1000000 != 0);
    return epoll_wait(p->epoll_fd, p->events, FIBRIL__BATCH, ms > INT_MAX ? INT_MAX : (int)ms);
}

/* Waits for events as long as left_ns says. Returns how many, 0 also after a signal. */
static int wait_events(struct epoll_poller *p, int64_t left_ns)
{
    int n;
    if (left_ns == 0 || left_ns == INT64_MAX || p->no_pwait2) {
        n = wait_ms(p, left_ns);
    } else {
        struct timespec t = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
        n = epoll_pwait2(p->epoll_fd, p->events, FIBRIL__BATCH, &t, NULL);
        if (n < 0 && (errno == ENOSYS || errno == EPERM)) {
            p->no_pwait2 = true;
            n = wait_ms(p, left_ns);
        }
    }
    FIBRIL_ASSERT(n >= 0 || errno == EINTR);
    return n < 0 ? 0 : n;
}

static void look(struct epoll_poller *p, int64_t left_ns)
{
    int n = wait_events(p, left_ns);
    for (int i = 0; i < n; i++) {
        if (LIKELY(p->events[i].data.u64 != WAKE_DATA)) {
            on_edge(p, &p->events[i]);
        }
    }
}

static int epoll_poller_wait(struct fibril__poller *base, int64_t deadline_ns)
{
    struct epoll_poller *p = self_of(base);
    bool woken = false;
    int64_t left_ns = fibril__list_empty(&p->kernel.finished) ? fibril__time_left(deadline_ns) : 0;
    for (;;) {
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

static int open_descriptors(struct epoll_poller *p)
{
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0) {
        return -errno;
    }
    int rc = fibril__wakeup_open(&p->kernel.wakeup);
    if (rc < 0) {
        close(p->epoll_fd);
        return rc;
    }
    /* Edge-triggered, so that nobody has to read the counter back to zero. */
    struct epoll_event e = {.events = EPOLLIN | (uint32_t)EPOLLET, .data.u64 = WAKE_DATA};
    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->kernel.wakeup.fd, &e) < 0) {
        rc = -errno;
        fibril__wakeup_close(&p->kernel.wakeup);
        close(p->epoll_fd);
    }
    return rc;
}

static int epoll_open(const struct fibril__poll_opts *opts, struct fibril__poller **ret_poller)
{
    (void)opts;
    struct epoll_poller *p = fibril__alloc_zero(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    int rc = open_descriptors(p);
    if (rc < 0) {
        fibril__free(p);
        return rc;
    }
    fibril__list_init(&p->kernel.finished);
    p->kernel.base.ops = &fibril__poll_epoll;
    fibril__kernel_owns(&p->kernel, p->epoll_fd);
    *ret_poller = &p->kernel.base;
    return 0;
}

static void epoll_close(struct fibril__poller *base)
{
    struct epoll_poller *p = self_of(base);
    fibril__wakeup_close(&p->kernel.wakeup);
    close(p->epoll_fd);
    fibril__fd_table_fini(&p->kernel.table);
    fibril__free(p);
}

const struct fibril__poll_ops fibril__poll_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .abandon = epoll_close, /* the set lives on in the parent, with what is in it */
    .start = epoll_start,
    .attempt = epoll_attempt,
    .cancel = epoll_cancel,
    .wait = epoll_poller_wait,
    .wake = fibril__kernel_wake,
    .now = fibril__kernel_now,
};
