/* SPDX-License-Identifier: MIT */
/* Channels of one loop: order, waiting on either side, closing. */
#include "both.h"

#include <string.h>

static struct fibril_chan *ch;

static void begin(size_t elem_bytes, size_t capacity)
{
    ASSERT_OK(fibril_chan_new(elem_bytes, capacity, 0, &ch));
}

static int send_int(void *arg)
{
    int n = as_int(arg);
    return fibril_chan_send(ch, &n, FIBRIL_FOREVER);
}

/* Receives into its own stack and returns what came. */
static int recv_int(void *arg)
{
    (void)arg;
    int n = -1;
    int rc = fibril_chan_recv(ch, &n, FIBRIL_FOREVER);
    return rc < 0 ? rc : n;
}

static int send_for_a_moment(void *arg)
{
    int n = as_int(arg);
    return fibril_chan_send(ch, &n, fibril_after(MS));
}

static int recv_for_a_moment(void *arg)
{
    (void)arg;
    int n = -1;
    int rc = fibril_chan_recv(ch, &n, fibril_after(MS));
    ASSERT_EQ(n, -1);
    return rc;
}

/* ---- order --------------------------------------------------------------- */

BOTH(chan_unbuffered_serves_senders_first_come_first_served)
{
    begin(sizeof(int), 0);
    struct fibril *f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = go_parked(send_int, as_arg(i));
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(recv_int(NULL), i);
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    fibril_chan_free(ch);
}

BOTH(chan_unbuffered_serves_receivers_first_come_first_served)
{
    begin(sizeof(int), 0);
    struct fibril *f[4];
    for (int i = 0; i < 4; i++) {
        f[i] = go_parked(recv_int, NULL);
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(send_int(as_arg(10 + i)));
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(end(f[i]), 10 + i);
    }
    fibril_chan_free(ch);
}

BOTH(chan_unbuffered_send_waits_for_its_receive)
{
    begin(sizeof(int), 0);
    struct fibril *f = go_parked(send_int, as_arg(1));
    ASSERT_EQ(fibril_chan_len(ch), 0);
    ASSERT_EQ(recv_int(NULL), 1);
    ASSERT_EQ(end(f), 0);
    fibril_chan_free(ch);
}

BOTH(chan_buffered_takes_up_to_its_capacity_without_waiting)
{
    begin(sizeof(int), 3);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(fibril_chan_len(ch), i);
        ASSERT_OK(fibril_chan_try_send(ch, &i));
    }
    ASSERT_ERR(fibril_chan_try_send(ch, &(int){9}), -EAGAIN);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(recv_int(NULL), i);
    }
    ASSERT_ERR(fibril_chan_try_recv(ch, &(int){0}), -EAGAIN);
    fibril_chan_free(ch);
}

BOTH(chan_buffered_keeps_order_across_waiting_senders)
{
    begin(sizeof(int), 2);
    struct fibril *f[6];
    for (int i = 0; i < 6; i++) {
        f[i] = i < 2 ? go(send_int, as_arg(i)) : go_parked(send_int, as_arg(i));
        if (i < 2) {
            ASSERT_EQ(end(f[i]), 0);
        }
    }
    for (int i = 0; i < 6; i++) {
        ASSERT_EQ(recv_int(NULL), i);
        ASSERT_EQ(fibril_chan_len(ch), i < 4 ? 2 : 5 - i);
    }
    for (int i = 2; i < 6; i++) {
        ASSERT_EQ(end(f[i]), 0);
    }
    fibril_chan_free(ch);
}

enum { MANY = 1000 };

static int send_many(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < MANY; i++) {
        ASSERT_OK(fibril_chan_send(ch, &i, FIBRIL_FOREVER));
    }
    return 0;
}

static void receive_many_in_order(size_t capacity)
{
    begin(sizeof(uint64_t), capacity);
    struct fibril *f = go(send_many, NULL);
    for (uint64_t i = 0; i < MANY; i++) {
        uint64_t n = UINT64_MAX;
        ASSERT_OK(fibril_chan_recv(ch, &n, FIBRIL_FOREVER));
        ASSERT_EQ(n, i);
    }
    ASSERT_EQ(end(f), 0);
    fibril_chan_free(ch);
}

BOTH(chan_unbuffered_keeps_the_order_of_a_stream)
{
    receive_many_in_order(0);
}

BOTH(chan_buffered_keeps_the_order_of_a_stream)
{
    receive_many_in_order(7);
}

/* ---- elements ------------------------------------------------------------ */

static int send_nothing(void *arg)
{
    (void)arg;
    return fibril_chan_send(ch, NULL, FIBRIL_FOREVER);
}

