/* SPDX-License-Identifier: MIT */
/*
 * The workers: Python fibrils that act as one actor after the other. There are as many as handlers
 * have been waiting at the same time, and of those that have nothing to do some are kept.
 */
#include "actor_py.h"

#include <pthread.h>

enum { KEPT = 64 };

struct worker {
    struct fibril_spot spot;
    struct fibril__actor *job;
    struct worker *next;
};

static struct worker *idle; /* the last one that had nothing to do comes first */
static unsigned idle_count;
static struct fibril__actor *waiting, **waiting_tail = &waiting; /* no worker could be made */

/* Of a fork: there are no workers, and no actors that wait for one. */
static void forked(void)
{
    idle = NULL;
    idle_count = 0;
    waiting = NULL;
}

static struct pyactor *of(struct fibril__actor *a)
{
    return a->arg;
}

static void wait_for_worker(struct fibril__actor *a)
{
    of(a)->next = NULL;
    if (!waiting) {
        waiting_tail = &waiting;
    }
    *waiting_tail = a;
    waiting_tail = &of(a)->next;
}

static struct fibril__actor *next_waiting(void)
{
    struct fibril__actor *a = waiting;
    if (a) {
        waiting = of(a)->next;
    }
    return a;
}

static void leave_idle(struct worker *w)
{
    struct worker **at = &idle;
    while (*at && *at != w) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = w->next;
        idle_count--;
    }
}

/* Waits until there is an actor to be served. NULL: there are enough that wait, or the loop ends.
 */
static struct fibril__actor *next_job(struct worker *w, struct pyfibril *p)
{
    static const struct fibril_waker_info info = {.name = "actor to serve"};
    struct fibril__actor *a = next_waiting();
    if (a || idle_count == KEPT) {
        return a;
    }
    w->job = NULL;
    w->next = idle;
    idle = w;
    idle_count++;
    w->spot.info = &info;
    int rc = 0;
    fibril__py_leave(p);
    while (!w->job && (rc == 0 || rc == -EINTR)) {
        rc = fibril_spot_wait(&w->spot, FIBRIL_FOREVER);
    }
    fibril__py_enter(p);
    if (!w->job) {
        leave_idle(w);
    }
    return w->job;
}

static int work(void *arg)
{
    struct worker w = {.job = arg};
    struct pyfibril self = {0};
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    if (fibril__py_begin(&self, frames, sizeof frames) < 0) {
        wait_for_worker(arg);
        return -ENOMEM;
    }
    for (struct fibril__actor *a = arg; a; a = next_job(&w, &self)) {
        fibril__py_actor_serve(of(a), &self);
    }
    fibril__py_end(&self);
    return 0;
}

/* Somebody is to serve a, which is passive. */
static void ready(struct fibril__actor *a)
{
    const struct fibril_spawn_opts opts = {.name = "actors", .daemon = true};
    struct worker *w = idle;
    of(a)->record = a;
    if (w) {
        idle = w->next;
        idle_count--;
        w->job = a;
        fibril_spot_wake(&w->spot);
    } else if (fibril_spawn(work, a, &opts, NULL) < 0) {
        wait_for_worker(a);
    }
}

/* Without the GIL: the instance is of this loop, and has its class. */
static void name_class(const struct fibril__actor *a, char *text, size_t size)
{
    const struct pyactor *o = a->arg;
    const PyObject *class = o->instance ? (const PyObject *)Py_TYPE(o->instance) : o->fn;
    snprintf(text, size, "%s", class ? ((const PyTypeObject *)class)->tp_name : "");
}

int fibril__py_workers_start(void)
{
    static bool watching;
    fibril__passive_ready = ready;
    fibril__passive_name = name_class;
    watching = watching || pthread_atfork(NULL, NULL, forked) == 0;
    return watching ? 0 : -ENOMEM;
}
