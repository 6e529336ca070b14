/* SPDX-License-Identifier: MIT */
/*
 * Closing: no number goes back to the kernel before every poller has let go of it.
 *
 *   mark the word "closing"   whoever starts an operation from now on, on any loop, gets -EBADF
 *   forget here               those who wait on this loop get -EBADF
 *   forget in the pool        calls not begun get -EBADF, a running one is waited for
 *   ask the other users       each forgets on its own loop, by message, one after the other
 *   clear the word, close(2)
 *
 * All of it under a shield and without a deadline: a close that gave up halfway would leak the
 * descriptor or strand a waiter. Without memory for the record (needed on a copied stack only) a
 * spare one is shared. The word is cleared before close(2), since after it the number may already
 * be somebody else's.
 */
#include <fibril/embed.h>
#include <fibril/io.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "io/op.h"
#include "io/outside.h"
#include "io/pool.h"
#include "io/sys.h"
#include "sched/users.h"

/* How often to look whether a thread of the pool has ended with a descriptor that is to be closed:
 * rare, and short. */
enum { POOL_LOOK_NS = 200000 };

struct closing {
    struct fibril__io io;           /* FORGET on the closer's loop */
    struct fibril__op there;        /* FORGET on another loop */
    struct fibril__message message; /* to that loop */
    struct fibril *closer;
};

static struct closing spare;
static _Atomic bool spare_taken;

/* ---- the other loops ------------------------------------------------------------------------- */

static bool abort_never(struct fibril *f, int error)
{
    (void)f;
    (void)error;
    return false;
}

static int fd_of(const struct fibril *f)
{
    const struct closing *c = f->wait_on;
    return c->there.fd;
}

static const struct fibril__wait_kind kind_close = {
    .name = "close on another loop", .reason = FIBRIL__BY_IO, .abort = abort_never, .fd = fd_of};

static void forgotten(struct fibril__op *op)
{
    struct closing *c = CONTAINER_OF(op, struct closing, there);
    fibril__wake(c->closer, 0);
}

/* On the other loop. */
static void forget(struct fibril__message *m)
{
    struct closing *c = CONTAINER_OF(m, struct closing, message);
    struct fibril__poller *p = fibril__loop->poller;
    if (p->ops->start(p, &c->there)) {
        fibril__wake(c->closer, 0);
    }
}

static void ask(struct closing *c, unsigned loop, int fd)
{
    c->there = (struct fibril__op){.kind = FIBRIL__OP_FORGET, .fd = fd, .done = forgotten};
    c->message = (struct fibril__message){.run = forget};
    c->closer = fibril__self();
    fibril__loop->outside++; /* the answer is sure to come: no deadlock */
    if (fibril__loop_send_slot(loop, &c->message)) {
        fibril__park(&kind_close, c, FIBRIL_FOREVER);
    }
    fibril__loop->outside--;
}

static void ask_all(struct closing *c, uint64_t users, int fd)
{
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        if ((users & fibril__users_bit(i)) && i != fibril__loop->index && fibril__loop_slot(i)) {
            ask(c, i, fd);
        }
    }
}

/* ---- here ------------------------------------------------------------------------------------ */

static struct closing *take_spare(void)
{
    while (atomic_exchange(&spare_taken, true)) {
        fibril_yield();
    }
    spare = (struct closing){.closer = NULL};
    return &spare;
}

static void give_back(struct closing *c)
{
    if (c == &spare) {
        atomic_store(&spare_taken, false);
    } else {
        fibril__free(c);
    }
}

static void forget_everywhere(struct closing *c, uint64_t users, int fd)
{
    c->io.op.kind = FIBRIL__OP_FORGET;
    c->io.op.fd = fd;
    fibril__io_wait(&c->io, FIBRIL_FOREVER);
    while (UNLIKELY(fibril__pool_forget(fd))) {
        fibril_sleep(POOL_LOOK_NS);
    }
    uint64_t others = users & ~fibril__users_bit(fibril__loop->index);
    if (fibril__loop->index >= FIBRIL__USERS_LOOPS) {
        others = users; /* the shared bit may stand for others than this loop */
    }
    if (UNLIKELY(others & (FIBRIL__USERS_REST | (FIBRIL__USERS_REST - 1)))) {
        ask_all(c, others, fd);
    }
}

/* Marks fd; -EBADF if somebody is closing it already. *ret_word is NULL for simulated ones. */
static int mark(int fd, _Atomic uint64_t **ret_word, uint64_t *ret_users)
{
    *ret_word = NULL;
    *ret_users = 0;
    if (fd < 0 || fd >= FIBRIL__FD_SIMULATED) {
        return fd < 0 ? -EBADF : 0;
    }
    *ret_word = fibril__users_word(fd);
    if (!*ret_word) {
        return 0; /* no loop can have entered it: that makes the word */
    }
    *ret_users = atomic_fetch_or(*ret_word, FIBRIL__USERS_CLOSING);
    return *ret_users & FIBRIL__USERS_CLOSING ? -EBADF : 0;
}

static void forget_marked(int fd, uint64_t users)
{
    if (LIKELY(fibril__stack_stays())) {
        struct closing c = {.closer = NULL};
        forget_everywhere(&c, users, fd);
    } else {
        struct closing *c = fibril__alloc_zero(sizeof(*c));
        c = c ? c : take_spare();
        forget_everywhere(c, users, fd);
        give_back(c);
    }
}

/* Forgets fd everywhere; its word is cleared, but fd is still open. Under a shield. */
static int forget_all(int fd)
{
    _Atomic uint64_t *word;
    uint64_t users;
    int rc = mark(fd, &word, &users);
    if (rc < 0) {
        return rc;
    }
    forget_marked(fd, users);
    if (word) {
        atomic_store(word, 0);
    }
    return 0;
}

/* Neither a loop nor the pool uses fd: there is nothing to forget. */
static bool is_unknown(int fd)
{
    if (fd < 0 || fd >= FIBRIL__FD_SIMULATED) {
        return false;
    }
    const _Atomic uint64_t *word = fibril__users_word(fd);
    return word && atomic_load_explicit(word, memory_order_relaxed) == 0 &&
           LIKELY(!fibril__pool_forget(fd));
}

int fibril_close(int fd)
{
    if (!fibril__loop) {
        return -EPERM;
    }
    if (is_unknown(fd)) {
        return fibril__sys_close(fd);
    }
    fibril_shield_begin();
    int rc = forget_all(fd);
    rc = rc < 0 ? rc : fibril__sys_close(fd);
    fibril_shield_end();
    return rc;
}

int fibril_embed_used(int first, int last)
{
    return fibril__users_next(first, last);
}

int fibril_embed_owned(int first, int last)
{
    return fibril__loops_owned(first, last);
}

int fibril_embed_forget(int fd)
{
    if (!fibril__loop) {
        return fibril__forget_outside(fd);
    }
    if (is_unknown(fd)) {
        return 0;
    }
    fibril_shield_begin();
    int rc = forget_all(fd);
    fibril_shield_end();
    return rc;
}
