/* SPDX-License-Identifier: MIT */
/* pthread keys: each fibril has values of its own, and their destructors run when it ends. */
#include "thread_rig.h"

#include "base/alloc.h"

#include <errno.h>
#include <limits.h>

static pthread_key_t key;
static int destroyed, again;

static void count(void *value)
{
    destroyed += *(int *)value;
}

/* Sets the value anew as often as `again` says. */
static void come_back(void *value)
{
    destroyed++;
    if (again-- > 0) {
        fibril_yield(); /* destructors may park */
        ASSERT_EQ(fibril_posix_pthread_setspecific(key, value), 0);
    }
}

static void *set_and_look(void *arg)
{
    ASSERT(fibril_posix_pthread_getspecific(key) == NULL);
    ASSERT_EQ(fibril_posix_pthread_setspecific(key, arg), 0);
    for (int i = 0; i < 10; i++) {
        fibril_yield();
        ASSERT(fibril_posix_pthread_getspecific(key) == arg);
    }
    return NULL;
}

ON_LOOP(each_fibril_has_its_own_value_and_its_destructor_runs)
{
    static int values[8] = {1, 2, 3, 4, 5, 6, 7, 8}, own;
    pthread_t threads[8];
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, count), 0);
    ASSERT_EQ(fibril_posix_pthread_setspecific(key, &own), 0);
    for (int i = 0; i < 8; i++) {
        threads[i] = rig_go(set_and_look, &values[i]);
    }
    for (int i = 0; i < 8; i++) {
        rig_end(threads[i]);
    }
    ASSERT_EQ(destroyed, 36);
    ASSERT(fibril_posix_pthread_getspecific(key) == &own);
    ASSERT(pthread_getspecific(key) == &own); /* the main fibril's are the OS thread's */
    ASSERT_EQ(fibril_posix_pthread_key_delete(key), 0);
}

ON_LOOP(destructors_that_set_values_have_four_rounds)
{
    static int value = 1;
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, come_back), 0);
    again = 2;
    rig_end(rig_go(set_and_look, &value));
    ASSERT_EQ(destroyed, 3);
    destroyed = 0;
    again = 1000;
    rig_end(rig_go(set_and_look, &value));
    ASSERT_EQ(destroyed, PTHREAD_DESTRUCTOR_ITERATIONS);
}

static void *exit_with_value(void *arg)
{
    ASSERT_EQ(fibril_posix_pthread_setspecific(key, arg), 0);
    fibril_posix_pthread_exit(NULL);
}

ON_LOOP(pthread_exit_runs_destructors_too)
{
    static int value = 5;
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, count), 0);
    rig_end(rig_go(exit_with_value, &value));
    ASSERT_EQ(destroyed, 5);
}

static int with_old_key(void *arg)
{
    static int value = 9;
    (void)arg;
    ASSERT_OK(fibril_posix_install(NULL));
    rig_end(rig_go(set_and_look, &value));
    ASSERT_EQ(destroyed, 9);
    ASSERT_OK(fibril_posix_uninstall());
    return 0;
}

TEST(a_key_made_before_the_layer_came_has_its_destructor)
{
    ASSERT_EQ(pthread_key_create(&key, count), 0); /* libc's own: nobody else has seen it */
    ASSERT_EQ(fibril_run(NULL, with_old_key, NULL), 0);
}

static void *keep_over_delete(void *arg)
{
    static int value;
    pthread_key_t old = key;
    ASSERT_EQ(fibril_posix_pthread_setspecific(key, &value), 0);
    fibril_yield();
    ASSERT_EQ(key, old); /* made again, with the same number */
    ASSERT(fibril_posix_pthread_getspecific(key) == NULL);
    return arg;
}

ON_LOOP(a_key_that_is_made_again_starts_with_NULL)
{
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, count), 0);
    pthread_t thread = rig_go(keep_over_delete, NULL);
    fibril_yield();
    ASSERT_EQ(fibril_posix_pthread_key_delete(key), 0);
    ASSERT_EQ(fibril_posix_pthread_key_create(&key, count), 0);
    rig_end(thread);
    ASSERT_EQ(destroyed, 0);
}

static void *set_wrong(void *arg)
{
    pthread_key_t gone;
    ASSERT_EQ(fibril_posix_pthread_key_create(&gone, NULL), 0);
    ASSERT_EQ(fibril_posix_pthread_key_delete(gone), 0);
    ASSERT_EQ(fibril_posix_pthread_setspecific(gone, arg), EINVAL);
    ASSERT_EQ(fibril_posix_pthread_setspecific(PTHREAD_KEYS_MAX, arg), EINVAL);
    ASSERT(fibril_posix_pthread_getspecific(PTHREAD_KEYS_MAX) == NULL);
    return NULL;
}

ON_LOOP(keys_that_do_not_exist_are_refused)
{
    rig_end(rig_go(set_wrong, &key));
}

enum { MANY = 200 };
static pthread_key_t many[MANY];

static void *set_many(void *arg)
{
    for (int i = 0; i < MANY; i++) {
        ASSERT_EQ(fibril_posix_pthread_setspecific(many[i], &many[i]), 0);
    }
    fibril_yield();
    for (int i = 0; i < MANY; i++) {
        ASSERT(fibril_posix_pthread_getspecific(many[i]) == &many[i]);
    }
    return arg;
}

ON_LOOP(a_fibril_may_have_values_under_many_keys)
{
    for (int i = 0; i < MANY; i++) {
        ASSERT_EQ(fibril_posix_pthread_key_create(&many[i], NULL), 0);
    }
    pthread_t a = rig_go(set_many, NULL), b = rig_go(set_many, NULL);
    rig_end(a);
    rig_end(b);
}

/* ---- without memory ---- */

static int refused;

static int set_as_fibril(void *arg)
{
    for (int i = 0; i < FIBRIL__VALUES_INLINE + 1; i++) {
        if (fibril_posix_pthread_setspecific(many[i], arg) != 0) {
            refused++;
            fibril__alloc_fail_after(-1);
            return 0;
        }
    }
    fibril__alloc_fail_after(-1);
    return 1;
}

ON_LOOP(without_memory_setspecific_says_so_and_leaves_nothing)
{
    for (int i = 0; i < FIBRIL__VALUES_INLINE + 1; i++) {
        ASSERT_EQ(fibril_posix_pthread_key_create(&many[i], NULL), 0);
    }
    int done = 0;
    struct fibril *first;
    ASSERT_OK(fibril_spawn(set_as_fibril, &key, NULL, &first));
    ASSERT_OK(fibril_join(first, FIBRIL_FOREVER, &done)); /* what is kept for later is there now */
    ASSERT_EQ(done, 1);
    done = 0;
    for (int n = 0; !done; n++) {
        struct fibril *f;
        fibril__thread_forget_kept();
        int64_t before = fibril__alloc_live();
        ASSERT_OK(fibril_spawn(set_as_fibril, &key, NULL, &f)); /* no record until it needs one */
        fibril__alloc_fail_after(n);
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &done));
        fibril__alloc_fail_after(-1);
        fibril__thread_forget_kept();
        ASSERT_EQ(fibril__alloc_live(), before);
    }
    ASSERT_EQ(refused, 2); /* the record, more room */
}
