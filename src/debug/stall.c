/* SPDX-License-Identifier: MIT */
/*
 * Stalls: a fibril that keeps its loop. One OS thread per process looks at each watched loop four
 * times per limit; a loop that is awake and has not switched since is stalled, and gets a signal,
 * whose handler says who runs and where. The loops themselves do nothing for it, so it costs them
 * nothing.
 */
#include "debug/debug.h"

#include "base/clock.h"
#include "debug/describe.h"
#include "sched/current.h"
#include "sched/record.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS_PER_LIMIT = 4, LOOK_MIN_NS = 1000000, LOOK_MAX_NS = 250000000 };

struct watched {
    struct fibril_loop *loop;
    uint64_t progress; /* when it was last seen to change */
    int64_t since_ns;
    bool reported;
};

static struct watched watched[FIBRIL__LOOPS_MAX];
static unsigned watched_len;
static bool thread_runs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Changes whenever the loop does anything but run one fibril. The loop writes these without regard
 * for us. */
__attribute__((no_sanitize_thread)) static uint64_t progress_of(const struct fibril_loop *loop)
{
    const struct fibril__counters *c = &loop->counters;
    return __atomic_load_n(&c->switches, __ATOMIC_RELAXED) +
           __atomic_load_n(&c->polls, __ATOMIC_RELAXED);
}

static void look(struct watched *w, int64_t now_ns)
{
    uint64_t progress = progress_of(w->loop);
    if (progress != w->progress || atomic_load(&w->loop->asleep)) {
        *w = (struct watched){.loop = w->loop, .progress = progress, .since_ns = now_ns};
    } else if (!w->reported && now_ns - w->since_ns >= w->loop->opts.stall_ns) {
        w->reported = true;
        atomic_store(&w->loop->stalled_progress, progress);
        atomic_store(&w->loop->stalled_since_ns, w->since_ns);
        pthread_kill(w->loop->thread, SIGURG);
    }
}

static int64_t interval_ns(void)
{
    int64_t ns = LOOK_MAX_NS;
    for (unsigned i = 0; i < watched_len; i++) {
        int64_t want = watched[i].loop->opts.stall_ns / LOOKS_PER_LIMIT;
        ns = want < ns ? want : ns;
    }
    return ns > LOOK_MIN_NS ? ns : LOOK_MIN_NS;
}

static void wait_for(int64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t t = until.tv_nsec + ns;
    until.tv_sec += t / 1000000000;
    until.tv_nsec = t % 1000000000;
    pthread_cond_timedwait(&changed, &lock, &until);
}

static void *watch(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    while (watched_len > 0) {
        int64_t now_ns = fibril__clock_now();
        for (unsigned i = 0; i < watched_len; i++) {
            look(&watched[i], now_ns);
        }
        wait_for(interval_ns());
    }
    thread_runs = false;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static struct sigaction earlier; /* what SIGURG did before we took it */

/* Somebody else's SIGURG. By default it is ignored. */
static void pass_on(int signo, siginfo_t *info, void *context)
{
    if (earlier.sa_flags & SA_SIGINFO) {
        earlier.sa_sigaction(signo, info, context);
    } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
        earlier.sa_handler(signo);
    }
}

/* On the stalled loop's OS thread. The watch leaves a time with each signal
 * that it sends; one that comes late says nothing. */
static void on_signal(int signo, siginfo_t *info, void *context)
{
    struct fibril_loop *loop = fibril__loop;
    int64_t since_ns = loop ? atomic_exchange(&loop->stalled_since_ns, 0) : 0;
    if (!since_ns) {
        pass_on(signo, info, context);
        return;
    }
    if (progress_of(loop) != atomic_load(&loop->stalled_progress)) {
        return;
    }
    int saved = errno;
    loop->counters.stalls++;
    struct fibril__text t = {.len = 0};
    fibril__text_str(&t, "fibril: stall: ");
    fibril__text_fibril(&t, loop->current);
    fibril__text_str(&t, " has kept its loop for ");
    fibril__text_seconds(&t, fibril__clock_now() - since_ns);
    fibril__text_str(&t, ", spawned at ");
    fibril__text_code(&t, fibril__site(loop->current));
    fibril__text_str(&t, "\n");
    fibril__text_flush(&t, STDERR_FILENO);
    fibril__backtrace_write(STDERR_FILENO, 2);
    errno = saved;
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_ONSTACK | SA_RESTART | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGURG, NULL, &earlier); /* before the first signal can ask for it */
    sigaction(SIGURG, &action, NULL);
}

static int start_thread(void)
{
    pthread_t thread;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        pthread_detach(thread);
        thread_runs = true;
    }
    return -rc;
}

int fibril__stall_watch(struct fibril_loop *loop)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (loop->opts.stall_ns <= 0) {
        return 0;
    }
    pthread_once(&once, install);
    pthread_mutex_lock(&lock);
    watched[watched_len++] = (struct watched){.loop = loop, .since_ns = fibril__clock_now()};
    int rc = thread_runs ? 0 : start_thread();
    if (rc < 0) {
        watched_len--;
    }
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    return rc;
}

void fibril__stall_unwatch(struct fibril_loop *loop)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < watched_len; i++) {
        if (watched[i].loop == loop) {
            watched[i] = watched[--watched_len];
            break;
        }
    }
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

void fibril__stall_forked(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&changed, NULL);
    watched_len = 0;
    thread_runs = false;
}
