/* SPDX-License-Identifier: MIT */
/* Select on one loop: one case of several, fairly, and nothing left behind. */
#include "both.h"

#include "sched/current.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { N = 5 };

static struct fibril_chan *ch[N];
static int got[N]; /* where the cases receive: all fibrils may look */

static void begin(size_t capacity)
{
    for (int i = 0; i < N; i++) {
        ASSERT_OK(fibril_chan_new(sizeof(int), capacity, 0, &ch[i]));
        got[i] = -1;
    }
}

static void finish(void)
{
    for (int i = 0; i < N; i++) {
        fibril_chan_free(ch[i]);
    }
}

static struct fibril_case recv_case(int i)
{
    return (struct fibril_case){.op = FIBRIL_CASE_RECV, .chan = ch[i], .elem = &got[i]};
}

static struct fibril_case send_case(int i, int *elem)
{
    return (struct fibril_case){.op = FIBRIL_CASE_SEND, .chan = ch[i], .elem = elem};
}

/* Selects to receive from all channels; returns the index. */
static int select_all_until(int64_t deadline_ns)
{
    struct fibril_case cases[N];
    for (int i = 0; i < N; i++) {
        cases[i] = recv_case(i);
    }
    int index = fibril_select(cases, N, deadline_ns);
    ASSERT(index < 0 || cases[index].result == 0);
    return index;
}

static int select_all(void *arg)
{
    (void)arg;
    return select_all_until(FIBRIL_FOREVER);
}

static int select_all_for_a_moment(void *arg)
{
    (void)arg;
    return select_all_until(fibril_after(MS));
}

/* Nobody waits on any channel: none takes an element or gives one. */
static void assert_nobody_waits(void)
{
    for (int i = 0; i < N; i++) {
        ASSERT_ERR(fibril_chan_try_send(ch[i], &i), -EAGAIN);
        ASSERT_ERR(fibril_chan_try_recv(ch[i], &(int){0}), -EAGAIN);
    }
}

static int send_on(void *arg)
{
    int n = as_int(arg);
    return fibril_chan_send(ch[n], &n, FIBRIL_FOREVER);
}

/* ---- one case ------------------------------------------------------------ */

BOTH(select_takes_what_is_ready)
{
    begin(0);
    struct fibril *f = go_parked(send_on, as_arg(3));
    ASSERT_EQ(select_all(NULL), 3);
    ASSERT_EQ(got[3], 3);
    ASSERT_EQ(end(f), 0);
    assert_nobody_waits();
    finish();
}

BOTH(select_waits_for_the_first_to_be_ready)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    int n = 42;
    ASSERT_OK(fibril_chan_try_send(ch[2], &n));
    ASSERT_EQ(end(f), 2);
    ASSERT_EQ(got[2], 42);
    assert_nobody_waits();
    finish();
}

BOTH(select_that_was_won_takes_nothing_else)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    ASSERT_OK(fibril_chan_try_send(ch[1], &(int){1}));
    ASSERT_ERR(fibril_chan_try_send(ch[2], &(int){2}), -EAGAIN); /* f has not run yet */
    ASSERT_EQ(end(f), 1);
    ASSERT_EQ(got[2], -1);
    finish();
}

static int select_send_both(void *arg)
{
    static int first = 10, second = 11;
    (void)arg;
    struct fibril_case cases[] = {send_case(0, &first), send_case(1, &second)};
    return fibril_select(cases, 2, FIBRIL_FOREVER);
}

BOTH(select_sends_one_of_its_elements)
{
    begin(0);
    struct fibril *f = go_parked(select_send_both, NULL);
    ASSERT_OK(fibril_chan_try_recv(ch[1], &got[1]));
    ASSERT_EQ(got[1], 11);
    ASSERT_ERR(fibril_chan_try_recv(ch[0], &got[0]), -EAGAIN);
    ASSERT_EQ(end(f), 1);
    finish();
}

BOTH(select_meets_select)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    int index = select_send_both(NULL);
    ASSERT(index == 0 || index == 1);
    ASSERT_EQ(end(f), index);
    ASSERT_EQ(got[index], 10 + index);
    assert_nobody_waits();
    finish();
}

static int select_same_channel_twice(void *arg)
{
    (void)arg;
    int n = 5;
    struct fibril_case cases[] = {send_case(0, &n), recv_case(0), send_case(0, &n)};
    return fibril_select(cases, 3, FIBRIL_FOREVER);
}

