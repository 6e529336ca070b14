/* SPDX-License-Identifier: MIT */
/*
 * Select: the first of several channel operations and descriptors. In five steps, each left out if
 * it is not needed:
 *
 *   1. try the cases one after the other, from a start that moves with each select; most selects
 * end here
 *   2. make a record, and start a poll operation for each descriptor
 *   3. take the spin locks of all shared channels in the order of their addresses, try once more,
 * put a clause into the list of each channel, release the locks
 *   4. park
 *   5. take back the clauses; cancel the operations, and wait for those that the kernel still holds
 *
 * Invariant: between 3 and 5 the select is won by whoever claims it, once: a channel's other side
 * on any loop, a descriptor, or abort. Nobody can claim it before 3, because nobody can see it, so
 * nobody ever holds one claim and asks for another. Rejected for that reason: trying channel by
 * channel while clauses are out, which needs a claim that can be given back, and whoever came by
 * meanwhile would have been turned away for nothing.
 *
 * The record lies on the stack only if it is small, the stack stays in place, and no other loop
 * will look at it.
 */
#include "sync/select.h"

#include "base/alloc.h"

enum {
    CASES_MAX = 1024,
    SMALL_BYTES = 640, /* a record of this size may lie on the stack */
    ALIGN = 16,
};

/* What a record must have room for. */
struct shape {
    size_t clauses, fds, shared, slot_bytes;
};

/* ---- step 1: trying ------------------------------------------------------ */

/* Where to start looking. Multiples of the golden ratio's fraction visit every case equally often,
 * and so does each regular part of them: fibrils that select by turns on one loop cannot fall into
 * step with a case. */
static size_t next_start(struct fibril_loop *loop, size_t n)
{
    loop->select_turn += 0x9E3779B9u;
    return (size_t)(((uint64_t)loop->select_turn * n) >> 32);
}

static int try_locked(struct fibril_case *c, struct fibril__handover *ret_rest)
{
    return c->op == FIBRIL_CASE_SEND ? fibril__chan_send_now(c->chan, c->elem, ret_rest)
                                     : fibril__chan_recv_now(c->chan, c->elem, ret_rest);
}

static bool try_chan(struct fibril_case *c)
{
    struct fibril__handover rest = {.wake = NULL};
    if (!c->chan) {
        return false;
    }
    fibril__spin_lock(&c->chan->spin);
    int rc = try_locked(c, &rest);
    fibril__spin_unlock(&c->chan->spin);
    if (rc == -EAGAIN) {
        return false;
    }
    fibril__chan_finish(c->chan, &rest);
    c->result = rc;
    return true;
}

/* Returns the index of a case that could be carried out at once, or -EAGAIN. */
static int try_all(struct fibril_case *cases, size_t n, size_t start)
{
    bool simulated = fibril__loop->poller->sys != NULL;
    for (size_t k = 0, i = start; k < n; k++) {
        struct fibril_case *c = &cases[i];
        if (c->op == FIBRIL_CASE_FD && simulated && k == 0) {
            return -EAGAIN; /* its turn, and only an operation can tell */
        }
        if (c->op == FIBRIL_CASE_FD ? fibril__select_try_fd(c, simulated) : try_chan(c)) {
            return (int)i;
        }
        i = i + 1 == n ? 0 : i + 1;
    }
    return -EAGAIN;
}

/* ---- step 2: the record and its operations ------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static int measure(const struct fibril_case *cases, size_t n, struct shape *ret_shape)
{
    struct shape s = {0, 0, 0, 0};
    for (size_t i = 0; i < n; i++) {
        const struct fibril_case *c = &cases[i];
        if (c->op == FIBRIL_CASE_FD) {
            s.fds++;
            continue;
        }
        if (c->op != FIBRIL_CASE_SEND && c->op != FIBRIL_CASE_RECV) {
            return -EINVAL;
        }
        if (c->chan) {
            bool shared = c->chan->spin.shared;
            s.clauses++;
            s.shared += shared;
            s.slot_bytes += shared ? aligned(c->chan->elem_bytes) : 0;
        }
    }
    *ret_shape = s;
    return 0;
}

static size_t record_bytes(const struct shape *s)
{
    return aligned(sizeof(struct fibril__select_record)) +
           aligned(s->clauses * sizeof(struct fibril__clause)) +
           aligned(s->fds * sizeof(struct fibril__select_fd)) +
           aligned(s->shared * sizeof(struct fibril_chan *)) + s->slot_bytes;
}

/* Lays the parts of the record out in its memory. */
static struct fibril__select_record *record_init(void *memory, const struct shape *s,
                                                 struct fibril *self)
{
    char *at = memory;
    struct fibril__select_record *r = memory;
    *r = (struct fibril__select_record){.select = {.fibril = self, .shared = s->shared > 0}};
    at += aligned(sizeof(*r));
    r->clauses = (struct fibril__clause *)(void *)at;
    at += aligned(s->clauses * sizeof(*r->clauses));
    r->fds = (struct fibril__select_fd *)(void *)at;
    at += aligned(s->fds * sizeof(*r->fds));
    r->shared = (struct fibril_chan **)(void *)at;
    r->slots = at + aligned(s->shared * sizeof(struct fibril_chan *));
    return r;
}

