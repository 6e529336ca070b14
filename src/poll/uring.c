/* SPDX-License-Identifier: MIT */
/*
 * See uring.h. Asked for at setup: SUBMIT_ALL (one bad entry does not stop the rest), SINGLE_ISSUER
 * and DEFER_TASKRUN (completions are made only inside our own call, by our own thread),
 * TASKRUN_FLAG (so that a look without waiting costs a load, not a call). A kernel that refuses
 * these is older than 6.1, and epoll is better there.
 *
 * Memory order: the kernel's side of each index is read with acquire and ours written with release;
 * the flags are hints.
 */
#include "poll/uring.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <linux/time_types.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PROBE_OPS = 64, PROBE_WAIT_NS = 1000000000 };

static const uint32_t setup_flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                                    IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;

static const uint32_t needed_features =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
    IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;

static const uint8_t needed_ops[] = {
    IORING_OP_POLL_ADD, IORING_OP_READ,    IORING_OP_WRITE,        IORING_OP_RECV,
    IORING_OP_SEND,     IORING_OP_RECVMSG, IORING_OP_SENDMSG,      IORING_OP_ACCEPT,
    IORING_OP_CONNECT,  IORING_OP_FSYNC,   IORING_OP_ASYNC_CANCEL, IORING_OP_OPENAT2,
};

/* ---- the queues ---------------------------------------------------------- */

/* The ring's timeouts alone are free of the slack that the kernel gives to all of a thread's
 * sleeps, epoll's too: without it those that end within some microseconds of each other wake us one
 * by one.
 */
