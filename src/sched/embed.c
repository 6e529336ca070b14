/* SPDX-License-Identifier: MIT */
/*
 * What those who build below the threads may ask of the scheduler: hooks, what they keep per
 * fibril, a look at who is next, interruption. See embed.h; wakers are in waker.c.
 */
#include <fibril/embed.h>

#include "base/assert.h"
#include "sched/current.h"
#include "sched/record.h"
#include "sched/wait.h"

#include <errno.h>
#include <unistd.h>

/* ---- hooks ---- */

static void (*_Atomic on_loop)(struct fibril_loop *loop, bool started);
static void (*_Atomic on_end)(struct fibril *f);
static void (*_Atomic on_dump)(const struct fibril *f, int fd);
static bool (*_Atomic on_overflow)(struct fibril *f, bool full);

void fibril_embed_on_switch(void (*fn)(struct fibril *from, struct fibril *to))
{
    FIBRIL_ASSERT(fibril__loop);
    fibril__loop->on_switch = fn;
}

void fibril_embed_on_standstill(void (*fn)(struct fibril_loop *loop), int64_t patience_ns)
{
    FIBRIL_ASSERT(fibril__loop);
    fibril__loop->on_still = fn;
    fibril__loop->patience_ns = patience_ns;
    fibril__loop->patience_max_ns = patience_ns * 64;
}

void fibril_embed_on_loop(void (*fn)(struct fibril_loop *loop, bool started))
{
    atomic_store(&on_loop, fn);
    if (fn && fibril__loop) {
        fn(fibril__loop, /* started= */ true);
    }
}

void fibril_embed_on_end(void (*fn)(struct fibril *f))
{
    atomic_store(&on_end, fn);
}

void fibril_embed_on_dump(void (*fn)(const struct fibril *f, int fd))
{
    atomic_store(&on_dump, fn);
}

void fibril_embed_on_overflow(bool (*fn)(struct fibril *f, bool full))
{
    atomic_store(&on_overflow, fn);
    if (fn) {
        fibril__slots_want_reserve();
    }
}

void fibril__embed_loop(struct fibril_loop *loop, bool started)
{
    void (*fn)(struct fibril_loop * loop, bool started) = atomic_load(&on_loop);
    if (fn) {
        fn(loop, started);
    }
}

void fibril__embed_ended(struct fibril *f)
{
    void (*fn)(struct fibril * f) = atomic_load(&on_end);
    if (fn && f->embed) {
        fn(f);
    }
}

void fibril__embed_dump(const struct fibril *f, int fd)
{
    void (*fn)(const struct fibril *f, int fd) = atomic_load(&on_dump);
    if (fn) {
        fn(f, fd);
    }
}

bool fibril__embed_overflow(struct fibril *f, bool full)
{
    bool (*fn)(struct fibril * f, bool full) = atomic_load(&on_overflow);
    return fn && fn(f, full);
}

/* ---- labels ---- */

void fibril_embed_set_label(struct fibril_label *label)
{
    if (!fibril__loop) {
        return;
    }
    struct fibril *self = fibril__loop->current;
    const void *site = fibril__site(self);
    self->flags &= (uint8_t)~FIBRIL__F_LABEL; /* a stall report may come in between */
    atomic_signal_fence(memory_order_seq_cst);
    self->site = site;
    if (label) {
        label->opaque_ = site;
        self->site = label;
        atomic_signal_fence(memory_order_seq_cst);
        self->flags |= FIBRIL__F_LABEL;
    }
}

/* ---- what embedders keep ---- */

void fibril_embed_add(struct fibril *f, struct fibril_embed_node *n)
{
    n->next = f->embed;
    f->embed = n;
}

void fibril_embed_remove(struct fibril *f, struct fibril_embed_node *n)
{
    struct fibril_embed_node **at = &f->embed;
    while (*at && *at != n) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = n->next;
    }
}

struct fibril_embed_node *fibril_embed_find(const struct fibril *f, const void *owner)
{
    struct fibril_embed_node *n = f->embed;
    while (n && n->owner != owner) {
        n = n->next;
    }
    return n;
}

/* ---- looking ahead, interrupting ---- */

struct fibril *fibril_embed_next(void)
{
    const struct fibril_loop *loop = fibril__loop;
    bool known = loop && !FIBRIL_HARD && loop->ticks > 1;
    return known ? loop->run_head : NULL;
}

int fibril_embed_stack(const struct fibril *f, void **ret_low, size_t *ret_bytes,
                       size_t *ret_reserve)
{
    if (!fibril__context_is_own(&f->ctx)) {
        return -ENOTSUP;
    }
    char *slot = fibril__slot_of(f);
    size_t reserve = fibril__slot_reserve(slot);
    char *low = slot + sysconf(_SC_PAGESIZE) + reserve;
    *ret_low = low;
    *ret_bytes = (size_t)((const char *)f - low);
    if (ret_reserve) {
        *ret_reserve = reserve;
    }
    return 0;
}

bool fibril_embed_waits_for_file(const struct fibril *f)
{
    return f->state == FIBRIL__PARKED && f->wait->of_file;
}

uint64_t fibril_embed_wait(const struct fibril *f)
{
    return f->state == FIBRIL__PARKED ? (uint64_t)f->since_ns + 1 : 0;
}

_Static_assert(sizeof(struct fibril__message) <= sizeof(((struct fibril_post *)0)->opaque_),
               "a post has too little room");

static void run_post(struct fibril__message *message)
{
    struct fibril_post *p =
        CONTAINER_OF((uint64_t(*)[3])(void *)message, struct fibril_post, opaque_);
    p->fn(p);
}

void fibril_embed_post(struct fibril_loop *loop, struct fibril_post *p)
{
    struct fibril__message *m = (struct fibril__message *)(void *)p->opaque_;
    *m = (struct fibril__message){.run = run_post};
    fibril__loop_send(loop, m);
}

unsigned fibril_embed_number(const struct fibril_loop *loop)
{
    return loop->index;
}

bool fibril_embed_post_to(unsigned number, struct fibril_post *p)
{
    struct fibril__message *m = (struct fibril__message *)(void *)p->opaque_;
    *m = (struct fibril__message){.run = run_post};
    return number < FIBRIL__LOOPS_MAX && fibril__loop_send_slot(number, m);
}

bool fibril_embed_interrupt(struct fibril *f)
{
    FIBRIL_ASSERT(f->loop == fibril__loop);
    if (f->state != FIBRIL__PARKED || !f->wait->abort(f, -EINTR)) {
        return false;
    }
    f->result = -EINTR;
    fibril__loop_ready(f->loop, f);
    return true;
}

void fibril_embed_spend(void)
{
    if (LIKELY(fibril__loop)) {
        fibril__spend();
    }
}