BOTH(chan_elements_of_no_bytes_are_signals)
{
    begin(0, 0);
    struct fibril *f = go_parked(send_nothing, NULL);
    ASSERT_OK(fibril_chan_recv(ch, NULL, FIBRIL_FOREVER));
    ASSERT_EQ(end(f), 0);
    fibril_chan_free(ch);
    begin(0, 5);
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_chan_try_send(ch, NULL));
    }
    ASSERT_ERR(fibril_chan_try_send(ch, NULL), -EAGAIN);
    ASSERT_EQ(fibril_chan_len(ch), 5);
    fibril_chan_free(ch);
}

enum { BIG = 100 * 1024 };

static void fill(char *big, int seed)
{
    for (int i = 0; i < BIG; i++) {
        big[i] = (char)(i * 31 + seed);
    }
}

static int send_big(void *arg)
{
    static char big[BIG];
    fill(big, as_int(arg));
    return fibril_chan_send(ch, big, FIBRIL_FOREVER);
}

static int recv_big(void *arg)
{
    static char got[BIG], expected[BIG];
    fill(expected, as_int(arg));
    ASSERT_OK(fibril_chan_recv(ch, got, FIBRIL_FOREVER));
    ASSERT_MEM(got, expected, BIG);
    return 0;
}

BOTH(chan_big_elements_arrive_whole)
{
    for (size_t capacity = 0; capacity < 2; capacity++) {
        begin(BIG, capacity);
        struct fibril *f = go(send_big, as_arg(3));
        ASSERT_EQ(recv_big(as_arg(3)), 0);
        ASSERT_EQ(end(f), 0);
        f = go_parked(recv_big, as_arg(4));
        ASSERT_EQ(send_big(as_arg(4)), 0);
        ASSERT_EQ(end(f), 0);
        fibril_chan_free(ch);
    }
}

static int recv_three_bytes(void *arg)
{
    (void)arg;
    char got[5] = "xxxx";
    ASSERT_OK(fibril_chan_recv(ch, got, FIBRIL_FOREVER));
    ASSERT_STR(got, "abcx"); /* and not a byte more */
    return 0;
}

BOTH(chan_copies_just_the_bytes_of_an_element)
{
    begin(3, 0);
    struct fibril *f = go_parked(recv_three_bytes, NULL);
    ASSERT_OK(fibril_chan_send(ch, "abcdef", FIBRIL_FOREVER));
    ASSERT_EQ(end(f), 0);
    fibril_chan_free(ch);
}

/* ---- trying, giving up --------------------------------------------------- */

BOTH(chan_try_meets_those_who_wait)
{
    begin(sizeof(int), 0);
    int n = 8;
    ASSERT_ERR(fibril_chan_try_send(ch, &n), -EAGAIN);
    ASSERT_ERR(fibril_chan_try_recv(ch, &n), -EAGAIN);
    struct fibril *receiver = go_parked(recv_int, NULL);
    ASSERT_OK(fibril_chan_try_send(ch, &n));
    ASSERT_EQ(end(receiver), 8);
    struct fibril *sender = go_parked(send_int, as_arg(9));
    ASSERT_OK(fibril_chan_try_recv(ch, &n));
    ASSERT_EQ(n, 9);
    ASSERT_EQ(end(sender), 0);
    fibril_chan_free(ch);
}

BOTH(chan_send_that_times_out_has_sent_nothing)
{
    begin(sizeof(int), 0);
    ASSERT_ERR(end(go(send_for_a_moment, as_arg(1))), -ETIMEDOUT);
    ASSERT_ERR(fibril_chan_try_recv(ch, &(int){0}), -EAGAIN);
    fibril_chan_free(ch);
}

BOTH(chan_recv_that_times_out_takes_nothing)
{
    begin(sizeof(int), 0);
    ASSERT_ERR(end(go(recv_for_a_moment, NULL)), -ETIMEDOUT);
    ASSERT_ERR(fibril_chan_try_send(ch, &(int){0}), -EAGAIN);
    fibril_chan_free(ch);
}

BOTH(chan_send_is_cancelled)
{
    begin(sizeof(int), 0);
    struct fibril *f = go_parked(send_int, as_arg(1));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(fibril_chan_try_recv(ch, &(int){0}), -EAGAIN);
    ASSERT_ERR(end(f), -ECANCELED);
    fibril_chan_free(ch);
}

BOTH(chan_recv_is_cancelled)
{
    begin(sizeof(int), 0);
    struct fibril *f = go_parked(recv_int, NULL);
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(fibril_chan_try_send(ch, &(int){0}), -EAGAIN);
    ASSERT_ERR(end(f), -ECANCELED);
    fibril_chan_free(ch);
}

