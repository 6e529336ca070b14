/* SPDX-License-Identifier: MIT */
/*
 * The least that a TCP echo server on io_uring can do, by bare system calls: multishot accept and
 * receive, a ring of provided buffers, completions that run only when we ask for them
 * (DEFER_TASKRUN), all answers of a turn submitted by the same call that waits for the next. It is
 * the limit that `echo` on the uring poller is held against. Plain descriptors, as a runtime must
 * give to its users; direct ones would save a little more.
 *
 * A message is sent straight out of the buffer it arrived in, which goes back to the ring when the
 * send is done. Each connection has one message outstanding, so two sends on one socket never
 * overlap.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFS = 4096, BUF_BYTES = 2048 };
enum op { OP_ACCEPT = 1, OP_RECV, OP_SEND, OP_CLOSE };

static struct {
    int fd;
    unsigned *sq_head, *sq_tail, sq_mask, tail;
    struct io_uring_sqe *sqes;
    unsigned *cq_head, *cq_tail, cq_mask;
    struct io_uring_cqe *cqes;
    struct io_uring_buf_ring *bufs;
    char *mem;
    uint16_t buf_tail;
} ring;

static int enter(unsigned submit, unsigned wait)
{
    return (int)syscall(SYS_io_uring_enter, ring.fd, submit, wait, IORING_ENTER_GETEVENTS, NULL, 0);
}

static unsigned pending(void)
{
    return ring.tail - atomic_load_explicit((_Atomic unsigned *)ring.sq_head, memory_order_acquire);
}

static void publish(void)
{
    atomic_store_explicit((_Atomic unsigned *)ring.sq_tail, ring.tail, memory_order_release);
}

static struct io_uring_sqe *next_sqe(enum op op, int fd, unsigned buf)
{
    struct io_uring_sqe *s;

    if (pending() == ENTRIES) {
        publish();
        enter(ENTRIES, 0);
    }
    s = &ring.sqes[ring.tail++ & ring.sq_mask];
    memset(s, 0, sizeof(*s));
    s->fd = fd;
    s->user_data = (uint64_t)op << 56 | (uint64_t)buf << 32 | (uint32_t)fd;
    return s;
}

static void give_buffer(unsigned id)
{
    struct io_uring_buf *b = &ring.bufs->bufs[ring.buf_tail & (BUFS - 1)];

    b->addr = (uint64_t)(uintptr_t)(ring.mem + (size_t)id * BUF_BYTES);
    b->len = BUF_BYTES;
    b->bid = (uint16_t)id;
    ring.buf_tail++;
    atomic_store_explicit((_Atomic uint16_t *)&ring.bufs->tail, ring.buf_tail,
                          memory_order_release);
}

static void arm_accept(int listener)
{
    struct io_uring_sqe *s = next_sqe(OP_ACCEPT, listener, 0);
    s->opcode = IORING_OP_ACCEPT;
    s->ioprio = IORING_ACCEPT_MULTISHOT;
}

static void arm_recv(int fd)
{
    struct io_uring_sqe *s = next_sqe(OP_RECV, fd, 0);
    s->opcode = IORING_OP_RECV;
    s->ioprio = IORING_RECV_MULTISHOT;
    s->flags = IOSQE_BUFFER_SELECT;
}

static void submit_send(int fd, unsigned buf, unsigned n)
{
    struct io_uring_sqe *s = next_sqe(OP_SEND, fd, buf);
    s->opcode = IORING_OP_SEND;
    s->addr = (uint64_t)(uintptr_t)(ring.mem + (size_t)buf * BUF_BYTES);
    s->len = n;
    s->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

static void submit_close(int fd)
{
    next_sqe(OP_CLOSE, fd, 0)->opcode = IORING_OP_CLOSE;
}

static void received(const struct io_uring_cqe *c, int fd)
{
    unsigned buf = c->flags >> IORING_CQE_BUFFER_SHIFT;

    if (c->res > 0) {
        submit_send(fd, buf, (unsigned)c->res);
    } else if (c->res != -ENOBUFS) {
        if (c->flags & IORING_CQE_F_BUFFER) {
            give_buffer(buf);
        }
        submit_close(fd);
        return;
    }
    if (!(c->flags & IORING_CQE_F_MORE)) {
        arm_recv(fd);
    }
}

static void complete(const struct io_uring_cqe *c)
{
    int fd = (int)(uint32_t)c->user_data, one = 1;

    switch ((enum op)(c->user_data >> 56)) {
    case OP_ACCEPT:
        if (c->res >= 0) {
            setsockopt(c->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            arm_recv(c->res);
        }
        if (!(c->flags & IORING_CQE_F_MORE)) {
            arm_accept(fd);
        }
        break;
    case OP_RECV: received(c, fd); break;
    case OP_SEND: give_buffer((unsigned)(c->user_data >> 32) & 0xffffff); break;
    case OP_CLOSE: break;
    }
}

static void *map(size_t bytes, off_t at)
{
    int flags = at < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, at < 0 ? -1 : ring.fd, at < 0 ? 0 : at);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static int open_ring(void)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                                         IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                .cq_entries = 65536};
    struct io_uring_buf_reg reg = {.ring_entries = BUFS};
    char *base;

    ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
    if (ring.fd < 0) {
        return -1;
    }
    base = map(p.cq_off.cqes + p.cq_entries * sizeof(*ring.cqes) + p.sq_entries * sizeof(unsigned),
               IORING_OFF_SQ_RING);
    ring.sq_head = (unsigned *)(void *)(base + p.sq_off.head);
    ring.sq_tail = (unsigned *)(void *)(base + p.sq_off.tail);
    ring.sq_mask = p.sq_entries - 1;
    ring.cq_head = (unsigned *)(void *)(base + p.cq_off.head);
    ring.cq_tail = (unsigned *)(void *)(base + p.cq_off.tail);
    ring.cq_mask = p.cq_entries - 1;
    ring.cqes = (struct io_uring_cqe *)(void *)(base + p.cq_off.cqes);
    for (unsigned i = 0; i < p.sq_entries; i++) {
        ((unsigned *)(void *)(base + p.sq_off.array))[i] = i;
    }
    ring.sqes = map(p.sq_entries * sizeof(*ring.sqes), IORING_OFF_SQES);
    ring.bufs = map(BUFS * sizeof(struct io_uring_buf), -1);
    ring.mem = map((size_t)BUFS * BUF_BYTES, -1);
    reg.ring_addr = (uint64_t)(uintptr_t)ring.bufs;
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < BUFS; i++) {
        give_buffer(i);
    }
    return 0;
}

static int listen_here(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&a, &len)) {
        return -1;
    }
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

int main(void)
{
    int listener = listen_here();

    if (listener < 0 || open_ring() < 0) {
        perror("raw_uring_echo");
        return 77;
    }
    arm_accept(listener);
    for (;;) {
        publish();
        if (enter(pending(), 1) < 0 && errno != EINTR && errno != EBUSY) {
            perror("io_uring_enter");
            return 1;
        }
        unsigned head = *ring.cq_head;
        unsigned tail =
            atomic_load_explicit((_Atomic unsigned *)ring.cq_tail, memory_order_acquire);
        for (; head != tail; head++) {
            complete(&ring.cqes[head & ring.cq_mask]);
        }
        atomic_store_explicit((_Atomic unsigned *)ring.cq_head, head, memory_order_release);
    }
}
