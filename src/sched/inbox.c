/* SPDX-License-Identifier: MIT */
/* See inbox.h. */
#include "sched/inbox.h"

#include "base/turns.h"
#include "poll/poll.h"
#include "sched/loop.h"

enum { READY_BIT = 1 };

static struct fibril__link *link_of(uintptr_t word)
{
    return (struct fibril__link *)(word & ~(uintptr_t)READY_BIT);
}

/* Once pushed, a message may run and end the loop while its sender is still about to wake it: so
 * senders are counted, and the loop's memory stays until they are through.
 *
 * Push is sequentially consistent, as is the loop's store of `asleep` before it looks here once
 * more: one of the two sees the other, so no wake-up is lost. */
static void push(struct fibril_loop *loop, struct fibril__link *link, uintptr_t bit)
{
    atomic_fetch_add(&loop->senders, 1);
    uintptr_t word = (uintptr_t)link | bit;
    fibril__turn_point(); /* in the loop, whether it is gone through again would depend on whether
                             memory was used again for the head: one seed would have many runs */
    uintptr_t head = atomic_load_explicit(&loop->inbox.head, memory_order_relaxed);
    do {
        __atomic_store_n(&link->next, (struct fibril__link *)head, __ATOMIC_RELAXED);
    } while (!atomic_compare_exchange_weak(&loop->inbox.head, &head, word));
    fibril__turn_point();
    if (atomic_load(&loop->asleep)) {
        fibril__turn_point();
        loop->poller->ops->wake(loop->poller);
        fibril__turn_point();
    }
    atomic_fetch_sub(&loop->senders, 1);
}

void fibril__inbox_fini(struct fibril_loop *loop)
{
    while (atomic_load(&loop->senders) > 0) {
        fibril__turn_spin();
        cpu_relax();
    }
}

void fibril__loop_send(struct fibril_loop *loop, struct fibril__message *m)
{
    push(loop, &m->link, 0);
}

void fibril__loop_send_ready(struct fibril *f)
{
    push(f->loop, &f->link, READY_BIT);
}

static uintptr_t reverse(uintptr_t word)
{
    uintptr_t reversed = 0;
    while (word) {
        struct fibril__link *link = link_of(word);
        uintptr_t next = (uintptr_t)link->next;
        link->next = (struct fibril__link *)reversed;
        reversed = word;
        word = next;
    }
    return reversed;
}

static void deliver(struct fibril_loop *loop, uintptr_t word)
{
    struct fibril__link *link = link_of(word);
    link->next = link->prev = NULL;
    if (word & READY_BIT) {
        loop->counters.remote_wakes++;
        fibril__loop_ready(loop, CONTAINER_OF(link, struct fibril, link));
        return;
    }
    struct fibril__message *m = CONTAINER_OF(link, struct fibril__message, link);
    m->run(m);
}

bool fibril__inbox_drain(struct fibril_loop *loop)
{
    if (!atomic_load_explicit(&loop->inbox.head, memory_order_relaxed)) {
        return false;
    }
    fibril__turn_point();
    uintptr_t word = reverse(atomic_exchange(&loop->inbox.head, 0));
    while (word) {
        uintptr_t next = (uintptr_t)link_of(word)->next;
        deliver(loop, word);
        word = next;
    }
    return true;
}
