/* SPDX-License-Identifier: MIT */
/*
 * Making and freeing the records of threads. A fibril that runs Python needs one at once, so some
 * that have ended are kept by the OS thread that freed them; and who has room on a page of its
 * stack that is touched anyway may lend it. A record that is out of the table of waits is owed no
 * wake (see address.c), so its memory can be anybody's.
 */
#include "posix/thread.h"

#include "base/alloc.h"

#include <stdatomic.h>
#include <string.h>

enum { KEPT_MAX = FIBRIL_HARD ? 0 : 32 };

static __thread struct {
    struct fibril__thread *first; /* linked by `arg` */
    unsigned len;
} kept;

static struct fibril__thread *take(void)
{
    struct fibril__thread *t = kept.first;
    if (t) {
        kept.first = t->arg;
        kept.len--;
    }
    return t;
}

static void init(struct fibril__thread *t)
{
    memset(t, 0, sizeof *t);
    atomic_store_explicit(&t->pins, 1, memory_order_relaxed);
    t->values = t->inside;
    t->values_cap = FIBRIL__VALUES_INLINE;
}

struct fibril__thread *fibril__thread_new(void)
{
    struct fibril__thread *t = take();
    t = t ? t : fibril__alloc(sizeof *t);
    if (t) {
        init(t);
    }
    return t;
}

void fibril__thread_drop_holder(struct fibril__thread *t)
{
    struct fibril__holder *holder = t->holder;
    t->holder = NULL;
    if (holder && holder->held == 0) {
        fibril__free(holder);
    } else if (holder) {
        holder->fibril = NULL; /* mutexes name it for good */
    }
}

/* What belongs to it besides its own memory. */
static void free_parts(struct fibril__thread *t)
{
    if (t->values != t->inside) {
        fibril__free(t->values);
    }
    fibril__free(t->locals);
}

/* Frees it or keeps it for the next one. */
static void free_record(struct fibril__thread *t)
{
    free_parts(t);
    if (fibril__on_loop() && kept.len + 1 <= KEPT_MAX) {
        t->arg = kept.first;
        kept.first = t;
        kept.len++;
    } else {
        fibril__free(t);
    }
}

void fibril__thread_unpin(struct fibril__thread *t)
{
    if (atomic_fetch_sub(&t->pins, 1) == 1 && !t->lent) {
        free_record(t);
    }
}

void fibril__thread_forget_kept(void)
{
    while (kept.first) {
        struct fibril__thread *t = kept.first;
        kept.first = t->arg;
        fibril__free(t);
    }
    kept.len = 0;
}

/* ---- records in memory of others ---- */

void fibril__thread_lend(struct fibril__thread *memory)
{
    struct fibril *self = fibril_current();
    init(memory);
    memory->lent = !fibril__thread_known(self);
    if (memory->lent) {
        fibril__thread_adopt(memory, self);
    }
}

/* Whoever pins it is about to let go, or has sent something to this loop. */
void fibril__thread_take_back(struct fibril__thread *memory)
{
    if (!memory->lent) {
        return;
    }
    fibril__thread_part(memory);
    while (atomic_load(&memory->pins) > 1) {
        fibril_yield();
    }
    free_parts(memory);
}
