/* SPDX-License-Identifier: MIT */
/*
 * Mailboxes: a list of messages, a ring of signals that come before them, and the bounds. Whoever
 * looks for certain messages keeps a mark on the last one that it has seen; a mark whose message is
 * taken moves to the one before, which was seen too.
 */
#include "actor/actor.h"

#include "base/assert.h"
#include "base/compiler.h"

#include <errno.h>

enum { MESSAGES_MAX = 65536, BYTES_MAX = 64 << 20 };

/* ---- bounds ---- */

int fibril__mailbox_bound(struct fibril__actor *a, const struct fibril_mailbox *mailbox)
{
    if ((unsigned)mailbox->overflow > FIBRIL_OVERFLOW_DROP_NEWEST) {
        return -EINVAL;
    }
    __atomic_store_n(&a->len_max, mailbox->messages ? mailbox->messages : MESSAGES_MAX,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&a->bytes_max, mailbox->bytes ? mailbox->bytes : BYTES_MAX, __ATOMIC_RELAXED);
    __atomic_store_n(&a->overflow, (uint8_t)mailbox->overflow, __ATOMIC_RELAXED);
    return 0;
}

bool fibril__mailbox_has_room(const struct fibril__actor *a, size_t size)
{
    uint32_t len = atomic_load_explicit(&a->len, memory_order_relaxed) +
                   atomic_load_explicit(&a->flying, memory_order_relaxed);
    return len == 0 || (len < __atomic_load_n(&a->len_max, __ATOMIC_RELAXED) &&
                        atomic_load_explicit(&a->bytes, memory_order_relaxed) + size <=
                            __atomic_load_n(&a->bytes_max, __ATOMIC_RELAXED));
}

/* The figures have one writer. */
static ALWAYS_INLINE void count(struct fibril__actor *a, uint32_t len, size_t bytes)
{
    atomic_store_explicit(&a->len, atomic_load_explicit(&a->len, memory_order_relaxed) + len,
                          memory_order_relaxed);
    atomic_store_explicit(&a->bytes, atomic_load_explicit(&a->bytes, memory_order_relaxed) + bytes,
                          memory_order_relaxed);
}

/* ---- in and out ---- */

static ALWAYS_INLINE void rouse(struct fibril__actor *a)
{
    if (a->flags & FIBRIL__A_AWAKE_ON_MAIL) {
        fibril_spot_wake(&a->spot);
    } else if (UNLIKELY(a->flags & FIBRIL__A_IDLE)) {
        fibril__passive_rouse(a);
    }
}

uint32_t fibril__mail_clock;

void fibril__mailbox_put(struct fibril__actor *a, struct fibril_message *m)
{
    m->since_ms = __atomic_load_n(&fibril__mail_clock, __ATOMIC_RELAXED);
    m->next = NULL;
    m->prev = a->last;
    if (a->last) {
        a->last->next = m;
    } else {
        a->first = m;
    }
    a->last = m;
    count(a, 1, m->size);
    rouse(a);
}

void fibril__mailbox_count(struct fibril__actor *a, size_t size)
{
    count(a, 1, size);
    rouse(a);
}

void fibril__mailbox_uncount(struct fibril__actor *a, size_t size)
{
    count(a, (uint32_t)-1, (size_t)0 - size);
    if (UNLIKELY(a->extra)) {
        fibril__senders_admit(a);
    }
}

void fibril__mailbox_put_urgent(struct fibril__actor *a, struct fibril_message *m)
{
    if (a->urgent) {
        m->next = a->urgent->next;
        a->urgent->next = m;
    } else {
        m->next = m;
    }
    a->urgent = m;
    rouse(a);
}

static void move_marks(struct fibril__actor_extra *extra, const struct fibril_message *m)
{
    for (unsigned i = 0; i < FIBRIL__MARKS; i++) {
        if (extra->marks[i].last == m) {
            extra->marks[i].last = m->prev;
        }
    }
}

void fibril__mailbox_remove(struct fibril__actor *a, struct fibril_message *m)
{
    if (UNLIKELY(a->extra)) {
        move_marks(a->extra, m);
    }
    if (m->prev) {
        m->prev->next = m->next;
    } else {
        a->first = m->next;
    }
    if (m->next) {
        m->next->prev = m->prev;
    } else {
        a->last = m->prev;
    }
    fibril__mailbox_uncount(a, m->size);
}

