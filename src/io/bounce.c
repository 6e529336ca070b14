/* SPDX-License-Identifier: MIT */
/*
 * An operation from a copied stack by way of the heap: what it sends is copied in before, what it
 * received is copied out after. Needed where no system call can be made after readiness: a connect
 * (its address must stay readable), and all of the simulation. Scattered buffers become one piece
 * of at most BOUNCE_BYTES, which a short count may always do; control data does not pass (the
 * simulation has none).
 */
#include "io/op.h"

#include "base/alloc.h"

#include <string.h>

enum { BOUNCE_BYTES = 64 * 1024 };

struct bounce {
    struct fibril__io io;
    struct msghdr msg;
    struct iovec iov;
    struct sockaddr_storage addr;
    char data[];
};

static bool is_vector(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_READV || op->kind == FIBRIL__OP_WRITEV;
}

static bool is_message(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_RECVMSG || op->kind == FIBRIL__OP_SENDMSG;
}

static bool sends(const struct fibril__op *op)
{
    return op->kind == FIBRIL__OP_WRITE || op->kind == FIBRIL__OP_SEND ||
           op->kind == FIBRIL__OP_WRITEV || op->kind == FIBRIL__OP_SENDMSG;
}

/* The caller's buffers as a vector; `one` is used for a plain buffer. */
static const struct iovec *vector_of(const struct fibril__op *op, struct iovec *one, size_t *ret_n)
{
    if (is_vector(op)) {
        *ret_n = op->len;
        return op->buf;
    }
    if (is_message(op)) {
        const struct msghdr *msg = op->buf;
        *ret_n = msg->msg_iovlen;
        return msg->msg_iov;
    }
    bool data = op->kind != FIBRIL__OP_POLL && op->kind != FIBRIL__OP_ACCEPT &&
                op->kind != FIBRIL__OP_CONNECT;
    *one = (struct iovec){.iov_base = op->buf, .iov_len = data ? op->len : 0};
    *ret_n = 1;
    return one;
}

static size_t total(const struct iovec *iov, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n && bytes < BOUNCE_BYTES; i++) {
        bytes += iov[i].iov_len < BOUNCE_BYTES ? iov[i].iov_len : BOUNCE_BYTES;
    }
    return bytes < BOUNCE_BYTES ? bytes : BOUNCE_BYTES;
}

static void gather(const struct iovec *iov, char *data, size_t bytes)
{
    for (size_t at = 0; at < bytes; iov++) {
        size_t n = iov->iov_len < bytes - at ? iov->iov_len : bytes - at;
        memcpy(data + at, iov->iov_base, n);
        at += n;
    }
}

static void scatter(const struct iovec *iov, const char *data, size_t bytes)
{
    for (size_t at = 0; at < bytes; iov++) {
        size_t n = iov->iov_len < bytes - at ? iov->iov_len : bytes - at;
        memcpy(iov->iov_base, data + at, n);
        at += n;
    }
}

/* Turns the copied operation's pointers to the copies. */
static void redirect(struct bounce *b, const struct fibril__op *op, size_t bytes)
{
    struct fibril__op *own = &b->io.op;
    b->iov = (struct iovec){.iov_base = b->data, .iov_len = bytes};
    if (is_vector(op)) {
        own->buf = &b->iov;
        own->len = 1;
    } else if (is_message(op)) {
        const struct msghdr *msg = op->buf;
        b->msg = (struct msghdr){.msg_iov = &b->iov, .msg_iovlen = 1};
        if (msg->msg_name && msg->msg_namelen <= sizeof(b->addr)) {
            memcpy(&b->addr, msg->msg_name, sends(op) ? msg->msg_namelen : 0);
            b->msg.msg_name = &b->addr;
            b->msg.msg_namelen = msg->msg_namelen;
        }
        own->buf = &b->msg;
    } else if (op->kind == FIBRIL__OP_CONNECT) {
        memcpy(&b->addr, op->buf, op->len);
        own->buf = &b->addr;
    } else if (op->kind == FIBRIL__OP_ACCEPT) {
        own->buf = op->buf ? &b->addr : NULL;
    } else if (op->kind != FIBRIL__OP_POLL) {
        own->buf = b->data;
        own->len = bytes;
    }
}

/* Brings back what the operation has written besides data. */
static void bring_back(const struct bounce *b, struct fibril__op *op)
{
    if (op->kind == FIBRIL__OP_ACCEPT && op->buf) {
        memcpy(op->buf, &b->addr, op->addr_len);
        op->addr_len = b->io.op.addr_len;
    } else if (op->kind == FIBRIL__OP_RECVMSG) {
        struct msghdr *msg = op->buf;
        if (b->msg.msg_name) {
            memcpy(msg->msg_name, &b->addr, msg->msg_namelen);
            msg->msg_namelen = b->msg.msg_namelen;
        }
        msg->msg_controllen = 0;
        msg->msg_flags = b->msg.msg_flags;
    }
}

int64_t fibril__io_bounce(struct fibril__io *io, int64_t deadline_ns)
{
    struct iovec one;
    size_t n;
    const struct iovec *iov = vector_of(&io->op, &one, &n);
    size_t bytes = total(iov, n);
    if (io->op.kind == FIBRIL__OP_CONNECT && io->op.len > sizeof(struct sockaddr_storage)) {
        return -EINVAL;
    }
    struct bounce *b = fibril__alloc_zero(sizeof(*b) + bytes);
    if (!b) {
        return -ENOMEM;
    }
    b->io.op = io->op;
    redirect(b, &io->op, bytes);
    if (sends(&io->op)) {
        gather(iov, b->data, bytes);
    }
    int64_t result = fibril__io_wait(&b->io, deadline_ns);
    if (result >= 0) {
        bring_back(b, &io->op);
        if (!sends(&io->op) && bytes) {
            scatter(iov, b->data, (size_t)result < bytes ? (size_t)result : bytes);
        }
    }
    fibril__free(b);
    return result;
}
