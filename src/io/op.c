/* SPDX-License-Identifier: MIT */
/*
 * See op.h. The fibril's `wait_on` points to the struct fibril__io, on its own stack or on the
 * heap, for abort and for dumps.
 *
 *   start -> over at once
 *         -> pending -> done                     the result wakes the fibril
 *                    -> abort: poller lets go    the wait ends at once with the reason
 *                    -> abort: kernel holds it   stays parked; done brings result or reason
 */
#include "io/op.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "io/sys.h"
#include "sched/users.h"

#include <poll.h>

enum { SPARES_MAX = 256 }; /* of a loop's records for waits from copied stacks */

/* ---- parking on an operation ----------------------------------------------------------------- */

static bool abort_io(struct fibril *f, int error)
{
    struct fibril__io *io = f->wait_on;
    if (io->why) {
        return false; /* the first reason counts, and the poller knows already */
    }
    io->why = error;
    struct fibril__poller *p = f->loop->poller;
    return p->ops->cancel(p, &io->op) == 1;
}

static int fd_of(const struct fibril *f)
{
    const struct fibril__io *io = f->wait_on;
    return io->op.fd;
}

static void done(struct fibril__op *op)
{
    struct fibril__io *io = CONTAINER_OF(op, struct fibril__io, op);
    fibril__wake(io->fibril, fibril__io_result(op, io->why));
}

#define KIND(text) KIND_OF(text, false)
#define KIND_OF(text, file)                                                                        \
    {                                                                                              \
        .name = (text), .reason = FIBRIL__BY_IO, .of_file = (file), .abort = abort_io, .fd = fd_of \
    }

static const struct fibril__wait_kind kinds[] = {
    [FIBRIL__OP_POLL] = KIND("ready"),
    [FIBRIL__OP_READ] = KIND("read"),
    [FIBRIL__OP_WRITE] = KIND("write"),
    [FIBRIL__OP_READV] = KIND("readv"),
    [FIBRIL__OP_WRITEV] = KIND("writev"),
    [FIBRIL__OP_RECV] = KIND("recv"),
    [FIBRIL__OP_SEND] = KIND("send"),
    [FIBRIL__OP_RECVMSG] = KIND("recvmsg"),
    [FIBRIL__OP_SENDMSG] = KIND("sendmsg"),
    [FIBRIL__OP_ACCEPT] = KIND("accept"),
    [FIBRIL__OP_CONNECT] = KIND("connect"),
    [FIBRIL__OP_PREAD] = KIND_OF("pread", true),
    [FIBRIL__OP_PWRITE] = KIND_OF("pwrite", true),
    [FIBRIL__OP_FSYNC] = KIND_OF("fsync", true),
    [FIBRIL__OP_OPENAT2] = KIND_OF("open", true),
    [FIBRIL__OP_FORGET] = KIND("close"),
};

int64_t fibril__io_wait(struct fibril__io *io, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    io->op.done = done;
    io->fibril = loop->current;
    io->why = 0;
    if (loop->poller->ops->start(loop->poller, &io->op)) {
        int64_t result = io->op.result;
        if (result >= 0) {
            fibril__spend();
        }
        return result;
    }
    return fibril__park(&kinds[io->op.kind], io, deadline_ns);
}

/* ---- from a copied stack --------------------------------------------------------------------- */

static short events_of(const struct fibril__op *op)
{
    switch (op->kind) {
    case FIBRIL__OP_POLL: return op->events;
    case FIBRIL__OP_WRITE:
    case FIBRIL__OP_WRITEV:
    case FIBRIL__OP_SEND:
    case FIBRIL__OP_SENDMSG: return POLLOUT;
    default: return POLLIN;
    }
}

/* A record is kept as a link while nobody waits with it. */
_Static_assert(sizeof(struct fibril__io) >= sizeof(struct fibril__link), "a spare is a link");

