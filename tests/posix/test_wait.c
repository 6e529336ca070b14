/* SPDX-License-Identifier: MIT */
/* Conditions, semaphores, read-write locks, barriers, spin locks, once and futexes. */
#include "thread_rig.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { ROUNDS = 2000 };

/* ---- conditions ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER, other_cond = PTHREAD_COND_INITIALIZER;
static int tickets;
static _Atomic int served;

static void *take_ticket(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
    while (tickets == 0) {
        ASSERT_EQ(fibril_posix_pthread_cond_wait(&cond, &mutex), 0);
    }
    tickets--;
    served++;
    ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
    return arg;
}

ON_LOOP(a_signal_wakes_one_and_a_broadcast_all)
{
    pthread_t threads[5];
    for (int i = 0; i < 5; i++) {
        threads[i] = rig_go(take_ticket, NULL);
    }
    rig_settle();
    tickets = 5;
    ASSERT_EQ(fibril_posix_pthread_cond_signal(&cond), 0);
    rig_settle();
    ASSERT_EQ(served, 1);
    ASSERT_EQ(fibril_posix_pthread_cond_broadcast(&cond), 0);
    for (int i = 0; i < 5; i++) {
        rig_end(threads[i]);
    }
    ASSERT_EQ(served, 5);
    ASSERT_EQ(pthread_cond_destroy(&cond), 0);
}

ON_LOOP(a_timed_wait_has_the_clock_of_the_condition_and_the_mutex_back)
{
    pthread_condattr_t attr;
    pthread_cond_t monotonic;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&monotonic, &attr);
    struct timespec real = rig_time(CLOCK_REALTIME, 2), mono = rig_time(CLOCK_MONOTONIC, 2);
    struct timespec bad = {.tv_nsec = 1000000000};
    ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
    errno = EXDEV;
    ASSERT_EQ(fibril_posix_pthread_cond_timedwait(&cond, &mutex, &real), ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_cond_timedwait(&monotonic, &mutex, &mono), ETIMEDOUT);
    mono = rig_time(CLOCK_MONOTONIC, 2);
    ASSERT_EQ(fibril_posix_pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &mono),
              ETIMEDOUT);
    ASSERT_EQ(fibril_posix_pthread_cond_timedwait(&cond, &mutex, &bad), EINVAL);
    ASSERT_EQ(errno, EXDEV);
    ASSERT_EQ(pthread_mutex_trylock(&mutex), EBUSY);
    ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
}

static void *play_really(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(pthread_mutex_lock(&mutex), 0);
        while (tickets == 0) {
            ASSERT_EQ(pthread_cond_wait(&cond, &mutex), 0);
        }
        tickets = 0;
        ASSERT_EQ(fibril_posix_pthread_cond_signal(&other_cond), 0);
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
    }
    return NULL;
}

static void *play(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(fibril_posix_pthread_mutex_lock(&mutex), 0);
        tickets = 1;
        ASSERT_EQ(fibril_posix_pthread_cond_signal(&cond), 0);
        while (tickets == 1) {
            ASSERT_EQ(fibril_posix_pthread_cond_wait(&other_cond, &mutex), 0);
        }
        ASSERT_EQ(fibril_posix_pthread_mutex_unlock(&mutex), 0);
    }
    return arg;
}

ON_LOOP(a_fibril_and_an_os_thread_play_ping_pong_with_conditions)
{
    rig_foreign(1, play_really, NULL);
    rig_end(rig_go(play, NULL));
    rig_foreign_end();
}

/* ---- semaphores ---- */

static sem_t sem, answers;

static void *wait_sem(void *arg)
{
    errno = EXDEV;
    ASSERT_EQ(fibril_posix_sem_wait(&sem), 0);
    ASSERT_EQ(errno, EXDEV);
    served++;
    return arg;
}

