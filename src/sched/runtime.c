/* SPDX-License-Identifier: MIT */
/*
 * Loops as a whole: adopting an OS thread, starting and stopping further ones, the table of all.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/turns.h"
#include "poll/poll.h"
#include "poll/poll_sim.h"
#include "sched/current.h"
#include "sched/extra.h"
#include "sched/hooks.h"
#include "sched/record.h"
#include "sched/sites.h"
#include "sched/users.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STACK_BYTES_DEFAULT = 128 << 10,
    RUN_STACK_BYTES_DEFAULT = 1 << 20,
    BUDGET_DEFAULT = 64,
    LAST_TURNS = 8, /* of the poller, when a loop ends */
};

static struct fibril_loop *_Atomic loops[FIBRIL__LOOPS_MAX];
static _Atomic unsigned visitors[FIBRIL__LOOPS_MAX]; /* OS threads between finding a loop and
                                                        sending to it */
static _Atomic unsigned loop_count;
static _Atomic pid_t loops_pid; /* whose loops they are */

/* ---- the table ---- */

struct fibril_loop *fibril__loop_slot(unsigned i)
{
    return i < FIBRIL__LOOPS_MAX ? atomic_load(&loops[i]) : NULL;
}

bool fibril__loops_ours(void)
{
    return atomic_load_explicit(&loops_pid, memory_order_relaxed) == getpid();
}

static int64_t owned(const struct fibril_loop *loop, int first, int64_t best)
{
    for (unsigned n = 0; n < loop->poller->own_count; n++) {
        int fd = loop->poller->own[n];
        best = fd >= first && fd < best ? fd : best;
    }
    return best;
}

int fibril__loops_owned(int first, int last)
{
    int64_t best = (int64_t)last + 1;
    bool ours = fibril__loops_ours();
    for (unsigned i = 0; ours && i < FIBRIL__LOOPS_MAX; i++) {
        atomic_fetch_add(&visitors[i], 1);
        const struct fibril_loop *loop = atomic_load(&loops[i]);
        if (loop) {
            best = owned(loop, first, best);
        }
        atomic_fetch_sub(&visitors[i], 1);
    }
    return best <= last ? (int)best : -1;
}

/* In the child of a fork by an OS thread without a loop, the loops of the table are the parent's.
 */
static void drop_the_parents(void)
{
    if (atomic_exchange(&loops_pid, getpid()) == getpid() || atomic_load(&loop_count) == 0) {
        return;
    }
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        atomic_store(&loops[i], NULL);
        atomic_store(&visitors[i], 0);
    }
    atomic_store(&loop_count, 0);
    fibril__users_forked();
}

static int enter_table(struct fibril_loop *loop)
{
    drop_the_parents();
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        struct fibril_loop *none = NULL;
        loop->index = i;
        if (atomic_compare_exchange_strong(&loops[i], &none, loop)) {
            atomic_fetch_add(&loop_count, 1);
            return 0;
        }
    }
    return -EAGAIN;
}

/* After this nobody finds the loop, and whoever had found it has sent what he wanted to send. */
static void leave_table(struct fibril_loop *loop)
{
    atomic_store(&loops[loop->index], NULL);
    atomic_fetch_sub(&loop_count, 1);
    while (atomic_load(&visitors[loop->index]) > 0) {
        fibril__turn_spin();
        cpu_relax();
    }
}

bool fibril__loop_send_slot(unsigned i, struct fibril__message *m)
{
    atomic_fetch_add(&visitors[i], 1);
    struct fibril_loop *loop = atomic_load(&loops[i]);
    fibril__turn_point();
    if (loop) {
        fibril__loop_send(loop, m);
    }
    atomic_fetch_sub(&visitors[i], 1);
    return loop != NULL;
}

unsigned fibril_loop_count(void)
{
    return atomic_load(&loop_count);
}

struct fibril_loop *fibril_loop_at(unsigned i)
{
    for (unsigned slot = 0; slot < FIBRIL__LOOPS_MAX; slot++) {
        struct fibril_loop *loop = atomic_load(&loops[slot]);
        if (loop && i-- == 0) {
            return loop;
        }
    }
    return NULL;
}

struct fibril_loop *fibril_loop_current(void)
{
    return fibril__loop;
}

