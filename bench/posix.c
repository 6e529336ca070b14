/* SPDX-License-Identifier: MIT */
/*
 * What the POSIX layer costs where it does nothing, and what its calls cost fibrils. The covered
 * call and libc's own are measured in turn, in short runs of CPU time, and the least of each
 * counts: what disturbs a run only ever adds to it.
 *
 *     posix [ROUNDS]      prints JSON rows {"case", "metric", "value"}, nanoseconds a call
 */
#include "posix/calls.h"

#include <fibril/fibril.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CALLS = 200000, ROUNDS = 40 };

static int rounds = ROUNDS;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, recursive;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_key_t key;
static sem_t sem;

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Functions of this form call one thing CALLS times. The pointers keep both kinds alike. */
#define BOTH(name, declare, call)                                                                  \
    static void name(bool covered)                                                                 \
    {                                                                                              \
        declare;                                                                                   \
        for (int i = 0; i < CALLS; i++) {                                                          \
            call;                                                                                  \
        }                                                                                          \
    }
#define CHOICE(fn) __typeof__(fn) *volatile choice = covered ? fibril_posix_##fn : fn

BOTH(mutexes, CHOICE(pthread_mutex_lock);
     __typeof__(pthread_mutex_unlock) *volatile unlock = covered ? fibril_posix_pthread_mutex_unlock
                                                                 : pthread_mutex_unlock,
     (choice(&mutex), unlock(&mutex)))
BOTH(recursives, CHOICE(pthread_mutex_lock);
     __typeof__(pthread_mutex_unlock) *volatile unlock = covered ? fibril_posix_pthread_mutex_unlock
                                                                 : pthread_mutex_unlock,
     (choice(&recursive), unlock(&recursive)))
BOTH(signals, CHOICE(pthread_cond_signal), choice(&cond))
BOTH(values, CHOICE(pthread_getspecific), choice(key))
BOTH(selves, CHOICE(pthread_self), choice())
BOTH(semaphores, CHOICE(sem_wait);
     __typeof__(sem_post) *volatile post = covered ? fibril_posix_sem_post : sem_post,
     (post(&sem), choice(&sem)))

static double once(void (*run)(bool covered), bool covered)
{
    double from = cpu_ns();
    run(covered);
    return (cpu_ns() - from) / CALLS;
}

static void measure(const char *name, const char *where, void (*run)(bool covered))
{
    double real = 1e9, ours = 1e9;
    for (int i = 0; i < rounds; i++) {
        double r = once(run, false), o = once(run, true);
        real = r < real ? r : real;
        ours = o < ours ? o : ours;
    }
    printf("{\"case\": \"%s %s\", \"metric\": \"ns\", \"value\": %.2f}\n", name, where, ours);
    printf("{\"case\": \"%s %s, libc\", \"metric\": \"ns\", \"value\": %.2f}\n", name, where, real);
    printf("{\"case\": \"%s %s, more\", \"metric\": \"ns\", \"value\": %.2f}\n", name, where,
           ours - real);
}

static void measure_all(const char *where)
{
    measure("mutex lock and unlock", where, mutexes);
    measure("recursive mutex lock and unlock", where, recursives);
    measure("cond signal", where, signals);
    measure("getspecific", where, values);
    measure("self", where, selves);
    measure("sem post and wait", where, semaphores);
}

static int on_loop(void *arg)
{
    (void)arg;
    if (fibril_posix_install(NULL) < 0) {
        return 1;
    }
    measure_all("on a loop");
    return fibril_posix_uninstall();
}

int main(int argc, char **argv)
{
    pthread_mutexattr_t attr;
    rounds = argc > 1 ? atoi(argv[1]) : ROUNDS;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attr);
    pthread_key_create(&key, NULL);
    sem_init(&sem, 0, 0);
    measure_all("without a loop");
    return fibril_run(NULL, on_loop, NULL);
}