static struct fibril__io *take_record(struct fibril_loop *loop)
{
    struct fibril__link *spare = loop->io_spares;
    if (UNLIKELY(!spare)) {
        return fibril__alloc(sizeof(struct fibril__io));
    }
    loop->io_spares = spare->next;
    loop->io_spare_count--;
    return (struct fibril__io *)(void *)spare;
}

/* More than the loop needs between two looks at the poller would be memory for nobody. */
static void give_record(struct fibril_loop *loop, struct fibril__io *record)
{
    if (FIBRIL_HARD || loop->io_spare_count == SPARES_MAX) {
        fibril__free(record);
        return;
    }
    struct fibril__link *spare = (struct fibril__link *)(void *)record;
    spare->next = loop->io_spares;
    loop->io_spares = spare;
    loop->io_spare_count++;
}

static int64_t wait_ready(int fd, short events, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    struct fibril__io *record = take_record(loop);
    if (!record) {
        return -ENOMEM;
    }
    *record = (struct fibril__io){.op = {.kind = FIBRIL__OP_POLL, .fd = fd, .events = events}};
    int64_t result = fibril__io_wait(record, deadline_ns);
    give_record(loop, record);
    return result;
}

/* Each turn either ends or has waited, so the loop is bounded by how often others are faster. */
static int64_t run_by_readiness(struct fibril__io *io, int64_t deadline_ns)
{
    for (;;) {
        int64_t result = fibril__sys_attempt(&io->op);
        if (result != -EAGAIN) {
            if (result >= 0) {
                fibril__spend();
            }
            return result;
        }
        result = wait_ready(io->op.fd, events_of(&io->op), deadline_ns);
        if (result < 0) {
            return result;
        }
        if (io->op.kind == FIBRIL__OP_POLL) {
            return result;
        }
    }
}

static int64_t run_copied(struct fibril__io *io, int64_t deadline_ns)
{
    bool by_copies = io->op.kind == FIBRIL__OP_CONNECT || fibril__sys_simulated();
    return by_copies ? fibril__io_bounce(io, deadline_ns) : run_by_readiness(io, deadline_ns);
}

/* ---- running --------------------------------------------------------------------------------- */

/* A past deadline means one try, and a cancelled fibril may still do what needs no wait. The
 * pollers do not promise to try: io_uring would queue the operation and give it up unseen, and
 * epoll leaves out a try when an edge is owed. */
static bool only_tries(const struct fibril__io *io, int64_t deadline_ns)
{
    bool cannot_wait = deadline_ns <= fibril__loop->now_ns || fibril__io_cancelled();
    return UNLIKELY(cannot_wait) && io->op.kind != FIBRIL__OP_CONNECT && !fibril__sys_simulated();
}

static int64_t run_try(struct fibril__io *io)
{
    int64_t result = fibril__sys_attempt(&io->op);
    if (result == -EAGAIN) {
        result = fibril__io_cancelled() ? -ECANCELED : -ETIMEDOUT;
    }
    if (result >= 0 || result == -ETIMEDOUT) {
        fibril__spend(); /* also without luck: whoever only tries must let the others run */
    }
    return result;
}

int64_t fibril__io_run(struct fibril__io *io, int64_t deadline_ns)
{
    if (UNLIKELY(!fibril__loop)) {
        return -EPERM;
    }
    int rc = fibril__users_enter(io->op.fd);
    if (UNLIKELY(rc != 0)) {
        return rc;
    }
    if (UNLIKELY(io->op.kind == FIBRIL__OP_WRITE || io->op.kind == FIBRIL__OP_WRITEV)) {
        fibril__sys_guard_pipes();
    }
    if (only_tries(io, deadline_ns)) {
        return run_try(io);
    }
    return LIKELY(fibril__stack_stays()) ? fibril__io_wait(io, deadline_ns)
                                         : run_copied(io, deadline_ns);
}

int64_t fibril__io_ready(int fd, short events, int64_t deadline_ns)
{
    struct fibril__io io = {.op = {.kind = FIBRIL__OP_POLL, .fd = fd, .events = events}};
    return fibril__io_run(&io, deadline_ns);
}