const char *fibril_loop_poller(const struct fibril_loop *loop)
{
    return loop->poller->ops->name;
}

/* Records of other loops are read while those may run: whoever needs more than a guess sees to it
 * that they do not. */
__attribute__((no_sanitize_thread)) void fibril__each(void (*fn)(struct fibril *f, void *arg),
                                                      void *arg)
{
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        struct fibril_loop *loop = atomic_load(&loops[i]);
        if (loop) {
            fn(&loop->main, arg);
        }
    }
    const struct fibril__region *r;
    for (unsigned n = 0; (r = fibril__region_at(n)); n++) {
        uint32_t used = atomic_load_explicit(&r->used, memory_order_acquire);
        for (uint32_t i = 0; i < used; i++) {
            char *slot = r->base + ((size_t)i << r->log2);
            struct fibril *f = r->stacks ? fibril__record_in(slot, r->log2) : (void *)slot;
            if (__atomic_load_n(&f->state, __ATOMIC_ACQUIRE) != FIBRIL__FREE) {
                fn(f, arg);
            }
        }
    }
}

/* ---- making a loop ---- */

struct fibril__slot_cache *fibril__loop_stacks(struct fibril_loop *loop, uint8_t log2)
{
    if (log2 == loop->stacks.log2) {
        return &loop->stacks;
    }
    struct fibril__slot_cache **cache = &loop->other_stacks[log2];
    if (!*cache) {
        *cache = fibril__alloc(sizeof **cache);
        if (*cache) {
            fibril__slot_cache_init(*cache, log2, true);
        }
    }
    return *cache;
}

static uint8_t record_log2(void)
{
    uint8_t log2 = FIBRIL__SLOT_LOG2_MIN;
    while ((size_t)1 << log2 < sizeof(struct fibril)) {
        log2++;
    }
    return log2;
}

static void init_main(struct fibril_loop *loop)
{
    struct fibril *f = &loop->main;
    f->loop = loop;
    f->timer.index = FIBRIL__HEAP_OUT;
    f->state = FIBRIL__READY;
    f->flags = FIBRIL__F_MAIN;
    f->id = fibril__id_new(loop);
    fibril__context_thread(&f->ctx);
    loop->current = f;
}

static size_t or_default(size_t value, size_t otherwise)
{
    return value ? value : otherwise;
}

static int open_poller(struct fibril_loop *loop)
{
    const char *name = loop->opts.poller;
    if (!name) {
        name = getenv("FIBRIL_POLLER");
    }
    const struct fibril__poll_opts opts = {.seed = loop->opts.seed};
    int rc = fibril__poll_open(name && *name ? name : "auto", &opts, &loop->poller);
    return rc == -EPERM ? -ENOSYS : rc;
}

static void free_loop(struct fibril_loop *loop)
{
    fibril__slot_cache_fini(&loop->stacks);
    fibril__slot_cache_fini(&loop->records);
    for (unsigned i = 0; i <= FIBRIL__SLOT_LOG2_MAX; i++) {
        if (loop->other_stacks[i]) {
            fibril__slot_cache_fini(loop->other_stacks[i]);
            fibril__free(loop->other_stacks[i]);
        }
    }
    fibril__heap_fini(&loop->sleepers);
    fibril__heap_fini(&loop->timers);
    fibril__machine_fini(&loop->machine);
    fibril__free(loop->sites);
    while (loop->io_spares) {
        struct fibril__link *spare = loop->io_spares;
        loop->io_spares = spare->next;
        fibril__free(spare);
    }
    if (loop->main.extra) {
        fibril__extra_free(&loop->main);
    }
    if (loop->poller) {
        loop->poller->ops->close(loop->poller);
    }
    fibril__free(loop);
}

static NORETURN void overflowed(struct fibril__context *c)
{
    fibril__debug_overflow(CONTAINER_OF(c, struct fibril, ctx));
}

static void relieved(struct fibril__context *c)
{
    fibril__embed_overflow(CONTAINER_OF(c, struct fibril, ctx), /* full= */ false);
}

