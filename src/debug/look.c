/* SPDX-License-Identifier: MIT */
/*
 * Looking at fibrils and loops for the observer: see look.h. The texts are those of dumps.
 */
#include "debug/look.h"

#include "base/clock.h"
#include "debug/describe.h"
#include "sched/current.h"
#include "sched/record.h"

#include <string.h>
#include <time.h>

enum { RUN_QUEUE_MAX = 4096 };

struct each {
    void (*fn)(const struct fibril__glance *g, void *arg);
    void *arg;
    const struct fibril_loop *loops[FIBRIL__LOOPS_MAX];
    unsigned last; /* found */
};

/* Loops are compared and not looked into: one may just have ended. */
__attribute__((no_sanitize_thread)) static void glance(struct fibril *f, void *arg)
{
    struct each *e = arg;
    const struct fibril_loop *loop = f->loop;
    unsigned index = e->loops[e->last] == loop ? e->last : 0;
    while (index < FIBRIL__LOOPS_MAX && e->loops[index] != loop) {
        index++;
    }
    if (loop && index < FIBRIL__LOOPS_MAX) {
        e->last = index;
        e->fn(&(struct fibril__glance){f, f->id, f->since_ns, index}, e->arg);
    }
}

void fibril__look_each(void (*fn)(const struct fibril__glance *g, void *arg), void *arg)
{
    struct each e = {.fn = fn, .arg = arg};
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        e.loops[i] = fibril__loop_slot(i);
    }
    fibril__each(glance, &e);
}

__attribute__((no_sanitize_thread)) int64_t fibril__look_since(const struct fibril *f)
{
    return __atomic_load_n(&f->since_ns, __ATOMIC_RELAXED);
}

static void take_text(const struct fibril__text *t, char *text, size_t size)
{
    size_t n = t->len < size - 1 ? t->len : size - 1;
    memcpy(text, t->bytes, n);
    text[n] = '\0';
}

void fibril__look_code(const void *address, char *text, size_t size)
{
    struct fibril__text t = {.len = 0};
    fibril__text_code(&t, address);
    take_text(&t, text, size);
}

/* The text of a dump, without its " since ...". */
static void take_state(const struct fibril *f, char *text, size_t size)
{
    static const char since[] = " since ";
    struct fibril__text t = {.len = 0};
    fibril__text_state(&t, f, fibril_now());
    char *cut = t.len > sizeof since ? memmem(t.bytes, t.len, since, sizeof since - 1) : NULL;
    t.len = cut ? (size_t)(cut - t.bytes) : t.len;
    take_text(&t, text, size);
}

/* Whether there may be a record of this loop at f. */
static bool is_record(const struct fibril *f)
{
    return f == &fibril__loop->main || (fibril__region_of(f) && f->loop == fibril__loop);
}

bool fibril__look_fibril(const struct fibril *f, uint64_t id, struct fibril_observed_fibril *ret)
{
    if (!is_record(f) || f->state == FIBRIL__FREE || f->id != id) {
        return false;
    }
    const char *name = fibril_name(f);
    *ret = (struct fibril_observed_fibril){
        .fibril = f->id,
        .since_ns = fibril_now() - f->since_ns,
        .stack_bytes = f->state == FIBRIL__DONE ? 0 : fibril_stack_used(f),
        .cpu_ns = fibril__cpu_of(f, fibril__loop->index),
        .loop = fibril__loop->index,
        .daemon = f->flags & FIBRIL__F_DAEMON,
        .answered = true,
    };
    name = !*name && (f->flags & FIBRIL__F_MAIN) ? "main" : name;
    memcpy(ret->name, name, strnlen(name, sizeof ret->name - 1));
    take_state(f, ret->state, sizeof ret->state);
    if (fibril__site(f)) {
        fibril__look_code(fibril__site(f), ret->site, sizeof ret->site);
    }
    return true;
}

void fibril__look_loop(struct fibril_observed_loop *ret)
{
    struct fibril_loop *loop = fibril__loop;
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    *ret = (struct fibril_observed_loop){
        .loop = loop->index,
        .answered = true,
        .time_ns = fibril__clock_now(),
        .cpu_ns = t.tv_sec * INT64_C(1000000000) + t.tv_nsec,
        .delay_sum_ns = loop->counters.delay_ns,
    };
    const struct fibril *f = loop->run_head;
    for (; f && ret->run_queue < RUN_QUEUE_MAX; f = (const void *)f->link.next) {
        ret->run_queue++;
    }
    ret->run_queue_more = f != NULL;
    fibril_metrics(NULL, &ret->metrics);
}
