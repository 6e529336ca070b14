/* SPDX-License-Identifier: MIT */
/*
 * See uring_prep.h. MSG_DONTWAIT and MSG_WAITALL are taken off: the first would end the operation
 * with EAGAIN, the second would make it differ from what it is on epoll. In ASan builds the memory
 * that the kernel is about to touch is checked here, because ASan does not see the kernel.
 */
#include "poll/uring_prep.h"

#include "base/assert.h"
#include "base/compiler.h"

#include <endian.h>
#include <errno.h>
#include <linux/openat2.h>
#include <poll.h>

#if FIBRIL_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { LEN_MAX = 0x7ffff000 }; /* what read(2) and its kin move at once */

static void check_memory(const void *p, size_t len)
{
#if FIBRIL_ASAN
    FIBRIL_ASSERT(!len || !__asan_region_is_poisoned((void *)(uintptr_t)p, len));
#else
    (void)p;
    (void)len;
#endif
}

static void check_message(const struct msghdr *m)
{
    check_memory(m, sizeof(*m));
    for (size_t i = 0; FIBRIL_ASAN && i < m->msg_iovlen; i++) {
        check_memory(m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
    }
}

static void prep_buffer(struct io_uring_sqe *sqe, uint8_t opcode, const struct fibril__op *op,
                        uint64_t offset)
{
    size_t len = op->len < LEN_MAX ? op->len : LEN_MAX;
    check_memory(op->buf, len);
    sqe->opcode = opcode;
    sqe->addr = (uintptr_t)op->buf;
    sqe->len = (uint32_t)len;
    sqe->off = offset;
}

static void prep_message(struct io_uring_sqe *sqe, uint8_t opcode, const struct fibril__op *op)
{
    check_message(op->buf);
    sqe->opcode = opcode;
    sqe->addr = (uintptr_t)op->buf;
    sqe->len = 1;
}

static void prep_address(struct io_uring_sqe *sqe, const struct fibril__op *op)
{
    sqe->addr = (uintptr_t)op->buf;
    if (op->kind == FIBRIL__OP_CONNECT) {
        sqe->opcode = IORING_OP_CONNECT;
        sqe->off = op->len;
    } else {
        sqe->opcode = IORING_OP_ACCEPT;
        sqe->addr2 = op->buf ? (uintptr_t)&op->addr_len : 0;
        sqe->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    }
}

static void prep_open(struct io_uring_sqe *sqe, const struct fibril__op *op)
{
    sqe->opcode = IORING_OP_OPENAT2;
    sqe->addr = (uintptr_t)op->buf;
    sqe->len = sizeof(struct open_how);
    sqe->off = op->len;
}

static uint32_t message_flags(const struct fibril__op *op)
{
    return (uint32_t)op->flags & ~(uint32_t)(MSG_DONTWAIT | MSG_WAITALL);
}

static void prep_socket(struct io_uring_sqe *sqe, const struct fibril__op *op, bool drained)
{
    bool in = op->kind == FIBRIL__OP_RECV || op->kind == FIBRIL__OP_RECVMSG;
    switch (op->kind) {
    case FIBRIL__OP_RECV: prep_buffer(sqe, IORING_OP_RECV, op, 0); break;
    case FIBRIL__OP_SEND: prep_buffer(sqe, IORING_OP_SEND, op, 0); break;
    case FIBRIL__OP_RECVMSG: prep_message(sqe, IORING_OP_RECVMSG, op); break;
    default: prep_message(sqe, IORING_OP_SENDMSG, op); break;
    }
    sqe->msg_flags = message_flags(op) | (in ? 0 : MSG_NOSIGNAL);
    sqe->ioprio = !in || drained ? IORING_RECVSEND_POLL_FIRST : 0; /* sends have just been tried */
}

void fibril__uring_prep(struct io_uring_sqe *sqe, const struct fibril__op *op, bool drained)
{
    const uint64_t here = UINT64_MAX; /* the file's own position */
    sqe->fd = op->fd;
    switch (op->kind) {
    case FIBRIL__OP_POLL: fibril__uring_prep_poll(sqe, op->fd, op->events); break;
    case FIBRIL__OP_READ: prep_buffer(sqe, IORING_OP_READ, op, here); break;
    case FIBRIL__OP_WRITE: prep_buffer(sqe, IORING_OP_WRITE, op, here); break;
    case FIBRIL__OP_READV:
    case FIBRIL__OP_WRITEV:
        sqe->opcode = op->kind == FIBRIL__OP_READV ? IORING_OP_READV : IORING_OP_WRITEV;
        sqe->addr = (uintptr_t)op->buf;
        sqe->len = (uint32_t)op->len;
        sqe->off = here;
        break;
    case FIBRIL__OP_PREAD: prep_buffer(sqe, IORING_OP_READ, op, (uint64_t)op->offset); break;
    case FIBRIL__OP_PWRITE: prep_buffer(sqe, IORING_OP_WRITE, op, (uint64_t)op->offset); break;
    case FIBRIL__OP_FSYNC:
        sqe->opcode = IORING_OP_FSYNC;
        sqe->fsync_flags = (uint32_t)op->flags;
        break;
    case FIBRIL__OP_OPENAT2: prep_open(sqe, op); break;
    case FIBRIL__OP_ACCEPT:
    case FIBRIL__OP_CONNECT: prep_address(sqe, op); break;
    default: prep_socket(sqe, op, drained); break;
    }
}

void fibril__uring_prep_poll(struct io_uring_sqe *sqe, int fd, short events)
{
    uint32_t mask = (uint16_t)events;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
#if __BYTE_ORDER == __BIG_ENDIAN
    mask = mask << 16;
#endif
    sqe->poll32_events = mask;
}

int64_t fibril__uring_poll_result(const struct fibril__op *op, int32_t res)
{
    if (res < 0) {
        return res;
    }
    int always = POLLERR | POLLHUP;
    int events = res & ((uint16_t)op->events | always);
    return events ? events : -EAGAIN;
}