BOTH(select_does_not_meet_itself)
{
    begin(0);
    struct fibril *f = go_parked(select_same_channel_twice, NULL);
    ASSERT_OK(fibril_chan_try_send(ch[0], &(int){6}));
    ASSERT_EQ(end(f), 1);
    ASSERT_EQ(got[0], 6);
    assert_nobody_waits();
    finish();
}

static int recv_plain(void *arg)
{
    (void)arg;
    return fibril_chan_recv(ch[0], &got[1], FIBRIL_FOREVER);
}

BOTH(select_waits_its_turn_among_plain_receivers)
{
    begin(0);
    struct fibril *plain = go_parked(recv_plain, NULL);
    struct fibril *f = go_parked(select_all, NULL);
    ASSERT_OK(fibril_chan_try_send(ch[0], &(int){1}));
    ASSERT_OK(fibril_chan_try_send(ch[0], &(int){2}));
    ASSERT_EQ(end(plain), 0);
    ASSERT_EQ(end(f), 0);
    ASSERT_EQ(got[1], 1);
    ASSERT_EQ(got[0], 2);
    finish();
}

BOTH(select_that_is_over_is_passed_over_by_the_next_sender)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    struct fibril *plain = go_parked(recv_plain, NULL); /* behind f on channel 0 */
    ASSERT_OK(fibril_chan_try_send(ch[4], &(int){4}));
    ASSERT_OK(fibril_chan_try_send(ch[0], &(int){9}));
    ASSERT_EQ(end(plain), 0);
    ASSERT_EQ(got[1], 9);
    ASSERT_EQ(end(f), 4);
    finish();
}

BOTH(select_skips_cases_without_a_channel)
{
    begin(1);
    ASSERT_OK(fibril_chan_try_send(ch[1], &(int){1}));
    struct fibril_case cases[] = {{.op = FIBRIL_CASE_RECV}, recv_case(1), {.op = FIBRIL_CASE_SEND}};
    ASSERT_EQ(fibril_select(cases, 3, FIBRIL_FOREVER), 1);
    ASSERT_ERR(fibril_select(cases, 3, fibril_after(MS)), -ETIMEDOUT);
    finish();
}

/* ---- giving up ----------------------------------------------------------- */

BOTH(select_times_out)
{
    begin(0);
    ASSERT_ERR(end(go(select_all_for_a_moment, NULL)), -ETIMEDOUT);
    assert_nobody_waits();
    finish();
}

BOTH(select_of_nothing_waits_for_the_deadline)
{
    ASSERT_ERR(fibril_select(NULL, 0, fibril_after(MS)), -ETIMEDOUT);
    ASSERT_ERR(fibril_select(NULL, 0, 0), -ETIMEDOUT);
}

BOTH(select_with_a_deadline_in_the_past_is_a_try)
{
    begin(1);
    ASSERT_ERR(select_all_until(0), -ETIMEDOUT);
    ASSERT_OK(fibril_chan_try_send(ch[1], &(int){1}));
    ASSERT_EQ(select_all_until(0), 1);
    finish();
}

BOTH(select_is_cancelled)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    ASSERT_OK(fibril_cancel(f));
    assert_nobody_waits();
    ASSERT_ERR(end(f), -ECANCELED);
    finish();
}

BOTH(select_cancel_after_it_was_won_does_not_lose_the_element)
{
    begin(0);
    struct fibril *f = go_parked(select_all, NULL);
    ASSERT_OK(fibril_chan_try_send(ch[2], &(int){7}));
    ASSERT_OK(fibril_cancel(f));
    ASSERT_EQ(end(f), 2);
    ASSERT_EQ(got[2], 7);
    finish();
}

BOTH(select_refuses_what_makes_no_sense)
{
    static struct fibril_case cases[1025];
    ASSERT_ERR(fibril_select(cases, 1025, 0), -EINVAL);
    ASSERT_ERR(fibril_select(cases, 1024, 0), -ETIMEDOUT);
    cases[0].op = (enum fibril_case_op)7;
    ASSERT_ERR(fibril_select(cases, 1, 0), -EINVAL);
}

TEST(select_outside_loops_fails)
{
    ASSERT_ERR(fibril_select(NULL, 0, FIBRIL_FOREVER), -EPERM);
}

static int select_without_memory(void *arg)
{
    (void)arg;
    fibril__alloc_fail_after(0);
    int rc = select_all_for_a_moment(NULL);
    fibril__alloc_fail_after(-1);
    return rc;
}

