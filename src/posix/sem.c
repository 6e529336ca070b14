/* SPDX-License-Identifier: MIT */
/*
 * Semaphores: real ones, taken by a real try, waited for in the table of addresses. A semaphore has
 * no owner; but a language runtime that makes its locks of them may have the fibril noted that took
 * one last, for reports.
 */
#include "posix/calls.h"
#include "posix/address.h"
#include "posix/thread.h"

#include <semaphore.h>

/* ---- takers ---- */

bool fibril__posix_notes_takers;

/* Lies behind what libc has in a semaphore: count, waiters and the flag of sharing. The check tells
 * it from what lay there before. */
struct note {
    uint64_t taker, check;
};
enum { NOTE_AT = 16 };
#define HAS_ROOM (sizeof(sem_t) >= NOTE_AT + sizeof(struct note))

static struct note *note_of(const void *s)
{
    return (struct note *)(void *)((char *)(uintptr_t)s + NOTE_AT);
}

static uint64_t check_of(const void *s, uint64_t taker)
{
    return ~(taker ^ (uintptr_t)s);
}

static void note(const void *s, const struct fibril *taker)
{
    uint64_t id = fibril_id(taker);
    *note_of(s) = (struct note){.taker = id, .check = check_of(s, id)};
}

uint64_t fibril__posix_taker(const void *semaphore)
{
    const struct note n = HAS_ROOM ? *note_of(semaphore) : (struct note){0};
    return HAS_ROOM && n.check == check_of(semaphore, n.taker) ? n.taker : 0;
}

/* ---- taking ---- */

/* A semaphore that other processes may post to is looked at again now and then. libc says so in the
 * word behind the count, which is as wide as a pointer. */
static bool is_shared(const sem_t *s)
{
    enum { WORD = sizeof(void *) / sizeof(int) };
    return ((const volatile int *)(const volatile void *)s)[WORD] != 0;
}

static bool is_noted(const sem_t *s)
{
    return HAS_ROOM && fibril__posix_notes_takers && !is_shared(s);
}

/* 0 or -errno; -EAGAIN if it has none. */
static int try(sem_t *s)
{
    if (sem_trywait(s) < 0) {
        return -errno;
    }
    if (is_noted(s)) {
        note(s, fibril_current());
    }
    return 0;
}

bool (*fibril__posix_on_cancelled)(const void *caller);

static int wait_as(struct fibril__thread *t, sem_t *s, int64_t deadline_ns)
{
    struct fibril_waker_info info = {.name = "semaphore", .object = s, .inside = false};
    int64_t retry_ns = 0;
    for (;;) {
        fibril__address_enter(t, s);
        int rc = try(s);
        if (rc != -EAGAIN) {
            if (!fibril__address_leave(t) && t->given) {
                sem_post(s); /* one would have done */
            }
            return rc;
        }
        rc = fibril__address_wait_or_retry(t, &info, is_shared(s), &retry_ns, deadline_ns);
        if (t->given) {
            return 0;
        }
        if (rc < 0) {
            if (try(s) == 0) { /* a post that came with it is not to be lost */
                return 0;
            }
            if (rc != -EINTR || !fibril__posix_restart()) {
                return rc;
            }
        }
    }
}

/* Whoever begins the wait anew that we told him to give up will not give it up now. */
static int wait_told(struct fibril__thread *t, struct fibril__thread *face, sem_t *s,
                     int64_t deadline_ns)
{
    fibril_shield_begin();
    int rc = wait_as(t, s, deadline_ns);
    fibril_shield_end();
    face->told = false;
    return rc;
}

static int wait_for(sem_t *s, int64_t deadline_ns, const void *caller)
{
    struct fibril__thread *t = fibril__thread_self(), *face = fibril__thread_face();
    if (!t || !face) {
        return -ENOMEM;
    }
    if (UNLIKELY(face->told)) {
        return wait_told(t, face, s, deadline_ns);
    }
    int rc = wait_as(t, s, deadline_ns);
    if (rc == -ECANCELED && fibril__posix_on_cancelled && fibril__posix_on_cancelled(caller)) {
        face->told = true;
        rc = -EINTR;
    }
    return rc;
}

static int wait_until(sem_t *s, clockid_t clock, const struct timespec *until, const void *caller)
{
    int saved = errno;
    int rc = try(s);
    if (rc == -EAGAIN) {
        int64_t deadline_ns;
        rc = fibril__deadline_at(clock, until, &deadline_ns);
        rc = rc ? rc : wait_for(s, deadline_ns, caller);
    }
    return (int)fibril__posix_result(rc, saved);
}

int fibril_posix_sem_wait(sem_t *s)
{
    const void *caller = __builtin_return_address(0);
    return fibril__on_loop() ? wait_until(s, CLOCK_MONOTONIC, NULL, caller) : sem_wait(s);
}

int fibril_posix_sem_timedwait(sem_t *s, const struct timespec *until)
{
    const void *caller = __builtin_return_address(0);
    return fibril__on_loop() ? wait_until(s, CLOCK_REALTIME, until, caller)
                             : sem_timedwait(s, until);
}

int fibril_posix_sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *until)
{
    const void *caller = __builtin_return_address(0);
    return fibril__on_loop() ? wait_until(s, clock, until, caller) : sem_clockwait(s, clock, until);
}

/* Covered for the note only. */
int fibril_posix_sem_trywait(sem_t *s)
{
    if (!fibril__on_loop()) {
        return sem_trywait(s);
    }
    int saved = errno, rc = try(s);
    errno = rc < 0 ? -rc : saved;
    return rc < 0 ? -1 : 0;
}

/* ---- posting ---- */

/* The semaphore stays as it is, and its count with it. */
static void give(struct fibril__thread *to, const void *s)
{
    if (is_noted(s)) {
        note(s, to->fibril);
    }
}

/* Whether OS threads wait in libc: those are not to be passed over for ever. libc counts them in
 * the upper half of a word of eight bytes; where it has none, all are treated as if there were. */
static bool waits_really(sem_t *s)
{
#if defined(__LP64__)
    return __atomic_load_n((uint64_t *)(void *)s, __ATOMIC_RELAXED) >> 32 != 0;
#else
    (void)s;
    return true;
#endif
}

int fibril_posix_sem_post(sem_t *s)
{
    if (UNLIKELY(fibril__address_any(s)) && !waits_really(s) &&
        fibril__address_give_slow(s, give)) {
        return 0;
    }
    if (is_noted(s)) {
        note_of(s)->check = 0;
    }
    int rc = sem_post(s);
    if (rc == 0) {
        fibril__address_wake(s, 1);
    }
    return rc;
}

const struct fibril__call fibril__calls_sem[] = {
    FIBRIL__CALL(sem_wait),    FIBRIL__CALL(sem_timedwait), FIBRIL__CALL(sem_clockwait),
    FIBRIL__CALL(sem_trywait), FIBRIL__CALL(sem_post),      {NULL, NULL, false, NULL},
};