/* ---- step 3: the clauses ------------------------------------------------- */

static void add_clause(struct fibril__select_record *r, struct fibril_case *c, size_t index)
{
    struct fibril_chan *ch = c->chan;
    void *elem = c->elem;
    if (ch->spin.shared) {
        r->shared[r->shared_count++] = ch;
        elem = r->slots;
        r->slots += aligned(ch->elem_bytes);
        if (c->op == FIBRIL_CASE_SEND) {
            fibril__chan_copy(ch, elem, c->elem);
        }
    }
    r->clauses[r->clause_count++] =
        (struct fibril__clause){.select = &r->select, .chan = ch, .elem = elem, .index = index};
}

static void add_clauses(struct fibril__select_record *r, struct fibril_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (cases[i].op != FIBRIL_CASE_FD && cases[i].chan) {
            add_clause(r, &cases[i], i);
        }
    }
}

/* The order in which locks are taken: that of making, so that it is the same in each run of a
 * simulation. Should numbers ever come round, addresses decide. */
static bool comes_after(const struct fibril_chan *a, const struct fibril_chan *b)
{
    return a->number != b->number ? a->number > b->number : (uintptr_t)a > (uintptr_t)b;
}

/* Shell's sort, then each channel once. qsort may allocate, and may so fail or block. */
static void sort_shared(struct fibril__select_record *r)
{
    struct fibril_chan **a = r->shared;
    size_t n = r->shared_count;
    for (size_t gap = n / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < n; i++) {
            struct fibril_chan *ch = a[i];
            size_t j = i;
            for (; j >= gap && comes_after(a[j - gap], ch); j -= gap) {
                a[j] = a[j - gap];
            }
            a[j] = ch;
        }
    }
    r->shared_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || a[i] != a[i - 1]) {
            a[r->shared_count++] = a[i];
        }
    }
}

static void lock_shared(struct fibril__select_record *r)
{
    for (size_t i = 0; i < r->shared_count; i++) {
        fibril__spin_lock(&r->shared[i]->spin);
    }
}

static void unlock_shared(struct fibril__select_record *r)
{
    for (size_t i = 0; i < r->shared_count; i++) {
        fibril__spin_unlock(&r->shared[i]->spin);
    }
}

static void link_clauses(struct fibril__select_record *r, const struct fibril_case *cases)
{
    for (size_t i = 0; i < r->clause_count; i++) {
        struct fibril__clause *c = &r->clauses[i];
        bool sends = cases[c->index].op == FIBRIL_CASE_SEND;
        fibril__list_push(sends ? &c->chan->senders : &c->chan->receivers, &c->link);
    }
}

static void unlink_clauses(struct fibril__select_record *r)
{
    for (size_t i = 0; i < r->clause_count; i++) {
        struct fibril__clause *c = &r->clauses[i];
        fibril__spin_lock(&c->chan->spin);
        if (c->link.prev) {
            fibril__link_remove(&c->link);
        }
        fibril__spin_unlock(&c->chan->spin);
    }
}

/* Tries the channels once more and puts the clauses out, all in one moment for every loop. Returns
 * as try_all. */
static int offer(struct fibril__select_record *r, struct fibril_case *cases, size_t n, size_t start)
{
    struct fibril__handover rest = {.wake = NULL};
    int rc = -EAGAIN;
    size_t i = start;
    lock_shared(r);
    for (size_t k = 0; k < n && rc == -EAGAIN; k++) {
        i = start + k < n ? start + k : start + k - n;
        if (cases[i].op != FIBRIL_CASE_FD && cases[i].chan) {
            rc = try_locked(&cases[i], &rest);
        }
    }
    if (rc == -EAGAIN) {
        link_clauses(r, cases);
    }
    unlock_shared(r);
    if (rc == -EAGAIN) {
        return rc;
    }
    fibril__chan_finish(cases[i].chan, &rest);
    cases[i].result = rc;
    return (int)i;
}

/* ---- steps 4 and 5: parking and leaving ---------------------------------- */