BOTH(select_reports_missing_memory_or_needs_none)
{
    begin(0);
    ASSERT_ERR(end(go(select_all_for_a_moment, NULL)), -ETIMEDOUT); /* the heap of deadlines has
                                                                       room */
    bool stays = fibril__stack_stays();
    ASSERT_ERR(end(go(select_without_memory, NULL)), stays ? -ETIMEDOUT : -ENOMEM);
    assert_nobody_waits();
    finish();
}

/* ---- closed channels ----------------------------------------------------- */

static int select_expecting_closed(void *arg)
{
    int n = 1;
    struct fibril_case cases[] = {recv_case(0), send_case(1, &n), recv_case(2)};
    int index = fibril_select(cases, 3, FIBRIL_FOREVER);
    ASSERT_EQ(index, as_int(arg));
    ASSERT_ERR(cases[index].result, -EPIPE);
    return 0;
}

BOTH(select_on_a_closed_channel_fires_with_epipe)
{
    begin(0);
    ASSERT_OK(fibril_chan_close(ch[0]));
    ASSERT_EQ(select_expecting_closed(as_arg(0)), 0);
    finish();
    begin(0);
    ASSERT_OK(fibril_chan_close(ch[1]));
    ASSERT_EQ(select_expecting_closed(as_arg(1)), 0);
    finish();
}

BOTH(select_is_woken_by_a_close)
{
    begin(0);
    for (int i = 0; i < 3; i++) {
        struct fibril *f = go_parked(select_expecting_closed, as_arg(i));
        ASSERT_OK(fibril_chan_close(ch[i]));
        ASSERT_EQ(end(f), 0);
        fibril_chan_free(ch[i]);
        ASSERT_OK(fibril_chan_new(sizeof(int), 0, 0, &ch[i]));
    }
    finish();
}

/* ---- fairness ------------------------------------------------------------ */

enum { ROUNDS = 200 };

/* With all channels always ready, selects `times` times and counts who was chosen, and the longest
 * anybody waited. */
static void choose(int chosen[N], int times, int *ret_longest)
{
    int last[N] = {0};
    *ret_longest = 0;
    for (int i = 0; i < times; i++) {
        int index = select_all_until(0);
        ASSERT_GE(index, 0);
        ASSERT_OK(fibril_chan_try_send(ch[index], &index));
        chosen[index]++;
        *ret_longest = i - last[index] > *ret_longest ? i - last[index] : *ret_longest;
        last[index] = i;
    }
}

static void fill_all(void)
{
    begin(1);
    for (int i = 0; i < N; i++) {
        ASSERT_OK(fibril_chan_try_send(ch[i], &i));
    }
}

BOTH(select_chooses_equally_among_those_always_ready)
{
    fill_all();
    int chosen[N] = {0}, longest;
    choose(chosen, N * ROUNDS, &longest);
    for (int i = 0; i < N; i++) {
        ASSERT_GE(chosen[i], ROUNDS - 2);
        ASSERT_LE(chosen[i], ROUNDS + 2);
    }
    ASSERT_LE(longest, 2 * N);
    finish();
}

static int choose_in_turn(void *arg)
{
    int *chosen = arg, longest;
    for (int i = 0; i < N * ROUNDS; i++) {
        choose(chosen, 1, &longest);
        ASSERT_OK(fibril_yield());
    }
    return 0;
}

BOTH(select_is_fair_to_each_of_two_who_select_by_turns)
{
    static int chosen[2][N];
    fill_all();
    struct fibril *first = go(choose_in_turn, chosen[0]), *second = go(choose_in_turn, chosen[1]);
    ASSERT_EQ(end(first), 0);
    ASSERT_EQ(end(second), 0);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 2; k++) {
            ASSERT_GE(chosen[k][i], ROUNDS * 3 / 4);
            ASSERT_LE(chosen[k][i], ROUNDS * 5 / 4);
        }
    }
    finish();
}

BOTH(select_does_not_starve_a_descriptor_beside_a_ready_channel)
{
    fill_all();
    int ends[2], fired = 0;
    ASSERT_EQ(pipe(ends), 0);
    ASSERT_EQ(write(ends[1], "x", 1), 1);
    for (int i = 0; i < 100; i++) {
        struct fibril_case cases[] = {recv_case(0),
                                      {.op = FIBRIL_CASE_FD, .fd = ends[0], .events = POLLIN}};
        int index = fibril_select(cases, 2, FIBRIL_FOREVER);
        if (index == 0) {
            ASSERT_OK(fibril_chan_try_send(ch[0], &index));
        } else {
            ASSERT_EQ(cases[1].ret_events, POLLIN);
            fired++;
        }
    }
    ASSERT_GE(fired, 48);
    ASSERT_LE(fired, 52);
    close(ends[0]);
    close(ends[1]);
    finish();
}

