/* SPDX-License-Identifier: MIT */
/* Every covered call, declared with the very type that libc gives to its own. */
#ifndef FIBRIL_POSIX_CALLS_H
#define FIBRIL_POSIX_CALLS_H

#include "posix/layer.h"

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#define COVERS(name) extern __typeof__(name) fibril_posix_##name

/* thread.c, attr.c, exit.c */
COVERS(pthread_create);
COVERS(pthread_self);
COVERS(pthread_join);
COVERS(pthread_timedjoin_np);
COVERS(pthread_clockjoin_np);
COVERS(pthread_tryjoin_np);
COVERS(pthread_detach);
COVERS(pthread_getattr_np);
COVERS(pthread_setname_np);
COVERS(pthread_getname_np);
COVERS(pthread_getcpuclockid);
COVERS(pthread_getschedparam);
COVERS(pthread_setschedparam);
COVERS(pthread_setschedprio);
COVERS(pthread_getaffinity_np);
COVERS(pthread_setaffinity_np);
NORETURN COVERS(pthread_exit);
COVERS(pthread_cancel);
COVERS(pthread_setcancelstate);
COVERS(pthread_setcanceltype);
COVERS(pthread_testcancel);
NORETURN extern void __pthread_unwind_next(__pthread_unwind_buf_t *buf);
extern void __pthread_register_cancel(__pthread_unwind_buf_t *buf);
extern void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf);
COVERS(__pthread_register_cancel);
COVERS(__pthread_unregister_cancel);
COVERS(__pthread_unwind_next);

/* key.c, once.c */
COVERS(pthread_key_create);
COVERS(pthread_key_delete);
COVERS(pthread_getspecific);
COVERS(pthread_setspecific);
COVERS(pthread_once);

/* mutex.c, cond.c, rwlock.c, sem.c */
COVERS(pthread_mutex_lock);
COVERS(pthread_mutex_trylock);
COVERS(pthread_mutex_timedlock);
COVERS(pthread_mutex_clocklock);
COVERS(pthread_mutex_unlock);
COVERS(pthread_cond_wait);
COVERS(pthread_cond_timedwait);
COVERS(pthread_cond_clockwait);
COVERS(pthread_cond_signal);
COVERS(pthread_cond_broadcast);
COVERS(pthread_rwlock_rdlock);
COVERS(pthread_rwlock_timedrdlock);
COVERS(pthread_rwlock_clockrdlock);
COVERS(pthread_rwlock_wrlock);
COVERS(pthread_rwlock_timedwrlock);
COVERS(pthread_rwlock_clockwrlock);
COVERS(pthread_rwlock_trywrlock);
COVERS(pthread_rwlock_unlock);
COVERS(pthread_barrier_wait);
COVERS(pthread_spin_lock);
COVERS(sem_wait);
COVERS(sem_timedwait);
COVERS(sem_clockwait);
COVERS(sem_trywait);
COVERS(sem_post);

/* c11.c */
COVERS(thrd_create);
COVERS(thrd_join);
COVERS(thrd_detach);
NORETURN COVERS(thrd_exit);
COVERS(thrd_current);
COVERS(call_once);
COVERS(mtx_lock);
COVERS(mtx_trylock);
COVERS(mtx_timedlock);
COVERS(mtx_unlock);
COVERS(cnd_wait);
COVERS(cnd_timedwait);
COVERS(cnd_signal);
COVERS(cnd_broadcast);
COVERS(tss_create);
COVERS(tss_delete);
COVERS(tss_get);
COVERS(tss_set);

#endif
