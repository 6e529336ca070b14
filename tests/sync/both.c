/* SPDX-License-Identifier: MIT */
/* See both.h. */
#include "both.h"

#include <pthread.h>

enum { NOTES_MAX = 4096 };

static enum fibril_stack stack_under_test;
static int log_of_notes[NOTES_MAX];
static size_t log_length;

static int run_body(void *arg)
{
    void (*const *body)(void) = arg;
    (*body)();
    return 0;
}

static int run_main(void *arg)
{
    int result = -1;
    ASSERT_OK(fibril_join(go(run_body, arg), FIBRIL_FOREVER, &result));
    return result;
}

void both_run(enum fibril_stack stack, void (*body)(void))
{
    static void (*kept)(void);
    kept = body;
    stack_under_test = stack;
    ASSERT_EQ(fibril_run(NULL, run_main, &kept), 0);
}

struct fibril *go_on(struct fibril_loop *loop, fibril_fn *fn, void *arg)
{
    struct fibril *f;
    struct fibril_spawn_opts opts = {.stack = stack_under_test, .loop = loop};
    ASSERT_OK(fibril_spawn(fn, arg, &opts, &f));
    return f;
}

struct fibril *go(fibril_fn *fn, void *arg)
{
    return go_on(NULL, fn, arg);
}

int end(struct fibril *f)
{
    int result;
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    return result;
}

void until_parked(const struct fibril *f)
{
    for (int turns = 0; f->state != FIBRIL__PARKED; turns++) {
        ASSERT_LT(turns, TURNS_MAX);
        ASSERT_OK(fibril_yield());
    }
}

struct fibril *go_parked(fibril_fn *fn, void *arg)
{
    struct fibril *f = go(fn, arg);
    until_parked(f);
    return f;
}

void note(int what)
{
    ASSERT_LT(log_length, NOTES_MAX);
    log_of_notes[log_length++] = what;
}

int noted(size_t i)
{
    ASSERT_LT(i, log_length);
    return log_of_notes[i];
}

size_t notes(void)
{
    return log_length;
}

void on_os_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    ASSERT_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    ASSERT_EQ(pthread_join(thread, NULL), 0);
}