/* ---- descriptors --------------------------------------------------------- */

static int ends[2];

static int select_fd_and_channel(void *arg)
{
    struct fibril_case cases[] = {recv_case(0),
                                  {.op = FIBRIL_CASE_FD, .fd = ends[0], .events = POLLIN}};
    int64_t deadline_ns = arg ? fibril_after(as_int(arg)) : FIBRIL_FOREVER;
    int index = fibril_select(cases, 2, deadline_ns);
    if (index == 1) {
        ASSERT_EQ(cases[1].result, 0);
        ASSERT_EQ(cases[1].ret_events & POLLIN, POLLIN);
    }
    return index;
}

static void begin_fd(void)
{
    begin(0);
    ASSERT_EQ(pipe(ends), 0);
}

static void finish_fd(void)
{
    close(ends[0]);
    close(ends[1]);
    finish();
}

BOTH(select_waits_for_a_descriptor)
{
    begin_fd();
    struct fibril *f = go_parked(select_fd_and_channel, NULL);
    ASSERT_EQ(write(ends[1], "x", 1), 1);
    ASSERT_EQ(end(f), 1);
    assert_nobody_waits();
    finish_fd();
}

BOTH(select_of_a_descriptor_is_won_by_a_channel)
{
    begin_fd();
    for (int i = 0; i < 4; i++) { /* the operation was cancelled each time */
        struct fibril *f = go_parked(select_fd_and_channel, NULL);
        ASSERT_OK(fibril_chan_try_send(ch[0], &(int){3}));
        ASSERT_EQ(end(f), 0);
        ASSERT_EQ(got[0], 3);
    }
    finish_fd();
}

BOTH(select_of_a_descriptor_times_out)
{
    begin_fd();
    for (int i = 0; i < 4; i++) {
        ASSERT_ERR(end(go(select_fd_and_channel, as_arg(MS))), -ETIMEDOUT);
    }
    assert_nobody_waits();
    finish_fd();
}

BOTH(select_of_a_descriptor_is_cancelled)
{
    begin_fd();
    for (int i = 0; i < 4; i++) {
        struct fibril *f = go_parked(select_fd_and_channel, NULL);
        ASSERT_OK(fibril_cancel(f));
        ASSERT_ERR(end(f), -ECANCELED);
    }
    assert_nobody_waits();
    finish_fd();
}

/* The channel is first, because the kernel is asked later: at times before the select runs again,
 * which makes no difference. The loop looks at its poller every few hundred switches, so 600 rounds
 * meet that. */
BOTH(select_of_a_descriptor_and_a_channel_at_once_takes_one)
{
    begin_fd();
    for (int i = 0; i < 600; i++) {
        struct fibril *f = go_parked(select_fd_and_channel, NULL);
        ASSERT_EQ(write(ends[1], "x", 1), 1);
        ASSERT_OK(fibril_chan_try_send(ch[0], &(int){3}));
        ASSERT_EQ(end(f), 0);
        ASSERT_EQ(read(ends[0], &(char){0}, 1), 1);
        for (int k = 0; k < i % 3; k++) {
            ASSERT_OK(fibril_yield());
        }
    }
    finish_fd();
}

BOTH(select_reports_a_descriptor_that_is_not_open)
{
    for (int fd = -1; fd < 1001; fd += 1001) { /* -1 and 1000 */
        struct fibril_case c = {.op = FIBRIL_CASE_FD, .fd = fd, .events = POLLIN};
        ASSERT_EQ(fibril_select(&c, 1, FIBRIL_FOREVER), 0);
        ASSERT_ERR(c.result, -EBADF);
        ASSERT_EQ(c.ret_events, 0);
    }
}

BOTH(select_waits_for_many_descriptors)
{
    enum { PIPES = 40 };
    int fds[PIPES][2];
    struct fibril_case cases[PIPES];
    for (int i = 0; i < PIPES; i++) {
        ASSERT_EQ(pipe(fds[i]), 0);
        cases[i] = (struct fibril_case){.op = FIBRIL_CASE_FD, .fd = fds[i][0], .events = POLLIN};
    }
    ASSERT_ERR(fibril_select(cases, PIPES, fibril_after(MS)), -ETIMEDOUT);
    ASSERT_EQ(write(fds[17][1], "x", 1), 1);
    ASSERT_EQ(fibril_select(cases, PIPES, FIBRIL_FOREVER), 17);
    for (int i = 0; i < PIPES; i++) {
        close(fds[i][0]);
        close(fds[i][1]);
    }
}