static struct __kernel_timespec with_slack(const struct fibril__uring *r, int64_t timeout_ns)
{
    int64_t ns = timeout_ns > 0 && timeout_ns < FIBRIL__TIMEOUT_FOREVER - r->slack_ns
                     ? timeout_ns + r->slack_ns
                     : timeout_ns;
    return (struct __kernel_timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

int fibril__uring_enter(struct fibril__uring *r, bool look, int64_t timeout_ns)
{
    struct __kernel_timespec t = with_slack(r, timeout_ns);
    struct io_uring_getevents_arg arg = {
        .ts = timeout_ns == FIBRIL__TIMEOUT_FOREVER ? 0 : (uint64_t)(uintptr_t)&t};
    uint32_t flags = r->enter_flags | (look ? IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG : 0);
    unsigned least = look && timeout_ns > 0 ? 1 : 0;
    __atomic_store_n(r->sq_tail, r->tail, __ATOMIC_RELEASE);
    long n = syscall(SYS_io_uring_enter, r->enter_fd, fibril__uring_queued(r), least, flags,
                     look ? &arg : NULL, look ? sizeof(arg) : 0);
    if (n >= 0 || errno == ETIME || errno == EINTR) {
        return 0;
    }
    return -errno;
}

struct io_uring_sqe *fibril__uring_sqe(struct fibril__uring *r)
{
    if (UNLIKELY(fibril__uring_queued(r) == r->sq_entries)) {
        fibril__uring_enter(r, /* look= */ false, 0);
        if (fibril__uring_queued(r) == r->sq_entries) {
            return NULL;
        }
    }
    struct io_uring_sqe *sqe = &r->sqes[r->tail++ & r->sq_mask];
    memset(sqe, 0, sizeof(*sqe));
    return sqe;
}

struct io_uring_sqe *fibril__uring_find(struct fibril__uring *r, uint64_t user_data)
{
    for (uint32_t i = r->tail - fibril__uring_queued(r); i != r->tail; i++) {
        if (r->sqes[i & r->sq_mask].user_data == user_data) {
            return &r->sqes[i & r->sq_mask];
        }
    }
    return NULL;
}

/* ---- opening ------------------------------------------------------------- */

static int map_rings(struct fibril__uring *r, const struct io_uring_params *p)
{
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    r->rings_bytes = sq > cq ? sq : cq;
    r->rings = mmap(NULL, r->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
                    IORING_OFF_SQ_RING);
    if (r->rings == MAP_FAILED) {
        return -errno;
    }
    r->sqes = mmap(NULL, p->sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    if (r->sqes == MAP_FAILED) {
        int rc = -errno;
        munmap(r->rings, r->rings_bytes);
        return rc;
    }
    return 0;
}

static uint32_t *word(const struct fibril__uring *r, uint32_t offset)
{
    return (uint32_t *)(void *)((char *)r->rings + offset);
}

static void find_rings(struct fibril__uring *r, const struct io_uring_params *p)
{
    r->sq_head = word(r, p->sq_off.head);
    r->sq_tail = word(r, p->sq_off.tail);
    r->sq_flags = word(r, p->sq_off.flags);
    r->sq_entries = p->sq_entries;
    r->sq_mask = p->sq_entries - 1;
    r->tail = *r->sq_tail;
    r->cq_head = word(r, p->cq_off.head);
    r->cq_tail = word(r, p->cq_off.tail);
    r->cq_mask = p->cq_entries - 1;
    r->cqes = (struct io_uring_cqe *)(void *)word(r, p->cq_off.cqes);
    for (uint32_t i = 0; i < p->sq_entries; i++) {
        word(r, p->sq_off.array)[i] = i; /* entries are used in the order of their places */
    }
}

/* Spares a look-up of the descriptor in each call; done without where it is refused. */
static void register_descriptor(struct fibril__uring *r)
{
    struct io_uring_rsrc_update u = {.offset = UINT32_MAX, .data = (uint64_t)r->fd};
    if (syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_RING_FDS, &u, 1) == 1) {
        r->enter_fd = (int)u.offset;
        r->enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
}

static int set_up(struct fibril__uring *r, uint32_t sq_entries, uint32_t cq_entries)
{
    struct io_uring_params p = {.flags = setup_flags, .cq_entries = cq_entries};
    r->fd = (int)syscall(SYS_io_uring_setup, sq_entries, &p);
    if (r->fd < 0) {
        return -errno;
    }
    int rc = (p.features & needed_features) == needed_features ? map_rings(r, &p) : -ENOSYS;
    if (rc < 0) {
        close(r->fd);
        return rc;
    }
    find_rings(r, &p);
    r->features = p.features;
    int slack = prctl(PR_GET_TIMERSLACK);
    r->slack_ns = slack > 0 ? slack : 0;
    r->enter_fd = r->fd;
    r->enter_flags = p.features & FIBRIL__FEAT_NO_IOWAIT ? FIBRIL__ENTER_NO_IOWAIT : 0;
    register_descriptor(r);
    return 0;
}

/* ---- does it work? ------------------------------------------------------- */

static int probe_ops(struct fibril__uring *r)
{
    size_t bytes = sizeof(struct io_uring_probe) + PROBE_OPS * sizeof(struct io_uring_probe_op);
    struct io_uring_probe *probe = fibril__alloc_zero(bytes);
    if (!probe) {
        return -ENOMEM;
    }
    int rc = syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_PROBE, probe, PROBE_OPS) < 0
                 ? -errno
                 : 0;
    for (size_t i = 0; rc == 0 && i < sizeof(needed_ops); i++) {
        uint8_t op = needed_ops[i];
        if (op > probe->last_op || !(probe->ops[op].flags & IO_URING_OP_SUPPORTED)) {
            rc = -ENOSYS;
        }
    }
    fibril__free(probe);
    return rc;
}

/* A receive that has to wait, then a byte: some sandboxes let a ring be made and refuse to work it.
 */
static int probe_recv(struct fibril__uring *r, const int fds[2])
{
    char byte = 0;
    struct io_uring_sqe *sqe = fibril__uring_sqe(r);
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = fds[0];
    sqe->addr = (uint64_t)(uintptr_t)&byte;
    sqe->len = 1;
    int rc = fibril__uring_enter(r, /* look= */ true, 0);
    if (rc < 0) {
        return rc;
    }
    ssize_t sent = send(fds[1], "x", 1, MSG_NOSIGNAL);
    FIBRIL_ASSERT(sent == 1);
    const struct io_uring_cqe *cqe = NULL;
    for (int i = 0; !cqe && i < 100; i++) {
        fibril__uring_enter(r, /* look= */ true, PROBE_WAIT_NS);
        cqe = fibril__uring_peek(r);
    }
    FIBRIL_ASSERT(cqe); /* else the kernel would still own `byte` */
    rc = cqe->res == 1 && byte == 'x' ? 0 : -ENOSYS;
    fibril__uring_pass(r);
    return rc;
}

static int probe_work(struct fibril__uring *r)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return -errno;
    }
    int rc = probe_recv(r, fds);
    close(fds[0]);
    close(fds[1]);
    return rc;
}

int fibril__uring_open(struct fibril__uring *r, uint32_t sq_entries, uint32_t cq_entries)
{
    int rc = set_up(r, sq_entries, cq_entries);
    if (rc < 0) {
        return rc;
    }
    rc = probe_ops(r);
    rc = rc < 0 ? rc : probe_work(r);
    if (rc < 0) {
        fibril__uring_close(r);
    }
    return rc;
}

void fibril__uring_abandon(struct fibril__uring *r)
{
    munmap(r->sqes, r->sq_entries * sizeof(*r->sqes));
    munmap(r->rings, r->rings_bytes);
    close(r->fd);
}

void fibril__uring_close(struct fibril__uring *r)
{
    if (r->enter_flags & IORING_ENTER_REGISTERED_RING) {
        struct io_uring_rsrc_update u = {.offset = (uint32_t)r->enter_fd};
        syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_RING_FDS, &u, 1);
    }
    fibril__uring_abandon(r);
}
