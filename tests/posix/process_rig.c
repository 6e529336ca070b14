/* SPDX-License-Identifier: MIT */
/* See process_rig.h. */
#include "process_rig.h"

#include <time.h>

static int run_body(void *body)
{
    ASSERT_OK(fibril__thread_adopt_main());
    fibril_embed_on_end(fibril__thread_ended);
    fibril__posix_mode = FIBRIL__POSIX_LOOP;
    int rc = (*(fibril_fn **)body)(NULL);
    fibril__posix_mode = FIBRIL__POSIX_REAL;
    fibril__thread_leave_main();
    return rc;
}

void process_run(fibril_fn *body)
{
    ASSERT_OK(fibril_run(NULL, run_body, &body));
}

static int tick(void *arg)
{
    struct process_clock *c = arg;
    while (!c->stop) {
        ASSERT_OK(fibril_sleep(500000));
        c->ticks++;
    }
    return 0;
}

void process_clock_start(struct process_clock *c)
{
    *c = (struct process_clock){.ticks = 0};
    c->fibril = process_start(tick, c);
}

int process_clock_stop(struct process_clock *c)
{
    int ticks = c->ticks;
    c->stop = true;
    ASSERT_OK(fibril_join(c->fibril, FIBRIL_FOREVER, NULL));
    return ticks;
}

int process_child(int ms)
{
    pid_t pid = fork();
    ASSERT_OK(pid);
    if (pid == 0) {
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
        _exit(PROCESS_WELL);
    }
    return pid;
}

struct fibril *process_start(fibril_fn *fn, void *arg)
{
    struct fibril *f;
    ASSERT_OK(fibril_spawn(fn, arg, NULL, &f));
    return f;
}
