/* SPDX-License-Identifier: MIT */
/*
 * A program linked to run at a fixed address, whose function pointers are addresses of its own
 * procedure linkage table. Threads wait for each other by every means of the classic interface,
 * also through pointers, and handlers run when one is cancelled.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 32 };

static int (*const wait_by_pointer)(sem_t *) = sem_wait;
static int (*sleep_by_pointer)(useconds_t) = usleep;

static sem_t sem;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int total, ran, destroyed, cleaned, serial;

static void run_once(void)
{
    sleep_by_pointer(1000);
    ran++;
}

static void destroy(void *value)
{
    pthread_mutex_lock(&mutex);
    destroyed += *(int *)value;
    pthread_mutex_unlock(&mutex);
}

static void *work(void *arg)
{
    static int one = 1;
    pthread_setspecific(key, &one);
    pthread_once(&once, run_once);
    serial += pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
    wait_by_pointer(&sem);
    pthread_rwlock_wrlock(&rwlock);
    int was = total;
    usleep(100);
    total = was + 1;
    pthread_rwlock_unlock(&rwlock);
    sem_post(&sem);
    errno = EDOM;
    sleep_by_pointer(10);
    return errno == EDOM ? arg : NULL;
}

static void clean(void *what)
{
    cleaned += *(int *)what;
}

static void *wait_for_ever(void *arg)
{
    int inner = 1, outer = 10;
    pthread_cleanup_push(clean, &outer);
    pthread_cleanup_push(clean, &inner);
    pause();
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return arg;
}

int main(void)
{
    pthread_t threads[THREADS], waiter;
    void *result;
    char places[THREADS];
    int same = 0;
    sem_init(&sem, 0, 0);
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_key_create(&key, destroy);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, work, &places[i]);
    }
    pthread_create(&waiter, NULL, wait_for_ever, NULL);
    sem_post(&sem);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        same += result == &places[i];
    }
    usleep(1000);
    pthread_cancel(waiter);
    pthread_join(waiter, &result);
    printf("total %d, once %d, destroyed %d, serial %d, same %d, cancelled %d, cleaned %d\n", total,
           ran, destroyed, serial, same, result == PTHREAD_CANCELED, cleaned);
    return 0;
}
