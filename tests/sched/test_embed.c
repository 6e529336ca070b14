/* SPDX-License-Identifier: MIT */
/*
 * Switch hooks, the embedder's word, and wakers.
 */
#include <fibril/embed.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>

static int switches;
static struct fibril *last_to;

static void on_switch(struct fibril *from, struct fibril *to)
{
    ASSERT_NE(from, to);
    ASSERT(last_to == NULL || last_to == from || from == NULL);
    last_to = to;
    switches++;
}

static int yield_twice(void *arg)
{
    (void)arg;
    fibril_yield();
    ASSERT_EQ(last_to, fibril_current());
    fibril_yield();
    return 0;
}

static int hook_main(void *arg)
{
    fibril_embed_on_switch(on_switch);
    struct fibril *a, *b;
    ASSERT_OK(fibril_spawn(yield_twice, NULL, arg, &a));
    ASSERT_OK(fibril_spawn(yield_twice, NULL, arg, &b));
    ASSERT_OK(fibril_join(a, FIBRIL_FOREVER, NULL));
    ASSERT_OK(fibril_join(b, FIBRIL_FOREVER, NULL));
    fibril_embed_on_switch(NULL);
    return 0;
}

TEST(hook_sees_every_switch)
{
    ASSERT_OK(fibril_run(NULL, hook_main, NULL));
    ASSERT_GE(switches, 3);
}

static int record_main(void *arg)
{
    (void)arg;
    struct fibril *self = fibril_current();
    static const char ours, others;
    struct fibril_embed_node a = {.owner = &ours}, b = {.owner = &others};
    ASSERT_EQ(fibril_embed_find(self, &ours), NULL);
    fibril_embed_add(self, &a);
    fibril_embed_add(self, &b);
    ASSERT_EQ(fibril_embed_find(self, &ours), &a);
    ASSERT_EQ(fibril_embed_find(self, &others), &b);
    fibril_embed_remove(self, &a);
    ASSERT_EQ(fibril_embed_find(self, &ours), NULL);
    fibril_embed_remove(self, &a); /* a second time is nothing */
    fibril_embed_remove(self, &b);
    return 0;
}

TEST(each_embedder_finds_its_own_record)
{
    ASSERT_OK(fibril_run(NULL, record_main, NULL));
}

static int wake_before_wait(void *arg)
{
    (void)arg;
    struct fibril_waker *w;
    ASSERT_OK(fibril_waker_new(&w));
    fibril_waker_wake(w);
    fibril_waker_wake(w);
    ASSERT_OK(fibril_waker_wait(w, 0));
    ASSERT_ERR(fibril_waker_wait(w, fibril_after(1000)), -ETIMEDOUT);
    fibril_waker_free(w);
    return 0;
}

TEST(early_wakes_count_as_one)
{
    ASSERT_OK(fibril_run(NULL, wake_before_wait, NULL));
}

static void *wake_many(void *waker)
{
    for (int i = 0; i < 10000; i++) {
        fibril_waker_wake(waker);
    }
    return NULL;
}

static int foreign_main(void *arg)
{
    (void)arg;
    struct fibril_waker *w;
    pthread_t thread;
    ASSERT_OK(fibril_waker_new(&w));
    ASSERT_EQ(pthread_create(&thread, NULL, wake_many, w), 0);
    int woken = 0;
    while (fibril_waker_wait(w, fibril_after(100000000)) == 0) {
        woken++;
    }
    pthread_join(thread, NULL);
    ASSERT_GT(woken, 0);
    ASSERT_LE(woken, 10000);
    fibril_waker_free(w);
    return 0;
}

TEST(foreign_thread_wakes_a_fibril)
{
    ASSERT_OK(fibril_run(NULL, foreign_main, NULL));
}