static int init_loop(struct fibril_loop *loop, const struct fibril_opts *opts)
{
    loop->opts = opts ? *opts : (struct fibril_opts){0};
    int log2 = fibril__stack_log2(or_default(loop->opts.stack_bytes, STACK_BYTES_DEFAULT));
    if (log2 < 0) {
        return log2;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t run_bytes = or_default(loop->opts.run_stack_bytes, RUN_STACK_BYTES_DEFAULT);
    loop->run_tail = &loop->run_head;
    loop->ticks = FIBRIL__TICKS;
    loop->budget = loop->budget_full = (int32_t)or_default(loop->opts.budget, BUDGET_DEFAULT);
    loop->random = loop->opts.seed + 0x9e3779b97f4a7c15u;
    loop->thread = pthread_self();
    fibril__slot_cache_init(&loop->stacks, (uint8_t)log2, true);
    fibril__slot_cache_init(&loop->records, record_log2(), false);
    fibril__machine_init(&loop->machine, (run_bytes + page - 1) & ~(page - 1), overflowed);
    loop->machine.relieved = relieved;
    init_main(loop);
    if (loop->opts.measure_stacks && fibril__sites_new(&loop->sites) != 0) {
        return -ENOMEM;
    }
    return open_poller(loop);
}

static void pin(const struct fibril_loop *loop)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    CPU_ZERO(&set);
    CPU_SET(loop->index % (unsigned)(n > 0 ? n : 1), &set);
    sched_setaffinity(0, sizeof set, &set); /* refused in some containers: then unpinned */
}

/* In a simulation the order of switches is part of the trace. Numbers of fibrils are the process's:
 * from the main fibril's on, they are the same in each run. */
static void trace_switch(struct fibril *from, struct fibril *to)
{
    struct fibril_loop *loop = to->loop;
    fibril__sim_trace(loop->poller, to->id - loop->main.id);
}

int fibril_loop_attach(const struct fibril_opts *opts, struct fibril_loop **ret_loop)
{
    if (fibril__loop) {
        return -EBUSY;
    }
    struct fibril_loop *loop = fibril__alloc_zero(sizeof *loop);
    if (!loop) {
        return -ENOMEM;
    }
    int rc = init_loop(loop, opts);
    if (rc == 0) {
        loop->now_ns = loop->trimmed_ns = loop->poller->ops->now(loop->poller);
        loop->main.since_ns = loop->now_ns;
        rc = enter_table(loop);
    }
    if (rc == 0 && (rc = fibril__debug_loop_started(loop)) < 0) {
        leave_table(loop);
    }
    if (rc < 0) {
        free_loop(loop);
        return rc;
    }
    if (loop->opts.pin) {
        pin(loop);
    }
    if (loop->poller->virtual_time) {
        loop->on_switch = trace_switch;
    }
    fibril__loop = loop;
    fibril__embed_loop(loop, /* started= */ true);
    if (fibril__observe_loop_started) {
        fibril__observe_loop_started(loop);
    }
    *ret_loop = loop;
    return 0;
}

/* ---- ending a loop ---- */

/* A signal's handler has run already, and ends nobody's duty to wait here. */
static bool abort_drain(struct fibril *f, int error)
{
    if (f->loop->drainer != f || error == -EINTR) {
        return false;
    }
    f->loop->drainer = NULL;
    return true;
}

static const struct fibril__wait_kind drain_kind = {
    .name = "end of its fibrils", .reason = FIBRIL__BY_JOIN, .abort = abort_drain};

static int drain(struct fibril_loop *loop, const uint64_t *count)
{
    while (*count > 0) {
        loop->drainer = loop->current;
        int64_t rc = fibril__park(&drain_kind, loop, FIBRIL_FOREVER);
        if (rc < 0 && rc != -ENOMEM) {
            return (int)rc;
        }
    }
    return 0;
}

struct cancel_args {
    struct fibril_loop *loop;
    bool all;
};

/* That a record is another loop's may be read while that loop makes it anew: it never turns into
 * one of ours by that. */
__attribute__((no_sanitize_thread)) static void cancel_one(struct fibril *f, void *arg)
{
    const struct cancel_args *args = arg;
    bool ours = f->loop == args->loop && !(f->flags & FIBRIL__F_MAIN);
    if (ours && (args->all || (f->flags & FIBRIL__F_DAEMON))) {
        fibril__cancel_here(f);
    }
}

static void cancel_those_left(struct fibril_loop *loop, bool all)
{
    fibril__each(cancel_one, &(struct cancel_args){loop, all});
}

