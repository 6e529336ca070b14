/* SPDX-License-Identifier: MIT */
/*
 * Threads that are fibrils: pthread_create, pthread_join and pthread_self. A pthread_t of ours is
 * the address of the record with its low bit set, which no pthread_t of libc has.
 *
 * The record of a thread that pthread_create made lives until it has ended and is joined or
 * detached; that of any other fibril ends with the fibril.
 */
#include "posix/thread.h"

#include "posix/calls.h"

#include "base/alloc.h"
#include "posix/address.h"
#include "posix/futex_wait.h"
#include "posix/locals.h"

#include <limits.h>
#include <stdatomic.h>
#include <string.h>

enum {
    OURS = 1,
    STACK_OWN = 8192, /* of a stack, what the guard and the record at its top take at most */
};

static _Atomic uint64_t live; /* threads made by pthread_create that have not ended */
static size_t stack_bytes;    /* of threads that ask for none */

/* ---- records ---- */

const char fibril__thread_owner;

void fibril__thread_adopt(struct fibril__thread *t, struct fibril *f)
{
    t->node.owner = &fibril__thread_owner;
    t->fibril = f;
    t->loop = fibril_loop_of(f);
    t->owner = fibril__owner_mark(fibril_id(f));
    fibril_embed_add(f, &t->node);
}

struct fibril__thread *fibril__thread_for(struct fibril *f)
{
    struct fibril__thread *t = fibril__thread_known(f);
    if (UNLIKELY(!t)) {
        t = fibril__thread_new();
        if (t) {
            fibril__thread_adopt(t, f);
        }
    }
    return t;
}

struct fibril__thread *fibril__thread_self(void)
{
    return fibril__thread_for(fibril_current());
}

struct fibril__thread *fibril__thread_face(void)
{
    return fibril__thread_for(fibril__thread_leader(fibril_current()));
}

struct fibril__thread *fibril__thread_of(pthread_t t)
{
    uintptr_t bits = (uintptr_t)t;
    return bits & OURS ? (struct fibril__thread *)(bits & ~(uintptr_t)OURS) : NULL;
}

static pthread_t name_of(const struct fibril__thread *t)
{
    return (pthread_t)((uintptr_t)t | OURS);
}

/* ---- life with the loop ---- */

static __thread struct fibril__thread *main_thread;
static __thread int os_thread;

int fibril__os_thread(void)
{
    if (UNLIKELY(!os_thread)) {
        os_thread = (int)syscall(SYS_gettid);
    }
    return os_thread;
}

struct fibril *fibril__thread_main(void)
{
    return main_thread ? main_thread->fibril : NULL;
}

int fibril__thread_adopt_main(void)
{
    if (main_thread) {
        return 0;
    }
    struct fibril__thread *t = fibril__thread_new();
    if (!t) {
        return -ENOMEM;
    }
    t->main = true;
    fibril__thread_adopt(t, fibril_current());
    t->owner = fibril__os_thread();
    main_thread = t;
    return 0;
}

void fibril__thread_forked(void)
{
    struct fibril__thread *t = fibril__thread_self();
    os_thread = 0;
    if (!t) {
        return;
    }
    if (t->main) {
        t->owner = fibril__os_thread();
    }
    main_thread = t;
    atomic_store(&live, t->start ? 1 : 0);
}

void fibril__thread_leave_main(void)
{
    if (main_thread) {
        fibril_embed_remove(main_thread->fibril, &main_thread->node);
        fibril__thread_drop_holder(main_thread);
        fibril__thread_unpin(main_thread);
        main_thread = NULL;
    }
    fibril__thread_forget_kept();
}

/* The first thread of the child of a fork ends: the process lives as long as the others. */
static void outlive(struct fibril__thread *t)
{
    uint64_t own = t->start ? 1 : 0;
    atomic_fetch_sub(&live, own);
    fibril__thread_wait_for_all();
    atomic_fetch_add(&live, own);
    main_thread = NULL;
}

void fibril__thread_part(struct fibril__thread *t)
{
    fibril__values_destroy(t);
    fibril__locals_reset();
    if (t == main_thread) {
        outlive(t);
    }
    fibril_embed_remove(t->fibril, &t->node);
    fibril__thread_drop_holder(t);
    t->fibril = NULL;
}

