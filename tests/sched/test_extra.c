/* SPDX-License-Identifier: MIT */
/*
 * Names, numbers, local values and exit handlers.
 */
#include <fibril/fibril.h>

#include "test.h"

#include <errno.h>
#include <string.h>

static int names(void *arg)
{
    (void)arg;
    struct fibril *self = fibril_current();
    ASSERT_STR(fibril_name(self), "");
    ASSERT_OK(fibril_set_name(self, "first"));
    ASSERT_OK(fibril_set_name(self, "second"));
    ASSERT_STR(fibril_name(self), "second");
    return 0;
}

TEST(name_is_copied_and_can_be_changed)
{
    ASSERT_OK(fibril_run(NULL, names, NULL));
}

static int check_name(void *arg)
{
    ASSERT_STR(fibril_name(fibril_current()), arg);
    return 0;
}

static int spawn_named(void *arg)
{
    (void)arg;
    char name[] = "worker 1";
    struct fibril_spawn_opts opts = {.name = name};
    ASSERT_OK(fibril_spawn(check_name, "worker 1", &opts, NULL));
    memset(name, 'x', sizeof name - 1);
    return 0;
}

TEST(name_given_at_spawn_is_copied)
{
    ASSERT_OK(fibril_run(NULL, spawn_named, NULL));
}

static int nop(void *arg)
{
    (void)arg;
    return 0;
}

static int numbers(void *arg)
{
    (void)arg;
    uint64_t last = fibril_id(fibril_current());
    for (int i = 0; i < 3000; i++) {
        struct fibril *f;
        ASSERT_OK(fibril_spawn(nop, NULL, NULL, &f));
        ASSERT_GT(fibril_id(f), last);
        last = fibril_id(f);
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    }
    return 0;
}

TEST(numbers_are_never_used_twice)
{
    ASSERT_OK(fibril_run(NULL, numbers, NULL));
}

static int destroyed;
static unsigned key;

static void destroy(void *value)
{
    destroyed += *(int *)value;
}

static int use_local(void *arg)
{
    ASSERT_EQ(fibril_local_get(key), NULL);
    ASSERT_OK(fibril_local_set(key, arg));
    fibril_yield();
    ASSERT_EQ(fibril_local_get(key), arg);
    return 0;
}

static int locals(void *arg)
{
    static int values[] = {1, 10, 100};
    ASSERT_OK(fibril_key_new(destroy, &key));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(fibril_spawn(use_local, &values[i], arg, NULL));
    }
    return 0;
}

TEST(local_values_are_each_fibrils_own_and_destroyed_at_its_end)
{
    ASSERT_OK(fibril_run(NULL, locals, NULL));
    ASSERT_EQ(destroyed, 111);
}

static int bad_keys(void *arg)
{
    (void)arg;
    unsigned k;
    ASSERT_ERR(fibril_local_set(63, &k), -EINVAL);
    ASSERT_EQ(fibril_local_get(63), NULL);
    for (int i = 0; i < 64; i++) {
        ASSERT_OK(fibril_key_new(NULL, &k));
    }
    ASSERT_ERR(fibril_key_new(NULL, &k), -EAGAIN);
    return 0;
}

TEST(keys_are_limited_and_checked)
{
    ASSERT_OK(fibril_run(NULL, bad_keys, NULL));
}

static char order[8];
static size_t order_len;

static void add(void *arg)
{
    order[order_len++] = *(const char *)arg;
}

static int with_handlers(void *arg)
{
    (void)arg;
    ASSERT_OK(fibril_at_exit(add, "1"));
    ASSERT_OK(fibril_at_exit(add, "2"));
    ASSERT_OK(fibril_at_exit(add, "3"));
    return 0;
}

static int spawn_with_handlers(void *arg)
{
    return fibril_spawn(with_handlers, NULL, arg, NULL);
}

TEST(exit_handlers_run_last_in_first_out)
{
    ASSERT_OK(fibril_run(NULL, spawn_with_handlers, NULL));
    ASSERT_STR(order, "321");
}

TEST(exit_handlers_of_the_main_fibril_run)
{
    ASSERT_OK(fibril_run(NULL, with_handlers, NULL));
    ASSERT_STR(order, "321");
}
