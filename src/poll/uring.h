/* SPDX-License-Identifier: MIT */
/*
 * A thin layer over the three system calls of io_uring: one ring, used by the OS thread that opened
 * it. It knows queues, not operations. Written here because the liburing of the oldest system we
 * serve lacks flags we want, and the whole of it is smaller than a wrapper would be.
 */
#ifndef FIBRIL_POLL_URING_H
#define FIBRIL_POLL_URING_H

#include "base/compiler.h"

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Newer than the oldest header we are built with (6.1). */
#define FIBRIL__ENTER_NO_IOWAIT (1u << 7) /* 6.15 */
#define FIBRIL__FEAT_NO_IOWAIT (1u << 17) /* 6.15 */
#define FIBRIL__TIMEOUT_FOREVER INT64_MAX

struct fibril__uring {
    int fd;
    int enter_fd;         /* what io_uring_enter is given: fd, or its registered number */
    uint32_t enter_flags; /* for every call */
    uint32_t features;    /* IORING_FEAT_ */
    int32_t slack_ns;     /* of the thread's timers: how late a wait may end */
    uint32_t *sq_head;    /* the kernel moves it */
    uint32_t *sq_tail;    /* we move it */
    uint32_t *sq_flags;   /* IORING_SQ_ */
    uint32_t sq_mask, sq_entries;
    uint32_t tail; /* of the entries filled; *sq_tail follows in enter */
    struct io_uring_sqe *sqes;
    uint32_t *cq_head; /* we move it */
    uint32_t *cq_tail; /* the kernel moves it */
    uint32_t cq_mask;
    struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_bytes;
};

/* Opens a ring that can do what fibril needs (Linux 6.1). Returns 0, or the error of the kernel
 * that refuses, or -ENOSYS if it is too old. */
int fibril__uring_open(struct fibril__uring *r, uint32_t sq_entries, uint32_t cq_entries);
void fibril__uring_close(struct fibril__uring *r);

/* In the child of a fork: lets go of a ring that the parent goes on with. */
void fibril__uring_abandon(struct fibril__uring *r);

/* Hands what is queued to the kernel and waits for a completion, as long as timeout_ns says; with
 * `look` false it only submits. Returns 0, also after the time or a signal; -EAGAIN, -EBUSY,
 * -ENOMEM if not all was taken, which may be tried again after looking at the completions; or what
 * is wrong with the ring. */
int fibril__uring_enter(struct fibril__uring *r, bool look, int64_t timeout_ns);

static inline uint32_t fibril__uring_queued(const struct fibril__uring *r)
{
    return r->tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
}

/* A zeroed entry, or NULL: full, and the kernel takes none. */
struct io_uring_sqe *fibril__uring_sqe(struct fibril__uring *r);

/* The queued entry with that user_data, or NULL. */
struct io_uring_sqe *fibril__uring_find(struct fibril__uring *r, uint64_t user_data);

/* Whether entering the kernel would bring completions without waiting. */
static inline bool fibril__uring_due(const struct fibril__uring *r)
{
    return __atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* The oldest completion, or NULL; it is valid until it is passed. */
static inline const struct io_uring_cqe *fibril__uring_peek(const struct fibril__uring *r)
{
    uint32_t head = *r->cq_head;
    return head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) ? NULL
                                                                 : &r->cqes[head & r->cq_mask];
}

static inline void fibril__uring_pass(struct fibril__uring *r)
{
    __atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
}

#endif