ON_LOOP(each_post_lets_one_through)
{
    pthread_t threads[4];
    int value;
    ASSERT_EQ(sem_init(&sem, 0, 0), 0);
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(wait_sem, NULL);
    }
    rig_settle();
    for (int i = 1; i <= 4; i++) {
        ASSERT_EQ(fibril_posix_sem_post(&sem), 0);
        rig_settle();
        ASSERT_EQ(served, i);
    }
    ASSERT_EQ(fibril_posix_sem_post(&sem), 0);
    ASSERT_EQ(sem_getvalue(&sem, &value), 0);
    ASSERT_EQ(value, 1);
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
}

ON_LOOP(a_timed_semaphore_says_ETIMEDOUT_in_errno)
{
    struct timespec soon = rig_time(CLOCK_REALTIME, 2), mono = rig_time(CLOCK_MONOTONIC, 2);
    struct timespec bad = {.tv_nsec = -1}, past = {.tv_sec = 1};
    for (int shared = 0; shared <= 1; shared++) {
        ASSERT_EQ(sem_init(&sem, shared, 0), 0);
        ASSERT_EQ(fibril_posix_sem_timedwait(&sem, &soon), -1);
        ASSERT_EQ(errno, ETIMEDOUT);
        ASSERT_EQ(fibril_posix_sem_clockwait(&sem, CLOCK_MONOTONIC, &mono), -1);
        ASSERT_EQ(errno, ETIMEDOUT);
        ASSERT_EQ(fibril_posix_sem_timedwait(&sem, &bad), -1);
        ASSERT_EQ(errno, EINVAL);
        ASSERT_EQ(fibril_posix_sem_post(&sem), 0);
        ASSERT_EQ(fibril_posix_sem_timedwait(&sem, &past), 0);
    }
}

static void *sem_cancelled(void *arg)
{
    fibril_posix_sem_wait(&sem);
    return arg;
}

ON_LOOP(a_wait_for_a_semaphore_can_be_cancelled)
{
    ASSERT_EQ(sem_init(&sem, 0, 0), 0);
    pthread_t thread = rig_go(sem_cancelled, NULL);
    rig_settle();
    ASSERT_EQ(fibril_posix_pthread_cancel(thread), 0);
    ASSERT(rig_end(thread) == PTHREAD_CANCELED);
}

static void *answer_really(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(sem_wait(&sem), 0);
        ASSERT_EQ(fibril_posix_sem_post(&answers), 0);
    }
    return arg;
}

static void *ask(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(fibril_posix_sem_post(&sem), 0);
        ASSERT_EQ(fibril_posix_sem_wait(&answers), 0);
    }
    return arg;
}

ON_LOOP(fibrils_and_os_threads_post_to_each_other)
{
    int value;
    pthread_t threads[3];
    ASSERT_EQ(sem_init(&sem, 0, 0), 0);
    ASSERT_EQ(sem_init(&answers, 0, 0), 0);
    rig_foreign(3, answer_really, NULL);
    for (int i = 0; i < 3; i++) {
        threads[i] = rig_go(ask, NULL);
    }
    for (int i = 0; i < 3; i++) {
        rig_end(threads[i]);
    }
    rig_foreign_end();
    ASSERT_EQ(sem_getvalue(&sem, &value), 0);
    ASSERT_EQ(value, 0);
    ASSERT_EQ(sem_getvalue(&answers, &value), 0);
    ASSERT_EQ(value, 0);
}

