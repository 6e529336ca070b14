/* SPDX-License-Identifier: MIT */
/*
 * The threads of C11, which in libc are the pthread calls under other names and with results of
 * their own. libc's thrd_sleep and thrd_yield go through calls that other files cover.
 */
#include "posix/calls.h"
#include "posix/thread.h"

#include "base/alloc.h"

static int result_of(int rc)
{
    switch (rc) {
    case 0: return thrd_success;
    case ENOMEM: return thrd_nomem;
    case ETIMEDOUT: return thrd_timedout;
    case EBUSY: return thrd_busy;
    default: return thrd_error;
    }
}

/* ---- threads ---- */

struct start {
    thrd_start_t fn;
    void *arg;
};

static void *run(void *arg)
{
    struct start start = *(struct start *)arg;
    fibril__free(arg);
    return (void *)(intptr_t)start.fn(start.arg);
}

int fibril_posix_thrd_create(thrd_t *ret_thread, thrd_start_t fn, void *arg)
{
    if (!fibril__on_loop()) {
        return thrd_create(ret_thread, fn, arg);
    }
    struct start *start = fibril__alloc(sizeof *start);
    if (!start) {
        return thrd_nomem;
    }
    *start = (struct start){fn, arg};
    int rc = fibril_posix_pthread_create(ret_thread, NULL, run, start);
    if (rc != 0) {
        fibril__free(start);
    }
    return rc == EAGAIN ? thrd_nomem : result_of(rc);
}

int fibril_posix_thrd_join(thrd_t thread, int *ret_result)
{
    void *result;
    int rc = fibril_posix_pthread_join(thread, &result);
    if (rc == 0 && ret_result) {
        *ret_result = (int)(intptr_t)result;
    }
    return result_of(rc);
}

int fibril_posix_thrd_detach(thrd_t thread)
{
    return result_of(fibril_posix_pthread_detach(thread));
}

NORETURN void fibril_posix_thrd_exit(int result)
{
    fibril_posix_pthread_exit((void *)(intptr_t)result);
}

thrd_t fibril_posix_thrd_current(void)
{
    return fibril_posix_pthread_self();
}

void fibril_posix_call_once(once_flag *once, void (*routine)(void))
{
    fibril_posix_pthread_once((pthread_once_t *)once, routine);
}

/* ---- mtx_t and cnd_t: libc's are the same memory as the POSIX types ---- */

static pthread_mutex_t *mutex_of(mtx_t *m)
{
    return (pthread_mutex_t *)(void *)m;
}

static pthread_cond_t *cond_of(cnd_t *c)
{
    return (pthread_cond_t *)(void *)c;
}

int fibril_posix_mtx_lock(mtx_t *m)
{
    return result_of(fibril_posix_pthread_mutex_lock(mutex_of(m)));
}

int fibril_posix_mtx_trylock(mtx_t *m)
{
    return result_of(fibril_posix_pthread_mutex_trylock(mutex_of(m)));
}

int fibril_posix_mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict until)
{
    return result_of(fibril_posix_pthread_mutex_timedlock(mutex_of(m), until));
}

int fibril_posix_mtx_unlock(mtx_t *m)
{
    return result_of(fibril_posix_pthread_mutex_unlock(mutex_of(m)));
}

int fibril_posix_cnd_wait(cnd_t *c, mtx_t *m)
{
    return result_of(fibril_posix_pthread_cond_wait(cond_of(c), mutex_of(m)));
}

int fibril_posix_cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m,
                               const struct timespec *restrict until)
{
    return result_of(fibril_posix_pthread_cond_timedwait(cond_of(c), mutex_of(m), until));
}

int fibril_posix_cnd_signal(cnd_t *c)
{
    return result_of(fibril_posix_pthread_cond_signal(cond_of(c)));
}

int fibril_posix_cnd_broadcast(cnd_t *c)
{
    return result_of(fibril_posix_pthread_cond_broadcast(cond_of(c)));
}

/* ---- tss_t ---- */

int fibril_posix_tss_create(tss_t *ret_key, tss_dtor_t destroy)
{
    return result_of(fibril_posix_pthread_key_create(ret_key, destroy));
}

void fibril_posix_tss_delete(tss_t key)
{
    fibril_posix_pthread_key_delete(key);
}

void *fibril_posix_tss_get(tss_t key)
{
    return fibril_posix_pthread_getspecific(key);
}

int fibril_posix_tss_set(tss_t key, void *value)
{
    return fibril_posix_pthread_setspecific(key, value) == 0 ? thrd_success : thrd_error;
}

const struct fibril__call fibril__calls_c11[] = {
    {"thrd_create", (void (*)(void))fibril_posix_thrd_create, .threads = true},
    FIBRIL__CALL(thrd_join),
    FIBRIL__CALL(thrd_detach),
    FIBRIL__CALL(thrd_exit),
    FIBRIL__CALL(thrd_current),
    FIBRIL__CALL(call_once),
    FIBRIL__CALL(mtx_lock),
    FIBRIL__CALL(mtx_trylock),
    FIBRIL__CALL(mtx_timedlock),
    FIBRIL__CALL(mtx_unlock),
    FIBRIL__CALL(cnd_wait),
    FIBRIL__CALL(cnd_timedwait),
    FIBRIL__CALL(cnd_signal),
    FIBRIL__CALL(cnd_broadcast),
    FIBRIL__CALL(tss_create),
    FIBRIL__CALL(tss_delete),
    FIBRIL__CALL(tss_get),
    FIBRIL__CALL(tss_set),
    {NULL, NULL, false, NULL},
};