static bool select_abort(struct fibril *f, int error)
{
    struct fibril__select_record *r = f->wait_on;
    if (!fibril__select_claim(&r->select)) {
        return false;
    }
    unlink_clauses(r);
    if (fibril__select_cancel_fds(r) == 0) {
        return true;
    }
    r->draining = true;
    r->outcome = error;
    return false;
}

static int select_fd(const struct fibril *f)
{
    const struct fibril__select_record *r = f->wait_on;
    return r->fd_count ? r->fds[0].op.fd : -1;
}

static const struct fibril__wait_kind select_wait = {
    .name = "select",
    .reason = FIBRIL__BY_CHAN,
    .abort = select_abort,
    .fd = select_fd,
};

static bool drain_abort(struct fibril *f, int error)
{
    (void)f;
    (void)error;
    return false;
}

static const struct fibril__wait_kind drain_wait = {
    .name = "select (leaving)",
    .reason = FIBRIL__BY_IO,
    .abort = drain_abort,
    .fd = select_fd,
};

/* Takes the operations back, waiting for those that the kernel still holds. */
static void drain(struct fibril__select_record *r)
{
    if (fibril__select_cancel_fds(r) > 0) {
        r->draining = true;
        r->outcome = 0;
        fibril__park(&drain_wait, r, FIBRIL_FOREVER);
    }
}

/* Stores the outcome of the case that won and returns its index. */
static int won(const struct fibril__select_record *r, struct fibril_case *cases, int64_t outcome)
{
    if (r->won_fd) {
        fibril__select_fd_fired(&cases[r->won_fd->index], r->won_fd->op.result);
        return (int)r->won_fd->index;
    }
    const struct fibril__clause *clause = r->select.won;
    struct fibril_case *c = &cases[clause->index];
    if (clause->chan->spin.shared && c->op == FIBRIL_CASE_RECV && outcome == 0) {
        fibril__chan_copy(clause->chan, c->elem, clause->elem);
    }
    c->result = (int)outcome;
    return (int)clause->index;
}

static int wait_with(struct fibril__select_record *r, struct fibril_case *cases, size_t n,
                     size_t start, int64_t deadline_ns)
{
    int64_t outcome = 0;
    int index = -EAGAIN;
    fibril__select_start_fds(r, cases, n, start);
    if (!r->won_fd) {
        add_clauses(r, cases, n);
        sort_shared(r);
        index = offer(r, cases, n, start);
        if (index == -EAGAIN) {
            outcome = fibril__park(&select_wait, r, deadline_ns);
            unlink_clauses(r);
        }
    }
    drain(r);
    if (index == -EAGAIN) {
        index = r->won_fd || r->select.won ? won(r, cases, outcome) : (int)outcome;
    }
    return index;
}

static NOINLINE int wait_small(struct fibril_case *cases, size_t n, const struct shape *s,
                               size_t start, int64_t deadline_ns)
{
    _Alignas(ALIGN) char memory[SMALL_BYTES];
    struct fibril__select_record *r = record_init(memory, s, fibril__self());
    return wait_with(r, cases, n, start, deadline_ns);
}

static NOINLINE int wait_large(struct fibril_case *cases, size_t n, const struct shape *s,
                               size_t start, int64_t deadline_ns)
{
    void *memory = fibril__alloc(record_bytes(s));
    if (!memory) {
        return -ENOMEM;
    }
    struct fibril__select_record *r = record_init(memory, s, fibril__self());
    int index = wait_with(r, cases, n, start, deadline_ns);
    fibril__free(memory);
    return index;
}

int fibril_select(struct fibril_case *cases, size_t n, int64_t deadline_ns)
{
    struct fibril_loop *loop = fibril__loop;
    if (UNLIKELY(!loop)) {
        return -EPERM;
    }
    struct shape s;
    if (n > CASES_MAX || measure(cases, n, &s) < 0) {
        return -EINVAL;
    }
    size_t start = next_start(loop, n);
    int index = try_all(cases, n, start);
    if (index >= 0) {
        if (s.fds) {
            fibril__spend(); /* as all input and output that does not wait */
        } else {
            fibril__may_have_parked();
        }
        return index;
    }
    if (deadline_ns <= loop->now_ns && !(s.fds && loop->poller->sys)) {
        return fibril_cancelled() ? -ECANCELED : -ETIMEDOUT; /* it was a try, and nothing is missing
                                                                from it */
    }
    bool small = s.shared == 0 && fibril__stack_stays() && record_bytes(&s) <= SMALL_BYTES;
    return small ? wait_small(cases, n, &s, start, deadline_ns)
                 : wait_large(cases, n, &s, start, deadline_ns);
}