/* ---- read-write locks ---- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *read_it(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_rwlock_rdlock(&rwlock), 0);
    served++;
    fibril_yield();
    ASSERT_EQ(fibril_posix_pthread_rwlock_unlock(&rwlock), 0);
    return arg;
}

static void *try_to_write(void *arg)
{
    struct timespec soon = rig_time(CLOCK_REALTIME, 2);
    (void)arg;
    ASSERT_EQ(fibril_posix_pthread_rwlock_trywrlock(&rwlock), EBUSY);
    ASSERT_EQ(fibril_posix_pthread_rwlock_timedwrlock(&rwlock, &soon), ETIMEDOUT);
    return (void *)(intptr_t)fibril_posix_pthread_rwlock_unlock(&rwlock);
}

ON_LOOP(readers_share_and_a_writer_shuts_all_out)
{
    pthread_t threads[4];
    ASSERT_EQ(fibril_posix_pthread_rwlock_wrlock(&rwlock), 0);
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(read_it, NULL);
    }
    rig_settle();
    ASSERT_EQ(served, 0);
    ASSERT_EQ((intptr_t)rig_end(rig_go(try_to_write, NULL)), EPERM);
    ASSERT_EQ(fibril_posix_pthread_rwlock_unlock(&rwlock), 0);
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
    ASSERT_EQ(served, 4);
    ASSERT_EQ(fibril_posix_pthread_rwlock_rdlock(&rwlock), 0);
    ASSERT_EQ((intptr_t)rig_end(rig_go(try_to_write, NULL)), 0); /* gives the reading back */
    ASSERT_EQ(fibril_posix_pthread_rwlock_trywrlock(&rwlock), 0);
    ASSERT_EQ(fibril_posix_pthread_rwlock_unlock(&rwlock), 0);
    ASSERT_EQ(pthread_rwlock_destroy(&rwlock), 0);
}

static void *write_twice(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_rwlock_wrlock(&rwlock), 0);
    ASSERT_EQ(fibril_posix_pthread_rwlock_wrlock(&rwlock), EDEADLK);
    ASSERT_EQ(fibril_posix_pthread_rwlock_rdlock(&rwlock), EDEADLK);
    fibril_yield();
    ASSERT_EQ(fibril_posix_pthread_rwlock_unlock(&rwlock), 0);
    return arg;
}

ON_LOOP(a_writer_that_locks_again_is_told_so)
{
    pthread_t a = rig_go(write_twice, NULL), b = rig_go(write_twice, NULL);
    write_twice(NULL);
    rig_end(a);
    rig_end(b);
}

static struct {
    int writers;
    _Atomic int readers;
    int64_t written;
} room;

static void use_room(bool on_loop, bool write)
{
    if (write) {
        ASSERT_EQ(room.writers++, 0);
        ASSERT_EQ(room.readers, 0);
        room.written++;
    } else {
        room.readers++;
        ASSERT_EQ(room.writers, 0);
    }
    if (on_loop) {
        fibril_yield();
    }
    if (write) {
        room.writers--;
    } else {
        room.readers--;
    }
}

static void *use_rwlock(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        bool write = i % 4 == 0;
        ASSERT_EQ(write ? fibril_posix_pthread_rwlock_wrlock(&rwlock)
                        : fibril_posix_pthread_rwlock_rdlock(&rwlock),
                  0);
        use_room(fibril_current() != NULL, write);
        ASSERT_EQ(fibril_posix_pthread_rwlock_unlock(&rwlock), 0);
    }
    return arg;
}

ON_LOOP(fibrils_and_os_threads_share_a_read_write_lock)
{
    pthread_t threads[4];
    rig_foreign(3, use_rwlock, NULL);
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(use_rwlock, NULL);
    }
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
    rig_foreign_end();
    ASSERT_EQ(room.written, 7 * ROUNDS / 4);
}

/* ---- barriers, spin locks ---- */

static pthread_barrier_t barrier;
static _Atomic int arrived, serials;

static void *meet(void *arg)
{
    for (int i = 1; i <= ROUNDS / 4; i++) {
        arrived++;
        int rc = fibril_posix_pthread_barrier_wait(&barrier);
        ASSERT(rc == 0 || rc == PTHREAD_BARRIER_SERIAL_THREAD);
        serials += rc != 0;
        ASSERT_GE(arrived, i * 6);
    }
    return arg;
}