/* A fibril is about to end: what was the thread's goes. */
void fibril__thread_ended(struct fibril *f)
{
    struct fibril__thread *t = fibril__thread_known(f);
    if (!t || t->main) {
        return;
    }
    fibril__thread_part(t);
    if (!t->start) {
        fibril__thread_unpin(t);
        return;
    }
    if (atomic_fetch_sub(&live, 1) == 1) {
        fibril__address_wake(&live, FIBRIL__WAKE_ALL);
    }
    atomic_fetch_add(&t->pins, 1);
    int before = atomic_fetch_or(&t->life, FIBRIL__LIFE_ENDED);
    while (atomic_load(&t->posting) > 0) {
        cpu_relax(); /* this loop must not end before what they send has come */
    }
    if (before & FIBRIL__LIFE_DETACHED) {
        fibril__thread_unpin(t);
    }
    fibril__thread_unpin(t);
    if (before & FIBRIL__LIFE_DETACHED) {
        return;
    }
    fibril__address_wake(&t->life, FIBRIL__WAKE_ALL); /* a joiner may have freed t: only its place
                                                       */
    fibril__futex_wake(&t->life, INT_MAX);
}

uint64_t fibril__thread_live(void)
{
    return atomic_load(&live);
}

/* As the last thread of a process that POSIX lets go when main() has left by pthread_exit. */
void fibril__thread_wait_for_all(void)
{
    struct fibril__thread *self = fibril__thread_self();
    struct fibril_waker_info info = {.name = "end of all threads", .object = &live};
    while (self && atomic_load(&live) > 0) {
        fibril__address_enter(self, &live);
        if (atomic_load(&live) == 0) {
            fibril__address_leave(self);
        } else {
            fibril__address_wait(self, &info, FIBRIL_FOREVER);
        }
    }
}

void fibril__thread_stack(size_t bytes)
{
    stack_bytes = bytes;
}

/* ---- pthread_create ---- */

static int run(void *arg)
{
    struct fibril__thread *t = arg;
    if (UNLIKELY(fibril__thread_is_halted())) {
        fibril__thread_halt();
    }
    fibril__thread_run(t);
    return 0;
}

/* What the attributes say of stack and joining. A stack given by address is not used: that memory
 * stays the caller's, and unused. */
static int read_attr(const pthread_attr_t *attr, size_t *ret_stack, bool *ret_detached)
{
    *ret_stack = stack_bytes;
    *ret_detached = false;
    if (!attr) {
        return 0;
    }
    pthread_attr_t usual;
    size_t asked, standard;
    int state, rc = pthread_attr_getstacksize(attr, &asked);
    rc = rc ? rc : pthread_attr_getdetachstate(attr, &state);
    rc = rc ? rc : pthread_attr_init(&usual);
    if (rc) {
        return rc;
    }
    pthread_attr_getstacksize(&usual, &standard);
    pthread_attr_destroy(&usual);
    *ret_detached = state == PTHREAD_CREATE_DETACHED;
    *ret_stack = asked && asked != standard ? asked + STACK_OWN : stack_bytes;
    return 0;
}

int fibril_posix_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attr,
                                void *(*start)(void *), void *arg)
{
    if (!fibril__on_loop()) {
        return pthread_create(ret_thread, attr, start, arg);
    }
    fibril__load_look();
    struct fibril_spawn_opts opts = {.daemon = true};
    bool detached;
    int rc = read_attr(attr, &opts.stack_bytes, &detached);
    if (rc) {
        return rc;
    }
    struct fibril__thread *t = fibril__thread_new();
    if (!t) {
        return EAGAIN;
    }
    t->start = start;
    t->arg = arg;
    t->life = detached ? FIBRIL__LIFE_DETACHED : 0;
    *ret_thread = name_of(t);
    atomic_fetch_add(&live, 1);
    struct fibril *f;
    rc = fibril_spawn(run, t, &opts, &f);
    if (rc < 0) {
        atomic_fetch_sub(&live, 1);
        fibril__thread_unpin(t);
        return EAGAIN;
    }
    fibril__thread_adopt(t, f); /* before it runs: it may be named or cancelled at once */
    fibril_detach(f);
    return 0;
}

bool (*fibril__posix_as_main)(struct fibril__thread *t);

static NOINLINE bool passes_for_main(struct fibril__thread *t)
{
    return fibril__posix_as_main && fibril__posix_as_main(t);
}

pthread_t fibril_posix_pthread_self(void)
{
    if (!fibril__on_loop()) {
        return pthread_self();
    }
    struct fibril__thread *t = fibril__thread_face();
    if (!t || (UNLIKELY(t->told) && passes_for_main(t)) || t->main) {
        return pthread_self();
    }
    return name_of(t);
}

