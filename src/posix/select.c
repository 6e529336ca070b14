/* SPDX-License-Identifier: MIT */
/*
 * select and pselect, as poll.c: the kernel is asked without a wait, with copies kept of the sets,
 * since it overwrites them; the wait in between is that of poll(2).
 */
#include "base/alloc.h"
#include "posix/await.h"
#include "posix/io_calls.h"

#include <string.h>

enum { READ = 0, WRITE, EXCEPT, SETS, WORD_BITS = 64, WORDS_ON_STACK = FD_SETSIZE / WORD_BITS };

struct selecting {
    int n;
    size_t words;         /* in each set */
    uint64_t *sets[SETS]; /* the caller's; NULL where it has none */
    uint64_t *kept;       /* all of them as they were */
    struct pollfd *fds;   /* room for n, made when there is a wait */
    const sigset_t *mask;
};

static void keep(struct selecting *s)
{
    for (int i = 0; i < SETS; i++) {
        if (s->sets[i]) {
            memcpy(s->kept + (size_t)i * s->words, s->sets[i], s->words * sizeof(uint64_t));
        }
    }
}

static void restore(struct selecting *s)
{
    for (int i = 0; i < SETS; i++) {
        if (s->sets[i]) {
            memcpy(s->sets[i], s->kept + (size_t)i * s->words, s->words * sizeof(uint64_t));
        }
    }
}

static bool has(const struct selecting *s, int set, int fd)
{
    return s->sets[set] &&
           (s->kept[(size_t)set * s->words + (size_t)fd / WORD_BITS] >> ((unsigned)fd % WORD_BITS) &
            1);
}

/* Asks the kernel; the mask lets it deliver what that unblocks. */
static int64_t ask(struct selecting *s)
{
    int n = pselect(s->n, (fd_set *)(void *)s->sets[READ], (fd_set *)(void *)s->sets[WRITE],
                    (fd_set *)(void *)s->sets[EXCEPT], &(struct timespec){0, 0}, s->mask);
    return n < 0 ? -errno : n;
}

static nfds_t list(struct selecting *s)
{
    nfds_t used = 0;
    for (int fd = 0; fd < s->n; fd++) {
        int events = (has(s, READ, fd) ? POLLIN : 0) | (has(s, WRITE, fd) ? POLLOUT : 0) |
                     (has(s, EXCEPT, fd) ? POLLPRI : 0);
        if (events) {
            s->fds[used++] = (struct pollfd){.fd = fd, .events = (short)events};
        }
    }
    return used;
}

/* The kernel has just found nothing. */
static int64_t wait_in(struct selecting *s, int64_t deadline_ns)
{
    nfds_t used = list(s);
    for (;;) {
        struct fibril__masked masked;
        fibril__mask_begin(&masked, s->mask);
        int rc = fibril__await_any(s->fds, used, deadline_ns);
        fibril__mask_end(&masked);
        if (rc == -ETIMEDOUT) {
            return 0; /* the sets are empty since the kernel was asked */
        }
        restore(s);
        if (rc < 0) {
            return rc;
        }
        int64_t ready = ask(s);
        if (ready != 0) {
            return ready;
        }
        fibril_embed_spend(); /* others were faster */
    }
}

static int64_t select_in(struct selecting *s, bool now, int64_t deadline_ns)
{
    keep(s);
    int64_t ready = ask(s);
    if (ready != 0 || now) {
        fibril_embed_spend();
        return ready;
    }
    s->fds = fibril__alloc(((size_t)s->n + 1) * sizeof(*s->fds));
    if (!s->fds) {
        restore(s);
        return -ENOMEM;
    }
    ready = wait_in(s, deadline_ns);
    fibril__free(s->fds);
    return ready;
}

static int64_t select_until(struct selecting *s, bool now, int64_t deadline_ns)
{
    s->words = ((size_t)s->n + WORD_BITS - 1) / WORD_BITS;
    if (s->words <= WORDS_ON_STACK) {
        uint64_t kept[SETS * WORDS_ON_STACK];
        s->kept = kept;
        int64_t ready = select_in(s, now, deadline_ns);
        s->kept = NULL;
        return ready;
    }
    s->kept = fibril__alloc(SETS * s->words * sizeof(*s->kept));
    if (!s->kept) {
        return -ENOMEM;
    }
    int64_t ready = select_in(s, now, deadline_ns);
    fibril__free(s->kept);
    return ready;
}

static struct selecting selecting_of(int n, fd_set *in, fd_set *out, fd_set *except,
                                     const sigset_t *mask)
{
    return (struct selecting){
        .n = n,
        .sets = {(uint64_t *)(void *)in, (uint64_t *)(void *)out, (uint64_t *)(void *)except},
        .mask = mask};
}

/* Linux tells how much of the time is left. */
static void tell_left(struct timeval *timeout, int64_t deadline_ns)
{
    int64_t left_us = (deadline_ns - fibril_now()) / 1000;
    left_us = left_us > 0 && deadline_ns != FIBRIL_FOREVER ? left_us : 0;
    *timeout = (struct timeval){.tv_sec = left_us / 1000000, .tv_usec = left_us % 1000000};
}

int fibril_posix_select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
    if (!fibril__on_loop() || n < 0) {
        return select(n, in, out, except, timeout);
    }
    int saved = errno;
    int64_t deadline_ns = FIBRIL_FOREVER;
    bool now = timeout && timeout->tv_sec == 0 && timeout->tv_usec == 0;
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
            return (int)fibril__posix_result(-EINVAL, saved);
        }
        struct timespec t = {.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000,
                             .tv_nsec = timeout->tv_usec % 1000000 * 1000};
        fibril__deadline_in(&t, &deadline_ns);
    }
    struct selecting s = selecting_of(n, in, out, except, NULL);
    int64_t ready = select_until(&s, now, deadline_ns);
    if (timeout && !now) {
        tell_left(timeout, deadline_ns);
    }
    return (int)fibril__posix_result(ready, saved);
}

int fibril_posix_pselect(int n, fd_set *in, fd_set *out, fd_set *except,
                         const struct timespec *timeout, const sigset_t *mask)
{
    if (!fibril__on_loop() || n < 0) {
        return pselect(n, in, out, except, timeout, mask);
    }
    int saved = errno;
    int64_t deadline_ns, rc = fibril__deadline_in(timeout, &deadline_ns);
    bool now = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    struct selecting s = selecting_of(n, in, out, except, mask);
    rc = rc < 0 ? rc : select_until(&s, now, deadline_ns);
    return (int)fibril__posix_result(rc, saved);
}