void fibril__mailbox_make_room(struct fibril__actor *a, size_t size)
{
    while (a->first && !fibril__mailbox_has_room(a, size)) {
        struct fibril_message *oldest = a->first;
        fibril__mailbox_remove(a, oldest);
        fibril__message_dropped(a->id, oldest);
    }
}

static void remove_urgent(struct fibril__actor *a, struct fibril_message *before)
{
    struct fibril_message *m = before->next;
    before->next = m->next;
    if (a->urgent == m) {
        a->urgent = before == m ? NULL : before;
    }
}

bool fibril__mailbox_take_back(struct fibril__actor *a, uint64_t ref)
{
    struct fibril_message *before = a->urgent;
    for (bool more = before != NULL; more; before = before->next) {
        struct fibril_message *m = before->next;
        struct fibril_signal *signal = fibril_message_data(m);
        if (signal->ref == ref) { /* those of links have none */
            remove_urgent(a, before);
            fibril_message_free(m);
            return true;
        }
        more = m != a->urgent;
    }
    return false;
}

void fibril__mailbox_empty(struct fibril__actor *a)
{
    while (a->urgent) {
        struct fibril_message *m = a->urgent->next;
        remove_urgent(a, a->urgent);
        fibril_message_free(m);
    }
    uint64_t id = (uint64_t)a->generation << 32 | a->index;
    while (a->first) {
        struct fibril_message *m = a->first;
        fibril__mailbox_remove(a, m);
        fibril__dead_letter(id, m);
    }
}

size_t fibril_actor_waiting(void)
{
    struct fibril__actor *a = fibril__actor_self();
    if (!a) {
        return 0;
    }
    size_t n = atomic_load_explicit(&a->len, memory_order_relaxed);
    struct fibril_message *m = a->urgent;
    for (bool more = m != NULL; more; more = m != a->urgent) {
        m = m->next;
        n++;
    }
    return n;
}

/* ---- receiving ---- */

static const struct fibril_waker_info mail_info = {.name = "mailbox"};

static struct fibril_message *take_any(struct fibril__actor *a)
{
    struct fibril_message *m = a->urgent;
    if (UNLIKELY(m)) {
        m = m->next;
        remove_urgent(a, a->urgent);
        return m;
    }
    m = a->first;
    if (LIKELY(m)) {
        fibril__mailbox_remove(a, m);
    }
    return m;
}

/* Inlined, as each frame of those that wait is kept a million times. */
static ALWAYS_INLINE int wait_for_mail(struct fibril__actor *a, int64_t deadline_ns)
{
    a->flags |= FIBRIL__A_AWAKE_ON_MAIL;
    int rc = fibril_spot_wait(&a->spot, deadline_ns);
    a->flags &= (uint8_t)~FIBRIL__A_AWAKE_ON_MAIL;
    return rc;
}

int fibril__mailbox_wait(struct fibril__actor *a, int64_t deadline_ns)
{
    a->spot.info = &mail_info;
    return wait_for_mail(a, deadline_ns);
}

/* Whether the caller must not go on receiving. */
static ALWAYS_INLINE bool is_over(const struct fibril__actor *a)
{
    return (a->flags & FIBRIL__A_EXITING) || fibril_cancelled();
}

/* ---- choosing ---- */

/* The mark of the pair; one that was not used for long gives way. NULL: no memory for marks. */
static struct fibril__mark *mark_of(struct fibril__actor *a, fibril_message_match *match, void *arg)
{
    struct fibril__actor_extra *extra = fibril__actor_extra(a);
    if (!extra) {
        return NULL;
    }
    struct fibril__mark *oldest = &extra->marks[0];
    for (unsigned i = 0; i < FIBRIL__MARKS; i++) {
        struct fibril__mark *k = &extra->marks[i];
        if (k->match == match && k->arg == arg) {
            k->used = ++extra->mark_turn;
            return k;
        }
        oldest = k->used < oldest->used ? k : oldest;
    }
    *oldest = (struct fibril__mark){match, arg, NULL, ++extra->mark_turn};
    return oldest;
}

static struct fibril_message *choose_urgent(struct fibril__actor *a, fibril_message_match *match,
                                            void *arg)
{
    struct fibril_message *before = a->urgent;
    for (bool more = before != NULL; more; before = before->next) {
        struct fibril_message *m = before->next;
        if (match(m, arg)) {
            remove_urgent(a, before);
            return m;
        }
        more = m != a->urgent;
    }
    return NULL;
}

