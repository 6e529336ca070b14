/* SPDX-License-Identifier: MIT */
/*
 * syscall(2) itself, for those who wait for a futex word without libc's help: libstdc++'s guards of
 * static variables, Rust's and Abseil's locks. A fibril waits in the table of addresses; whoever
 * wakes, looks there first. All other system calls go through. Who is moved from one word to
 * another (FUTEX_REQUEUE) is woken instead if it is a fibril, as is any fibril that FUTEX_WAKE_OP
 * may mean.
 */
#include "posix/address.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct futex {
    int *word;
    int op;
    int value;
    const struct timespec *time; /* of waits */
};

static int command_of(const struct futex *f)
{
    return f->op & FUTEX_CMD_MASK;
}

long fibril_posix_syscall(long number, long a, long b, long c, long d, long e, long f);

/* FUTEX_WAIT takes a relative time, FUTEX_WAIT_BITSET an absolute one. */
static int deadline_of(const struct futex *f, int64_t *ret_deadline_ns)
{
    if (command_of(f) == FUTEX_WAIT) {
        return fibril__deadline_in(f->time, ret_deadline_ns);
    }
    clockid_t clock = f->op & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    return fibril__deadline_at(clock, f->time, ret_deadline_ns);
}

/* Whether other processes may see the word. Most who wait without FUTEX_PRIVATE_FLAG (libstdc++)
 * mean a word of their own. The kernel copies a mapping of no length only if it is shared. */
static bool is_shared(const struct futex *f)
{
    if (f->op & FUTEX_PRIVATE_FLAG) {
        return false;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)f->word & ~(page - 1));
    int saved = errno;
    void *copy = mremap(start, 0, page, MREMAP_MAYMOVE);
    if (copy != MAP_FAILED) {
        munmap(copy, page);
    }
    errno = saved;
    return copy != MAP_FAILED;
}

/* Waits until it is woken or, where the wake of another process cannot be seen, the word changes.
 */
static int wait_on_word(struct fibril__thread *t, const struct futex *f,
                        const struct fibril_waker_info *info, int64_t deadline_ns)
{
    bool unseen = is_shared(f);
    int64_t retry_ns = 0;
    for (;;) {
        int rc = fibril__address_wait_or_retry(t, info, unseen, &retry_ns, deadline_ns);
        if (rc <= 0) {
            return rc;
        }
        fibril__address_enter(t, f->word);
        if (__atomic_load_n(f->word, __ATOMIC_SEQ_CST) != f->value) {
            fibril__address_leave(t);
            return 0;
        }
    }
}

static int wait_for(const struct futex *f)
{
    struct fibril_waker_info info = {.name = "futex", .object = f->word};
    struct fibril__thread *t = fibril__thread_self();
    int64_t deadline_ns;
    int rc = deadline_of(f, &deadline_ns);
    if (rc < 0 || !t) {
        return rc < 0 ? rc : -ENOMEM;
    }
    fibril__address_enter(t, f->word);
    if (__atomic_load_n(f->word, __ATOMIC_SEQ_CST) != f->value) {
        fibril__address_leave(t);
        return -EAGAIN;
    }
    return wait_on_word(t, f, &info, deadline_ns);
}

static bool is_wait(const struct futex *f)
{
    int command = command_of(f);
    return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
}

static bool is_wake(const struct futex *f)
{
    int command = command_of(f);
    return command == FUTEX_WAKE || command == FUTEX_WAKE_BITSET;
}

/* Those who wait on a word that the kernel has compared or changed look at it again. */
static void wake_moved(const struct futex *f, const void *other)
{
    int command = command_of(f);
    if (command == FUTEX_REQUEUE || command == FUTEX_CMP_REQUEUE || command == FUTEX_WAKE_OP) {
        fibril__address_wake(f->word, FIBRIL__WAKE_ALL);
        fibril__address_wake(other, FIBRIL__WAKE_ALL);
    }
}

long fibril_posix_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (number == SYS_gettid && fibril__on_loop()) {
        return fibril__os_thread(); /* CPython asks with each thread state, that is each request */
    }
    if (number != SYS_futex) {
        return syscall(number, a, b, c, d, e, f);
    }
    struct futex futex = {(int *)a, (int)b, (int)c, (const struct timespec *)d};
    if (fibril__on_loop() && is_wait(&futex)) {
        int saved = errno;
        return fibril__posix_result(wait_for(&futex), saved);
    }
    int woken = is_wake(&futex) ? fibril__address_wake(futex.word, futex.value) : 0;
    if (woken > 0 && woken >= futex.value) {
        return woken;
    }
    long rc = syscall(number, a, b, is_wake(&futex) ? c - woken : c, d, e, f);
    wake_moved(&futex, (const void *)e);
    return rc >= 0 && is_wake(&futex) ? rc + woken : rc;
}

const struct fibril__call fibril__calls_futex[] = {
    FIBRIL__CALL(syscall),
    {NULL, NULL, false, NULL},
};