/* A shield may keep the cancelled in their deadlock: then nothing is left to try, and their loop
 * cannot go. */
static void drain_cancelled(struct fibril_loop *loop, const uint64_t *count)
{
    if (drain(loop, count) == -EDEADLK) {
        fibril__panic("shielded fibrils are deadlocked and cannot be ended");
    }
}

/* A deadlock that is to be returned ends the wait for the others: then they are cancelled, which
 * ends theirs. */
static int end_fibrils(struct fibril_loop *loop)
{
    fibril_shield_begin();
    int rc = drain(loop, &loop->alive);
    if (rc == -EDEADLK) {
        cancel_those_left(loop, /* all= */ true);
        drain_cancelled(loop, &loop->alive);
    }
    loop->ending = true;
    while (loop->daemons > 0) {
        cancel_those_left(loop, /* all= */ false);
        drain_cancelled(loop, &loop->daemons);
    }
    fibril_shield_end();
    return rc;
}

/* What messages started at the last moment (a descriptor to be forgotten) ends soon, by itself.
 * Operations of idle watches do not: they go with the poller. */
static void finish_operations(struct fibril_loop *loop)
{
    for (int turns = 0; loop->poller->pending > 0 && turns < LAST_TURNS; turns++) {
        loop->poller->ops->wait(loop->poller, /* deadline_ns= */ 0);
    }
}

int fibril_loop_detach(void)
{
    struct fibril_loop *loop = fibril__loop;
    if (!loop || loop->current != &loop->main) {
        return -EPERM;
    }
    if (loop->main.extra) {
        fibril__extra_run_exits(&loop->main);
    }
    int rc = end_fibrils(loop);
    fibril__embed_loop(loop, /* started= */ false);
    fibril__debug_loop_ending(loop);
    leave_table(loop);
    fibril__inbox_fini(loop);
    fibril__inbox_drain(loop);
    finish_operations(loop);
    fibril__loop = NULL;
    free_loop(loop);
    return rc;
}

/* ---- after a fork ---- */

/* The others' memory stays: what waited there may still be linked somewhere. */
void fibril__loops_forked(struct fibril_loop *loop)
{
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX; i++) {
        struct fibril_loop *other = atomic_load(&loops[i]);
        if (other && other != loop) {
            atomic_store(&other->asleep, false); /* nobody wakes its poller, which is the parent's
                                                  */
            atomic_store(&loops[i], NULL);
        }
        atomic_store(&visitors[i], 0);
    }
    atomic_store(&loop_count, 1);
    atomic_store(&loops_pid, getpid());
}

int fibril__loop_outlive(void *of)
{
    struct fibril_loop *loop = of;
    fibril_shield_begin();
    if (drain(loop, &loop->alive) == -EDEADLK) {
        cancel_those_left(loop, /* all= */ true);
        drain_cancelled(loop, &loop->alive);
    }
    exit(EXIT_SUCCESS);
}

/* ---- further loops ---- */

struct start {
    const struct fibril_opts *opts;
    struct fibril_loop *loop; /* out */
    int rc;                   /* out */
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    _Atomic bool done; /* looked at without the lock where threads run in turns */
    int turn;          /* the thread's place where threads run in turns, see base/turns.h */
};

struct stop {
    struct fibril__message message;
    struct fibril_loop *loop;
    struct fibril *waiter; /* in fibril_loop_stop, on another loop */
    int turn;
};

static bool abort_never(struct fibril *f, int error)
{
    (void)f;
    (void)error;
    return false;
}

static const struct fibril__wait_kind service_kind = {
    .name = "service", .reason = FIBRIL__BY_OTHER, .abort = abort_never};
static const struct fibril__wait_kind stop_kind = {
    .name = "end of a loop", .reason = FIBRIL__BY_JOIN, .abort = abort_never};

/* The main fibril of a started loop does nothing but wait for the order to end. */
static struct stop *serve(struct fibril_loop *loop)
{
    loop->outside++;
    loop->serving = &loop->main;
    fibril_shield_begin();
    while (!loop->stop) {
        fibril__park(&service_kind, NULL, FIBRIL_FOREVER);
    }
    fibril_shield_end();
    loop->serving = NULL;
    loop->outside--;
    return loop->stop;
}