/* Looks at what the mark has not seen. */
static struct fibril_message *choose(struct fibril__actor *a, fibril_message_match *match,
                                     void *arg)
{
    struct fibril_message *m = choose_urgent(a, match, arg);
    if (m) {
        return m;
    }
    struct fibril__mark *mark = mark_of(a, match, arg);
    m = mark && mark->last ? mark->last->next : a->first;
    while (m && !match(m, arg)) {
        m = m->next;
    }
    if (mark) {
        mark->last = m ? m->prev : a->last;
    }
    if (m) {
        fibril__mailbox_remove(a, m);
    }
    return m;
}

/* match NULL: any message. Inlined, so that the common way does not ask. */
static ALWAYS_INLINE struct fibril_message *take(struct fibril__actor *a,
                                                 fibril_message_match *match, void *arg)
{
    struct fibril_message *m = match ? choose(a, match, arg) : take_any(a);
    if (LIKELY(m)) {
        a->last_tag = m->tag;
        a->received++;
    }
    return m;
}

struct fibril_message *fibril__mailbox_take(struct fibril__actor *a)
{
    return a->flags & FIBRIL__A_EXITING ? NULL : take(a, NULL, NULL);
}

struct fibril_message *fibril__mailbox_choose(struct fibril__actor *a, fibril_message_match *match,
                                              void *arg)
{
    return take(a, match, arg);
}

/* Out of line: what it keeps in registers would be kept while waiting. */
static NOINLINE struct fibril_message *take_after(struct fibril__actor *a,
                                                  fibril_message_match *match, void *arg)
{
    return take(a, match, arg);
}

static ALWAYS_INLINE int wait_for(struct fibril__actor *a, fibril_message_match *match, void *arg,
                                  int64_t deadline_ns, struct fibril_message **ret_message)
{
    struct fibril_message *m;
    a->spot.info = &mail_info;
    do {
        int rc = wait_for_mail(a, deadline_ns);
        if (UNLIKELY(rc < 0)) {
            return rc;
        }
        if (UNLIKELY(is_over(a))) {
            return -ECANCELED;
        }
        m = take_after(a, match, arg);
    } while (!m);
    *ret_message = m;
    return 0;
}

/* These are called last of all, so that the frame of receive is no more while they wait. */
static NOINLINE int wait_for_any(struct fibril__actor *a, int64_t deadline_ns,
                                 struct fibril_message **ret_message)
{
    return wait_for(a, NULL, NULL, deadline_ns, ret_message);
}

static NOINLINE int wait_for_chosen(struct fibril__actor *a, fibril_message_match *match, void *arg,
                                    int64_t deadline_ns, struct fibril_message **ret_message)
{
    return wait_for(a, match, arg, deadline_ns, ret_message);
}

static ALWAYS_INLINE int receive(fibril_message_match *match, void *arg, int64_t deadline_ns,
                                 struct fibril_message **ret_message)
{
    struct fibril__actor *a = fibril__actor_attach();
    if (UNLIKELY(!a)) {
        return fibril_current() ? -ENOMEM : -EPERM;
    }
    if (UNLIKELY(is_over(a))) {
        return -ECANCELED;
    }
    struct fibril_message *m = take(a, match, arg);
    if (LIKELY(m)) {
        *ret_message = m;
        fibril_embed_spend();
        return 0;
    }
    return match ? wait_for_chosen(a, match, arg, deadline_ns, ret_message)
                 : wait_for_any(a, deadline_ns, ret_message);
}

int fibril_actor_receive(int64_t deadline_ns, struct fibril_message **ret_message)
{
    return receive(NULL, NULL, deadline_ns, ret_message);
}

int fibril_actor_receive_match(fibril_message_match *match, void *arg, int64_t deadline_ns,
                               struct fibril_message **ret_message)
{
    return LIKELY(match) ? receive(match, arg, deadline_ns, ret_message) : -EINVAL;
}

static bool has_tag(const struct fibril_message *m, void *arg)
{
    return m->tag == (uint64_t)(uintptr_t)arg;
}

int fibril_actor_receive_tag(uint64_t tag, int64_t deadline_ns, struct fibril_message **ret_message)
{
    return fibril_actor_receive_match(has_tag, (void *)(uintptr_t)tag, deadline_ns, ret_message);
}