unsigned long fibril_posix_thread_id(const struct fibril *f)
{
    const struct fibril__thread *t = fibril__thread_known(f);
    return !t || t->main ? 0 : (unsigned long)name_of(t);
}

/* ---- joining ---- */

static struct fibril *joined(const void *object)
{
    const char *life = object;
    const void *t = life - offsetof(struct fibril__thread, life);
    return ((const struct fibril__thread *)t)->fibril;
}

static bool has_ended(struct fibril__thread *t)
{
    return atomic_load(&t->life) & FIBRIL__LIFE_ENDED;
}

static int wait_on_loop(struct fibril__thread *t, int64_t deadline_ns)
{
    struct fibril__thread *self = fibril__thread_self();
    if (!self || self == t) {
        return self ? -EDEADLK : -ENOMEM;
    }
    struct fibril_waker_info info = {
        .name = "end of thread", .object = &t->life, .holder = joined, .inside = true};
    while (!has_ended(t)) {
        fibril__address_enter(self, &t->life);
        if (has_ended(t)) {
            fibril__address_leave(self);
            break;
        }
        int rc = fibril__address_wait(self, &info, deadline_ns);
        if (rc < 0 && rc != -EINTR) {
            return rc;
        }
    }
    return 0;
}

/* On an OS thread without a loop. */
static int wait_outside(struct fibril__thread *t, clockid_t clock, const struct timespec *until)
{
    int64_t unused;
    int life, rc = fibril__deadline_at(clock, until, &unused); /* is it a time? */
    while (!((life = atomic_load(&t->life)) & FIBRIL__LIFE_ENDED) && rc == 0) {
        rc = fibril__futex_wait(&t->life, life, clock, until);
    }
    return has_ended(t) ? 0 : rc;
}

static int join(struct fibril__thread *t, void **ret_result, clockid_t clock,
                const struct timespec *until)
{
    if (atomic_load(&t->life) & FIBRIL__LIFE_DETACHED) {
        return EINVAL;
    }
    int saved = errno, rc;
    if (fibril__on_loop()) {
        int64_t deadline_ns;
        rc = fibril__deadline_at(clock, until, &deadline_ns);
        rc = rc ? rc : wait_on_loop(t, deadline_ns);
    } else {
        rc = wait_outside(t, clock, until);
    }
    if (rc < 0) {
        return fibril__posix_error(rc, saved);
    }
    if (ret_result) {
        *ret_result = t->result;
    }
    fibril__thread_unpin(t);
    errno = saved;
    return 0;
}

int fibril_posix_pthread_join(pthread_t thread, void **ret_result)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    return t ? join(t, ret_result, CLOCK_MONOTONIC, NULL)
             : fibril__join_real(thread, ret_result, CLOCK_MONOTONIC, NULL);
}

int fibril_posix_pthread_timedjoin_np(pthread_t thread, void **ret_result,
                                      const struct timespec *until)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    return t ? join(t, ret_result, CLOCK_REALTIME, until)
             : fibril__join_real(thread, ret_result, CLOCK_REALTIME, until);
}

int fibril_posix_pthread_clockjoin_np(pthread_t thread, void **ret_result, clockid_t clock,
                                      const struct timespec *until)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    return t ? join(t, ret_result, clock, until)
             : fibril__join_real(thread, ret_result, clock, until);
}

int fibril_posix_pthread_tryjoin_np(pthread_t thread, void **ret_result)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_tryjoin_np(thread, ret_result);
    }
    return has_ended(t) ? join(t, ret_result, CLOCK_MONOTONIC, NULL) : EBUSY;
}

int fibril_posix_pthread_detach(pthread_t thread)
{
    struct fibril__thread *t = fibril__thread_of(thread);
    if (!t) {
        return pthread_detach(thread);
    }
    int before = atomic_fetch_or(&t->life, FIBRIL__LIFE_DETACHED);
    if (before & FIBRIL__LIFE_DETACHED) {
        return EINVAL;
    }
    if (before & FIBRIL__LIFE_ENDED) {
        fibril__thread_unpin(t);
    }
    return 0;
}

const struct fibril__call fibril__calls_thread[] = {
    {"pthread_create", (void (*)(void))fibril_posix_pthread_create, .threads = true},
    FIBRIL__CALL(pthread_self),
    FIBRIL__CALL(pthread_join),
    FIBRIL__CALL(pthread_timedjoin_np),
    FIBRIL__CALL(pthread_clockjoin_np),
    FIBRIL__CALL(pthread_tryjoin_np),
    FIBRIL__CALL(pthread_detach),
    {NULL, NULL, false, NULL},
};