BOTH(chan_cancel_after_the_element_was_handed_over_does_not_lose_it)
{
    begin(sizeof(int), 0);
    struct fibril *f = go_parked(recv_int, NULL);
    int n = 6;
    ASSERT_OK(fibril_chan_try_send(ch, &n));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 6);
    fibril_chan_free(ch);
}

BOTH(chan_cancel_after_the_element_was_taken_reports_it_sent)
{
    begin(sizeof(int), 0);
    struct fibril *f = go_parked(send_int, as_arg(6));
    int n;
    ASSERT_OK(fibril_chan_try_recv(ch, &n));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 0);
    fibril_chan_free(ch);
}

/* ---- closing ------------------------------------------------------------- */

BOTH(chan_close_wakes_waiting_receivers)
{
    begin(sizeof(int), 0);
    struct fibril *first = go_parked(recv_int, NULL), *second = go_parked(recv_int, NULL);
    ASSERT_OK(fibril_chan_close(ch));
    ASSERT_ERR(end(first), -EPIPE);
    ASSERT_ERR(end(second), -EPIPE);
    fibril_chan_free(ch);
}

BOTH(chan_close_wakes_waiting_senders_who_have_sent_nothing)
{
    begin(sizeof(int), 1);
    ASSERT_OK(send_int(as_arg(1)));
    struct fibril *first = go_parked(send_int, as_arg(2)), *second = go_parked(send_int, as_arg(3));
    ASSERT_OK(fibril_chan_close(ch));
    ASSERT_ERR(end(first), -EPIPE);
    ASSERT_ERR(end(second), -EPIPE);
    ASSERT_EQ(recv_int(NULL), 1);
    ASSERT_ERR(recv_int(NULL), -EPIPE);
    fibril_chan_free(ch);
}

BOTH(chan_closed_gives_what_is_buffered_and_takes_no_more)
{
    begin(sizeof(int), 4);
    ASSERT_OK(send_int(as_arg(1)));
    ASSERT_OK(send_int(as_arg(2)));
    ASSERT_OK(fibril_chan_close(ch));
    ASSERT_ERR(send_int(as_arg(3)), -EPIPE);
    ASSERT_ERR(fibril_chan_try_send(ch, &(int){3}), -EPIPE);
    ASSERT_EQ(recv_int(NULL), 1);
    ASSERT_EQ(recv_int(NULL), 2);
    ASSERT_ERR(recv_int(NULL), -EPIPE);
    ASSERT_ERR(fibril_chan_try_recv(ch, &(int){0}), -EPIPE);
    fibril_chan_free(ch);
}

BOTH(chan_is_closed_once)
{
    begin(sizeof(int), 0);
    ASSERT_OK(fibril_chan_close(ch));
    ASSERT_ERR(fibril_chan_close(ch), -EPIPE);
    fibril_chan_free(ch);
}

/* ---- making -------------------------------------------------------------- */

TEST(chan_calls_outside_loops_fail)
{
    int n = 0;
    begin(sizeof(int), 1);
    ASSERT_ERR(fibril_chan_send(ch, &n, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_chan_recv(ch, &n, FIBRIL_FOREVER), -EPERM);
    ASSERT_ERR(fibril_chan_try_send(ch, &n), -EPERM);
    ASSERT_ERR(fibril_chan_try_recv(ch, &n), -EPERM);
    ASSERT_ERR(fibril_chan_close(ch), -EPERM);
    fibril_chan_free(ch);
    fibril_chan_free(NULL);
}

TEST(chan_new_refuses_more_than_a_gibibyte)
{
    ASSERT_ERR(fibril_chan_new(((size_t)1 << 30) + 1, 0, 0, &ch), -EINVAL);
    ASSERT_ERR(fibril_chan_new(1024, ((size_t)1 << 20) + 1, 0, &ch), -EINVAL);
    ASSERT_ERR(fibril_chan_new(SIZE_MAX / 2, 3, 0, &ch), -EINVAL);
    ASSERT_ERR(fibril_chan_new(8, 1, FIBRIL_RECURSIVE, &ch), -EINVAL);
}

TEST(chan_new_reports_missing_memory)
{
    for (int n = 0; n < 2; n++) {
        fibril__alloc_fail_after(n);
        ASSERT_ERR(fibril_chan_new(8, 8, 0, &ch), -ENOMEM);
        fibril__alloc_fail_after(-1);
        ASSERT_EQ(fibril__alloc_live(), 0);
    }
}
