/* SPDX-License-Identifier: MIT */
/*
 * What programs ask of, and tell to, a pthread_t. For a thread that is a fibril: its stack, its
 * name; scheduling belongs to the OS thread of its loop.
 */
#include "posix/calls.h"
#include "posix/thread.h"

#include <stdatomic.h>
#include <string.h>

enum { NAME_MAX_BYTES = 16 }; /* Linux: with the terminating zero */

/* The OS thread that acts for `thread`. A thread that is a fibril of another loop is answered with
 * the caller's. */
static pthread_t real(pthread_t thread)
{
    return fibril__thread_of(thread) ? pthread_self() : thread;
}

/* ---- stacks ---- */

static int fill(pthread_attr_t *attr, const struct fibril__thread *t)
{
    void *low;
    size_t bytes;
    int rc = -fibril_embed_stack(t->fibril, &low, &bytes, NULL);
    rc = rc ? rc : pthread_attr_init(attr);
    if (rc) {
        return rc;
    }
    rc = pthread_attr_setstack(attr, low, bytes);
    bool detached = atomic_load_explicit(&t->life, memory_order_relaxed) & FIBRIL__LIFE_DETACHED;
    rc = rc ? rc
            : pthread_attr_setdetachstate(attr, detached ? PTHREAD_CREATE_DETACHED
                                                         : PTHREAD_CREATE_JOINABLE);
    if (rc) {
        pthread_attr_destroy(attr);
    }
    return rc;
}

/* CPython 3.14 learns from this where its C stack ends. */
int fibril_posix_pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    const struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_getattr_np(thread, attr);
    }
    return t->fibril ? fill(attr, t) : ESRCH;
}

/* ---- names ---- */

int fibril_posix_pthread_setname_np(pthread_t thread, const char *name)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_setname_np(thread, name);
    }
    if (strlen(name) >= NAME_MAX_BYTES) {
        return ERANGE;
    }
    if (!t->fibril) {
        return ESRCH;
    }
    return -fibril_set_name(t->fibril, name);
}

int fibril_posix_pthread_getname_np(pthread_t thread, char *ret_name, size_t size)
{
    const struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_getname_np(thread, ret_name, size);
    }
    if (size < NAME_MAX_BYTES) {
        return ERANGE;
    }
    if (!t->fibril) {
        return ESRCH;
    }
    const char *name = fibril_name(t->fibril);
    size_t n = strnlen(name, NAME_MAX_BYTES - 1);
    memcpy(ret_name, name, n);
    ret_name[n] = 0;
    return 0;
}

/* ---- clocks and scheduling: the OS thread's ---- */

int fibril_posix_pthread_getcpuclockid(pthread_t thread, clockid_t *ret_clock)
{
    return pthread_getcpuclockid(real(thread), ret_clock);
}

int fibril_posix_pthread_getschedparam(pthread_t thread, int *ret_policy, struct sched_param *ret)
{
    return pthread_getschedparam(real(thread), ret_policy, ret);
}

int fibril_posix_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *p)
{
    return pthread_setschedparam(real(thread), policy, p);
}

int fibril_posix_pthread_setschedprio(pthread_t thread, int prio)
{
    return pthread_setschedprio(real(thread), prio);
}

int fibril_posix_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *ret_set)
{
    return pthread_getaffinity_np(real(thread), size, ret_set);
}

int fibril_posix_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
    return pthread_setaffinity_np(real(thread), size, set);
}

const struct fibril__call fibril__calls_attr[] = {
    FIBRIL__CALL(pthread_getattr_np),     FIBRIL__CALL(pthread_setname_np),
    FIBRIL__CALL(pthread_getname_np),     FIBRIL__CALL(pthread_getcpuclockid),
    FIBRIL__CALL(pthread_getschedparam),  FIBRIL__CALL(pthread_setschedparam),
    FIBRIL__CALL(pthread_setschedprio),   FIBRIL__CALL(pthread_getaffinity_np),
    FIBRIL__CALL(pthread_setaffinity_np), {NULL, NULL, false, NULL},
};
