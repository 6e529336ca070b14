/* SPDX-License-Identifier: MIT */
/*
 * See address.h. The table is a fixed array of rows, each a list under a spin lock that is held for
 * a few instructions and never over a park. Rejected: a table that grows, which would need a lock
 * around all of it; the rows are touched lazily, and 100,000 waiters make them six deep.
 *
 * Who unlinks a waiter under the row's lock owes it one wake; who finds itself unlinked after a
 * timeout takes that wake before it goes on, so a record is never freed under a waker's hands.
 */
#include "posix/address.h"

#include <stdatomic.h>

enum { RETRY_FIRST_NS = 100000, RETRY_MOST_NS = 10000000 };

struct row {
    _Atomic bool locked;
    struct fibril__link *first, *last; /* linked by next and prev, NULL at the ends */
};

static struct row rows[FIBRIL__ADDRESS_ROWS];
_Atomic uint32_t fibril__address_waiting[FIBRIL__ADDRESS_ROWS];

static void lock(struct row *r)
{
    while (atomic_exchange_explicit(&r->locked, true, memory_order_acquire)) {
        cpu_relax();
    }
}

static void unlock(struct row *r)
{
    atomic_store_explicit(&r->locked, false, memory_order_release);
}

static struct fibril__thread *of(struct fibril__link *l)
{
    return CONTAINER_OF(l, struct fibril__thread, waiting);
}

static void append(struct row *r, struct fibril__thread *t)
{
    t->waiting.next = NULL;
    t->waiting.prev = r->last;
    *(r->last ? &r->last->next : &r->first) = &t->waiting;
    r->last = &t->waiting;
}

static void unlink(struct row *r, struct fibril__thread *t)
{
    struct fibril__link *next = t->waiting.next, *prev = t->waiting.prev;
    *(prev ? &prev->next : &r->first) = next;
    *(next ? &next->prev : &r->last) = prev;
    t->address = NULL;
}

void fibril__address_enter(struct fibril__thread *t, const void *address)
{
    uint32_t row = fibril__address_row(address);
    lock(&rows[row]);
    t->address = address;
    t->given = t->tries = false;
    append(&rows[row], t);
    unlock(&rows[row]);
    atomic_fetch_add(&fibril__address_waiting[row], 1); /* full barrier before the caller's try */
    t->row = row;
}

/* Takes t out of its row; false if somebody else has. */
static bool take_out(struct fibril__thread *t)
{
    struct row *r = &rows[t->row];
    lock(r);
    bool linked = t->address != NULL;
    if (linked) {
        unlink(r, t);
    }
    unlock(r);
    atomic_fetch_sub(&fibril__address_waiting[t->row], 1);
    return linked;
}

/* The wake of whoever unlinked t is on its way. */
static void take_wake(struct fibril__thread *t)
{
    fibril_shield_begin();
    while (fibril_waker_wait(fibril_waker_in(&t->waker), FIBRIL_FOREVER) < 0) {}
    fibril_shield_end();
}

bool fibril__address_leave(struct fibril__thread *t)
{
    bool linked = take_out(t);
    if (!linked) {
        take_wake(t);
    }
    return linked;
}

int fibril__address_wait(struct fibril__thread *t, const struct fibril_waker_info *info,
                         int64_t deadline_ns)
{
    int rc = fibril_waker_wait_as(fibril_waker_in(&t->waker), info, deadline_ns);
    bool linked = take_out(t);
    if (rc < 0 && !linked) {
        take_wake(t);
        rc = 0;
    }
    return rc;
}

static int64_t retry_deadline(int64_t *retry_ns, int64_t deadline_ns)
{
    int64_t retry = *retry_ns ? *retry_ns : RETRY_FIRST_NS;
    *retry_ns = retry * 2 < RETRY_MOST_NS ? retry * 2 : RETRY_MOST_NS;
    int64_t next_ns = fibril_after(retry);
    return next_ns < deadline_ns ? next_ns : deadline_ns;
}

int fibril__address_wait_or_retry(struct fibril__thread *t, const struct fibril_waker_info *info,
                                  bool unseen, int64_t *retry_ns, int64_t deadline_ns)
{
    int64_t until_ns = unseen ? retry_deadline(retry_ns, deadline_ns) : deadline_ns;
    int rc = fibril__address_wait(t, info, until_ns);
    return rc == -ETIMEDOUT && until_ns != deadline_ns ? 1 : rc;
}

int fibril__address_wake_slow(const void *address, int n)
{
    struct row *r = &rows[fibril__address_row(address)];
    int woken = 0;
    lock(r);
    for (struct fibril__link *l = r->first, *next; l && woken < n; l = next) {
        next = l->next;
        struct fibril__thread *t = of(l);
        if (t->address == address) {
            unlink(r, t);
            fibril_waker_wake(fibril_waker_in(&t->waker));
            woken++;
        }
    }
    unlock(r);
    return woken;
}

bool fibril__address_give_slow(const void *address,
                               void (*give)(struct fibril__thread *to, const void *address))
{
    struct row *r = &rows[fibril__address_row(address)];
    struct fibril__link *l;
    lock(r);
    for (l = r->first; l && of(l)->address != address; l = l->next) {}
    bool here = l && !of(l)->tries && fibril_loop_of(of(l)->fibril) == fibril_loop_current();
    if (here) {
        struct fibril__thread *t = of(l);
        unlink(r, t);
        t->given = true;
        give(t, address);
        fibril_waker_wake(fibril_waker_in(&t->waker));
    }
    unlock(r);
    return here;
}

void fibril__address_forked(void)
{
    for (uint32_t i = 0; i < FIBRIL__ADDRESS_ROWS; i++) {
        bool used = atomic_load(&fibril__address_waiting[i]) > 0 || atomic_load(&rows[i].locked);
        if (used) { /* reading does not cost the child a copy of the page */
            rows[i].first = rows[i].last = NULL;
            atomic_store(&fibril__address_waiting[i], 0);
            unlock(&rows[i]);
        }
    }
}
