/* SPDX-License-Identifier: MIT */
/*
 * The dump of all fibrils. Each loop writes its own, between fibrils, where their stacks can be
 * walked: the caller's at once, the others on a message, for which the caller waits a little. A
 * loop that does not answer is busy; the caller then writes what can be said of its fibrils from
 * outside.
 */
#include "base/alloc.h"
#include "debug/debug.h"
#include "debug/describe.h"
#include "sched/current.h"
#include "sched/record.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MS = 100 };

struct writing {
    struct fibril_loop *loop;
    int fd;
    bool stacks; /* walk them: only on the loop's own OS thread, and not in a signal handler */
};

static void write_stack(void *arg)
{
    fibril__backtrace_write(*(int *)arg, 3);
}

static void walk(struct fibril *f, struct writing *w)
{
    struct fibril_loop *loop = w->loop;
    if (f == loop->current) {
        fibril__backtrace_write(w->fd, 3);
    } else if (f->state == FIBRIL__PARKED || f->state == FIBRIL__READY) {
        fibril__context_visit(&loop->machine, &loop->current->ctx, &f->ctx, write_stack, &w->fd);
    }
}

__attribute__((no_sanitize_thread)) static void write_one(struct fibril *f, void *arg)
{
    struct writing *w = arg;
    if (f->loop != w->loop) {
        return;
    }
    struct fibril__text t = {.len = 0};
    fibril__text_fibril(&t, f);
    fibril__text_str(&t, " ");
    if (w->stacks) {
        fibril__text_state(&t, f, fibril_now());
    } else {
        fibril__text_state_outside(&t, f, fibril_now());
    }
    const void *site =
        w->loop == fibril__loop || !(f->flags & FIBRIL__F_LABEL) ? fibril__site(f) : NULL;
    if (site) {
        fibril__text_str(&t, ", spawned at ");
        fibril__text_code(&t, site);
    }
    fibril__text_str(&t, "\n");
    fibril__text_flush(&t, w->fd);
    if (w->stacks) {
        walk(f, w);
        fibril__embed_dump(f, w->fd);
    }
}

__attribute__((no_sanitize_thread)) static void write_loop(struct fibril_loop *loop, int fd,
                                                           bool stacks)
{
    struct fibril__text t = {.len = 0};
    fibril__text_str(&t, "loop ");
    fibril__text_dec(&t, loop->index);
    fibril__text_str(&t, " (");
    fibril__text_str(&t, fibril_loop_poller(loop));
    fibril__text_str(&t, "): ");
    fibril__text_dec(&t, loop->alive + loop->daemons + 1);
    fibril__text_str(&t, stacks ? " fibrils\n" : " fibrils, busy: no answer\n");
    if (stacks && fibril__context_visit_refusal) {
        fibril__text_str(&t, "    no backtraces of those that are parked: ");
        fibril__text_str(&t, fibril__context_visit_refusal);
        fibril__text_str(&t, "\n");
    }
    fibril__text_flush(&t, fd);
    struct writing w = {.loop = loop, .fd = fd, .stacks = stacks};
    fibril__each(write_one, &w);
}

/* ---- other loops ---- */

struct request {
    struct fibril__message message;
    struct fibril_loop *loop;
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t answered_cond;
    bool answered, abandoned; /* whoever comes second frees the request */
};

static void request_free(struct request *r)
{
    pthread_cond_destroy(&r->answered_cond);
    pthread_mutex_destroy(&r->lock);
    fibril__free(r);
}

static void answer(struct fibril__message *message)
{
    struct request *r = CONTAINER_OF(message, struct request, message);
    pthread_mutex_lock(&r->lock);
    bool abandoned = r->abandoned;
    if (!abandoned) {
        write_loop(r->loop, r->fd, /* stacks= */ true);
    }
    r->answered = true;
    pthread_cond_signal(&r->answered_cond);
    pthread_mutex_unlock(&r->lock);
    if (abandoned) {
        request_free(r);
    }
}

static struct timespec in_ms(int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* Waits on the OS thread, not in the scheduler: a dump never parks. */
static int ask(struct fibril_loop *loop, int fd)
{
    struct request *r = fibril__alloc_zero(sizeof *r);
    if (!r) {
        return -ENOMEM;
    }
    r->message.run = answer;
    r->loop = loop;
    r->fd = fd;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->answered_cond, NULL);
    struct timespec until = in_ms(ANSWER_MS);
    if (!fibril__loop_send_slot(loop->index, &r->message)) {
        request_free(r); /* it has just ended */
        return 0;
    }
    pthread_mutex_lock(&r->lock);
    int rc = 0;
    while (!r->answered && rc == 0) {
        rc = pthread_cond_timedwait(&r->answered_cond, &r->lock, &until);
    }
    bool answered = r->answered;
    r->abandoned = !answered;
    pthread_mutex_unlock(&r->lock);
    if (answered) {
        request_free(r);
    } else {
        write_loop(loop, fd, /* stacks= */ false);
    }
    return 0;
}

int fibril_dump(int fd)
{
    int rc = 0;
    for (unsigned i = 0; i < FIBRIL__LOOPS_MAX && rc == 0; i++) {
        struct fibril_loop *loop = fibril__loop_slot(i);
        if (loop && loop == fibril__loop) {
            write_loop(loop, fd, /* stacks= */ true);
        } else if (loop) {
            rc = ask(loop, fd);
        }
    }
    return rc;
}

/* ---- SIGQUIT ---- */

static _Atomic bool quit_pending;

static void dump_on_quit(struct fibril__message *message)
{
    (void)message;
    atomic_store(&quit_pending, false);
    fibril_dump(STDERR_FILENO);
}

static struct fibril__message quit_message = {.run = dump_on_quit};

static struct fibril_loop *any_loop(void)
{
    struct fibril_loop *loop = NULL;
    for (unsigned i = 0; !loop && i < FIBRIL__LOOPS_MAX; i++) {
        loop = fibril__loop_slot(i);
    }
    return loop;
}

/* The dump is made between fibrils. If a second signal comes before that the loop is stuck: then at
 * once, as far as that goes. An OS thread without a loop passes the signal on to one that has: a
 * backtrace of its own says nothing. */
static void on_quit(int signo)
{
    int saved = errno;
    struct fibril_loop *here = fibril__loop, *loop = here ? here : any_loop();
    if (loop && !atomic_exchange(&quit_pending, true)) {
        fibril__loop_send(loop, &quit_message);
    } else if (here) {
        write_loop(here, STDERR_FILENO, /* stacks= */ false);
        fibril__backtrace_write(STDERR_FILENO, 2);
    } else if (loop) {
        pthread_kill(loop->thread, signo);
    }
    errno = saved;
}

static void install(void)
{
    struct sigaction old, action = {.sa_handler = on_quit, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGQUIT, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
        sigaction(SIGQUIT, &action, NULL);
    }
}

void fibril__sigquit_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
}

void fibril__sigquit_forked(void)
{
    atomic_store(&quit_pending, false);
    quit_message.link = (struct fibril__link){NULL, NULL};
}
