/* SPDX-License-Identifier: MIT */
/*
 * What test_gdb.py looks at: fibrils of both kinds, parked in functions of known names, and then
 * abort().
 */
#include <fibril/fibril.h>

#include "base/compiler.h"
#include "ctx/runs.h"

#include <stdlib.h>

static struct fibril_mutex *mutex;
static struct fibril_sem *sem;

int parked_in_lock(void *arg);
int parked_in_sleep(void *arg);
int parked_copied(void *arg);
int deep(int n);
int aborting(void *arg);

NOINLINE int parked_in_lock(void *arg)
{
    int rc = fibril_mutex_lock(mutex, FIBRIL_FOREVER);
    (void)arg;
    return rc < 0 ? -1 : 0;
}

NOINLINE int deep(int n)
{
    volatile int depth = n;
    int rc = depth > 0 ? deep(n - 1) : fibril_sleep(3600000000000);
    return rc + depth;
}

NOINLINE int parked_in_sleep(void *arg)
{
    (void)arg;
    return deep(2) - 3;
}

NOINLINE int parked_copied(void *arg)
{
    int rc = fibril_sem_wait(sem, FIBRIL_FOREVER);
    (void)arg;
    return rc < 0 ? -1 : 0;
}

NOINLINE int aborting(void *arg)
{
    (void)arg;
    abort();
}

static void spawn(fibril_fn *fn, const char *name, enum fibril_stack stack)
{
    struct fibril_spawn_opts opts = {.name = name, .stack = stack};
    if (fibril_spawn(fn, NULL, &opts, NULL) < 0) {
        exit(2);
    }
}

/* More copied stacks than there are run stacks: some are not in place. */
enum { COPIED = FIBRIL__RUN_STACKS + FIBRIL__RUN_GROUP };

static int start(void *arg)
{
    (void)arg;
    if (fibril_mutex_new(0, &mutex) < 0 || fibril_sem_new(0, 0, &sem) < 0) {
        exit(2);
    }
    fibril_mutex_lock(mutex, FIBRIL_FOREVER);
    spawn(parked_in_lock, "locker", FIBRIL_STACK_OWN);
    spawn(parked_in_sleep, "sleeper", FIBRIL_STACK_OWN);
    for (int i = 0; i < COPIED; i++) {
        spawn(parked_copied,
              i == 0            ? "first copied"
              : i == COPIED - 1 ? "last copied"
                                : "copied",
              FIBRIL_STACK_COPIED);
    }
    fibril_sleep(5000000);
    spawn(aborting, "aborter", FIBRIL_STACK_OWN);
    return fibril_yield();
}

int main(void)
{
    return fibril_run(NULL, start, NULL) < 0;
}