static void *loop_thread(void *arg)
{
    struct start *start = arg;
    struct fibril_loop *loop = NULL;
    fibril__turns_enter(start->turn);
    int rc = fibril_loop_attach(start->opts, &loop);
    pthread_mutex_lock(&start->lock);
    start->rc = rc;
    start->loop = loop;
    start->done = true;
    pthread_cond_signal(&start->done_cond);
    pthread_mutex_unlock(&start->lock);
    if (rc == 0) {
        struct stop *stop = serve(loop);
        fibril_loop_detach();
        stop->turn = fibril__turns_self();
        fibril__wake(stop->waiter, 0);
    }
    fibril__turns_leave();
    return NULL;
}

int fibril_loop_start(const struct fibril_opts *opts, struct fibril_loop **ret_loop)
{
    struct start start = {
        .opts = opts, .lock = PTHREAD_MUTEX_INITIALIZER, .done_cond = PTHREAD_COND_INITIALIZER};
    start.turn = fibril__turns_add();
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, loop_thread, &start);
    if (rc != 0) {
        return rc == EAGAIN ? -ENOMEM : -rc;
    }
    while (start.turn >= 0 && !start.done) {
        fibril__turn_spin();
    }
    pthread_mutex_lock(&start.lock);
    while (!start.done) {
        pthread_cond_wait(&start.done_cond, &start.lock);
    }
    pthread_mutex_unlock(&start.lock);
    if (start.rc < 0) {
        fibril__turns_await(start.turn);
        pthread_join(thread, NULL);
        return start.rc;
    }
    *ret_loop = start.loop;
    return 0;
}

static void run_stop(struct fibril__message *message)
{
    struct stop *stop = CONTAINER_OF(message, struct stop, message);
    stop->loop->stop = stop;
    fibril__wake(&stop->loop->main, 0);
}

int fibril_loop_stop(struct fibril_loop *target)
{
    struct fibril_loop *here = fibril__loop;
    if (!here || target == here) {
        return -EPERM;
    }
    pthread_t thread = target->thread;
    struct stop *stop = fibril__alloc(sizeof *stop);
    if (!stop) {
        return -ENOMEM;
    }
    *stop =
        (struct stop){.message.run = run_stop, .loop = target, .waiter = here->current, .turn = -1};
    fibril_shield_begin();
    here->outside++;
    fibril__loop_send(target, &stop->message);
    fibril__park(&stop_kind, target, FIBRIL_FOREVER);
    here->outside--;
    fibril_shield_end();
    fibril__turns_await(stop->turn);
    pthread_join(thread, NULL);
    fibril__free(stop);
    return 0;
}

/* ---- a whole runtime ---- */

static int start_loops(const struct fibril_opts *opts, struct fibril_loop **others, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int rc = fibril_loop_start(opts, &others[i]);
        if (rc < 0) {
            while (i > 0) {
                fibril_loop_stop(others[--i]);
            }
            return rc;
        }
    }
    return 0;
}

static int run_with_others(const struct fibril_opts *opts, unsigned n, fibril_fn *fn, void *arg)
{
    struct fibril_loop **others = fibril__alloc((n ? n : 1) * sizeof(struct fibril_loop *));
    int rc = others ? start_loops(opts, others, n) : -ENOMEM;
    if (rc == 0) {
        rc = fn(arg);
        int drained = end_fibrils(fibril__loop);
        rc = drained < 0 ? drained : rc;
        for (unsigned i = 0; i < n; i++) {
            fibril_loop_stop(others[i]);
        }
    }
    fibril__free(others);
    return rc;
}

int fibril_run(const struct fibril_opts *opts, fibril_fn *fn, void *arg)
{
    unsigned n = opts && opts->loops ? opts->loops : 1;
    if (n > FIBRIL__LOOPS_MAX) {
        return -EINVAL;
    }
    struct fibril_loop *loop;
    int rc = fibril_loop_attach(opts, &loop);
    if (rc < 0) {
        return rc;
    }
    rc = run_with_others(opts, n - 1, fn, arg);
    int ended = fibril_loop_detach();
    return ended < 0 ? ended : rc;
}

const char *fibril_version(void)
{
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
    return TEXT(FIBRIL_VERSION_MAJOR) "." TEXT(FIBRIL_VERSION_MINOR) "." TEXT(FIBRIL_VERSION_PATCH);
}
