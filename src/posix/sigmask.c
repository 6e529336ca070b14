/* SPDX-License-Identifier: MIT */
/*
 * Signal masks. That of the OS thread is the main fibril's: signals reach the main fibril. Any
 * other fibril has a mask of its own that is kept for it and changes nothing, since a thread that
 * blocks signals so that they go elsewhere already has what it wants; changing the OS thread's
 * would take them from the whole process.
 */
#include "posix/process_calls.h"
#include "posix/thread.h"

#include <string.h>

/* The kernel's 64 signals are the first word of a set. */
static uint64_t word_of(const sigset_t *set)
{
    uint64_t word;
    memcpy(&word, set, sizeof word);
    return word;
}

static void to_set(uint64_t word, sigset_t *ret_set)
{
    sigemptyset(ret_set);
    memcpy(ret_set, &word, sizeof word);
}

static uint64_t mask_of(const struct fibril__thread *t)
{
    if (t->masks) {
        return t->mask;
    }
    sigset_t real;
    pthread_sigmask(SIG_BLOCK, NULL, &real);
    return word_of(&real);
}

/* 0 or an error number. */
static int change(struct fibril__thread *t, int how, const sigset_t *set, sigset_t *ret_old)
{
    uint64_t before = mask_of(t), after = set ? word_of(set) : 0;
    switch (set ? how : SIG_SETMASK) {
    case SIG_BLOCK: after |= before; break;
    case SIG_UNBLOCK: after = before & ~after; break;
    case SIG_SETMASK: break;
    default: return EINVAL;
    }
    if (ret_old) {
        to_set(before, ret_old);
    }
    if (set) {
        t->mask = after;
        t->masks = true;
    }
    return 0;
}

/* The calling fibril's record if its mask is its own, else NULL. */
static struct fibril__thread *apart(void)
{
    struct fibril__thread *t = fibril__on_loop() ? fibril__thread_self() : NULL;
    return t && !t->main ? t : NULL;
}

int fibril_posix_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old)
{
    struct fibril__thread *t = apart();
    return t ? change(t, how, set, ret_old) : pthread_sigmask(how, set, ret_old);
}

int fibril_posix_sigprocmask(int how, const sigset_t *set, sigset_t *ret_old)
{
    struct fibril__thread *t = apart();
    if (!t) {
        return sigprocmask(how, set, ret_old);
    }
    int rc = change(t, how, set, ret_old);
    if (rc) {
        errno = rc;
    }
    return rc ? -1 : 0;
}
