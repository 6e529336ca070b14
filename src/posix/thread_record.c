/* SPDX-License-Identifier: MIT */
/*
 * Making and freeing the records of threads. A fibril that runs Python needs one at once, so some
 * that have ended are kept, with their wakers, by the OS thread that freed them. A waker of a
 * record that is out of the table of waits is owed no wake (see address.c), so it can be used again
 * as it is.
 *
 * Rejected: a record on the stack of its fibril. A mutex that was left locked names its holder's
 * record, and the next fibril on that stack would seem to hold it.
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

static void discard(struct fibril__thread *t)
{
    fibril_waker_free(t->waker);
    fibril__free(t);
}

static struct fibril__thread *take(void)
{
    struct fibril__thread *t = kept.first;
    if (t) {
        kept.first = t->arg;
        kept.len--;
        struct fibril_waker *waker = t->waker;
        memset(t, 0, sizeof *t);
        t->waker = waker;
    }
    return t;
}

static struct fibril__thread *make(void)
{
    struct fibril__thread *t = fibril__alloc_zero(sizeof *t);
    if (t && fibril_waker_new(&t->waker) < 0) {
        fibril__free(t);
        t = NULL;
    }
    return t;
}

struct fibril__thread *fibril__thread_new(void)
{
    struct fibril__thread *t = take();
    t = t ? t : make();
    if (t) {
        atomic_store_explicit(&t->pins, 1, memory_order_relaxed);
        t->values = t->inside;
        t->values_cap = FIBRIL__VALUES_INLINE;
    }
    return t;
}

/* Frees it or keeps it for the next one. */
static void free_record(struct fibril__thread *t)
{
    if (atomic_load(&t->held) > 0) {
        return; /* it ended with mutexes locked, which name it */
    }
    if (t->values != t->inside) {
        fibril__free(t->values);
    }
    fibril__free(t->locals);
    if (fibril__on_loop() && kept.len + 1 <= KEPT_MAX) {
        t->arg = kept.first;
        kept.first = t;
        kept.len++;
    } else {
        discard(t);
    }
}

void fibril__thread_unpin(struct fibril__thread *t)
{
    if (atomic_fetch_sub(&t->pins, 1) == 1) {
        free_record(t);
    }
}

void fibril__thread_forget_kept(void)
{
    while (kept.first) {
        struct fibril__thread *t = kept.first;
        kept.first = t->arg;
        discard(t);
    }
    kept.len = 0;
}