ON_LOOP(fibrils_and_os_threads_meet_at_a_barrier)
{
    pthread_t threads[4];
    ASSERT_EQ(pthread_barrier_init(&barrier, NULL, 6), 0);
    rig_foreign(2, meet, NULL);
    for (int i = 0; i < 4; i++) {
        threads[i] = rig_go(meet, NULL);
    }
    for (int i = 0; i < 4; i++) {
        rig_end(threads[i]);
    }
    rig_foreign_end();
    ASSERT_EQ(serials, ROUNDS / 4);
    ASSERT_EQ(pthread_barrier_destroy(&barrier), 0);
}

static pthread_spinlock_t spin;

static void *spin_on(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_spin_lock(&spin), 0);
    served++;
    fibril_yield();
    ASSERT_EQ(pthread_spin_unlock(&spin), 0);
    return arg;
}

ON_LOOP(a_spin_lock_held_over_a_park_does_not_hang)
{
    pthread_t threads[3];
    ASSERT_EQ(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE), 0);
    for (int i = 0; i < 3; i++) {
        threads[i] = rig_go(spin_on, NULL);
    }
    for (int i = 0; i < 3; i++) {
        rig_end(threads[i]);
    }
    ASSERT_EQ(served, 3);
}

/* ---- once ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int runs;

static void routine(void)
{
    fibril_sleep(2 * RIG_MS);
    runs++;
}

static void *do_once(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_once(&once, routine), 0);
    ASSERT_EQ(runs, 1);
    return arg;
}

ON_LOOP(a_routine_that_parks_runs_once)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        threads[i] = rig_go(do_once, NULL);
    }
    for (int i = 0; i < 8; i++) {
        rig_end(threads[i]);
    }
}

/* ---- futexes ---- */

extern long fibril_posix_syscall(long number, ...);

static _Atomic int *word;
static int flags;

static void *wait_futex(void *arg)
{
    while (*word == 0) {
        long rc = fibril_posix_syscall(SYS_futex, word, FUTEX_WAIT | flags, 0, NULL, NULL, 0);
        ASSERT(rc == 0 || errno == EAGAIN || errno == EINTR);
    }
    served++;
    return arg;
}

static void wake_them(void)
{
    pthread_t threads[3];
    served = 0;
    *word = 0;
    rig_foreign(1, wait_futex, NULL);
    for (int i = 0; i < 3; i++) {
        threads[i] = rig_go(wait_futex, NULL);
    }
    rig_settle();
    *word = 1;
    ASSERT_GE(fibril_posix_syscall(SYS_futex, word, FUTEX_WAKE | flags, 100, NULL, NULL, 0), 3);
    for (int i = 0; i < 3; i++) {
        rig_end(threads[i]);
    }
    rig_foreign_end();
}

ON_LOOP(a_futex_wakes_fibrils_and_os_threads)
{
    static _Atomic int here;
    word = &here;
    flags = FUTEX_PRIVATE_FLAG;
    wake_them();
    flags = 0; /* as libstdc++ does */
    wake_them();
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    wake_them();
    munmap((void *)(uintptr_t)word, 4096);
}

ON_LOOP(a_futex_wait_answers_as_the_kernel_does)
{
    static _Atomic int here;
    struct timespec in = {.tv_nsec = 2000000}, bad = {.tv_nsec = -1};
    int wait = FUTEX_WAIT_PRIVATE;
    ASSERT_EQ(fibril_posix_syscall(SYS_futex, &here, wait, 7, NULL, NULL, 0), -1);
    ASSERT_EQ(errno, EAGAIN);
    ASSERT_EQ(fibril_posix_syscall(SYS_futex, &here, wait, 0, &in, NULL, 0), -1);
    ASSERT_EQ(errno, ETIMEDOUT);
    ASSERT_EQ(fibril_posix_syscall(SYS_futex, &here, wait, 0, &bad, NULL, 0), -1);
    ASSERT_EQ(errno, EINVAL);
}
