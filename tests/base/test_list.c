/* SPDX-License-Identifier: MIT */
/*
 * The intrusive list: first in, first out, and removal from anywhere that may be repeated.
 */
#include "test.h"

#include "base/list.h"

static struct fibril__list list;
static struct fibril__link links[4];

static void fill(void)
{
    fibril__list_init(&list);
    for (int i = 0; i < 4; i++) {
        fibril__list_push(&list, &links[i]);
    }
}

TEST(a_new_list_is_empty)
{
    fibril__list_init(&list);
    ASSERT(fibril__list_empty(&list));
    ASSERT_EQ(fibril__list_first(&list), NULL);
    ASSERT_EQ(fibril__list_pop(&list), NULL);
}

TEST(first_in_is_first_out)
{
    fill();
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(fibril__list_pop(&list), &links[i]);
    }
    ASSERT(fibril__list_empty(&list));
}

TEST(removal_works_anywhere_and_twice)
{
    fill();
    fibril__link_remove(&links[2]);
    fibril__link_remove(&links[2]);
    fibril__link_remove(&links[0]);
    ASSERT(!fibril__link_in_list(&links[2]));
    ASSERT(fibril__link_in_list(&links[1]));
    ASSERT_EQ(fibril__list_pop(&list), &links[1]);
    ASSERT_EQ(fibril__list_pop(&list), &links[3]);
    ASSERT(fibril__list_empty(&list));
}

TEST(what_was_popped_may_be_pushed_again)
{
    fill();
    fibril__list_push(&list, fibril__list_pop(&list));
    ASSERT_EQ(fibril__list_first(&list), &links[1]);
    fibril__link_remove(&links[1]);
    fibril__link_remove(&links[2]);
    fibril__link_remove(&links[3]);
    ASSERT_EQ(fibril__list_pop(&list), &links[0]);
}
