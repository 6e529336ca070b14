/* SPDX-License-Identifier: MIT */
/*
 * Asking a loop. The question travels in a post, is answered between two fibrils of that loop, and
 * wakes who asked. It lies in memory of its own, which the second of the two frees: a loop that is
 * busy answers when nobody waits any more.
 */
#include "observe/observe.h"

#include "base/alloc.h"

#include <fibril/embed.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define ANSWER_NS INT64_C(100000000)

struct question {
    struct fibril_post post;
    struct fibril_waker_room waker;
    void (*fn)(void *data);
    _Atomic unsigned refs; /* release when given up, acquire by the last */
    _Atomic bool answered; /* release, after the data */
    _Alignas(16) char data[];
};

static void drop(struct question *q)
{
    if (atomic_fetch_sub_explicit(&q->refs, 1, memory_order_acq_rel) == 1) {
        fibril__free(q);
    }
}

static void answer(struct fibril_post *post)
{
    struct question *q = (struct question *)(void *)post;
    q->fn(q->data);
    atomic_store_explicit(&q->answered, true, memory_order_release);
    fibril_waker_wake(fibril_waker_in(&q->waker));
    drop(q);
}

static int await(struct question *q)
{
    int64_t deadline_ns = fibril_after(ANSWER_NS);
    int rc = 0;
    while (rc == 0 && !atomic_load_explicit(&q->answered, memory_order_acquire)) {
        rc = fibril_waker_wait(fibril_waker_in(&q->waker), deadline_ns);
    }
    return rc;
}

int fibril__ask(unsigned number, void (*fn)(void *data), void *data, size_t bytes)
{
    struct fibril_loop *here = fibril_loop_current();
    if (!here) {
        return -EPERM;
    }
    if (fibril_embed_number(here) == number) {
        fn(data);
        return 0;
    }
    struct question *q = fibril__alloc_zero(sizeof *q + bytes);
    if (!q) {
        return -ENOMEM;
    }
    q->post.fn = answer;
    q->fn = fn;
    atomic_init(&q->refs, 2);
    memcpy(q->data, data, bytes);
    if (!fibril_embed_post_to(number, &q->post)) {
        fibril__free(q);
        return -ESRCH;
    }
    int rc = await(q);
    if (rc == 0) {
        memcpy(data, q->data, bytes);
    }
    drop(q);
    return rc;
}
